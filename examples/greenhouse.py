"""A greenhouse: sensors, commands, messages and routes in one file, with nothing attached to the machine.

    twistd -n rpiserve --port 8080 --module examples.greenhouse

Then open http://localhost:8080. From a checkout, ``make demo`` does both. To make it yours, put your own devices in the
place of the class ``Simulation``.
"""

import math
from dataclasses import dataclass
from enum import Enum
from threading import Lock
from typing import Annotated, Literal

from msgspec import Meta

from rpiserve import App, Handler, HttpError, SensorError, broadcast

app = App("greenhouse")

Bed = Literal["tomatoes", "cucumbers", "herbs"]
Seconds = Annotated[float, Meta(gt=0, le=60)]  # a valve that is left open would empty the tank


class Mode(Enum):
    """Who decides when to water and when to air."""

    AUTO = "auto"
    MANUAL = "manual"


class Simulation:
    """What would be attached: sensors, valves, a fan, a tank. Nothing in it is random, so each start is the same."""

    def __init__(self) -> None:
        self.lock = Lock()  # handlers run in threads, side by side
        self.hour = 8.0
        self.temperature = 19.0
        self.tank = 120.0
        self.fan = False
        self.moisture: dict[Bed, float] = {"tomatoes": 52.0, "cucumbers": 40.0, "herbs": 29.0}
        self.valves = dict.fromkeys(self.moisture, 0.0)  # for how many seconds each one is still open

    @property
    def sun(self) -> float:
        """From 0 at night to 1 at noon."""
        return max(0.0, math.sin((self.hour - 6) / 12 * math.pi))

    def step(self) -> None:
        """Go on by a second, in which five minutes pass: a day takes 288 s, so that there is something to see."""
        with self.lock:
            self.hour = (self.hour + 5 / 60) % 24
            self.temperature += (9 + 22 * self.sun - (9 if self.fan else 0) - self.temperature) / 10
            for bed in self.moisture:
                flow = min(1.0, self.valves[bed], self.tank)  # litres in this second
                self.valves[bed] = max(0.0, self.valves[bed] - 1)
                self.tank -= flow
                self.moisture[bed] = min(100.0, max(5.0, self.moisture[bed] + 5 * flow - 0.1 - 0.4 * self.sun))
            self.tank = min(200.0, self.tank + 0.4)  # rain


garden = Simulation()
app.data["mode"] = Mode.AUTO.value
app.data.set("target", 22.0, unit="°C")


# --- sensors: what they return is stored at their path ----------------------------------------------------------------
@app.sensor("air", every=1, unit={"temperature": "°C", "humidity": "%"})
def air() -> dict[str, float]:
    return {"temperature": round(garden.temperature, 1), "humidity": round(110 - 2 * garden.temperature, 1)}


@app.sensor("beds", every=1, unit="%")
def beds() -> dict[str, float]:
    return {bed: round(moisture, 1) for bed, moisture in garden.moisture.items()}


@app.sensor("light", every=1, unit="lx")
def light() -> int:
    return round(60_000 * garden.sun)


@app.sensor("tank", every=2, unit="l")
def tank() -> float:
    return round(garden.tank, 1)


@app.sensor("fan", every=1)
def fan() -> bool:
    return garden.fan


@app.sensor("co2", every=2, unit="ppm")
def co2() -> int:
    if 2.5 <= garden.hour % 6 < 3.5:  # its plug is loose: its last value stays, marked as an error
        raise SensorError("the CO2 sensor does not answer")
    return round(900 - 400 * garden.sun)


class Radio(Handler):
    """A thermometer that sends when it likes. Its battery is weak: what is not renewed becomes stale."""

    def invoke(self) -> None:
        if garden.hour % 6 < 2.5:
            self.data.set("outside/temperature", round(9 + 8 * garden.sun, 1), unit="°C")


app.every(2, Radio(), stale_after=6)


# --- commands: arguments are checked by their annotations -------------------------------------------------------------
@app.command
def water(bed: Bed, seconds: Seconds = 5) -> str:
    """Water a bed. A second brings a litre."""
    with garden.lock:
        garden.valves[bed] += seconds
    broadcast.send("greenhouse.watered", {"bed": bed, "seconds": seconds})
    return f"{bed} get {seconds:g} l"


@app.command
def switch_fan(on: bool) -> bool:
    """Switch the fan by hand. That sets the mode to manual, or the fan would not stay so."""
    with garden.lock:
        set_mode(Mode.MANUAL)
        garden.fan = on
    return on


@app.command
def set_mode(mode: Mode) -> Mode:
    """Let the greenhouse water and air by itself, or leave that to you."""
    app.data["mode"] = mode.value
    return mode


@app.command
def set_target(temperature: float) -> float:
    """Set the temperature above which the fan runs, in °C."""
    app.data.set("target", temperature, unit="°C")
    return temperature


# --- what it does by itself -------------------------------------------------------------------------------------------
@app.background("control", 1)
def control() -> None:
    garden.step()
    with garden.lock:  # or the fan might be switched by hand just in between
        if app.data["mode"] != Mode.AUTO.value:
            return
        garden.fan = garden.temperature > app.data["target"] - (2 if garden.fan else 0)  # not on and off all the time
        dry = [bed for bed, moisture in garden.moisture.items() if moisture < 25 and not garden.valves[bed]]
    for bed in dry:
        water(bed)


# --- for other services, and for clients of HTTP ----------------------------------------------------------------------
@app.action("get_status")
def get_status() -> dict[str, object]:
    return {"mode": app.data["mode"], "dry": [bed for bed, moisture in garden.moisture.items() if moisture < 30]}


@app.route("/beds/<bed>")
def show_bed(bed: Bed) -> dict[str, object]:
    """Tell how moist a bed is, and whether it is being watered."""
    if bed not in garden.moisture:
        raise HttpError(404, f"there is no bed {bed}; there are {', '.join(garden.moisture)}")
    return {"moisture": round(garden.moisture[bed], 1), "watering": garden.valves[bed] > 0}


@dataclass
class Order:
    seconds: Seconds = 5  # the JSON that a client sends: {"seconds": 10}


@app.route("/beds/<bed>", methods=["POST"])
def water_bed(order: Order, bed: Bed) -> tuple[dict[str, object], int]:
    """Water a bed, and answer before that is done."""
    state = show_bed(bed)  # which raises if there is no such bed
    water(bed, order.seconds)
    return {**state, "watering": True}, 202


if __name__ == "__main__":
    app.run(port=8080)
