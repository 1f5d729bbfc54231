"""What is written of an event: lines for people, JSON, or lines for journald."""

import re
import syslog
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

import attrs
from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.failure import Failure

from rpiserve.data import encoding
from rpiserve.logs.levels import PACKAGE, TWISTED, level_of, namespace_of
from rpiserve.logs.redaction import LONGEST_SECRET, redact

TEXT: Final = "text"
JSON: Final = "json"
JOURNAL: Final = "journal"
FORMATS: Final = (TEXT, JSON, JOURNAL)

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
        level, namespace = level_of(event), namespace_of(event)
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
        "time": encoding.timestamp(entry.time),
        "level": entry.level,
        "namespace": entry.namespace,
        "message": entry.message,
        **entry.fields,
    }
    if entry.traceback:
        whole["traceback"] = entry.traceback
    line = encoding.encode(whole)
    most = MOST_TRACEBACK
    while len(line) >= MOST_BYTES:  # there are characters that take six bytes
        most //= 2
        line = encoding.encode({name: _cut(text, most) for name, text in whole.items()})
    return line.decode() + "\n"


def journal_lines(entry: Entry) -> str:
    """Return ``entry`` as journald has it from standard error: each line with its priority (see sd-daemon(3))."""
    lines = f"{entry.short_namespace}: {entry.text}".split("\n")
    return "".join(f"<{entry.priority}>{line}\n" for line in lines)


LINES: Final[dict[str, Callable[[Entry], str]]] = {TEXT: text_line, JSON: json_line, JOURNAL: journal_lines}
