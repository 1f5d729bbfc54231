"""The HTTP server: its connections, how many there may be, and who is let in."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web import http, server
from twisted.web.resource import IResource

from rpiserve.core.metrics import Metric, Sample
from rpiserve.declare.cors import CorsPolicy
from rpiserve.web.access.authorization import Access
from rpiserve.web.access.hosts import HostAllowlist, is_loopback_ip, network_of
from rpiserve.web.access.proxies import NO_PROXIES, TrustedProxies
from rpiserve.web.problems import Problem
from rpiserve.web.server.channel import LimitedChannel, LimitedRequest, Limits
from rpiserve.web.server.request_log import RequestLog

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})

SINGLE: Final = (b"Authorization", b"Origin", b"Sec-Fetch-Site")
"""Headers by which it is decided who may do what."""

REQUESTS: Final = Metric(
    "rpiserve_http_requests_total", "Requests that were answered.", "counter", ("route", "method", "status")
)
CONNECTIONS: Final = Metric("rpiserve_http_connections", "Connections of clients.", "gauge")
REFUSED: Final = Metric(
    "rpiserve_http_connections_refused_total",
    "Connections, new or idle ones, that were closed because there were too many.",
    "counter",
)


PATIENCE = 1.0
"""Seconds for which a peer may read nothing before its connection may go for a new one."""


class Gate:
    """What each request must pass before anything else looks at it.

    Args:
        hosts: the names that we answer to.
        access: who lets requests in; None if all are.
    """

    def __init__(self, hosts: HostAllowlist, access: Access | None = None) -> None:
        self._hosts = hosts
        self._access = access

    def check_sender(self, request: LimitedRequest) -> None:
        """Let ``request``, whose head has arrived, go on with a large body.

        Raises:
            Problem: 401 or 429, it has to show a token first.
        """
        if self._access is not None:
            self._access.check_token(request)

    def admit(self, request: LimitedRequest) -> list[bytes]:
        """Let ``request`` in.

        Returns:
            The segments of its path, each percent-encoded in one and the same way, so that nothing in a segment (a
            ``%2F``, a line break) can change which route it takes. A slash at the end is left out.

        Raises:
            Problem: 400 for a request that is malformed, 404 for a path with an empty segment, 421 for a request that
                is meant for somebody else.
        """
        hosts = request.requestHeaders.getRawHeaders(b"Host") or []
        if len(hosts) != 1:
            raise Problem(400, "a request has one Host header")
        for name in SINGLE:  # of two a proxy may have looked at the other one
            if len(request.requestHeaders.getRawHeaders(name) or ()) > 1:
                raise Problem(400, f"a request has one {name.decode()} header")
        if request.method != request.method.upper():  # Klein takes "get" for "GET"
            raise Problem(400, "a method is written in capital letters")
        target = request.path
        if not target.startswith(b"/"):  # RFC 9112, section 3.2.2: its authority stands in place of Host
            authority, target = _split_absolute(target)
            self._check_host(authority)
        self._check_host(hosts[0])
        segments = [_canonical(segment) for segment in target.removesuffix(b"/").split(b"/")[1:]]
        if b"" in segments:  # Klein takes "//data" for "/data"
            raise Problem(404, "there is nothing between two slashes")
        return segments or [b""]

    def _check_host(self, host: bytes) -> None:
        if not self._hosts.permits(host.decode("latin-1")):
            raise Problem(421, "this server does not answer to that name; --allowed-host NAME adds one, if it is yours")


def decode_segment(segment: bytes) -> str:
    """Return what a segment of a path, as `Gate.admit` returns it, stands for."""
    return unquote_to_bytes(segment).decode()


def _split_absolute(target: bytes) -> tuple[bytes, bytes]:
    try:
        parts = urlsplit(target)
    except ValueError:
        parts = urlsplit(b"")
    if parts.scheme not in (b"http", b"https"):
        raise Problem(400, "the target of a request is a path that begins with a slash")
    return parts.netloc, parts.path or b"/"


def _canonical(segment: bytes) -> bytes:
    plain = unquote_to_bytes(segment)
    try:
        plain.decode()
    except UnicodeDecodeError:
        raise Problem(400, "the path is not UTF-8") from None
    if b"\0" in plain:
        raise Problem(400, "the path holds a NUL character")
    return quote_from_bytes(plain, safe="").encode()


class LimitedSite(server.Site):
    """The HTTP server.

    Args:
        resource: what answers the requests that were let in.
        gate: what lets them in.
        limits: what a client may ask of us.
        reactor: the reactor's clock.
        cors: which pages of other origins may see answers, if any may.
        proxies: the proxies that are trusted to say who a client is.
        requests: the log of requests, if there is one. It costs about a sixth of the requests that we can answer.

    Attributes:
        refused: how often there were too many connections.
    """

    def __init__(
        self,
        resource: IResource,
        gate: Gate,
        limits: Limits,
        reactor: IReactorTime,
        cors: CorsPolicy | None = None,
        proxies: TrustedProxies = NO_PROXIES,
        requests: RequestLog | None = None,
    ) -> None:
        super().__init__(resource, requestFactory=LimitedRequest, reactor=reactor, parsePOSTFormSubmission=False)
        self.gate = gate
        self.cors = cors
        self.proxies = proxies
        self.requests = requests
        self.refused = 0
        self._answers: Counter[tuple[str, bytes, bytes]] = Counter()
        self._limits = limits
        self._channels: dict[LimitedChannel, str | None] = {}
        self._drained: Deferred[None] | None = None

    noisy = False
    protocol = LimitedChannel  # type: ignore[assignment]  # no negotiation with HTTP/2

    def startFactory(self) -> None:
        """Do nothing: the log of requests is not Twisted's."""

    def stopFactory(self) -> None:
        """Do nothing."""

    def log(self, request: http.Request) -> None:
        """Log ``request``, which has been answered or given up, if there is a log of requests."""
        if self.requests is not None and isinstance(request, LimitedRequest):
            self.requests.note(request, request.channel.since)

    def buildProtocol(self, addr: IAddress | None) -> LimitedChannel | None:  # type: ignore[override]
        """Take a connection; at a limit another goes for it.

        That is the one that has been longest without a complete request; if all are being answered, the one that has
        read nothing of its answer for longest.

        Returns:
            Its channel; None to close it at once, because all others are being answered.
        """
        host = _counted_host(addr)
        here = [channel for channel, other in self._channels.items() if other == host]
        if host is not None and len(here) >= self._limits.connections_per_address and not self._evict(here):
            return None
        if len(self._channels) >= self._limits.connections and not self._evict(self._channels):
            return None
        channel: LimitedChannel = super().buildProtocol(addr)
        channel.limits = self._limits
        channel.since = self.reactor.seconds()
        self._channels[channel] = host
        return channel

    def _evict(self, channels: Iterable[LimitedChannel]) -> bool:
        self.refused += 1
        waiting = [channel for channel in channels if channel.phase not in ("answer", "closing")]
        stalled = [channel for channel in channels if channel.stalled_for() >= PATIENCE]
        if waiting:
            victim = min(waiting, key=lambda channel: channel.since)
        elif stalled:
            victim = max(stalled, key=LimitedChannel.stalled_for)
        else:
            return False
        self.forget(victim)
        victim.transport.abortConnection()
        return True

    def forget(self, channel: LimitedChannel) -> None:
        """Count ``channel`` no more."""
        self._channels.pop(channel, None)
        if self._drained is not None and not self._channels:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def count(self, route: str, method: bytes, status: bytes) -> None:
        """Count a request that is answered.

        Args:
            route: what answers it.
            method: its method; whatever is none of ours is counted as ``other``, or clients could fill the memory.
            status: the status code of the answer.
        """
        self._answers[route, method if method in METHODS else b"other", status] += 1

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of the requests and connections."""
        for (route, method, status), count in self._answers.items():
            yield REQUESTS.sample(count, route, method.decode(), status.decode())
        yield CONNECTIONS.sample(len(self._channels))
        yield REFUSED.sample(self.refused)

    def drain(self) -> Deferred[None]:
        """Close each connection when its answer has been sent, and at once if it waits for a request."""
        for channel in list(self._channels):
            if channel.phase == "answer":
                channel.persistent = False
            else:
                channel.loseConnection()
        if not self._channels:
            return succeed(None)
        self._drained = Deferred()
        return self._drained

    def abort(self) -> None:
        """Close all connections at once."""
        for channel in list(self._channels):
            channel.transport.abortConnection()


def _counted_host(addr: IAddress | None) -> str | None:
    """Return the address that a connection counts for, if it does."""
    host = getattr(addr, "host", None)
    return None if host is None or is_loopback_ip(host) else network_of(host)
