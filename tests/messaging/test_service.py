"""What arrives on the bus, who handles it, and that every request is answered once."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
from fake_pool import Bench
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent

from rpiserve.core import context, wire
from rpiserve.core.context import DaemonScope
from rpiserve.core.thread_bridge import Link
from rpiserve.declare.registry import Registry
from rpiserve.errors import AlreadyAnswered, BusUnavailable, MessageError, RemoteError
from rpiserve.messaging import service as service_module
from rpiserve.messaging.bus import BusState
from rpiserve.messaging.memory_bus import MemoryBus
from rpiserve.messaging.messenger import Messenger
from rpiserve.messaging.service import MessagingService

SECRET = "what is nobody's business"


class Bus(MemoryBus):
    """A bus in memory that can refuse.

    Attributes:
        refusing: the channels it takes nothing for.
        refusing_subscriptions: whether nothing can be subscribed to.
        said: how it is, if that is not the usual.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.refusing: set[str] = set()
        self.refusing_subscriptions = False
        self.said: BusState | None = None

    @property
    def state(self) -> BusState:
        return super().state if self.said is None else self.said

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        if channel in self.refusing:
            return fail(BusUnavailable("it is down"))
        return super().publish(channel, message)

    def subscribe(self, channel: str, receiver: Any) -> Deferred[None]:
        if self.refusing_subscriptions:
            return fail(BusUnavailable("it may not be"))
        return super().subscribe(channel, receiver)


class House(Bench):
    """A service ``svc`` of what a test declares, on a bus, with a caller.

    Attributes:
        replies: what has come to the caller's channel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.action = self.registry.action
        self.listen = self.registry.listen
        self.bus = Bus(self.clock, self.clock.seconds)
        self.runner.daemon_scope = DaemonScope("the broadcast", "the cache")
        self.replies: list[dict[str, Any]] = []
        self.bus.subscribe("me", lambda _, message: self.replies.append(wire.parse(message)))
        self._messaging: MessagingService | None = None

    @property
    def messaging(self) -> MessagingService:
        """The messaging, which is made and started at the first use."""
        if self._messaging is None:
            link: Link[Messenger] = Link("the bus")
            registry = self.registry
            self._messaging = MessagingService(
                "svc", registry.actions, registry.listeners, self.bus, self.runner, link=link
            )
            link.open(self._messaging.messenger, self._to_reactor)
            assert self._messaging.start().called
        return self._messaging

    def send(self, message: bytes | dict[str, Any], channel: str = "svc") -> None:
        """Send a message, and let all that is under way arrive."""
        assert self.messaging
        self.bus.publish(channel, message if isinstance(message, bytes) else wire.encode(message))
        self.turn()

    def turn(self) -> None:
        """Let all that is under way arrive."""
        self.clock.pump([0] * 5)

    def request(self, action: Any = "a", payload: Any = None, request_id: Any = "1", **members: Any) -> None:
        """Send a request of the caller's."""
        self.send({"action": action, "payload": payload, "request_id": request_id, "reply_to": "me", **members})

    def end(self) -> None:
        """Let the oldest handler in a thread do its work."""
        self.pool.end()
        self.turn()

    @property
    def reply(self) -> Any:
        """The status and the payload of the one final reply that there is; it is forgotten then."""
        [reply] = self.replies
        self.replies.clear()
        assert reply["final"] is True
        return reply["status"], reply["payload"]

    @property
    def refusal(self) -> Any:
        """The code and the text of the one reply that there is, an error."""
        status, payload = self.reply
        assert status == "error"
        return payload["code"], payload["error"]


@pytest.fixture
def house() -> Iterator[House]:
    """A service that handles nothing any more in the end."""
    house = House()
    yield house
    assert house.idle
    assert house.messaging._under_way == dict.fromkeys(house.messaging._under_way, 0)
    assert house.messaging._bytes == 0
    house.messaging.close()


@dataclass
class Water:
    """What a request may carry."""

    zone: int
    seconds: float = 10


@dataclass
class Own:
    """Data with checks of the user's own."""

    kind: str

    def __post_init__(self) -> None:
        if self.kind == "odd":
            raise KeyError(SECRET)
        if self.kind == "long":
            raise ValueError("é\n" * 600_000)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_what_a_handler_returns(house: House) -> None:
    """What a ``def`` returns in its thread is the answer, with the request's id."""
    house.action("a")(lambda: {"status": "healthy"})
    house.request(request_id="abc")
    assert house.replies == []
    house.end()
    assert house.replies == [
        {"status": "success", "payload": {"status": "healthy"}, "request_id": "abc", "final": True}
    ]
    assert house.messaging.counts == {"received": 1, "answered": 1, "success": 1}


def test_an_async_handler(house: House) -> None:
    """An ``async def`` answers when it has ended, without a thread, and overlaps with others."""
    waiting: list[Deferred[str]] = []

    @house.action("a")
    async def handler() -> str:
        waiting.append(Deferred())
        return await waiting[-1]

    house.request(request_id="1")
    house.request(request_id="2")
    waiting[1].callback("second")
    house.turn()
    assert house.reply == ("success", "second")
    waiting[0].callback("first")
    house.turn()
    assert house.reply == ("success", "first")


def test_nothing_returned(house: House) -> None:
    """None without a reply is success with ``null``."""
    house.action("a")(lambda: None)
    house.request()
    house.end()
    assert house.reply == ("success", None)


@pytest.mark.parametrize("request_id", ["1", "é" * 256, "", 7, 2**70, -1])
def test_ids(house: House, request_id: Any) -> None:
    """The answer carries the id as it came, a text or a number."""
    house.action("a")(lambda: None)
    house.request(request_id=request_id)
    house.end()
    assert house.replies[0]["request_id"] == request_id


def test_without_reply_to(house: House) -> None:
    """The answer to a request that names no channel goes to that of the service's responses, as with Daebus."""
    house.bus.subscribe("svc.responses", lambda _, message: house.replies.append(wire.parse(message)))
    house.action("a")(lambda: 1)
    house.send({"action": "a", "request_id": "1"})
    house.end()
    assert house.reply == ("success", 1)


def test_a_direct_message(house: House, logged_failures: list[LogEvent]) -> None:
    """A message without an id is handled and never answered, whatever becomes of it."""
    got: list[Any] = []
    house.bus.subscribe("svc.responses", lambda _, message: house.replies.append(wire.parse(message)))

    @house.action("log_info")
    def log_info(request: Any) -> None:
        got.append((request.payload, request.request_id))
        context.response.progress(1)
        context.response.success(2)

    house.action("bad")(lambda: 1 / 0)
    house.send({"action": "log_info", "level": 3, "reply_to": "me"})
    house.end()
    house.send({"action": "none", "reply_to": "me"})
    house.send({"action": "bad", "reply_to": "me"})
    house.end()
    assert got == [({"level": 3, "reply_to": "me"}, None)]
    assert house.replies == []
    assert house.messaging.counts == {
        "received": 3,
        "answered": 3,
        "success": 1,
        "unknown_action": 1,
        "handler_error": 1,
    }
    logged_failures.clear()


def test_a_request_as_daebus_sends_it(house: House) -> None:
    """A request without sender and timeout, and with members of its own, is handled."""
    house.action("get_status")(lambda request: [request.payload, request.service, request.sender])
    house.send(
        {
            "action": "get_status",
            "payload": {"detail": "full"},
            "reply_to": "me",
            "request_id": "1",
            "service": "svc",
            "timestamp": 1.5,
        }
    )
    house.end()
    assert house.reply == ("success", [{"detail": "full"}, "svc", None])


def test_replying_through_response(house: House) -> None:
    """What the handler sent itself is the answer, and what it returns then is ignored, whatever it is."""
    receivers: list[Any] = []

    @house.action("a")
    def handler() -> Any:
        receivers.append(context.response.success({"a": 1}))
        return object()

    house.request()
    house.end()
    assert house.reply == ("success", {"a": 1})
    assert house.messaging.counts == {"received": 1, "answered": 1, "success": 1}
    assert [each.result for each in receivers] == [1]  # this pool works on the reactor's thread


def test_returning_the_reply(house: House) -> None:
    """``return response.success(…)`` works in an ``async def``, where that is a Deferred."""

    @house.action("a")
    async def handler() -> Any:
        return context.response.success("done")

    house.request()
    assert house.reply == ("success", "done")


def test_an_error_of_the_handlers_own(house: House) -> None:
    """``response.error`` is the answer, with its text."""

    @house.action("a")
    async def handler() -> Any:
        return context.response.error("too dry")

    house.request()
    assert house.refusal == ("handler_error", "too dry")
    assert house.messaging.counts["handler_error"] == 1


def test_a_second_final_answer(house: House) -> None:
    """A second final answer is refused and not sent; the handler may go on."""
    errors: list[Any] = []

    @house.action("a")
    async def handler() -> None:
        await context.response.success(1)
        try:
            await context.response.success(2)
        except AlreadyAnswered as error:
            errors.append(error)

    house.request()
    assert house.reply == ("success", 1)
    assert len(errors) == 1


def test_progress(house: House) -> None:
    """Progress comes before the answer and is not final; a percentage travels in the payload."""

    @house.action("a")
    async def handler() -> str:
        await context.response.progress({"step": 1}, 50)
        await context.response.send("half", final=False)
        return "all"

    house.request()
    assert [(each["status"], each["payload"], each["final"]) for each in house.replies] == [
        ("progress", {"step": 1, "progress_percentage": 50}, False),
        ("success", "half", False),
        ("success", "all", True),
    ]


def test_an_error_after_the_answer(house: House, logged_failures: list[LogEvent]) -> None:
    """A handler that answers and then fails is logged, and there is no second answer."""

    @house.action("a")
    async def handler() -> None:
        await context.response.success(1)
        raise ZeroDivisionError

    house.request()
    assert house.reply == ("success", 1)
    [event] = logged_failures
    assert event["log_failure"].check(ZeroDivisionError)
    assert house.messaging.counts == {"received": 1, "answered": 1, "success": 1}
    logged_failures.clear()


def test_the_proxies(house: House) -> None:
    """Each handler sees its own request and response, and the daemon's broadcast and cache."""
    waiting: list[Deferred[None]] = []

    @house.action("a")
    async def handler() -> list[Any]:
        waiting.append(Deferred())
        await waiting[-1]
        return [context.request.payload, context.request.channel, str(context.broadcast), str(context.cache)]

    house.request(payload=1)
    house.request(payload=2)
    waiting[1].callback(None)
    waiting[0].callback(None)
    house.turn()
    assert [each["payload"][0] for each in house.replies] == [2, 1]
    assert house.replies[0]["payload"][1:] == ["svc", "the broadcast", "the cache"]


# --- payloads --------------------------------------------------------------------------------------------------------


def test_a_checked_payload(house: House) -> None:
    """A handler that asks for a dataclass is given one, with what can be converted converted."""

    @house.action("a")
    async def handler(water: Water) -> list[Any]:
        return [water.zone, water.seconds, context.request.payload]

    house.request(payload={"zone": "3"})
    assert house.reply == ("success", [3, 10, {"zone": "3"}])


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "zone"),
        ({"zone": "x"}, "zone"),
        ({"zone": 1, "seconds": []}, "seconds"),
        (None, "payload"),
        ([], "payload"),
    ],
)
def test_an_invalid_payload(house: House, payload: Any, field: str) -> None:
    """A payload that does not fit is answered with the name of the field, and the handler does not run."""

    @house.action("a")
    def handler(water: Water) -> None:
        """Take what does not come."""

    house.request(payload=payload)
    status, error = house.reply
    assert (status, error["code"]) == ("error", "invalid_payload")
    assert [each["argument"] for each in error["errors"]] == [field]
    assert field in error["error"]
    assert "incident" not in error
    assert house.messaging.counts["invalid_payload"] == 1


def test_a_long_error(house: House) -> None:
    """An error as long as what has come, or longer, is cut, so that it can be sent."""

    @house.action("a")
    def handler(own: Own) -> None:
        """Take what does not come."""

    house.request(payload={"kind": "long"})
    code, text = house.refusal
    assert code == "invalid_payload"
    assert len(text) < 6000
    assert "\n" not in text


def test_a_class_that_fails(house: House) -> None:
    """A payload's class that raises whatever it likes refuses the payload by that, and keeps its text to itself."""

    @house.action("a")
    def handler(own: Own) -> None:
        """Take what does not come."""

    house.listen("news")(handler)
    house.request(payload={"kind": "odd"})
    code, text = house.refusal
    assert (code, SECRET in text, "KeyError" in text) == ("invalid_payload", False, True)
    house.send({"kind": "odd"}, "news")
    assert house.messaging.counts["broken"] == 1


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["none", "", "A", "a.b", 1, None, ["a"], {"a": 1}, "x" * 1000, "\n\0"])
def test_an_unknown_action(house: House, action: Any) -> None:
    """An action that there is not, whatever is in its place, is answered with ``unknown_action``."""
    house.action("a")(lambda: None)
    house.request(action=action)
    code, text = house.refusal
    assert code == "unknown_action"
    assert text.startswith("svc has no action ")
    assert len(text) < 110


def test_a_handler_that_raises(house: House, logged_failures: list[LogEvent]) -> None:
    """An exception travels as its class and an incident, which stands in the log; its text stays here."""

    @house.action("a")
    def handler() -> None:
        raise LookupError(SECRET)

    house.request()
    house.end()
    status, error = house.reply
    assert (status, error["code"], error["error"]) == ("error", "handler_error", "a raised LookupError")
    assert SECRET not in str(error)
    [event] = logged_failures
    assert error["incident"] in formatEvent(event)
    assert event["log_failure"].check(LookupError)
    house.request()
    house.end()
    assert house.reply[1]["incident"] == error["incident"]
    assert logged_failures == [event]
    logged_failures.clear()


def test_a_result_that_is_no_json(house: House, logged_failures: list[LogEvent]) -> None:
    """A result that JSON cannot have is ``unserializable``, with what it is and an incident."""
    house.action("a")(lambda: {"it": object()})
    house.request()
    house.end()
    status, error = house.reply
    assert (status, error["code"]) == ("error", "unserializable")
    assert error["error"].startswith("a: the answer: a value of type object cannot be served as JSON")
    assert error["incident"] in formatEvent(logged_failures[0])
    logged_failures.clear()


def test_a_result_that_is_too_large(house: House, logged_failures: list[LogEvent]) -> None:
    """A result that no message may have is ``unserializable``, too."""
    house.action("a")(lambda: "x" * wire.LARGEST)
    house.request()
    house.end()
    code, text = house.refusal
    assert code == "unserializable"
    assert "a message may have 1048576 bytes" in text
    assert house.messaging.counts == {"received": 1, "answered": 1, "unserializable": 1}
    logged_failures.clear()


def test_a_reply_that_is_refused(house: House, logged_failures: list[LogEvent]) -> None:
    """A reply that the bus does not take is logged and counted, be it an answer, an error or progress."""

    @house.action("a")
    async def handler() -> int:
        assert await context.response.progress(1) == 0
        return 2

    house.bus.refusing.add("me")
    house.request()
    house.request(action="none")
    assert house.replies == []
    assert [formatEvent(event) for event in logged_failures] == [
        "the answer of a could not be sent: it is down",
        "the answer of a could not be sent: it is down",
        "the answer of 'none' could not be sent: it is down",
    ]
    assert house.messaging.counts == {"received": 2, "answered": 2, "success": 1, "unknown_action": 1, "unsent": 3}
    logged_failures.clear()


def test_an_error_of_our_own(house: House, logged_failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    """If even the error cannot be sent, for a reason that nobody thought of, that is logged."""

    def broken(*_: Any, **__: Any) -> bytes:
        raise AssertionError

    house.action("a")(lambda: 1)
    house.request()
    monkeypatch.setattr(wire, "reply", broken)
    house.end()
    assert formatEvent(logged_failures[-1]) == "while answering for a"
    logged_failures.clear()


# --- time limits -----------------------------------------------------------------------------------------------------


def test_out_of_time_while_running(house: House) -> None:
    """A handler that runs past its limit is answered for, and what it says later is refused."""
    late: list[Any] = []

    @house.action("a", timeout=2)
    def handler() -> str:
        context.response.success(1).addErrback(late.append)
        return "too late"

    with capturedLogs() as logs:
        house.request()
        house.clock.advance(2)
        house.turn()
        assert house.refusal == ("timeout", "a: no end within 2 s")
        house.end()
    assert house.replies == []
    assert late[0].check(AlreadyAnswered)
    assert [event["log_level"] for event in logs] == [LogLevel.warn, LogLevel.warn]
    assert house.messaging.counts == {"received": 1, "answered": 1, "timeout": 1}


def test_out_of_time_while_waiting(house: House) -> None:
    """A request whose limit passes while it waits for a thread is answered, and never run."""
    ran: list[None] = []
    house.action("a", timeout=2)(lambda: ran.append(None))
    house.pool.full = True
    house.request()
    house.clock.advance(2)
    house.turn()
    assert house.refusal[0] == "timeout"
    assert (len(house.pool.jobs), ran) == (0, [])


def test_out_of_time_on_the_reactor(house: House) -> None:
    """An ``async def`` past its limit is answered for and cancelled, so that it can clean up."""
    cleaned: list[None] = []

    @house.action("a", timeout=2)
    async def handler() -> None:
        try:
            await Deferred()
        finally:
            cleaned.append(None)

    house.request()
    house.clock.advance(2)
    house.turn()
    assert house.refusal[0] == "timeout"
    assert cleaned == [None]


def test_out_of_time_after_the_answer(house: House) -> None:
    """A handler that has answered and goes on past its limit has no second answer, and is named in the log."""

    @house.action("a", timeout=2)
    async def handler() -> None:
        await context.response.success(1)
        await Deferred()

    house.request()
    with capturedLogs() as logs:
        house.clock.advance(2)
        house.turn()
    assert house.reply == ("success", 1)
    assert formatEvent(logs[0]) == "a took too long: no end within 2 s"
    assert house.messaging.counts == {"received": 1, "answered": 1, "success": 1}


def test_much_out_of_time(house: House) -> None:
    """An action that is always late, and called in a loop, does not fill the log."""

    @house.action("a", timeout=2)
    async def handler() -> None:
        await Deferred()

    with capturedLogs() as logs:
        for _ in range(100):
            house.request()
            house.clock.advance(2)
            house.turn()
    assert house.messaging.counts["timeout"] == 100
    assert [formatEvent(event) for event in logs] == [
        "a took too long: no end within 2 s",
        "a took too long: no end within 2 s (30 times since the last such line)",
    ]


@pytest.mark.parametrize(("after", "ran"), [(1.0, True), (1.1, False)])
def test_a_caller_that_has_gone(house: House, after: float, ran: bool) -> None:
    """A request whose caller has stopped waiting before it has its turn is answered, and not run."""
    runs: list[None] = []
    house.action("a")(lambda: runs.append(None))
    house.request(timeout=1)
    house.clock.advance(after)
    house.end()
    assert bool(runs) is ran
    if ran:
        assert house.reply == ("success", None)
    else:
        assert house.refusal == ("timeout", "a: the caller's time was up before it had its turn")


@pytest.mark.parametrize("timeout", [31, 0, -1, "1", None, True, 1e300])
def test_a_caller_in_no_hurry(house: House, timeout: Any) -> None:
    """A caller's limit beyond the action's own, or that is none, changes nothing."""
    house.action("a")(lambda: 1)
    house.request(timeout=timeout)
    house.clock.advance(29)
    house.end()
    assert house.reply == ("success", 1)


def test_a_callers_limit_on_the_reactor(house: House) -> None:
    """A caller's limit is heeded for an ``async def``, too, which begins at once."""

    @house.action("a")
    async def handler() -> int:
        return 1

    house.request(timeout=1)
    assert house.reply == ("success", 1)


# --- too much --------------------------------------------------------------------------------------------------------


def test_too_many(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many requests one is answered ``busy`` and not run; those on the reactor are counted by themselves."""
    monkeypatch.setattr(service_module, "MOST_UNDER_WAY", 2)

    @house.action("b")
    async def on_reactor() -> int:
        return 5

    house.action("a")(lambda: 1)
    for _ in range(3):
        house.request()
    assert house.refusal == ("busy", "svc has too much to do already; try again later")
    house.request("b")
    assert house.reply == ("success", 5)
    house.end()
    assert house.reply == ("success", 1)
    house.request()
    house.end()
    house.end()
    assert [each["payload"] for each in house.replies] == [1, 1]


def test_too_many_on_the_reactor(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests that an ``async def`` handles at the same time are bounded, too."""
    monkeypatch.setattr(service_module, "MOST_UNDER_WAY", 2)
    waiting: list[Deferred[int]] = []

    @house.action("a")
    async def handler() -> int:
        waiting.append(Deferred())
        return await waiting[-1]

    for _ in range(3):
        house.request()
    assert house.refusal[0] == "busy"
    for each in waiting:
        each.callback(1)
    house.turn()
    assert len(house.replies) == 2


def test_too_many_bytes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many bytes in all a request is answered ``busy``, until there is memory again."""
    monkeypatch.setattr(service_module, "MOST_BYTES", 1000)
    house.action("a")(lambda: 1)
    house.request(payload="x" * 600)
    house.request(payload="x" * 600)
    assert house.refusal[0] == "busy"
    house.end()
    assert house.reply == ("success", 1)
    house.request(payload="x" * 600)
    house.end()
    assert house.reply == ("success", 1)


def test_too_many_hang(house: House) -> None:
    """As many handlers that hang as there are workers keep further ones from a thread, but none on the reactor."""

    @house.action("b")
    async def on_reactor() -> int:
        return 5

    house.action("a", timeout=2)(lambda: 1)
    house.request()
    house.request()
    house.clock.advance(2)
    house.turn()
    house.replies.clear()
    house.request()
    assert house.refusal == ("busy", "2 handlers of svc hang; try again later")
    house.request("b")
    assert house.reply == ("success", 5)
    house.pool.stuck = 1
    house.end()
    house.end()
    house.request()
    house.end()
    assert house.reply == ("success", 1)


# --- what is no request ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"", "it is no JSON object"),
        (b"\xff\xfe", "it is no JSON object"),
        (b"[]", "it is no JSON object"),
        (b"{}", "it has no action"),
        (b'{"request_id":"1","reply_to":"me"}', "it has no action"),
        (b'{"action":"a","request_id":[]}', "its request_id is neither a text nor a whole number"),
        (b'{"action":"a","request_id":true}', "its request_id is neither a text nor a whole number"),
        (b'{"action":"a","request_id":"1","reply_to":5}', "its reply_to is no name of a channel"),
        (b'{"action":"a","request_id":"1","reply_to":""}', "its reply_to is no name of a channel"),
        (b'{"action":"a","x":' + b"[" * 100 + b"]" * 100 + b"}", "it nests deeper than 32 levels"),
    ],
)
def test_what_is_no_request(house: House, message: bytes, reason: str) -> None:
    """What is no request, or could not be answered, is counted, logged and dropped, and the next one is answered."""
    house.action("a")(lambda: 1)
    with capturedLogs() as logs:
        house.send(message)
    [event] = logs
    assert formatEvent(event).startswith(f"a message on 'svc' was broken: {reason}")
    assert house.messaging.counts == {"received": 1, "broken": 1}
    house.request()
    house.end()
    assert house.reply == ("success", 1)


def test_complaints_are_rare(house: House) -> None:
    """Of many broken messages the first is logged, and a minute later how many there have been since."""
    with capturedLogs() as logs:
        for _ in range(1000):
            house.send(b"\x1b[2J")
        house.clock.advance(59.9)
        house.send(b"\x1b[2J")
        assert len(logs) == 1
        house.clock.advance(0.1)
        house.send(b"\x1b[2J")
    assert house.messaging.counts["broken"] == 1002
    assert formatEvent(logs[1]).endswith("(1001 times since the last such line)")
    assert not re.search(r"[\x00-\x1f]", "".join(map(formatEvent, logs)))


def test_a_reply_to_the_service_itself(house: House) -> None:
    """A request that names the service's own channel for the answer does not go round in circles."""
    house.action("a")(lambda: 1)
    house.send({"action": "a", "request_id": "1", "reply_to": "svc"})
    house.end()
    assert house.messaging.counts == {"received": 2, "answered": 1, "success": 1, "broken": 1}


# --- listeners -------------------------------------------------------------------------------------------------------


def test_listeners(house: House) -> None:
    """Each listener gets what is sent to its channels, once even if several match, and is never answered."""
    got: list[Any] = []

    @house.listen("news")
    @house.listen("n*")
    @house.listen("sensors.*")
    async def heard(message: dict[str, Any]) -> str:
        got.append(("heard", context.request.channel, message))
        return "ignored"

    @house.listen("news")
    async def also() -> None:
        got.append(("also", context.request.channel, context.request.payload))

    house.send({"a": 1}, "news")
    house.send({"payload": 2}, "sensors.x")
    house.send({"a": 3}, "other")
    assert sorted(got, key=str) == [
        ("also", "news", {"a": 1}),
        ("heard", "news", {"a": 1}),
        ("heard", "sensors.x", {"payload": 2}),
    ]
    assert house.messaging.counts == {"received": 3}


def test_a_listener_with_a_class(house: House) -> None:
    """A listener that asks for a dataclass gets one; what does not fit is counted and logged, and not fatal."""
    got: list[Water] = []

    @house.listen("water")
    def heard(water: Water) -> None:
        got.append(water)

    with capturedLogs() as logs:
        house.send({"zone": "x"}, "water")
        house.send(b"[]", "water")
    house.send({"zone": 3}, "water")
    house.end()
    assert got == [Water(3)]
    assert house.messaging.counts == {"received": 3, "broken": 2}
    assert "heard cannot take it: zone: " in formatEvent(logs[0])


def test_listeners_overlap(house: House) -> None:
    """Calls of a listener may overlap."""
    house.listen("news")(lambda: None)
    house.send({}, "news")
    house.send({}, "news")
    assert len(house.pool.jobs) == 2
    house.end()
    house.end()


def test_an_ordered_listener(house: House) -> None:
    """An ordered listener takes one message after the other, in their order, from all its channels."""
    got: list[Any] = []

    @house.listen("a", ordered=True)
    @house.listen("b*", ordered=True)
    def heard(message: dict[str, Any]) -> None:
        got.append(message["n"])

    for number in range(4):
        house.send({"n": number}, "ab"[number % 2])
    for _ in range(4):
        assert len(house.pool.jobs) == 1
        house.end()
    assert got == [0, 1, 2, 3]


def test_a_listener_that_raises(house: House, logged_failures: list[LogEvent]) -> None:
    """A listener that fails is logged and counted, and gets the next message."""
    got: list[Any] = []

    @house.listen("news")
    async def heard(message: dict[str, Any]) -> None:
        got.append(message["a"])

    house.send({}, "news")
    house.send({"a": 1}, "news")
    assert got == [1]
    assert logged_failures[0]["log_failure"].check(KeyError)
    assert house.messaging.counts == {"received": 2, "failed": 1}
    logged_failures.clear()


def test_too_many_broadcasts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broadcasts beyond what can be handled are counted as dropped, and logged."""
    monkeypatch.setattr(service_module, "MOST_UNDER_WAY", 1)
    house.listen("news")(lambda: None)
    with capturedLogs() as logs:
        house.send({}, "news")
        house.send({}, "news")
    assert formatEvent(logs[0]).startswith("a message on 'news' was dropped: svc has too much to do already")
    assert house.messaging.counts == {"received": 2, "dropped": 1}
    house.end()


# --- life ------------------------------------------------------------------------------------------------------------


def test_stop(house: House) -> None:
    """A stop gives up what waits, waits for what runs, and takes nothing more; each request is answered."""
    house.action("a")(lambda: "done")
    house.listen("news", ordered=True)(lambda: None)
    messaging = house.messaging
    house.request(request_id="runs")
    house.pool.full = True
    house.request(request_id="waits")
    house.send({}, "news")
    house.send({}, "news")
    assert len(messaging.running()) == 4
    stopped = messaging.stop()
    late: list[bytes] = []

    def send(status: str, payload: bytes, final: bool) -> Deferred[int]:
        late.append(payload)
        return succeed(1)

    messaging.call_own("a", None, 4, send)
    house.turn()
    assert not stopped.called
    assert [(each["request_id"], each["payload"]["code"], each["payload"]["error"]) for each in house.replies] == [
        ("waits", "busy", "svc is shutting down"),
    ]
    assert late == [b'{"error":"svc is shutting down","code":"busy"}']
    house.replies.clear()
    house.end()
    assert stopped.called
    assert house.reply == ("success", "done")
    house.request()
    house.send({}, "news")
    assert house.replies == []
    assert messaging.counts["received"] == 4


def test_stop_does_not_wait_for_what_hangs(house: House) -> None:
    """A handler that is stuck does not hold up the stop."""
    house.action("a", timeout=2)(lambda: 1)
    house.request()
    house.clock.advance(2)
    assert house.messaging.stop().called
    house.end()


def test_cancelled_at_the_end(house: House, logged_failures: list[LogEvent]) -> None:
    """What runs on the reactor is cancelled and who waits is told; what has answered already has not failed."""

    @house.action("a")
    async def handler(request: Any) -> None:
        if request.payload:
            await context.response.success("early")
        await Deferred()

    @house.listen("news")
    async def heard() -> None:
        await Deferred()

    house.request(payload=True)
    assert house.reply == ("success", "early")
    house.request(payload=False)
    house.send({}, "news")
    stopped = house.messaging.stop()
    assert not stopped.called
    house.messaging.cancel_asynchronous()
    house.turn()
    assert stopped.called
    assert house.refusal == ("busy", "svc is shutting down")
    assert "failed" not in house.messaging.counts
    assert logged_failures == []


def test_close(house: House) -> None:
    """Closing ends the calls of others that are under way, and the bus."""
    house.bus.subscribe("other", lambda channel, message: None)
    asked = house.messaging.call("other", "b", b"null", 5, None)
    errors: list[Any] = []
    asked.addErrback(lambda failure: errors.append(failure.getErrorMessage()))
    assert house.messaging.close().called
    house.turn()
    assert errors == ["other.b was given up: it is shutting down here"]
    assert not house.bus.state.connected


def test_reasons(house: House) -> None:
    """It is ready while the bus is connected; else it says since when that is not so, and why."""
    assert house.messaging.reasons() == []
    house.bus.said = BusState("redis", "Redis", False, 0.0)
    assert house.messaging.reasons() == ["Redis is not connected since 1970-01-01T00:00:00.000Z: not yet"]
    house.bus.said = BusState("redis", "Redis", False, 0.0, "refused")
    assert house.messaging.reasons() == ["Redis is not connected since 1970-01-01T00:00:00.000Z: refused"]


def test_what_cannot_be_listened_to(house: House, logged_failures: list[LogEvent]) -> None:
    """A channel that the bus refuses is logged, and the rest goes on."""
    house.bus.refusing_subscriptions = True
    end = house.messaging.hear(["x"], lambda channel, message: None)
    end()
    assert [formatEvent(event) for event in logged_failures] == ["cannot listen to 'svc'", "cannot listen to 'x'"]
    logged_failures.clear()


# --- for others in this daemon ---------------------------------------------------------------------------------------


def test_call(house: House) -> None:
    """Any service's action can be called by the bus, this one's own as well, with its progress."""

    @house.action("a")
    async def handler(request: Any) -> Any:
        await context.response.progress(1)
        return [request.payload, request.sender]

    steps: list[Any] = []
    outcomes: list[Any] = []
    house.messaging.call("svc", "a", b"[1]", 5, steps.append).addCallback(outcomes.append)
    house.turn()
    assert (steps, outcomes) == ([1], [[[1], "svc"]])
    house.messaging.call("svc", "b", b"1", 5, None).addErrback(lambda failure: outcomes.append(failure.value))
    house.turn()
    assert isinstance(outcomes[1], RemoteError)
    for names in (("a b", "a"), ("svc", "a*")):
        with pytest.raises(MessageError):
            house.messaging.call(*names, b"1", 5, None)


def test_call_own(house: House) -> None:
    """An action can be called without the bus, and answers as it would there."""

    @house.action("a")
    async def handler(water: Water) -> Any:
        await context.response.progress("soon")
        return [water.zone, context.request.channel, context.request.raw]

    answers: list[tuple[str, Any, bool]] = []

    def send(status: str, payload: bytes, final: bool) -> Deferred[int]:
        answers.append((status, wire.parse(b'{"it":%b}' % payload)["it"], final))
        return succeed(1)

    house.messaging.call_own("a", {"zone": 2}, 10, send)
    assert answers == [
        ("progress", "soon", False),
        ("success", [2, None, {"action": "a", "payload": {"zone": 2}}], True),
    ]
    answers.clear()
    house.messaging.call_own("none", None, 4, send)
    house.messaging.call_own("a", None, 4, send)
    assert [payload["code"] for _, payload, _ in answers] == ["unknown_action", "invalid_payload"]


def test_publish_and_hear(house: House) -> None:
    """Others can send to any channel and listen to any, until they end it."""
    heard: list[tuple[str, bytes]] = []
    receiver = cast(Callable[[str, bytes], object], lambda channel, message: heard.append((channel, message)))
    end = house.messaging.hear(["a", "b*"], receiver)
    counts: list[int] = []
    for channel in ("a", "bc", "c"):
        house.messaging.publish(channel, b"{}").addCallback(counts.append)
    house.turn()
    assert (counts, heard) == ([1, 1, 0], [("a", b"{}"), ("bc", b"{}")])
    end()
    house.messaging.publish("a", b"{}").addCallback(counts.append)
    assert counts == [1, 1, 0, 0]
    with pytest.raises(MessageError, match="is no channel"):
        house.messaging.publish("", b"{}")
