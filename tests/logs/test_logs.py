"""The log: its lines, which there are, where they go, and what never is in them."""

import errno
import io
import json
import os
import re
import stat
import syslog
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure

from rpiserve import logger as handler_logger
from rpiserve.errors import StartError
from rpiserve.logs.levels import LEVELS, Levels
from rpiserve.logs.lines import FORMATS, JOURNAL, JSON, MOST_BYTES, TEXT
from rpiserve.logs.observer import LogObserver
from rpiserve.logs.outputs import Output, Stream, Syslog, is_journal
from rpiserve.logs.rotating_file import RotatingFile, open_log

TOKEN = "rpi_" + "x" * 43
MORNING = 1795255575.25
"""A time, in seconds since the epoch."""


class Lines:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = 0
        self.full = False

    def write(self, data: bytes) -> None:
        if self.full:
            self.lost += data.count(b"\n")
        else:
            self.data += data

    @property
    def text(self) -> str:
        """All of it."""
        return self.data.decode()


def logged(format: str, event: LogEvent, *levels: str, known: tuple[str, ...] = ()) -> str:
    """Return what is written of ``event``."""
    lines = Lines()
    LogObserver(format, lines, Levels(levels), known)(event)
    return lines.text


def event_of(
    text: str, level: Any = LogLevel.info, namespace: str = "rpiserve.polling.poller", **more: Any
) -> LogEvent:
    """Return an event whose text is ``text``."""
    fields = {"log_level": level, "log_namespace": namespace, "log_time": MORNING, "log_format": "{text}"}
    return {**fields, "text": text, **more}


def failure_of(error: Exception) -> Failure:
    """Return a failure with a traceback."""
    try:
        raise error
    except Exception:  # noqa: BLE001 - it is the one above
        return Failure()


# --- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (LogLevel.debug, "DEBUG"),
        (LogLevel.info, "INFO "),
        (LogLevel.warn, "WARN "),
        (LogLevel.error, "ERROR"),
        (LogLevel.critical, "CRITI"),
    ],
)
def test_text(level: Any, name: str) -> None:
    """For people: the local time, the level, the namespace without what all of ours have, and the text."""
    line = logged(TEXT, event_of("it is warm", level), "debug")
    assert re.fullmatch(rf"2026-11-2\d \d\d:\d\d:15 {name} polling\.poller: it is warm\n", line)


def test_text_of_a_failure() -> None:
    """A traceback stands beneath, indented, and so does what else is of more than one line: no line can be forged."""
    forged = "one\n2026-11-21 10:06:15 INFO  web: forged\r\x1b[2J\u2028three"
    lines = logged(TEXT, event_of(forged, log_failure=failure_of(ValueError("no\nnumber")))).split("\n")
    assert lines[0].endswith("polling.poller: one")
    assert lines[1] == r"    2026-11-21 10:06:15 INFO  web: forged\r\x1b[2J\u2028three"
    assert lines[2] == "    Traceback (most recent call last):"
    assert lines[-2:] == ["    number", ""]
    assert all(line.startswith("    ") for line in lines[1:-1])


def test_json() -> None:
    """As JSON an event is one object on one line, with what can be asked for in fields of its own."""
    failure = failure_of(ValueError("no number"))
    event = event_of("é failed\nhere", LogLevel.error, name="basement/party", incident="ab12", log_failure=failure)
    line = logged(JSON, event)
    assert line.count("\n") == 1
    entry = json.loads(line)
    assert entry.pop("traceback").endswith("builtins.ValueError: no number")
    assert entry == {
        "time": "2026-11-21T10:06:15.250Z",
        "level": "error",
        "namespace": "rpiserve.polling.poller",
        "message": "é failed\nhere",
        "incident": "ab12",
        "handler": "basement/party",
    }
    assert ": " not in line.partition("traceback")[0].replace("Z", "")


def test_json_without_more() -> None:
    """What an event does not have is left out; the handler of a foreign event is not guessed."""
    assert set(json.loads(logged(JSON, event_of("a", name="b", namespace="treq")))) == {
        "time",
        "level",
        "namespace",
        "message",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [(LogLevel.debug, 7), (LogLevel.info, 6), (LogLevel.warn, 4), (LogLevel.error, 3), (LogLevel.critical, 2)],
)
def test_journal(level: Any, priority: int) -> None:
    """For journald each line begins with its priority: one without would count as information."""
    lines = logged(JOURNAL, event_of("one\n<0>two", level), "debug").splitlines()
    assert lines == [f"<{priority}>polling.poller: one", f"<{priority}>    <0>two"]


def test_what_handlers_log() -> None:
    """What a handler logs is data, whatever is in it: nothing acts as a format."""
    lines, published = Lines(), []
    handler_logger.info("{log_logger.__class__} %s {}")
    observer = LogObserver(JSON, lines, Levels())
    source = Logger(namespace="app", observer=observer)
    source.info("{text}", text="{log_logger.__init__.__globals__} %s {")
    assert json.loads(lines.text)["message"] == "{log_logger.__init__.__globals__} %s {"
    assert published == []


def test_events_in_the_old_style() -> None:
    """What comes by ``twisted.python.log`` is shown, too, with its traceback once."""
    failure = failure_of(ValueError("no number"))
    event = event_of(f"why\n{failure.getTraceback()}", LogLevel.critical, "log_legacy", log_failure=failure)
    line = logged(TEXT, event)
    assert line.count("Traceback") == 1
    assert " twisted: why\n" in line
    assert logged(TEXT, {"log_format": "no level, no time"}).endswith(" INFO  -: no level, no time\n")


def test_an_error_that_cannot_be_shown() -> None:
    """An event or an exception that cannot be shown is a line that says so, and no error in the log itself."""

    class Unshowable(Exception):
        def __str__(self) -> str:
            raise KeyError("mean")

    failure = failure_of(Unshowable())
    failure.getTraceback = lambda: 1 / 0  # type: ignore[method-assign, assignment]
    assert "the traceback cannot be shown: ZeroDivisionError" in logged(TEXT, event_of("a", log_failure=failure))
    assert "Unable to format event" in logged(JSON, {"log_format": "{a.b}", "a": 1, "log_time": 0.0})


@given(st.text(max_size=200), st.sampled_from(FORMATS))
def test_any_text_is_a_line(text: str, format: str) -> None:
    """Whatever the text: each line can be told from the next, a terminal has nothing to obey, and JSON can be read."""
    line = logged(format, event_of(text, namespace=text))
    first, *others = line.removesuffix("\n").split("\n")
    assert line.endswith("\n")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", line)
    if format == TEXT:
        assert all(other.startswith("    ") for other in others)
    elif format == JOURNAL:
        assert all(other.startswith("<6>    ") for other in others)
        assert first.startswith("<6>")
    else:
        assert not others
        assert json.loads(line)["level"] == "info"


@pytest.mark.parametrize(
    "text", ["x" * 10**6, "\n" * 10**6, "\x00" * 10**6, "€" * 10**6, '"' * 10**6, "\ud800" * 10**5]
)
def test_long_lines(text: str) -> None:
    """A line of JSON stays within its bounds whatever is in it, and both ends of a traceback are kept."""
    failure = failure_of(ValueError(f"{text} the end"))
    line = logged(JSON, event_of(f"the start{text}the end", log_failure=failure))
    assert len(line.encode()) <= MOST_BYTES
    entry = json.loads(line)
    assert entry["message"].startswith("the start")
    assert entry["message"].endswith("the end")
    assert entry["traceback"].startswith("Traceback")
    assert entry["traceback"].endswith("the end")
    assert "characters left out" in entry["message"]


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_no_secrets(format: str) -> None:
    """Secrets are taken out of texts, of tracebacks and of namespaces, and the passwords that we know of all."""
    failure = failure_of(ValueError(f"redis://me:geheim@pi.lan refuses {TOKEN}, and sesame"))
    event = event_of(f"Cookie: a=geheim; {TOKEN}\nsesame", log_failure=failure, namespace=f"a.{TOKEN}", incident=TOKEN)
    line = logged(format, event, known=("sesame", "other password"))
    assert "geheim" not in line
    assert "x" * 30 not in line
    assert "sesame" not in line
    assert "***" in line


@pytest.mark.parametrize("shift", range(0, 60, 7))
def test_no_secret_that_is_cut(shift: int) -> None:
    """A secret at the place where a long text is cut does not get through by halves."""
    text = "".join(f"rpi_{index:043d} " for index in range(3000))
    line = logged(JSON, event_of("." * shift + text))
    assert not re.search("rpi_[0-9]", line)


# --- levels ----------------------------------------------------------------------------------------------------------


def test_levels() -> None:
    """A level is that of all, or of a namespace and what is in it; the nearest counts, and of equals the last."""
    levels = Levels(["warn", "rpiserve.web=debug", "polling=error", "rpiserve.web.server=info", "basement/party=debug"])

    def lowest(namespace: str) -> str:
        names = ("debug", "info", "warn", "error", "critical")
        return next(name for name in names if levels.let_pass(event_of("", LEVELS[name], namespace)))

    assert lowest("anything") == lowest("rpiserve") == lowest("rpiserve.webs") == "warn"
    assert lowest("rpiserve.web") == lowest("rpiserve.web.endpoints.api") == "debug"
    assert lowest("rpiserve.web.server") == lowest("rpiserve.web.server.tls") == "info"
    assert lowest("rpiserve.polling.poller") == lowest("polling") == "error"
    assert lowest("basement/party") == "debug"
    assert levels.lowest is LogLevel.debug


def test_the_usual_level() -> None:
    """Unless it is asked for, nothing is logged that only helps to find an error."""
    assert not logged(TEXT, event_of("", LogLevel.debug))
    assert logged(TEXT, event_of("", LogLevel.info))
    assert Levels(["WARN"]).let_pass(event_of("", LogLevel.warn))
    assert not Levels(["Warning"]).let_pass(event_of("", LogLevel.info))
    assert not Levels(["twisted=warn"]).let_pass(event_of("", namespace="log_legacy"))
    assert Levels().lowest is Levels(["debug", "info", "web=error"]).lowest is LogLevel.info
    assert Levels(["error", "web=warn"]).lowest is LogLevel.warn


@pytest.mark.parametrize("setting", ["loud", "=debug", "rpiserve=", "rpiserve=loud", ""])
def test_wrong_levels(setting: str) -> None:
    """What is no level is refused, and it is said what there is."""
    with pytest.raises(ValueError, match=r"it is a level \(debug, info, warn, error, critical\), or NAMESPACE=LEVEL"):
        Levels([setting])


# --- where they go ---------------------------------------------------------------------------------------------------


def test_stream(tmp_path: Path) -> None:
    """On a stream lines are UTF-8, whatever it would encode itself, and come behind what is there."""
    file = tmp_path / "out"
    with file.open("w", encoding="latin-1") as stream:
        stream.write("before ")
        Stream(stream).write("°€\n".encode())
        assert file.read_text(encoding="utf-8") == "before °€\n"
    text = io.StringIO()
    Stream(text).write("°\n".encode())
    assert text.getvalue() == "°\n"


def test_a_stream_that_is_gone() -> None:
    """What nobody can read any more is no error: a daemon outlives its terminal."""
    closed = io.StringIO()
    closed.close()
    gone = Stream(closed)
    gone.write(b"a\n")
    assert gone.lost == 1
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    gone = Stream(stream)
    gone.write(b"a\nb\n")
    stream.close()
    assert gone.lost == 2


def test_a_signal_while_a_line_is_written(tmp_path: Path, open_file: "Open", monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal's handler logs, while its own thread writes a line, is a line as well: nothing waits for itself."""
    write, depth = os.write, 0

    def interrupted(file: int, data: bytes) -> int:
        nonlocal depth
        depth += 1
        if depth == 1:
            output.write(b"the signal\n")
        return write(file, data)

    monkeypatch.setattr(os, "write", interrupted)
    output: Output = open_file(limit=1000)
    output.write(b"the line\n")
    assert (tmp_path / "app.log").read_text() == "the signal\nthe line\n"
    with (tmp_path / "out").open("w") as stream:
        output, depth = Stream(stream), 0
        output.write(b"the line\n")
    assert (tmp_path / "out").read_text() == "the signal\nthe line\n"


@pytest.mark.parametrize("format", FORMATS)
def test_lines_that_are_lost(format: str) -> None:
    """When the log can be written again it says how many lines were lost; there and in the metrics, and once."""
    lines = Lines()
    observer = LogObserver(format, lines, Levels())

    def log(*texts: str) -> list[str]:
        lines.data = b""
        for text in texts:
            observer(event_of(text))
        return lines.text.splitlines()

    assert len(log("a")) == 1
    lines.full = True
    assert log("b", "c", "d") == []
    lines.full = False
    one, note = log("e")
    assert "e" in one
    assert "3 lines of the log before the one above were lost: they could not be written" in note
    assert len(log("f", "g")) == 2
    assert [(sample.labels, sample.value) for sample in observer.samples()] == [(("daemon",), 3)]


def test_a_note_that_is_lost() -> None:
    """If there was room for the line but not for the note, the next says how many it were."""
    lines = Lines()
    observer = LogObserver(TEXT, lines, Levels())
    lines.full = True
    observer(event_of("a"))
    lines.full = False
    write = lines.write

    def full_after_it(data: bytes) -> None:
        write(data)
        lines.full = True

    lines.write = full_after_it  # type: ignore[method-assign]
    observer(event_of("b"))
    lines.full, lines.write = False, write  # type: ignore[method-assign]
    observer(event_of("c"))
    assert "2 lines of the log" in lines.text
    assert [line.rpartition(": ")[2] for line in lines.text.splitlines()] == ["b", "c", "they could not be written"]


def short_of_room(monkeypatch: pytest.MonkeyPatch, room: int) -> list[int]:
    """Let `os.write` write to no file more than ``room`` bytes, which may be changed in the result."""
    write, left = os.write, [room]

    def limited(file: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "no room")
        done = write(file, bytes(data[: left[0]]))
        left[0] -= done
        return done

    monkeypatch.setattr(os, "write", limited)
    return left


def test_a_stream_to_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that was written by halves does not get into the next."""
    with (tmp_path / "out").open("w") as stream:
        output = Stream(stream)
        room = short_of_room(monkeypatch, 6)
        for line in (b"one\n", b"two\n", b"three\n"):
            output.write(line)
        assert output.lost == 2
        room[0] = 100
        output.write(b"four\n")
    assert (tmp_path / "out").read_text() == "one\ntw\nfour\n"
    assert output.lost == 2


def test_syslog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's log gets each line with its priority."""
    sent: list[tuple[int, str]] = []
    monkeypatch.setattr(syslog, "syslog", lambda priority, line: sent.append((priority, line)))
    monkeypatch.setattr(syslog, "openlog", lambda *arguments: sent.append((arguments[1], arguments[0])))
    LogObserver(JOURNAL, Syslog("garden"), Levels())(event_of("one\ntwo", LogLevel.warn))
    assert sent == [
        (syslog.LOG_PID, "garden"),
        (syslog.LOG_WARNING, "polling.poller: one"),
        (syslog.LOG_WARNING, "    two"),
    ]


def test_is_journal(tmp_path: Path) -> None:
    """Standard error is journald's if its device and inode are those that systemd has told."""
    with (tmp_path / "file").open("w") as file:
        status = os.fstat(file.fileno())
        told = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert is_journal(told, file.fileno())
        assert not is_journal({}, file.fileno())
        assert not is_journal({"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"}, file.fileno())
        assert not is_journal({"JOURNAL_STREAM": "nonsense"}, file.fileno())
    assert not is_journal(told, -1)


# --- files -----------------------------------------------------------------------------------------------------------

Open = Callable[..., RotatingFile]


@pytest.fixture
def open_file(tmp_path: Path) -> Any:
    """Return what opens the file ``app.log``."""
    files: list[RotatingFile] = []

    def opener(limit: int = 10, keep: int = 2, name: str = "app.log") -> RotatingFile:
        files.append(RotatingFile(tmp_path / name, limit, keep))
        return files[-1]

    yield opener
    for file in files:
        file.close()


def contents(directory: Path) -> dict[str, str]:
    """Return what is in the files of ``directory``."""
    return {file.name: file.read_text() for file in directory.iterdir() if file.is_file()}


def test_rotation(tmp_path: Path, open_file: Open) -> None:
    """A full file is put aside, older ones move on, and the oldest is deleted."""
    file = open_file()
    for letter in "abcde":
        file.write(f"{letter * 5}\n".encode())
    assert contents(tmp_path) == {"app.log": "eeeee\n", "app.log.1": "ddddd\n", "app.log.2": "ccccc\n"}
    assert file.lost == 0


def test_what_fits_stays_together(tmp_path: Path, open_file: Open) -> None:
    """A file is filled to its limit, and a piece that is larger than that gets a file of its own, whole."""
    file = open_file()
    for piece in (b"abcd\n", b"efgh\n", b"x" * 20 + b"\n", b"i\n"):
        file.write(piece)
    assert contents(tmp_path) == {"app.log": "i\n", "app.log.1": "x" * 20 + "\n", "app.log.2": "abcd\nefgh\n"}


def test_nothing_kept(tmp_path: Path, open_file: Open) -> None:
    """With no old ones to be kept the file begins anew."""
    file = open_file(keep=0)
    for letter in "abc":
        file.write(f"{letter * 5}\n".encode())
    assert contents(tmp_path) == {"app.log": "ccccc\n"}


def test_no_limit(tmp_path: Path, open_file: Open) -> None:
    """Without a limit the file is left to somebody else, and so is what stands beside it."""
    (tmp_path / "app.log.7").write_text("old")
    file = open_file(limit=0, keep=1)
    for letter in "abc":
        file.write(f"{letter * 50}\n".encode())
    assert len(contents(tmp_path)["app.log"]) == 153
    assert contents(tmp_path)["app.log.7"] == "old"


def test_what_is_there_counts(tmp_path: Path, open_file: Open) -> None:
    """A file that is there goes on, its size counts, and old ones beyond their number are deleted at once."""
    for number in ("1", "2", "3", "14"):
        (tmp_path / f"app.log.{number}").write_text(number)
    for name in ("app.log.x", "app.log.1.gz", "other.log.9", "app.log."):
        (tmp_path / name).write_text(name)
    (tmp_path / "app.log").write_text("before\n")
    file = open_file()
    assert sorted(contents(tmp_path)) == sorted(
        ["app.log", "app.log.1", "app.log.2", "app.log.x", "app.log.1.gz", "other.log.9", "app.log."]
    )
    file.write(b"after\n")
    assert (contents(tmp_path)["app.log"], contents(tmp_path)["app.log.1"]) == ("after\n", "before\n")


def test_the_mode_of_a_file(tmp_path: Path, open_file: Open) -> None:
    """A log is nothing for everybody."""
    open_file()
    assert (tmp_path / "app.log").stat().st_mode & 0o007 == 0


def test_reopen(tmp_path: Path, open_file: Open) -> None:
    """After somebody has moved the file away it goes on in a new one, as soon as it is told so and no sooner."""
    file = open_file(limit=100)
    file.write(b"one\n")
    (tmp_path / "app.log").rename(tmp_path / "moved")
    file.write(b"two\n")
    assert file.reopen()
    file.write(b"three\n")
    assert contents(tmp_path) == {"moved": "one\ntwo\n", "app.log": "three\n"}


def test_a_file_that_was_moved_is_not_rotated(tmp_path: Path, open_file: Open) -> None:
    """If the file has been moved away when it is full a new one is begun, and what was put aside stays in its place."""
    file = open_file()
    file.write(b"one-one\n")
    (tmp_path / "app.log").rename(tmp_path / "app.log.1")
    file.write(b"two-two\n")
    assert contents(tmp_path) == {"app.log.1": "one-one\n", "app.log": "two-two\n"}


def test_a_folder_that_is_gone(tmp_path: Path, open_file: Open) -> None:
    """If the file cannot be opened anew the old one stays in use."""
    folder = tmp_path / "folder"
    folder.mkdir()
    file = open_file(name="folder/app.log", limit=5)
    folder.rename(tmp_path / "elsewhere")
    assert not file.reopen()
    file.write(b"one\n")
    file.write(b"two\n")
    assert contents(tmp_path / "elsewhere") == {"app.log": "one\ntwo\n"}


def test_a_file_that_cannot_be_put_aside(tmp_path: Path, open_file: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be renamed the file is emptied: it does not grow for ever either."""

    def refuse(*arguments: object) -> None:
        raise PermissionError("no")

    file = open_file()
    file.write(b"one-one\n")
    monkeypatch.setattr(Path, "rename", refuse)
    file.write(b"two-two\n")
    assert contents(tmp_path) == {"app.log": "two-two\n"}


def test_a_full_disk(tmp_path: Path) -> None:
    """What there is no room for is counted, and the daemon goes on."""
    file = RotatingFile(Path("/dev/full"), 5, 1)
    file.write(b"one\n")
    file.write(b"two\nthree\n")
    file.close()
    file.write(b"four\n")
    assert file.lost == 4
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_not_rotated(tmp_path: Path, open_file: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room nothing is put aside, and no old file has to go for an empty one."""
    file = open_file(limit=10, keep=2)
    for letter in "abc":
        file.write(f"{letter * 5}\n".encode())
    room = short_of_room(monkeypatch, 0)
    for letter in "defghijk":
        file.write(f"{letter * 5}\n".encode())
    assert contents(tmp_path) == {"app.log": "", "app.log.1": "ccccc\n", "app.log.2": "bbbbb\n"}
    assert file.lost == 8
    room[0] = 100
    file.write(b"lllll\n")
    file.write(b"mmm\n")
    assert contents(tmp_path) == {"app.log": "lllll\nmmm\n", "app.log.1": "ccccc\n", "app.log.2": "bbbbb\n"}


def test_half_a_line(tmp_path: Path, open_file: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what was written by halves the whole lines stay, the half one is cut off, and what is lost is counted."""
    file = open_file(limit=1000)
    room = short_of_room(monkeypatch, 14)
    file.write(b"zero\none\ntwo\nthree\n")
    assert contents(tmp_path) == {"app.log": "zero\none\ntwo\n"}
    assert file.lost == 1
    room[0] = 3
    file.write(b"four\nfive\n")
    room[0] = 100
    file.write(b"six\n")
    assert contents(tmp_path) == {"app.log": "zero\none\ntwo\nsix\n"}
    assert file.lost == 3


def test_half_a_line_that_cannot_be_cut_off(tmp_path: Path, open_file: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """If somebody else writes to the file, too, nothing of that is cut off: the next line begins on one of its own."""
    file = open_file(limit=1000)
    room = short_of_room(monkeypatch, 3)
    written = os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        try:
            return written(descriptor, data)
        except OSError:
            with (tmp_path / "app.log").open("a") as other:
                other.write("other\n")
            raise

    monkeypatch.setattr(os, "write", interrupted)
    file.write(b"zero\n")
    monkeypatch.setattr(os, "write", written)
    file.write(b"one\n")
    assert file.reopen()
    room[0] = 100
    file.write(b"two\n")
    assert contents(tmp_path) == {"app.log": "zerother\n\ntwo\n"}
    assert file.lost == 2


def test_the_real_size_counts(tmp_path: Path, open_file: Open) -> None:
    """A file that somebody else has emptied has room again."""
    file = open_file(limit=10)
    file.write(b"one-one\n")
    os.truncate(tmp_path / "app.log", 0)
    file.write(b"two-two\n")
    assert contents(tmp_path) == {"app.log": "two-two\n"}


# --- what is no regular file -----------------------------------------------------------------------------------------


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A FIFO without a reader."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_a_fifo_without_a_reader(fifo: Path, tmp_path: Path) -> None:
    """Nobody waits for the reader of a FIFO: that there is none is an error, and said so."""
    link = tmp_path / "link"
    link.symlink_to(fifo)
    for path in (fifo, link):
        with pytest.raises(
            StartError, match=r"^--log-file: cannot write to .*: it is a FIFO, and nobody reads from it$"
        ):
            open_log("--log-file", path, 10, 1)


def test_a_fifo_that_nobody_reads(fifo: Path) -> None:
    """A reader that does not read keeps nobody waiting: what does not fit in is lost, and no line gets into another."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    file = RotatingFile(fifo, 10, 1)
    line = b"x" * 9999 + b"\n"
    while not file.lost:
        file.write(line)
    file.write(b"y\n" * 9999)
    lost = file.lost
    assert lost == 10_000
    data = os.read(reader, 1 << 20)
    file.write(b"z\n")
    *whole, half, last, end = (data + os.read(reader, 1 << 20)).split(b"\n")
    assert {*whole} == {line[:-1]}
    assert half == b"x" * len(half)
    assert (last, end, file.lost) == (b"z", b"", lost)
    os.close(reader)
    file.write(b"z\n")  # nobody is there any more
    assert file.lost == lost + 1
    assert not file.reopen()
    file.rotate()
    assert fifo.is_fifo()
    file.close()


def test_a_link(tmp_path: Path) -> None:
    """A link to a file stays in its place: what it leads to is put aside, in the folder where that is."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    link = tmp_path / "here" / "app.log"
    link.symlink_to("../there/real.log")
    file = RotatingFile(link, 5, 1)
    for line in (b"one\n", b"two\n", b"three\n"):
        file.write(line)
    link.unlink()
    link.symlink_to("../there/other.log")
    assert file.reopen()
    file.write(b"four\n")
    file.close()
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["app.log"]
    assert contents(tmp_path / "there") == {"real.log": "three\n", "real.log.1": "two\n", "other.log": "four\n"}


def test_standard_output_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where standard output is a file that is put aside; if it has been deleted it is emptied. The link stays."""
    with (tmp_path / "out").open("w") as stream:
        link = Path(f"/proc/self/fd/{stream.fileno()}")
        file = RotatingFile(link, 5, 1)
        file.write(b"one\n")
        file.write(b"two\n")
        file.close()
        assert contents(tmp_path) == {"out": "two\n", "out.1": "one\n"}
        (tmp_path / "out.1").unlink()
        moved: list[Path] = []
        monkeypatch.setattr(Path, "rename", lambda path, target: moved.append(path))
        file = RotatingFile(link, 5, 1)
        file.write(b"three\n")
        assert (link.read_text(), moved) == ("three\n", [])
        file.close()


@pytest.mark.parametrize("name", ["/dev/null", "/dev/full"])
def test_a_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device will do, and is never put aside."""
    moved: list[Path] = []
    monkeypatch.setattr(Path, "rename", lambda path, target: moved.append(path))
    file = RotatingFile(Path(name), 5, 1)
    for line in (b"one\n", b"two\n"):
        file.write(line)
    file.rotate()
    assert file.lost == (2 if name == "/dev/full" else 0)
    assert moved == []
    file.close()


def test_standard_output_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """What standard output stands for may be a pipe: it has a reader."""
    reading, writing = os.pipe()
    file = RotatingFile(Path(f"/proc/self/fd/{writing}"), 5, 1)
    file.write(b"one\n")
    assert os.get_blocking(writing)
    assert os.read(reading, 100) == b"one\n"
    file.close()
    for each in (reading, writing):
        os.close(each)


def test_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is neither a file nor a FIFO nor a device that takes lines is refused, and nothing stays open."""
    path = tmp_path / "app.log"
    path.write_text("")
    real, opened = os.fstat, []

    def as_a_disk(file: int) -> os.stat_result:
        opened.append(file)
        return os.stat_result((stat.S_IFBLK | 0o600, *real(file)[1:]))

    monkeypatch.setattr(os, "fstat", as_a_disk)
    with pytest.raises(OSError, match="neither a file nor a FIFO"):
        RotatingFile(path, 5, 1)
    monkeypatch.undo()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """That a file cannot be opened at all is known at once."""
    with pytest.raises(FileNotFoundError):
        RotatingFile(tmp_path / "gone" / "app.log", 5, 1)


def test_many_threads(tmp_path: Path, open_file: Open) -> None:
    """Lines of several threads never mix, and none is lost, while files are put aside."""
    file = open_file(limit=2000, keep=1000)
    publisher = LogPublisher(LogObserver(JSON, file, Levels()))

    def work(letter: str) -> None:
        for number in range(100):
            Logger(namespace=letter, observer=publisher).info("{text}", text=f"{letter * 50}{number}")

    threads = [threading.Thread(target=work, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = "".join(contents(tmp_path).values()).splitlines()
    assert sorted(json.loads(line)["message"] for line in lines) == sorted(
        f"{letter * 50}{number}" for letter in "abcd" for number in range(100)
    )
    assert max(len(text) for text in contents(tmp_path).values()) <= 2000
