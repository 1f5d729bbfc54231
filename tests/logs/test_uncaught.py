"""Exceptions that nobody catches, in threads of the app's own and in finalizers."""

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.logger import LogEvent, LogLevel, formatEvent

from rpiserve.logs.uncaught import connect, disconnect


@pytest.fixture(autouse=True)
def _hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have the hooks as Python has them, and not as pytest does."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    yield
    disconnect()


def run(work: Any) -> None:
    """Run ``work`` in a thread of its own, to its end."""
    thread = threading.Thread(target=work, name="the pump's")
    thread.start()
    thread.join()


class Careless:
    """What fails at its end."""

    def __del__(self) -> None:
        raise ValueError("too late")


def test_in_a_thread(logged_failures: list[LogEvent]) -> None:
    """The thread is named, and the exception is there with its traceback, in one entry."""
    connect()
    run(lambda: 1 / 0)
    [event] = logged_failures
    assert (formatEvent(event), event["log_level"]) == ("the thread the pump's has ended", LogLevel.error)
    assert event["log_failure"].check(ZeroDivisionError)
    assert "test_uncaught.py" in event["log_failure"].getTraceback()
    logged_failures.clear()


def test_the_end_of_a_thread(logged_failures: list[LogEvent]) -> None:
    """A thread that ends itself by `SystemExit` is no failure."""
    connect()
    run(sys.exit)
    assert logged_failures == []


def test_in_a_finalizer(logged_failures: list[LogEvent]) -> None:
    """What was being ended is named."""
    connect()
    Careless()
    [event] = logged_failures
    assert "Careless.__del__" in str(formatEvent(event))
    assert event["log_failure"].check(ValueError)
    logged_failures.clear()


def test_hooks_of_somebody_elses() -> None:
    """A hook that the app has set stays."""
    seen: list[Any] = []
    threading.excepthook = sys.unraisablehook = seen.append
    connect()
    run(lambda: 1 / 0)
    Careless()
    disconnect()
    assert [each.exc_type for each in seen] == [ZeroDivisionError, ValueError]


def test_disconnected() -> None:
    """Afterwards all is as Python has it."""
    connect()
    assert threading.excepthook is not threading.__excepthook__
    disconnect()
    assert threading.excepthook is threading.__excepthook__
    assert sys.unraisablehook is sys.__unraisablehook__
