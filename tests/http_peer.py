"""The peer of an HTTP connection in memory, and what it gets to read.

`Wire` is the server's transport. Unlike Twisted's own `StringTransport` it behaves as a TCP connection does when its
peer is slow: it holds what is written until the peer reads it, pauses the writer beyond 64 KiB, delivers nothing while
reading is paused, and is gone at the earliest in a later turn of the reactor.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import msgspec
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from rpiserve.commands.calls import CommandCalls
from rpiserve.core.handler_status import HandlerStatus
from rpiserve.daemon.config import Config
from rpiserve.data.tree import DataTree
from rpiserve.declare.cors import CorsPolicy
from rpiserve.errors import BusUnavailable
from rpiserve.web.access.admission import Admission
from rpiserve.web.access.authorization import Authorizer
from rpiserve.web.access.cross_site import CrossSiteCheck
from rpiserve.web.access.hosts import HostAllowlist
from rpiserve.web.access.proxies import NO_PROXIES, TrustedProxies
from rpiserve.web.endpoints.actions import ActionEndpoints
from rpiserve.web.endpoints.broadcasts import BroadcastEndpoints
from rpiserve.web.endpoints.commands import CommandEndpoints
from rpiserve.web.endpoints.dashboard import DashboardEndpoints
from rpiserve.web.endpoints.data import DataEndpoints
from rpiserve.web.endpoints.events import EventEndpoints
from rpiserve.web.endpoints.health import HealthEndpoints
from rpiserve.web.endpoints.login import LoginEndpoints
from rpiserve.web.endpoints.metrics import CONTENT_TYPE as METRICS
from rpiserve.web.endpoints.metrics import MetricsEndpoints
from rpiserve.web.endpoints.openapi import OpenApiEndpoints
from rpiserve.web.endpoints.pages import PageEndpoints
from rpiserve.web.endpoints.router import Router
from rpiserve.web.endpoints.sensors import SensorEndpoints
from rpiserve.web.endpoints.services import ServiceEndpoints
from rpiserve.web.server.channel import LimitedChannel
from rpiserve.web.server.event_stream import Streams
from rpiserve.web.server.request import Limits
from rpiserve.web.server.site import LimitedSite

HERE = IPv4Address("TCP", "127.0.0.1", 8080)
THERE = IPv4Address("TCP", "127.0.0.1", 50000)


@implementer(ITransport, IConsumer, IPushProducer)
class Wire:
    """The server's end of a connection. All that a peer does to it is done through `Peer`.

    Attributes:
        buffer: what the server has written and the peer has not read.
        half_closed: whether the server has said that it writes no more, and the peer has read all before it.
        lost: how the connection ended: ``done``, ``aborted``, ``lost``, or None.
    """

    SIZE = 1 << 16
    disconnecting = False

    def __init__(self, clock: Clock, address: Any) -> None:
        self.buffer = bytearray()
        self.half_closed = False
        self.lost: str | None = None
        self.reading = True
        self.protocol: Any = None
        self._clock = clock
        self._address = address
        self._incoming = bytearray()
        self._half_closing = False
        self._producer: Any = None
        self._paused = False
        self._delivers = False

    # --- for the server --------------------------------------------------------------------------------------------

    def getPeer(self) -> Any:
        return self._address

    def getHost(self) -> Any:
        return HERE

    def write(self, data: bytes) -> None:
        if self.lost is None and not self.half_closed:
            self.buffer += data
            if self._producer is not None and len(self.buffer) > self.SIZE:
                self._paused = True
                self._producer.pauseProducing()

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        assert self._producer is None
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = not self.disconnecting
        if not self._delivers:
            self._delivers = True
            self._clock.callLater(0, self._deliver)

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        self.disconnecting, self.reading = True, False
        self._clock.callLater(0, self._drained)

    def loseWriteConnection(self) -> None:
        self._half_closing = True
        self._clock.callLater(0, self._drained)

    def abortConnection(self) -> None:
        self.reading = False
        self._clock.callLater(0, self.lose, ConnectionAborted(), "aborted")

    # --- for the peer ----------------------------------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        """Let ``data`` arrive, in pieces as large as a socket's are."""
        self._incoming += data
        self._deliver()

    def _deliver(self) -> None:
        self._delivers = False
        while self._incoming and self.reading and self.lost is None:
            piece = bytes(self._incoming[: self.SIZE])
            del self._incoming[: self.SIZE]
            self.protocol.dataReceived(piece)

    @property
    def undelivered(self) -> int:
        """How many bytes have arrived that the server has not taken."""
        return len(self._incoming)

    def take(self, count: int) -> bytes:
        """Let the peer read ``count`` bytes."""
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        self._drained()
        return data

    def _drained(self) -> None:
        if self.buffer or self.lost is not None:
            return
        if self._producer is not None and self._paused:
            self._paused = False
            self._producer.resumeProducing()
        elif self.disconnecting:
            self.lose(ConnectionDone(), "done")
        elif self._half_closing:
            self.half_closed = True

    def lose(self, reason: Exception, how: str) -> None:
        """End the connection, as a transport does: its producer first, then its protocol."""
        if self.lost is None:
            self.lost, self.reading = how, False
            if self._producer is not None:
                self._producer.stopProducing()
                self._producer = None
            self.protocol.connectionLost(Failure(reason))


@attrs.frozen
class Answer:
    """An answer as it was read."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes
    version: str = "HTTP/1.1"

    def json(self) -> Any:
        """Return what the body says."""
        return msgspec.json.decode(self.body)


def parse_answers(data: bytes, methods: Sequence[str] = ()) -> list[Answer]:
    """Return the answers that ``data`` holds, each of which is checked for what all answers have in common.

    Args:
        data: what was read. It ends where an answer does.
        methods: the methods of the requests, as far as they are not GET.
    """
    answers = []
    while data:
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"an answer's head is cut off: {head[:200]!r}"
        first, *lines = head.decode("ascii").split("\r\n")
        version, status, reason = first.split(" ", 2)
        if status == "100":
            assert not lines
            continue
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"the header {name} stands twice"
            headers[name.lower()] = value
        length = int(headers.get("content-length", "0"))
        # Whether it was a HEAD that is refused cannot be known; so a refusal, which has no date, always has its body.
        held = 0 if (method == "HEAD" and "date" in headers) or status in ("204", "304") else length
        body, data = data[:held], data[held:]
        answer = Answer(int(status), reason, headers, body, version)
        assert len(body) == held, f"the body of an answer is cut off: {first}"
        check_answer(answer, method)
        answers.append(answer)
    return answers


def check_answer(answer: Answer, method: str) -> None:
    """Check what is true of every answer that there is."""
    assert answer.version in ("HTTP/1.0", "HTTP/1.1")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "transfer-encoding" not in answer.headers
    assert "server" not in answer.headers
    if answer.status in (204, 304):
        assert "content-type" not in answer.headers
        return
    assert "content-length" in answer.headers
    if answer.headers["content-type"] in ("text/html; charset=utf-8", METRICS.decode()):  # the login, or /metrics
        return
    if answer.status < 300 or (answer.status == 503 and b'"ready":' in answer.body):
        assert answer.headers["content-type"] == "application/json"
        return
    assert answer.headers["content-type"] == "application/problem+json"
    if answer.body:
        problem = answer.json()
        assert problem["type"] == "about:blank"
        assert problem["title"] == answer.reason
        assert problem["status"] == answer.status
        assert isinstance(problem["detail"], str)
        assert re.fullmatch("[a-z0-9_]{1,40}", problem["code"])


class Peer:
    """A client with a connection to ``site``.

    Args:
        site: the server.
        address: where the client is.
        reads: read all there is at once; otherwise only what `read` is told to.

    Attributes:
        accepted: whether the server took the connection.
    """

    def __init__(self, site: LimitedSite, address: Any = THERE, reads: bool = True) -> None:
        self._clock: Any = site.reactor
        self._reads = reads
        self._received = bytearray()
        self._wire = Wire(self._clock, address)
        channel = site.buildProtocol(address)
        self.accepted = channel is not None
        if channel is not None:
            self.channel: LimitedChannel = channel
            self._wire.protocol = channel
            channel.makeConnection(self._wire)

    def _settle(self) -> None:
        """Let happen what happens at once."""
        self._clock.advance(0)
        while self._reads and self._wire.buffer:
            self._received += self._wire.take(len(self._wire.buffer))
            self._clock.advance(0)

    def send(self, *pieces: bytes) -> "Peer":
        """Send ``pieces``, one after the other."""
        for piece in pieces:
            self._wire.arrive(piece)
            self._settle()
        return self

    def read(self, count: int | None = None) -> bytes:
        """Read ``count`` bytes of what waits, or all of it, and return them."""
        self._clock.advance(0)
        data = self._wire.take(len(self._wire.buffer) if count is None else count)
        self._received += data
        self._clock.advance(0)
        return data

    def leave(self) -> None:
        """Cut the connection."""
        self._wire.lose(ConnectionLost(), "lost")

    @property
    def waiting(self) -> int:
        """How many bytes wait to be read."""
        return len(self._wire.buffer)

    @property
    def unsent(self) -> int:
        """How many bytes were sent that the server does not take."""
        self._settle()
        return self._wire.undelivered

    @property
    def received(self) -> bytes:
        """All that was read so far."""
        self._settle()
        return bytes(self._received)

    @property
    def end(self) -> str | None:
        """How the connection ended: ``done``, ``aborted`` or ``lost``; ``half`` if only the server's side did."""
        self._settle()
        return self._wire.lost or ("half" if self._wire.half_closed else None)

    def answers(self, *methods: str) -> list[Answer]:
        """Return all answers so far, to requests with ``methods`` (GET if not given)."""
        return parse_answers(self.received, methods)

    def answer(self, method: str = "GET") -> Answer:
        """Return the only answer so far."""
        (answer,) = self.answers(method)
        return answer


class NoHandlers:
    """A daemon's polling without handlers."""

    def statuses(self) -> list[HandlerStatus]:
        return []


def make_tree(clock: Clock) -> DataTree:
    """Return an empty tree of the boot ``boot``, whose clocks start in the year 2001."""
    tree = DataTree("boot", clock.seconds, lambda: 1_000_000_000.25 + clock.seconds())
    tree.journal.open(lambda deliver: deliver(), lambda receiver: pytest.fail(f"{receiver} raised"))
    return tree


class NoMessaging:
    """What has no actions and no bus."""

    def call_own(self, action: str, payload: Any, size: int, send: Any) -> None:
        send("error", msgspec.json.encode({"error": f"there is no {action}", "code": "unknown_action"}), True)

    def call(self, service: str, action: str, payload: bytes, timeout: float, progress: Any) -> Any:
        raise BusUnavailable("there is no bus")

    def publish(self, channel: str, message: bytes) -> Any:
        raise BusUnavailable("there is no bus")

    def hear(self, channels: Sequence[str], receiver: Any) -> Any:
        return lambda: None


class NoServices:
    """What knows of no services."""

    def describe(self) -> Any:
        return succeed({"bus": {"kind": "memory"}, "services": []})


NO_MESSAGING = NoMessaging()
"""Messaging without a bus behind it."""


def make_admission(
    clock: Clock,
    *,
    hosts: Iterable[str] = (),
    cors: CorsPolicy | None = None,
    proxies: TrustedProxies = NO_PROXIES,
    access: Authorizer | None = None,
    open: bool = False,
    get_commands: bool = False,
) -> Admission:
    """Return what requests have to pass, on ``clock``."""
    check = CrossSiteCheck(open, get_commands, cors)
    return Admission(HostAllowlist("machine", hosts), proxies, cors, access or Authorizer(None, open, clock), check)  # type: ignore[arg-type]


def make_router(
    clock: Clock,
    tree: DataTree | None = None,
    *,
    admission: Admission | None = None,
    handlers: Any = None,
    parts: Sequence[Any] = (),
    commands: Any = None,
    messaging: Any = NO_MESSAGING,
    streams: Streams | None = None,
    events: EventEndpoints | None = None,
    dashboard: DashboardEndpoints | None = None,
    www: str | None = None,
    access: Authorizer | None = None,
    stats: Sequence[Any] = (),
) -> Router:
    """Return all endpoints that a daemon has by itself, on ``clock``."""
    if streams is None:
        streams = Streams(clock)  # type: ignore[arg-type]
    tree = tree or make_tree(clock)
    handlers = handlers or NoHandlers()
    subjects = (
        DataEndpoints(tree, handlers),
        events or EventEndpoints(tree, handlers, messaging, streams, clock),  # type: ignore[arg-type]
        SensorEndpoints(handlers),
        CommandEndpoints(commands or CommandCalls({}, Clock(), lambda: None, 1)),
        ActionEndpoints(messaging, streams),
        ServiceEndpoints(NoServices()),
        BroadcastEndpoints(messaging),
        HealthEndpoints({f"part {number}": part for number, part in enumerate(parts, 1)}),
        MetricsEndpoints("test", tree, 1_000_000_000.25, stats),
        OpenApiEndpoints(b"{}"),
        dashboard or DashboardEndpoints(False, False),
        LoginEndpoints(access or Authorizer(None, False, clock)),  # type: ignore[arg-type]
        PageEndpoints(www),
    )
    return Router(subjects, admission or make_admission(clock, access=access))


def make_site(
    clock: Clock,
    tree: DataTree | None = None,
    *,
    resource: Any = None,
    limits: Limits | None = None,
    admission: Admission | None = None,
    hosts: Iterable[str] = (),
    cors: CorsPolicy | None = None,
    proxies: TrustedProxies = NO_PROXIES,
    access: Authorizer | None = None,
) -> LimitedSite:
    """Return a site as the daemon has it, on ``clock``."""
    admission = admission or make_admission(clock, hosts=hosts, cors=cors, proxies=proxies, access=access)
    if resource is None:
        resource = make_router(clock, tree, admission=admission, access=access)
    return LimitedSite(resource, admission, limits or Config().limits, clock)  # type: ignore[arg-type]


def request(
    target: str | bytes, method: str = "GET", *headers: str, body: bytes = b"", host: str = "localhost"
) -> bytes:
    """Return a request as bytes."""
    path = target.encode() if isinstance(target, str) else target
    lines = [method.encode() + b" " + path + b" HTTP/1.1", b"Host: " + host.encode("latin-1")]
    lines += [header.encode("latin-1") for header in headers]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
