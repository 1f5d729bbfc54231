"""Server-sent events (WHATWG HTML, section 9.2): answers that go on for as long as there is something to tell.

A stream ends when its source does, when the client leaves, when the client reads too slowly, or at shutdown. While
nothing happens a comment is sent now and then, so that both sides learn when the connection has gone.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from rpiserve.core.metrics import Metric, Sample
from rpiserve.web.problems import Problem
from rpiserve.web.server.request import CHUNK, LimitedRequest

MOST_STREAMS = 100
"""How many streams there may be at the same time."""

COMMENT_SECONDS = 10.0

CLOSE_SECONDS = 1.0
"""How long who is behind with reading gets for it at shutdown."""

RETRY_MILLISECONDS = 1000
"""How long a browser waits before it connects again."""

MOST_UNREAD = 1 << 20
"""In bytes. A client that lets more pile up behind the event that is being sent, however large that is, is dropped."""

CONTENT_TYPE = b"text/event-stream"

OPEN: Final = Metric("rpiserve_event_streams", "Streams of events that are under way.", "gauge")
OPENED: Final = Metric("rpiserve_event_streams_opened_total", "Streams of events that were begun.", "counter")
DROPPED: Final = Metric(
    "rpiserve_event_streams_dropped_total",
    "Streams of events that were cut off: the client did not read, or may not listen any more.",
    "counter",
)


def event_bytes(event: str, data: bytes, id: str | None = None) -> bytes:
    """Return an event as it is sent.

    Args:
        event: its type.
        data: JSON, which has no line break.
        id: what the client names as ``Last-Event-ID`` if it comes again.
    """
    head = b"" if id is None else f"id: {id}\n".encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, event.encode(), data)


class Streams:
    """All streams of events that are under way.

    Args:
        clock: the reactor's clock, in seconds.
        most: how many there may be.
    """

    def __init__(self, clock: IReactorTime, most: int = MOST_STREAMS) -> None:
        self.clock = clock
        self._most = most
        self._streams: set[EventStream] = set()
        self._closed = False
        self._opened = 0
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._streams)

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of them."""
        yield OPEN.sample(len(self._streams))
        yield OPENED.sample(self._opened)
        yield DROPPED.sample(self._dropped)

    def check(self) -> None:
        """Check that there may be one more.

        Raises:
            Problem: 503, there are too many, or the daemon is shutting down.
        """
        if self._closed:
            raise Problem(503, "the daemon is shutting down", code="shutting_down")
        if len(self._streams) >= self._most:
            raise Problem(503, f"{self._most} streams of events are open already; try again later", code="busy")

    def open(self, request: LimitedRequest, endless: bool = False) -> "EventStream":
        """Begin a stream as the answer to ``request``.

        Args:
            request: the request.
            endless: whether it goes on until the client leaves; others are let end by themselves at shutdown.

        Raises:
            Problem: 503, there are too many, or the daemon is shutting down.
        """
        self.check()
        stream = EventStream(request, self.clock, self._forget, endless)
        self._streams.add(stream)
        self._opened += 1
        return stream

    def _forget(self, stream: "EventStream") -> None:
        self._streams.discard(stream)
        self._dropped += stream.dropped

    def close(self) -> None:
        """End all that would not end by themselves, in a moment also where the client does not read; open no more."""
        self._closed = True
        for stream in list(self._streams):
            if stream.endless and not stream.behind:
                stream.end()
        if self._streams:
            self.clock.callLater(CLOSE_SECONDS, self._end_rest)

    def _end_rest(self) -> None:
        for stream in list(self._streams):
            if stream.behind:
                stream.drop()
            elif stream.endless:
                stream.end()


@implementer(IPushProducer)
class EventStream:
    """One stream of events. Made by `Streams.open`.

    Args:
        request: the request that it answers.
        clock: the reactor's clock, in seconds.
        forget: called with this when it has ended.
        endless: whether it goes on until the client leaves.

    Attributes:
        behind: whether the client has something left to read.
        dropped: whether it was cut off.
        ended: whether it has ended, however that came.
        on_end: called when it has ended.
        done: fires when it has ended. To cancel it, as Klein does when the client has left, ends it.
    """

    def __init__(
        self,
        request: LimitedRequest,
        clock: IReactorTime,
        forget: Callable[["EventStream"], object],
        endless: bool,
    ) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._over())
        self._request = request
        self._clock = clock
        self.endless = endless
        self.on_end: Callable[[], object] = lambda: None
        self._forget = forget
        self.ended = False
        self.behind = False
        self.dropped = False
        self._sending = memoryview(b"")
        self._waiting: deque[bytes] = deque()
        self._unread = 0
        request.setHeader(b"Content-Type", CONTENT_TYPE)
        request.setHeader(b"Cache-Control", b"no-store")
        request.setHeader(b"X-Accel-Buffering", b"no")  # or nginx keeps the events until it has many
        if request.channel is not None:  # otherwise the client has left already
            request.registerProducer(self, True)
        self._timer: IDelayedCall = clock.callLater(COMMENT_SECONDS, self._comment)
        self.write(b"retry: %d\n\n" % RETRY_MILLISECONDS if endless else b":\n\n")

    def send(self, event: str, data: bytes, id: str | None = None) -> None:
        """Send an event, unless the stream has ended; its arguments are those of `event_bytes`."""
        self.write(event_bytes(event, data, id))

    def write(self, data: bytes) -> None:
        """Send what `event_bytes` has returned, unless the stream has ended. The same bytes may go to many streams."""
        if self.ended or self._request.channel is None:
            return
        self._waiting.append(data)
        self._unread += len(data)
        self._send_waiting()
        if self._unread > MOST_UNREAD:
            self.drop()  # at once: the connection is lost in a later turn, and more might come until then

    def end(self) -> None:
        """End the stream, once the client has read what it was sent."""
        if not self.ended:
            if self.behind and self._request.channel is not None:
                self._request.write(b"".join((self._sending, *self._waiting)))
            self._over()
            self.done.callback(None)

    def drop(self) -> None:
        """End the stream and its connection, without a wait for the client to read."""
        self.dropped = True
        if self._request.channel is not None:
            self._request.channel.transport.abortConnection()
        self._over()

    def _comment(self) -> None:
        self._timer = self._clock.callLater(COMMENT_SECONDS, self._comment)
        if self._request.still_allowed is not None and not self._request.still_allowed():
            self.drop()
        self.write(b":\n\n")

    def _send_waiting(self) -> None:
        # Piece by piece: so a slow client has the write timeout for each of them, and not for a whole large snapshot.
        while not self.behind and (self._sending or self._waiting):
            if not self._sending:
                self._sending = memoryview(self._waiting.popleft())
                self._unread -= len(self._sending)
            piece, self._sending = self._sending[:CHUNK], self._sending[CHUNK:]
            self._request.write(bytes(piece))

    def _over(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._sending = memoryview(b"")
        self._waiting.clear()
        self._timer.cancel()
        if self._request.channel is not None:
            self._request.unregisterProducer()
        self._forget(self)
        self.on_end()

    # --- for the transport -------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """Note that the client has something left to read."""
        self.behind = True

    def resumeProducing(self) -> None:
        """Go on: it has read that."""
        self.behind = False
        self._send_waiting()

    def stopProducing(self) -> None:
        """End: the client has left."""
        self._over()
