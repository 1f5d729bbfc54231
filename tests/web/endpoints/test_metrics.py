"""What ``/metrics`` shows, and how it is counted: over a tree in memory, read by the library's own parser."""

import enum
import math
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from fake_pool import Bench
from http_peer import Peer, make_router, make_site, make_tree, request
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families
from route_peer import RouteSite
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from rpiserve import App
from rpiserve.commands.calls import CommandCalls
from rpiserve.core.clocks import Clocks
from rpiserve.core.metrics import Metric, Sample, Stats
from rpiserve.core.thread_bridge import Link
from rpiserve.core.threads import ThreadPool
from rpiserve.core.tokens import TokenFile
from rpiserve.daemon.config import Config
from rpiserve.data.nodes import Source
from rpiserve.data.tree import DataTree
from rpiserve.messaging.memory_bus import MemoryBus
from rpiserve.messaging.messenger import Messenger
from rpiserve.messaging.service import MessagingService
from rpiserve.polling.scheduler import Scheduler
from rpiserve.web.access.authorization import Authorizer
from rpiserve.web.endpoints.metrics import MetricsEndpoints, number_of
from rpiserve.web.server.event_stream import COMMENT_SECONDS, MOST_UNREAD, Streams
from rpiserve.web.server.request import Limits

START = 1_000_000_000.25


class Fixed:
    """A part of the daemon that has some samples."""

    def __init__(self, *samples: Sample) -> None:
        self._samples = samples

    def samples(self) -> Iterable[Sample]:
        """Return them."""
        return self._samples


@pytest.fixture
def clock() -> Clock:
    """The reactor's clock."""
    return Clock()


@pytest.fixture
def tree(clock: Clock) -> DataTree:
    """An empty tree."""
    return make_tree(clock)


def scrape(clock: Clock, tree: DataTree, *stats: Stats) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return what ``/metrics`` answers, by the name and the labels of each sample."""
    peer = Peer(make_site(clock, resource=make_router(clock, tree, stats=stats)))
    answer = peer.send(request("/metrics")).answer()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    found = {}
    names = []
    for family in text_string_to_metric_families(answer.body.decode()):
        names.append(family.name)
        assert family.documentation
        assert family.type in ("counter", "gauge")
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    assert len(names) == len(set(names)), "the samples of a metric have to stand together"
    return found


def of(stats: Stats, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of one metric, by the values of its labels."""
    return {labels: value for metric, labels, value in stats.samples() if metric.name == name}


def at(name: str, /, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the key of a sample in what `scrape` returns."""
    return name, frozenset(labels.items())


# --- the values in the tree -------------------------------------------------------------------------------------------


class Mode(enum.IntEnum):
    """A number with a name."""

    ECO = 3


def test_values(clock: Clock, tree: DataTree) -> None:
    """Each number and truth value is there, with its path and its unit; nothing else is."""
    tree.assign(("basement", "party_room"), 20.5, units="°C")
    tree.assign(
        ("kinds",),
        {
            "int": -7,
            "true": True,
            "false": False,
            "decimal": Decimal("0.125"),
            "enum": Mode.ECO,
            "tiny": 5e-324,
            "exact": 2**70,
            "text": "12",
            "none": None,
            "nan": math.nan,
            "infinity": -math.inf,
            "not a number": Decimal("NaN"),
            "list": [1],
            "time": datetime(2026, 1, 1),
            "too large": 10**400,
            "too large a decimal": Decimal("-1e400"),
            "empty": {},
        },
    )
    values = {key[1]: value for key, value in scrape(clock, tree).items() if key[0] == "rpiserve_value"}
    assert values.pop(frozenset({("path", "basement/party_room"), ("unit", "°C")})) == 20.5
    kinds = {dict(labels)["path"].removeprefix("kinds/"): value for labels, value in values.items()}
    assert kinds == {
        "int": -7,
        "true": 1,
        "false": 0,
        "decimal": 0.125,
        "enum": 3,
        "tiny": 5e-324,
        "exact": 2**70,
    }
    assert {dict(labels)["unit"] for labels in values} == {""}


def test_only_what_is_up_to_date(clock: Clock, tree: DataTree) -> None:
    """A value that is stale, or whose sensor fails, is left out, so that no graph goes on as if all were well."""
    good, failing, late = (Source(name, 10) for name in ("good", "failing", "late"))
    for source in (good, failing, late):
        tree.assign((source.name,), 1, source=source)
    tree.assign(("note",), "a text")
    tree.fail(failing, "no answer")
    clock.advance(11)
    tree.assign(("good",), 1, source=good)
    tree.age()
    shown = scrape(clock, tree)
    assert [key for key in shown if key[0] == "rpiserve_value"] == [at("rpiserve_value", path="good", unit="")]
    assert {state: shown[at("rpiserve_values", state=state)] for state in ("ok", "stale", "error")} == {
        "ok": 2,
        "stale": 1,
        "error": 1,
    }
    tree.recover(failing)
    assert at("rpiserve_value", path="failing", unit="") in scrape(clock, tree)


@pytest.mark.parametrize(
    "key", ['say "hi"', "back\\slash", "two\nlines", "a/b", "50%", "\r", "\u2028", "°", "{}", "\\n"]
)
def test_any_text_in_a_label(clock: Clock, tree: DataTree, key: str) -> None:
    """A path and a unit may hold any text, and nothing in it makes a line of its own."""
    tree.assign((key,), 1, units=key)
    path = key.replace("%", "%25").replace("/", "%2F")
    values = {key: value for key, value in scrape(clock, tree).items() if key[0] == "rpiserve_value"}
    assert values == {at("rpiserve_value", path=path, unit=key): 1}


@pytest.mark.parametrize(
    ("json", "number"),
    [(b"0", 0), (b"-1.5e3", -1500), (b"true", 1), (b"false", 0), (b"null", None), (b'"1"', None), (b"[1]", None)],
)
def test_number_of(json: bytes, number: float | None) -> None:
    """A leaf is taken by its JSON, so that what is served as a number is one here."""
    assert number_of(json) == number


# --- what the parts tell ----------------------------------------------------------------------------------------------


def test_about_itself(clock: Clock, tree: DataTree) -> None:
    """It tells what runs, since when, and how the process is; the library's own registry has nothing of ours."""
    shown = scrape(clock, tree)
    [info] = [dict(labels) for name, labels in shown if name == "rpiserve_info"]
    assert set(info) == {"service", "version", "python", "twisted"}
    assert (info["service"], info["version"]) == ("test", "0.1.0")
    assert shown[at("rpiserve_start_time_seconds")] == START
    assert shown[at("process_open_fds")] > 0
    assert shown[at("process_resident_memory_bytes")] > 0
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("rpiserve")]


def test_parts_with_the_same_metric(clock: Clock, tree: DataTree) -> None:
    """What several parts tell under one name stands together, whichever order they come in; a part may come later."""
    metric = Metric("rpiserve_test_total", "A test, with \\ and\na second line.", "counter", ("who",))
    other = Metric("rpiserve_other", "Another.", "gauge")
    one, two = Fixed(metric.sample(1, "one"), other.sample(-1.5)), Fixed(metric.sample(2, "two"))
    shown = scrape(clock, tree, one, two)
    assert (shown[at("rpiserve_test_total", who="one")], shown[at("rpiserve_test_total", who="two")]) == (1, 2)
    assert shown[at("rpiserve_other")] == -1.5
    metrics = MetricsEndpoints("test", tree, START, [one])
    metrics.add(two)
    [family] = [family for family in metrics.collect() if family.name == "rpiserve_test"]
    assert [sample.value for sample in family.samples] == [1, 2]


def test_it_is_for_reading(clock: Clock, tree: DataTree) -> None:
    """It can be asked for by ``GET`` and ``HEAD`` alone."""
    site = make_site(clock, resource=make_router(clock, tree))
    assert Peer(site).send(request("/metrics", "HEAD")).answer("HEAD").body == b""
    assert Peer(site).send(request("/metrics", "POST")).answer("POST").status == 405
    assert Peer(site).send(request("/metrics/x")).answer().status == 404


def test_handlers(logged_failures: list[LogEvent]) -> None:
    """Of each handler there are its runs, failures, missed runs, the last duration, and how it is."""
    bench, app = Bench(), App("test")

    @app.sensor("a", every=10)
    def read() -> int:
        return 1

    @app.thread("serial")
    def serial(running: Any) -> None:
        """Do nothing."""

    polling = Scheduler(app, bench.runner, make_tree(bench.clock), Clocks(bench.clock, bench.clock.seconds))

    def shown() -> dict[str, float]:
        names = ("runs_total", "failures_total", "missed_total", "duration_seconds", "failing", "stuck")
        labels = ("a", "sensor")
        found = {name: of(polling, f"rpiserve_handler_{name}") for name in names}
        return {name: samples[labels] for name, samples in found.items() if labels in samples}

    healthy = {"runs_total": 1, "failures_total": 0, "missed_total": 0, "failing": 0, "stuck": 0}
    polling.start()
    assert shown() == healthy
    bench.clock.advance(1.5)
    bench.pool.end()
    assert shown() == {**healthy, "duration_seconds": 1.5}
    bench.pool.end()  # of the thread
    assert of(polling, "rpiserve_handler_runs_total")["serial", "thread"] == 1
    bench.clock.advance(8.5)
    for _ in range(30):
        bench.clock.advance(1)
    stuck = {**healthy, "duration_seconds": 10, "runs_total": 2, "failures_total": 1, "failing": 1, "stuck": 1}
    assert shown() == stuck
    bench.pool.end()
    assert shown() == {**stuck, "stuck": 0}
    bench.clock.advance(10)
    assert shown()["missed_total"] > 0
    bench.pool.end()
    polling.stop()
    [event] = logged_failures
    assert event["text"] == "no end within 10 s"
    logged_failures.clear()


def test_commands(clock: Clock, logged_failures: list[LogEvent]) -> None:
    """The calls of commands are counted by what came of them; names that there are not are counted as one."""
    app = App("test")
    hanging: Deferred[None] = Deferred()
    app.command(name="good", reactor=True)(lambda: 1)
    app.command(name="bad", reactor=True)(lambda: 1 / 0)
    app.command(name="unservable", reactor=True)(lambda: object())
    app.command(name="picky", reactor=True)(_picky)
    app.command(name="slow", reactor=True, timeout=5)(lambda: hanging)
    calls = CommandCalls(app.commands, clock, lambda function, *arguments: function(*arguments), 1)  # type: ignore[arg-type]
    failures: list[Any] = []

    def call(name: str, **arguments: object) -> None:
        try:
            calls.call(name, arguments).addErrback(failures.append)
        except Exception as error:  # noqa: BLE001 - it is looked at by its metric
            failures.append(error)

    for name in ("good", "good", "bad", "unservable", "picky", "slow", "no such", "no such either"):
        call(name)
    call("picky", number="x")
    assert of(calls, "rpiserve_commands_active") == {(): 1}
    clock.advance(5)
    assert of(calls, "rpiserve_commands_total") == {
        ("good", "success"): 2,
        ("bad", "error"): 1,
        ("unservable", "error"): 1,
        ("picky", "invalid"): 2,
        ("slow", "timeout"): 1,
        ("", "unknown"): 2,
    }
    assert of(calls, "rpiserve_commands_active") == {(): 0}
    assert set(of(calls, "rpiserve_threads")) == {("rpiserve-command",), ("rpiserve-concurrent",)}
    logged_failures.clear()


def _picky(number: int) -> int:
    return number


def test_commands_that_are_too_many(clock: Clock) -> None:
    """A call too many is counted as busy, and one that is given up as cancelled."""
    app = App("test")
    hanging: list[Deferred[None]] = []

    def slow() -> Deferred[None]:
        hanging.append(Deferred())
        return hanging[-1]

    app.command(name="slow", reactor=True, concurrent=True)(slow)
    calls = CommandCalls(app.commands, clock, lambda function, *arguments: function(*arguments), 1)  # type: ignore[arg-type]
    answers = [calls.call("slow", {}).addErrback(lambda failure: None) for _ in range(128)]
    with pytest.raises(Exception, match="under way already"):
        calls.call("slow", {})
    calls.cancel_asynchronous()
    assert len(answers) == 128
    assert of(calls, "rpiserve_commands_total") == {("slow", "busy"): 1, ("slow", "cancelled"): 128}


def test_messages(logged_failures: list[LogEvent]) -> None:
    """Messages are counted, requests by their action and what they were answered, and the bus tells how it is."""
    bench, app = Bench(), App("test")
    app.action("good", reactor=True)(lambda: 1)
    app.action("bad", reactor=True)(lambda: 1 / 0)
    app.listen("news", reactor=True)(_fail)
    bus = MemoryBus(bench.clock, bench.clock.seconds)  # type: ignore[arg-type]
    link: Link[Messenger] = Link("the bus")
    messaging = MessagingService("test", app.actions, app.listeners, bus, bench.runner, link)
    bench.runner.pool = ThreadPool("rpiserve-message", 1)
    messaging.start()
    bench.clock.advance(0)
    assert of(messaging, "rpiserve_bus_connected") == {("memory", "the embedded bus"): 1}
    for channel, message in (
        ("test", b'{"action": "good", "request_id": "1"}'),
        ("test", b'{"action": "good"}'),
        ("test", b'{"action": "bad", "request_id": "2"}'),
        ("test", b'{"action": "no such", "request_id": "3"}'),
        ("test", b"broken"),
        ("news", b"{}"),
    ):
        bus.publish(channel, message)
    bench.clock.advance(0)
    assert of(messaging, "rpiserve_actions_total") == {
        ("good", "success"): 2,
        ("bad", "handler_error"): 1,
        ("", "unknown_action"): 1,
    }
    counted = {
        metric.name: value for metric, _, value in messaging.samples() if metric.name.startswith("rpiserve_mess")
    }
    assert counted == {
        "rpiserve_messages_received_total": 6,
        "rpiserve_messages_broken_total": 1,
        "rpiserve_messages_dropped_total": 0,
        "rpiserve_messages_active": 0,
    }
    assert of(messaging, "rpiserve_replies_unsent_total") == {(): 0}
    assert of(messaging, "rpiserve_listener_failures_total") == {(): 1}
    assert set(of(messaging, "rpiserve_threads")) == {("rpiserve-message",)}
    messaging.stop()
    messaging.close()
    bench.clock.advance(10)
    logged_failures.clear()


def _fail() -> None:
    raise ValueError


def test_threads() -> None:
    """Of a pool there are its threads, those that hang, and the calls that wait for one."""
    started: list[Any] = []
    pool = ThreadPool("pool", 1, lambda name, work: started.append(work), idle_seconds=0)

    def shown() -> list[float]:
        return [of(pool, f"rpiserve_threads{kind}")["pool",] for kind in ("", "_stuck", "_queued")]

    assert shown() == [0, 0, 0]
    seen: list[list[float]] = []

    def hang() -> None:
        pool.give_up(job)
        seen.append(shown())

    job = pool.submit(hang)
    pool.submit(lambda: seen.append(shown()))
    assert shown() == [1, 0, 2]
    while started:
        started.pop(0)()
    assert seen == [[2, 1, 1], [1, 0, 0]]
    assert shown() == [0, 0, 0]


# --- HTTP -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def app() -> App:
    """An app with routes of its own."""
    app = App("test")
    app.route("/pins/<int:pin>", methods=["GET", "PUT"], reactor=True)(lambda pin: pin)
    app.route("/teapot", reactor=True)(lambda: ("short and stout", 418))
    app.route("/large", reactor=True)(lambda: "x" * 200_000)
    return app


@pytest.fixture
def house(app: App) -> Iterator[RouteSite]:
    """A site with these routes."""
    site = RouteSite(app, limits=Limits(body=100, connections=2))
    yield site
    for call in site.clock.getDelayedCalls():
        call.cancel()


def answers(site: RouteSite) -> dict[str, float]:
    """Return how many requests were answered, by the route, the method and the status."""
    return {" ".join(labels): count for labels, count in of(site.site, "rpiserve_http_requests_total").items()}


def test_requests_by_route(house: RouteSite) -> None:
    """A request is counted by its route as it is declared, its method and the status, whatever the client's path is."""
    for target, method in (
        ("/data", "GET"),
        ("/data/a/b", "GET"),
        ("/data/a/c", "GET"),
        ("/data", "HEAD"),
        ("/data", "DELETE"),
        ("/data", "OPTIONS"),
        ("/health", "GET"),
        ("/actions/x", "POST"),
        ("/services/a/b", "POST"),
        ("/services", "GET"),
        ("/", "GET"),
        ("/pins/1", "GET"),
        ("/pins/2", "PUT"),
        ("/pins/2", "DELETE"),
        ("/pins/x", "GET"),
        ("/large", "GET"),
        ("/teapot", "GET"),
        ("/nowhere", "GET"),
        ("/nowhere/else", "GET"),
    ):
        house.ask(target, method, *(["Content-Type: application/json"] if method in ("POST", "PUT") else []), body=b"")
    assert answers(house) == {
        "/data GET 200": 1,
        "/data GET 404": 2,
        "/data HEAD 200": 1,
        "/data DELETE 405": 1,
        "/data OPTIONS 204": 1,
        "/health GET 200": 1,
        "/actions POST 404": 1,
        "/services POST 503": 1,
        "/services GET 200": 1,
        "/ GET 404": 1,
        "/pins/<int:pin> GET 200": 1,
        "/pins/<int:pin> PUT 200": 1,
        "/large GET 200": 1,
        "/teapot GET 418": 1,
        "none DELETE 405": 1,
        "none GET 404": 3,
    }


def test_requests_that_are_refused(house: RouteSite) -> None:
    """What is refused before it has a route is counted, too."""
    house.ask("/data", host="evil.example")
    house.ask("/data", host="a b")
    house.ask("/%FF")
    house.ask("/cmd", "POST", "Content-Length: 101")
    Peer(house.site).send(b"nonsense\r\n\r\n")
    slow = Peer(house.site).send(b"GET /data HTTP/1.1\r\n")
    house.clock.advance(Config().limits.header_seconds)
    assert slow.answer().status == 408
    assert answers(house) == {
        "none GET 421": 2,
        "none GET 400": 1,
        "none other 413": 1,
        "none other 400": 1,
        "none other 408": 1,
    }


def test_few_series(house: RouteSite) -> None:
    """Whatever clients send, there are not ever more series."""
    for number in range(50):
        for target in (f"/data/{number}", f"/{number}", f"/pins/{number}", f"/actions/{number}"):
            house.ask(target, f"M{number}")
    assert set(answers(house)) == {"/data other 405", "none other 404", "none other 405", "/actions other 405"}


def test_each_request_of_a_connection(house: RouteSite) -> None:
    """Of pipelined requests each is counted as what it is, and one that is not answered is not."""
    Peer(house.site).send(request("/health") + request("/pins/1") + request("/nowhere") + b"GET /da")
    assert answers(house) == {"/health GET 200": 1, "/pins/<int:pin> GET 200": 1, "none GET 404": 1}


def test_connections(house: RouteSite) -> None:
    """There are as many connections as there are, and those that had to go are counted."""
    peers = [Peer(house.site) for _ in range(2)]
    assert of(house.site, "rpiserve_http_connections") == {(): 2}
    assert of(house.site, "rpiserve_http_connections_refused_total") == {(): 0}
    peers.append(Peer(house.site))
    house.clock.advance(0)
    assert of(house.site, "rpiserve_http_connections") == {(): 2}
    assert of(house.site, "rpiserve_http_connections_refused_total") == {(): 1}
    for peer in peers:
        peer.leave()
    assert of(house.site, "rpiserve_http_connections") == {(): 0}


def test_who_was_not_let_in(clock: Clock, tmp_path: Any) -> None:
    """Who was not let in is counted by the reason."""
    file = TokenFile(tmp_path / "tokens", clock.seconds)
    access = Authorizer(file, False, clock)  # type: ignore[arg-type]
    access.counts["wrong"] = 3
    assert of(access, "rpiserve_http_denied_total") == {
        ("refused",): 0,
        ("wrong",): 3,
        ("role",): 0,
        ("throttled",): 0,
    }


def test_streams(clock: Clock) -> None:
    """There are as many streams as are open; those that were begun, and those that were cut off, are counted."""
    streams = Streams(clock)  # type: ignore[arg-type]
    site = make_site(clock, resource=make_router(clock, streams=streams))

    def shown() -> list[float]:
        return [of(streams, f"rpiserve_event_streams{kind}")[()] for kind in ("", "_opened_total", "_dropped_total")]

    assert shown() == [0, 0, 0]
    reader, sluggard = Peer(site), Peer(site, reads=False)
    for peer in (reader, sluggard):
        peer.send(request("/events"))
    assert shown() == [2, 2, 0]
    reader.leave()
    assert shown() == [1, 2, 0]
    for stream in list(streams._streams):
        stream.write(b"x" * MOST_UNREAD)
        stream.write(b"x" * MOST_UNREAD * 2)
    assert shown() == [0, 2, 1]
    clock.advance(COMMENT_SECONDS)
    for call in clock.getDelayedCalls():
        call.cancel()
