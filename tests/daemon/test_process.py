"""The process around the daemon: how it is made ready, reloaded, and how it says what ended it."""

import ctypes
import io
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from process_doubles import AWAY, HERE, NEVER, Ending, Reactor
from twisted.logger import LogEvent, capturedLogs, formatEvent

from rpiserve import App
from rpiserve.daemon import process
from rpiserve.daemon.config import Config
from rpiserve.daemon.daemon import Daemon
from rpiserve.daemon.process import ExitCode, make_daemon, one_line, run_foreground
from rpiserve.errors import StartError
from rpiserve.logs import python_logging
from rpiserve.logs.rotating_file import RotatingFile


@pytest.mark.usefixtures("signals")
def test_make_daemon() -> None:
    """The process is made ready: the reactor's clock is one that no change of the date moves, and signals are taken."""
    app, reactor = App("a"), Reactor()
    daemon = make_daemon(app, Config(port=None, stop_timeout=NEVER), reactor)
    assert isinstance(daemon, Daemon)
    assert reactor.seconds is process.time.monotonic
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    [(function, arguments, _)] = reactor.whenRunningHooks
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    function(*arguments)
    signal.raise_signal(signal.SIGTERM)
    assert reactor.signals == [signal.SIGTERM]


def shown(error: BaseException) -> None:
    """Have ``error`` shown as what ended the process."""
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - it is the one above
        one_line(type(caught), caught, caught.__traceback__)


def test_an_error_of_ours_is_one_line(
    stderr: io.StringIO, logged_failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours is one line on standard error, and one in the log for those who do not see that."""
    monkeypatch.setattr(process, "lasting_threads", list)
    shown(StartError("the port is taken {by} %s"))
    assert stderr.getvalue() == "rpiserve: the port is taken {by} %s\n"
    [event] = logged_failures
    assert str(event["error"]) == "the port is taken {by} %s"
    logged_failures.clear()


def test_another_error_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """Any other error is a mistake of ours: it keeps its traceback."""
    shown(ZeroDivisionError("division by zero"))
    written = capsys.readouterr().err
    assert written.startswith("Traceback (most recent call last):")
    assert written.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.usefixtures("stderr", "lasting_thread")
def test_a_failed_start_ends_in_spite_of_threads(
    logged_failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that the app's module has started does not keep a process that has failed: the watchdog ends it."""
    armed: list[tuple[float, Any]] = []

    class Armed:
        def __init__(self, *arguments: Any) -> None:
            self.arguments = arguments

        def arm(self) -> None:
            armed.append(self.arguments)

    monkeypatch.setattr(process, "Watchdog", Armed)
    shown(StartError("the port is taken"))
    assert armed == [(process.FAILED_START_SECONDS, list)]
    logged_failures.clear()


# --- the log ---------------------------------------------------------------------------------------------------------


def connected() -> bool:
    """Tell whether Python's `logging` is connected to our log."""
    return any(isinstance(handler, python_logging.PythonLogging) for handler in logging.getLogger().handlers)


@pytest.mark.usefixtures("signals", "hangups")
def test_python_logging(tmp_path: Path) -> None:
    """What Python's `logging` is given is in the log from the making of the daemon to the end of the reactor."""
    app, reactor = App("a"), Reactor()
    config = Config(port=None, stop_timeout=NEVER, log_file=tmp_path / "a.log", log_level=("warn",))
    make_daemon(app, config, reactor, AWAY)
    logging.getLogger("some_library").warning("it is %s", "warm")
    logging.getLogger("some_library").info("it is cool")
    assert connected()
    [(function, arguments, _)] = reactor.triggers["after"]["shutdown"]
    function(*arguments)
    assert not connected()
    logging.getLogger("some_library").warning("it is over")
    [line] = (tmp_path / "a.log").read_text().splitlines()
    assert line.endswith(" WARN  some_library: it is warm")


@pytest.mark.usefixtures("signals", "hangups")
def test_python_logging_with_a_logger_of_the_users_own() -> None:
    """With twistd's ``--logger`` it is somebody else's, too: that may hand on to `logging` what it gets."""
    app, reactor = App("a"), Reactor()
    make_daemon(app, Config(port=None), reactor, HERE | {"logger": str})
    assert not connected()


@pytest.mark.usefixtures("signals", "hangups")
def test_python_logging_after_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that outlives a daemon which could not start has its `logging` back."""
    app, reactor = App("a"), Reactor()
    daemon = make_daemon(app, Config(port=None, stop_timeout=NEVER), reactor)
    assert connected()

    def fail() -> None:
        raise StartError("the port is taken")

    monkeypatch.setattr(daemon, "privilegedStartService", fail)
    monkeypatch.setattr(process.globalLogBeginner, "beginLoggingTo", lambda observers, redirectStandardIO: None)
    with pytest.raises(StartError, match="the port is taken"):
        run_foreground(daemon, reactor)
    assert not connected()


# --- reload ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("signals", "hangups")
def test_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[RotatingFile]) -> None:
    """A reload opens the log anew, and says if that cannot be done; while the daemon stops there is none."""
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    folder = tmp_path / "logs"
    folder.mkdir()
    app, reactor, events = App("a"), Reactor(), []
    config = Config(port=None, stop_timeout=NEVER, log_file=folder / "a.log")
    daemon = make_daemon(app, config, reactor, HERE)
    monkeypatch.setattr(daemon, "reload", lambda: events.append("reloaded"))
    (folder / "a.log").rename(folder / "moved")

    def hang_up(number: signal.Signals = signal.SIGHUP) -> None:
        signal.raise_signal(number)
        assert reactor.getDelayedCalls()
        reactor.advance(0)

    hang_up()
    assert (events, (folder / "a.log").exists()) == (["reloaded"], True)
    (folder / "a.log").write_text("x")
    hang_up(signal.SIGUSR1)
    assert ((folder / "a.log").read_text(), (folder / "a.log.1").read_text()) == ("", "x")
    folder.rename(tmp_path / "elsewhere")
    with capturedLogs() as logged:
        hang_up()
    assert any("cannot be opened anew" in formatEvent(event) for event in logged)
    assert len(events) == 2
    signal.raise_signal(signal.SIGTERM)
    hang_up()
    assert len(events) == 2


# --- exit codes ------------------------------------------------------------------------------------------------------


class Failing:
    """Stands in for a daemon that may have failed."""

    failed = False


@pytest.mark.parametrize(
    ("runs", "stops", "fails", "codes"),
    [(False, False, False, []), (True, True, False, []), (True, True, True, [1]), (True, False, False, [1])],
)
def test_exit_code(runs: bool, stops: bool, fails: bool, codes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The code is an error's if the daemon has failed, or the reactor ended out of order; else it is left alone."""
    ending, daemon, triggers = Ending(), Failing(), []

    class Triggers:
        def addSystemEventTrigger(self, phase: str, event: str, function: Callable[[], None]) -> None:
            assert (phase, event) == ("after", "shutdown")
            triggers.append(function)

    exit_code = ExitCode(ending)
    if runs:
        exit_code.watch(daemon, Triggers())  # type: ignore[arg-type]
    if stops:
        triggers[0]()
    daemon.failed = fails
    monkeypatch.setattr(sys, "__stdout__", None)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "__stderr__", closed)
    exit_code.at_exit()
    assert ending.codes == codes


@pytest.mark.usefixtures("signals", "hangups")
def test_few_arenas(monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library is told to have two arenas, where it knows what these are; elsewhere nothing is amiss."""
    told: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, option: int, value: int) -> int:
            told.append((option, value))
            return 1

    for library in (Library(), object()):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        app = App("a")
        make_daemon(app, Config(port=None, stop_timeout=NEVER), Reactor())
    assert told == [(-8, 2)]
