"""What stands in for the process and its reactor in the tests of a daemon's process."""

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.testing import MemoryReactorClock

LONG = 30.0
"""Seconds after which what has not happened will not happen."""

NEVER = 1e6
"""Seconds after which no test runs any more."""


class Ending:
    """Stands in for the end of the process."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self._came = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self._came.set()

    def wait(self) -> list[int]:
        """Wait for it, and return the exit codes."""
        assert self._came.wait(LONG)
        return self.codes


class Reactor(MemoryReactorClock):
    """A reactor in memory that takes signals.

    Attributes:
        signals: those that it was told of.
    """

    def __init__(self) -> None:
        super().__init__()
        self.signals: list[int] = []

    def sigInt(self, number: int, frame: object) -> None:
        self.signals.append(number)

    sigTerm = sigInt

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        self.callLater(0, function, *arguments)


HERE = {"nodaemon": 1, "logfile": None, "syslog": 0, "logger": None, "prefix": "twisted"}
AWAY = HERE | {"nodaemon": 0}
