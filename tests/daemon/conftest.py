"""What the tests of a daemon's process need: standard error, threads, signals and log files, put back after each."""

import io
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rpiserve.logs import python_logging, uncaught
from rpiserve.logs.rotating_file import RotatingFile


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


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RotatingFile]]:
    """Where the files of logs go that a test opens, to be closed again; it is the current directory."""
    monkeypatch.chdir(tmp_path)
    opened: list[RotatingFile] = []
    yield opened
    for file in opened:
        file.close()


@pytest.fixture
def hangups() -> Iterator[None]:
    """Put the handlers of the signals back after the test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
