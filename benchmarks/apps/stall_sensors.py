"""The sensors that `stall.py` has polled once a second: fifty that are well, and seven that are not."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

INTERVAL = 1.0
READING = 0.01
"""Seconds that a good reading takes."""

NORMAL = [f"normal/{number}" for number in range(50)]
STARTS: dict[str, list[float]] = {name: [] for name in NORMAL}
"""When each reading of the good sensors began, by the monotonic clock."""


def hung() -> float:
    """Never return."""
    threading.Event().wait()
    return 0.0


def slow() -> float:
    """Return as late as a 1-Wire thermometer does."""
    time.sleep(0.75)
    return 20.0


def raising() -> float:
    """Raise, as a sensor does whose wire is off."""
    raise OSError("the wire is off")


def normal(name: str) -> Callable[[], float]:
    """Return the good sensor called ``name``."""

    def read() -> float:
        STARTS[name].append(time.monotonic())
        time.sleep(READING)
        return float(len(STARTS[name]))

    return read


SENSORS: dict[str, Callable[[], float]] = {
    "hung": hung,
    **{f"slow/{number}": slow for number in range(5)},
    "raising": raising,
    **{name: normal(name) for name in NORMAL},
}


def write_starts() -> None:
    """Write down when each reading began, for the benchmark to read."""
    Path("starts.json").write_text(json.dumps(STARTS), encoding="utf-8")
