"""The process around the daemon: its signals, its watchdog, and how it says what ended it."""

import io
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent

from rpiserve import App, process
from rpiserve.config import Config
from rpiserve.errors import StartError
from rpiserve.process import Watchdog, make_daemon, one_line
from rpiserve.service import Daemon

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
def lasting_thread() -> Iterator[None]:
    """A thread that is no daemon."""
    enough = threading.Event()
    thread = threading.Thread(target=enough.wait, name="lasting")
    thread.start()
    yield
    enough.set()
    thread.join()


def test_watchdog_ends_the_process(stderr: io.StringIO) -> None:
    """When its time has passed it leaves a line that names what still runs, and ends the process with an error."""
    ending = Ending()
    Watchdog(0, lambda: ["garden/pump", "on_stop bye"], ending).arm()
    assert ending.wait() == [1]
    line = stderr.getvalue()
    assert line.startswith("rpiserve: not ended in time, so ended by force; still running: garden/pump, on_stop bye")
    assert line.count("\n") == 1


@pytest.mark.usefixtures("lasting_thread")
def test_watchdog_names_threads(stderr: io.StringIO) -> None:
    """A thread of the app's own, for which Python would wait, is named as well."""
    ending = Ending()
    Watchdog(0, list, ending).arm()
    ending.wait()
    assert "the thread lasting" in stderr.getvalue()


def test_watchdog_with_nothing_to_name(stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing of the app's runs the line says so."""
    monkeypatch.setattr(process, "_lasting_threads", list)
    ending = Ending()
    Watchdog(0, list, ending).arm()
    ending.wait()
    assert stderr.getvalue().endswith("still running: nothing of the app's\n")


@pytest.mark.usefixtures("stderr")
def test_watchdog_does_not_wait_for_its_line() -> None:
    """A standard error that hangs, or whatever else keeps the line from being written, does not hold it up."""
    ending, enough, others = Ending(), threading.Event(), threading.enumerate()

    def hang() -> list[str]:
        enough.wait()
        return []

    try:
        Watchdog(0, hang, ending).arm()
        assert ending.wait() == [1]
    finally:
        enough.set()
        for thread in threading.enumerate():
            if thread.name == "rpiserve-watchdog-line" and thread not in others:
                thread.join(LONG)


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
