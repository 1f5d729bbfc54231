"""What every test is held to: it leaves no problems behind.

A test fails if, by its end and that of its fixtures,

- an error or a failure was logged that it did not expect,
- a Deferred was left with an error that nobody handled (garbage is collected first, as that is when Twisted says so),
- a delayed call of the real reactor is left,
- a thread died of an exception, or a coroutine was never awaited.

A test that provokes a logged error says so: it asks for the fixture `logged_failures`, looks at what is in it, and
takes it out. What is left in the list at the end is unexpected::

    def test_division(logged_failures: list[LogEvent]) -> None:
        run_what_divides_by_zero()
        [event] = logged_failures
        assert event["log_failure"].check(ZeroDivisionError)
        logged_failures.clear()
"""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from coverage.config import CoverageConfig
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher


def pytest_configure(config: pytest.Config) -> None:
    """Turn into errors what Python can only warn of, because it comes up where nobody could catch an exception."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script; processes inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for warning in (
        "error::pytest.PytestUnhandledThreadExceptionWarning",
        "error::pytest.PytestUnraisableExceptionWarning",
        "error:coroutine .* was never awaited:RuntimeWarning",
    ):
        config.addinivalue_line("filterwarnings", warning)
    config.addinivalue_line("markers", "reactor: runs on the real reactor, by pytest-twisted; set for whole files")
    # What coverage hands on to the processes that tests start: those have threads, and no greenlets. But to those that
    # run tests for this one it is handed on as it is.
    handed_on = os.environ.get("COVERAGE_PROCESS_CONFIG")
    hands_out = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if handed_on and not hands_out:
        settings = CoverageConfig.deserialize(handed_on)
        settings.concurrency = ["thread"]
        os.environ["COVERAGE_PROCESS_CONFIG"] = settings.serialize()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of each file that imports pytest-twisted: coverage has to follow greenlets there."""
    for item in items:
        if isinstance(item, pytest.Function) and hasattr(item.module, "pytest_twisted"):
            item.add_marker("reactor")


def _collect_garbage() -> None:
    """Collect what a test has left. What survives is put out of sight, or each test would look through all of it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def logged_failures() -> Iterator[list[LogEvent]]:
    """The error events logged since the test began. Those that the test expects it takes out."""
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event or event.get("log_level", LogLevel.info) >= LogLevel.error:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


@pytest.fixture(autouse=True)
def _leaves_no_trouble(logged_failures: list[LogEvent]) -> Iterator[None]:
    """Fail the test for what it leaves behind. Being the first of its fixtures, this one ends last."""
    yield
    left = _cancel_delayed_calls()
    _collect_garbage()
    problems = [f"logged: {_described(event)}" for event in logged_failures]
    problems += [f"a delayed call is left: {call}" for call in left]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def _cancel_delayed_calls() -> list[str]:
    """Cancel what is left on the real reactor, if one is installed, and return what it was."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None or not reactor.getDelayedCalls():
        return []
    for _ in range(2):  # what is due already may still run, as may what that leads to
        if reactor.running:
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            pytest_twisted.blockon(turn)
        else:
            reactor.runUntilCurrent()
    left = reactor.getDelayedCalls()
    for call in left:
        call.cancel()
    return [str(call) for call in left]


def _described(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return formatEvent(event) + ("" if failure is None else f"\n{failure.getTraceback()}")
