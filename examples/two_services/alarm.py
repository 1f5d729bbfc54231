"""An alarm that listens to the service of ``sensors.py``: when its room is too warm, it switches the heater off there.

    twistd -n --pidfile= rpiserve --port 8081 --redis redis://127.0.0.1 --module alarm

``make two-services`` in the checkout starts both, with a Redis server of their own. http://localhost:8081/data shows
what the alarm knows. Once it is ``active``, tell it that you have seen it, and the heater is switched on again:

    curl localhost:8081/actions/acknowledge -H 'Content-Type: application/json' -d '{"by": "Ada"}'
"""

from dataclasses import dataclass

from rpiserve import App, broadcast, logger

TOO_WARM = 24.0

app = App("alarm")
app.data["alarm"] = {"active": False, "acknowledged_by": None}

sensors = app.caller("sensors")


@dataclass
class Reading:
    """What the sensors tell."""

    name: str
    value: float
    unit: str


@dataclass
class Person:
    """Who has seen the alarm."""

    by: str


@app.listen("sensors.*", ordered=True)
def hear(reading: Reading) -> None:
    """Keep each reading, and see whether it is too warm. If the call fails, the next reading brings it again."""
    app.data.set(f"room/{reading.name}", reading.value, unit=reading.unit)
    if reading.name == "temperature" and reading.value > TOO_WARM and not app.data["alarm"]["active"]:
        sensors.send_request("set_heater", {"on": False})
        app.data["alarm"] = {"active": True, "acknowledged_by": None}
        logger.warning("{value} °C: the heater was switched off", value=reading.value)
        broadcast.send("alarms", {"celsius": reading.value})


@app.action("acknowledge")
def acknowledge(person: Person) -> dict[str, bool]:
    """End the alarm, and have the heater switched on again."""
    answer: dict[str, bool] = sensors.send_request("set_heater", {"on": True})
    app.data["alarm"] = {"active": False, "acknowledged_by": person.by}
    return answer


if __name__ == "__main__":
    app.run(port=8081, redis="redis://127.0.0.1")
