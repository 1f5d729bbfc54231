"""Ten thousand requests that nobody would send, from a fixed seed: most in memory, the rest to a real daemon.

None may be answered by a 5xx, leave a connection hanging, or put a failure into the log; and after each batch an
ordinary request is answered as ever.
"""

import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import pytest
from daemon import APP, PATIENCE, running_daemon
from http_peer import Peer, make_site, make_tree, parse_answers, request
from twisted.internet.task import Clock

from rpiserve.data.tree import DataTree
from rpiserve.web.server.channel import LINGER
from rpiserve.web.server.request import Limits

SEED = 20240229
KEYS = ["a", "a/b", "line\nbreak", "what?", "100%", "°C", "🌡", "...", "x;y=z", "#"]
SOURCE = f"{APP}app.data.update({{key: {{key: 1}} for key in {KEYS!r}}})\n"

METHODS = [
    "HEAD",
    "GET",
    "GET",
    "GET",
    "OPTIONS",
    "POST",
    "PUT",
    "DELETE",
    "TRACE",
    "CONNECT",
    "get",
    "FOO",
    "M-SEARCH",
]
TARGETS = [
    "/data",
    "/data/",
    "/data/a",
    "/data/a/a",
    "/data/a%2Fb/a%2Fb",
    "/data/line%0Abreak",
    "/data/what%3F",
    "/data/100%25",
    "/data/%C2%B0C",
    "/data/%F0%9F%8C%A1",
    "/data/../data",
    "/data/x;y=z",
    "/sensors",
    "/health",
    "/ready",
    "/",
    "//",
    "*",
    "http://localhost/data",
    "http://evil.example/data",
    "https://localhost:1/data?meta=1",
    "localhost:80",
    "/data?meta=1",
    "/data?meta=x",
    "/data?" + "&" * 500,
]
HOSTS = ["localhost"] * 40 + [
    "127.0.0.1:80",
    "[::1]",
    "LOCALHOST.",
    "evil.example",
    "",
    "a..b",
    "x" * 70,
    "u@localhost",
    "[",
    "\xe9",
]
HEADERS = [
    *["If-None-Match: *"] * 5,
    'If-None-Match: "x", W/"y"',
    "If-None-Match: " + '"' * 200,
    "Connection: close",
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "Expect: 200-maybe",
    "Cookie: a=b; c; =; ;;",
    "Authorization: Basic !!!",
    "Content-Type: multipart/form-data",
    "Content-Type: application/x-www-form-urlencoded",
    "Content-Type: \xff\xfe",
    "Range: bytes=0-0,-1,x",
    "Accept-Encoding: gzip",
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-Host: evil.example",
    "Transfer-Encoding: identity",
    "X: \ty \t",
    "X:",
    "X-Long: " + "x" * 4000,
]
BAD_HEADERS = [
    "no colon",
    ": empty",
    "Name : x",
    "N\u00e4me: x",
    "X: a\0b",
    "X: a\nb",
    " folded",
    "Host: localhost",
    "Content-Length: -1",
    "Content-Length: 1, 1",
    "Content-Length: " + "9" * 5000,
    "Content-Length: 99999999",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip",
    "X: " + "x" * 17_000,
    *["\r\n".join(f"X-{number}: x" for number in range(count)) for count in (95, 105)],
]


@attrs.frozen
class Fuzzed:
    """What one client sends on one connection.

    Attributes:
        raw: all of it.
        pieces: the same, as it is cut up.
        methods: the methods of the requests in it.
    """

    raw: bytes
    pieces: list[bytes]
    methods: list[str]


def fuzzed(count: int, seed: int) -> Iterator[Fuzzed]:
    """Return connections with ``count`` requests in all."""
    rng = random.Random(seed)
    while count > 0:
        pipelined = min(count, rng.choice([1, 1, 1, 2, 3, 10]))
        count -= pipelined
        # No HEAD in a pipeline: as a request may swallow the beginning of the next, which answer is to it is not known.
        methods = [rng.choice(METHODS[pipelined > 1 :]) for _ in range(pipelined)]
        raw = b"".join(_request(rng, method) for method in methods)
        match rng.randrange(15):
            case 0:
                raw = raw[: rng.randrange(len(raw) + 1)]
            case 1:
                raw += rng.randbytes(rng.randrange(1, 400))
            case 2:
                raw = bytearray(raw)
                for _ in range(rng.randrange(1, 5)):
                    raw[rng.randrange(raw.index(b" "), len(raw))] = rng.randrange(256)
                raw = bytes(raw)
            case 3:
                raw, methods = rng.randbytes(rng.randrange(400)), []
        yield Fuzzed(raw, list(_cut(rng, raw)), methods)


def _cut(rng: random.Random, raw: bytes) -> Iterator[bytes]:
    size = rng.choice([1 << 16, 1 << 16, 1 << 10, 100, 7])
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


def _request(rng: random.Random, method: str) -> bytes:
    headers = rng.sample(HEADERS, rng.randrange(4))
    if rng.random() < 0.05:
        headers.append(rng.choice(BAD_HEADERS))
    rng.shuffle(headers)
    lines = [f"{method} {_target(rng)} HTTP/1.{rng.choice('1111110')}"]
    if rng.random() < 0.98:
        lines.append(f"Host: {rng.choice(HOSTS)}")
    framing, body = _body(rng)
    return "\r\n".join([*lines, *headers, *framing]).encode("latin-1") + b"\r\n\r\n" + body


def _target(rng: random.Random) -> str:
    target = rng.choice(TARGETS)
    for _ in range(rng.choice([0, 0, 0, 0, 1, 2])):
        at = rng.randrange(len(target) + 1)
        inserted = rng.choice(
            ["%00", "%", "%ff", "%2F", "%2e%2e", "/", "//", "\\", "?", "#", "&", "=", ";", "\x80", "x" * 300]
        )
        target = target[:at] + inserted + target[at:]
    return target


def _body(rng: random.Random) -> tuple[list[str], bytes]:
    body = rng.randbytes(rng.choice([0, 1, 100, 3000]))
    match rng.randrange(20):
        case 0 | 1:
            return [f"Content-Length: {len(body)}"], body
        case 2:
            return [f"Content-Length: {len(body) + rng.randrange(3)}"], body
        case 3:
            size = rng.choice([1, 7, 1000])
            pieces = [body[start : start + size] for start in range(0, len(body), size)]
            chunks = b"".join(b"%x;ext\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
            return ["Transfer-Encoding: chunked"], chunks + b"0\r\nTrailer: x\r\n\r\n"
        case 4 | 5:
            return ["Transfer-Encoding: chunked"], rng.choice(
                [b"x", b"-1\r\n", b"5\r\nabc", b"f" * 30 + b"\r\n", b"0\r\n\n"]
            )
    return [], b""


def check(received: bytes, sent: Fuzzed, answered: list[int]) -> None:
    """Check all answers to ``sent``, and note their statuses."""
    statuses = [answer.status for answer in parse_answers(received, sent.methods)]
    assert all(status < 500 for status in statuses), (sent, statuses)
    answered += statuses


@pytest.fixture
def tree() -> DataTree:
    """The tree that the real daemon has."""
    tree = make_tree(Clock())
    for key in KEYS:
        tree.assign((key,), {key: 1})
    return tree


@pytest.mark.parametrize("batch", range(7))
def test_in_memory(tree: DataTree, batch: int) -> None:
    """A thousand requests each, with all deadlines passed in the end: every connection is closed, and in order."""
    clock = Clock()
    limits = Limits(body=2000)
    site = make_site(clock, tree, limits=limits)
    answered: list[int] = []
    for sent in fuzzed(1000, SEED + batch):
        peer = Peer(site).send(*sent.pieces)
        for seconds in (limits.header_seconds, limits.body_seconds, limits.idle_seconds, LINGER):
            clock.advance(seconds)
        assert peer.end in ("done", "aborted"), sent
        check(peer.received, sent, answered)
        assert clock.getDelayedCalls() == []
    assert Peer(site).send(request("/data/a/a")).answer().body == b"1"
    assert set(answered) >= {200, 204, 304, 400, 404, 405, 408, 413, 421}


def test_real_daemon(tmp_path: Path) -> None:
    """Three thousand more, hundreds at once, over sockets."""
    answered: list[int] = []
    options = ("--header-timeout", "0.2", "--body-timeout", "0.2", "--idle-timeout", "0.2", "--max-body", "2000")
    with running_daemon(tmp_path, SOURCE, *options) as daemon:
        everything = list(fuzzed(3000, SEED - 1))
        for start in range(0, len(everything), 200):
            batch = everything[start : start + 200]
            clients = [socket.create_connection((daemon.host, daemon.port), PATIENCE) for _ in batch]
            for client, sent in zip(clients, batch, strict=True):
                for piece in sent.pieces:
                    with suppress(ConnectionError):  # it may have been told that it is wrong, and not have listened
                        client.sendall(piece)
            for client, sent in zip(clients, batch, strict=True):
                received = b""
                with client, suppress(ConnectionError):
                    while piece := client.recv(1 << 16):
                        received += piece
                check(received, sent, answered)
            with socket.create_connection((daemon.host, daemon.port), PATIENCE) as client:
                client.sendall(request("/data/a/a", "GET", "Connection: close"))
                (answer,) = parse_answers(client.makefile("rb").read())
                assert answer.body == b"1"
        assert daemon.process.poll() is None
        for word in ("Traceback", "Unhandled", "rror"):
            assert word not in daemon.log(), daemon.log()
    assert set(answered) >= {200, 204, 304, 400, 404, 405, 408, 413, 421}
