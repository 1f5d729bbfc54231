"""``GET /events`` of a real daemon: clients that are cut off, that do not read, and that are there at the end."""

import json
import select
import signal
import socket
import struct
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import psutil
from daemon import PATIENCE, Daemon, running_daemon

CHANGES = """
from rpiserve import App

app = App("events")

@app.command
def change(begin: int, end: int) -> int:
    for number in range(begin, end):
        app.data.set(f"a/{number % 13}", number)
        if number % 5 == 0:
            app.data.set(f"b/{number % 7}", {"x": number} if number % 2 else number)
        if number % 11 == 0:
            del app.data["a"][str(number % 13)]
    return end
"""

LOAD = """
from rpiserve import App

app = App("load")
count = 0

@app.sensor("load", every=0.05)
async def load():
    global count
    count += 1
    return {str(number): f"{count} " + "x" * 50_000 for number in range(10)}
"""
"""An app that changes half a megabyte with each tick."""


class Follower:
    """A client that holds the leaves of the tree by what it is told.

    Args:
        path: the path that it asks for; the whole tree by default.

    Attributes:
        leaves: what it holds.
    """

    def __init__(self, path: str = "") -> None:
        self.leaves: dict[str, Any] = {}
        self._target = f"/events?types=change&path={path}"
        self._last: str | None = None
        self._connection: HTTPConnection
        self._response: HTTPResponse

    def connect(self, daemon: Daemon) -> str:
        """Connect, go on from where it was, and return the type of the first event."""
        self._connection = HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
        headers = {} if self._last is None else {"Last-Event-ID": self._last}
        self._connection.request("GET", self._target, headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        return self.take()

    def take(self) -> str:
        """Take the next event, and return its type."""
        fields: dict[str, str] = {}
        while (line := self._response.readline()) != b"\n" or "data" not in fields:
            assert line, "the stream has ended"
            name, _, value = line.decode().rstrip("\n").partition(": ")
            fields[name] = value
        self._last = fields["id"]
        data = json.loads(fields["data"])
        if fields["event"] == "snapshot":
            self.leaves = data
        else:
            for path in data["removed"]:
                self.leaves.pop(path, None)
            self.leaves.update(data["changed"])
        return fields["event"]

    def take_until(self, leaves: dict[str, Any]) -> None:
        """Take events until it holds ``leaves``."""
        while self.leaves != leaves:
            self.take()

    def cut(self) -> None:
        """Cut the connection, as a network does that fails."""
        self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self._connection.close()

    def rest(self) -> bytes:
        """Return what comes up to the proper end of the stream."""
        return self._response.read()


def ask(daemon: Daemon, method: str, path: str, body: str | None = None) -> Any:
    """Send a request, and return what the answer says."""
    connection = HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = connection.getresponse()
    assert answer.status == 200
    data = json.load(answer)
    connection.close()
    return data


def change(daemon: Daemon, begin: int, end: int) -> None:
    """Have the tree change."""
    ask(daemon, "POST", "/cmd", json.dumps({"Command": {"Name": "change", "Args": {"begin": begin, "end": end}}}))


def held_by_data(daemon: Daemon) -> dict[str, Any]:
    """Return the leaves of what ``/data`` serves."""

    def flat(data: Any, path: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(data, dict) or (path and not data):
            yield path[1:], data
        else:
            for key, child in data.items():
                yield from flat(child, f"{path}/{key}")

    return dict(flat(ask(daemon, "GET", "/data"), ""))


def test_cut_off_again_and_again(tmp_path: Path) -> None:
    """100 times a client is cut off while 1,000 changes are made: each time it has come again it holds what is so.

    Meanwhile the daemon is restarted: that gives a snapshot, and nothing else does. Up to then nobody else follows the
    tree while the client is away; afterwards somebody does, and holds it in the end, too.
    """
    follower, other = Follower(), Follower()
    begin = 0

    def cut_off(daemon: Daemon) -> None:
        nonlocal begin
        change(daemon, begin, begin + 5)
        follower.cut()
        change(daemon, begin + 5, begin + 10)
        begin += 10
        assert follower.connect(daemon) == "change"
        follower.take_until(held_by_data(daemon))

    with running_daemon(tmp_path, CHANGES) as first:
        port = str(first.port)
        assert follower.connect(first) == "snapshot"
        for _ in range(50):
            cut_off(first)
        assert first.stop() == -signal.SIGTERM
        follower.close()
    with running_daemon(tmp_path, CHANGES, port=port) as second:
        assert other.connect(second) == "snapshot"
        assert follower.connect(second) == "snapshot"
        assert follower.leaves == {}
        for _ in range(50):
            cut_off(second)
        other.take_until(follower.leaves)
        for each in (follower, other):
            each.close()
        assert second.stop() == -signal.SIGTERM
        assert "Traceback" not in second.log()
    assert begin == 1000


def deaf_client(daemon: Daemon) -> socket.socket:
    """Return a client that asks for a stream and reads none of it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE)
    client.connect((daemon.host, daemon.port))
    client.sendall(b"GET /events?types=change HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client


def test_clients_that_do_not_read(tmp_path: Path) -> None:
    """Clients that do not read are dropped, though there is time for them to do so, and the memory stays flat.

    A client that does read hears everything, and when they have gone there is room for others.
    """
    follower = Follower()
    with running_daemon(tmp_path, LOAD, "--max-streams", "21", "--write-timeout", "600") as daemon:
        process = psutil.Process(daemon.process.pid)
        follower.connect(daemon)
        for _ in range(10):
            follower.take()
        before = most = process.memory_info().rss
        deaf = {client.fileno(): client for client in (deaf_client(daemon) for _ in range(20))}
        poll = select.poll()
        for number in deaf:
            poll.register(number, 0)  # only that it was reset
        while deaf:
            follower.take()
            most = max(most, process.memory_info().rss)
            for number, _ in poll.poll(0):
                poll.unregister(number)
                deaf.pop(number).close()
        assert most - before < 150_000_000  # and 600 s of it would be many gigabytes
        others = [Follower() for _ in range(20)]
        assert {other.connect(daemon) for other in others} == {"snapshot"}
        for each in (follower, *others):
            each.close()
        assert daemon.stop() == -signal.SIGTERM
        assert "Traceback" not in daemon.log()


def test_end(tmp_path: Path) -> None:
    """With SIGTERM streams end properly and at once, and nobody waits for a client that does not read."""
    followers = [Follower("nothing") for _ in range(5)]
    with running_daemon(tmp_path, LOAD, "--write-timeout", "600", "--stop-timeout", "100") as daemon:
        with deaf_client(daemon):
            reader = Follower()
            for follower in (reader, *followers):
                assert follower.connect(daemon) == "snapshot"
            for _ in range(3):  # by when the other has more than it takes in
                reader.take()
            reader.close()
            daemon.process.send_signal(signal.SIGTERM)
            for follower in followers:
                assert b"event" not in follower.rest()
                follower.close()
            assert daemon.wait() == -signal.SIGTERM
        assert "not ended within" not in daemon.log()
        assert "Traceback" not in daemon.log()
