"""The process around the daemon: its clock, its signals, and the watchdog that ends it whatever hangs."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.application.service import IService
from twisted.logger import globalLogBeginner, textFileLogObserver

from rpiserve.config import Config
from rpiserve.data import DataTree
from rpiserve.registry import Registry
from rpiserve.service import Daemon

MARGIN = 0.05
"""The share of the stop timeout by which the watchdog is early, so that the process is gone when it has passed."""


def make_daemon(registry: Registry, tree: DataTree, config: Config, reactor: Any) -> IService:
    """Return the daemon, with the process made ready for it.

    Args:
        registry: what the app declares.
        tree: its data.
        config: the options.
        reactor: the reactor that is going to run.

    Raises:
        StartError: an option does not fit.
    """
    # The reactor's clock is the wall clock as shipped. A step back would freeze all timers, one forward fire them all.
    reactor.seconds = time.monotonic

    def line() -> str:
        return f"rpiserve: not ended in time, so ended by force; still running: {daemon.still_running()}\n"

    watchdog = Watchdog(config.stop_timeout * (1 - MARGIN), line)
    daemon = Daemon(registry, tree, config, reactor, watchdog.arm)
    reactor.callWhenRunning(watchdog.take_signals)
    return daemon


def run_foreground(daemon: IService, reactor: Any) -> None:
    """Run ``daemon`` until the process is told to stop, with a log on standard output.

    Raises:
        StartError: the port cannot be had.
    """
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    daemon.privilegedStartService()
    daemon.startService()
    reactor.addSystemEventTrigger("before", "shutdown", daemon.stopService)
    reactor.run()


class Watchdog:
    """Ends the process some time after a stop has begun.

    It is a thread of its own: neither a blocked reactor, nor a thread that is no daemon and never ends, nor a hanging
    ``stopService`` can hold it up.

    Args:
        seconds: how long after.
        line: makes the line to leave on standard error.
        end: ends the process with a status.
    """

    def __init__(self, seconds: float, line: Callable[[], str], end: Callable[[int], object] = os._exit) -> None:
        self._seconds = seconds
        self._line = line
        self._end = end
        self._armed = threading.Lock()

    def arm(self) -> None:
        """Begin to count, if that has not begun."""
        if self._armed.acquire(blocking=False):
            threading.Thread(target=self._watch, name="rpiserve-watchdog", daemon=True).start()

    def take_signals(self) -> None:
        """Have SIGINT and SIGTERM arm the watchdog before they do what they do now; a second one ends the process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handler(signal.getsignal(number)))

    def _handler(self, usual: Any) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            if self._armed.locked():
                self._end(128 + number)
            self.arm()
            if callable(usual):
                usual(number, frame)

        return handle

    def _watch(self) -> None:
        time.sleep(self._seconds)
        if sys.__stderr__ is not None:
            sys.__stderr__.write(self._line())
            sys.__stderr__.flush()
        self._end(1)
