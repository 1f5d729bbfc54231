"""Event streams: how they look, how long they last, how many there may be, and what becomes of those nobody reads."""

import pytest
from http_peer import Peer, make_site, request
from twisted.internet.task import Clock
from twisted.web.resource import Resource

from rpiserve.web.problems import Problem
from rpiserve.web.server.event_stream import CLOSE_SECONDS, COMMENT_SECONDS, MOST_UNREAD, EventStream, Streams
from rpiserve.web.server.request import LimitedRequest, Limits
from rpiserve.web.server.site import LimitedSite


class StreamResource(Resource):
    """Answers each request with a stream, endless unless its path says otherwise."""

    isLeaf = True

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self.streams = streams
        self.opened: list[EventStream] = []
        self.ends = 0

    def render(self, request: LimitedRequest) -> int:
        """Open a stream, and treat it as Klein does."""
        stream = self.streams.open(request, endless=request.path != b"/finite")
        stream.on_end = self.count
        self.opened.append(stream)
        request.notifyFinish().addErrback(lambda _: stream.done.cancel())
        stream.done.addCallbacks(lambda _: request.finish(), lambda _: None)
        return 1

    def count(self) -> None:
        """Count an end."""
        self.ends += 1


@pytest.fixture
def clock() -> Clock:
    """The reactor's clock."""
    return Clock()


@pytest.fixture
def resource(clock: Clock) -> StreamResource:
    """What answers with streams, two at most."""
    return StreamResource(Streams(clock, most=2))  # type: ignore[arg-type]


@pytest.fixture
def site(clock: Clock, resource: StreamResource) -> LimitedSite:
    """A server of it, which evicts who waits without a request beyond three connections."""
    return make_site(clock, resource=resource, limits=Limits(connections=3))


def opened(site: LimitedSite, target: str = "/", reads: bool = True) -> Peer:
    """Return a client that has asked for a stream."""
    return Peer(site, reads=reads).send(request(target))


def test_head(site: LimitedSite, resource: StreamResource) -> None:
    """A stream says what it is before there is an event, is not to be stored, and has no length."""
    peer = opened(site)
    head = peer.received.decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Content-Type: text/event-stream\r\n" in head
    assert "Cache-Control: no-store\r\n" in head
    assert "Transfer-Encoding: chunked\r\n" in head
    assert "Content-Length" not in head
    assert head.endswith("\r\n\r\nd\r\nretry: 1000\n\n\r\n")
    peer.leave()


def test_events(site: LimitedSite, resource: StreamResource) -> None:
    """An event has its type, its data and, if given, its id; a keep-alive connection is used again after the end."""
    peer = opened(site)
    (stream,) = resource.opened
    stream.send("change", b"{}", id="7")
    stream.send("change", b"[1]")
    stream.end()
    stream.end()
    stream.send("change", b"[2]")
    body = peer.received.partition(b"\r\n\r\n")[2]
    assert body == (
        b"d\r\nretry: 1000\n\n\r\n"
        + b"1e\r\nid: 7\nevent: change\ndata: {}\n\n\r\n"
        + b"19\r\nevent: change\ndata: [1]\n\n\r\n"
        + b"0\r\n\r\n"
    )
    assert resource.ends == 1
    assert peer.end is None
    peer.send(request("/"))
    assert len(resource.opened) == 2
    peer.leave()
    assert resource.ends == 2


def test_http_1_0(site: LimitedSite, resource: StreamResource) -> None:
    """For HTTP/1.0 there are no chunks: the end of the connection is that of the stream."""
    peer = Peer(site).send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
    resource.opened[0].send("change", b"1")
    resource.opened[0].end()
    assert peer.received.endswith(b"\r\n\r\nretry: 1000\n\nevent: change\ndata: 1\n\n")
    assert b"Transfer-Encoding" not in peer.received
    assert peer.end == "done"


def test_idle_stream_stays(site: LimitedSite, clock: Clock) -> None:
    """A stream without events outlasts every deadline; a comment now and then shows that it is alive."""
    peer = opened(site)
    head = peer.received
    for _ in range(30):
        clock.advance(COMMENT_SECONDS)
    assert peer.received == head + 30 * b"3\r\n:\n\n\r\n"
    assert peer.end is None
    peer.leave()


def test_streams_are_not_evicted(site: LimitedSite) -> None:
    """At the limit on connections a stream, however old, stays, and who waits without a request goes."""
    streams = [opened(site), opened(site)]
    idle = Peer(site)
    newcomer = Peer(site)
    assert newcomer.accepted
    assert idle.end == "aborted"
    assert [peer.end for peer in streams] == [None, None]
    for peer in (*streams, newcomer):
        peer.leave()


def test_limit(site: LimitedSite, resource: StreamResource) -> None:
    """Beyond the cap a stream is refused with 503, until one has ended."""
    peers = [opened(site), opened(site)]
    third = opened(site)
    assert third.answer().status == 503
    assert "2 streams of events" in third.answer().json()["detail"]
    peers[0].leave()
    third.send(request("/"))
    assert len(resource.opened) == 3
    for peer in (peers[1], third):
        peer.leave()
    assert resource.ends == 3


def test_unread_within_fixed_memory(site: LimitedSite, resource: StreamResource) -> None:
    """A client that does not read is dropped as soon as more than so much waits for it, and nothing more is kept."""
    peer = opened(site, reads=False)
    (stream,) = resource.opened
    for _ in range(100):
        stream.send("change", bytes(50_000).replace(b"\0", b"1"))
    assert peer.waiting < MOST_UNREAD + 100_000
    assert resource.ends == 1
    assert peer.end == "aborted"


def test_large_event(site: LimitedSite, resource: StreamResource) -> None:
    """One event, however large, is no reason to drop a client; only what piles up behind it is."""
    peer = opened(site, reads=False)
    (stream,) = resource.opened
    stream.send("change", b"1" * (3 * MOST_UNREAD))
    stream.send("change", b"2" * (MOST_UNREAD - 100))
    assert peer.waiting < 200_000
    assert peer.end is None
    stream.send("change", b"3" * 100)
    assert peer.end == "aborted"
    assert resource.ends == 1


def test_end_behind(site: LimitedSite, resource: StreamResource) -> None:
    """A stream that ends while its client is behind sends all that it has before."""
    peer = opened(site, "/finite", reads=False)
    (stream,) = resource.opened
    for number in range(4):
        stream.send("change", b"%d" % number * 200_000)
    stream.end()
    assert resource.ends == 1
    while peer.waiting:
        peer.read()
    for number in range(4):
        assert peer.received.count(b"%d" % number) >= 200_000
    assert peer.received.endswith(b"0\r\n\r\n")
    assert peer.end is None
    peer.leave()


def test_slow_client_has_no_more_time_by_comments(site: LimitedSite, resource: StreamResource, clock: Clock) -> None:
    """A client that reads nothing for the write timeout is dropped, though comments go on to be written."""
    peer = opened(site, reads=False)
    resource.opened[0].send("change", b"1" * 70_000)
    clock.advance(9)
    resource.opened[0].send("change", b"1")
    clock.advance(1)
    assert peer.end == "aborted"
    assert resource.ends == 1


def test_client_that_catches_up(site: LimitedSite, resource: StreamResource, clock: Clock) -> None:
    """A client that has been behind and has read all is as good as any."""
    peer = opened(site, reads=False)
    (stream,) = resource.opened
    for _ in range(20):
        stream.send("change", b"1" * 70_000)
        assert stream.behind
        peer.read()
        assert not stream.behind
    clock.advance(9)
    assert peer.end is None
    peer.leave()


def test_close(site: LimitedSite, resource: StreamResource) -> None:
    """At the end endless streams end and stalled ones are cut, so that draining waits for none; one in flight stays."""
    endless = opened(site)
    resource.streams.close()
    assert endless.received.endswith(b"0\r\n\r\n")
    drained = site.drain()
    assert endless.end == "done"
    assert drained.called


def test_close_stalled(site: LimitedSite, resource: StreamResource, clock: Clock) -> None:
    """A stream whose client does not read is cut soon, and one that is the answer of what runs is awaited."""
    stalled, finite = opened(site, reads=False), opened(site, "/finite")
    resource.opened[0].send("change", b"1" * 70_000)
    resource.streams.close()
    drained = site.drain()
    assert stalled.end != "aborted"
    clock.advance(CLOSE_SECONDS)
    assert stalled.end == "aborted"
    assert not drained.called
    resource.opened[1].end()
    assert finite.end == "done"
    assert drained.called


def test_close_behind(site: LimitedSite, resource: StreamResource, clock: Clock) -> None:
    """A client that is only behind still gets all that it was sent, and a proper end."""
    slow = opened(site, reads=False)
    resource.opened[0].send("change", b"1" * 70_000)
    resource.streams.close()
    drained = site.drain()
    slow.read()
    clock.advance(CLOSE_SECONDS)
    slow.read()
    assert slow.received.endswith(b"1\n\n\r\n0\r\n\r\n")
    assert slow.end == "done"
    assert drained.called


def test_closed(clock: Clock, resource: StreamResource, site: LimitedSite) -> None:
    """Once closed there are no new streams."""
    resource.streams.close()
    with pytest.raises(Problem, match="shutting down"):
        resource.streams.check()
    assert opened(site).answer().status == 503


def test_client_has_left_before(clock: Clock, site: LimitedSite) -> None:
    """A stream for a client that has left meanwhile is opened, sends nothing and can be dropped and ended."""
    streams = Streams(clock)  # type: ignore[arg-type]
    requests: list[LimitedRequest] = []

    class Keep(Resource):
        isLeaf = True

        def render(self, request: LimitedRequest) -> int:
            requests.append(request)
            return 1

    peer = Peer(make_site(clock, resource=Keep())).send(request("/"))
    peer.leave()
    stream = streams.open(requests[0], endless=True)
    stream.send("change", b"1")
    stream.drop()
    stream.end()
    assert stream.ended
    assert not clock.getDelayedCalls()
