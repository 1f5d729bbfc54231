"""What limits a connection, on a clock and in memory: deadlines, sizes, unread answers, caps, and the way out."""

import tempfile
from typing import Any

import pytest
from http_peer import Peer, Wire, make_site, make_tree, request
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from rpiserve.data.tree import DataTree
from rpiserve.web.server.channel import LINGER, MAX_HEADERS
from rpiserve.web.server.request import CHUNK, MOST_PIECES, LimitedRequest, Limits

LIMITS = Limits(
    body=1000,
    header_seconds=10,
    body_seconds=20,
    idle_seconds=15,
    write_seconds=5,
    connections=4,
    connections_per_address=2,
)
SMALL = request("/data/small")
LARGE = request("/data/large")
LENGTH = 2_000_000


@pytest.fixture
def clock() -> Clock:
    """The reactor's clock."""
    return Clock()


@pytest.fixture
def tree(clock: Clock) -> DataTree:
    """A tree with a small value and one whose JSON has 2 MB."""
    tree = make_tree(clock)
    tree.assign(("small",), 1)
    tree.assign(("large",), "x" * (LENGTH - 2))
    return tree


class Echo(Resource):
    """Answers with the body of the request."""

    isLeaf = True

    def render(self, request: LimitedRequest) -> bytes:
        request.setHeader(b"Content-Type", b"application/json")
        return b"%d" % len(request.content.read())


class Slow(Resource):
    """Answers when told to."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[LimitedRequest] = []
        self.left: list[Any] = []

    def render(self, request: LimitedRequest) -> int:
        self.requests.append(request)
        request.notifyFinish().addErrback(self.left.append)
        return NOT_DONE_YET

    def finish(self) -> None:
        """Answer the request that has waited longest."""
        request = self.requests.pop(0)
        request.answer(200, b"application/json", b"1", {}).addCallback(lambda _: request.finish())


# --- deadlines -------------------------------------------------------------------------------------------------------


def test_silent_connection_is_closed(clock: Clock) -> None:
    """A connection that brings no request is closed after the idle time, without a word."""
    peer = Peer(make_site(clock, limits=LIMITS))
    clock.advance(14.9)
    assert peer.end is None
    clock.advance(0.1)
    assert (peer.end, peer.received) == ("done", b"")


def test_idle_after_an_answer(clock: Clock, tree: DataTree) -> None:
    """After an answer the idle time counts anew."""
    peer = Peer(make_site(clock, tree, limits=LIMITS))
    clock.advance(14)
    peer.send(SMALL)
    clock.advance(14.9)
    assert peer.end is None
    clock.advance(0.1)
    assert peer.end == "done"
    assert peer.answer().body == b"1"


def test_header_drip(clock: Clock) -> None:
    """The headers have one deadline, which a byte every second does not move: 408, and then the end."""
    peer = Peer(make_site(clock, limits=LIMITS))
    for byte in SMALL[:9]:
        peer.send(bytes([byte]))
        clock.advance(1)
    assert peer.received == b""
    clock.advance(1)
    answer = peer.answer()
    assert answer.status == 408
    assert answer.headers["connection"] == "close"
    assert "head" in answer.json()["detail"]
    assert peer.end == "half"


def test_header_lines_drip(clock: Clock) -> None:
    """Whole header lines do not move the deadline either."""
    peer = Peer(make_site(clock, limits=LIMITS)).send(b"GET / HTTP/1.1\r\n")
    for number in range(9):
        clock.advance(1)
        peer.send(b"X-%d: 1\r\n" % number)
    clock.advance(1)
    assert peer.answer().status == 408


@pytest.mark.parametrize(
    ("framing", "drip"), [(b"Content-Length: 900", b"x"), (b"Transfer-Encoding: chunked", b"1\r\nx\r\n")]
)
def test_body_drip(clock: Clock, framing: bytes, drip: bytes) -> None:
    """A body has one deadline, too, whichever its framing."""
    peer = Peer(make_site(clock, limits=LIMITS))
    peer.send(b"POST /data HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n")
    for _ in range(19):
        clock.advance(1)
        peer.send(drip)
    assert peer.received == b""
    clock.advance(1)
    assert peer.answer().status == 408
    assert "body" in peer.answer().json()["detail"]


def test_deadline_of_the_second_request(clock: Clock, tree: DataTree) -> None:
    """Each request on a connection has a deadline of its own, from its first byte on."""
    peer = Peer(make_site(clock, tree, limits=LIMITS)).send(SMALL)
    clock.advance(9)
    peer.send(SMALL, SMALL[:5])
    clock.advance(9.9)
    assert peer.end is None
    clock.advance(0.1)
    assert [answer.status for answer in peer.answers()] == [200, 200, 408]


def test_slow_but_in_time(clock: Clock, tree: DataTree) -> None:
    """A request that comes byte by byte, in time, is answered."""
    peer = Peer(make_site(clock, tree, limits=LIMITS))
    for byte in SMALL:
        peer.send(bytes([byte]))
        clock.advance(9.9 / len(SMALL))
    assert peer.answer().status == 200


def test_no_deadline_while_it_is_answered(clock: Clock) -> None:
    """As long as the answer is made nothing is timed: the request is all there."""
    slow = Slow()
    peer = Peer(make_site(clock, resource=slow, limits=LIMITS)).send(SMALL)
    clock.advance(1000)
    assert peer.end is None
    slow.finish()
    assert peer.answer().body == b"1"


# --- refusals --------------------------------------------------------------------------------------------------------


def test_lingering(clock: Clock) -> None:
    """After a refusal only our side is closed; what still comes is thrown away, and after a moment so is the rest."""
    peer = Peer(make_site(clock, limits=LIMITS)).send(b"nonsense\r\n\r\n")
    assert peer.answer().status == 400
    assert peer.end == "half"
    peer.send(b"x" * 1_000_000, SMALL)
    assert peer.unsent == 0
    clock.advance(LINGER - 0.1)
    assert peer.end == "half"
    clock.advance(0.1)
    assert peer.end == "aborted"
    assert len(peer.answers()) == 1


def test_refusal_that_is_not_read(clock: Clock) -> None:
    """A peer that does not read the refusal is dropped after the same moment."""
    peer = Peer(make_site(clock, limits=LIMITS), reads=False).send(b"nonsense\r\n\r\n")
    assert peer.end is None
    clock.advance(LINGER)
    assert peer.end == "aborted"


def test_refusal_behind_an_unread_answer(clock: Clock, tree: DataTree) -> None:
    """A refusal that finds the buffer nearly full is sent, too, and our side is closed behind it."""
    tree.assign(("full",), "x" * (Wire.SIZE - 300))
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False)
    peer.send(request("/data/full"), b"nonsense\r\n\r\n")
    assert peer.waiting > Wire.SIZE
    peer.read()
    assert [answer.status for answer in peer.answers()] == [200, 400]
    assert peer.end == "half"


def test_nothing_behind_a_refusal_is_answered(clock: Clock, tree: DataTree) -> None:
    """What stands behind a request that was refused is no request: whose it is cannot be known (smuggling)."""
    peer = Peer(make_site(clock, tree, limits=LIMITS))
    peer.send(SMALL + b"POST /data HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n" + SMALL * 3)
    assert [answer.status for answer in peer.answers()] == [200, 400]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 17_000,
        b"GET /" + b"x" * 17_000 + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 17_000,
        b"GET / HTTP/1.1\r\n" + b"X: 123456789\r\n" * 1500,
        b"nonsense\r\n" + b"x" * 40_000,
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    ],
)
def test_long_heads(clock: Clock, head: bytes) -> None:
    """A line, a head, or a number of headers beyond all measure gets a 400, however it arrives, and is not kept."""
    for pieces in ([head], [head[start : start + 1000] for start in range(0, len(head), 1000)]):
        peer = Peer(make_site(clock, limits=LIMITS)).send(*pieces)
        assert peer.answer().status == 400
        assert peer.end == "half"


MALFORMED = [
    b"GET /\r\n",
    b"GET / HTTP/2.0\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET  / HTTP/1.1\r\n",
    b"G\x00T / HTTP/1.1\r\n",
    b"GET /\xff HTTP/1.1\r\n",
    b"\x16\x03\x01\x02\x00\x01\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n",
    b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\nX-Y: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
]
SMUGGLING = [
    (b"Content-Length: -1\r\n\r\n", 400),
    (b"Content-Length: +1\r\n\r\nx", 400),
    (b"Content-Length: 0x1\r\n\r\nx", 400),
    (b"Content-Length: 1, 1\r\n\r\nx", 400),
    (b"Content-Length: 1 1\r\n\r\nx", 400),
    (b"Content-Length: 1\r\n 2\r\n\r\nx", 400),
    (b"Content-Length:\r\n\r\n", 400),
    (b"Content-Length: \xb2\r\n\r\nx", 400),
    (b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    (b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
    (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx", 400),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n" + b" " * 1100, 400),
    (b"Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 1100 + b"\r\nx\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n1;a\x00b\r\nx\r\n0\r\n\r\n", 400),
    (b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 400),
    (b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
    (b"Content-Length: " + b"9" * 12 + b"\r\n\r\n", 413),
    (b"content-length\t: 1\r\n\r\nx", 400),
    (b"Content-Length: 1001\r\n\r\n" + b"x" * 1001, 413),
    (b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n", 413),
    (b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 1000 + b"\r\n" + b"x" * 1001, 413),
]


@pytest.mark.parametrize("raw", MALFORMED)
def test_malformed(clock: Clock, raw: bytes) -> None:
    """What is no request of HTTP/1.1 is 400 with a problem, whether it arrives whole or byte by byte."""
    for pieces in ([raw], [bytes([byte]) for byte in raw]):
        peer = Peer(make_site(clock, limits=LIMITS)).send(*pieces)
        assert peer.answer().status == 400
        assert peer.end == "half"


@pytest.mark.parametrize(("rest", "status"), SMUGGLING)
def test_framing(clock: Clock, rest: bytes, status: int) -> None:
    """A body whose end two readers could see in two places is refused, and so is one whose length is absurd."""
    raw = b"POST /data HTTP/1.1\r\nHost: localhost\r\n" + rest
    for pieces in ([raw], [raw[start : start + 7] for start in range(0, len(raw), 7)]):
        peer = Peer(make_site(clock, resource=Echo(), limits=LIMITS)).send(*pieces)
        assert peer.answer().status == status
        assert peer.end == "half"


def test_chunked_body(clock: Clock) -> None:
    """A chunked body, with extensions and trailers, arrives whole, and the next request behind it is one."""
    body = b"3\r\nabc\r\n4;name=value\r\ndefg\r\n0\r\nTrailer: 1\r\n\r\n"
    raw = b"POST /data HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + body + SMALL
    for pieces in ([raw], [bytes([byte]) for byte in raw]):
        peer = Peer(make_site(clock, resource=Echo(), limits=LIMITS)).send(*pieces)
        assert [answer.body for answer in peer.answers()] == [b"7", b"0"]


@pytest.mark.parametrize("chunked", [False, True])
def test_largest_body(clock: Clock, chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of just the limit is taken and one byte more is refused, by either framing and without any file."""
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    for size, status in ((1000, 200), (1001, 413)):
        peer = Peer(make_site(clock, resource=Echo(), limits=LIMITS))
        if chunked:
            pieces = [b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * size, b"0\r\n\r\n"]
        else:
            pieces = [b"Content-Length: %d\r\n\r\n" % size, *[b"x"] * size]
        peer.send(b"POST /data HTTP/1.1\r\nHost: localhost\r\n", *pieces)
        assert peer.answer().status == status


def test_length_is_refused_before_the_body(clock: Clock) -> None:
    """A body that says that it is too large is refused before a byte of it has come; nobody is told to go on."""
    peer = Peer(make_site(clock, resource=Echo(), limits=LIMITS))
    peer.send(request("/data", "POST", "Expect: 100-continue", "Content-Length: 1001"))
    assert peer.received.startswith(b"HTTP/1.1 413 ")
    assert "1000 bytes" in peer.answer().json()["detail"]


def test_expect_continue(clock: Clock) -> None:
    """A client that asks is told to go on with a body that is not too large."""
    peer = Peer(make_site(clock, resource=Echo(), limits=LIMITS))
    peer.send(request("/data", "POST", "Expect: 100-continue", "Content-Length: 4"))
    assert peer.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.send(b"body")
    assert peer.answer().body == b"4"


# --- answers that nobody reads ---------------------------------------------------------------------------------------


def test_large_answer(clock: Clock, tree: DataTree) -> None:
    """A large answer is sent piece by piece, arrives whole, and the connection goes on."""
    peer = Peer(make_site(clock, tree, limits=LIMITS)).send(LARGE, SMALL)
    large, small = peer.answers()
    assert large.headers["content-length"] == str(LENGTH)
    assert large.body == b'"' + b"x" * (LENGTH - 2) + b'"'
    assert small.body == b"1"


def test_answer_that_is_not_read(clock: Clock, tree: DataTree) -> None:
    """Of an answer that is not read a few pieces are in memory; without progress the peer is dropped."""
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False).send(LARGE)
    assert CHUNK < peer.waiting <= 2 * CHUNK
    clock.advance(4.9)
    assert peer.end is None
    clock.advance(0.1)
    assert peer.end == "aborted"
    assert clock.getDelayedCalls() == []


def test_slow_but_steady_reader(clock: Clock, tree: DataTree) -> None:
    """A peer that reads what waits every now and then gets all of it, however long all of it takes."""
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False).send(LARGE)
    started = clock.seconds()
    while peer.waiting:
        clock.advance(4.9)
        peer.read()
        assert peer.waiting <= 2 * CHUNK
    assert clock.seconds() - started > 10 * LIMITS.write_seconds
    assert len(peer.answer().body) == LENGTH
    assert peer.end is None


def test_reader_that_stops(clock: Clock, tree: DataTree) -> None:
    """Having read for a while is no excuse: without progress the peer is dropped."""
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False).send(LARGE)
    for _ in range(10):
        clock.advance(4.9)
        peer.read()
    clock.advance(5)
    assert peer.end == "aborted"


def test_unread_pipeline(clock: Clock, tree: DataTree) -> None:
    """Of 30 pipelined requests the next is not begun before the answer to the one before it has been read."""
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False).send(LARGE * 30)
    assert peer.waiting <= 2 * CHUNK
    while peer.waiting:
        peer.read()
        assert peer.waiting <= 2 * CHUNK
    assert peer.received.count(b"HTTP/1.1 200 OK") == 30


def test_unread_pipeline_of_small_answers(clock: Clock, tree: DataTree) -> None:
    """Small answers, too, are made only as they are read."""
    tree.assign(("some",), "x" * 10_000)
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False).send(request("/data/some") * 200)
    assert peer.waiting < CHUNK + 20_000
    clock.advance(4.9)
    while peer.waiting:
        peer.read()
        assert peer.waiting < CHUNK + 20_000
    assert [answer.status for answer in peer.answers()] == [200] * 200


@pytest.mark.parametrize("steps", [1, 50])
def test_sending_without_reading(clock: Clock, tree: DataTree, steps: int) -> None:
    """A peer that reads nothing and goes on sending is not listened to for long: what it sends is not kept."""
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False).send(LARGE)
    peer.send(*[SMALL * (3000 // steps)] * steps)
    taken = len(SMALL) * 3000 - peer.unsent
    assert taken <= 2 * Wire.SIZE
    while peer.waiting:
        peer.read()
    assert peer.unsent == 0
    assert peer.received.count(b"HTTP/1.1 200 OK") == 3001


def test_sending_while_it_is_answered(clock: Clock) -> None:
    """Nor is a peer listened to that sends a lot behind a request whose answer takes its time."""
    slow = Slow()
    peer = Peer(make_site(clock, resource=slow, limits=LIMITS)).send(SMALL * 5000)
    assert len(SMALL) * 5000 - peer.unsent <= 2 * Wire.SIZE
    for _ in range(5000):
        slow.finish()
        assert peer.end is None
    assert len(peer.answers()) == 5000


def test_client_leaves_in_the_middle(clock: Clock, tree: DataTree) -> None:
    """A client that leaves while it is sent a large answer leaves nothing behind, in the log or on the clock."""
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False).send(LARGE)
    peer.read(100)
    peer.leave()
    assert peer.end == "lost"
    assert clock.getDelayedCalls() == []


def test_client_leaves_before_the_answer(clock: Clock) -> None:
    """Whoever makes an answer is told that the client has left, and may answer all the same."""
    slow = Slow()
    peer = Peer(make_site(clock, resource=slow, limits=LIMITS)).send(SMALL)
    peer.leave()
    assert len(slow.left) == 1
    done: list[None] = []
    slow.requests[0].answer(200, b"application/json", b"x" * 3 * CHUNK, {}).addCallback(done.append)
    assert done == [None]
    assert peer.received == b""


def test_close_waits_for_the_reader(clock: Clock, tree: DataTree) -> None:
    """A connection that is to be closed is closed once the answer has been read."""
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False)
    peer.send(request("/data/large", "GET", "Connection: close"))
    while peer.waiting:
        assert peer.end is None
        clock.advance(4)
        peer.read()
    assert peer.end == "done"
    assert peer.answer().headers["connection"] == "close"


def test_close_does_not_wait_for_ever(clock: Clock, tree: DataTree) -> None:
    """A connection that is to be closed is cut if the last bytes are not read."""
    peer = Peer(make_site(clock, tree, limits=LIMITS), reads=False)
    peer.send(request("/data/small", "GET", "Connection: close"))
    clock.advance(4.9)
    assert peer.end is None
    clock.advance(0.1)
    assert peer.end == "aborted"


def test_http_1_0(clock: Clock, tree: DataTree) -> None:
    """A client of HTTP/1.0 gets one answer, and the end."""
    peer = Peer(make_site(clock, tree, limits=LIMITS))
    peer.send(b"GET /data/small HTTP/1.0\r\nHost: localhost\r\n\r\n" + SMALL)
    assert peer.answer().body == b"1"
    assert peer.end == "done"


# --- how many there may be -------------------------------------------------------------------------------------------


def at(host: str) -> Any:
    """Return the address of a client on ``host``."""
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, 50_000)


def test_cap_in_all(clock: Clock, tree: DataTree) -> None:
    """Beyond the cap the connection goes that has been longest without a complete request."""
    site = make_site(clock, tree, limits=LIMITS)
    peers = []
    for _ in range(4):
        peers.append(Peer(site))
        clock.advance(1)
    peers[0].send(SMALL)  # now the second is the one that has waited longest
    peers[1].send(SMALL[:10])  # a request that is not complete does not help it
    newest = Peer(site)
    assert [peer.end for peer in [*peers, newest]] == [None, "aborted", None, None, None]
    assert site.refused == 1
    assert newest.send(SMALL).answer().status == 200


def test_cap_for_an_address(clock: Clock) -> None:
    """Beyond the cap for its address one from the same address goes, though others have waited longer."""
    site = make_site(clock, limits=LIMITS)
    other = Peer(site, at("192.0.2.1"))
    peers = [Peer(site, at("192.0.2.2")) for _ in range(3)]
    assert [peer.end for peer in [other, *peers]] == [None, "aborted", None, None]


@pytest.mark.parametrize(
    "address", [at("127.0.0.1"), at("127.8.9.1"), at("::1"), at("::ffff:127.0.0.1"), UNIXAddress("")]
)
def test_no_cap_for_this_machine(clock: Clock, address: Any) -> None:
    """Connections from this machine are counted in all, but not by their address."""
    site = make_site(clock, limits=LIMITS)
    peers = [Peer(site, address) for _ in range(4)]
    assert [peer.end for peer in peers] == [None] * 4


def test_busy_connections_are_spared(clock: Clock) -> None:
    """A connection that is being answered never goes for a new one; if all are, it is the new one that goes."""
    slow = Slow()
    site = make_site(clock, resource=slow, limits=LIMITS)
    busy = [Peer(site).send(SMALL) for _ in range(3)]
    idle = Peer(site)
    assert Peer(site).send(SMALL).accepted
    assert idle.end == "aborted"
    assert not Peer(site).accepted
    for _ in range(4):
        slow.finish()
    assert [peer.answer().status for peer in busy] == [200] * 3
    assert site.refused == 2
    assert Peer(site).accepted


def test_stalled_connections_go(clock: Clock, tree: DataTree) -> None:
    """If all are being answered, the one goes for a new one whose peer has read nothing for longest, after a moment."""
    site = make_site(clock, tree, limits=LIMITS)
    stalled = []
    for _ in range(4):
        assert not stalled or stalled[0].end is None
        stalled.append(Peer(site, reads=False).send(LARGE))
        clock.advance(0.25)
    assert Peer(site).accepted
    assert [peer.end for peer in stalled] == ["aborted", None, None, None]


def test_busy_connections_of_an_address(clock: Clock) -> None:
    """The same holds for the connections of one address."""
    site = make_site(clock, resource=Slow(), limits=LIMITS)
    for _ in range(2):
        Peer(site, at("192.0.2.2")).send(SMALL)
    assert not Peer(site, at("192.0.2.2")).accepted
    assert Peer(site, at("192.0.2.3")).accepted


def test_answers_on_their_way_are_spared(clock: Clock, tree: DataTree) -> None:
    """A connection on which the last bytes before its end are on their way is not cut for a new one."""
    site = make_site(clock, tree, limits=LIMITS)
    leaving = Peer(site, reads=False).send(request("/data/small", "GET", "Connection: close"))
    clock.advance(1)
    others = [Peer(site) for _ in range(4)]
    assert (leaving.end, others[0].end) == (None, "aborted")
    leaving.read()
    assert (leaving.end, leaving.answer().status) == ("done", 200)


def test_refused_connections_go(clock: Clock) -> None:
    """Those that were refused and linger make room as any other."""
    site = make_site(clock, limits=LIMITS)
    peers = [Peer(site).send(b"nonsense\r\n") for _ in range(5)]
    assert [peer.end for peer in peers] == ["aborted", *["half"] * 4]


def test_ended_connections_count_no_more(clock: Clock) -> None:
    """However a connection ends, it makes room for another."""
    site = make_site(clock, limits=LIMITS)
    for _ in range(3):
        for peer in [Peer(site) for _ in range(4)]:
            peer.leave()
    clock.advance(1)
    assert site.refused == 0
    assert clock.getDelayedCalls() == []


# --- the end ---------------------------------------------------------------------------------------------------------


def test_drain(clock: Clock) -> None:
    """Draining closes what waits, lets answers be sent, and says when all is done."""
    slow = Slow()
    site = make_site(clock, resource=slow, limits=LIMITS)
    idle, begun, refused, busy = (
        Peer(site),
        Peer(site).send(SMALL[:5]),
        Peer(site).send(b"x\r\n"),
        Peer(site).send(SMALL),
    )
    done: list[None] = []
    site.drain().addCallback(done.append)
    assert [peer.end for peer in (idle, begun, refused, busy)] == ["done", "done", "done", None]
    assert done == []
    slow.finish()
    assert (busy.answer().status, busy.end) == (200, "done")
    assert done == [None]


def test_drain_of_nothing(clock: Clock) -> None:
    """With no connection, draining is done at once."""
    done: list[None] = []
    make_site(clock).drain().addCallback(done.append)
    assert done == [None]


def test_drain_of_unread_answers(clock: Clock, tree: DataTree) -> None:
    """An answer that is being read when draining begins is sent to its end; the pipeline behind it is not begun."""
    site = make_site(clock, tree, limits=LIMITS)
    peer = Peer(site, reads=False).send(LARGE * 2)
    done: list[None] = []
    site.drain().addCallback(done.append)
    while peer.waiting:
        assert done == []
        peer.read()
    assert len(peer.answer().body) == LENGTH
    assert (peer.end, done) == ("done", [None])


def test_abort(clock: Clock, tree: DataTree) -> None:
    """Aborting ends all connections at once, and with that the draining."""
    site = make_site(clock, tree, limits=LIMITS)
    peers = [Peer(site, reads=False).send(LARGE), Peer(site)]
    done: list[None] = []
    site.drain().addCallback(done.append)
    site.abort()
    assert [peer.end for peer in peers] == ["aborted", "done"]
    assert done == [None]
    assert clock.getDelayedCalls() == []


def test_no_access_log(clock: Clock, tree: DataTree) -> None:
    """Starting and stopping the site leaves no timer, which would be there to date the lines of a log."""
    site = make_site(clock, tree, limits=LIMITS)
    site.doStart()
    peer = Peer(site).send(SMALL)
    peer.leave()
    site.doStop()
    assert clock.getDelayedCalls() == []
    assert peer.answer().status == 200


def test_a_body_in_too_many_pieces(clock: Clock) -> None:
    """A body that comes byte by byte costs far more than its size to take apart, and is refused before it has."""
    head = b"POST /data HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    peer = Peer(make_site(clock)).send(head, b"1\r\nx\r\n" * MOST_PIECES)
    assert peer.received == b""
    peer.send(b"1\r\nx\r\n")
    assert peer.answer().status == 413
