"""The process around the daemon: its clock, its signals, and the watchdog that ends it whatever hangs."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger, globalLogBeginner, textFileLogObserver

from rpiserve.config import Config
from rpiserve.data import DataTree
from rpiserve.errors import RpiserveError
from rpiserve.messaging.link import Link
from rpiserve.messaging.messenger import Messenger
from rpiserve.registry import Registry
from rpiserve.service import Daemon

log = Logger()

MARGIN = 0.05
"""The share of the stop timeout by which the watchdog is early, so that the process is gone when it has passed."""

FAILED_START_SECONDS = 1.0
"""How long a process that could not start waits for threads that the app's module has started."""

LINE_SECONDS = 0.1
"""How long the watchdog waits for its line to be written."""


def make_daemon(
    name: str,
    registry: Registry,
    tree: DataTree,
    link: Link[Messenger],
    max_workers: int,
    config: Config,
    reactor: Any,
) -> IService:
    """Return the daemon, with the process made ready for it.

    Args:
        name: the service's name.
        registry: what the app declares.
        tree: its data.
        link: the way to the bus for the app's own threads.
        max_workers: how many of its concurrent commands may run at the same time, and how many actions and listeners.
        config: the options.
        reactor: the reactor that is going to run.

    Raises:
        StartError: an option does not fit.
    """
    # The reactor's clock is the wall clock as shipped. A step back would freeze all timers, one forward fire them all.
    reactor.seconds = time.monotonic

    watchdog = Watchdog(config.stop_timeout * (1 - MARGIN), lambda: daemon.still_running())
    daemon = Daemon(name, registry, tree, link, config, max_workers, reactor, watchdog.arm)
    watchdog.take_signals(reactor)
    signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(daemon.reload))
    reactor.callWhenRunning(watchdog.take_signals, reactor)  # the reactor takes SIGTERM for itself when it begins
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


def one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show what ends the process, in the place of `sys.excepthook`: an error of ours is one line on standard error.

    It is logged, too: of a twistd that has gone to the background nobody sees the standard error.
    """
    if not isinstance(error, RpiserveError):
        sys.__excepthook__(kind, error, trace)
        return
    log.error("{error}", error=error)
    print(f"rpiserve: {error}", file=sys.__stderr__)
    if _lasting_threads():
        Watchdog(FAILED_START_SECONDS, list).arm()


def _lasting_threads() -> list[str]:
    """Return the threads that Python waits for at its end: the app's own that are no daemons."""
    threads = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    return [f"the thread {thread.name}" for thread in threads if not thread.daemon]


class Watchdog:
    """Ends the process some time after a stop has begun.

    It is a thread of its own: neither a blocked reactor, nor a thread that is no daemon and never ends, nor a hanging
    ``stopService`` can hold it up.

    Args:
        seconds: how long after.
        running: returns the names of what still runs, for a line on standard error.
        end: ends the process with a status.
    """

    def __init__(
        self, seconds: float, running: Callable[[], list[str]], end: Callable[[int], object] = os._exit
    ) -> None:
        self._seconds = seconds
        self._running = running
        self._end = end
        self._armed = threading.Lock()

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
            if self._armed.locked():
                self._end(128 + number)
            try:
                self.arm()
            finally:  # where there are no more threads to be had, the usual end is all there is
                stop(number, frame)

        return handle

    def _write_line(self) -> None:
        time.sleep(self._seconds)
        running = ", ".join([*self._running(), *_lasting_threads()]) or "nothing of the app's"
        print(f"rpiserve: not ended in time, so ended by force; still running: {running}", file=sys.__stderr__)

    def _watch(self, line: threading.Thread) -> None:
        line.join(self._seconds + LINE_SECONDS)
        self._end(1)
