"""What users send messages with: what they may send, what they get back, and what is refused."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from queue import SimpleQueue
from typing import Any

import pytest
from deferreds import brought
from twisted.internet.task import Clock

from rpiserve.core import wire
from rpiserve.core.thread_bridge import Link
from rpiserve.errors import DataError, MessageError, NoResponders, NotRunning, Stopped
from rpiserve.messaging.caller import Broadcast, Cache, Caller
from rpiserve.messaging.memory_bus import MemoryBus
from rpiserve.messaging.messenger import Messenger


class House:
    """A bus with what users reach it by.

    Attributes:
        heard: what was sent to any channel, but for replies: the channel and the message.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.bus = MemoryBus(self.clock, self.clock.seconds)
        self.messenger = Messenger("me", self.bus, self.clock)
        self.link: Link[Messenger] = Link("the bus")
        self.work: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.broadcast = Broadcast(self.link)
        self.cache = Cache(self.link)
        self.heard: list[tuple[str, dict[str, Any]]] = []

    def open(self) -> None:
        """Let users through."""
        self.link.open(self.messenger, self.work.put)

    def listen(self, channel: str) -> None:
        """Note what is sent to a channel."""
        self.bus.subscribe(channel, lambda name, message: self.heard.append((name, wire.parse(message))))

    def turn(self) -> None:
        """Let all that is under way arrive."""
        self.clock.pump([0] * 5)

    def in_thread(self, function: Callable[[], Any]) -> Any:
        """Return what ``function`` returns in a thread, or the error that it raises there."""
        outcomes: list[Any] = []

        def call() -> None:
            try:
                outcomes.append(function())
            except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
                outcomes.append(error)
            self.work.put(lambda: None)

        thread = threading.Thread(target=call)
        thread.start()
        while not outcomes:
            self.work.get(timeout=30)()
            self.turn()
        thread.join(30)
        return outcomes[0]


@pytest.fixture
def house() -> Iterator[House]:
    """A bus that is there."""
    house = House()
    house.open()
    yield house
    assert house.messenger.pending == 0
    assert house.clock.getDelayedCalls() == []


@dataclass
class Reading:
    """Something to send."""

    celsius: float


class Level(IntEnum):
    """A number with a name."""

    HIGH = 3


# --- broadcast -------------------------------------------------------------------------------------------------------


def test_broadcast(house: House) -> None:
    """A broadcast goes to all who listen, and brings their number."""
    house.listen("news")
    house.listen("n*")
    assert brought(house.broadcast.send("news", {"a": 1})) == 2
    assert brought(house.broadcast.send("other", Reading(1.5))) == 0
    house.turn()
    assert house.heard == [("news", {"a": 1})] * 2


def test_broadcast_from_a_thread(house: House) -> None:
    """In a thread it blocks and returns the number."""
    house.listen("news")
    assert house.in_thread(lambda: house.broadcast.send("news", Reading(1.5))) == 1
    assert house.heard == [("news", {"celsius": 1.5})]


def test_broadcast_takes_objects_only(house: House) -> None:
    """A broadcast is an object, on a channel that there can be, and not too large."""
    for payload in (None, 1, "text", [1]):
        with pytest.raises(MessageError, match="a message is an object such as a dict; for 'news' there is a"):
            house.broadcast.send("news", payload)
    for channel in ("", None, 1, "x" * 257, "\0", "\ud800"):
        with pytest.raises(MessageError, match="is no channel"):
            house.broadcast.send(channel, {})  # type: ignore[arg-type]
    with pytest.raises(MessageError, match="a message may have"):
        house.broadcast.send("news", {"a": "x" * wire.LARGEST})
    with pytest.raises(DataError, match="the message for 'news'"):
        house.broadcast.send("news", {"a": object()})


# --- cache -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("text ä", "text ä"),
        ("", ""),
        (b"bytes", "bytes"),
        (bytearray(b"more"), "more"),
        (1, "1"),
        (-(10**30), f"-1{'0' * 30}"),
        (1.5, "1.5"),
        (Level.HIGH, "3"),
    ],
)
def test_cache(house: House, value: Any, text: str) -> None:
    """Texts, bytes that are text, and numbers go in; text comes out."""
    assert brought(house.cache.set("k", value)) is True
    assert brought(house.cache.get("k")) == text


def test_cache_forgets(house: House) -> None:
    """A value is there until its time is up, or it is removed."""
    brought(house.cache.set("k", 1, ex=5))
    brought(house.cache.set("l", 1, ex=0.5))
    brought(house.cache.set("m", 1))
    house.clock.advance(1)
    assert brought(house.cache.get("l")) is None
    assert brought(house.cache.delete("k", "k", "l", "m")) == 2
    assert brought(house.cache.get("m")) is None
    assert brought(house.cache.delete()) == 0


def test_cache_counts(house: House) -> None:
    """``incr`` counts from 0 on, by any whole number."""
    assert [brought(house.cache.incr("n", amount)) for amount in (1, 10, -20)] == [1, 11, -9]
    assert brought(house.cache.incr("n")) == -8


def test_cache_from_a_thread(house: House) -> None:
    """In a thread each method blocks and returns."""

    def use() -> list[Any]:
        cache = house.cache
        return [cache.set("k", "v"), cache.get("k"), cache.incr("n"), cache.delete("k"), cache.get("k")]

    assert house.in_thread(use) == [True, "v", 1, 1, None]


@pytest.mark.parametrize("value", [None, True, [1], {}, float("nan"), float("inf"), object(), Reading(1)])
def test_cache_refuses_values(house: House, value: Any) -> None:
    """What is neither text nor a number is refused."""
    with pytest.raises(DataError, match="the cache: the value for 'k' is"):
        house.cache.set("k", value)


def test_cache_refuses_what_is_no_text(house: House) -> None:
    """Texts and bytes that UTF-8 cannot express, and numbers that are too long, are refused."""
    for value in ("\ud800", b"\xff", 10**5000):
        with pytest.raises(DataError, match="the cache: "):
            house.cache.set("k", value)
    house.bus.set("foreign", b"\xff", None)
    with pytest.raises(DataError, match="the value at 'foreign' is no text in UTF-8"):
        brought(house.cache.get("foreign"))


def test_cache_refuses_keys_times_and_amounts(house: House) -> None:
    """Keys, times and amounts that there cannot be are refused, and each error says what there can be."""
    for key in ("", None, 1, "x" * 257, "\ud800"):
        for use in (house.cache.get, house.cache.delete, house.cache.incr, lambda key: house.cache.set(key, 1)):
            with pytest.raises(DataError, match="key"):
                use(key)
    for ex in (0, -1, True, "1", float("nan"), 2e9):
        with pytest.raises(DataError, match="ex for 'k' is"):
            house.cache.set("k", 1, ex=ex)  # type: ignore[arg-type]
    for amount in (True, 1.5, "1", 2**63, -(2**63) - 1):
        with pytest.raises(DataError, match="amount for 'k' is"):
            house.cache.incr("k", amount)  # type: ignore[arg-type]
    brought(house.cache.set("k", "text"))
    with pytest.raises(DataError, match="no whole number"):
        brought(house.cache.incr("k"))


# --- caller ----------------------------------------------------------------------------------------------------------


def serve(house: House, *replies: tuple[str, Any, bool]) -> None:
    """Answer all requests for ``svc`` with ``replies``."""

    def receive(channel: str, message: bytes) -> None:
        request = wire.parse_request(message)
        house.heard.append((channel, request.raw))
        for status, payload, final in replies:
            assert request.reply_to is not None
            assert request.request_id is not None
            house.bus.publish(request.reply_to, wire.reply(request.request_id, status, payload, final=final))

    house.bus.subscribe("svc", receive)


def test_send_request(house: House) -> None:
    """A request brings the reply's payload; what went with it is an object unless it says otherwise."""
    serve(house, ("success", {"b": 2}, True))
    caller = Caller("svc", house.link, 7)
    asked = [
        caller.send_request("get"),
        caller.send_request("get", Reading(1), timeout=2),
        caller.send_request("get", 0),
    ]
    house.turn()
    assert [brought(each) for each in asked] == [{"b": 2}] * 3
    assert [(raw["payload"], raw["timeout"]) for _, raw in house.heard] == [({}, 7), ({"celsius": 1}, 2), (0, 7)]


def test_send_request_from_a_thread(house: House) -> None:
    """In a thread it blocks and returns the payload, and the progress is told there."""
    serve(house, ("progress", 1, False), ("success", 2, True))
    steps: list[Any] = []

    def note(payload: Any) -> None:
        steps.append((payload, threading.current_thread() is threading.main_thread()))

    assert house.in_thread(lambda: Caller("svc", house.link).send_request("get", on_progress=note)) == 2
    assert steps == [(1, False)]


def test_send_request_raises_in_a_thread(house: House) -> None:
    """In a thread errors are raised."""
    outcome = house.in_thread(lambda: Caller("svc", house.link).send_request("get"))
    assert isinstance(outcome, NoResponders)


def test_progress_on_the_reactor(house: House) -> None:
    """On the reactor's thread the progress is told there."""
    serve(house, ("progress", 1, False), ("success", 2, True))
    steps: list[Any] = []
    asked = Caller("svc", house.link).send_request("get", on_progress=steps.append)
    house.turn()
    assert (steps, brought(asked)) == ([1], 2)


def test_what_a_request_may_be(house: House) -> None:
    """Names, time limits and payloads that there cannot be are refused at once."""
    for name in ("", None, "a b", "x" * 65, "a*"):
        with pytest.raises(MessageError, match="is no name of a service"):
            Caller(name, house.link)  # type: ignore[arg-type]
        with pytest.raises(MessageError, match="is no name of an action"):
            Caller("svc", house.link).send_request(name)  # type: ignore[arg-type]
    for timeout in (0, -1, True, "1", float("nan"), 2e9):
        with pytest.raises(MessageError, match="timeout is"):
            Caller("svc", house.link, timeout)  # type: ignore[arg-type]
        with pytest.raises(MessageError, match="timeout is"):
            Caller("svc", house.link).send_request("get", timeout=timeout)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the payload for get"):
        Caller("svc", house.link).send_request("get", object())
    with pytest.raises(MessageError, match="a message may have"):
        brought(Caller("svc", house.link).send_request("get", "x" * wire.LARGEST))


def test_send_message(house: House) -> None:
    """A caller sends to any channel, as a broadcast does."""
    house.listen("news")
    caller = Caller("svc", house.link)
    assert brought(caller.send_message("news", {"a": 1})) == 1
    with pytest.raises(MessageError):
        caller.send_message("news", 1)
    house.turn()
    assert house.heard == [("news", {"a": 1})]


def test_send_to_service(house: House) -> None:
    """A message to the service has its members as its own, and the action that it names or is given."""
    house.listen("svc")
    caller = Caller("svc", house.link)
    assert brought(caller.send_to_service({"a": 1}, action="log")) == 1
    brought(caller.send_to_service({"action": "log", "b": 2}))
    brought(caller.send_to_service({"action": "other"}, action="log"))
    brought(caller.send_to_service(action="log"))
    brought(caller.send_to_service(Reading(1), action="log"))
    house.turn()
    assert [message for _, message in house.heard] == [
        {"a": 1, "action": "log"},
        {"action": "log", "b": 2},
        {"action": "log"},
        {"action": "log"},
        {"celsius": 1, "action": "log"},
    ]
    with pytest.raises(MessageError, match="is no name of an action"):
        caller.send_to_service({}, action="a b")
    with pytest.raises(MessageError, match="a message is an object"):
        caller.send_to_service(1, action="log")


def test_close(house: House) -> None:
    """Closing a caller ends its own requests and no other's; it is of no use then."""
    house.listen("svc")
    caller, other = Caller("svc", house.link), Caller("svc", house.link)
    mine, others = caller.send_request("get"), other.send_request("get")
    assert brought(caller.close()) is None
    with pytest.raises(Stopped, match="the caller was closed"):
        brought(mine)
    for use in (
        lambda: caller.send_request("get"),
        lambda: caller.send_message("news", {}),
        lambda: caller.send_to_service(action="log"),
    ):
        with pytest.raises(Stopped, match="this caller of svc was closed"):
            use()
    house.turn()
    assert not others.called
    brought(other.close())
    with pytest.raises(Stopped):
        brought(others)


def test_before_and_after(house: House) -> None:
    """Before the daemon runs nothing can be sent; afterwards a thread gets `Stopped`, and may close its caller."""
    early = Caller("svc", Link("the bus"))
    with pytest.raises(NotRunning, match="the bus can be used only while the daemon runs"):
        early.send_request("get")
    late = Caller("svc", house.link)
    house.link.close()
    assert isinstance(house.in_thread(lambda: late.send_request("get")), Stopped)
    assert house.in_thread(late.close) is None
