"""The process around the daemon: its signals, its watchdog, and how it says what ended it."""

import ctypes
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, capturedLogs, formatEvent

from rpiserve import App
from rpiserve.daemon import process
from rpiserve.daemon.config import Config
from rpiserve.daemon.process import (
    ExitCode,
    Hangup,
    Watchdog,
    ignore_hangup,
    make_daemon,
    make_log,
    one_line,
    run_foreground,
)
from rpiserve.daemon.service import Daemon
from rpiserve.errors import StartError
from rpiserve.logs import python_logging, uncaught
from rpiserve.logs.rotating_file import RotatingFile
from rpiserve.messaging.address import RedisAddress

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


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is written to the standard error that the process was started with."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    return stream


@pytest.fixture
def last_words(stderr: io.StringIO, logged_failures: list[LogEvent]) -> Iterator[io.StringIO]:
    """What the watchdog writes to standard error. The log has the same in the end."""
    others = threading.enumerate()
    yield stderr
    for thread in threading.enumerate():
        if thread.name == "rpiserve-watchdog-line" and thread not in others:
            thread.join(LONG)
    assert [f"rpiserve: {formatEvent(event)}" for event in logged_failures] == stderr.getvalue().splitlines()
    logged_failures.clear()


@pytest.fixture
def lasting_thread() -> Iterator[None]:
    """A thread that is no daemon."""
    enough = threading.Event()
    thread = threading.Thread(target=enough.wait, name="lasting")
    thread.start()
    yield
    enough.set()
    thread.join()


def test_watchdog_ends_the_process(last_words: io.StringIO) -> None:
    """When its time has passed it leaves a line that names what still runs, and ends the process with an error."""
    ending = Ending()
    Watchdog(0, lambda: ["garden/pump", "on_stop bye"], ending).arm()
    assert ending.wait() == [1]
    line = last_words.getvalue()
    assert line.startswith("rpiserve: not ended in time, so ended by force; still running: garden/pump, on_stop bye")
    assert line.count("\n") == 1


@pytest.mark.usefixtures("lasting_thread")
def test_watchdog_names_threads(last_words: io.StringIO) -> None:
    """A thread of the app's own, for which Python would wait, is named as well."""
    ending = Ending()
    Watchdog(0, list, ending).arm()
    ending.wait()
    assert "the thread lasting" in last_words.getvalue()


def test_watchdog_with_nothing_to_name(last_words: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing of the app's runs the line says so."""
    monkeypatch.setattr(process, "_lasting_threads", list)
    ending = Ending()
    Watchdog(0, list, ending).arm()
    ending.wait()
    assert last_words.getvalue().endswith("still running: nothing of the app's\n")


@pytest.mark.usefixtures("last_words")
def test_watchdog_does_not_wait_for_its_line() -> None:
    """A standard error that hangs, or whatever else keeps the line from being written, does not hold it up."""
    ending, enough = Ending(), threading.Event()

    def hang() -> list[str]:
        enough.wait()
        return []

    try:
        Watchdog(0, hang, ending).arm()
        assert ending.wait() == [1]
    finally:
        enough.set()


@pytest.mark.usefixtures("stderr")
def test_watchdog_counts_once() -> None:
    """Armed again it goes on counting as before."""
    ending = Ending()
    before = threading.active_count()
    watchdog = Watchdog(NEVER, list, ending)
    watchdog.arm()
    threads = threading.active_count()
    watchdog.arm()
    assert (threading.active_count() - threads, ending.codes) == (0, [])
    assert threads > before


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


@pytest.fixture
def signals() -> Iterator[None]:
    """Put the handlers of the signals back after the test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Leave Python's `logging` to the tests, whatever daemon was made."""
    yield
    python_logging.disconnect()
    uncaught.disconnect()


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number: signal.Signals) -> None:
    """The first signal stops the reactor, even if that does not run yet; the second ends the process at once."""
    ending, reactor = Ending(), Reactor()
    Watchdog(NEVER, list, ending).take_signals(reactor)
    signal.raise_signal(number)
    assert (reactor.signals, ending.codes) == ([number], [])
    signal.raise_signal(number)
    assert ending.codes == [128 + number]


@pytest.mark.usefixtures("signals")
def test_any_second_signal() -> None:
    """The second signal need not be the same as the first."""
    ending, reactor = Ending(), Reactor()
    Watchdog(NEVER, list, ending).take_signals(reactor)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert ending.codes == [128 + signal.SIGINT]


@pytest.mark.usefixtures("signals")
def test_sigterm_is_taken_back() -> None:
    """Twisted takes SIGTERM for itself when the reactor begins; after that it is taken again, SIGINT as it was."""
    reactor, ending = Reactor(), Ending()
    watchdog = Watchdog(NEVER, list, ending)
    watchdog.take_signals(reactor)
    signal.signal(signal.SIGTERM, reactor.sigTerm)
    watchdog.take_signals(reactor)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert ending.codes == [128 + signal.SIGTERM]


@pytest.mark.usefixtures("signals")
def test_an_ignored_sigint_stays_ignored() -> None:
    """A SIGINT that a shell has had ignored, for a job in its background, starts no watchdog either."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reactor = Reactor()
    Watchdog(NEVER, list, Ending()).take_signals(reactor)
    signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert reactor.signals == []


@pytest.mark.usefixtures("signals")
def test_make_daemon() -> None:
    """The process is made ready: the reactor's clock is one that no change of the date moves, and signals are taken."""
    app, reactor = App("a"), Reactor()
    daemon = make_daemon("a", app, app.tree, app.link, 1, Config(port=None, stop_timeout=NEVER), reactor)
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
    monkeypatch.setattr(process, "_lasting_threads", list)
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


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RotatingFile]]:
    """Where the files of logs go that a test opens, to be closed again; it is the current directory."""
    monkeypatch.chdir(tmp_path)
    opened: list[RotatingFile] = []
    yield opened
    for file in opened:
        file.close()


def log_of(files: list[RotatingFile], twistd: dict[str, Any] | None = None, **options: Any) -> tuple[Any, str | None]:
    """Return what writes the log, and the name of its file."""
    observer, file = make_log(Config(**options), twistd)
    if file is None:
        return observer, None
    files.append(file)
    return observer, file.path.name


HERE = {"nodaemon": 1, "logfile": None, "syslog": 0, "logger": None, "prefix": "twisted"}
AWAY = HERE | {"nodaemon": 0}


@pytest.mark.parametrize(
    ("twistd", "option", "name"),
    [
        (None, None, None),
        (None, "a.log", "a.log"),
        (HERE, None, None),
        (HERE | {"logfile": "-"}, None, None),
        (HERE | {"logfile": "t.log"}, None, "t.log"),
        (HERE | {"logfile": "t.log"}, "a.log", "a.log"),
        (AWAY, None, "twistd.log"),
        (AWAY | {"logfile": "t.log"}, None, "t.log"),
        (AWAY, "a.log", "a.log"),
        (AWAY | {"logfile": "-"}, "a.log", "a.log"),
        (AWAY | {"syslog": 1}, None, None),
        (AWAY | {"syslog": 1}, "a.log", "a.log"),
    ],
)
def test_where_the_log_goes(
    twistd: dict[str, Any] | None, option: str | None, name: str | None, files: list[RotatingFile], tmp_path: Path
) -> None:
    """Our own option goes before twistd's, and its before standard output, which the background has not."""
    observer, found = log_of(files, twistd, log_file=None if option is None else Path(option))
    assert found == name
    assert observer is not None
    assert [path.name for path in tmp_path.iterdir()] == ([] if name is None else [name])


def test_a_logger_of_the_users_own(files: list[RotatingFile], tmp_path: Path) -> None:
    """With twistd's ``--logger`` the log is somebody else's."""
    assert log_of(files, AWAY | {"logger": str}, log_file=Path("a.log")) == (None, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("files")
def test_logs_that_cannot_be() -> None:
    """A log that cannot be written is a failure to start."""
    with pytest.raises(StartError, match=r"--log-file: cannot write to gone/a\.log: No such file or directory"):
        make_log(Config(log_file=Path("gone/a.log")), HERE)
    with pytest.raises(StartError, match=r"--logfile: cannot write to \.: Is a directory"):
        make_log(Config(), AWAY | {"logfile": "."})
    with pytest.raises(StartError, match="cannot log to standard output"):
        make_log(Config(), AWAY | {"logfile": "-"})


@pytest.mark.parametrize("how", ["environment", "file", "no file"])
def test_passwords_that_are_known(how: str, files: list[RotatingFile], tmp_path: Path) -> None:
    """The password for Redis is hidden wherever it stands, be it from the URL or from a file."""
    password = "no-secret-by-its-looks"
    (tmp_path / "password").write_text(f"{password}\n")
    options: dict[str, Any] = {"redis": RedisAddress.parse("redis://localhost")}
    if how == "environment":
        options = {"redis": RedisAddress.parse(f"redis://:{password}@localhost")}
    else:
        options["redis_password_file"] = tmp_path / ("password" if how == "file" else "gone")
    observer, _ = log_of(files, None, log_file=Path("a.log"), **options)
    observer({"log_format": "{text}", "text": f"AUTH {password}"})
    assert (password in (tmp_path / "a.log").read_text()) == (how == "no file")


def test_journal_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: list[RotatingFile]) -> None:
    """If standard error is journald's the log goes there with priorities, unless another format is asked for."""
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "__stderr__", stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        observer, _ = log_of(files, HERE)
        observer({"log_format": "one"})
        observer, _ = log_of(files, HERE, log_format="json")
        observer({"log_format": "two"})
    assert (tmp_path / "stderr").read_text() == "<6>-: one\n"


def connected() -> bool:
    """Tell whether Python's `logging` is connected to our log."""
    return any(isinstance(handler, python_logging.PythonLogging) for handler in logging.getLogger().handlers)


@pytest.mark.usefixtures("signals", "hangups")
def test_python_logging(tmp_path: Path) -> None:
    """What Python's `logging` is given is in the log from the making of the daemon to the end of the reactor."""
    app, reactor = App("a"), Reactor()
    config = Config(port=None, stop_timeout=NEVER, log_file=tmp_path / "a.log", log_level=("warn",))
    make_daemon("a", app, app.tree, app.link, 1, config, reactor, AWAY)
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
    make_daemon("a", app, app.tree, app.link, 1, Config(port=None), reactor, HERE | {"logger": str})
    assert not connected()


@pytest.mark.usefixtures("signals", "hangups")
def test_python_logging_after_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that outlives a daemon which could not start has its `logging` back."""
    app, reactor = App("a"), Reactor()
    daemon = make_daemon("a", app, app.tree, app.link, 1, Config(port=None, stop_timeout=NEVER), reactor)
    assert connected()

    def fail() -> None:
        raise StartError("the port is taken")

    monkeypatch.setattr(daemon, "privilegedStartService", fail)
    monkeypatch.setattr(process.globalLogBeginner, "beginLoggingTo", lambda observers, redirectStandardIO: None)
    with pytest.raises(StartError, match="the port is taken"):
        run_foreground(daemon, reactor)
    assert not connected()


# --- SIGHUP ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hangups() -> Iterator[None]:
    """Put the handlers of the signals back after the test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("hangups")
@pytest.mark.parametrize(
    ("ignored", "terminal", "left", "does"),
    [
        (False, False, False, "reload"),
        (False, True, True, "reload"),
        (False, True, False, "end"),
        (True, True, False, "reload"),
    ],
)
def test_hangup(ignored: bool, terminal: bool, left: bool, does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP means to read anew; only if there was a terminal, which is gone, and not under nohup, it means the end."""
    done: list[str] = []
    ending = Ending()
    watchdog = Watchdog(NEVER, list, ending)
    signal.signal(signal.SIGTERM, lambda number, frame: done.append("end"))
    if ignored:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    hangup = Hangup(lambda: done.append("reload"), watchdog)
    signal.raise_signal(signal.SIGHUP)
    assert done == ["reload"]
    monkeypatch.setattr(os, "isatty", lambda file: terminal)
    hangup.find_terminal()
    monkeypatch.setattr(os, "isatty", lambda file: left)
    signal.raise_signal(signal.SIGHUP)
    assert done == ["reload", does]
    if does == "end":
        watchdog.arm()
        signal.raise_signal(signal.SIGHUP)
        assert (done, ending.codes) == (["reload", "end"], [])


@pytest.mark.usefixtures("hangups")
def test_an_early_hangup() -> None:
    """Before there is anything to be read anew SIGHUP does nothing; one that is ignored stays so."""
    ignore_hangup()
    signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # which what the app starts would inherit
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ignore_hangup()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.usefixtures("signals", "hangups")
def test_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[RotatingFile]) -> None:
    """A reload opens the log anew, and says if that cannot be done; while the daemon stops there is none."""
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    folder = tmp_path / "logs"
    folder.mkdir()
    app, reactor, events = App("a"), Reactor(), []
    config = Config(port=None, stop_timeout=NEVER, log_file=folder / "a.log")
    daemon = make_daemon("a", app, app.tree, app.link, 1, config, reactor, HERE)
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
        make_daemon("a", app, app.tree, app.link, 1, Config(port=None, stop_timeout=NEVER), Reactor())
    assert told == [(-8, 2)]
