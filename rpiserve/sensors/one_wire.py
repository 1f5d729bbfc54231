"""Thermometers on the 1-Wire bus, read through the kernel: the DS18B20 and its kin.

    @app.sensor("cellar", every=60, unit=one_wire.UNIT, bus="w1")
    def cellar() -> float:
        return one_wire.read("/sys/bus/w1/devices/28-0316a2794bff/w1_slave")

The line `dtoverlay=w1-gpio` in a Raspberry Pi's config.txt switches the bus on. The kernel's driver, w1_therm, then
shows each thermometer as a file `w1_slave`. To read it is to measure, which takes up to 750 ms, and the bus carries one
measurement at a time: hence the `bus="w1"`.

The file has two lines, as Documentation/w1/slaves/w1_therm.rst and `w1_slave_show` in the kernel's w1_therm.c tell::

    72 01 4b 46 7f ff 0e 10 57 : crc=57 YES
    72 01 4b 46 7f ff 0e 10 57 t=23125

First the nine bytes of the thermometer's memory, the checksum that the kernel reckoned, and whether it is the one that
was sent; then the last bytes that were right, and the temperature in thousandths of °C. The file is empty when the
thermometer did not answer. What else is refused, and why:

- a checksum that is wrong: `NO`;
- nine zeros, which a bus shorted to ground gives, and whose checksum is right;
- exactly 85 °C, which stands in the memory after power-on, before the first measurement (DS18B20 data sheet, "Memory").
  A thermometer that really is at 85 °C fails until it is 1/16 °C warmer or cooler;
- what is beyond -55 and 125 °C, the range that the data sheet gives.
"""

import os
import re
from pathlib import Path
from typing import Final

from rpiserve.errors import SensorError

UNIT: Final = "°C"

_LONGEST = 4096  # a file in sysfs is a page at most; this bounds a path that leads elsewhere
_BYTES = "(?:[0-9a-f]{2} ){9}"
_FILE = re.compile(rf"({_BYTES}): crc=[0-9a-f]{{2}} (YES|NO)\n{_BYTES}t=(-?[0-9]{{1,6}})\n?")
_SENSOR_ID = re.compile(r"(?:10|22|28|3b|42)-[0-9a-f]{12}")  # the families that w1_therm knows, see w1_therm.rst
_CHECK = "check the wiring, the 4.7 kΩ pull-up, and that config.txt has dtoverlay=w1-gpio"


def find_sensors(root: str | os.PathLike[str] = "/sys/bus/w1/devices") -> list[str]:
    """Return the ids of the thermometers attached, such as `28-0316a2794bff`, sorted; none if there is no bus.

    Each is a folder of `root` with a file `w1_slave` for `read`.

    Raises:
        SensorError: `root` is there but cannot be listed.
    """
    try:
        return sorted(name for name in os.listdir(root) if _SENSOR_ID.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SensorError(f"{os.fspath(root)}: {error.strerror}") from error


def read(path: str | os.PathLike[str]) -> float:
    """Measure: return the temperature in °C that the file `w1_slave` at `path` shows. Blocks for up to a second.

    Raises:
        SensorError: the file cannot be read or `parse` refuses it; the text names the path and what to check.
    """
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LONGEST).decode("ascii", errors="replace")
    except OSError as error:
        raise SensorError(f"{os.fspath(path)}: {error.strerror}; {_CHECK}") from error
    try:
        return parse(text)
    except SensorError as error:
        raise SensorError(f"{os.fspath(path)}: {error}; {_CHECK}") from error


def parse(text: str) -> float:
    """Return the temperature in °C, from -55 to 125, that the `text` of a file `w1_slave` tells.

    Raises:
        SensorError: for each of the reasons at the head of this module. It raises nothing else.
    """
    if not text.strip():
        raise SensorError("the file is empty: the thermometer did not answer")
    match = _FILE.fullmatch(text)
    if match is None:
        raise SensorError("the text is not that of a w1_slave file")
    memory, checksum, thousandths = match.groups()
    if checksum == "NO":
        raise SensorError("the checksum is wrong: the measurement was garbled on its way")
    if not memory.strip("0 "):
        raise SensorError("all bytes are zero: the bus is shorted to ground")
    celsius = int(thousandths) / 1000
    if celsius == 85:
        raise SensorError("85 °C is the value at power-on: the thermometer has not measured, or lost its power")
    if not -55 <= celsius <= 125:
        raise SensorError(f"{celsius} °C is beyond what the thermometer can measure, -55 to 125 °C")
    return celsius
