"""What the tests do to the Python of a daemon that they run. Python imports this when it starts; see `daemon.SITE`.

- A process that ends itself with a signal, as twistd does after a SIGTERM, saves its coverage first.
- If the variable ``WALL_CLOCK_OFFSET`` names a file, the wall clock is wrong by the seconds that stand in it. They are
  read anew whenever the time is asked for, so that the clock can be made to jump.
"""

import datetime
import os
import sys
import time
from pathlib import Path
from typing import Any


def save_coverage() -> None:
    """Have `os.kill` save the coverage before it kills this process itself."""
    kill = os.kill

    def save_and_kill(pid: int, number: int) -> None:
        coverage = sys.modules["coverage"].Coverage.current()
        if pid == os.getpid() and coverage is not None:
            coverage.save()
        kill(pid, number)

    os.kill = save_and_kill


def shift_wall_clock(file: Path) -> None:
    """Add the seconds in ``file`` to all that Python's own library tells of the time of day."""
    clock, clock_ns = time.time, time.time_ns

    def offset() -> float:
        return float(file.read_text() or 0)

    def shifted() -> float:
        return clock() + offset()

    def now_or(function: Any) -> Any:
        return lambda seconds=None: function(shifted() if seconds is None else seconds)

    class ShiftedDatetime(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "ShiftedDatetime":
            return cls.fromtimestamp(shifted(), tz)

        @classmethod
        def today(cls) -> "ShiftedDatetime":
            return cls.now()

    time.time = shifted
    time.time_ns = lambda: clock_ns() + int(offset() * 1e9)
    time.localtime, time.gmtime = now_or(time.localtime), now_or(time.gmtime)
    datetime.datetime = ShiftedDatetime  # type: ignore[misc]


if "coverage" in sys.modules:
    save_coverage()
if name := os.environ.get("WALL_CLOCK_OFFSET"):
    shift_wall_clock(Path(name))
