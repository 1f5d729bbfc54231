"""A request and its answer, as the handler that gives it sees them."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from deferreds import brought
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogEvent, formatEvent

from rpiserve.core import wire
from rpiserve.core.thread_bridge import Link
from rpiserve.data import encoding
from rpiserve.errors import AlreadyAnswered, BusUnavailable, DataError, MessageError
from rpiserve.messaging.pubsub_request import Exchange, PubSubRequest, PubSubResponse


class Desk:
    """A request with a response to it.

    Attributes:
        sent: what went out: status, payload, and whether it was final.
        outcome: makes what sending brings.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.sent: list[tuple[str, Any, bool]] = []
        self.counts: Counter[str] = Counter()
        self.outcome: Callable[[], Deferred[int]] = lambda: succeed(1)
        self.exchange = Exchange("water", self._send if wanted else None, self.counts)
        link: Link[None] = Link("the bus")
        link.open(object(), lambda function, *arguments: function(*arguments))  # type: ignore[arg-type]
        self.response = PubSubResponse(self.exchange, link)

    def _send(self, status: str, payload: bytes, final: bool) -> Deferred[int]:
        self.sent.append((status, wire.parse(b'{"it":%b}' % payload)["it"], final))
        return self.outcome()


@pytest.fixture
def desk() -> Desk:
    """A request that wants an answer."""
    return Desk()


def test_success(desk: Desk) -> None:
    """``success`` sends the final answer and brings the number of receivers."""
    assert brought(desk.response.success({"a": 1})) == 1
    assert (desk.sent, desk.exchange.answered) == ([("success", {"a": 1}, True)], True)
    assert desk.counts == {"answered": 1, "success": 1}


def test_nothing_is_null(desk: Desk) -> None:
    """An answer without a payload is ``null``."""
    desk.response.success()
    assert desk.sent == [("success", None, True)]


def test_send(desk: Desk) -> None:
    """``send`` is final unless it says that it is not, and what is not final leaves the request open."""
    desk.response.send("half", final=False)
    assert not desk.exchange.answered
    desk.response.send("all")
    assert desk.sent == [("success", "half", False), ("success", "all", True)]


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        ((), None),
        (("at it",), "at it"),
        ((None, 50), {"progress_percentage": 50}),
        (({"step": 1}, 50), {"step": 1, "progress_percentage": 50}),
        (("at it", 50.5), {"data": "at it", "progress_percentage": 50.5}),
        ((None, -1), {"progress_percentage": 0}),
        ((None, 101), {"progress_percentage": 100}),
        (([1], 0), {"data": [1], "progress_percentage": 0}),
    ],
)
def test_progress(desk: Desk, arguments: tuple[Any, ...], payload: Any) -> None:
    """Progress is never final, and its percentage, from 0 to 100, travels in the payload."""
    assert brought(desk.response.progress(*arguments)) == 1
    assert desk.sent == [("progress", payload, False)]
    assert desk.counts == {}


def test_error(desk: Desk) -> None:
    """``error`` sends the text of what it is given, with a code, and is final unless it says that it is not."""
    desk.response.error("not yet", final=False)
    desk.response.error(ValueError("too dry"), code="dry")
    assert desk.sent == [
        ("error", {"error": "not yet", "code": "handler_error"}, False),
        ("error", {"error": "too dry", "code": "dry"}, True),
    ]
    assert desk.counts == {"answered": 1, "handler_error": 1}


def test_only_one_final_answer(desk: Desk) -> None:
    """After the final answer every further one is refused, and nothing is sent."""
    desk.response.success(1)
    for again in (desk.response.success, desk.response.send, desk.response.progress):
        with pytest.raises(AlreadyAnswered, match="the request for water has been answered already"):
            brought(again(2))
    with pytest.raises(AlreadyAnswered):
        brought(desk.response.error("no"))
    assert len(desk.sent) == 1
    assert desk.counts["answered"] == 1


def test_what_cannot_be_sent(desk: Desk) -> None:
    """What JSON cannot have is refused before anything is sent, so that there can still be an answer."""
    with pytest.raises(DataError, match="the answer: a value of type object"):
        desk.response.success(object())
    with pytest.raises(DataError):
        desk.response.error("\ud800")
    assert (desk.sent, desk.exchange.answered) == ([], False)
    desk.response.success("at last")
    assert desk.exchange.answered


def test_too_large(desk: Desk) -> None:
    """An answer that is too large leaves the request open."""

    def refuse() -> Deferred[int]:
        raise MessageError("too large")

    desk.outcome = refuse
    with pytest.raises(MessageError):
        brought(desk.response.success("x"))
    assert not desk.exchange.answered
    assert desk.counts == {}


def test_a_refusing_bus(desk: Desk, logged_failures: list[LogEvent]) -> None:
    """An answer that the bus does not take is logged and counted, and counts as given: the handler goes on."""
    desk.outcome = lambda: fail(BusUnavailable("gone {for} good"))
    assert brought(desk.response.success()) == 0
    [event] = logged_failures
    assert formatEvent(event) == "the answer of water could not be sent: gone {for} good"
    assert desk.counts == {"answered": 1, "success": 1, "unsent": 1}
    logged_failures.clear()


def test_nobody_waits() -> None:
    """Where no answer is wanted, giving one sends nothing, and a second is refused all the same."""
    desk = Desk(wanted=False)
    assert brought(desk.response.progress(1)) == 0
    assert brought(desk.response.success(1)) == 0
    with pytest.raises(AlreadyAnswered):
        brought(desk.response.success(2))
    assert desk.sent == []


def test_view_of_a_request() -> None:
    """A handler sees all members of a request, those of a wrong type as missing, and all of it in ``raw``."""
    message = {"action": "a", "payload": [1], "request_id": 5, "reply_to": "c", "sender": "me", "service": "s", "x": 1}
    view = PubSubRequest.of(wire.parse_request(encoding.encode(message)), "s")
    assert attrs.asdict(view) == {
        "payload": [1],
        "action": "a",
        "channel": "s",
        "request_id": 5,
        "reply_to": "c",
        "sender": "me",
        "service": "s",
        "raw": message,
    }
    odd = PubSubRequest.of(wire.parse_request(b'{"action":"a","sender":1,"service":2,"x":3}'), None)
    assert (odd.sender, odd.service, odd.channel) == (None, None, None)
    assert odd.payload == {"sender": 1, "service": 2, "x": 3}


def test_view_of_a_broadcast() -> None:
    """A listener sees a broadcast's payload, its channel and all of it."""
    view = PubSubRequest.of_broadcast({"payload": 1, "action": "x"}, "news")
    assert (view.payload, view.action, view.channel, view.request_id) == (1, None, "news", None)
    assert view.raw == {"payload": 1, "action": "x"}
    assert PubSubRequest.of_broadcast({"a": 1}, "news").payload == {"a": 1}
