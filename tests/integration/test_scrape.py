"""``/metrics`` of a real daemon after all kinds of things have happened, and what a blocked reactor leaves behind."""

import http.client
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from daemon import PATIENCE, Daemon, running_daemon, until
from prometheus_client.parser import text_string_to_metric_families

from rpiserve.core.tokens import TokenFile

SOURCE = """
import time
from rpiserve import App

app = App("greenhouse")


@app.sensor("attic", every=0.2, unit="°C")
def attic():
    return 21.5


@app.sensor("cellar", every=3600)
def cellar():
    raise OSError("no such device")


@app.command
def water(zone: int) -> int:
    return zone


@app.action("get_status")
def get_status():
    return {"status": "healthy"}


@app.route("/pins/<int:pin>")
def pin(pin):
    return pin


@app.listen("news")
def heard(payload):
    pass
"""

HOG = """
import time
from rpiserve import App

app = App("test")


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@app.command
async def hog(seconds: float = 1.5) -> None:
    spin(seconds)


@app.command
def slow() -> None:
    spin(3)
"""

SHOWN = {
    "rpiserve_info",
    "rpiserve_start_time_seconds",
    "rpiserve_value",
    "rpiserve_values",
    "rpiserve_handler_runs_total",
    "rpiserve_handler_failures_total",
    "rpiserve_handler_missed_total",
    "rpiserve_handler_duration_seconds",
    "rpiserve_handler_failing",
    "rpiserve_handler_stuck",
    "rpiserve_commands_total",
    "rpiserve_commands_active",
    "rpiserve_actions_total",
    "rpiserve_messages_received_total",
    "rpiserve_messages_broken_total",
    "rpiserve_messages_dropped_total",
    "rpiserve_messages_active",
    "rpiserve_replies_unsent_total",
    "rpiserve_listener_failures_total",
    "rpiserve_bus_connected",
    "rpiserve_http_requests_total",
    "rpiserve_http_connections",
    "rpiserve_http_connections_refused_total",
    "rpiserve_http_denied_total",
    "rpiserve_event_streams",
    "rpiserve_event_streams_opened_total",
    "rpiserve_event_streams_dropped_total",
    "rpiserve_threads",
    "rpiserve_threads_stuck",
    "rpiserve_threads_queued",
    "rpiserve_reactor_lag_seconds",
    "rpiserve_reactor_lag_max_seconds",
    "rpiserve_reactor_blocked_total",
    "rpiserve_reactor_blocked_seconds_total",
    "rpiserve_log_lost_total",
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
}
"""All that there is. `docs/metrics.md` tells of each."""

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Client:
    """Asks a daemon, on a connection of its own each time.

    Args:
        daemon: the daemon.
        secret: the token that it shows.
    """

    def __init__(self, daemon: Daemon, secret: str = "") -> None:
        self._daemon = daemon
        self._headers = {"Authorization": f"Bearer {secret}"} if secret else {}

    @contextmanager
    def asking(
        self, target: str, method: str = "GET", body: str | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request, and bring the answer as it begins."""
        connection = http.client.HTTPConnection(self._daemon.host, self._daemon.port, timeout=PATIENCE)
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, target, body, {**self._headers, **headers})
        try:
            yield connection.getresponse()
        finally:
            connection.close()

    def ask(self, target: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, str]:
        """Send a request, and return the status and the body of the answer."""
        with self.asking(target, method, body, **headers) as answer:
            return answer.status, answer.read().decode()

    def scrape(self) -> Samples:
        """Return what ``/metrics`` shows, by the name and the labels of each sample."""
        status, text = self.ask("/metrics")
        assert status == 200
        check_lines(text)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def check_lines(text: str) -> None:
    """Check what ``promtool check metrics`` looks for: the help and type of each metric, and its name."""
    helps, types = re.findall(r"^# HELP (\S+) .", text, re.M), re.findall(r"^# TYPE (\S+) (\w+)$", text, re.M)
    assert helps == [name for name, _ in types]
    assert len(set(helps)) == len(helps)
    for name, kind in types:
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", name)
        assert name.endswith("_total") == (kind == "counter")
        assert not re.search(r"(_count|_sum|_bucket|_gauge|_counter|_milliseconds|_kilobytes)(_|$)", name)
    named = set(re.findall(r"^([a-z_]+)[{ ]", text, re.M))
    assert named <= set(helps)
    assert text.endswith("\n")


def at(name: str, /, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the key of a sample."""
    return f"rpiserve_{name}", frozenset(labels.items())


def test_all_that_is_promised(tmp_path: Path) -> None:
    """After something of each kind has happened each promised metric is there, tells of it, and all can be parsed."""
    tokens = tmp_path / "tokens"
    reader = TokenFile(tokens, lambda: 0.0).add("prometheus", "read")
    owner = TokenFile(tokens, lambda: 0.0).add("me", "control")
    with running_daemon(tmp_path, SOURCE + HOG.partition("\n\n\n")[2], "--token-file", str(tokens)) as daemon:
        me, prometheus, stranger = Client(daemon, owner), Client(daemon, reader), Client(daemon)
        assert me.ask("/cmd?name=water&zone=3") == (200, "3")
        assert me.ask("/cmd?name=water&zone=x")[0] == 422
        assert me.ask("/actions/get_status", "POST", "{}")[0] == 200
        assert me.ask("/services/greenhouse/get_status", "POST", "{}")[0] == 200
        assert me.ask("/broadcasts/news", "POST", "{}")[0] == 200
        assert me.ask("/pins/17") == (200, "17")
        assert me.ask("/pins/18") == (200, "18")
        assert me.ask("/nowhere")[0] == 404
        assert me.ask("/data", Host="evil.example")[0] == 421
        assert stranger.ask("/data")[0] == 401
        assert stranger.ask("/metrics")[0] == 401
        assert Client(daemon, "wrong").ask("/data")[0] == 401
        assert me.ask("/cmd?name=hog")[0] == 200
        until(lambda: prometheus.scrape().get(at("handler_runs_total", name="attic", kind="sensor"), 0) > 2)
        with me.asking("/events"):
            shown = prometheus.scrape()
            assert shown[at("event_streams")] == 1
        until(lambda: prometheus.scrape()[at("event_streams")] == 0)
        assert {name for name, _ in shown} == SHOWN
        assert shown[at("value", path="attic", unit="°C")] == 21.5
        assert shown[at("handler_failures_total", name="cellar", kind="sensor")] == 1
        assert shown[at("handler_failing", name="cellar", kind="sensor")] == 1
        assert shown[at("commands_total", name="water", outcome="success")] == 1
        assert shown[at("commands_total", name="water", outcome="invalid")] == 1
        assert shown[at("actions_total", name="get_status", outcome="success")] == 2
        assert shown[at("bus_connected", kind="memory", bus="the embedded bus")] == 1
        assert shown[at("messages_received_total")] >= 2
        assert shown[at("http_requests_total", route="/pins/<int:pin>", method="GET", status="200")] == 2
        assert shown[at("http_requests_total", route="none", method="GET", status="404")] == 1
        assert shown[at("http_requests_total", route="none", method="GET", status="421")] == 1
        assert shown[at("http_requests_total", route="/data", method="GET", status="401")] == 2
        assert shown[at("http_requests_total", route="/events", method="GET", status="200")] == 1
        assert shown[at("http_denied_total", reason="refused")] == 2
        assert shown[at("http_denied_total", reason="wrong")] == 1
        assert shown[at("http_connections")] >= 2
        assert shown[at("reactor_blocked_total", name="hog")] == 1
        assert shown[at("reactor_blocked_seconds_total", name="hog")] > 1
        assert shown[at("start_time_seconds")] <= time.time()


def test_whoever_blocks_the_reactor_is_named(tmp_path: Path) -> None:
    """An ``async def`` that blocks is named in the log with its stack, and by `/ready`; a plain ``def`` is not."""
    with running_daemon(tmp_path, HOG) as daemon:
        client = Client(daemon)
        with client.asking("/cmd?name=slow") as answer:
            assert answer.status == 200
        assert not re.search(r"(is|was) blocked", daemon.log())
        with client.asking("/cmd?name=hog"):
            pass
        status, text = client.ask("/ready")
        assert status == 503
        assert re.search(r'"reactor":{"ready":false,"reasons":\["the reactor was blocked for .* by hog"\]}', text)
        daemon.wait_for(r"the reactor goes on, after [\d.]+ s; it was blocked by hog")
        log = daemon.log()
        assert len(re.findall(r"the reactor is blocked, for [\d.]+ s so far, by hog;", log)) == 1
        assert re.search(r"in hog\s+spin\(seconds\)", log)
        assert re.search(r"in spin\s+(while time|pass)", log)
        assert "by slow" not in log


def test_it_is_in_the_log_while_the_reactor_is_blocked(tmp_path: Path) -> None:
    """A handler that never comes back is named all the same, and the process can still be ended."""
    with running_daemon(tmp_path, HOG, "--stop-timeout", "1") as daemon:
        connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
        connection.request("GET", "/cmd?name=hog&seconds=3600")
        daemon.wait_for(r"the reactor is blocked, for [\d.]+ s so far, by hog;")
        assert daemon.stop() == 1
        connection.close()


def test_a_process_that_was_stopped(tmp_path: Path) -> None:
    """Nobody is blamed for a process that was stopped and goes on."""
    with running_daemon(tmp_path, HOG) as daemon:
        assert Client(daemon).ask("/health")[0] == 200  # it runs
        daemon.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        until(lambda: time.monotonic() > stopped + 3)
        daemon.process.send_signal(signal.SIGCONT)
        daemon.wait_for("the reactor was held up for .*, and nobody was seen doing it")
        assert Client(daemon).ask("/ready")[0] == 200
        assert not re.search(r"(is|was) blocked", daemon.log())


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_documentation(name: str) -> None:
    """Each metric stands in the documentation."""
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert f"`{name}" in text
