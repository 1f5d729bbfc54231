"""A wall clock that jumps, as on a machine without a clock chip at its first time synchronisation."""

import json
import os
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon import PATIENCE, running_daemon

INTERVAL = 0.04
RUNS = 15
HOUR = 3600.0
DAY = 24 * HOUR

APP = f"""
import threading
import time

from rpiserve import App

app = App("clock")
start = time.monotonic()
busy = threading.Lock()
counted = {{"runs": 0, "overlaps": 0}}


@app.sensor("clock", every={INTERVAL})
def clock():
    counted["runs"] += 1
    counted["overlaps"] += not busy.acquire(blocking=False)
    try:
        return {{**counted, "elapsed": time.monotonic() - start, "wall": time.time()}}
    finally:
        busy.release()
"""


def test_a_jumping_wall_clock(tmp_path: Path) -> None:
    """A sensor goes on at its rate whatever the wall clock does: it neither stops nor catches up, and HTTP answers.

    The clock jumps ahead, back, and by more than a year; each time the sensor is waited for until it has seen the new
    time and has run on for many intervals.
    """
    offset = tmp_path / "offset"

    def jump(seconds: float) -> None:
        new = tmp_path / "new_offset"
        new.write_text(str(seconds))
        os.replace(new, offset)  # the file is never seen empty

    def get(path: str) -> Any:
        with urllib.request.urlopen(daemon.url + path, timeout=PATIENCE) as answer:
            return json.load(answer)

    def wait_until(reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE
        while not ("clock" in (data := get("/data")) and reached(data["clock"])):
            assert time.monotonic() < end, f"not reached: {data}"
        clock: dict[str, Any] = data["clock"]
        return clock

    jump(0)
    with running_daemon(tmp_path, APP, env={"WALL_CLOCK_OFFSET": str(offset)}) as daemon:
        true = wait_until(lambda clock: clock["runs"] >= RUNS)
        for seconds in (3 * HOUR, -3 * HOUR, 400 * DAY, 0.0):
            jump(seconds)

            def skew(clock: dict[str, Any]) -> float:
                return (clock["wall"] - true["wall"]) - (clock["elapsed"] - true["elapsed"])

            seen = wait_until(lambda clock, wanted=seconds: abs(skew(clock) - wanted) < HOUR)
            latest = wait_until(lambda clock, runs=seen["runs"] + RUNS: clock["runs"] >= runs)
            assert latest["runs"] <= latest["elapsed"] / INTERVAL + 2
            assert latest["overlaps"] == 0
            assert {value["state"] for value in get("/data/clock?meta=1").values()} == {"ok"}
            [sensor] = get("/sensors")
            assert (sensor["state"], sensor["failures"]) == ("ok", 0)
        assert daemon.stop() < 0
        assert "Traceback" not in daemon.log()
