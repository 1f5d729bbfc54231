"""How fast `GET /data` and `GET /cmd` are, beside raspend, bare Klein and aiohttp.

    make bench, or: python -m benchmarks.http [--seconds 40]

All four serve the same house, 50 readings that change once a second, each in a process of its own, all on one CPU. The
client runs on another, if there is one. It keeps a few connections busy: on each it sends a request as soon as it has
the answer to the one before. Once it keeps the connections, and opens new ones where the server closes them; once it
opens a new one for each request. The servers are measured in turn, in rounds, so that what else the machine does hits
all alike; the order rotates. On a busy machine the CPU time of a request says more than the requests a second.

The peers do what a few lines with them do: they encode the data for each request, and run the command in a thread, so
that it may block, without a time limit; raspend runs it in its only server thread. Klein and aiohttp write no access
log; raspend's cannot be turned off, and goes to a file.
"""

import argparse
import json
import os
import re
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from statistics import median, quantiles

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for python benchmarks/http.py

from benchmarks.peers import RASPEND, end_on_sigterm, free_port, installed, peers_python, running, twistd

OURS = "rpiserve"
REQUESTS = {"GET /data": "/data", "GET /cmd": "/cmd?name=theDoorBell.switch&onoff=on"}
CONNECTIONS = {"kept": True, "new for each request": False}

ANSWER_SECONDS = 10.0
"""A server that takes longer for one answer is taken for dead."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


class Connection:
    """One of the client's connections: it sends a request, takes the answer, and sends the next.

    Args:
        port: where the server listens.
        target: the target of the requests.
        keep: keep the connection, if the server does.
        selector: what waits for the answers.
    """

    def __init__(self, port: int, target: str, keep: bool, selector: selectors.BaseSelector) -> None:
        self._address = ("127.0.0.1", port)
        extra = "" if keep else "Connection: close\r\n"
        self._request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{extra}\r\n".encode()
        self._keep = keep
        self._selector = selector
        self._socket: socket.socket | None = None
        self._answer = b""
        self._sent = 0.0

    def send(self) -> None:
        """Send a request, on a new connection if there is none."""
        self._sent = time.perf_counter()
        if self._socket is None:
            self._socket = socket.create_connection(self._address, ANSWER_SECONDS)
            self._selector.register(self._socket, selectors.EVENT_READ, self)
        self._answer = b""
        self._socket.sendall(self._request)

    def receive(self) -> float | None:
        """Take what has arrived.

        Returns:
            The seconds since the request, if the answer is complete.

        Raises:
            SystemExit: it is not as it should be.
        """
        assert self._socket is not None
        data = self._socket.recv(1 << 16)
        self._answer += data
        if data and not (self._keep and self._is_complete()):
            return None
        seconds = time.perf_counter() - self._sent
        if self._answer[9:12] != b"200":
            raise SystemExit(f"the server at {self._address} answered: {self._answer[:300]!r}")
        if not data:
            self.close()
        return seconds

    def _is_complete(self) -> bool:
        head, gap, body = self._answer.partition(b"\r\n\r\n")
        if length := _LENGTH.search(head):
            return bool(gap) and len(body) >= int(length[1])
        return _CHUNKED.search(head) is not None and body.endswith(b"0\r\n\r\n")

    def body(self) -> bytes:
        """Return the body of the last answer."""
        head, _, body = self._answer.partition(b"\r\n\r\n")
        return b"".join(_chunks(body)) if _CHUNKED.search(head) else body

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        yield rest[:length]
        body = rest[length + 2 :]


def load(port: int, target: str, keep: bool, count: int, seconds: float) -> tuple[list[float], bytes]:
    """Send requests on ``count`` connections for some seconds.

    Returns:
        How long each took, in seconds, and the body of the last answer.
    """
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        connections = [Connection(port, target, keep, selector) for _ in range(count)]
        deadline = time.perf_counter() + seconds
        for connection in connections:
            connection.send()
        waiting = count
        while waiting:
            events = selector.select(ANSWER_SECONDS)
            if not events:
                raise SystemExit(f"the server on port {port} has not answered {target} within {ANSWER_SECONDS:g} s")
            for key, _ in events:
                latency = key.data.receive()
                if latency is None:
                    continue
                latencies.append(latency)
                if time.perf_counter() < deadline:
                    key.data.send()
                else:
                    waiting -= 1
        body = connections[0].body()
        for connection in connections:
            connection.close()
    return latencies, body


class Result:
    """What was measured of one server under one kind of load."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.latencies: list[float] = []
        self.cpu = 0.0

    def add(self, latencies: list[float], elapsed: float, cpu: float) -> None:
        """Add a round: how long each request took, how long all did, and what CPU time, in seconds."""
        self.rates.append(len(latencies) / elapsed)
        self.latencies += latencies
        self.cpu += cpu

    @property
    def rate(self) -> float:
        """Requests a second, by the median of the rounds."""
        return median(self.rates)

    @property
    def cpu_each(self) -> float:
        """The CPU time of one request, in seconds."""
        return self.cpu / len(self.latencies)

    def percentiles(self) -> tuple[float, float]:
        """Return the median and the 99th percentile of the latencies, in seconds."""
        cuts = quantiles(self.latencies, n=100)
        return cuts[49], cuts[98]


class Server:
    """A running server."""

    def __init__(self, pid: int, port: int) -> None:
        self.port = port
        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        """Return the CPU time that it has used, in seconds."""
        times = self._process.cpu_times()
        return times.user + times.system

    def check(self) -> None:
        """Check that it serves what is to be measured.

        Raises:
            SystemExit: it does not.
        """
        deadline = time.monotonic() + 5
        while len(leaves := _leaves(load(self.port, "/data", False, 1, 0)[1])) != 50:
            if time.monotonic() > deadline:
                raise SystemExit(f"the server on port {self.port} serves {len(leaves)} readings, not 50")
            time.sleep(0.05)
        if json.loads(load(self.port, REQUESTS["GET /cmd"], False, 1, 0)[1]) != "on":
            raise SystemExit(f"the server on port {self.port} does not run the command")


def _leaves(body: bytes) -> list[float]:
    return [value for room in json.loads(body).values() for value in room.values()]


@contextmanager
def servers() -> Iterator[dict[str, Server]]:
    """Run all servers on one CPU and this process on another, and yield them by their names."""
    klein, twisted, aiohttp = installed("klein"), installed("twisted"), "aiohttp>=3.11,<4"
    python = peers_python(RASPEND, klein, twisted, aiohttp)
    cpus = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        os.sched_setaffinity(0, {cpus[0]})
        port = free_port()
        started = {OURS: (twistd("with_rpiserve", port), port)}
        for name, peer in {"raspend 2.0.4": "raspend", "bare Klein": "klein", "aiohttp": "aiohttp"}.items():
            port = free_port()
            started[name] = ([python, f"with_{peer}.py", str(port)], port)
        result = {
            name: Server(stack.enter_context(running(command, port)), port) for name, (command, port) in started.items()
        }
        os.sched_setaffinity(0, {cpus[-1]})
        for server in result.values():
            server.check()
        yield result


def measure(seconds: float, rounds: int, count: int) -> dict[tuple[str, str], dict[str, Result]]:
    """Return what was measured, by the kind of request and of connection, and by server."""
    kinds = list(product(REQUESTS, CONNECTIONS))
    results: dict[tuple[str, str], dict[str, Result]] = {kind: {} for kind in kinds}
    began = time.monotonic()
    with servers() as running_servers:
        names = list(running_servers)
        left = max(seconds - (time.monotonic() - began), seconds / 2)
        each = left / (rounds * len(kinds) * len(names))
        for server, (request, kept) in product(running_servers.values(), kinds):
            load(server.port, REQUESTS[request], CONNECTIONS[kept], count, min(0.1, each / 4))
        for number in range(rounds):
            order = names[number % len(names) :] + names[: number % len(names)]
            for (request, kept), name in product(kinds, order):
                server = running_servers[name]
                cpu, start = server.cpu(), time.perf_counter()
                latencies, _ = load(server.port, REQUESTS[request], CONNECTIONS[kept], count, each)
                elapsed = time.perf_counter() - start
                results[request, kept].setdefault(name, Result()).add(latencies, elapsed, server.cpu() - cpu)
    return results


def report(results: dict[tuple[str, str], dict[str, Result]]) -> None:
    """Print a table for each kind of load, and what it says."""
    verdicts = []
    for (request, kept), by_name in results.items():
        ours = by_name[OURS]
        print(f"\n{request}, connections {kept}")
        print(f"  {'':14}{'requests/s':>11}{'(rounds)':>16}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs each':>13}{'to ours':>9}")
        for name in (OURS, *(name for name in by_name if name != OURS)):
            result = by_name[name]
            middle, high = result.percentiles()
            spread = f"({min(result.rates):.0f}-{max(result.rates):.0f})"
            print(
                f"  {name:14}{result.rate:11.0f}{spread:>16}{1000 * middle:9.2f}{1000 * high:9.2f}"
                f"{1e6 * result.cpu_each:13.0f}{result.rate / ours.rate:8.2f}x"
            )
        peers = {name: peer for name, peer in by_name.items() if name != OURS}
        rates = [f"{_times(ours.rate / peer.rate)} as often as {name}" for name, peer in peers.items()]
        costs = [f"{_times(ours.cpu_each / peer.cpu_each)} that of {name}" for name, peer in peers.items()]
        verdicts.append(f"{request}, connections {kept}: rpiserve answers {', '.join(rates)}.")
        verdicts.append(f"    Its CPU time for a request is {', '.join(costs)}.")
    print()
    print("\n".join(verdicts))


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times"


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description="GET /data and GET /cmd beside raspend, bare Klein and aiohttp")
    parser.add_argument("--seconds", type=float, default=40.0, help="how long it may take, in all but the installing")
    parser.add_argument("--rounds", type=int, default=20, help="how often each server is measured")
    parser.add_argument("--connections", type=int, default=4, help="how many connections are kept busy")
    options = parser.parse_args()
    end_on_sigterm()
    report(measure(options.seconds, options.rounds, options.connections))


if __name__ == "__main__":
    main()
