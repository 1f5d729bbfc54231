"""The bus on a real Redis server that comes, goes, freezes and refuses: all is well again without a restart."""

import gc
import os
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
import pytest_twisted
from certificates import write_certificate
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_server import HOST, PATIENCE, RedisServer, shared_redis_server  # noqa: F401 - the fixture redis_server
from twisted.internet import reactor, ssl
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.protocols.portforward import ProxyFactory

from rpiserve.errors import BusUnavailable, DataError, StartError
from rpiserve.messaging.address import RedisAddress
from rpiserve.messaging.bus import compile_pattern, encoded
from rpiserve.messaging.redis_bus import RedisBus
from rpiserve.messaging.redis_connection import LOST, PARSER, Connection, PlainConnection


class Impatient(PARSER):  # type: ignore[valid-type,misc]
    """The kind of connection that daemons here have, with four times as many pings."""

    ping_seconds = 0.25


class PlainImpatient(PlainConnection):
    """The same with the parser that is there without hiredis."""

    ping_seconds = 0.25


BOTH_PARSERS = pytest.mark.parametrize("parser", [Impatient, PlainImpatient])
SILENT = r"it has sent nothing for 0\.75 s"
UP = "is connected$"
DOWN = "is not connected: "


class News:
    """What the buses have logged."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._seen = 0
        self._waiting: tuple[str, Deferred[str]] | None = None

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "rpiserve.messaging.redis_bus":
            self._texts.append(formatEvent(event))
            self._look()

    def _look(self) -> None:
        while self._waiting is not None and self._seen < len(self._texts):
            self._seen += 1
            pattern, waiting = self._waiting
            if re.search(pattern, self._texts[self._seen - 1]):
                self._waiting = None
                waiting.callback(self._texts[self._seen - 1])

    def until(self, pattern: str) -> Deferred[str]:
        """Fire once something is logged, after what was waited for last, that matches ``pattern``."""
        waiting: Deferred[str] = Deferred()
        self._waiting = (pattern, waiting)
        self._look()
        return done(waiting)


class Ears:
    """A receiver that tells when it hears something. A message that was not asked for is kept in `heard`."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._next: Deferred[None] | None = None

    def __call__(self, channel: str, message: bytes) -> None:
        self.heard.append((channel, message))
        if self._next is not None:
            waiting, self._next = self._next, None
            waiting.callback(None)

    async def until(self, number: int) -> list[tuple[str, bytes]]:
        """Wait until there are so many messages, and return all."""
        while len(self.heard) < number:
            self._next = Deferred()
            await done(self._next)
        return self.heard


def done(result: Deferred[Any]) -> Deferred[Any]:
    """Return ``result``, which is to come in time."""
    return result.addTimeout(PATIENCE, reactor)


@pytest.fixture
def news() -> Iterator[News]:
    """What the buses log during the test."""
    observer = News()
    globalLogPublisher.addObserver(observer)
    yield observer
    globalLogPublisher.removeObserver(observer)


@pytest.fixture
def parser() -> type[Connection]:
    """The kind of connection."""
    return Impatient


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of the test's own, to do anything with."""
    with RedisServer() as running:
        yield running


def bus_at(url: str, parser: type[Connection] = Impatient, **more: Any) -> RedisBus:
    """Return a bus that is not begun yet."""
    return RedisBus(attrs.evolve(RedisAddress.parse(url), **more), reactor, time.time, parser)


async def echoes(bus: RedisBus, channel: str = "a channel") -> None:
    """Assert that a message comes back."""
    ears = Ears()
    await done(bus.subscribe(channel, ears))
    await done(bus.publish(channel, b"a message"))
    assert await ears.until(1) == [(channel, b"a message")]
    bus.unsubscribe(channel, ears)


# --- ways to connect -----------------------------------------------------------------------------------------------


@BOTH_PARSERS
@pytest.mark.parametrize("host", [HOST, "localhost"])
@pytest_twisted.ensureDeferred
async def test_tcp(redis_server: RedisServer, parser: type[Connection], host: str) -> None:
    """A server is reached at an address and by its name, and called by these."""
    bus = bus_at(f"redis://{host}:{redis_server.port}", parser)
    await done(bus.start())
    assert bus.state.connected
    assert bus.state.name == f"Redis at {host}:{redis_server.port}"
    await echoes(bus)
    await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_unix_socket(parser: type[Connection]) -> None:
    """A server is reached at a unix socket."""
    with RedisServer(unix=True) as server:
        bus = bus_at(server.url, parser)
        await done(bus.start())
        await echoes(bus)
        await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_number_of_the_database(redis_server: RedisServer, parser: type[Connection]) -> None:
    """Values are kept in the database that the URL names."""
    bus, other = bus_at(f"{redis_server.url}/7", parser), bus_at(redis_server.url, parser)
    await done(gatherResults([bus.start(), other.start()]))
    await done(bus.set("a key of database 7", b"1", None))
    assert await done(bus.get("a key of database 7")) == b"1"
    assert await done(other.get("a key of database 7")) is None
    await done(gatherResults([bus.close(), other.close()]))


@pytest_twisted.ensureDeferred
async def test_user_and_password(parser: type[Connection]) -> None:
    """A password alone is the default user's; with a user it is that one's. What is wrong is told without it."""
    with RedisServer(password="s3cret é") as server:
        server.command("ACL", "SETUSER", "someone", "on", ">his own", "allkeys", "allchannels", "+@all")
        place = f"{HOST}:{server.port}"
        for who in (":s3cret%20%C3%A9", "someone:his%20own"):
            bus = bus_at(f"redis://{who}@{place}", parser)
            await done(bus.start())
            await echoes(bus)
            await done(bus.close())
        for who in ("", ":wr0ng@", "someone:wr0ng@"):
            bus = bus_at(f"redis://{who}{place}", parser)
            await done(bus.start())
            state = bus.state
            assert not state.connected
            assert re.search("refuses us: (NOAUTH|WRONGPASS) ", state.error or "")
            assert "wr0ng" not in str(state)
            with pytest.raises(BusUnavailable, match="refuses us: "):
                await done(bus.publish("a channel", b""))
            await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_password_that_is_put_right(parser: type[Connection], news: News, tmp_path: Path) -> None:
    """The file of the password is read for each attempt: absent, wrong, then right needs no restart."""
    file = tmp_path / "password"
    with RedisServer(password="right") as server:
        bus = bus_at(server.url, parser, password_file=file)
        await done(bus.start())
        assert bus.state.error == f"No such file or directory: {file}"
        file.write_text("wr0ng\n")
        assert "wr0ng" not in await news.until(f"{DOWN}it refuses us: WRONGPASS")
        file.write_text("right\r\n")
        await news.until(UP)
        await echoes(bus)
        await done(bus.close())


def certificate(folder: Path) -> tuple[Path, ssl.PrivateCertificate]:
    """Return a certificate for loopback, signed by itself, as a file in PEM and with its key."""
    file, key = folder / "ca.pem", folder / "key.pem"
    write_certificate(file, key)
    pem = file.read_bytes()
    file.write_bytes(b"a comment\n" + pem)
    return file, ssl.PrivateCertificate.loadPEM(pem + key.read_bytes())


@pytest.mark.parametrize("host", [HOST, "localhost"])
@pytest_twisted.ensureDeferred
async def test_tls(redis_server: RedisServer, parser: type[Connection], host: str, tmp_path: Path) -> None:
    """With TLS a server is let in whose certificate the given file trusts; by another file, or none, it is not."""
    folders = [tmp_path / "trusted", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    (trusted, private), (other, _) = map(certificate, folders)
    proxy = ProxyFactory(HOST, redis_server.port)
    proxy.noisy = False
    port = reactor.listenSSL(0, proxy, private.options(), interface=HOST)
    for ca_file in (other, None):
        bus = bus_at(f"rediss://{host}:{port.getHost().port}", parser, ca_file=ca_file)
        await done(bus.start())
        assert not bus.state.connected
        assert "certificate verify failed" in (bus.state.error or "")
        await done(bus.close())
    bus = bus_at(f"rediss://{host}:{port.getHost().port}", parser, ca_file=trusted)
    await done(bus.start())
    await echoes(bus)
    await done(bus.close())
    await done(port.stopListening())


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"])
def test_certificates_that_are_none(tmp_path: Path, content: bytes | None) -> None:
    """A file of certificates that is not there, or holds none, keeps the bus from being made, and is named."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StartError, match=re.escape(f"the certificates in {file} cannot be used: ")):
        bus_at("rediss://localhost", ca_file=file)


# --- it comes and goes -----------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_absent_at_the_start(server: RedisServer, parser: type[Connection], news: News) -> None:
    """A server that is not there at the start is used as soon as it comes; until then everything fails at once."""
    server.stop()
    bus, ears = bus_at(server.url, parser), Ears()
    await done(bus.start())
    assert "refused" in (bus.state.error or "")
    await done(bus.subscribe("a channel", ears))  # at once
    for attempt in (
        bus.publish("a channel", b"1"),
        bus.get("a key"),
        bus.set("a key", b"", None),
        bus.incr("a key", 1),
    ):
        with pytest.raises(BusUnavailable, match=r"Redis at .*: Connection was refused"):
            await attempt
    server.start()
    await news.until(UP)
    assert bus.state.error is None
    assert await done(bus.publish("a channel", b"2")) == 1
    assert await ears.until(1) == [("a channel", b"2")]
    await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_watcher_that_raises(
    server: RedisServer, parser: type[Connection], news: News, logged_failures: list[LogEvent]
) -> None:
    """Whoever is told of a loss and raises keeps neither the others from being told nor the bus from coming back."""
    bus, reasons = bus_at(server.url, parser), []

    def raises(reason: str) -> None:
        raise ZeroDivisionError(reason)

    bus.watch(raises)
    bus.watch(reasons.append)
    await done(bus.start())
    server.kill()
    await news.until(DOWN)
    server.start()
    await news.until(UP)
    await done(bus.close())
    assert len(reasons) == len(logged_failures) == 2
    assert all(event["log_failure"].check(ZeroDivisionError) for event in logged_failures)
    logged_failures.clear()


class Arrivals:
    """Counts how often it is told that there is a connection, and keeps what was announced by then."""

    def __init__(self, bus: RedisBus) -> None:
        self.count = 0
        self._bus = bus
        self._next: Deferred[dict[str, bytes]] = Deferred()
        bus.when_connected(self._told)

    def _told(self) -> None:
        self.count += 1
        assert self._bus.state.connected
        announced = self._bus.announce("a service", b"%d" % self.count, 1000.0)
        announced.addCallback(lambda _: self._bus.announced()).chainDeferred(self._next)

    async def announced(self) -> dict[str, bytes]:
        """Return what is announced once it has been told anew."""
        found: dict[str, bytes] = await done(self._next)
        self._next = Deferred()
        return found


@pytest_twisted.ensureDeferred
async def test_told_of_each_connection(
    server: RedisServer, parser: type[Connection], news: News, logged_failures: list[LogEvent]
) -> None:
    """Who wants to know is told of each connection as soon as it is there to be used; nobody keeps others from it."""
    server.stop()
    bus = bus_at(server.url, parser)
    bus.when_connected(lambda: [][1])
    arrivals = Arrivals(bus)
    await done(bus.start())
    assert arrivals.count == 0
    for number in (1, 2):
        server.start()
        assert await arrivals.announced() == {"a service": b"%d" % number}
        server.kill()
        await news.until(DOWN + LOST)
    await done(bus.close())
    assert arrivals.count == 2
    assert [event["log_failure"].type for event in logged_failures] == [IndexError] * 2
    logged_failures.clear()


@pytest_twisted.ensureDeferred
async def test_listed_while_announced(redis_server: RedisServer, parser: type[Connection]) -> None:
    """Who lists the services while one announces itself does not take it for one that has died."""
    bus, name = bus_at(redis_server.url, parser), f"a new service by {parser.__name__}"
    await done(bus.start())
    keep = bus.set

    def keep_later(key: str, value: bytes, seconds: float | None) -> Deferred[None]:
        return bus.announced().addCallback(lambda _: keep(key, value, seconds))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus, "set", keep_later)
        await done(bus.announce(name, b"1", 1000.0))
    assert (await done(bus.announced()))[name] == b"1"
    await done(bus.withdraw(name))
    await done(bus.close())


@BOTH_PARSERS
@pytest_twisted.ensureDeferred
async def test_killed_and_restarted(server: RedisServer, parser: type[Connection], news: News) -> None:
    """After a crash all is subscribed to again, many channels and patterns; what was published meanwhile is lost."""
    bus, ears, patterns, reasons = bus_at(server.url, parser), Ears(), Ears(), []
    bus.watch(reasons.append)
    await done(bus.start())
    channels = [f"channel {number}" for number in range(1200)]
    await done(gatherResults([bus.subscribe(channel, ears) for channel in channels]))
    await done(gatherResults([bus.subscribe(f"channel {number}?", patterns) for number in range(110, 120)]))
    server.kill()
    under_way = bus.publish("channel 1", b"never sent")
    await news.until(DOWN)
    with pytest.raises(BusUnavailable, match="the connection was lost"):
        await done(under_way)
    with pytest.raises(BusUnavailable, match="Redis at "):
        await bus.publish("channel 1", b"never sent")
    await done(bus.subscribe("new", ears))
    bus.unsubscribe(channels.pop(), ears)
    server.start()
    await news.until(UP)
    assert bus.state.error is None
    [reason] = reasons
    assert reason.startswith("the connection was lost")
    channels.append("new")
    counts = await done(gatherResults([bus.publish(channel, b"2") for channel in channels]))
    assert sum(counts) == 1200 + 99  # channel 1199 was left
    assert await ears.until(1200) == [(channel, b"2") for channel in channels]
    assert len(await patterns.until(99)) == 99
    await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_frozen(server: RedisServer, parser: type[Connection], news: News) -> None:
    """A server that does nothing any more is noticed and everything fails; once it goes on, all is as before."""
    bus, ears = bus_at(server.url, parser), Ears()
    await done(bus.start())
    await done(bus.subscribe("a channel", ears))
    server.freeze()
    under_way = bus.get("a key")
    await news.until(f"{DOWN}{SILENT}")
    with pytest.raises(BusUnavailable, match=SILENT):
        await done(under_way)
    with pytest.raises(BusUnavailable):
        await bus.publish("a channel", b"never sent")
    server.thaw()
    await news.until(UP)
    await done(bus.publish("a channel", b"2"))
    assert await ears.until(1) == [("a channel", b"2")]
    await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_too_much_under_way(server: RedisServer) -> None:
    """What waits for a frozen server is bounded; a bus that is closed then does not wait for it."""
    bus = bus_at(server.url, PARSER)
    await done(bus.start())
    server.freeze()
    under_way = [bus.publish("a channel", b"x" * (1 << 20)) for _ in range(15)]
    assert not any(each.called for each in under_way)
    with pytest.raises(BusUnavailable, match="is too slow: 16777216 bytes wait for it already"):
        await bus.publish("a channel", b"x" * (1 << 20))
    await done(bus.close())
    for each in under_way:
        with pytest.raises(BusUnavailable, match="it was closed"):
            await done(each)


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
@pytest_twisted.ensureDeferred
async def test_client_kill(server: RedisServer, parser: type[Connection], news: News, kind: str) -> None:
    """Either connection alone may be lost: both are made anew, and what was subscribed to is heard."""
    bus, ears = bus_at(server.url, parser), Ears()
    await done(bus.start())
    await done(bus.subscribe("a channel", ears))
    assert server.command("CLIENT", "KILL", "TYPE", kind) == 1
    await news.until(DOWN)
    await news.until(UP)
    await done(bus.publish("a channel", b"2"))
    assert await ears.until(1) == [("a channel", b"2")]
    await done(bus.close())
    assert server.command("CLIENT", "LIST").count(b"\n") == 1


@pytest_twisted.ensureDeferred
async def test_too_many_clients(parser: type[Connection], news: News) -> None:
    """A server that takes no more clients is tried again until it does."""
    with RedisServer(options=["--maxclients", "3"]) as server, ExitStack() as others:
        others.enter_context(socket.create_connection((HOST, server.port)))
        for _ in range(2):
            server_is_full = others.enter_context(socket.create_connection((HOST, server.port)))
            server_is_full.sendall(b"PING\r\n")
            server_is_full.settimeout(PATIENCE)
            assert server_is_full.recv(5) == b"+PONG"
        bus = bus_at(server.url, parser)
        await done(bus.start())
        assert not bus.state.connected
        others.close()
        await news.until(UP)
        await echoes(bus)
        await done(bus.close())


# --- what is no Redis, or not as it should be ------------------------------------------------------------------------


class Says(Protocol):
    """Says something of its own, and then what it is told."""

    def connectionMade(self) -> None:
        self.transport.write(self.factory.banner)

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.factory.answer(data))


NO_REDIS = {
    "http": (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", bytes, "it does not talk as Redis does: "),
    "garbage": (bytes(range(256)) * 8 + b"\r\n", bytes, "it does not talk as Redis does: "),
    "endless": (b"+" + b"x" * 20_000, lambda data: b"", f"does not talk as Redis does|{SILENT}"),
    "echo": (b"", bytes, "it does not talk as Redis does: "),
    "silence": (b"", lambda data: b"", SILENT),
    "unasked": (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", lambda data: b"", "it does not talk as Redis does: "),
    "short": (b"*1\r\n$7\r\nmessage\r\n", lambda data: b"", "it does not talk as Redis does: "),
}


@BOTH_PARSERS
@pytest.mark.parametrize("kind", NO_REDIS)
@pytest_twisted.ensureDeferred
async def test_no_redis(parser: type[Connection], kind: str) -> None:
    """What answers and is no Redis, or does not answer, is told apart from one, and nothing goes wrong by it."""
    factory = Factory.forProtocol(Says)
    factory.noisy = False
    factory.banner, factory.answer, reason = NO_REDIS[kind]
    port = reactor.listenTCP(0, factory, interface=HOST)
    bus = bus_at(f"redis://{HOST}:{port.getHost().port}", parser)
    await done(bus.start())
    assert not bus.state.connected
    assert re.search(reason, bus.state.error or ""), bus.state.error
    await done(bus.close())
    await done(port.stopListening())


@BOTH_PARSERS
@pytest_twisted.ensureDeferred
async def test_values_of_another_kind(server: RedisServer, parser: type[Connection]) -> None:
    """A list in place of a value is an error of the data; a server without memory is one of the bus."""
    bus = bus_at(server.url, parser)
    await done(bus.start())
    server.command("RPUSH", "a list", "1")
    for attempt in (bus.get("a list"), bus.incr("a list", 1)):
        with pytest.raises(DataError, match=r"the cache: Redis at .*: WRONGTYPE "):
            await done(attempt)
    server.command("CONFIG", "SET", "maxmemory", "1")
    for attempt in (bus.incr("a number", 1), bus.set("a value", b"", None)):
        with pytest.raises(BusUnavailable, match=r"Redis at .*: OOM "):
            await done(attempt)
    await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_channel_that_is_refused(server: RedisServer, parser: type[Connection]) -> None:
    """A channel that the server does not let us hear is an error there, and the others go on."""
    server.command("ACL", "SETUSER", "someone", "on", ">x", "allkeys", "resetchannels", "&ours*", "+@all")
    bus = bus_at(f"redis://someone:x@{HOST}:{server.port}", parser)
    await done(bus.start())
    with pytest.raises(BusUnavailable, match="refuses the channel 'theirs': NOPERM "):
        await done(bus.subscribe("theirs", Ears()))
    with pytest.raises(BusUnavailable, match="NOPERM "):
        await done(bus.publish("theirs", b""))
    await echoes(bus, "ours")
    assert bus.state.connected
    await done(bus.close())


@pytest_twisted.ensureDeferred
async def test_refused_at_the_start(server: RedisServer, parser: type[Connection], news: News) -> None:
    """A channel that was subscribed to before and is refused keeps the bus down, says why, until it is allowed."""
    server.command("ACL", "SETUSER", "someone", "on", ">x", "allkeys", "resetchannels", "+@all")
    bus, ears = bus_at(f"redis://someone:x@{HOST}:{server.port}", parser), Ears()
    await done(bus.subscribe("theirs", ears))
    await done(bus.start())
    assert "refuses us: NOPERM " in (bus.state.error or "")
    server.command("ACL", "SETUSER", "someone", "allchannels")
    await news.until(UP)
    await done(bus.publish("theirs", b"1"))
    assert await ears.until(1) == [("theirs", b"1")]
    await done(bus.close())


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
@pytest_twisted.ensureDeferred
async def test_close_while_connecting(server: RedisServer, parser: type[Connection], frozen: bool) -> None:
    """A bus can be closed while it waits for a server that is not there, or says nothing; what waits for it fails."""
    server.freeze() if frozen else server.stop()
    bus = bus_at(server.url, parser)
    started = bus.start()
    waiting = bus.publish("a channel", b"")
    if not frozen:
        await done(started)
    await done(bus.close())
    with pytest.raises(BusUnavailable):
        await done(waiting)
    await done(started)
    assert not bus.state.connected


@pytest.mark.parametrize("held_up", [1.0, 60.0])
def test_reactor_that_was_held_up(parser: type[Connection], held_up: float) -> None:
    """A connection is dropped after three pings that brought nothing, not because nothing could be read meanwhile."""
    clock, transport = Clock(), StringTransport()
    connection = parser(clock, lambda channel, message: None)
    connection.makeConnection(transport)
    for _ in range(5):
        clock.advance(held_up)  # the timer comes first, and what has arrived in the meantime after it
        assert not transport.disconnecting
        connection.dataReceived(b"+PONG\r\n")
    for _ in range(4):
        assert not transport.disconnecting
        clock.advance(1.0)
    assert transport.disconnecting
    assert transport.value().count(b"PING") == 8


# --- many faults -----------------------------------------------------------------------------------------------------


def descriptors() -> int:
    """Return how many this process has."""
    return len(os.listdir("/proc/self/fd"))


@pytest_twisted.ensureDeferred
async def test_random_faults(server: RedisServer, parser: type[Connection], news: News) -> None:
    """After each of some random faults every one of 1,000 channels is heard again, once; nothing is left open."""
    before, threads = descriptors(), threading.active_count()
    bus, ears, all_of_them = bus_at(server.url, parser), Ears(), Ears()
    await done(bus.start())
    channels = [f"channel {number}" for number in range(1000)]
    await done(gatherResults([bus.subscribe(channel, ears) for channel in channels]))
    await done(bus.subscribe("channel *", ears))
    await done(bus.subscribe("chann?l 9*", all_of_them))
    faults = ["crash", "end", "frozen for long", "frozen for a moment", "commands", "messages"]
    random.shuffle(faults)
    for fault in faults:
        if fault in ("crash", "end"):
            server.kill() if fault == "crash" else server.stop()
            await news.until(DOWN)
            server.start()
        elif fault == "frozen for long":
            server.freeze()
            await news.until(DOWN)
            server.thaw()
        elif fault == "frozen for a moment":
            server.freeze()
            server.thaw()
        else:
            server.command("CLIENT", "KILL", "TYPE", "normal" if fault == "commands" else "pubsub")
            await news.until(DOWN)
        if fault != "frozen for a moment":
            await news.until(UP)
        ears.heard, all_of_them.heard = [], []
        await done(gatherResults([bus.publish(channel, fault.encode()) for channel in channels]))
        assert await ears.until(1000) == [(channel, fault.encode()) for channel in channels], faults
        assert len(await all_of_them.until(111)) == 111
    await done(bus.close())
    gc.collect()
    assert (descriptors(), threading.active_count()) == (before, threads)


# --- patterns --------------------------------------------------------------------------------------------------------

CHARACTERS = "ab-*?[]^\\"


@settings(deadline=None, max_examples=60)
@given(
    patterns=st.lists(st.text(CHARACTERS, min_size=2, max_size=7), min_size=10, max_size=10),
    names=st.lists(st.text([*CHARACTERS, "é"], min_size=1, max_size=4), min_size=1, max_size=30),
)
def test_patterns_as_redis_has_them(redis_server: RedisServer, patterns: list[str], names: list[str]) -> None:
    """Any pattern matches what it matches in Redis, however odd it is."""
    script = """
        redis.call('SELECT', 9)
        redis.call('FLUSHDB')
        local found = {}
        for number = 2, #ARGV do
            if number <= tonumber(ARGV[1]) + 1 then redis.call('SET', ARGV[number], 1)
            else found[#found + 1] = redis.call('KEYS', ARGV[number]) end
        end
        return found
    """
    theirs = redis_server.command("EVAL", script, 0, len(names), *names, *patterns)
    for pattern, found in zip(patterns, theirs, strict=True):
        matches = compile_pattern(pattern).fullmatch
        assert {encoded(name) for name in names if matches(encoded(name))} == set(found), pattern
