"""The signals that a daemon takes, and the watchdog."""

import io
import os
import signal
import threading
from collections.abc import Iterator

import pytest
from process_doubles import LONG, NEVER, Ending, Reactor
from twisted.logger import LogEvent, formatEvent

from rpiserve.daemon import signals as signal_module
from rpiserve.daemon.signals import HangupHandler, Watchdog, ignore_hangup


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
    monkeypatch.setattr(signal_module, "lasting_threads", list)
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
    hangup = HangupHandler(lambda: done.append("reload"), watchdog)
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
