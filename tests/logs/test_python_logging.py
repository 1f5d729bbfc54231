"""What Python's own `logging` is given stands in our log, and `logging` is afterwards as it was."""

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_pool import Bench
from twisted.logger import Logger, STDLibLogObserver, globalLogPublisher

from rpiserve.declare.handler import UserFunction
from rpiserve.logs.levels import Levels
from rpiserve.logs.lines import JSON
from rpiserve.logs.observer import LogObserver
from rpiserve.logs.python_logging import connect, disconnect

ROOT = logging.getLogger()
LIBRARY = logging.getLogger("some_library.part")


class Log:
    """A log, as long as it is connected."""

    def __init__(self) -> None:
        self._data = b""
        self.lost = 0

    def write(self, data: bytes) -> None:
        self._data += data

    def connect(self, *levels: str) -> None:
        """Have `logging` written to it."""
        connect(LogObserver(JSON, self, Levels(levels)))

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What it has so far, without the times."""
        entries = [json.loads(line) for line in self._data.splitlines()]
        return [{name: value for name, value in entry.items() if name != "time"} for entry in entries]

    @property
    def messages(self) -> list[str]:
        """Their texts."""
        return [entry["message"] for entry in self.entries]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """A log that is not connected yet. After the test `logging` is as it was."""
    level, handlers = ROOT.level, ROOT.handlers.copy()
    for handler in handlers:  # those of pytest raise what `logging` itself would pass over
        monkeypatch.setattr(handler, "handleError", lambda record: None)
    yield Log()
    disconnect()
    after = ROOT.level, ROOT.handlers.copy()
    ROOT.setLevel(level)
    ROOT.handlers[:] = handlers
    LIBRARY.setLevel(logging.NOTSET)
    assert after == (level, handlers)


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (1, "debug"),
        (logging.DEBUG, "debug"),
        (19, "debug"),
        (logging.INFO, "info"),
        (25, "info"),
        (logging.WARNING, "warn"),
        (logging.ERROR, "error"),
        (49, "error"),
        (logging.CRITICAL, "critical"),
        (99, "critical"),
    ],
)
def test_levels(level: int, name: str, log: Log) -> None:
    """Each level is the nearest of ours that is not above it; the namespace is the name of the logger."""
    log.connect("debug")
    LIBRARY.setLevel(1)
    LIBRARY.log(level, "it is %s", "warm")
    assert log.entries == [{"level": name, "namespace": "some_library.part", "message": "it is warm"}]


def test_the_time(log: Log) -> None:
    """The time is that of the record."""
    log.connect()
    record = logging.makeLogRecord({"name": "a", "levelno": logging.INFO, "msg": "b", "created": 1795255575.25})
    ROOT.handle(record)
    assert b'"2026-11-21T10:06:15.250Z"' in log._data


@pytest.mark.parametrize(
    ("message", "arguments", "text"),
    [
        ("{text} {0} {} %s {a.__class__}", (), "{text} {0} {} %s {a.__class__}"),
        ("%s is {text}", ("{0}",), "{0} is {text}"),
        ("%(a)s", ({"a": 1},), "1"),
        ("two\nlines", (), "two\nlines"),
        ("%d", ("many",), "%d ('many',)"),
        ("one", (1, 2), "one (1, 2)"),
        (ValueError("an object"), (), "an object"),
    ],
)
def test_text(message: object, arguments: tuple[object, ...], text: str, log: Log) -> None:
    """The text is formatted once, as `logging` does it; what does not fit together is shown side by side."""
    log.connect()
    LIBRARY.warning(message, *arguments)
    assert log.messages == [text]


def test_what_cannot_be_shown(log: Log) -> None:
    """A value that cannot be shown raises nothing where it is logged, and the line is there all the same."""

    class Unshowable:
        def __str__(self) -> str:
            raise KeyError("mean")

        __repr__ = __str__

    log.connect()
    LIBRARY.error(Unshowable())
    LIBRARY.error("a %s", Unshowable())
    assert len(log.messages) == 2
    assert log.messages[1].startswith("a %s <tuple instance")


def test_tracebacks(log: Log) -> None:
    """A traceback stands where those of all others do, and the stack where it is asked for."""
    log.connect()
    try:
        raise ValueError("no number")
    except ValueError:
        LIBRARY.exception("it failed")
    LIBRARY.error("it failed before", exc_info=OSError("no file"))
    LIBRARY.error("it did not fail", exc_info=True)
    LIBRARY.info("here", stack_info=True)
    first, before, none, here = log.entries
    assert first["message"] == "it failed"
    assert "in test_tracebacks" in first["traceback"]
    assert first["traceback"].endswith("ValueError: no number")
    assert before["traceback"].endswith("OSError: no file")
    assert "traceback" not in none
    assert here["message"].startswith("here\nStack (most recent call last):\n")


def test_in_a_handler(log: Log) -> None:
    """In a handler its name stands beside the text, as with the `logger` of ours; in another thread there is none."""
    log.connect()
    bench = Bench()
    bench.runner.start(UserFunction.declare("basement/party", lambda: LIBRARY.info("in a handler")))
    while bench.pool.jobs:
        bench.pool.end()
    thread = threading.Thread(target=LIBRARY.info, args=("in a thread",))
    thread.start()
    thread.join()
    inside, outside = log.entries
    assert (inside["handler"], inside["namespace"]) == ("basement/party", "some_library.part")
    assert "handler" not in outside


def test_what_is_logged(log: Log) -> None:
    """``--log-level`` decides what is logged, for all and for the parts."""
    log.connect("warn", "some_library=debug", "some_library.part.deeper=error")
    LIBRARY.debug("a detail")
    logging.getLogger("some_library.part.deeper").warning("a warning")
    logging.getLogger("other_library").info("other")
    ROOT.warning("the root's")
    assert log.messages == ["a detail", "the root's"]
    assert log.entries[1]["namespace"] == "root"


@pytest.mark.parametrize(
    ("root", "configured", "level"),
    [
        (logging.WARNING, "info", logging.INFO),
        (logging.WARNING, "critical", logging.WARNING),
        (logging.ERROR, "info", logging.INFO),
        (logging.DEBUG, "info", logging.DEBUG),
        (logging.NOTSET, "info", logging.NOTSET),
    ],
)
def test_the_level_of_the_root_logger(root: int, configured: str, level: int, log: Log) -> None:
    """What nobody would see is not even made; a lower level, for another handler of the app's, stays."""
    before = ROOT.level
    ROOT.setLevel(root)
    log.connect(configured)
    connected = ROOT.level
    disconnect()
    after = ROOT.level
    ROOT.setLevel(before)
    assert (connected, after) == (level, root)


def test_a_logger_with_a_level_of_its_own(log: Log) -> None:
    """What the app has set for a logger holds."""
    log.connect("debug")
    LIBRARY.setLevel(logging.ERROR)
    LIBRARY.warning("a warning")
    LIBRARY.error("an error")
    assert log.messages == ["an error"]


def test_handlers_of_the_app(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the app has had shown on the terminal is in the log alone, until the end; what goes elsewhere stays."""
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    on_terminal, in_file = logging.StreamHandler(), logging.FileHandler(tmp_path / "own.log")
    ROOT.addHandler(on_terminal)
    ROOT.addHandler(in_file)
    log.connect()
    LIBRARY.warning("one")
    logging.basicConfig()
    LIBRARY.warning("two")
    disconnect()
    LIBRARY.warning("three")
    ROOT.removeHandler(on_terminal)
    ROOT.removeHandler(in_file)
    in_file.close()
    assert log.messages == ["one", "two"]
    assert terminal.getvalue() == "three\n"
    assert (tmp_path / "own.log").read_text() == "one\ntwo\nthree\n"


def test_connected_again(log: Log) -> None:
    """A second log takes the place of the first: nothing is logged twice, and `logging` is as it was after that."""
    first = Log()
    first.connect("debug")
    log.connect()
    LIBRARY.info("one")
    assert (first.messages, log.messages) == ([], ["one"])


def test_nothing_goes_round(log: Log) -> None:
    """If an app has Twisted's events handed to `logging`, each comes to the log once from there, and that is all."""
    observer = STDLibLogObserver()
    globalLogPublisher.addObserver(observer)
    try:
        log.connect()
        Logger(namespace="a").info("{text}", text="by Twisted")
        LIBRARY.info("by Python")
    finally:
        globalLogPublisher.removeObserver(observer)
    assert log.messages == ["by Twisted", "by Python"]


def test_warnings_in_python_logging(log: Log) -> None:
    """An app that has warnings handed to `logging` finds them in the log."""
    log.connect()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            warnings.warn("it is old", DeprecationWarning, stacklevel=1)
        finally:
            logging.captureWarnings(False)
    [entry] = log.entries
    assert (entry["namespace"], entry["level"]) == ("py.warnings", "warn")
    assert "DeprecationWarning: it is old" in entry["message"]
