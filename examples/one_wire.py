"""The DS18B20 thermometers on the 1-Wire bus, each found by itself.

    twistd -n rpiserve --port 8080 --module one_wire

On a Raspberry Pi, `dtoverlay=w1-gpio` in config.txt switches the bus on. Where there is no thermometer this makes one
up and says so: in the log, and at /data/one_wire/simulated. Restart it after you have attached a thermometer.
"""

import random
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rpiserve import App
from rpiserve.sensors import one_wire

DEVICES = Path("/sys/bus/w1/devices")

app = App("one-wire")
thermometers = one_wire.find_sensors(DEVICES)


class SimulatedThermometer:
    """Writes a file like the kernel's, its temperature wandering slowly, and reads it as a real one is read."""

    def __init__(self) -> None:
        self._sixteenths = 20 * 16  # a DS18B20 measures in steps of 1/16 °C

    def __call__(self) -> float:
        self._sixteenths = min(max(self._sixteenths + random.randint(-3, 3), 15 * 16), 25 * 16)
        low, high = self._sixteenths % 256, self._sixteenths // 256
        memory = f"{low:02x} {high:02x} 4b 46 7f ff 0c 10 00"  # the last byte, the checksum, is the kernel's to check
        with TemporaryDirectory() as folder:
            path = Path(folder, "w1_slave")
            path.write_text(f"{memory} : crc=00 YES\n{memory} t={self._sixteenths * 1000 // 16}\n")
            return one_wire.read(path)


@app.sensor("one_wire/simulated", every=60)
def simulated() -> bool:
    return not thermometers


for thermometer in thermometers:  # one sensor each: if one fails, the others go on
    read = partial(one_wire.read, DEVICES / thermometer / "w1_slave")
    app.sensor(f"one_wire/{thermometer}", every=10, unit=one_wire.UNIT, bus="w1")(read)

if not thermometers:
    app.sensor("one_wire/28-000000000000", every=2, unit=one_wire.UNIT, bus="w1")(SimulatedThermometer())

    @app.on_start()
    def say_so() -> None:
        print("No thermometer on the 1-Wire bus: one_wire/28-000000000000 is SIMULATED.")


if __name__ == "__main__":
    app.run(port=8080)
