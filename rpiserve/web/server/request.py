"""One HTTP request: its body within limits, what is known of its client, and its answer."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final, Protocol

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.http import NO_BODY_CODES, datetimeToString  # by way of the module each use costs microseconds
from zope.interface import implementer

from rpiserve.web.app_request import phrase_of
from rpiserve.web.problems import CONTENT_TYPE, Problem, problem_from

JSON: Final = b"application/json"

FREE_BODY: Final = 1 << 16
"""In bytes. A larger body is taken only from clients that `Gate.check_sender` lets send it."""

MOST_PIECES: Final = 10_000
"""How many pieces a body may come in: a million chunks of a byte each would cost seconds to take apart."""

CHUNK: Final = 1 << 16
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


class Gate(Protocol):
    """What each request has to pass before a resource sees it."""

    def translate(self, request: "LimitedRequest", peer: object) -> None:
        """See ``request``, whose head has arrived from ``peer``, as its client sent it to a trusted proxy."""
        ...

    def check_sender(self, request: "LimitedRequest") -> None:
        """Let ``request``, whose head has arrived, go on with a large body.

        Raises:
            Problem: 401 or 429, it has to show a token first.
        """
        ...

    def admit(self, request: "LimitedRequest") -> bool:
        """Admit ``request`` and set its `postpath`; return False if it has been answered.

        Raises:
            Problem: it is refused.
        """
        ...

    def headers(self, request: "LimitedRequest | None") -> Mapping[str, str]:
        """Return the headers that an answer gets whatever it is; None if there is no request to answer."""
        ...


class Channel(Protocol):
    """What a request needs of its connection."""

    phase: Any
    limits: Limits
    site: Any
    since: float
    transport: Any

    def getPeer(self) -> Any: ...

    def refuse(self, problem: Problem) -> None: ...


def too_large(limit: int) -> Problem:
    """Return the refusal of a body of more than ``limit`` bytes."""
    return Problem(413, f"the body of a request may have {limit} bytes")


class LimitedRequest(server.Request):
    """A request whose body stays in memory, and that has to be admitted before it reaches a resource."""

    channel: "Channel"  # type: ignore[assignment]  # None once the connection is gone
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
        self.channel.site.admission.translate(self, peer)
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
            raise too_large(self.channel.limits.body)
        if size > FREE_BODY and not self.may_be_large:
            self.channel.site.admission.check_sender(self)
            self.may_be_large = True

    def process(self) -> None:
        """Answer the request."""
        self.site = self.channel.site
        self.setHeader(b"Date", datetimeToString())
        self.setHeader(b"X-Content-Type-Options", b"nosniff")
        # Or another site's page could show one of ours in a frame, and guide a click onto its buttons.
        self.setHeader(b"Content-Security-Policy", b"frame-ancestors 'self'")
        try:
            if self.channel.site.admission.admit(self):
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

    def set_headers(self, headers: Mapping[str, str]) -> None:
        """Set headers of the answer."""
        for name, value in headers.items():
            self.setHeader(name.encode(), value.encode())

    def processingFailed(self, reason: Failure) -> None:
        """Answer with the problem that ``reason`` is."""
        self.end_with(self.answer_problem(problem_from(reason)))

    def end_with(self, answered: Deferred[None]) -> None:
        """Finish the request when ``answered`` fires."""

        def finish(_: None) -> None:
            self.finish()

        answered.addCallback(finish)

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
