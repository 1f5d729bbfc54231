"""A real daemon against clients that send too much, too slowly, or read too little.

Its limits are made small by options where a test has to see one pass. What a slow client waits between two steps is
the time of an ordinary request to the same daemon, which so proves each time that others are served meanwhile.
"""

import os
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psutil
import pytest
from daemon import APP, PATIENCE, Daemon, running_daemon
from http_peer import Answer, parse_answers, request

BIG = 20_000_000
SOURCE = f"{APP}app.data['small'] = 1\napp.data['big'] = 'x' * {BIG - 2}\n"
MEGABYTE = 1_000_000
GET_BIG = request("/data/big")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the limits that it has by default."""
    yield from run(tmp_path_factory)


@pytest.fixture(scope="module")
def brisk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that is not patient."""
    options = ("--header-timeout", "0.3", "--body-timeout", "0.3", "--idle-timeout", "0.3", "--write-timeout", "2")
    yield from run(tmp_path_factory, *options)


def run(tmp_path_factory: pytest.TempPathFactory, *options: str) -> Iterator[Daemon]:
    """Run a daemon; in the end it must have logged nothing of what its clients did."""
    with running_daemon(tmp_path_factory.mktemp("daemon"), SOURCE, *options) as daemon:
        yield daemon
        assert ask(daemon).body == b"1"
        for word in ("Traceback", "Unhandled", "rror"):
            assert word not in daemon.log(), daemon.log()


def connect(daemon: Daemon, source: str = "127.0.0.1") -> socket.socket:
    """Return a new connection to ``daemon``."""
    return socket.create_connection((daemon.host, daemon.port), timeout=PATIENCE, source_address=(source, 0))


def read_all(client: socket.socket) -> bytes:
    """Return all that the daemon sends before it closes the connection."""
    pieces = []
    while piece := client.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def ask(daemon: Daemon, target: str = "/data/small") -> Answer:
    """Return the answer to an ordinary request."""
    with connect(daemon) as client:
        client.sendall(request(target, "GET", "Connection: close"))
        (answer,) = parse_answers(read_all(client))
        return answer


def is_lost(client: socket.socket, milliseconds: int) -> bool:
    """Tell whether the daemon cuts ``client`` off within some time. Reads nothing."""
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(milliseconds))


def memory(daemon: Daemon) -> int:
    """Return how much memory the process of ``daemon`` has, in bytes."""
    size: int = psutil.Process(daemon.process.pid).memory_info().rss
    return size


def open_files(daemon: Daemon) -> set[str]:
    """Return the names of the files that ``daemon`` has open, but for sockets and the like."""
    names = set()
    folder = f"/proc/{daemon.process.pid}/fd"
    for number in os.listdir(folder):
        try:
            names.add(os.readlink(f"{folder}/{number}"))
        except FileNotFoundError:
            continue
    return {name for name in names if name.startswith("/") and not name.startswith("/dev/")}


# --- bodies ----------------------------------------------------------------------------------------------------------

FRAMINGS = {
    "length": (b"Content-Length: 300000000\r\n", b"x" * MEGABYTE, b""),
    "chunked": (b"Transfer-Encoding: chunked\r\n", b"f4240\r\n" + b"x" * MEGABYTE + b"\r\n", b"0\r\n\r\n"),
    "expect": (b"Content-Length: 300000000\r\nExpect: 100-continue\r\n", b"x" * MEGABYTE, b""),
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_300_megabytes(daemon: Daemon, framing: str) -> None:
    """A client that sends 300 MB before it reads gets its 413; nothing of it is kept, in memory or in a file."""
    header, piece, last = FRAMINGS[framing]
    files = open_files(daemon)
    ask(daemon)
    before = most = memory(daemon)
    with connect(daemon) as client:
        client.sendall(b"POST /data HTTP/1.1\r\nHost: localhost\r\n" + header + b"\r\n")
        for _ in range(300):
            client.sendall(piece)
            most = max(most, memory(daemon))
            assert open_files(daemon) <= files
        client.sendall(last)
        (answer,) = parse_answers(read_all(client))
    assert answer.status == 413
    assert most - before < 5 * MEGABYTE


def test_length_of_5000_digits(daemon: Daemon) -> None:
    """A length that no computer has is refused like any that is too large."""
    with connect(daemon) as client:
        client.sendall(b"POST /data HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
        (answer,) = parse_answers(read_all(client))
    assert answer.status == 413


# --- deadlines -------------------------------------------------------------------------------------------------------

DRIPS = {
    "line": (b"GET /", b"x"),
    "headers": (b"GET / HTTP/1.1\r\n", b"X: 1\r\n"),
    "body": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "chunks": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
}


@pytest.mark.parametrize("part", DRIPS)
def test_drip(brisk: Daemon, part: str) -> None:
    """A client that goes on sending a little now and then is told 408, and that is the end."""
    start, drop = DRIPS[part]
    with connect(brisk) as client:
        client.sendall(start)
        for _ in range(10_000):
            client.sendall(drop)
            if select.select([client], [], [], 0.02)[0]:
                break
        (answer,) = parse_answers(read_all(client))
    assert answer.status == 408


def test_idle(brisk: Daemon) -> None:
    """A connection on which nothing comes is closed without a word, before a request and after one."""
    with connect(brisk) as client:
        assert read_all(client) == b""
    with connect(brisk) as client:
        client.sendall(request("/data/small"))
        (answer,) = parse_answers(read_all(client))
    assert answer.status == 200


# --- answers that are not read ---------------------------------------------------------------------------------------


def test_unread_answers(brisk: Daemon) -> None:
    """A client that asks for 600 MB and reads nothing costs no memory to speak of, and is cut off."""
    assert len(ask(brisk, "/data/big").body) == BIG
    before = memory(brisk)
    with connect(brisk) as client:
        client.sendall(GET_BIG * 30)
        most = before
        while not is_lost(client, 20):
            assert ask(brisk).body == b"1"
            most = max(most, memory(brisk))
    assert most - before < 5 * MEGABYTE


def test_sending_without_reading(brisk: Daemon) -> None:
    """Nor does one that goes on sending requests: they stay in its own system, and it is cut off."""
    assert len(ask(brisk, "/data/big").body) == BIG
    before = most = memory(brisk)
    piece = request("/data/small") * (MEGABYTE // len(request("/data/small")))
    with connect(brisk) as client:
        client.sendall(GET_BIG)
        client.setblocking(False)
        for _ in range(100_000):
            most = max(most, memory(brisk))
            if is_lost(client, 10):
                break
            with suppress(BlockingIOError):
                client.send(piece)
        assert is_lost(client, 0)
    assert most - before < 5 * MEGABYTE


def test_slow_but_steady_reader(brisk: Daemon) -> None:
    """A client that needs longer than any limit gets all of the answer, as long as it goes on reading."""
    started = time.monotonic()
    received = bytearray()
    with connect(brisk) as client:
        client.sendall(request("/data/big", "GET", "Connection: close"))
        while piece := client.recv(MEGABYTE, socket.MSG_WAITALL):
            received += piece
            step = time.monotonic() + 0.15
            while time.monotonic() < step:
                assert ask(brisk).body == b"1"
    (answer,) = parse_answers(bytes(received))
    assert len(answer.body) == BIG
    assert time.monotonic() - started > 2


# --- many clients ----------------------------------------------------------------------------------------------------

BEGINNINGS = [
    b"",
    b"GET /data HTTP/1.1\r\nHost: local",
    b"POST /data HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx",
    GET_BIG,
]


def test_200_slow_clients(daemon: Daemon) -> None:
    """While 200 clients from several addresses hold on to a connection, by whatever means, others are answered."""
    with ExitStack() as stack:
        slow = []
        for number in range(200):
            client = stack.enter_context(connect(daemon, f"127.0.0.{2 + number % 4}"))
            client.sendall(BEGINNINGS[number % 4])
            slow.append(client)
            if number % 10 == 0:
                assert ask(daemon).body == b"1"
        for _ in range(50):
            assert ask(daemon).body == b"1"
        assert not any(is_lost(client, 0) for client in slow)


def test_more_clients_than_there_may_be(daemon: Daemon) -> None:
    """Beyond the cap those go that have waited longest, and whoever asks for something is answered."""
    with ExitStack() as stack:
        keeper = stack.enter_context(connect(daemon))
        slow = []
        for number in range(400):
            client = stack.enter_context(connect(daemon, f"127.0.0.{2 + number % 4}"))
            client.sendall(BEGINNINGS[number % 3])
            slow.append(client)
            if number % 40 == 0:
                keeper.sendall(request("/data/small"))
                assert keeper.recv(4096).endswith(b"\r\n\r\n1")
        assert all(is_lost(client, 10_000) for client in slow[:140])
        assert not any(is_lost(client, 0) for client in slow[-200:])
        assert ask(daemon).body == b"1"
