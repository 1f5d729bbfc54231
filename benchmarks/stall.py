"""One stalled sensor stalls nothing else: what a daemon does while some of its sensors hang, and how it ends.

    make bench, or: python -m benchmarks.stall [--seconds 30]

It starts ``twistd`` on an app whose sensors are polled once a second: one hangs for ever, five take 0.75 s, one raises
each time, and fifty are well (`apps/stall_sensors.py`). Meanwhile another process asks for ``/data``, over connections
that it keeps and over fresh ones, at a steady rate. It measures

- how long the answers take;
- how many readings of the good sensors there were, of those that there should have been: in the worst of them;
- how late those readings began, against the sensor's own grid: the seconds since its earliest reading, in whole
  intervals;
- threads and memory of the process, and by how much the memory grows;
- how long the process goes on after SIGTERM, with the default stop timeout of 10 s: with the sensor that hangs, with a
  thread of the app's own that is no daemon and never ends, and with a blocked reactor.

Then the same is done with the peer, plain ``LoopingCall`` and ``deferToThread`` on Twisted's default pool
(`apps/stall_peer.py`). Exits with 1 if one of our figures misses its target; the peer's have none.
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import psutil

from benchmarks.apps.stall_sensors import INTERVAL, NORMAL, SENSORS

CHECKOUT = Path(__file__).resolve().parents[1]
APPS = CHECKOUT / "benchmarks" / "apps"
TWISTD = str(Path(sys.executable).with_name("twistd"))
DAEMON = [TWISTD, "-n", "--pidfile=", "rpiserve", "--port", "0", "--module", "stall_app"]
FOREGROUND = [sys.executable, str(APPS / "stall_app.py"), "--port", "0"]
PEER = [sys.executable, str(APPS / "stall_peer.py")]

WARM_UP = 3.0
"""Seconds after the start before anything is measured."""

STOP_TIMEOUT = 10.0
GIVE_UP = 15.0
"""Seconds after SIGTERM when a process is killed for good."""

CLIENTS = 4
RATE = 20.0
"""Requests a second of each client. Half of the clients keep their connection."""


# --- the load, in a process of its own --------------------------------------------------------------------------------


def load(url: str, seconds: float) -> dict[str, list[float]]:
    """Ask for ``/data`` for ``seconds``, and return the seconds that each answer took, for both kinds of connection."""
    address = urlsplit(url).netloc
    took: dict[str, list[float]] = {"kept": [], "fresh": []}
    end = time.monotonic() + seconds

    def client(kind: str, phase: float) -> None:
        connection = http.client.HTTPConnection(address, timeout=30)
        slot = time.monotonic() + phase / RATE
        while slot < end:
            time.sleep(max(0.0, slot - time.monotonic()))
            slot += 1 / RATE
            start = time.monotonic()
            connection.request("GET", "/data")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"/data answered {answer.status}")
            took[kind].append(time.monotonic() - start)
            if kind == "fresh":
                connection.close()

    threads = [
        threading.Thread(target=client, args=(("kept", "fresh")[number % 2], number / CLIENTS))
        for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


# --- the processes ----------------------------------------------------------------------------------------------------


@contextmanager
def process(command: Sequence[str], directory: str, obstacle: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run ``command``, and kill it in the end if it still runs."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RPISERVE_")}
    environ |= {"PYTHONPATH": str(APPS), "PYTHONUNBUFFERED": "1"} | ({} if obstacle is None else {"OBSTACLE": obstacle})
    running = subprocess.Popen(
        command, cwd=directory, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def wait_for_url(running: "subprocess.Popen[str]") -> str:
    """Return where it serves, and have all that it says from then on read and dropped."""
    assert running.stdout is not None
    assert running.stderr is not None
    for line in running.stdout:
        if found := re.search(r"serving on (http://\S+)", line):
            for stream in (running.stdout, running.stderr):
                threading.Thread(target=stream.read, daemon=True).start()
            return found[1]
    raise SystemExit(f"it did not start: {running.stderr.read()}")


def end(running: "subprocess.Popen[str]") -> float | None:
    """Send SIGTERM, and return the seconds until the process has ended; None if it has to be killed."""
    start = time.monotonic()
    running.terminate()
    try:
        running.wait(GIVE_UP)
    except subprocess.TimeoutExpired:
        return None
    return time.monotonic() - start


# --- the figures ------------------------------------------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of all ``values`` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def lateness(starts: Sequence[float]) -> list[float]:
    """Return how late each reading began, in seconds, if the earliest of them was on time."""
    offsets = [(start - starts[0] + INTERVAL / 2) % INTERVAL for start in starts]
    return [offset - min(offsets) for offset in offsets]


def measure(command: Sequence[str], seconds: float) -> dict[str, float | None]:
    """Run the app under load for ``seconds``, and return the figures by their names."""
    with tempfile.TemporaryDirectory() as directory, process(command, directory) as running:
        url = wait_for_url(running)
        time.sleep(WARM_UP)
        watched = psutil.Process(running.pid)
        threads, memory = [watched.num_threads()], [watched.memory_info().rss / 2**20]
        begin = time.monotonic()
        loading = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stall", "--load", url, "--seconds", str(seconds)],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
        )
        while time.monotonic() < begin + seconds:
            time.sleep(0.5)
            threads.append(watched.num_threads())
            memory.append(watched.memory_info().rss / 2**20)
        finish = time.monotonic()
        took: dict[str, list[float]] = json.loads(loading.communicate()[0])
        if loading.returncode:
            raise SystemExit("the load has failed")
        ending = end(running)
        starts: dict[str, list[float]] = json.loads(Path(directory, "starts.json").read_text(encoding="utf-8"))
    inside = [[start for start in starts[name] if begin <= start < finish] for name in NORMAL]
    late = [seconds for run in inside for seconds in lateness(run)]
    return {
        "answers kept p50": 1e3 * statistics.median(took["kept"]),
        "answers kept p99": 1e3 * percentile(took["kept"], 0.99),
        "answers fresh p50": 1e3 * statistics.median(took["fresh"]),
        "answers fresh p99": 1e3 * percentile(took["fresh"], 0.99),
        "readings": min(100, 100 * min(len(run) for run in inside) / int((finish - begin) / INTERVAL)),
        "lateness p50": 1e3 * statistics.median(late),
        "lateness p99": 1e3 * percentile(late, 0.99),
        "threads": max(threads),
        "memory": max(memory),
        "memory growth": memory[-1] - memory[0],
        "end hung": ending,
    }


def measure_end(command: Sequence[str], obstacle: str) -> float | None:
    """Return the seconds until an app with an ``obstacle`` to its end has ended."""
    with tempfile.TemporaryDirectory() as directory, process(command, directory, obstacle) as running:
        wait_for_url(running)
        time.sleep(WARM_UP)
        return end(running)


# --- the table --------------------------------------------------------------------------------------------------------


@attrs.frozen
class Row:
    """A line of the table: a figure, its target, and what it is called."""

    name: str
    text: str
    unit: str
    target: float
    at_least: bool = False

    def missed(self, figure: float | None) -> bool:
        """Tell whether ``figure`` misses the target."""
        return figure is None or (figure < self.target if self.at_least else figure > self.target)


ROWS = [
    Row("answers kept p50", "GET /data, kept connection, p50", "ms", 10),
    Row("answers kept p99", "GET /data, kept connection, p99", "ms", 50),
    Row("answers fresh p50", "GET /data, fresh connection, p50", "ms", 10),
    Row("answers fresh p99", "GET /data, fresh connection, p99", "ms", 50),
    Row("readings", "readings of the worst good sensor", "%", 95, at_least=True),
    Row("lateness p50", "lateness of a good reading, p50", "ms", 50),
    Row("lateness p99", "lateness of a good reading, p99", "ms", 100),
    Row("threads", "threads at most", "", len(SENSORS) + 5),
    Row("memory", "memory at most", "MiB", 150),
    Row("memory growth", "memory, growth in that time", "MiB", 5),
    Row("end hung", "end, with a hung sensor", "s", STOP_TIMEOUT),
    Row("end thread", "end, with a never-ending thread", "s", STOP_TIMEOUT),
    Row("end thread run", "the same, by app.run()", "s", STOP_TIMEOUT),
    Row("end reactor", "end, with a blocked reactor", "s", STOP_TIMEOUT),
]


def table(ours: dict[str, float | None], peers: dict[str, float | None]) -> Iterator[str]:
    """Return the lines of the table."""

    def cell(row: Row, figures: dict[str, float | None]) -> str:
        if row.name not in figures:
            return "-"
        figure = figures[row.name]
        return f"killed after {GIVE_UP:g} s" if figure is None else f"{figure:.1f} {row.unit}".strip()

    yield f"{'':34}{'rpiserve':>12}{'target':>12}  {'verdict':8}{'peer':>18}{'ratio':>8}"
    for row in ROWS:
        own, peer = ours[row.name], peers.get(row.name)
        target = f"{'≥' if row.at_least else '≤'} {row.target:g} {row.unit}".strip()
        ratio = f"{own / peer:.2f}" if own is not None and peer else "-"
        verdict = "MISSED" if row.missed(own) else "good"
        yield f"{row.text:34}{cell(row, ours):>12}{target:>12}  {verdict:8}{cell(row, peers):>18}{ratio:>8}"


def main() -> int:
    """Measure, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(description="Measure a daemon some of whose sensors hang.")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to measure [30]")
    parser.add_argument("--load", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(load(arguments.load, arguments.seconds)))
        return 0
    ends: list[tuple[str, Callable[[], float | None]]] = [
        ("end thread", lambda: measure_end(DAEMON, "thread")),
        ("end thread run", lambda: measure_end(FOREGROUND, "thread")),
        ("end reactor", lambda: measure_end(DAEMON, "reactor")),
    ]
    print(f"{len(SENSORS)} sensors, {RATE * CLIENTS:g} requests a second, {arguments.seconds:g} s each: please wait …")
    ours = measure(DAEMON, arguments.seconds) | {name: measured() for name, measured in ends}
    peers = measure(PEER, arguments.seconds)
    print("\n".join(table(ours, peers)))
    return int(any(row.missed(ours[row.name]) for row in ROWS))


if __name__ == "__main__":
    sys.exit(main())
