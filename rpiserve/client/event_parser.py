"""The parser of server-sent events: from the bytes of a stream to its events."""

import re

import attrs

from rpiserve.core import wire

LARGEST_EVENT = 4 * wire.LARGEST
"""In bytes: as JSON inside JSON, and with its channel, a message may have grown."""


@attrs.frozen
class Event:
    """A server-sent event.

    Attributes:
        name: its type.
        data: its data.
    """

    name: str
    data: str


class BrokenStream(Exception):
    """A stream of events has ended before its time, or is none of ours."""


class EventParser:
    """Makes events of the bytes of a stream (``text/event-stream``, HTML Living Standard, section 9.2).

    Args:
        largest: how many bytes an event may have.
    """

    _END = re.compile(b"\r\n|\n|\r")

    def __init__(self, largest: int = LARGEST_EVENT) -> None:
        self._largest = largest
        self._line = bytearray()
        self._after_return = False
        self._is_first = True
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes, and return the events that are complete by them.

        Raises:
            BrokenStream: an event is too large.
        """
        if not chunk:
            return []
        start = 1 if self._after_return and chunk.startswith(b"\n") else 0  # that line has ended with the last chunk
        self._after_return = chunk.endswith(b"\r")
        *ended, rest = self._END.split(chunk[start:])
        events = []
        for end in ended:
            self._line += end
            line = bytes(self._line)
            self._line.clear()
            if line:
                self._take(line)
            elif (event := self._complete()) is not None:
                events.append(event)
        self._line += rest
        if self._size + len(self._line) > self._largest:
            raise BrokenStream(f"an event has more than {self._largest} bytes")
        return events

    def _take(self, line: bytes) -> None:
        self._size += len(line)
        text = line.decode("utf-8", "replace")
        if self._is_first:
            text = text.removeprefix("\ufeff")
            self._is_first = False
        field, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)

    def _complete(self) -> Event | None:
        event = Event(self._name or "message", "\n".join(self._data)) if self._data else None
        self._name, self._data, self._size = "", [], 0
        return event
