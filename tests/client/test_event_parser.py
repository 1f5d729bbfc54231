"""The parser of server-sent events."""

import pytest

from rpiserve.client.event_parser import BrokenStream, Event, EventParser

STREAM = (
    "\ufeffevent: progress\n"
    ": a comment\n"
    'data: {"n":1}\n'
    "\n"
    "data:first\n"
    "data:  second ü\n"
    "id: 7\n"
    "\n"
    "event: nothing\n"
    "\n"
    "event: result\n"
    "data\n"
    "retry: 10\n"
    "\n"
    "data: not complete\n"
)
EVENTS = [Event("progress", '{"n":1}'), Event("message", "first\n second ü"), Event("result", "")]


class TestEventParser:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    def test_chunks(self, end: str, size: int) -> None:
        """The events are the same whatever ends the lines, and wherever the stream is cut."""
        data = STREAM.replace("\n", end).encode()
        parser = EventParser()
        chunks = (data[begin : begin + size] for begin in range(0, len(data), size))
        assert [event for chunk in chunks for event in parser.feed(chunk)] == EVENTS

    def test_event_is_complete_before_the_next(self) -> None:
        """An event is there with its empty line, even if that ends in a return after which more could come."""
        parser = EventParser()
        assert parser.feed(b"data: a\r\n\r") == [Event("message", "a")]
        assert parser.feed(b"") == []
        assert parser.feed(b"\n") == []
        assert parser.feed(b"\ndata: b\n\n") == [Event("message", "b")]

    @pytest.mark.parametrize("data", [b"data: 123456789", b"data: 1234\ndata: 5678\n"])
    def test_too_large(self, data: bytes) -> None:
        """An event that grows beyond the limit is refused, be it one line or many."""
        parser = EventParser(12)
        assert parser.feed(b"data: 1234\n\n" * 3) == [Event("message", "1234")] * 3
        with pytest.raises(BrokenStream, match="12 bytes"):
            parser.feed(data)
