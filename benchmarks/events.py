"""How fast changes reach 500 clients of `GET /events`, beside a bare loop of twisted.web that writes the same bytes.

    make bench, or: python -m benchmarks.events [--seconds 10] [--clients 500]

A hundred times a second one of 50 readings is set to the time of this machine's monotonic clock. Ten times a second
each client is told what has changed, and this process, which has all clients, notes when that arrives: so the delay of
each value at each client is known, up to 100 ms of it being the wait for the tick. In the end each client has to hold
what `/data` serves. The servers run one after the other, in rounds, each on one CPU and the clients on another, if
there is one. The bare loop is what such a thing costs at the least: it keeps nobody's place, drops nobody who does not
read, and has no limits.
"""

import argparse
import json
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from statistics import quantiles
from typing import Any

import attrs
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for python benchmarks/events.py

from benchmarks.http import Server
from benchmarks.peers import end_on_sigterm, free_port, running, twistd
from rpiserve.client.event_parser import EventParser

PROMISED = 0.25
"""Seconds within which 99 of 100 changes are at all clients, for 500 of them."""

OURS, BARE = "rpiserve", "bare twisted.web"
SETTLE_SECONDS = 1.0
QUIET_SECONDS = 20.0


class Client:
    """One client, which keeps all that arrives, and when, to be looked at afterwards.

    Args:
        port: where the server listens.
    """

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), QUIET_SECONDS)
        self.socket.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        self._received: list[tuple[float, bytes]] = []

    def receive(self) -> None:
        """Take what has arrived."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise SystemExit(f"a client was cut off after {sum(len(each) for _, each in self._received)} bytes")
        self._received.append((time.monotonic(), data))

    def events(self) -> Iterator[tuple[float, str, Any]]:
        """Yield each event: when it had arrived, its type, and what its data say."""
        parser, rest, in_body = EventParser(), b"", False
        for arrival, data in self._received:
            rest += data
            if not in_body:
                head, gap, rest = rest.partition(b"\r\n\r\n")
                in_body = bool(gap)
                rest = rest if in_body else head
            while in_body and b"\r\n" in rest:
                size, _, body = rest.partition(b"\r\n")
                length = int(size, 16)
                if len(body) < length + 2:
                    break
                rest = body[length + 2 :]
                for event in parser.feed(body[:length]):
                    yield arrival, event.name, json.loads(event.data)

    def replay(self, since: float) -> tuple[dict[str, Any], list[float]]:
        """Return the leaves that the client holds in the end, and the delays of the values set after ``since``."""
        leaves: dict[str, Any] = {}
        delays: list[float] = []
        for arrival, name, data in self.events():
            if name == "snapshot":
                leaves = data
            elif name == "change":
                for path in data["removed"]:
                    leaves.pop(path, None)
                leaves.update(data["changed"])
                delays += [arrival - value for value in data["changed"].values() if value > since]
        return leaves, delays


@attrs.define
class Result:
    """What was measured of one server, over all rounds."""

    delays: list[float] = attrs.field(factory=list)
    cpu: float = 0.0
    seconds: float = 0.0
    before: int = 0
    after: int = 0
    right: int = 0
    clients: int = 0


def ask(port: int, method: str, path: str, body: str | None = None) -> Any:
    """Send a request, and return what the answer says."""
    connection = HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = json.load(connection.getresponse())
    connection.close()
    return answer


def flat(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of what ``/data`` serves."""
    if not isinstance(data, dict):
        yield "/".join(path), data
        return
    for key, child in data.items():
        yield from flat(child, (*path, key))


def measure(server: Server, pid: int, count: int, seconds: float, result: Result) -> None:
    """Have ``count`` clients follow for some seconds, and add what that was like to ``result``."""
    process = psutil.Process(pid)
    result.before = result.before or process.memory_info().rss
    clients = [Client(server.port) for _ in range(count)]
    call = json.dumps({"Command": {"Name": "write", "Args": {"seconds": seconds}}})
    writer = threading.Thread(target=ask, args=(server.port, "POST", "/cmd", call))
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)

        def receive(until: float) -> None:
            while (left := until - time.monotonic()) > 0:
                for key, _ in selector.select(min(left, 0.1)):
                    key.data.receive()

        receive(time.monotonic() + SETTLE_SECONDS)
        cpu, start = server.cpu(), time.monotonic()
        writer.start()
        receive(start + seconds)
        result.cpu += server.cpu() - cpu
        result.seconds += time.monotonic() - start
        receive(time.monotonic() + SETTLE_SECONDS)
    writer.join()
    leaves = dict(flat(ask(server.port, "GET", "/data")))
    for client in clients:
        held, delays = client.replay(start)
        result.right += held == leaves
        result.delays += delays
        client.socket.close()
    result.clients += count
    while len(process.net_connections()) > 1:  # until the server has noticed
        time.sleep(0.05)
    result.after = process.memory_info().rss


def run(count: int, seconds: float, rounds: int) -> dict[str, Result]:
    """Measure both servers in turn."""
    results = {OURS: Result(), BARE: Result()}
    ports = {name: free_port() for name in results}
    more = ["--max-streams", str(count), "--max-connections", str(count + 50)]
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[0]})
    with (
        running([*twistd("events_rpiserve", ports[OURS]), *more], ports[OURS]) as ours,
        running([sys.executable, "events_bare.py", str(ports[BARE])], ports[BARE]) as bare,
    ):
        os.sched_setaffinity(0, {cpus[-1]})
        for number in range(rounds):
            pids = [(OURS, ours), (BARE, bare)]
            for name, pid in pids if number % 2 == 0 else reversed(pids):
                measure(Server(pid, ports[name]), pid, count, seconds / rounds, results[name])
    return results


def report(results: dict[str, Result]) -> bool:
    """Print what was measured, and return whether each client was told the truth in time."""
    print(
        f"{'':18}{'values':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'CPU':>7}{'RSS before, after':>20}  right trees"
    )
    for name, result in results.items():
        cuts = quantiles(result.delays, n=100)
        print(
            f"{name:18}{len(result.delays):9}{1e3 * cuts[49]:9.0f}{1e3 * cuts[98]:9.0f}{1e3 * max(result.delays):9.0f}"
            f"{result.cpu / result.seconds:7.0%}{result.before / 1e6:10.1f}{result.after / 1e6:7.1f} MB"
            f"  {result.right} of {result.clients}"
        )
    ours, bare = results[OURS], results[BARE]
    ours_high, bare_high = (quantiles(each.delays, n=100)[98] for each in (ours, bare))
    cpu = (ours.cpu / ours.seconds) / (bare.cpu / bare.seconds)
    print(f"\nThe 99th percentile of {OURS} is {ours_high / bare_high:.2f} times that of the bare loop,", end=" ")
    print(f"and its CPU time {cpu:.2f} times.")
    if all_right := ours.right == ours.clients:
        print("Each client ends with the tree as /data has it.")
    in_time = ours_high <= PROMISED
    print(f"Within {1e3 * PROMISED:.0f} ms: {'yes' if in_time else 'NO'}.")
    return all_right and in_time


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description="GET /events with many clients beside a bare loop of twisted.web")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each server is measured, in all rounds")
    parser.add_argument("--rounds", type=int, default=2, help="how often each server is measured")
    parser.add_argument("--clients", type=int, default=500, help="how many clients there are at a time")
    options = parser.parse_args()
    end_on_sigterm()
    if not report(run(options.clients, options.seconds, options.rounds)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
