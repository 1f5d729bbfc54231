"""The signals that a daemon takes, and the watchdog that ends the process whatever hangs."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.logger import Logger

log = Logger()

LINE_SECONDS = 0.1
"""How long the watchdog waits for its line to be written."""


def lasting_threads() -> list[str]:
    """Return the threads that Python waits for at its end: the app's own that are no daemons."""
    threads = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    return [f"the thread {thread.name}" for thread in threads if not thread.daemon]


def ignore_hangup() -> None:
    """Have a SIGHUP that comes before there is anything to be read anew do nothing, where it would end the process."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: None)  # no SIG_IGN, which others would inherit from us


class HangupHandler:
    """Takes SIGHUP: it has files read and opened anew.

    If it comes because the terminal has gone that the process was started in, the process stops in order, unless it was
    started to ignore that: nobody could see or end it any more.

    Args:
        reload: has files read anew.
        watchdog: knows whether a stop has begun.
    """

    def __init__(self, reload: Callable[[], object], watchdog: "Watchdog") -> None:
        self._reload = reload
        self._watchdog = watchdog
        self._ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._has_terminal = False
        signal.signal(signal.SIGHUP, self._handle)

    def find_terminal(self) -> None:
        """Find out whether there is a terminal. A process that has gone to the background has left it."""
        self._has_terminal = not self._ignored and os.isatty(0)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._has_terminal or os.isatty(0):
            self._reload()
        elif not self._watchdog.armed:
            signal.raise_signal(signal.SIGTERM)


class Watchdog:
    """Ends the process some time after a stop has begun.

    It is a thread of its own: neither a blocked reactor, nor a thread that is no daemon and never ends, nor a hanging
    ``stopService`` can hold it up.

    Args:
        seconds: how long after.
        running: returns the names of what still runs, for a line on standard error and in the log.
        end: ends the process with a status.
    """

    def __init__(
        self, seconds: float, running: Callable[[], list[str]], end: Callable[[int], object] = os._exit
    ) -> None:
        self._seconds = seconds
        self._running = running
        self._end = end
        self._armed = threading.Lock()

    @property
    def armed(self) -> bool:
        """Whether it counts: a stop has begun."""
        return self._armed.locked()

    def arm(self) -> None:
        """Begin to count, if that has not begun."""
        if self._armed.acquire(blocking=False):
            # The line has a thread of its own: it may be a pipe that nobody reads that everything hangs on.
            line = threading.Thread(target=self._write_line, name="rpiserve-watchdog-line", daemon=True)
            line.start()
            threading.Thread(target=self._watch, args=(line,), name="rpiserve-watchdog", daemon=True).start()

    def take_signals(self, reactor: Any) -> None:
        """Have SIGINT and SIGTERM arm the watchdog and stop ``reactor``, once it runs; a second one ends the process.

        A SIGINT that is ignored, as in a shell's background, or that somebody else handles is left alone.
        """
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handler(reactor.sigInt))
        signal.signal(signal.SIGTERM, self._handler(reactor.sigTerm))

    def _handler(self, stop: Callable[[int, FrameType | None], object]) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            if self.armed:
                self._end(128 + number)
            try:
                self.arm()
            finally:  # where there are no more threads to be had, the usual end is all there is
                stop(number, frame)

        return handle

    def _write_line(self) -> None:
        time.sleep(self._seconds)
        running = ", ".join([*self._running(), *lasting_threads()]) or "nothing of the app's"
        print(f"rpiserve: not ended in time, so ended by force; still running: {running}", file=sys.__stderr__)
        log.critical("not ended in time, so ended by force; still running: {running}", running=running)

    def _watch(self, line: threading.Thread) -> None:
        line.join(self._seconds + LINE_SECONDS)
        self._end(1)
