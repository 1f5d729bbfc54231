"""The process around the daemon: how it is made ready, run in the foreground, and how it ends."""

import ctypes
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from twisted.logger import Logger, globalLogBeginner

from rpiserve.core.clocks import Clocks
from rpiserve.core.declared_app import DeclaredApp
from rpiserve.daemon.config import Config
from rpiserve.daemon.daemon import Daemon, Process
from rpiserve.daemon.log_setup import make_log
from rpiserve.daemon.signals import HangupHandler, Watchdog, lasting_threads
from rpiserve.daemon.systemd import Notifier
from rpiserve.errors import RpiserveError, StartError
from rpiserve.logs import python_logging, uncaught
from rpiserve.logs.redaction import redact

log = Logger()

MARGIN = 0.05
"""The share of the stop timeout by which the watchdog is early, so that the process is gone when it has passed."""

_M_ARENA_MAX = -8
"""As malloc.h of glibc has it."""

FAILED_START_SECONDS = 1.0
"""How long a process that could not start waits for threads that the app's module has started."""


def make_daemon(
    app: DeclaredApp,
    config: Config,
    reactor: Any,
    twistd: Mapping[str, Any] | None = None,
    exit_code: "ExitCode | None" = None,
) -> Daemon:
    """Return the daemon, with the process made ready for it.

    Args:
        app: the app.
        config: the options.
        reactor: the reactor that is going to run.
        twistd: the options of the twistd that is going to run it, if one is.
        exit_code: what sees to the exit code of that.

    Raises:
        StartError: an option does not fit.
    """
    _share_memory()
    # The reactor's clock is the wall clock as shipped. A step back would freeze all timers, one forward fire them all.
    reactor.seconds = time.monotonic

    observer, file = make_log(config, twistd)
    watchdog = Watchdog(config.stop_timeout * (1 - MARGIN), lambda: daemon.still_running())

    def stopping() -> None:
        notifier.stopping("stopping because of an error" if daemon.failed else "stopping")
        watchdog.arm()

    def reload() -> None:
        if watchdog.armed:
            return
        notifier.reloading()
        try:
            if file is not None and not file.reopen():
                log.warn("{file} cannot be opened anew; the log goes on in the old one", file=file.path)
            daemon.reload()
        finally:
            notifier.reloaded()

    def running() -> None:
        watchdog.take_signals(reactor)  # the reactor has taken SIGTERM for itself when it began
        hangup.find_terminal()
        if exit_code is not None:
            exit_code.watch(daemon, reactor)
        if not daemon.failed:
            notifier.ready()
        _settle()

    daemon = Daemon(app, config, Clocks(reactor, time.time), Process(stopping, _in_thread, observer))
    notifier = Notifier(os.environ, reactor, daemon.status)
    watchdog.take_signals(reactor)
    hangup = HangupHandler(lambda: reactor.callFromThread(reload), watchdog)
    if twistd is not None and file is not None and signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
        rotate = file.rotate  # as twistd has it for its own file
        signal.signal(signal.SIGUSR1, lambda number, frame: reactor.callFromThread(rotate))
    reactor.callWhenRunning(running)
    if observer is not None:
        python_logging.connect(observer)  # not when the reactor runs: before that there are threads already
        uncaught.connect()
        reactor.addSystemEventTrigger("after", "shutdown", _disconnect)
    return daemon


def _disconnect() -> None:
    python_logging.disconnect()
    uncaught.disconnect()


def _share_memory() -> None:
    """Have all threads take their memory from two arenas; glibc gives each one of its own, up to eight for each core.

    What a thread has used stays with its arena, so that memory creeps up for hours, as more threads have done more.
    With another C library there is nothing to be done (``M_ARENA_MAX`` of mallopt(3)).
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _settle() -> None:
    """Take what is there after the start out of what is collected as garbage: it stays for as long as the process does.

    Else memory rises and falls by megabytes, because so much has to be new before all of it is looked through.
    """
    gc.collect()
    gc.freeze()


def _in_thread(work: Callable[[], None]) -> None:
    try:
        threading.Thread(target=work, name="rpiserve-lag", daemon=True).start()
    except RuntimeError as error:  # there are no more threads to be had
        log.error("nobody watches whether the reactor is blocked: {error}", error=error)


def run_foreground(daemon: Daemon, reactor: Any) -> None:
    """Run ``daemon`` until the process is told to stop.

    Raises:
        StartError: the port cannot be had.
        SystemExit: it has ended because of an error.
    """
    streams = sys.stdout, sys.stderr
    if daemon.observer is not None:
        globalLogBeginner.beginLoggingTo([daemon.observer], redirectStandardIO=daemon.observer.takes_prints)
    try:
        daemon.privilegedStartService()
    except StartError:
        sys.stdout, sys.stderr = streams  # why it does not start is for whoever has started it
        _disconnect()
        raise
    daemon.startService()
    reactor.addSystemEventTrigger("before", "shutdown", daemon.stopService)
    reactor.run()
    if daemon.failed:
        sys.exit(1)


def one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show what ends the process, in the place of `sys.excepthook`: an error of ours is one line on standard error.

    It is logged, too: of a twistd that has gone to the background nobody sees the standard error.
    """
    if not isinstance(error, RpiserveError):
        print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)
        return
    log.error("{error}", error=error)
    print(redact(f"rpiserve: {error}"), file=sys.__stderr__)
    if lasting_threads():
        Watchdog(FAILED_START_SECONDS, list).arm()


class ExitCode:
    """Has a twistd end with an error if the daemon did, or the reactor: by itself it would end with 0.

    Args:
        end: ends the process with a status.
    """

    def __init__(self, end: Callable[[int], object] = os._exit) -> None:
        self._end = end
        self._daemon: Daemon | None = None
        self._in_order = False

    def watch(self, daemon: Daemon, reactor: Any) -> None:
        """See to the exit code from now on, when the reactor begins."""
        self._daemon = daemon
        reactor.addSystemEventTrigger("after", "shutdown", self._shut_down)

    def _shut_down(self) -> None:
        self._in_order = True

    def at_exit(self) -> None:
        """End the process with an error, if there was one. Nothing that Python would still do is done then."""
        if self._daemon is None or (self._in_order and not self._daemon.failed):
            return
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if stream is not None:
                with suppress(OSError, ValueError):  # it may be closed
                    stream.flush()
        self._end(1)
