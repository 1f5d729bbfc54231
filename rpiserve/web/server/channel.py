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

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http import NO_BODY_CODES, datetimeToString  # by way of the module each use costs microseconds
from zope.interface import implementer

from rpiserve.declare.cors import CorsPolicy
from rpiserve.web.app_request import phrase_of
from rpiserve.web.problems import CONTENT_TYPE, Problem, problem_from

if TYPE_CHECKING:
    from rpiserve.web.server.site import LimitedSite

LINGER = 5.0
"""Seconds for which the rest of a refused request is read and thrown away."""

MAX_HEADERS = 100

JSON = b"application/json"

FREE_BODY = 1 << 16
"""In bytes. A larger body is taken only from clients that the site's gate lets send it."""

MOST_PIECES = 10_000
"""How many pieces a body may come in: a million chunks of a byte each would cost seconds to take apart."""

CHUNK = 1 << 16
"""In bytes. Larger bodies are sent piece by piece, as fast as the peer reads them."""


@attrs.frozen
class Limits:
    """What a client may ask of us.

    Attributes:
        body: the largest body of a request, in bytes.
        header_seconds: how long a request's line and headers may take to arrive.
        body_seconds: how long its body may take to arrive.
        idle_seconds: how long a connection may wait before a request.
        write_seconds: how long a peer may take to read what the buffers hold, some 100 KB.
        connections: how many connections there may be.
        connections_per_address: how many from one address, unless it is a loopback address.
    """

    body: int = 1 << 20
    header_seconds: float = 10.0
    body_seconds: float = 10.0
    idle_seconds: float = 15.0
    write_seconds: float = 10.0
    connections: int = 256
    connections_per_address: int = 64


class LimitedRequest(server.Request):
    """A request whose body stays in memory, and that is let in by the site's gate before it reaches a resource."""

    channel: "LimitedChannel"  # None once the connection is gone
    content: BytesIO
    pieces = 0
    may_be_large = False
    args: dict[bytes, list[bytes]]
    postpath: list[bytes]

    # Of the client, even if it has come by a proxy that is trusted.
    client_host: str | None = None
    secure = False
    proxied = False

    route = "none"
    """What it is counted under in ``/metrics``: there are few of these, whatever clients send."""

    is_authenticated = False
    token_name: str | None = None
    """Of the token that it has shown, for the log."""

    still_allowed: Callable[[], bool] | None = None
    """Tells whether it would be let in now. An answer that goes on for long ends when it would not."""

    def gotLength(self, length: int | None) -> None:
        """Learn who sends a body, and take it into memory whatever its length.

        Raises:
            Problem: 413, it is too large; 401 or 429, it is large and its sender has to show a token first.
        """
        self.content = BytesIO()
        peer = self.channel.getPeer()
        self.client_host, self.secure = getattr(peer, "host", None), self.isSecure()
        self.channel.site.proxies.translate(self, peer)
        self._check_size(length or 0)

    def handleContentChunk(self, data: bytes) -> None:
        """Take a piece of the body, unless it is too large by now."""
        if self.channel.phase == "refused":
            return
        self.pieces += 1
        try:
            self._check_size(self.content.tell() + len(data))
        except Problem as problem:
            self.channel.refuse(problem)
        else:
            self.content.write(data)

    def _check_size(self, size: int) -> None:
        if size > self.channel.limits.body or self.pieces > MOST_PIECES:
            raise _too_large(self.channel.limits)
        if size > FREE_BODY and not self.may_be_large:
            self.channel.site.gate.check_sender(self)
            self.may_be_large = True

    def process(self) -> None:
        """Answer the request."""
        self.site = self.channel.site
        self.setHeader(b"Date", datetimeToString())
        self.setHeader(b"X-Content-Type-Options", b"nosniff")
        # Or another site's page could show one of ours in a frame, and guide a click onto its buttons.
        self.setHeader(b"Content-Security-Policy", b"frame-ancestors 'self'")
        cors = self.site.cors
        if cors is not None:
            self.set_headers(cors.headers(self.header(b"Origin")))
        try:
            self.prepath, self.postpath = [], self.site.gate.admit(self)
            if cors is None or not self._answer_preflight(cors):
                self.render(self.site.resource)
        except Exception:  # noqa: BLE001 - whatever it is becomes an answer
            self.processingFailed(Failure())

    def connectionLost(self, reason: Failure) -> None:
        """Give up the answer, which nobody waits for any more."""
        if self.site is not None and not self.finished:
            self.site.log(self)
        super().connectionLost(reason)

    def header(self, name: bytes) -> str | None:
        """Return the value of a header as text; the last one if there are several, None if there is none."""
        value = self.getHeader(name)
        return None if value is None else value.decode("latin-1")

    def _answer_preflight(self, cors: CorsPolicy) -> bool:
        """Answer the request if a browser asks by it what a page of another origin may do; tell whether it does."""
        origin, method = self.header(b"Origin"), self.header(b"Access-Control-Request-Method")
        if self.method != b"OPTIONS" or origin is None or method is None:
            return False
        self.responseHeaders.removeHeader(b"Access-Control-Expose-Headers")
        self.set_headers(cors.preflight(origin, method, self.header(b"Access-Control-Request-Headers") or ""))
        self.answer(204, JSON, b"", {}).addCallback(lambda _: self.finish())
        return True

    def set_headers(self, headers: Mapping[str, str]) -> None:
        """Set headers of the answer."""
        for name, value in headers.items():
            self.setHeader(name.encode(), value.encode())

    def processingFailed(self, reason: Failure) -> None:
        """Answer with the problem that ``reason`` is."""

        def finish(_: None) -> None:
            self.finish()

        self.answer_problem(problem_from(reason)).addCallback(finish)

    def answer(self, status: int, content_type: bytes, body: bytes, headers: dict[bytes, bytes]) -> Deferred[None]:
        """Send all of an answer; the Deferred fires when it may be finished."""
        self.setResponseCode(status, phrase_of(status).encode())
        for name, value in headers.items():
            self.setHeader(name, value)
        if status not in NO_BODY_CODES:
            self.setHeader(b"Content-Type", content_type)
            self.setHeader(b"Content-Length", b"%d" % len(body))
        if self.method == b"HEAD" or status in NO_BODY_CODES:
            self.write(b"")
            return succeed(None)
        if len(body) <= CHUNK or self.channel is None:  # None: the client has left, and nothing is sent
            self.write(body)
            return succeed(None)
        return PieceByPiece(self, body).done

    def answer_json(self, body: bytes, status: int = 200) -> Deferred[None]:
        """Send ``body``, which is JSON of this very moment, as the answer."""
        return self.answer(status, JSON, body, {b"Cache-Control": b"no-store"})

    def answer_problem(self, problem: Problem) -> Deferred[None]:
        """Send ``problem`` as the answer."""
        headers = {b"Cache-Control": b"no-store", **problem.headers}  # what is not there now may be there soon
        return self.answer(problem.status, CONTENT_TYPE, problem.body(), headers)


@implementer(IPushProducer)
class PieceByPiece:
    """Sends a large body as fast as the peer reads it, without a copy of the whole.

    Args:
        request: the request to answer.
        body: the body.
    """

    def __init__(self, request: LimitedRequest, body: bytes) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self.stopProducing())
        self._request = request
        self._rest = memoryview(body)
        self._flowing = False
        request.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Send until told to pause."""
        self._flowing = True
        while self._flowing and self._rest:
            piece, self._rest = bytes(self._rest[:CHUNK]), self._rest[CHUNK:]
            self._request.write(piece)
        if self._flowing:
            self.stopProducing()
            self.done.callback(None)

    def pauseProducing(self) -> None:
        """Send nothing for now."""
        self._flowing = False

    def stopProducing(self) -> None:
        """Send nothing more."""
        self._flowing, self._rest = False, memoryview(b"")
        if self._request.channel is not None:  # otherwise the client has left, and this is called once more
            self._request.unregisterProducer()


class LimitedChannel(http.HTTPChannel):
    """One HTTP connection. Its site sets `site`, `limits` and `since`.

    Attributes:
        since: when it was made or last brought a complete request, in seconds by the reactor's clock.
        phase: what the connection is at. ``idle``: no request has begun; ``head`` and ``body``: one is arriving;
            ``answer``: it is being answered; ``closing``: what is left is sent; ``refused``: the rest is thrown away.
    """

    transport: Any  # always a stream transport, which Twisted's annotation does not say
    site: "LimitedSite"
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
            self.refuse(_too_large(self.limits))
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
        cors, request = self.site.cors, self.requests[-1] if self.requests else None
        headers = {} if cors is None else cors.headers(request and request.header(b"Origin"))
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


def _too_large(limits: Limits) -> Problem:
    return Problem(413, f"the body of a request may have {limits.body} bytes")
