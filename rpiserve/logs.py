"""The log: what a line of it looks like, which lines there are, and where they go.

A line is for a person, or an object of JSON, or for journald. Whatever it is, secrets are taken out of it, and nothing
that somebody else has written can end it and begin another.
"""

import io
import os
import re
import stat
import syslog
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import attrs
from twisted.logger import ILogObserver, LogEvent, LogLevel, LogLevelFilterPredicate, formatEvent
from twisted.python.failure import Failure
from zope.interface import implementer

from rpiserve import codec
from rpiserve.redaction import LONGEST_SECRET, redact

TEXT: Final = "text"
JSON: Final = "json"
JOURNAL: Final = "journal"
FORMATS: Final = (TEXT, JSON, JOURNAL)

PACKAGE: Final = "rpiserve."
"""What our own namespaces begin with: it is left out for people."""

TWISTED: Final = "twisted"

LEVELS: Final[dict[str, Any]] = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "warning": LogLevel.warn,
    "error": LogLevel.error,
    "critical": LogLevel.critical,
}

MOST_TEXT: Final = 8_000
MOST_TRACEBACK: Final = 24_000
"""How long they may be, in characters. What is left out is in the middle: the ends say most."""

MOST_BYTES: Final = 1 << 16
"""How long a line of JSON is at most."""

_PRIORITIES: Final = {
    LogLevel.debug: syslog.LOG_DEBUG,
    LogLevel.info: syslog.LOG_INFO,
    LogLevel.warn: syslog.LOG_WARNING,
    LogLevel.error: syslog.LOG_ERR,
    LogLevel.critical: syslog.LOG_CRIT,
}

# What a terminal would obey, and what may begin a new line, except for the line feed.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Levels:
    """Which events are logged.

    Args:
        settings: each a level, or a namespace with that of all in it, as ``rpiserve.messaging=debug``. Our own may do
            without ``rpiserve.``, as they stand in the log. Of several for the same, the last counts.

    Raises:
        ValueError: one is neither.
    """

    def __init__(self, settings: Iterable[str] = ()) -> None:
        self._predicate = LogLevelFilterPredicate()
        for setting in settings:
            namespace, sign, name = setting.rpartition("=")
            level = LEVELS.get(name.strip().lower())
            if level is None or (sign and not namespace.strip()):
                names = ", ".join(name for name in LEVELS if name != "warning")
                raise ValueError(f"it is a level ({names}), or NAMESPACE=LEVEL")
            self._set(namespace.strip(), level)

    def _set(self, namespace: str, level: Any) -> None:
        self._predicate.setLogLevelForNamespace(namespace, level)
        if namespace and not f"{namespace}.".startswith(PACKAGE):
            self._predicate.setLogLevelForNamespace(PACKAGE + namespace, level)

    def let_pass(self, event: LogEvent) -> bool:
        """Tell whether ``event`` is logged."""
        return bool(_level_of(event) >= self._predicate.logLevelForNamespace(_namespace_of(event)))


def _level_of(event: LogEvent) -> Any:
    return event.get("log_level") or LogLevel.info


def _namespace_of(event: LogEvent) -> str:
    namespace = str(event.get("log_namespace") or "")
    return f"{TWISTED}.legacy" if namespace == "log_legacy" else namespace  # what comes by twisted.python.log


# --- what is in an event ---------------------------------------------------------------------------------------------


def _shown(text: str, most: int, known: Iterable[str]) -> str:
    """Return ``text`` without what is secret, or obeyed by terminals, and not too long."""
    if len(text) <= most + 2 * LONGEST_SECRET:
        text = _cut(redact(text, known), most)
    else:
        # A secret that is cut in two is not recognised: both ends are looked at with so much of the middle that all of
        # one would have been there, and that much is left out again after that.
        head, tail = text[: most // 3 + LONGEST_SECRET], text[most // 3 - most - LONGEST_SECRET :]
        left_out = f" … {len(text) - most} characters left out … "
        text = redact(head, known)[:-LONGEST_SECRET] + left_out + redact(tail, known)[LONGEST_SECRET:]
    text = text.encode("utf-8", "backslashreplace").decode()
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head = most // 3
    return f"{text[:head]} … {len(text) - most} characters left out … {text[head - most :]}"


@attrs.frozen
class Entry:
    """What there is to write of an event.

    Attributes:
        time: seconds since the epoch.
        level: its name.
        priority: the same as syslog has it.
        namespace: where it is from.
        message: its text.
        traceback: that of the failure it is of, or empty.
        fields: the ``incident`` and the ``handler`` that it is of, if it is.
    """

    time: float
    level: str
    priority: int
    namespace: str
    message: str
    traceback: str
    fields: dict[str, str]

    @classmethod
    def of(cls, event: LogEvent, known: Iterable[str] = ()) -> "Entry":
        """Return what there is to write of ``event``, without ``known`` secrets and those that can be recognised."""
        level, namespace = _level_of(event), _namespace_of(event)
        message, traceback = formatEvent(event), _traceback_of(event)
        if traceback and traceback.strip() in message:  # of events in the old style it is a part of the message
            traceback = ""
        fields = {"incident": event.get("incident"), "handler": event.get("handler")}
        if namespace.startswith(PACKAGE):
            fields["handler"] = fields["handler"] or event.get("name")
        return cls(
            time=event.get("log_time") or 0.0,
            level=level.name,
            priority=_PRIORITIES.get(level, syslog.LOG_INFO),
            namespace=_shown(namespace, 200, known).replace("\n", "\\n") or "-",
            message=_shown(message.rstrip("\n"), MOST_TEXT, known),
            traceback=_shown(traceback.rstrip("\n"), MOST_TRACEBACK, known),
            fields={name: _shown(value, 200, known) for name, value in fields.items() if isinstance(value, str)},
        )

    @property
    def short_namespace(self) -> str:
        """The namespace for people. Where in Twisted a line of its own comes from is of no use to them."""
        return TWISTED if self.namespace.startswith(f"{TWISTED}.") else self.namespace.removeprefix(PACKAGE)

    @property
    def text(self) -> str:
        """The message and the traceback, on as many lines as they need, all but the first of them indented."""
        lines = self.message.split("\n") + (self.traceback.split("\n") if self.traceback else [])
        return "\n    ".join(lines)


def _traceback_of(event: LogEvent) -> str:
    failure = event.get("log_failure")
    try:
        return failure.getTraceback() if isinstance(failure, Failure) else ""
    except Exception as error:  # noqa: BLE001 - an exception's own __str__ may raise anything, and to log must never fail
        return f"(the traceback cannot be shown: {type(error).__name__})"


def text_line(entry: Entry) -> str:
    """Return ``entry`` for people; lines that belong to it are indented."""
    when = datetime.fromtimestamp(entry.time).strftime("%Y-%m-%d %H:%M:%S")
    return f"{when} {entry.level.upper():<5.5} {entry.short_namespace}: {entry.text}\n"


def json_line(entry: Entry) -> str:
    """Return ``entry`` as an object of JSON on one line, of at most `MOST_BYTES`."""
    whole: dict[str, Any] = {
        "time": codec.timestamp(entry.time),
        "level": entry.level,
        "namespace": entry.namespace,
        "message": entry.message,
        **entry.fields,
    }
    if entry.traceback:
        whole["traceback"] = entry.traceback
    line = codec.encode(whole)
    most = MOST_TRACEBACK
    while len(line) >= MOST_BYTES:  # there are characters that take six bytes
        most //= 2
        line = codec.encode({name: _cut(text, most) for name, text in whole.items()})
    return line.decode() + "\n"


def journal_lines(entry: Entry) -> str:
    """Return ``entry`` as journald has it from standard error: each line with its priority (see sd-daemon(3))."""
    lines = f"{entry.short_namespace}: {entry.text}".split("\n")
    return "".join(f"<{entry.priority}>{line}\n" for line in lines)


LINES: Final[dict[str, Callable[[Entry], str]]] = {TEXT: text_line, JSON: json_line, JOURNAL: journal_lines}


# --- where the lines go ----------------------------------------------------------------------------------------------


class Output(Protocol):
    """Where lines go."""

    def write(self, data: bytes) -> None:
        """Write one or more whole lines, from any thread. Never raises."""
        ...


class Stream:
    """Standard output or standard error.

    Args:
        stream: one of them.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        # A signal is logged, too, and it may come while this very thread writes a line. For the same reason no buffer
        # of Python's is written to: those refuse that.
        self._lock = threading.RLock()

    def write(self, data: bytes) -> None:
        """Write ``data``; if nobody can read it any more it is lost."""
        with self._lock:
            try:
                with suppress(RuntimeError):
                    self._stream.flush()  # or what others have written would come behind it
                try:
                    file = self._stream.fileno()
                except io.UnsupportedOperation:  # it stands in for the real one
                    self._stream.write(data.decode())
                else:
                    _write_all(file, data)
            except (OSError, ValueError):  # a terminal that is gone, a pipe without a reader, a file that is closed
                pass


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


class Syslog:
    """The system's own log, which needs lines as journald has them.

    Args:
        name: what we are called there.
    """

    def __init__(self, name: str) -> None:
        syslog.openlog(name, syslog.LOG_PID, syslog.LOG_DAEMON)

    def write(self, data: bytes) -> None:
        """Hand over ``data``, each line with the priority that stands before it."""
        for line in data.decode().splitlines():
            syslog.syslog(int(line[1]), line[3:])


class RotatingFile:
    """A file that does not grow for ever.

    When it is full, ``FILE`` becomes ``FILE.1``, that ``FILE.2``, and so on; the oldest is deleted. If that cannot be
    done, because the folder is not ours, the file is emptied: a full disk would be worse.

    Args:
        path: the file.
        limit: how large it may grow, in bytes; 0 for no limit, which leaves that to somebody else.
        keep: how many old ones are kept.

    Attributes:
        lost: how many pieces could not be written.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, limit: int, keep: int) -> None:
        self.path = Path(os.path.abspath(path))  # for a daemon changes its directory
        self.lost = 0
        self._limit = limit
        self._keep = keep
        self._lock = threading.RLock()  # see `Stream`
        self._file, self._size = self._open()
        if self._rotates():
            self._delete_surplus()

    def _open(self) -> tuple[int, int]:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return file, os.fstat(file).st_size

    def _rotates(self) -> bool:
        return bool(self._limit) and stat.S_ISREG(os.fstat(self._file).st_mode)

    def write(self, data: bytes) -> None:
        """Write ``data``, which is whole lines. Never raises: what there is no room for is lost."""
        with self._lock:
            try:
                if self._rotates() and self._size and self._size + len(data) > self._limit:
                    self.rotate()
                self._size += len(data)
                _write_all(self._file, data)
            except OSError:
                self.lost += 1

    def rotate(self) -> None:
        """Begin a new file, now."""
        with self._lock:
            if not self._is_still_there():
                self.reopen()
                return
            try:
                for number in range(self._keep, 0, -1):
                    if (older := self._old(number - 1)).exists():
                        older.rename(self._old(number))
                if not self._keep:
                    self._empty()
                self._delete_surplus()
            except OSError:
                self._empty()
            self.reopen()

    def reopen(self) -> bool:
        """Open the file anew, for somebody may have moved it away. If that fails, the old one stays in use.

        Returns:
            Whether it went well.
        """
        with self._lock:
            try:
                file, size = self._open()
            except OSError:
                return False
            old, self._file, self._size = self._file, file, size
            os.close(old)
            return True

    def close(self) -> None:
        """Close it, for good."""
        with self._lock:
            os.close(self._file)

    def _is_still_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except OSError:
            return False

    def _empty(self) -> None:
        os.ftruncate(self._file, 0)
        self._size = 0

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _delete_surplus(self) -> None:
        try:
            names = os.listdir(self.path.parent)
        except OSError:
            return
        for name in names:
            number = name.removeprefix(f"{self.path.name}.")
            if number != name and re.fullmatch("[1-9][0-9]{0,5}", number) and int(number) > self._keep:
                self.path.with_name(name).unlink(missing_ok=True)


# --- the observer ----------------------------------------------------------------------------------------------------


@implementer(ILogObserver)
class LogObserver:
    """Writes the log.

    Args:
        format: one of `FORMATS`.
        output: where the lines go.
        levels: which there are.
        known: secrets that never appear, whatever they look like.

    Attributes:
        takes_prints: whether what the app prints has to be logged, or it would stand among lines for a program.
    """

    def __init__(self, format: str, output: Output, levels: Levels, known: Iterable[str] = ()) -> None:
        self.takes_prints = isinstance(output, Stream) and format != TEXT
        self._line = LINES[format]
        self._output = output
        self._levels = levels
        self._known = tuple(known)

    def __call__(self, event: LogEvent) -> None:
        """Write ``event``, if it is one to be logged."""
        if self._levels.let_pass(event):
            self._output.write(self._line(Entry.of(event, self._known)).encode())


def is_journal(environ: Mapping[str, str], descriptor: int) -> bool:
    """Tell whether a file descriptor is connected to journald, as ``JOURNAL_STREAM`` says (see systemd.exec(5))."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
