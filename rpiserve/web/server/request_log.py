"""The log of requests: a line for each, in a file of its own, if it is asked for.

A line tells who has asked for what and what came of it. Of a query it has the names alone, since anything may stand in
a value, of a referer neither, and of credentials nothing. What clients send is escaped: none can forge a line.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.web.http import datetimeToLogString

from rpiserve.core.metrics import Sample
from rpiserve.data import encoding
from rpiserve.logs.outputs import LOST
from rpiserve.logs.redaction import HIDDEN, redact
from rpiserve.logs.rotating_file import RotatingFile
from rpiserve.web.server.request import LimitedRequest

log = Logger()

FLUSH_SECONDS: Final = 1.0
FLUSH_BYTES: Final = 1 << 16
"""When lines that wait are written, all of them at once: whichever comes first."""

MOST_TARGET: Final = 2000
MOST_HEADER: Final = 300
"""In characters."""

MOST_BEHIND: Final = 1500
"""How much of what is not shown any more is looked at: a secret that is cut might not be recognised, and to look at all
of what a client may send would cost so much time that others would notice."""

LEFT: Final = 499
"""The status of a request whose client has left before there was an answer, as nginx has it."""

SHOWN: Final = frozenset(("after", "before", "meta", "name", "path", "points", "timeout"))
"""The fields of queries whose values are ours, and no secrets."""

_FIELD = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_ESCAPED = re.compile(r'[^ -~]|["\\]')
_PRINTABLE: Final = "".join(map(chr, range(ord("!"), ord("~") + 1))).replace("%", "")


class RequestLog:
    """Writes a line for each request.

    Args:
        file: where to.
        as_json: whether lines are objects of JSON. Otherwise they are as other servers have them: the "combined"
            format, with the milliseconds that the answer took behind it.
        clock: the reactor's clock, in seconds.
        wall: the wall clock, in seconds since the epoch.
    """

    def __init__(self, file: RotatingFile, as_json: bool, clock: IReactorTime, wall: Callable[[], float]) -> None:
        self._file = file
        self._line = _json if as_json else _combined
        self._clock = clock
        self._wall = wall
        self._waiting = bytearray()
        self._timer: IDelayedCall | None = None
        self._closing = False
        self._told = 0  # how many lost lines the log tells of

    def note(self, request: LimitedRequest, since: float) -> None:
        """Note that ``request``, which came at ``since`` by the reactor's clock, was answered, or given up."""
        left = not request.startedWriting
        self._add(
            {
                "time": self._wall(),
                "client": request.client_host or "-",
                "token": request.token_name or "-",
                "method": _escaped(request.method, MOST_HEADER),
                "target": _shown_target(request.uri),
                "protocol": _escaped(request.clientproto, MOST_HEADER),
                "status": LEFT if left else request.code,
                "bytes": request.sentLength,
                "seconds": round(max(0.0, self._clock.seconds() - since), 6),
                "referer": _shown_referer(request.getHeader(b"Referer")),
                "agent": _escaped(request.getHeader(b"User-Agent") or b"-", MOST_HEADER),
            }
        )

    def note_refusal(self, client: str | None, status: int) -> None:
        """Note that a connection was refused before there was a whole request."""
        nothing = dict.fromkeys(("token", "method", "target", "protocol", "referer", "agent"), "-")
        numbers = {"status": status, "bytes": 0, "seconds": 0.0}
        self._add({"time": self._wall(), "client": client or "-", **nothing, **numbers})

    def _add(self, entry: dict[str, Any]) -> None:
        self._waiting += self._line(entry)
        if len(self._waiting) >= FLUSH_BYTES or self._closing:
            self.flush()
        elif self._timer is None:
            self._timer = self._clock.callLater(FLUSH_SECONDS, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> None:
        """Write what waits, in one piece."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            lost = self._file.lost
            self._file.write(bytes(self._waiting))
            self._waiting.clear()
            if self._told < self._file.lost == lost:
                log.warn("{lost} lines of the log of requests were lost", lost=lost - self._told)
                self._told = lost

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of it."""
        yield LOST.sample(self._file.lost, "requests")

    def close(self) -> None:
        """Write what waits, and keep nothing waiting from now on."""
        self._closing = True
        self.flush()

    def reopen(self) -> None:
        """Write what waits, and go on in the file that now has the name."""
        self.flush()
        if not self._file.reopen():
            log.warn("{file} cannot be opened anew; the log of requests goes on in the old one", file=self._file.path)


def _combined(entry: dict[str, Any]) -> bytes:
    when = datetimeToLogString(entry["time"])
    method, target, protocol = entry["method"], entry["target"], entry["protocol"]
    asked = "-" if method == "-" else f"{method} {target} {protocol}"
    answered = f"{entry['status']} {entry['bytes']}"
    rest = f'"{entry["referer"]}" "{entry["agent"]}" {entry["seconds"] * 1000:.1f}'
    return f'{entry["client"]} - {entry["token"]} {when} "{asked}" {answered} {rest}\n'.encode()


def _json(entry: dict[str, Any]) -> bytes:
    shown = {name: value for name, value in entry.items() if value != "-"}
    return encoding.encode({**shown, "time": encoding.timestamp(entry["time"])}) + b"\n"


@lru_cache(maxsize=128)  # clients say the same things all the time, and to look for secrets in them takes long
def _escaped(raw: bytes, most: int, is_url: bool = False) -> str:
    text = redact(raw[: most + MOST_BEHIND].decode("latin-1"))
    if is_url and "%" in text:
        decoded = unquote(text, "latin-1")
        if (hidden := redact(decoded)) != decoded:
            text = quote(hidden, _PRINTABLE, "latin-1")
    return _ESCAPED.sub(lambda match: f"\\x{ord(match[0]):02x}", text[:most])


def _shown_target(uri: bytes) -> str:
    path, mark, query = uri[: MOST_TARGET + MOST_BEHIND].partition(b"?")
    fields = b"&".join(_shown_field(field) for field in query.split(b"&")) if query else b""
    return _escaped(path + mark + fields, MOST_TARGET, is_url=True)


def _shown_field(field: bytes) -> bytes:
    name, sign, _ = field.partition(b"=")
    text = name.decode("latin-1")
    if text in SHOWN:
        return field
    return name + sign + HIDDEN.encode() if sign and _FIELD.fullmatch(text) else HIDDEN.encode()


def _shown_referer(header: bytes | None) -> str:
    return "-" if header is None else _escaped(re.split(rb"[?#]", header, maxsplit=1)[0], MOST_HEADER, is_url=True)
