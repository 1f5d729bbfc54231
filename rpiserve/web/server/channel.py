"""One HTTP connection, within limits that no client can stretch.

Twisted's `HTTPChannel` parses; this adds what it leaves open:

- Deadlines count from the start of what they limit. A client that sends a byte now and then gains nothing by it.
- A body is kept in memory and refused (413) as soon as it is known to be too large, whichever its framing. With tokens
  a large one is taken only from a client that has shown one, or strangers could fill the memory.
- The next of several pipelined requests waits until the peer has read the answers before it. A peer that reads nothing
  for a while is dropped.
- A refusal is sent before the connection is closed, and what the client is still sending is read and thrown away for a
  moment, since closing at once would make its system discard the answer (RFC 9112, section 9.6).
"""

from typing import Any, Final, Literal, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http

from rpiserve.web.problems import Problem
from rpiserve.web.server.request import Gate, LimitedRequest, Limits, too_large
from rpiserve.web.server.request_log import RequestLog

LINGER: Final = 5.0
"""Seconds for which the rest of a refused request is read and thrown away."""

MAX_HEADERS: Final = 100


class Server(Protocol):
    """What a connection needs of its site."""

    admission: Gate
    requests: RequestLog | None
    reactor: IReactorTime

    def count(self, route: str, method: bytes, status: bytes) -> None:
        """Count a request that is answered."""
        ...

    def forget(self, channel: "LimitedChannel") -> None:
        """Count ``channel`` no more."""
        ...


class LimitedChannel(http.HTTPChannel):
    """One HTTP connection. Its site sets `site`, `limits` and `since`.

    Attributes:
        since: when it was made or last brought a complete request, in seconds by the reactor's clock.
        phase: what the connection is at. ``idle``: no request has begun; ``head`` and ``body``: one is arriving;
            ``answer``: it is being answered; ``closing``: what is left is sent; ``refused``: the rest is thrown away.
    """

    transport: Any  # always a stream transport, which Twisted's annotation does not say
    site: "Server"
    limits: Limits
    since: float
    maxHeaders = MAX_HEADERS
    requestFactory = LimitedRequest

    def __init__(self) -> None:
        super().__init__()
        self.phase: Literal["idle", "head", "body", "answer", "closing", "refused"] = "idle"
        self._answered: LimitedRequest | None = None
        self._stall: IDelayedCall | None = None

    # --- deadlines: one timer, set where a phase begins --------------------------------------------------------------

    def resetTimeout(self) -> None:
        """Do nothing: more bytes do not move a deadline."""

    def connectionMade(self) -> None:
        """Begin to wait for the first request."""
        super().connectionMade()
        self.setTimeout(self.limits.idle_seconds)

    def dataReceived(self, data: bytes) -> None:
        """Take what has arrived, or throw it away."""
        if self.phase != "refused":
            self._head_begins()
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Take a line of a request's head."""
        if self.phase != "refused":
            self._head_begins()
            super().lineReceived(line)

    def _head_begins(self) -> None:
        if self.phase == "idle":
            self.phase = "head"
            self.setTimeout(self.limits.header_seconds)

    def headerReceived(self, line: bytes) -> bool:
        """Take a header; refuse what Twisted would not, an absurd length and ``Transfer-Encoding: identity``."""
        name, _, value = line.partition(b":")
        name, value = name.strip().lower(), value.strip().lower()
        if name == b"content-length" and len(value) > 12:
            self.refuse(too_large(self.limits.body))
            return False
        if name == b"transfer-encoding" and value != b"chunked":
            self._respondToBadRequestAndDisconnect()
            return False
        return bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        """Begin with the body, unless it is too large; only then may the client be told to go on with it."""
        self.phase = "body"
        self.setTimeout(self.limits.body_seconds)
        try:
            super().allHeadersReceived()
        except Problem as problem:
            self.refuse(problem)

    def rawDataReceived(self, data: bytes) -> None:
        """Take a piece of a body, or of the requests behind it."""
        if self.phase != "refused":
            super().rawDataReceived(data)
        if self._waitingForTransport and sum(map(len, self._dataBuffer)) > self._optimisticEagerReadSize:
            # Twisted stops to listen at this size, too, but not to a peer that reads nothing.
            self._networkProducer.pauseProducing()

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long, which Twisted would close the connection for without a word."""
        self._respondToBadRequestAndDisconnect()

    def allContentReceived(self) -> None:
        """Answer the request."""
        if self.phase == "refused":
            return
        self.phase = "answer"
        self.since = self.site.reactor.seconds()
        super().allContentReceived()

    def timeoutConnection(self) -> None:
        """See to the phase that has taken too long."""
        if self.phase in ("head", "body"):
            self.refuse(Problem(408, f"the request's {self.phase} took too long to arrive"))
        elif self.phase == "idle":
            self.loseConnection()
        else:
            self.transport.abortConnection()

    # --- counting ----------------------------------------------------------------------------------------------------

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        """Begin with an answer, which each does here, and count it."""
        request = self.requests[-1]
        self.site.count(request.route, request.method, code)
        super().writeHeaders(version, code, reason, headers)

    # --- refusing ----------------------------------------------------------------------------------------------------

    def refuse(self, problem: Problem) -> None:
        """Answer with ``problem``, and take nothing more from this connection."""
        if self.phase == "refused":
            return
        self.phase = "refused"
        self.site.count("none", b"", b"%d" % problem.status)
        if self.site.requests is not None:
            client = self.requests[-1].client_host if self.requests else None  # who it is by way of a trusted proxy
            peer = getattr(self.transport.getPeer(), "host", None)
            self.site.requests.note_refusal(client or peer, problem.status)
        self.transport.unregisterProducer()  # a transport that has paused its producer is not closed
        headers = self.site.admission.headers(self.requests[-1] if self.requests else None)
        self.transport.write(problem.raw_answer(headers))
        if self.isSecure():  # TLS has an end of its own, behind which it goes on to read; not to have it is an error
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()
        self.setTimeout(LINGER)

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(Problem(400, "this is no request that HTTP/1.1 knows"))

    # --- answers that the peer does not read -------------------------------------------------------------------------

    def requestDone(self, request: Any) -> None:
        """Go on to the next request, once the peer has read the answer to this one."""
        if self._waitingForTransport:
            self._answered = request
            return
        self._answered = None
        self.phase = "idle"
        self._savedTimeOut = self.limits.idle_seconds
        super().requestDone(request)

    def pauseProducing(self) -> None:
        """Begin to wait for the peer, which reads more slowly than we write."""
        super().pauseProducing()
        if self._stall is None:  # the transport says it anew with each write, which gains the peer no time
            self._stall = self.site.reactor.callLater(self.limits.write_seconds, self._stalled)

    def resumeProducing(self) -> None:
        """Go on: the peer has read."""
        self._end_stall()
        super().resumeProducing()
        if self._answered is not None and not self._waitingForTransport:
            self.requestDone(self._answered)

    def stalled_for(self) -> float:
        """Return for how many seconds the peer has read nothing of what there is to read."""
        if self._stall is None:
            return 0.0
        return self.limits.write_seconds - (self._stall.getTime() - self.site.reactor.seconds())

    def _stalled(self) -> None:
        self._stall = None
        self.transport.abortConnection()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    # --- the end -----------------------------------------------------------------------------------------------------

    def loseConnection(self) -> None:
        """Close the connection when all has been sent; a peer that does not read it is dropped."""
        if self.phase != "refused":
            self.phase = "closing"
            self.setTimeout(self.limits.write_seconds)
        super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Clean up."""
        self._end_stall()
        self.site.forget(self)
        super().connectionLost(reason)
