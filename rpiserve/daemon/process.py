"""The process around the daemon: its clock, its log, its signals, and the watchdog that ends it whatever hangs."""

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
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from twisted.logger import Logger, globalLogBeginner

from rpiserve.core.thread_bridge import Link
from rpiserve.daemon.config import Config
from rpiserve.daemon.service import Daemon
from rpiserve.daemon.systemd import Notifier
from rpiserve.data.tree import DataTree
from rpiserve.declare.registry import Registry
from rpiserve.errors import RpiserveError, StartError
from rpiserve.logs import python_logging, uncaught
from rpiserve.logs.levels import Levels
from rpiserve.logs.lines import JOURNAL, JSON, TEXT
from rpiserve.logs.observer import LogObserver
from rpiserve.logs.outputs import Stream, Syslog, is_journal
from rpiserve.logs.redaction import redact
from rpiserve.logs.rotating_file import RotatingFile, open_log
from rpiserve.messaging.requests import Messenger

log = Logger()

MARGIN = 0.05
"""The share of the stop timeout by which the watchdog is early, so that the process is gone when it has passed."""

_M_ARENA_MAX = -8
"""As malloc.h of glibc has it."""

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
    twistd: Mapping[str, Any] | None = None,
    exit_code: "ExitCode | None" = None,
) -> Daemon:
    """Return the daemon, with the process made ready for it.

    Args:
        name: the service's name.
        registry: what the app declares.
        tree: its data.
        link: the way to the bus for the app's own threads.
        max_workers: how many of its concurrent commands may run at the same time, and how many actions and listeners.
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

    daemon = Daemon(name, registry, tree, link, config, max_workers, reactor, stopping, _in_thread, observer=observer)
    notifier = Notifier(os.environ, reactor, daemon.status)
    watchdog.take_signals(reactor)
    hangup = Hangup(lambda: reactor.callFromThread(reload), watchdog)
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


def make_log(config: Config, twistd: Mapping[str, Any] | None) -> tuple[LogObserver | None, RotatingFile | None]:
    """Return what writes the log, and its file if it is one.

    Args:
        config: the options. ``--log-file`` goes before twistd's own ``--logfile``, which gets the same lines.
        twistd: the options of twistd. With a ``--logger`` of the user's own there is nothing to write.

    Raises:
        StartError: the file cannot be opened, or a twistd that goes to the background is to log to standard output.
    """
    levels = Levels(config.log_level)
    known = _passwords(config)
    if config.log_file is not None:
        option, path = "--log-file", config.log_file
    elif twistd is None or twistd.get("syslog") or twistd.get("logger"):
        option, path = "", None
    else:
        option, path = "--logfile", _twistd_file(twistd)
    if twistd is not None and twistd.get("logger"):
        return None, None
    if path is not None:
        file = open_log(option, path, config.log_size, config.log_keep)
        return LogObserver(JSON if config.log_format == JSON else TEXT, file, levels, known), file
    if twistd is not None and twistd.get("syslog"):
        return LogObserver(JOURNAL, Syslog(twistd.get("prefix") or "rpiserve"), levels, known), None
    default = JOURNAL if is_journal(os.environ, sys.__stderr__.fileno() if sys.__stderr__ else 2) else TEXT
    format = config.log_format or default
    return LogObserver(format, Stream(sys.stderr if format == JOURNAL else sys.stdout), levels, known), None


def _twistd_file(twistd: Mapping[str, Any]) -> Path | None:
    """Return the file that twistd would log to; None for standard output."""
    name = twistd.get("logfile")
    if twistd.get("nodaemon"):
        return Path(name) if name and name != "-" else None
    if name == "-":
        raise StartError("twistd --logfile=-: what goes to the background cannot log to standard output; -n stays here")
    return Path(name or "twistd.log")


def _passwords(config: Config) -> list[str]:
    """Return the secrets that we know, and that would be nothing but a word to whoever looks for them in a text."""
    address = config.redis_address
    if address is None:
        return []
    try:
        passwords = (address.password, address.current_password())
    except (OSError, ValueError):  # it is told where it is needed
        passwords = (address.password, None)
    return [password for password in passwords if password]


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
    if _lasting_threads():
        Watchdog(FAILED_START_SECONDS, list).arm()


def _lasting_threads() -> list[str]:
    """Return the threads that Python waits for at its end: the app's own that are no daemons."""
    threads = (thread for thread in threading.enumerate() if thread is not threading.main_thread())
    return [f"the thread {thread.name}" for thread in threads if not thread.daemon]


def ignore_hangup() -> None:
    """Have a SIGHUP that comes before there is anything to be read anew do nothing, where it would end the process."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, lambda number, frame: None)  # no SIG_IGN, which others would inherit from us


class Hangup:
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
        running = ", ".join([*self._running(), *_lasting_threads()]) or "nothing of the app's"
        print(f"rpiserve: not ended in time, so ended by force; still running: {running}", file=sys.__stderr__)
        log.critical("not ended in time, so ended by force; still running: {running}", running=running)

    def _watch(self, line: threading.Thread) -> None:
        line.join(self._seconds + LINE_SECONDS)
        self._end(1)
