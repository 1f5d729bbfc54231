"""A room with a heater, simulated: what it measures it tells to all, and other services may ask and switch it.

    twistd -n --pidfile= rpiserve --port 8080 --redis redis://127.0.0.1 --module sensors

It needs a Redis server, at the port 6379 for that line, and so does ``alarm.py``, the service that listens to this one.
``make two-services`` in the checkout starts both, with a Redis server of their own. Then ask for something:

    curl localhost:8080/actions/get_temperature -H 'Content-Type: application/json' -d '{}'
    curl localhost:8080/actions/set_heater -H 'Content-Type: application/json' -d '{"on": false}'
    rpiserve call --url http://localhost:8080 sensors average '{"count": 4}'
"""

import random
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass

from rpiserve import App, BusUnavailable, broadcast, logger, response

app = App("sensors")


@dataclass
class Room:
    """A room that grows half a degree warmer with each reading while the heater is on, and else colder."""

    celsius: float = 23.0
    heater: bool = True


@dataclass
class Heater:
    """What ``set_heater`` is told."""

    on: bool


@dataclass
class Readings:
    """What ``average`` is told."""

    count: int = 5


room = Room()


def tell(name: str, value: float, unit: str) -> None:
    """Tell a reading to whoever listens. While Redis is away it counts here all the same."""
    with suppress(BusUnavailable):
        broadcast.send(f"sensors.{name}", {"name": name, "value": value, "unit": unit})


@app.sensor("room/temperature", every=1, unit="°C")
def temperature() -> float:
    room.celsius += 0.5 if room.heater else -0.5
    room.celsius = min(max(room.celsius, 16), 30)
    tell("temperature", room.celsius, "°C")
    return room.celsius


@app.sensor("room/humidity", every=2, unit="%")
def humidity() -> float:
    value = round(random.gauss(50, 2), 1)
    tell("humidity", value, "%")
    return value


@app.action("get_temperature")
def get_temperature() -> dict[str, float | bool]:
    """Tell the temperature, and whether the heater is on."""
    return {"celsius": room.celsius, "heater": room.heater}


@app.action("set_heater")
def set_heater(heater: Heater) -> dict[str, bool]:
    """Switch the heater. A payload without ``on``, or with one that is no bool, never gets here."""
    room.heater = heater.on
    logger.info("the heater is {state}", state="on" if heater.on else "off")
    return {"heater": room.heater}


@app.action("average")
def average(wanted: Readings) -> dict[str, float]:
    """Tell the mean of some readings, half a second apart, and each of them on the way."""
    taken: list[float] = []
    for number in range(wanted.count):
        time.sleep(0.5)
        taken.append(room.celsius)
        response.progress({"celsius": room.celsius}, 100 * (number + 1) / wanted.count)
    return {"celsius": statistics.fmean(taken)}


if __name__ == "__main__":
    app.run(port=8080, redis="redis://127.0.0.1")
