"""Debian's Chromium, and a greenhouse to show in it."""

import shutil

CHROMIUM = shutil.which("chromium")
OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

GREENHOUSE = '''
import time
from dataclasses import dataclass
from itertools import count
from typing import Literal, Optional

from rpiserve import App, SensorError

app = App("greenhouse")
readings = count(1)

@app.sensor("inside/count", every=0.3)
def counted() -> int:
    return next(readings)

@app.sensor("inside/temperature", every=1, unit="°C")
def temperature() -> float:
    return 21.5 + next(readings) % 7 / 10

@app.sensor("inside/humidity", every=1, unit="%")
def humidity() -> float:
    return 61 + next(readings) % 5 * 1.7

@app.sensor("outside/temperature", every=3600, unit="°C", stale_after=0.1)
def outside() -> float:
    return 4.5

gusts = iter([3.9])

@app.sensor("outside/wind", every=1, unit="m/s")
def wind() -> float:
    for gust in gusts:
        return gust
    raise SensorError("no answer from the anemometer")

app.data.set("memory/used", 27250937856, unit="B")
app.data.set("memory/limits", [1, 2, {"soft": True}])
app.data.set("door/open", False)
app.data.set("door/visitor", "Ada Lovelace")
app.data.set("notes/markup", "<img src=x onerror=alert(1)>")
app.data["notes"]["<b>key</b>"] = "a value below a key with markup"
app.data["__proto__"] = {"constructor": 1.25}
app.data.set("notes/long", "It was a dark and stormy night. " * 300)

@app.cron("0 6 * * mon-fri")
def open_blinds() -> None: ...

class Lamp:
    def switch(self, on: bool) -> str:
        """Switch the lamp."""
        app.data.set("lamp/on", on)
        return f"the lamp is {'on' if on else 'off'}"

lamp = Lamp()
app.add_command(lamp.switch)

@dataclass
class Point:
    x: float
    y: float = 2.0

@app.command
def water(zone: int, seconds: float = 10, mode: Literal["gentle", "strong"] = "gentle", note: Optional[str] = None):
    """Water a zone of the greenhouse.

    Zones are numbered from the door.
    """
    return {"zone": zone, "seconds": seconds, "mode": mode, "note": note}

@app.command
def aim(at: Point, how: Literal["fast", "slow"]) -> list:
    return [at.x, at.y, how]

@app.command
def explode() -> None:
    raise ValueError("not to be shown")

@app.command
def echo(anything=None):
    return anything

@app.action("get_status")
def get_status():
    """Say how the greenhouse is."""
    return "fine"
'''
