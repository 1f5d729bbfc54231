"""The bus on a Redis server.

Of txredisapi this uses the parser and the transport. What to send when, and to whom an answer belongs, is decided here,
because a server may die, freeze, refuse or come back at any time:

- A *session* is a pair of connections, one for commands and one for what was subscribed to. It counts as connected once
  both are let in and everything is subscribed. Whatever happens to one of them ends both, and another is begun.
- While there is none, everything fails at once. Nothing is queued, or it would all be sent late. Only at the very start
  it waits for the first attempt to connect.
- Each connection is pinged every second. One that has brought nothing for three of them is dropped. The pings are what
  is counted, not the time: while the reactor itself was held up, what had come could not be read.
- Answers belong to commands in the order of these. A confirmation of a subscription comes once for each channel.
- A message comes once for its channel and once more for each pattern. It is delivered for the first of them only.
"""

import random
import re
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

import attrs
import txredisapi
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, inlineCallbacks, succeed
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpiserve.core.wire import checked_size
from rpiserve.data.encoding import printable
from rpiserve.errors import BusUnavailable, DataError, StartError
from rpiserve.messaging.address import RedisAddress
from rpiserve.messaging.bus import (
    ANNOUNCEMENT,
    BusState,
    Receiver,
    Subscriptions,
    compile_pattern,
    decoded,
    deliver,
    encoded,
    is_pattern,
)

log = Logger()

Outcome = TypeVar("Outcome")

MOST_UNANSWERED = 3
"""How many pings may bring nothing, before the connection is taken for dead."""

CONNECT_SECONDS = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.5
"""In seconds, between two attempts to connect."""

CLOSE_SECONDS = 1.0
"""How long the end of a connection may take."""

MOST_WAITING = 16 << 20
"""How many bytes may be under way to a server that has not answered."""

KINDS = ("+", "-", ":", "$", "*")
"""How a line may begin that is no part of a value."""

LOST = "the connection was lost"
CLOSED = "it was closed"

ANNOUNCED = b"rpiserve:services"
"""The set of the names that are announced."""

MOST_AT_ONCE = 500
"""How many channels one command subscribes to."""

OF_THE_VALUE = ("WRONGTYPE ", "ERR value ", "ERR increment ")
"""How errors begin that tell of a value of another kind, and of nothing else that is wrong."""

PUSHES = (b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe")


class Refused(Exception):
    """The server has answered with an error; the text is its own."""


@attrs.define(eq=False)
class Expected:
    """What a command has to bring.

    Attributes:
        reply: fires with it.
        size: how many bytes the command has.
        confirmations: how many channels it subscribes to, or leaves; each is confirmed by itself.
    """

    reply: Deferred[Any]
    size: int
    confirmations: int = 0


class Connection:
    """One connection, atop one of txredisapi's parsers.

    Attributes:
        ping_seconds: the pause between two pings.
        waiting: how many bytes of commands have no answer yet.
    """

    ping_seconds: ClassVar[float] = 1.0
    factory: Any
    transport: Any

    def __init__(self, clock: Any, heard: Callable[[str, bytes], object]) -> None:
        super().__init__()
        self._lost: Deferred[str] = Deferred()
        self.waiting = 0
        self.callLater = clock.callLater
        self._clock = clock
        self._heard = heard
        self._expected: deque[Expected] = deque()
        self._confirmed: dict[bytes, dict[bytes, Any]] = {b"subscribe": {}, b"psubscribe": {}}
        self._unanswered = 0
        self._reason = LOST
        self._timer: IDelayedCall | None = None
        self._over = False

    # --- for the session ---------------------------------------------------------------------------------------------

    def command(self, *words: bytes, confirmations: int = 0) -> Deferred[Any]:
        """Send a command.

        Returns:
            A Deferred that fires with the reply. It fails with `Refused`, or with `BusUnavailable` if the connection is
            lost before.
        """
        if self._over:
            return fail(BusUnavailable(self._reason))
        data = b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))
        reply: Deferred[Any] = Deferred()
        self._expected.append(Expected(reply, len(data), confirmations))
        self.waiting += len(data)
        self.transport.write(data)
        return reply

    def gone(self) -> Deferred[str]:
        """Return a Deferred of its own that fires with the reason when the connection is lost."""
        return _branch(self._lost)

    def abort(self, reason: str) -> None:
        """Drop the connection."""
        if not self._over:
            self._reason = reason
            self.transport.abortConnection()

    # --- for the transport and the parser ----------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin to listen for signs of life."""
        super().connectionMade()  # type: ignore[misc]
        self._timer = self._clock.callLater(self.ping_seconds, self._ping)

    def _ping(self) -> None:
        self._timer = self._clock.callLater(self.ping_seconds, self._ping)
        if self._unanswered >= MOST_UNANSWERED:
            self.abort(f"it has sent nothing for {MOST_UNANSWERED * self.ping_seconds:g} s")
        else:
            self._unanswered += 1
            self.command(b"PING").addErrback(lambda _: None)  # an error is a sign of life, too

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """Take what has arrived."""
        if self._over:
            return
        self._unanswered = 0
        try:
            super().dataReceived(data, unpause)  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - whatever a parser makes of what is no Redis
            self.abort(f"it does not talk as Redis does: {printable(str(error)[:200])}")

    def tryConvertData(self, data: Any) -> Any:
        """Leave what has arrived as it is."""
        return data

    def lineLengthExceeded(self, line: bytes) -> None:
        """Drop the connection: what has so long a line is no Redis."""
        self.abort("it does not talk as Redis does: a line has no end")

    def replyReceived(self, reply: Any) -> None:
        """Take a reply, or a message that came unasked."""
        if isinstance(reply, list) and reply and isinstance(reply[0], bytes):
            if reply[0] == b"message":
                self._message(reply[1], reply[2])
                return
            if reply[0] == b"pmessage":
                self._message(reply[2], reply[3], reply[1])
                return
            if reply[0] in PUSHES:
                self._confirm(reply[0], reply[1])
                return
        if self._expected:
            answered = self._next_answered()
            if isinstance(reply, Exception):
                answered.errback(Refused(printable(str(reply))))
            else:
                answered.callback(reply)

    def _next_answered(self) -> Deferred[Any]:
        expected = self._expected.popleft()
        self.waiting -= expected.size
        return expected.reply

    def _message(self, channel: bytes, message: bytes, pattern: bytes | None = None) -> None:
        """Deliver a message, unless that has been done: what is confirmed is what the server sends it for."""
        if pattern is not None:
            if channel in self._confirmed[b"subscribe"]:
                return
            matching = (each for each, matches in self._confirmed[b"psubscribe"].items() if matches(channel))
            if next(matching, None) != pattern:
                return
        self._heard(decoded(channel), message)

    def _confirm(self, kind: bytes, channel: bytes) -> None:
        if kind in self._confirmed:
            matches = compile_pattern(decoded(channel)).fullmatch if kind == b"psubscribe" else None
            self._confirmed[kind][channel] = matches
        else:
            self._confirmed[kind.replace(b"un", b"", 1)].pop(channel, None)
        expected = self._expected[0]
        expected.confirmations -= 1
        if expected.confirmations <= 0:
            self._next_answered().callback(None)

    def connectionLost(self, reason: Failure) -> None:
        """Fail what waits for a reply."""
        self._over = True
        if not reason.check(ConnectionDone) and self._reason == LOST:
            self._reason = f"{LOST}: {printable(reason.getErrorMessage())}"
        if self._timer is not None:
            self._timer.cancel()
        super().connectionLost(reason)  # type: ignore[misc]
        expected, self._expected = self._expected, deque()
        for each in expected:
            each.reply.errback(BusUnavailable(self._reason))
        self._lost.callback(self._reason)


class HiredisConnection(Connection, txredisapi.HiredisProtocol):
    """With the fast parser, of hiredis."""


class PlainConnection(Connection, txredisapi.BaseRedisProtocol):
    """With the parser that needs nothing."""

    def lineReceived(self, line: str) -> None:
        """Take a line; the parser would pass over what is none of the protocol's."""
        if line[:1] not in KINDS:
            raise ValueError(f"a line begins with {line[:20]!r}")
        super().lineReceived(line)


class _Once(Factory):
    """Gives an endpoint the one protocol that there is, without a line in the log."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: object) -> Any:
        return self._connection


PARSER: type[Connection] = PlainConnection if txredisapi.hiredis is None else HiredisConnection


@attrs.frozen(eq=False)
class Session:
    """Two connections that are let in.

    Attributes:
        commands: the one for commands.
        listening: the one for what was subscribed to.
    """

    commands: Connection
    listening: Connection

    def end(self, reason: str) -> Deferred[Any]:
        """Drop both connections; fires when both are gone."""
        gone = [connection.gone() for connection in (self.commands, self.listening)]
        self.commands.abort(reason)
        self.listening.abort(reason)
        return DeferredList(gone)


class RedisBus:
    """A bus on a Redis server.

    Args:
        address: where that is.
        reactor: the reactor.
        wall: the wall clock, in seconds since the epoch.
        parser: the kind of connection.

    Raises:
        StartError: the file with certificates cannot be read.
    """

    def __init__(
        self,
        address: RedisAddress,
        reactor: Any,
        wall: Callable[[], float],
        parser: type[Connection] = PARSER,
    ) -> None:
        self._address = address
        self._reactor = reactor
        self._wall = wall
        self._parser = parser
        self._endpoint = endpoint_for(address, reactor)
        self._subscriptions = Subscriptions()
        self._watchers: list[Callable[[str], object]] = []
        self._greeters: list[Callable[[], object]] = []
        self._session: Session | None = None
        self._listening: Connection | None = None  # there before the session, while that is being made
        self._state = BusState("redis", address.name, False, wall())
        self._tried: Deferred[None] = Deferred()
        self._running: Deferred[None] | None = None
        self._closed = False

    @property
    def state(self) -> BusState:
        """How it is."""
        return self._state

    def watch(self, lost: Callable[[str], object]) -> None:
        """Have ``lost`` called with the reason whenever the connection has been lost."""
        self._watchers.append(lost)

    def when_connected(self, connected: Callable[[], object]) -> None:
        """Have ``connected`` called whenever there is a connection, the first one or another, and it can be used."""
        self._greeters.append(connected)

    # --- the connection ----------------------------------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """Begin to connect; fires when the first attempt has come to an end."""
        self._running = Deferred.fromCoroutine(self._stay_connected())
        return _branch(self._tried)

    async def _stay_connected(self) -> None:
        failures = 0
        while not self._closed:
            try:
                session = await self._new_session()
            except Exception as error:  # noqa: BLE001 - whatever keeps us from connecting, it is told, and tried again
                failures += 1
                self._is_down(_reason(error))
            else:
                failures = 0
                await self._use(session)
            if not self._closed:
                pause = min(FIRST_PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)
                await deferLater(self._reactor, pause * random.uniform(0.8, 1.0))

    async def _new_session(self) -> Session:
        commands = await self._connect(lambda channel, message: None)
        try:
            listening = await self._connect(self._heard)
        except BaseException:
            commands.abort("the other connection was not to be had")
            raise
        session = Session(commands, listening)
        try:
            self._listening = listening
            await self._subscribe(listening, self._subscriptions.channels())
        except BaseException:
            self._listening = None
            session.end("not everything could be subscribed to")
            raise
        return session

    async def _connect(self, heard: Callable[[str, bytes], object]) -> Connection:
        connection = self._parser(self._reactor, heard)
        connecting = self._endpoint.connect(_Once(connection))
        await connecting.addTimeout(CONNECT_SECONDS, self._reactor)
        try:
            password = self._address.current_password()
            if password is not None:
                user = [] if self._address.user is None else [self._address.user.encode()]
                await connection.command(b"AUTH", *user, password.encode())
            if self._address.db:
                await connection.command(b"SELECT", b"%d" % self._address.db)
            pong = await connection.command(b"PING")  # a server that loads its data, or wants a password, says so
            if pong not in (b"PONG", "PONG"):
                raise BusUnavailable(f"it does not talk as Redis does: to PING it answers {pong!r:.100}")
        except BaseException:
            connection.abort("it did not let us in")
            raise
        return connection

    async def _use(self, session: Session) -> None:
        self._session = session
        self._is_up()
        self._tell("is connected", self._greeters)
        lost: Deferred[str] = Deferred()
        for connection in (session.commands, session.listening):
            connection.gone().addCallback(lambda reason: None if lost.called else lost.callback(reason))
        reason = await lost
        self._session = self._listening = None
        session.end(reason)
        self._is_down(reason)  # before the watchers: what they tell may ask at once how the bus is
        self._tell("is lost", self._watchers, reason)

    def _tell(self, what: str, listeners: Iterable[Callable[..., object]], *arguments: str) -> None:
        for listener in listeners:
            try:
                listener(*arguments)
            except Exception:  # noqa: BLE001 - whatever it is, it shall not keep us from connecting again
                log.failure("while telling that {bus} {what}", bus=self._address.name, what=what)

    def _is_up(self) -> None:
        self._state = BusState("redis", self._address.name, True, self._wall())
        log.info("{bus} is connected", bus=self._address.name)
        self._has_tried()

    def _is_down(self, reason: str) -> None:
        state = self._state
        if not self._closed and (state.connected or state.error != reason):  # but not once for each attempt
            log.warn("{bus} is not connected: {reason}", bus=self._address.name, reason=reason)
        since = self._wall() if state.connected else state.since
        self._state = BusState("redis", self._address.name, False, since, reason)
        self._has_tried()

    def _has_tried(self) -> None:
        if not self._tried.called:
            self._tried.callback(None)

    def close(self) -> Deferred[None]:
        """Send what is under way, for a moment, and let go of the connections."""
        self._closed = True
        self._has_tried()
        running, session = self._running, self._session
        if running is None:
            return succeed(None)
        if session is None:
            running.cancel()
            return running.addErrback(_expect_cancelled)
        flushed = session.commands.command(b"PING").addTimeout(CLOSE_SECONDS, self._reactor)

        def drop(_: object) -> Deferred[Any]:
            return session.end(CLOSED)

        return flushed.addBoth(drop).addCallback(lambda _: running)

    # --- messages ----------------------------------------------------------------------------------------------------

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        """Send ``message``; fires with how many subscriptions it goes to."""
        return self._command(b"PUBLISH", encoded(channel), checked_size(message))

    def subscribe(self, channel: str, receiver: Receiver) -> Deferred[None]:
        """Have ``receiver`` called with each message on ``channel``, a name or a pattern."""
        self._subscriptions.add(channel, receiver)
        if self._listening is None:
            return succeed(None)

        def failed(failure: Failure) -> None:
            if failure.check(Refused):
                self._subscriptions.remove(channel, receiver)
                raise BusUnavailable(f"{self._address.name} refuses the channel {channel!r}: {failure.value}")
            failure.trap(BusUnavailable, CancelledError)  # it will be subscribed to once there is a connection

        # Also if it is subscribed to already: then that has perhaps not been confirmed yet.
        return self._subscribe(self._listening, [channel]).addErrback(failed)

    def unsubscribe(self, channel: str, receiver: Receiver) -> None:
        """Take that back."""
        if self._subscriptions.remove(channel, receiver) and self._listening is not None:
            word = b"PUNSUBSCRIBE" if is_pattern(channel) else b"UNSUBSCRIBE"
            self._listening.command(word, encoded(channel), confirmations=1).addErrback(lambda _: None)

    def _subscribe(self, listening: Connection, channels: Iterable[str]) -> Deferred[None]:
        names: dict[bytes, list[bytes]] = {b"SUBSCRIBE": [], b"PSUBSCRIBE": []}
        for channel in channels:
            names[b"PSUBSCRIBE" if is_pattern(channel) else b"SUBSCRIBE"].append(encoded(channel))
        replies = [
            listening.command(word, *(some := all_[begin : begin + MOST_AT_ONCE]), confirmations=len(some))
            for word, all_ in names.items()
            for begin in range(0, len(all_), MOST_AT_ONCE)
        ]
        confirmed = DeferredList(replies, fireOnOneErrback=True, consumeErrors=True)
        return confirmed.addCallbacks(lambda _: None, lambda failure: failure.value.subFailure)

    def _heard(self, channel: str, message: bytes) -> None:
        if not self._closed:
            deliver(self._subscriptions.receivers(channel), channel, message)

    # --- the cache ---------------------------------------------------------------------------------------------------

    def get(self, key: str) -> Deferred[bytes | None]:
        """Return the value at ``key``, or None."""
        return self._command(b"GET", encoded(key))

    def set(self, key: str, value: bytes, seconds: float | None) -> Deferred[None]:
        """Set the value at ``key``."""
        end = [] if seconds is None else [b"PX", b"%d" % max(1, round(seconds * 1000))]
        return self._command(b"SET", encoded(key), value, *end).addCallback(lambda _: None)

    def delete(self, keys: list[str]) -> Deferred[int]:
        """Remove ``keys``, and return how many there were."""
        return self._command(b"DEL", *map(encoded, keys)) if keys else succeed(0)

    def incr(self, key: str, amount: int) -> Deferred[int]:
        """Add ``amount`` to the number at ``key``."""
        return self._command(b"INCRBY", encoded(key), b"%d" % amount)

    # --- announcements -----------------------------------------------------------------------------------------------

    def announce(self, name: str, value: bytes, seconds: float) -> Deferred[None]:
        """Let all on the bus know ``value`` by ``name``."""
        # A set of the names besides: to look for keys takes as long as there are any, the user's own among them. The
        # name comes last: who finds one without its value takes it out again.
        kept = self.set(ANNOUNCEMENT + name, value, seconds)
        return kept.addCallback(lambda _: self._command(b"SADD", ANNOUNCED, encoded(name))).addCallback(lambda _: None)

    def withdraw(self, name: str) -> Deferred[None]:
        """Take that back."""
        removed = self._command(b"SREM", ANNOUNCED, encoded(name))
        return removed.addCallback(lambda _: self.delete([ANNOUNCEMENT + name])).addCallback(lambda _: None)

    @inlineCallbacks
    def announced(self) -> Any:
        """Return what is announced now, by name."""
        names = sorted((yield self._command(b"SMEMBERS", ANNOUNCED)))[:MOST_AT_ONCE]
        if not names:
            return {}
        values = yield self._command(b"MGET", *(encoded(ANNOUNCEMENT) + name for name in names))
        found = {decoded(name): value for name, value in zip(names, values, strict=True) if value is not None}
        if gone := [name for name, value in zip(names, values, strict=True) if value is None]:
            yield self._command(b"SREM", ANNOUNCED, *gone)
        return found

    def _command(self, *words: bytes) -> Deferred[Any]:
        session = self._session
        if session is None:
            if not self._tried.called and not self._closed:
                return _branch(self._tried).addCallback(lambda _: self._command(*words))
            reason = CLOSED if self._closed else self._state.error or "not connected yet"
            return fail(BusUnavailable(f"{self._address.name}: {reason}"))
        if session.commands.waiting + sum(map(len, words)) > MOST_WAITING:
            return fail(BusUnavailable(f"{self._address.name} is too slow: {MOST_WAITING} bytes wait for it already"))
        return session.commands.command(*words).addErrback(self._explain, words[0].decode())

    def _explain(self, failure: Failure, command: str) -> Failure:
        text = f"{self._address.name}: {failure.value}"
        if failure.check(Refused) and command in ("GET", "INCRBY") and str(failure.value).startswith(OF_THE_VALUE):
            return Failure(DataError(f"the cache: {text}"))
        return Failure(BusUnavailable(text)) if failure.check(Refused, BusUnavailable) else failure


def endpoint_for(address: RedisAddress, reactor: Any) -> IStreamClientEndpoint:
    """Return where to connect to.

    Raises:
        StartError: the file with certificates cannot be read.
    """
    endpoint: IStreamClientEndpoint
    if address.path:
        return UNIXClientEndpoint(reactor, address.path)
    if isIPAddress(address.host):
        endpoint = TCP4ClientEndpoint(reactor, address.host, address.port)
    elif isIPv6Address(address.host):
        endpoint = TCP6ClientEndpoint(reactor, address.host, address.port)
    else:
        endpoint = HostnameEndpoint(reactor, address.host, address.port)
    if not address.tls:
        return endpoint
    trusted = None if address.ca_file is None else _certificates(address)
    return wrapClientTLS(optionsForClientTLS(address.host, trustRoot=trusted), endpoint)


def _certificates(address: RedisAddress) -> Any:
    assert address.ca_file is not None
    try:
        pem = address.ca_file.read_bytes()
        found = re.findall(b"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", pem, re.DOTALL)
        if not found:
            raise ValueError("there is no certificate in it")
        return trustRootFromCertificates([Certificate.loadPEM(each) for each in found])
    except Exception as error:
        raise StartError(f"the certificates in {address.ca_file} cannot be used: {error}") from error


def _branch(trunk: Deferred[Outcome]) -> Deferred[Outcome]:
    """Return a Deferred of its own that fires as ``trunk`` does, which does not fail."""
    branch: Deferred[Outcome] = Deferred()

    def pass_on(outcome: Outcome) -> Outcome:
        branch.callback(outcome)
        return outcome

    trunk.addCallback(pass_on)
    return branch


def _reason(error: Exception) -> str:
    """Return why it cannot be connected to, in the words of the system or the server."""
    if isinstance(error, Refused):
        return f"it refuses us: {error}"
    if isinstance(error, BusUnavailable):
        return str(error)
    if isinstance(error, OSError) and error.strerror:  # the file of the password
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return printable(" ".join(str(error).split())) or type(error).__name__


def _expect_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
