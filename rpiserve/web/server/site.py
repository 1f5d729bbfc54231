"""The HTTP server: its connections, and how many there may be."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web import http, server
from twisted.web.resource import IResource

from rpiserve.core.metrics import Metric, Sample
from rpiserve.web.server.addresses import is_loopback_ip, network_of
from rpiserve.web.server.channel import LimitedChannel
from rpiserve.web.server.request import Gate, LimitedRequest, Limits
from rpiserve.web.server.request_log import RequestLog

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})

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


class LimitedSite(server.Site):
    """The HTTP server.

    Args:
        resource: what answers the requests that were admitted.
        admission: what each request has to pass.
        limits: what a client may use.
        reactor: the reactor's clock.
        requests: the log of requests, if there is one. It costs about a sixth of the requests that can be answered.

    Attributes:
        refused: how often there were too many connections.
    """

    def __init__(
        self,
        resource: IResource,
        admission: Gate,
        limits: Limits,
        reactor: IReactorTime,
        requests: RequestLog | None = None,
    ) -> None:
        super().__init__(resource, requestFactory=LimitedRequest, reactor=reactor, parsePOSTFormSubmission=False)
        self.admission = admission
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
