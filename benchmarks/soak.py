"""A soak: a daemon with everything in it, among clients of all kinds and random faults, for as long as one likes.

    python -m benchmarks.soak [--minutes 60] [--seed 1]

The daemon is `apps/soak_app.py`: sensors that fail, hang and are slow, commands, actions, listeners and routes, with
tokens, a log of requests that is rotated, and a Redis server of its own. Its clients ask for everything, follow
``/events`` and come and go, read nothing, or break off in the middle. Meanwhile the Redis server is killed or frozen,
nonsense is sent, SIGHUP comes, and a token is taken back and made again.

After a warm-up everybody leaves, and what the daemon has then is what it shall have in the end. Its memory, descriptors
and threads are looked at each second. Exits with 1 if

- the median memory of the last quarter is larger than that of the first by more than `Bounds` allows,
- the blocks of memory that objects use when all have left are more than before by more than that: what a process keeps
  of memory in which there is nothing any more is not counted there,
- the median number of descriptors or of threads is larger by more than `SLACK`, or some are left when all have gone,
- a client was answered with what it should not be,
- the log has an error that was not made on purpose,
- or something does not work in the end: each value and handler, a command, an action by the bus, events, ``/ready``.

A soak of less than ten minutes has wider bounds: memory still grows by what the process has not needed before.
"""

import argparse
import http.client
import json
import random
import re
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import attrs
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "integration"))

from daemon import Daemon, running_daemon
from redis_server import RedisServer

from rpiserve.core.tokens import CONTROL, READ, TokenFile

APP = Path(__file__).with_name("apps") / "soak_app.py"


@attrs.frozen
class Bounds:
    """What is taken for no growth.

    Attributes:
        growth: by which part memory may grow, or
        growth_bytes: by how much, whichever is more.
        blocks: by which part there may be more blocks, when all have left: caches fill up to their bounds.
        threads: how many more threads there may be when all have left. A pool grows to its size, and those of its
            threads that have nothing to do end after a minute.
        patience: how many seconds it may take until all is well when all have left.
    """

    growth: float
    growth_bytes: int
    blocks: float
    threads: int
    patience: float


LONG = Bounds(0.05, 4 << 20, 0.05, 0, 75.0)
BRIEF = Bounds(0.2, 24 << 20, 0.1, 8, 40.0)
BRIEF_SECONDS = 600.0

FEWEST_SAMPLES, FEWEST_REQUESTS = 12, 100

SLACK = 3
"""By how much the median of descriptors or threads may differ: what is open at a time is random."""

LOOK_AGAIN = 0.5
CLIENT_TIMEOUT = 30.0
CALM = 5.0
"""Seconds that the daemon has for itself before it is looked at: none of its own calls lasts longer."""

BUS_MAY_BE_AWAY = {200, 502, 503, 504}

# What is asked for, with the answers that are right: the bus is away now and then, and so is a thread.
REQUESTS: list[tuple[str, str, dict[str, Any] | None, set[int]]] = [
    ("GET", "/data", None, {200}),
    ("GET", "/data/fast", None, {200}),
    ("GET", "/data?meta=1", None, {200}),
    ("GET", "/data/nothing", None, {404}),
    ("GET", "/sensors", None, {200}),
    ("GET", "/cmds", None, {200}),
    ("GET", "/services", None, {200, 503}),
    ("GET", "/health", None, {200}),
    ("GET", "/ready", None, {200, 503}),
    ("GET", "/metrics", None, {200}),
    ("GET", "/openapi.json", None, {200}),
    ("GET", "/", None, {200}),
    ("GET", "/page/7", None, {200}),
    ("GET", "/large", None, {200}),
    ("GET", "/late", None, {200}),
    ("GET", "/broken", None, {500}),
    ("GET", "/cmd?name=double&number=4", None, {200}),
    ("POST", "/cmd", {"Command": {"Name": "double", "Args": {"number": 2}}}, {200}),
    ("POST", "/cmd", {"Command": {"Name": "double", "Args": {"number": "x"}}}, {422}),
    ("POST", "/cmd", {"Command": {"Name": "fail", "Args": {}}}, {500}),
    ("POST", "/cmd", {"Command": {"Name": "doze", "Args": {}}}, {200}),
    ("POST", "/cmd", {"Command": {"Name": "oversleep", "Args": {}}}, {503, 504}),
    ("POST", "/cmd", {"Command": {"Name": "nobody", "Args": {}}}, {404}),
    ("POST", "/actions/ask", {"a": 1}, {200}),
    ("POST", "/actions/break", {}, {500}),
    ("POST", "/actions/nobody", {}, {404}),
    ("POST", "/services/soak/ask?timeout=2", {"a": 1}, BUS_MAY_BE_AWAY),
    ("POST", "/services/soak/break?timeout=2", {}, {502, 503, 504}),
    ("POST", "/services/nobody/ask?timeout=2", {}, {503, 504}),
    ("POST", "/broadcasts/soak.http", {"number": 1}, {200, 503}),
]


@attrs.frozen
class Sample:
    """What the process of the daemon has at a moment."""

    memory: int
    descriptors: int
    threads: int

    def __str__(self) -> str:
        return f"{self.memory / 2**20:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads"


@attrs.define
class Report:
    """What came of a soak.

    Attributes:
        samples: one for each second.
        counts: how often each client did what it does, and each fault came.
        before: what the daemon had when all clients had left after the warm-up.
        after: what it had when they had left in the end.
        blocks: how many blocks of memory objects used at these two times.
        complaints: all that was wrong.
    """

    samples: list[Sample] = attrs.field(factory=list)
    counts: Counter[str] = attrs.field(factory=Counter)
    before: Sample = Sample(0, 0, 0)
    after: Sample = Sample(0, 0, 0)
    blocks: tuple[int, int] = (0, 0)
    complaints: list[str] = attrs.field(factory=list)

    def quarter(self, number: int, name: str) -> list[int]:
        """Return the samples of the first (0) to the last (3) quarter, by the ``name`` of a figure."""
        length = len(self.samples) // 4
        end = len(self.samples) if number == 3 else (number + 1) * length
        return [getattr(sample, name) for sample in self.samples[number * length : end]]

    def judge(self, bounds: Bounds) -> None:
        """Complain about what has grown."""
        if len(self.samples) < FEWEST_SAMPLES or self.counts["requests"] < FEWEST_REQUESTS:
            self.complaints.append(f"only {len(self.samples)} samples and {self.counts['requests']} requests")
            return
        first, last = (median(self.quarter(number, "memory")) for number in (0, 3))
        if last - first > max(bounds.growth * first, bounds.growth_bytes):
            self.complaints.append(f"memory has grown from {first / 2**20:.1f} to {last / 2**20:.1f} MiB")
        if self.blocks[1] > (1 + bounds.blocks) * self.blocks[0]:
            self.complaints.append(f"memory is left: objects use {self.blocks[1]} blocks, and it was {self.blocks[0]}")
        for name in ("descriptors", "threads"):
            first, last = (median(self.quarter(number, name)) for number in (0, 3))
            if last - first > max(SLACK, bounds.threads if name == "threads" else 0):
                self.complaints.append(f"{name} have grown from {first:g} to {last:g}")
        for name, more in (("descriptors", 0), ("threads", bounds.threads)):
            before, after = getattr(self.before, name), getattr(self.after, name)
            if after > before + more:
                self.complaints.append(f"{name} are left: there are {after}, and there were {before}")

    def table(self) -> str:
        """Return the figures for people."""
        cuts = f"{'q1':>10}{'median':>10}{'q3':>10}"
        lines = [
            f"{'':14}{'first quarter':^30}{'last quarter':^30}  all have left",
            f"{'':14}{cuts}{cuts}  before, after",
        ]
        for name, unit, form in (("memory", 1 << 20, ".1f"), ("descriptors", 1, ".0f"), ("threads", 1, ".0f")):
            quarters = [cut / unit for number in (0, 3) for cut in quantiles(self.quarter(number, name), n=4)]
            ends = [getattr(each, name) / unit for each in (self.before, self.after)]
            label = f"{name}, MiB" if unit > 1 else name
            figures = "".join(f"{cut:>10{form}}" for cut in quarters)
            lines.append(f"{label:14}{figures}  " + ", ".join(f"{end:{form}}" for end in ends))
        lines.append(f"{'blocks':14}{'':60}  {self.blocks[0]:,}, {self.blocks[1]:,}")
        return "\n".join(lines)


def sample(process: psutil.Process) -> Sample:
    """Return what ``process`` has now."""
    return Sample(process.memory_info().rss, process.num_fds(), process.num_threads())


class Crowd:
    """All clients of a daemon, each in a thread of its own, and the faults.

    Args:
        daemon: the daemon.
        server: its Redis server.
        tokens: its file of tokens.
        secret: a token that may do everything.
        seed: of what happens when.
        report: where they count what they do and complain.
    """

    def __init__(
        self, daemon: Daemon, server: RedisServer, tokens: TokenFile, secret: str, seed: int, report: Report
    ) -> None:
        self._daemon = daemon
        self._server = server
        self._tokens = tokens
        self._headers = {"Authorization": f"Bearer {secret}"}
        self._head = f"Host: localhost\r\nAuthorization: Bearer {secret}\r\n"
        self._guest = ""
        self._seed = seed
        self._report = report
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._rounds = 0

    @contextmanager
    def there(self) -> Iterator[None]:
        """Let them do their worst during the block. They have all left when it ends."""
        kinds: list[tuple[Callable[[random.Random], None], int]] = [
            (self._ask, 3),
            (self._ask_as_guest, 1),
            (self._follow, 4),
            (self._read_nothing, 1),
            (self._break_off, 2),
            (self._follow_an_action, 1),
            (self._make_faults, 1),
        ]
        self._over.clear()
        self._rounds += 1
        threads = [
            threading.Thread(target=self._run, args=(act, f"{self._seed}/{self._rounds}/{act.__name__}/{number}"))
            for act, count in kinds
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
            self._server.thaw()

    def _run(self, act: Callable[[random.Random], None], seed: str) -> None:
        chance = random.Random(seed)
        try:
            while not self._over.is_set():
                act(chance)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody was not served
            self._complain(f"{act.__name__}: {type(error).__name__}: {error}")

    def _complain(self, text: str) -> None:
        with self._lock:
            self._report.complaints.append(text)

    def _count(self, what: str) -> None:
        with self._lock:
            self._report.counts[what] += 1

    def _pause(self, seconds: float) -> None:
        self._over.wait(seconds)

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._daemon.host, self._daemon.port, timeout=CLIENT_TIMEOUT)

    # --- clients that behave -----------------------------------------------------------------------------------------

    def _ask(self, chance: random.Random) -> None:
        """Ask for this and that over one connection, and look at the answers."""
        connection = self._connection()
        for _ in range(chance.randrange(1, 20)):
            method, target, payload, right = chance.choice(REQUESTS)
            body = None if payload is None else json.dumps(payload)
            kind = {} if body is None else {"Content-Type": "application/json"}
            connection.request(method, target, body, {**self._headers, **kind})
            answer = connection.getresponse()
            text = answer.read()
            if answer.status not in right:
                self._complain(f"{method} {target} was answered with {answer.status}: {text[:300]!r}")
            self._count("requests")
            self._pause(chance.uniform(0.02, 0.3))
            if self._over.is_set():
                break
        connection.close()

    def _ask_as_guest(self, chance: random.Random) -> None:
        """Ask with a token that is valid only now and then, and in between with one that never was."""
        wrong = chance.random() < 0.02
        secret = "rpi_wrong" if wrong else self._guest
        connection = self._connection()
        connection.request("GET", "/data/fast", headers={"Authorization": f"Bearer {secret}"})
        status = connection.getresponse().status
        connection.close()
        if status not in ({401, 429} if wrong else {200, 401, 429}):
            self._complain(f"a guest was answered with {status}")
        self._count("requests of guests")
        self._pause(chance.uniform(0.5, 1.5))

    def _follow(self, chance: random.Random) -> None:
        """Follow the events for a while, and leave, politely or not."""
        query = chance.choice(["", "?types=change&path=fast", "?channel=soak.*", "?meta=1&types=change"])
        connection = self._connection()
        connection.request("GET", f"/events{query}", headers=self._headers)
        answer = connection.getresponse()
        if answer.status != 200:
            self._complain(f"/events was answered with {answer.status}")
        end = time.monotonic() + chance.uniform(0.0, 6.0)
        while time.monotonic() < end and not self._over.is_set():
            if not answer.read1():
                self._complain("/events has ended by itself")
                break
        if chance.random() < 0.5:
            reset(connection.sock)
        answer.close()
        connection.close()
        self._count("streams of events")

    def _follow_an_action(self, chance: random.Random) -> None:
        """Have an action tell of its progress."""
        connection = self._connection()
        headers = {**self._headers, "Accept": "text/event-stream", "Content-Type": "application/json"}
        connection.request("POST", "/services/soak/count?timeout=3", "{}", headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status not in BUS_MAY_BE_AWAY or (answer.status == 200 and b"event: " not in text):
            self._complain(f"an action with progress was answered with {answer.status}: {text[:300]!r}")
        connection.close()
        self._count("actions with progress")
        self._pause(chance.uniform(0.3, 1.0))

    # --- clients that do not -----------------------------------------------------------------------------------------

    def _read_nothing(self, chance: random.Random) -> None:
        """Ask for events, and read none of them until cut off."""
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.settimeout(CLIENT_TIMEOUT)
            client.connect((self._daemon.host, self._daemon.port))
            client.sendall(f"GET /events HTTP/1.1\r\n{self._head}\r\n".encode())
            with suppress(ConnectionError):
                while not self._over.is_set():
                    client.sendall(b"\r\n")  # which tells whether it was
                    self._pause(0.5)
        self._count("streams that were not read")

    def _break_off(self, chance: random.Random) -> None:
        """Leave in the middle of something."""
        beginnings = [
            "",
            "GET /data HTTP/1.1\r\nHost: local",
            f"POST /cmd HTTP/1.1\r\n{self._head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{",
            f"POST /cmd HTTP/1.1\r\n{self._head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{",
            f"GET /large HTTP/1.1\r\n{self._head}\r\n" * 5,
            f"GET /late HTTP/1.1\r\n{self._head}\r\n" * 2,
            f"GET /cmd?name=doze HTTP/1.1\r\n{self._head}\r\n",
            f"GET /events?channel=soak.* HTTP/1.1\r\n{self._head}\r\n",
            "".join(chr(chance.randrange(256)) for _ in range(chance.randrange(1, 500))),
        ]
        with socket.create_connection((self._daemon.host, self._daemon.port), CLIENT_TIMEOUT) as client:
            with suppress(ConnectionError):
                client.sendall(chance.choice(beginnings).encode("latin-1"))
                self._pause(chance.choice([0.0, 0.0, 0.05, 0.5]))
            if chance.random() < 0.5:
                reset(client)
        self._count("requests that were broken off")
        self._pause(chance.uniform(0.05, 0.5))

    # --- faults ------------------------------------------------------------------------------------------------------

    def _make_faults(self, chance: random.Random) -> None:
        """Let something happen, and let it be for a while."""
        kind = chance.choice(["kill -9", "SIGSTOP", "SIGSTOP for long", "CLIENT KILL", "SIGHUP", "token"])
        if kind == "kill -9":
            self._server.kill()
            self._pause(chance.uniform(0.0, 2.0))
            self._server.start()
        elif kind.startswith("SIGSTOP"):
            self._server.freeze()
            self._pause(8.0 if kind.endswith("long") else chance.uniform(0.0, 2.0))
            self._server.thaw()
        elif kind == "CLIENT KILL":
            self._server.command("CLIENT", "KILL", "TYPE", chance.choice(["normal", "pubsub"]))
        elif kind == "SIGHUP":
            self._daemon.process.send_signal(signal.SIGHUP)
        elif self._guest:
            self._tokens.revoke("guest")
            self._guest = ""
        else:
            self._guest = self._tokens.add("guest", READ)
        self._count(f"fault: {kind}")
        self._pause(chance.uniform(0.5, 6.0))


def reset(client: socket.socket) -> None:
    """Have ``client`` end as a network does that fails."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Examiner:
    """Looks whether all works that should, when nothing is done to the daemon any more.

    Args:
        daemon: the daemon.
        secret: a token that may do everything.
    """

    def __init__(self, daemon: Daemon, secret: str) -> None:
        self._daemon = daemon
        self._headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}

    def ask(self, method: str, target: str, payload: Any = None) -> tuple[int, bytes]:
        """Return the status and the body of an answer."""
        connection = http.client.HTTPConnection(self._daemon.host, self._daemon.port, timeout=CLIENT_TIMEOUT)
        try:
            connection.request(method, target, None if payload is None else json.dumps(payload), self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def settle(self, on: bool) -> None:
        """Have the app fail no more, or again."""
        status, body = self.ask("POST", "/cmd", {"Command": {"Name": "settle", "Args": {"on": on}}})
        if status != 200:
            raise SystemExit(f"the app cannot be settled: {status} {body!r}")

    def blocks(self) -> int:
        """Return how many blocks of memory objects use."""
        return int(self.ask("GET", "/cmd?name=blocks")[1])

    def wait_for_values(self) -> None:
        """Wait until there is a first reading."""
        end = time.monotonic() + LONG.patience
        while self.ask("GET", "/data/fast")[0] != 200:
            if time.monotonic() > end:
                raise SystemExit("the app's sensors bring nothing")
            time.sleep(LOOK_AGAIN)

    def failure_streak(self) -> list[str]:
        """Return what does not work now."""
        found = []
        status, body = self.ask("GET", "/ready")
        if status != 200:
            found.append(f"/ready is {status}: {body.decode()}")
        found += [
            f"{each['name']}: state {each['state']}, stuck {each['stuck']}, error {each['error']}"
            for each in json.loads(self.ask("GET", "/sensors")[1])
            if each["state"] != "ok" or each["stuck"]
        ]
        values = json.loads(self.ask("GET", "/data?meta=1")[1])
        for path in ("fast", "slow", "flaky", "hanging", "wire/one", "wire/two", "blob/part0", "awaited"):
            leaf = values
            for key in path.split("/"):
                leaf = leaf[key]
            if leaf["state"] != "ok" or leaf["age"] > 5:
                found.append(f"{path} is {leaf['state']} and {leaf['age']} s old")
        status, body = self.ask("GET", "/cmd?name=double&number=21")
        if (status, body) != (200, b"42"):
            found.append(f"a command was answered with {status}: {body!r}")
        status, body = self.ask("POST", "/services/soak/ask", {"a": 1})
        if (status, body) != (200, b'{"asked":{"a":1}}'):
            found.append(f"an action was answered by the bus with {status}: {body!r}")
        metrics = self.ask("GET", "/metrics")[1].decode()
        if not re.search(r"^rpiserve_bus_connected\{.*\} 1\.0$", metrics, re.MULTILINE):
            found.append("/metrics does not show the bus as connected")
        if not re.search(r"^rpiserve_event_streams 0\.0$", metrics, re.MULTILINE):
            found.append("/metrics shows streams that are open")
        if not re.search(r"^rpiserve_commands_active 0\.0$", metrics, re.MULTILINE):
            found.append("/metrics shows commands that run")
        return found + self._trouble_with_events()

    def _trouble_with_events(self) -> list[str]:
        connection = http.client.HTTPConnection(self._daemon.host, self._daemon.port, timeout=CLIENT_TIMEOUT)
        try:
            connection.request("GET", "/events?channel=soak.talk&types=change,broadcast", headers=self._headers)
            answer = connection.getresponse()
            missing = {b"event: snapshot\n", b"event: change\n", b"event: broadcast\n"}
            end = time.monotonic() + 10
            while missing and time.monotonic() < end:
                missing.discard(answer.readline())
            answer.close()
        finally:
            connection.close()
        return [f"there is no {line.decode().strip()}" for line in sorted(missing)]


# What is said in the log where it is not wrong: the app does it on purpose, or it is what a fault leads to.
EXPECTED = re.compile(
    r"OnPurpose"
    r"|now and then$|this (command|action|route) fails$"
    r"|(hanging|awaited|wire/one|wire/two) failed.*: no end within \d s$"
    r"|wire/(one|two) failed.*: the bus wire is held by 'wire/two', which hangs$"
    r"|the answer of \S+ could not be sent",
    re.MULTILINE,
)


def unexpected(log: str, expected: re.Pattern[str] = EXPECTED) -> list[str]:
    """Return the entries of ``log`` that should not be there: errors, and tracebacks of whatever level."""
    entries = re.split(r"^(?=\d{4}-\d\d-\d\d )", log, flags=re.MULTILINE)
    failure_streak = re.compile(r"^\S+ \S+ (ERROR|CRITI)|Traceback|Unhandled|not awaited")
    return [entry for entry in entries if failure_streak.search(entry) and not expected.search(entry)]


def settled(
    report: Report, process: psutil.Process, examiner: Examiner, patience: float, limit: Sample | None = None
) -> Sample:
    """Wait until the daemon has no more than ``limit`` and all works, complain if that does not come about.

    Returns:
        What it has then.
    """
    time.sleep(CALM)
    end = time.monotonic() + patience
    while True:
        found = examiner.failure_streak()
        time.sleep(LOOK_AGAIN)  # until the connections of who has just looked are gone, too
        now = sample(process)
        large = limit is not None and (now.descriptors > limit.descriptors or now.threads > limit.threads)
        if not (found or large) or time.monotonic() > end:
            break
    report.complaints += found
    return now


def soak(
    folder: Path,
    seconds: float,
    warm_up: float,
    seed: int,
    tell: Callable[[str], None],
) -> Report:
    """Run a soak.

    Args:
        folder: where the daemon has its files.
        seconds: for how long the daemon is looked at, after the warm-up.
        warm_up: the seconds before that.
        seed: of all that is random.
        tell: called with a line about the progress once a minute.
    """
    report = Report()
    bounds = BRIEF if seconds < BRIEF_SECONDS else LONG
    tokens = TokenFile(folder / "tokens", time.monotonic)
    secret = tokens.add("owner", CONTROL)
    options = ["--token-file", "tokens", "--request-log", "requests.log", "--log-size", "1000000", "--log-keep", "2"]
    options += ["--write-timeout", "3", "--log-format", "text"]
    with (
        RedisServer() as server,
        running_daemon(
            folder,
            APP.read_text(encoding="utf-8"),
            *options,
            "--redis",
            server.url,
            env={"SOAK_SEED": str(seed)},
        ) as daemon,
    ):
        process = psutil.Process(daemon.process.pid)
        examiner = Examiner(daemon, secret)
        crowd = Crowd(daemon, server, tokens, secret, seed, report)
        examiner.wait_for_values()
        with crowd.there():
            time.sleep(warm_up)
        examiner.settle(True)
        report.before = settled(report, process, examiner, bounds.patience)
        blocks = examiner.blocks()
        examiner.settle(False)
        tell(f"after the warm-up: {report.before}, {blocks:,} blocks")
        with crowd.there():
            start = time.monotonic()
            while time.monotonic() - start < seconds and daemon.process.poll() is None:
                report.samples.append(sample(process))
                if len(report.samples) % 60 == 0:
                    tell(
                        f"{len(report.samples) // 60:4} min  {report.samples[-1]}  {report.counts['requests']} requests"
                    )
                time.sleep(1.0)
        examiner.settle(True)
        limit = attrs.evolve(report.before, threads=report.before.threads + bounds.threads)
        report.after = settled(report, process, examiner, bounds.patience, limit)
        report.blocks = blocks, examiner.blocks()
        code = daemon.stop()
        if code != -signal.SIGTERM:
            report.complaints.append(f"the daemon has ended with {code}")
        report.complaints += [f"in the log: {entry}" for entry in unexpected(daemon.log())]
        (folder / "daemon.log").write_text(daemon.log(), encoding="utf-8")
    report.judge(bounds)
    return report


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description="A daemon under load and faults: does anything grow, or break?")
    parser.add_argument("--minutes", type=float, default=60.0, help="less than 10: with wider bounds")
    parser.add_argument("--warm-up", type=float, default=90.0, help="in seconds")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--keep", type=Path, help="a folder for the daemon's logs")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = options.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        report = soak(place, 60 * options.minutes, options.warm_up, options.seed, lambda text: print(text, flush=True))
    print("\n" + report.table())
    print("\n" + ", ".join(f"{what} {count}" for what, count in sorted(report.counts.items())))
    for complaint in report.complaints[:50]:
        print(f"WRONG: {complaint}")
    print(f"\n{len(report.complaints) or 'nothing'} wrong")
    if report.complaints:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
