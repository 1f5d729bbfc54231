"""Requests on their way there and back: each ends once, and leaves nothing behind."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, inlineCallbacks, succeed
from twisted.internet.task import Clock

from rpiserve.core import wire
from rpiserve.data import encoding
from rpiserve.errors import (
    BusUnavailable,
    CallTimeout,
    MessageError,
    NoResponders,
    RemoteError,
    RemoteTimeout,
    Stopped,
    TooManyPending,
)
from rpiserve.messaging.bus import BusState
from rpiserve.messaging.memory_bus import MemoryBus
from rpiserve.messaging.messenger import Messenger


class Bus(MemoryBus):
    """A bus in memory that can be late, and can be lost.

    Attributes:
        subscribing: what the next subscription brings, if that is not success at once.
        publishing: what the next messages bring, if that is not the usual.
        lost: what is called when it is lost.
        heard: the channels that are subscribed to.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, clock.seconds)
        self.subscribing: Deferred[None] | None = None
        self.publishing: Callable[[], Deferred[int]] | None = None
        self.lost: Callable[[str], object] = lambda _: None
        self.heard: list[str] = []

    @property
    def state(self) -> BusState:
        return BusState("memory", "the bus", True, 0.0)

    def watch(self, lost: Callable[[str], object]) -> None:
        self.lost = lost

    def subscribe(self, channel: str, receiver: Any) -> Deferred[None]:
        super().subscribe(channel, receiver)
        self.heard.append(channel)
        outcome, self.subscribing = self.subscribing, None
        return succeed(None) if outcome is None else outcome

    def unsubscribe(self, channel: str, receiver: Any) -> None:
        super().unsubscribe(channel, receiver)
        if channel in self.heard:
            self.heard.remove(channel)

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        return super().publish(channel, message) if self.publishing is None else self.publishing()


class Post:
    """A messenger, and a service that it calls.

    Attributes:
        requests: what the service has got.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.bus = Bus(self.clock)
        self.messenger = Messenger("me", self.bus, self.clock, most_pending=3)
        self.requests: list[wire.Request] = []
        self.bus.subscribe("svc", lambda _, message: self.requests.append(wire.parse_request(message)))

    def ask(self, action: str = "a", payload: Any = None, timeout: float = 5, **options: Any) -> "Asked":
        """Send a request."""
        return Asked(self.messenger.request("svc", action, encoding.encode(payload), timeout, **options))

    def turn(self) -> None:
        """Let all that is under way arrive."""
        self.clock.pump([0] * 5)

    def answer(self, status: str = "success", payload: Any = None, final: bool = True, which: int = -1) -> None:
        """Answer a request that the service has got."""
        request = self.requests[which]
        assert request.reply_to is not None
        assert request.request_id is not None
        self.bus.publish(request.reply_to, wire.reply(request.request_id, status, payload, final=final))
        self.turn()


class Asked:
    """What a request brings."""

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.deferred = deferred
        self.outcomes: list[Any] = []
        deferred.addBoth(self.outcomes.append)

    @property
    def waits(self) -> bool:
        """Whether it has not ended."""
        return not self.outcomes

    @property
    def value(self) -> Any:
        """What it has brought."""
        [outcome] = self.outcomes
        return outcome

    @property
    def error(self) -> Any:
        """What it has failed with."""
        return self.value.value


@pytest.fixture
def post() -> Iterator[Post]:
    """A messenger that waits for nothing in the end, and has no time limit running."""
    post = Post()
    yield post
    assert post.messenger.pending == 0
    assert post.clock.getDelayedCalls() == []


def test_an_answer(post: Post) -> None:
    """A request carries all that its service needs, and the final reply ends it."""
    asked = post.ask("get", {"a": 1}, timeout=7)
    post.turn()
    [request] = post.requests
    assert (request.action, request.payload, request.sender, request.timeout) == ("get", {"a": 1}, "me", 7.0)
    assert request.raw["service"] == "svc"
    assert (asked.waits, post.messenger.pending) == (True, 1)
    post.answer(payload={"b": 2})
    assert asked.value == {"b": 2}
    assert post.messenger.counts == {"sent": 1}


def test_answers_find_their_requests(post: Post) -> None:
    """All requests share one channel for replies, and each gets its own reply whatever their order."""
    asked = [post.ask(payload=number) for number in range(3)]
    post.turn()
    for which in (2, 0, 1):
        post.answer(payload=post.requests[which].payload, which=which)
    assert [each.value for each in asked] == [0, 1, 2]
    assert len(post.bus.heard) == 2


def test_an_unknown_status(post: Post) -> None:
    """A final reply with a status of another's making counts as an answer."""
    asked = post.ask()
    post.turn()
    post.answer("fine", 1)
    assert asked.value == 1


def test_a_remote_error(post: Post) -> None:
    """An error reply is `RemoteError` with its code, its incident and its errors."""
    asked = post.ask()
    post.turn()
    errors = [{"argument": "n", "message": "no"}]
    post.answer("error", wire.error("bad", "invalid_payload", "abc", errors))
    error = asked.error
    assert isinstance(error, RemoteError)
    assert (str(error), error.code, error.incident, error.errors) == ("bad", "invalid_payload", "abc", errors)


def test_a_remote_timeout(post: Post) -> None:
    """A service's own time limit is a `RemoteTimeout`, which is a `CallTimeout`, too."""
    asked = post.ask()
    post.turn()
    post.answer("error", wire.error("late", "timeout"))
    assert isinstance(asked.error, RemoteTimeout)
    assert isinstance(asked.error, CallTimeout)


def test_a_remote_error_as_daebus_has_it(post: Post) -> None:
    """An error without a code, or that is a text alone, has None for its code."""
    for payload, text in (({"error": "bad"}, "bad"), ("just bad", "just bad")):
        asked = post.ask()
        post.turn()
        post.answer("error", payload)
        assert (str(asked.error), asked.error.code) == (text, None)


def test_no_answer(post: Post) -> None:
    """A request without an answer ends with `CallTimeout`, and what comes late is only counted."""
    asked = post.ask(timeout=2)
    post.turn()
    post.clock.advance(1.9)
    assert asked.waits
    post.clock.advance(0.1)
    assert isinstance(asked.error, CallTimeout)
    assert str(asked.error) == "svc.a: no answer within 2 s"
    post.answer()
    assert post.messenger.counts["late"] == 1


def test_an_answer_twice(post: Post) -> None:
    """The second of two final replies is only counted."""
    asked = post.ask()
    post.turn()
    post.answer(payload=1)
    post.answer(payload=2)
    assert asked.value == 1
    assert post.messenger.counts["late"] == 1


def test_broken_replies(post: Post) -> None:
    """What arrives and is no reply is counted, and a reply to nothing as a late one."""
    asked = post.ask()
    post.turn()
    channel = post.requests[0].reply_to
    assert channel is not None
    for message in (b"", b"[]", b"{}", b'{"request_id":1,"status":"success"}', b"\xff"):
        post.bus.publish(channel, message)
    post.bus.publish(channel, b'{"request_id":"x","status":"success"}')
    post.turn()
    assert (post.messenger.counts["broken"], post.messenger.counts["late"]) == (5, 1)
    post.answer()
    assert asked.value is None


def test_cancel(post: Post) -> None:
    """To cancel the Deferred ends the request."""
    asked = post.ask()
    post.turn()
    asked.deferred.cancel()
    assert isinstance(asked.error, CancelledError)
    post.answer()
    assert post.messenger.counts["late"] == 1


def test_nobody_listens(post: Post) -> None:
    """A request that nobody gets ends at once, and names the service, dots and all."""
    asked = Asked(post.messenger.request("my.old.svc", "a.b", b"null", 5))
    assert isinstance(asked.error, NoResponders)
    assert str(asked.error) == "my.old.svc.a.b: nobody listens for my.old.svc"


def test_nobody_listens_but_it_has_ended(post: Post) -> None:
    """That nobody has got a request which was cancelled meanwhile is of no concern."""
    sent: Deferred[int] = Deferred()
    post.bus.publishing = lambda: sent
    asked = post.ask()
    asked.deferred.cancel()
    sent.callback(0)
    assert isinstance(asked.error, CancelledError)


def test_too_many(post: Post) -> None:
    """There is a limit to the requests that wait; beyond it one fails at once, and room comes back."""
    asked = [post.ask() for _ in range(3)]
    with pytest.raises(TooManyPending, match="3 requests wait for their replies already"):
        post.ask()
    post.turn()
    post.answer(which=0)
    asked.append(post.ask())
    post.turn()
    for which in (1, 2, 3):
        post.answer(which=which)
    assert [each.value for each in asked] == [None] * 4


def test_too_large(post: Post) -> None:
    """A request that is too large raises at once, and leaves nothing behind."""
    with pytest.raises(MessageError, match="a message may have"):
        post.ask(payload="x" * wire.LARGEST)


def test_a_bus_that_is_down(post: Post) -> None:
    """While the bus is not connected a request fails at once with `BusUnavailable`."""
    post.bus.publishing = lambda: fail(BusUnavailable("down"))
    asked = post.ask()
    assert isinstance(asked.error, BusUnavailable)


def test_a_bus_that_is_lost(post: Post) -> None:
    """All requests under way fail with `BusUnavailable` when the connection is lost, and new ones go on."""
    asked = [post.ask("a"), post.ask("b")]
    post.turn()
    post.bus.lost("the connection was lost")
    assert [str(each.error) for each in asked] == [
        f"svc.{action}: the bus: the connection was lost; whether it was done is not known" for action in "ab"
    ]
    assert all(isinstance(each.error, BusUnavailable) for each in asked)
    again = post.ask()
    post.turn()
    post.answer()
    assert again.value is None


def test_the_replies_are_heard_first(post: Post) -> None:
    """Nothing is sent before the replies can be heard, and then all in the order of the calls."""
    subscribing: Deferred[None] = Deferred()
    post.bus.subscribing = subscribing
    asked = [post.ask(payload=number) for number in range(3)]
    asked[1].deferred.cancel()
    post.turn()
    assert post.requests == []
    subscribing.callback(None)
    post.turn()
    assert [request.payload for request in post.requests] == [0, 2]
    for which in (0, 1):
        post.answer(which=which)
    assert [asked[which].value for which in (0, 2)] == [None, None]


def test_replies_that_cannot_be_heard(post: Post) -> None:
    """If the channel for the replies is refused the request fails with that, and the next one tries anew."""
    subscribing: Deferred[None] = Deferred()
    post.bus.subscribing = subscribing
    asked = [post.ask(), post.ask()]
    asked[1].deferred.cancel()
    subscribing.errback(BusUnavailable("refused"))
    assert isinstance(asked[0].error, BusUnavailable)
    again = post.ask()
    post.turn()
    post.answer()
    assert again.value is None


def test_progress(post: Post) -> None:
    """What is not final is progress, whatever its status, and does not end the request."""
    steps: list[Any] = []
    asked = post.ask(progress=steps.append)
    post.turn()
    post.answer("progress", 1, final=False)
    post.answer("success", 2, final=False)
    post.answer("error", {"error": "not yet"}, final=False)
    assert (steps, asked.waits) == ([1, 2, {"error": "not yet"}], True)
    post.answer(payload=3)
    assert asked.value == 3


def test_progress_that_nobody_wants(post: Post) -> None:
    """Progress without anybody to tell is ignored."""
    asked = post.ask()
    post.turn()
    post.answer("progress", 1, final=False)
    post.answer(payload=2)
    assert asked.value == 2


def test_progress_does_not_prolong(post: Post) -> None:
    """The time limit is for the whole request, however much progress it makes."""
    asked = post.ask(timeout=2, progress=lambda _: None)
    post.turn()
    post.clock.advance(1.5)
    post.answer("progress", 1, final=False)
    post.clock.advance(0.5)
    assert isinstance(asked.error, CallTimeout)


def raising(payload: object) -> None:
    """Raise at once."""
    raise ZeroDivisionError


async def raising_coroutine(payload: object) -> None:
    """Raise when awaited."""
    raise ZeroDivisionError


@inlineCallbacks
def raising_deferred(payload: object) -> Any:
    """Return a Deferred that fails."""
    yield succeed(None)
    raise ZeroDivisionError


@pytest.mark.parametrize("progress", [raising, raising_coroutine, raising_deferred])
def test_progress_that_raises(post: Post, progress: Callable[[object], object]) -> None:
    """What is told of the progress and raises, in whichever form, ends the request with that."""
    asked = post.ask(progress=progress)
    post.turn()
    post.answer("progress", 1, final=False)
    assert isinstance(asked.error, ZeroDivisionError)
    post.answer()
    assert post.messenger.counts["late"] == 1


def test_progress_in_a_coroutine(post: Post) -> None:
    """What is told of the progress may be an ``async def``."""
    steps: list[object] = []

    async def note(payload: object) -> None:
        await succeed(None)
        steps.append(payload)

    asked = post.ask(progress=note)
    post.turn()
    post.answer("progress", 1, final=False)
    post.answer()
    assert (steps, asked.value) == ([1], None)


def test_give_up(post: Post) -> None:
    """Giving up ends the requests of one owner, and no other's."""
    me, you = object(), object()
    mine, yours = post.ask(owner=me), post.ask(owner=you)
    post.turn()
    post.messenger.give_up(me)
    assert isinstance(mine.error, Stopped)
    assert str(mine.error) == "svc.a was given up: the caller was closed"
    assert yours.waits
    post.answer()
    assert yours.value is None


def test_close(post: Post) -> None:
    """Closing ends all requests with `Stopped`, and so do those end that come later; nothing is heard any more."""
    asked = [post.ask(), post.ask()]
    post.turn()
    post.messenger.close()
    post.messenger.close()
    asked.append(post.ask())
    assert all(isinstance(each.error, Stopped) for each in asked)
    post.turn()
    assert (len(post.requests), post.bus.heard) == (2, ["svc"])
