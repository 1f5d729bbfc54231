"""What every bus does, in memory and on Redis. What depends on the parser is tried with both of them."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from redis_server import PATIENCE, RedisServer, shared_redis_server  # noqa: F401 - the fixture redis_server
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from rpiserve.core.wire import LARGEST
from rpiserve.errors import BusUnavailable, DataError, MessageError
from rpiserve.messaging.address import RedisAddress
from rpiserve.messaging.bus import Bus
from rpiserve.messaging.memory_bus import MemoryBus
from rpiserve.messaging.redis_bus import RedisBus
from rpiserve.messaging.redis_connection import PARSER, PlainConnection

PARSERS = {"redis": PARSER, "redis without hiredis": PlainConnection}
EVERY_PARSER = pytest.mark.parametrize("make_bus", ["memory", *PARSERS], indirect=True)
EVERY_BYTE = bytes(range(256))
LAST = b"the last message"


class Ears:
    """A receiver that keeps what it hears until `LAST`."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._last: Deferred[None] = Deferred()

    def __call__(self, channel: str, message: bytes) -> None:
        if message != LAST:
            self.heard.append((channel, message))
        elif not self._last.called:
            self._last.callback(None)

    async def until_last(self) -> list[tuple[str, bytes]]:
        """Wait for `LAST`, and return what came before."""
        await done(self._last)
        return self.heard


def done(result: Deferred[Any]) -> Deferred[Any]:
    """Return ``result``, which is to come in time."""
    return result.addTimeout(PATIENCE, reactor)


@pytest.fixture(params=["memory", "redis"])
def make_bus(request: pytest.FixtureRequest) -> Callable[[], Bus]:
    """Make buses of one kind, which are not begun yet."""
    if request.param == "memory":
        return lambda: MemoryBus(reactor, time.time)
    server: RedisServer = request.getfixturevalue("redis_server")
    return lambda: RedisBus(RedisAddress.parse(server.url), reactor, time.time, PARSERS[request.param])


@pytest.fixture
def bus(make_bus: Callable[[], Bus]) -> Iterator[Bus]:
    """A bus that is connected."""
    made = make_bus()
    pytest_twisted.blockon(done(made.start()))
    assert made.state.connected
    yield made
    pytest_twisted.blockon(done(made.close()))


@pytest.fixture
def name() -> str:
    """A name that nothing else uses, without a character that means something in a pattern."""
    return uuid4().hex


@pytest_twisted.ensureDeferred
async def test_count_of_receivers(bus: Bus, name: str) -> None:
    """Publishing tells how many there are to hear it: none, one, and one less after it has left."""
    ears = Ears()
    assert await done(bus.publish(name, b"1")) == 0
    await done(bus.subscribe(name, ears))
    assert await done(bus.publish(name, b"2")) == 1
    assert await done(bus.publish(name + "x", b"3")) == 0
    await done(bus.publish(name, LAST))
    assert await ears.until_last() == [(name, b"2")]
    bus.unsubscribe(name, ears)
    await done(bus.subscribe(name + "x", ears))  # confirmed after the other has been left
    assert await done(bus.publish(name, b"4")) == 0


@EVERY_PARSER
@pytest.mark.parametrize("message", [b"", EVERY_BYTE, b"007", b"1.10", b"\r\n$3\r\n", "é\0".encode(), b"\xff" * 20_000])
@pytest_twisted.ensureDeferred
async def test_exact_bytes(bus: Bus, name: str, message: bytes) -> None:
    """A message arrives byte for byte: nothing is taken for a number, a text or a line of the protocol."""
    ears = Ears()
    await done(bus.subscribe(name, ears))
    await done(bus.publish(name, message))
    await done(bus.publish(name, LAST))
    assert await ears.until_last() == [(name, message)]


@pytest.mark.parametrize("ending", ["é", "\U0001f600", "a b", "{0}", "subscribe", "message", "\udcff", "\n"])
@pytest_twisted.ensureDeferred
async def test_names_of_channels(bus: Bus, name: str, ending: str) -> None:
    """A channel may have any name, and the name arrives as it was."""
    ears = Ears()
    await done(bus.subscribe(name + ending, ears))
    await done(bus.publish(name + ending, b"1"))
    await done(bus.publish(name + ending, LAST))
    assert await ears.until_last() == [(name + ending, b"1")]


PATTERNS = {
    "*": ["", "a", "a.b", "*"],
    ".?": [".a", ".b", ".c", ".d", ".?", ".*", ".]", ".^"],
    ".??": [".ab", ".é"],
    ".[a-c]": [".a", ".b", ".c"],
    ".[^a-c]": [".d", ".?", ".*", ".]", ".^"],
    r".\*": [".*"],
    r".[\]a]": [".]", ".a"],
    ".[a": [".a"],
    "é*": ["é", "éa"],
}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest_twisted.ensureDeferred
async def test_patterns(bus: Bus, name: str, pattern: str) -> None:
    """A pattern hears what it matches, and nothing else."""
    endings = ["", "a", "a.b", "*", ".", *(ending for matched in PATTERNS.values() for ending in matched)]
    ears, end = Ears(), Ears()
    await done(bus.subscribe(name + pattern, ears))
    await done(bus.subscribe(f"end.{name}", end))
    for ending in endings:
        await done(bus.publish(name + ending, ending.encode()))
    await done(bus.publish(f"end.{name}", LAST))
    await end.until_last()
    matched = [ending for ending in endings if ending in PATTERNS[pattern] or pattern == "*"]
    assert ears.heard == [(name + ending, ending.encode()) for ending in matched]


@pytest_twisted.ensureDeferred
async def test_once_for_each_receiver(bus: Bus, name: str) -> None:
    """Whoever subscribes to a channel, twice, and to patterns that match it gets a message once, as do the others."""
    ears, others = Ears(), Ears()
    for channel in (name, name, f"{name}*", f"{name[:-1]}?", "*"):
        await done(bus.subscribe(channel, ears))
    for channel in (f"{name[:-1]}*", f"{name[:-1]}[{name[-1]}]"):
        await done(bus.subscribe(channel, others))
    for message in (b"1", b"2", LAST):
        assert await done(bus.publish(name, message)) >= 2
    assert await ears.until_last() == await others.until_last() == [(name, b"1"), (name, b"2")]
    bus.unsubscribe(name, ears)
    bus.unsubscribe(f"{name}*", ears)  # two patterns still do
    await done(bus.subscribe(f"end.{name}", ears))
    await done(bus.publish(name, b"3"))
    later = Ears()
    await done(bus.subscribe(f"{name}.end", later))
    await done(bus.publish(f"{name}.end", LAST))
    await later.until_last()
    assert ears.heard[2:] == [(name, b"3")]


@pytest_twisted.ensureDeferred
async def test_pattern_that_is_no_text_of_one_byte_each(bus: Bus, name: str) -> None:
    """A message is not lost to a pattern that would match its channel, were characters counted rather than bytes."""
    ears = Ears()
    await done(bus.subscribe(f"{name}?", ears))
    await done(bus.subscribe(f"{name}*", ears))
    await done(bus.publish(f"{name}é", b"1"))
    await done(bus.publish(f"{name}e", LAST))
    assert await ears.until_last() == [(f"{name}é", b"1")]


@EVERY_PARSER
@pytest_twisted.ensureDeferred
async def test_order(bus: Bus, name: str) -> None:
    """Messages arrive in the order in which they were sent, across channels, though nobody waits in between."""
    ears = Ears()
    await done(bus.subscribe(name, ears))
    await done(bus.subscribe(f"{name}.*", ears))
    sent = [(name if number % 3 else f"{name}.{number}", b"%d" % number) for number in range(1000)]
    counts = [bus.publish(channel, message) for channel, message in sent]
    last = bus.publish(name, LAST)
    assert await done(gatherResults(counts)) == [1] * 1000
    await done(last)
    assert await ears.until_last() == sent


@pytest_twisted.ensureDeferred
async def test_never_within_publish(bus: Bus, name: str) -> None:
    """A receiver is not called before `publish` has returned; nor is it while another one runs that publishes."""
    running: list[str] = []
    ears = Ears()

    def answer(channel: str, message: bytes) -> None:
        assert not running
        running.append("answer")
        for sent in (b"an answer", LAST):
            bus.publish(f"{name}.answers", sent)
        running.clear()

    def hear(channel: str, message: bytes) -> None:
        assert not running
        ears(channel, message)

    await done(bus.subscribe(name, answer))
    await done(bus.subscribe(f"{name}.answers", hear))
    running.append("publish")
    sent = bus.publish(name, b"1")
    running.clear()
    await done(sent)
    assert await ears.until_last() == [(f"{name}.answers", b"an answer")]


@pytest_twisted.ensureDeferred
async def test_unsubscribed_at_once(bus: Bus, name: str) -> None:
    """Once unsubscribed, a receiver hears nothing more, not even what is under way; one that never was is no error."""
    ears, end = Ears(), Ears()
    bus.unsubscribe(name, ears)
    await done(bus.subscribe(name, ears))
    await done(bus.subscribe(f"end.{name}", end))
    sent = [bus.publish(name, b"1"), bus.publish(f"end.{name}", LAST)]
    bus.unsubscribe(name, ears)
    bus.unsubscribe(name, ears)
    await done(gatherResults(sent))
    await end.until_last()
    assert ears.heard == []


@EVERY_PARSER
@pytest.mark.parametrize("ending", ["", "*"])
@pytest_twisted.ensureDeferred
async def test_unsubscribed_and_subscribed_again(bus: Bus, name: str, ending: str) -> None:
    """To leave a channel and come back without waiting, many times, ends as if one had never left."""
    ears, others = Ears(), Ears()
    await done(bus.subscribe(name + ending, others))
    bus.unsubscribe(name + ending, others)
    for _ in range(20):
        subscribed = bus.subscribe(name + ending, ears)
        bus.unsubscribe(name + ending, ears)
        subscribed = gatherResults([subscribed, bus.subscribe(name + ending, ears)])
    await done(subscribed)
    assert await done(bus.publish(name, b"1")) == 1
    await done(bus.publish(name, LAST))
    assert await ears.until_last() == [(name, b"1")]
    assert others.heard == []


@pytest_twisted.ensureDeferred
async def test_one_leaves_another_stays(bus: Bus, name: str) -> None:
    """A channel goes on for those who stay."""
    leaves, stays = Ears(), Ears()
    await done(bus.subscribe(name, leaves))
    await done(bus.subscribe(name, stays))
    bus.unsubscribe(name, leaves)
    await done(bus.publish(name, b"1"))
    await done(bus.publish(name, LAST))
    assert await stays.until_last() == [(name, b"1")]
    assert leaves.heard == []


@pytest_twisted.ensureDeferred
async def test_receiver_that_raises(bus: Bus, name: str, logged_failures: list[LogEvent]) -> None:
    """One that raises keeps no other from hearing the message, nor itself from the next; each time is logged."""
    calls, before, after = [], Ears(), Ears()

    def raises(channel: str, message: bytes) -> None:
        calls.append(message)
        raise ZeroDivisionError("{it} is {not} a format")

    for receiver in (before, raises, after):
        await done(bus.subscribe(name, receiver))
    for message in (b"1", b"2", LAST):
        await done(bus.publish(name, message))
    assert await before.until_last() == await after.until_last() == [(name, b"1"), (name, b"2")]
    assert calls == [b"1", b"2", LAST]
    assert [event["log_failure"].type for event in logged_failures] == [ZeroDivisionError] * 3
    logged_failures.clear()


@EVERY_PARSER
@pytest_twisted.ensureDeferred
async def test_largest_message(bus: Bus, name: str) -> None:
    """A message of 1 MiB arrives; one of a byte more is refused at the call, and is not sent."""
    ears = Ears()
    await done(bus.subscribe(name, ears))
    with pytest.raises(MessageError, match=f"may have {LARGEST} bytes, and this one has {LARGEST + 1}"):
        bus.publish(name, b"x" * (LARGEST + 1))
    await done(bus.publish(name, b"x" * LARGEST))
    await done(bus.publish(name, LAST))
    [(_, message)] = await ears.until_last()
    assert message == b"x" * LARGEST


@EVERY_PARSER
@pytest_twisted.ensureDeferred
async def test_cache(bus: Bus, name: str) -> None:
    """A value is what was set last, until it is removed; what there was not is not counted."""
    assert await done(bus.get(name)) is None
    for value in (EVERY_BYTE, b"", b"007"):
        assert await done(bus.set(name, value, None)) is None
        assert await done(bus.get(name)) == value
    await done(bus.set(f"{name}é", b"2", None))
    assert await done(bus.delete([name, name, f"{name}é", f"{name}.none"])) == 2
    assert await done(bus.get(name)) is None
    assert await done(bus.delete([name])) == 0
    assert await done(bus.delete([])) == 0


@pytest_twisted.ensureDeferred
async def test_cache_forgets(bus: Bus, name: str) -> None:
    """A value lasts as long as was said, a sum keeps the end of what it was; what is set anew without an end stays."""
    for key in ("short", "set anew", "incremented"):
        await done(bus.set(name + key, b"1", 0.001))
    await done(bus.set(f"{name}set anew", b"2", None))
    await done(bus.set(f"{name}long", b"3", 1e6))
    await done(bus.set(f"{name}a number", b"4", 30.0))
    assert await done(bus.incr(f"{name}a number", 1)) == 5
    while await done(bus.get(f"{name}short")) is not None or await done(bus.get(f"{name}incremented")) is not None:
        await deferLater(reactor, 0)
    assert await done(bus.get(f"{name}set anew")) == b"2"
    assert await done(bus.get(f"{name}long")) == b"3"
    assert await done(bus.incr(f"{name}incremented", 1)) == 1
    assert await done(bus.delete([f"{name}short", f"{name}long", f"{name}a number"])) == 2


@pytest_twisted.ensureDeferred
async def test_announcements(bus: Bus, name: str) -> None:
    """What is announced is known to all on the bus until its time is over, or it is taken back."""
    one, other, brief = (f"{name}{suffix}" for suffix in ("one", "éother", "brief"))

    async def known() -> dict[str, bytes]:
        return {key: value for key, value in (await done(bus.announced())).items() if key.startswith(name)}

    assert await known() == {}
    await done(bus.announce(one, b"1", 1000.0))
    await done(bus.announce(other, EVERY_BYTE, 1000.0))
    await done(bus.announce(one, b"2", 1000.0))
    assert await known() == {one: b"2", other: EVERY_BYTE}
    await done(bus.announce(brief, b"3", 0.001))
    while brief in await known():
        await deferLater(reactor, 0)
    await done(bus.withdraw(one))
    await done(bus.withdraw(one))
    assert await known() == {other: EVERY_BYTE}
    await done(bus.withdraw(other))
    assert await known() == {}


@pytest_twisted.ensureDeferred
async def test_incr(bus: Bus, name: str) -> None:
    """A number begins at 0, goes up and down, reaches both ends of 64 bits, and is a value like any other."""
    assert await done(bus.incr(name, 1)) == 1
    assert await done(bus.incr(name, -3)) == -2
    assert await done(bus.get(name)) == b"-2"
    assert await done(bus.incr(name, 2)) == 0
    assert await done(bus.incr(name, 2**63 - 1)) == 2**63 - 1
    await done(bus.set(name, b"-1", None))
    assert await done(bus.incr(name, -(2**63) + 1)) == -(2**63)


NO_NUMBERS = [b"", b"x", b" 1", b"1 ", b"+1", b"01", b"-0", b"1.0", b"1_0", b"0x1", "\uff11".encode(), b"9" * 30]
OVERFLOWS = [
    (b"9223372036854775807", 1),
    (b"-9223372036854775808", -1),
    (b"9223372036854775808", -1),
    (b"-9223372036854775809", 1),
    (b"-1", 2**63),
    (b"0", 2**70),
]


@pytest.mark.parametrize(("value", "amount"), [*((value, 1) for value in NO_NUMBERS), *OVERFLOWS])
@pytest_twisted.ensureDeferred
async def test_incr_of_what_is_no_number(bus: Bus, name: str, value: bytes, amount: int) -> None:
    """What is no whole number of 64 bits, or would become none, is an error of the data and stays as it was."""
    await done(bus.set(name, value, None))
    with pytest.raises(DataError, match="the cache: "):
        await done(bus.incr(name, amount))
    assert await done(bus.get(name)) == value


@pytest_twisted.ensureDeferred
async def test_state(make_bus: Callable[[], Bus]) -> None:
    """The state has a name, says since when it is so, and that a closed bus is not connected."""
    bus = make_bus()
    before = time.time()
    await done(bus.start())
    state = bus.state
    assert state.name
    assert state.connected
    assert before - 1 <= state.since <= time.time() + 1
    assert state.error is None
    await done(bus.close())
    assert not bus.state.connected


@pytest_twisted.ensureDeferred
async def test_closed(make_bus: Callable[[], Bus], name: str) -> None:
    """A closed bus delivers nothing more, sends nothing, and may be closed again; what was sent before is sent."""
    bus, ears = make_bus(), Ears()
    bus.watch(lambda reason: None)
    bus.when_connected(lambda: None)
    await done(bus.start())
    await done(bus.subscribe(name, ears))
    sent = bus.publish(name, b"1")
    await done(gatherResults([bus.close(), bus.close()]))
    assert await done(sent) == 1
    assert ears.heard == []
    with pytest.raises(BusUnavailable, match="closed"):
        await done(bus.publish(name, b"2"))
    await done(bus.subscribe(f"{name}.late", ears))
    bus.unsubscribe(name, ears)
    await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_subscribed_before_the_start(make_bus: Callable[[], Bus], name: str) -> None:
    """What was subscribed to before the start is heard as soon as that is done; what was published then is sent."""
    bus, ears = make_bus(), Ears()
    await done(bus.subscribe(name, ears))
    await done(bus.subscribe(f"{name}.*", ears))
    sent = bus.publish(name, b"1")
    await done(bus.start())
    assert await done(sent) == 1
    await done(bus.publish(f"{name}.2", b"2"))
    await done(bus.publish(name, LAST))
    assert await ears.until_last() == [(name, b"1"), (f"{name}.2", b"2")]
    await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_closed_before_the_start(make_bus: Callable[[], Bus]) -> None:
    """A bus that has never begun can be closed."""
    await done(make_bus().close())
