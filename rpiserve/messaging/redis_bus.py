"""The bus on a Redis server, which may die, freeze, refuse or come back at any time.

- A *session* is a pair of connections, one for commands and one for what was subscribed to. It counts as connected once
  both are let in and everything is subscribed. Whatever happens to one of them ends both, and another is begun.
- While there is none, everything fails at once. Nothing is queued, or it would all be sent late. Only at the very start
  it waits for the first attempt to connect.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, fail, inlineCallbacks, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpiserve.core.wire import checked_size
from rpiserve.data.encoding import printable
from rpiserve.errors import BusUnavailable, DataError
from rpiserve.messaging.address import RedisAddress
from rpiserve.messaging.bus import (
    ANNOUNCEMENT,
    BusState,
    Receiver,
    Subscriptions,
    decoded,
    deliver,
    encoded,
    is_pattern,
)
from rpiserve.messaging.redis_connection import (
    PARSER,
    Connection,
    ServerRefused,
    Session,
    SingleConnectionFactory,
    branch,
    endpoint_for,
)

log = Logger()

CONNECT_SECONDS = 3.0
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.5
"""In seconds, between two attempts to connect."""

CLOSE_SECONDS = 1.0
"""How long the end of a connection may take."""

MOST_WAITING = 16 << 20
"""How many bytes may be under way to a server that has not answered."""

CLOSED = "it was closed"

ANNOUNCED = b"rpiserve:services"
"""The set of the names that are announced."""

MOST_AT_ONCE = 500
"""How many channels one command subscribes to."""

OF_THE_VALUE = ("WRONGTYPE ", "ERR value ", "ERR increment ")
"""How errors begin that tell of a value of another kind, and of nothing else that is wrong."""


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
        return branch(self._tried)

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
        connecting = self._endpoint.connect(SingleConnectionFactory(connection))
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
            if failure.check(ServerRefused):
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
                return branch(self._tried).addCallback(lambda _: self._command(*words))
            reason = CLOSED if self._closed else self._state.error or "not connected yet"
            return fail(BusUnavailable(f"{self._address.name}: {reason}"))
        if session.commands.waiting + sum(map(len, words)) > MOST_WAITING:
            return fail(BusUnavailable(f"{self._address.name} is too slow: {MOST_WAITING} bytes wait for it already"))
        return session.commands.command(*words).addErrback(self._explain, words[0].decode())

    def _explain(self, failure: Failure, command: str) -> Failure:
        text = f"{self._address.name}: {failure.value}"
        if (
            failure.check(ServerRefused)
            and command in ("GET", "INCRBY")
            and str(failure.value).startswith(OF_THE_VALUE)
        ):
            return Failure(DataError(f"the cache: {text}"))
        return Failure(BusUnavailable(text)) if failure.check(ServerRefused, BusUnavailable) else failure


def _reason(error: Exception) -> str:
    """Return why it cannot be connected to, in the words of the system or the server."""
    if isinstance(error, ServerRefused):
        return f"it refuses us: {error}"
    if isinstance(error, BusUnavailable):
        return str(error)
    if isinstance(error, OSError) and error.strerror:  # the file of the password
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return printable(" ".join(str(error).split())) or type(error).__name__


def _expect_cancelled(failure: Failure) -> None:
    failure.trap(CancelledError)
