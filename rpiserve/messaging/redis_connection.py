"""One connection to a Redis server, and the pair of them that makes a session.

Of txredisapi this uses the parser and the transport. What to send when, and to whom an answer belongs, is decided here:

- Each connection is pinged every second. One that has brought nothing for three of them is dropped. The pings are what
  is counted, not the time: while the reactor itself was held up, what had come could not be read.
- Answers belong to commands in the order of these. A confirmation of a subscription comes once for each channel.
- A message comes once for its channel and once more for each pattern. It is delivered for the first of them only.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import attrs
import txredisapi
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, DeferredList, fail
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
from twisted.python.failure import Failure

from rpiserve.data.encoding import printable
from rpiserve.errors import BusUnavailable, StartError
from rpiserve.messaging.address import RedisAddress
from rpiserve.messaging.bus import (
    compile_pattern,
    decoded,
)

Outcome = TypeVar("Outcome")

MOST_UNANSWERED = 3
"""How many pings may bring nothing, before the connection is taken for dead."""

KINDS = ("+", "-", ":", "$", "*")
"""How a line may begin that is no part of a value."""

LOST = "the connection was lost"
PUSHES = (b"subscribe", b"unsubscribe", b"psubscribe", b"punsubscribe")


class ServerRefused(Exception):
    """The server has answered with an error; the text is its own."""


@attrs.define(eq=False)
class ExpectedReply:
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
        self._expected: deque[ExpectedReply] = deque()
        self._confirmed: dict[bytes, dict[bytes, Any]] = {b"subscribe": {}, b"psubscribe": {}}
        self._unanswered = 0
        self._reason = LOST
        self._timer: IDelayedCall | None = None
        self._over = False

    # --- for the session ---------------------------------------------------------------------------------------------

    def command(self, *words: bytes, confirmations: int = 0) -> Deferred[Any]:
        """Send a command.

        Returns:
            A Deferred that fires with the reply. It fails with `ServerRefused`, or with
            `BusUnavailable` if the connection is lost before.
        """
        if self._over:
            return fail(BusUnavailable(self._reason))
        data = b"*%d\r\n%b" % (len(words), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words]))
        reply: Deferred[Any] = Deferred()
        self._expected.append(ExpectedReply(reply, len(data), confirmations))
        self.waiting += len(data)
        self.transport.write(data)
        return reply

    def gone(self) -> Deferred[str]:
        """Return a Deferred of its own that fires with the reason when the connection is lost."""
        return branch(self._lost)

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
                answered.errback(ServerRefused(printable(str(reply))))
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


class SingleConnectionFactory(Factory):
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


def branch(trunk: Deferred[Outcome]) -> Deferred[Outcome]:
    """Return a Deferred of its own that fires as ``trunk`` does, which does not fail."""
    branch: Deferred[Outcome] = Deferred()

    def pass_on(outcome: Outcome) -> Outcome:
        branch.callback(outcome)
        return outcome

    trunk.addCallback(pass_on)
    return branch
