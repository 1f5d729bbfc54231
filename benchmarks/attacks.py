"""What floods cost a daemon: how soon others are served again, and how much memory it takes.

    python -m benchmarks.attacks

The daemon has the limits that it has by default. One client after the other does its worst, with a good one beside it:

- 1,500 connections, on which nothing comes, half a request, or a whole one whose answer nobody reads. Measured is how
  long a good client takes to be served for the first time while they are held, and once they have been closed. At most
  256 are taken, and of these the one longest without a complete request goes for a new one. While each of them waits
  for its answer to be read, none goes until the write timeout has passed: a good client has to wait for that.
- 30 pipelined requests for 20 MB, and nobody reads: by how much the memory grows.
- 1,000 wrong tokens at the form: how fast they are refused, and how long the good client waits meanwhile.

Exits with 1 if a good client needs longer than 1 s after any of it, or while connections are held that have no complete
request, or if memory grows by 2 answers.
"""

import http.client
import resource
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from statistics import quantiles

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "integration"))

from daemon import Daemon, running_daemon

from rpiserve.core.tokens import READ, TokenFile

APP = """
from rpiserve import App, response

app = App("attacked")


@app.route("/small", role="public")
def small():
    return "small"


@app.route("/big", role="public")
def big():
    return response.send(b"x" * int(2e7), content_type="application/octet-stream")


@app.route("/medium", role="public")
def medium():
    return response.send(b"x" * 3_000_000, content_type="application/octet-stream")
"""

CONNECTIONS = 1500
BIG = 20_000_000
PIPELINED = 30
WRONG = 1000
RECOVERY = 1.0
"""Seconds within which a good client is to be served again."""

GIVE_UP = 60.0
GET_BIG = b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n"
GET_MEDIUM = b"GET /medium HTTP/1.1\r\nHost: localhost\r\n\r\n"
BEGINNINGS = {"nothing": b"", "half a request": b"GET /small HTTP/1.1\r\nHost: loc", "an answer unread": GET_MEDIUM}


def connect(daemon: Daemon) -> socket.socket:
    """Return a connection of somebody who means no good, and has little room for answers."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(GIVE_UP)
    client.bind(("127.0.0.2", 0))
    client.connect((daemon.host, daemon.port))
    return client


def seconds_until_served(daemon: Daemon) -> float:
    """Return how long it takes until a good client, who tries again and again, has an answer."""
    start = time.monotonic()
    while time.monotonic() - start < GIVE_UP:
        client = http.client.HTTPConnection(daemon.host, daemon.port, timeout=GIVE_UP)
        with suppress(OSError, http.client.HTTPException), closing(client):
            client.request("GET", "/small")
            if client.getresponse().status == 200:
                break
        time.sleep(0.01)
    return time.monotonic() - start


@contextmanager
def good_client(daemon: Daemon, took: list[float]) -> Iterator[None]:
    """Have a good client ask twenty times a second during the block, and note how long each answer takes."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.05):
            took.append(seconds_until_served(daemon))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def flood(daemon: Daemon, beginning: bytes) -> tuple[float, float]:
    """Make many connections; return how long a good client waits while they are held, and then afterwards."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            client = stack.enter_context(connect(daemon))
            with suppress(ConnectionError):  # it may have gone already for being one too many
                client.sendall(beginning)
        held = seconds_until_served(daemon)
    return held, seconds_until_served(daemon)


def unread(daemon: Daemon) -> float:
    """Have large answers made that nobody reads, and return by how many of them the memory grows at the most."""
    process = psutil.Process(daemon.process.pid)
    with closing(http.client.HTTPConnection(daemon.host, daemon.port, timeout=GIVE_UP)) as client:
        client.request("GET", "/big")
        client.getresponse().read()
    before = most = process.memory_info().rss
    with connect(daemon) as client:
        client.sendall(GET_BIG * PIPELINED)
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            most = max(most, process.memory_info().rss)
            time.sleep(0.001)
    return (most - before) / BIG


def guess(daemon: Daemon) -> tuple[Counter[int], float]:
    """Send wrong tokens; return how they were answered, and how many a second."""
    statuses: Counter[int] = Counter()
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    start = time.monotonic()
    with closing(
        http.client.HTTPConnection(daemon.host, daemon.port, timeout=GIVE_UP, source_address=("127.0.0.2", 0))
    ) as client:
        for number in range(WRONG):
            client.request("POST", "/login", f"token=rpi_{number}", form)
            answer = client.getresponse()
            answer.read()
            statuses[answer.status] += 1
    return statuses, WRONG / (time.monotonic() - start)


def main() -> None:
    """Run it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CONNECTIONS + 500), hard))
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        TokenFile(Path(folder) / "tokens", time.monotonic).add("reader", READ)
        with running_daemon(Path(folder), APP, "--token-file", "tokens") as daemon:
            print(f"{CONNECTIONS} connections; a good client is served within, in seconds:")
            for name, beginning in BEGINNINGS.items():
                held, after = flood(daemon, beginning)
                print(f"  {name:18} while they are held {held:6.2f}   when they are closed {after:6.2f}", flush=True)
                kept += [after <= RECOVERY, held <= RECOVERY or beginning == GET_MEDIUM]
            growth = unread(daemon)
            kept.append(growth < 2)
            print(f"{PIPELINED} pipelined requests for {BIG // 10**6} MB, unread: memory grows by {growth:.2f} answers")
            took: list[float] = []
            with good_client(daemon, took):
                statuses, rate = guess(daemon)
            answered = ", ".join(f"{count} times {status}" for status, count in sorted(statuses.items()))
            print(f"{WRONG} wrong tokens, {rate:.0f} a second: {answered}")
            if len(took) > 1:
                print(f"  a good client beside waits {1e3 * quantiles(took, n=20)[-1]:.0f} ms (95 of 100)")
            kept.append(statuses.keys() == {401, 429})
    if not all(kept):
        raise SystemExit("not as promised")


if __name__ == "__main__":
    main()
