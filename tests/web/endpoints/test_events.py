"""``GET /events`` in memory: what comes when, to whom, and what becomes of it when something goes wrong."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import msgspec
import pytest
from http_peer import NO_MESSAGING, Peer, make_admission, make_router, make_site, make_tree, request
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from rpiserve.client.event_parser import EventParser
from rpiserve.core.handler_status import HandlerStatus
from rpiserve.data.nodes import Source
from rpiserve.data.paths import parse_path
from rpiserve.data.tree import DataTree
from rpiserve.declare.cors import CorsPolicy
from rpiserve.web.endpoints.events import MOST_KEPT, SENSOR_TICKS, TICK_SECONDS, EventEndpoints
from rpiserve.web.endpoints.handler_status import status_object
from rpiserve.web.server.event_stream import COMMENT_SECONDS, MOST_UNREAD, Streams


class Handlers:
    """Handlers, whose states a test sets.

    Attributes:
        current: how they are.
        failure: what asking them raises, if anything.
        asked: how often they were asked.
    """

    def __init__(self) -> None:
        self.current: list[HandlerStatus] = []
        self.failure: Exception | None = None
        self.asked = 0

    def statuses(self) -> list[HandlerStatus]:
        """Return how they are."""
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return list(self.current)


class Messaging:
    """A bus that a test sends on.

    Attributes:
        receivers: who hears what.
    """

    def __init__(self) -> None:
        self.receivers: dict[Callable[[str, bytes], object], tuple[str, ...]] = {}

    def hear(self, channels: tuple[str, ...], receiver: Callable[[str, bytes], object]) -> Callable[[], None]:
        """Have ``receiver`` hear."""
        self.receivers[receiver] = channels

        def deaf() -> None:
            del self.receivers[receiver]

        return deaf

    def send(self, channel: str, message: bytes) -> None:
        """Send a message to all who hear anything."""
        for receiver in list(self.receivers):
            receiver(channel, message)

    def __getattr__(self, name: str) -> Any:
        return getattr(NO_MESSAGING, name)


class Stream:
    """A client with a stream of events.

    Attributes:
        peer: its connection.
        events: all events so far, as types and what their data say.
        leaves: what it holds by them.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._seen = 0
        self.leaves: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """All that has come, without what HTTP puts around it."""
        head, _, rest = self.peer.received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        body = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return body.decode()

    @property
    def id(self) -> str:
        """The last id."""
        return self.text.rpartition("\nid: ")[2].partition("\n")[0]

    @property
    def events(self) -> list[tuple[str, Any]]:
        """All events so far."""
        return [(event.name, msgspec.json.decode(event.data)) for event in EventParser().feed(self.text.encode())]

    def news(self) -> list[tuple[str, Any]]:
        """Return the events since the last call."""
        events = self.events
        seen, self._seen = self._seen, len(events)
        for name, data in events[seen:]:
            if name == "snapshot":
                self.leaves = dict(data)
            elif name == "change":
                for path in data["removed"]:
                    self.leaves.pop(path, None)
                self.leaves.update(data["changed"])
        return events[seen:]


@attrs.define
class Daemon:
    """All that a daemon has for its streams."""

    clock: Clock
    tree: DataTree
    handlers: Handlers
    messaging: Messaging
    streams: Streams
    routes: EventEndpoints
    site: Any

    def ask(self, query: str = "", *headers: str, method: str = "GET", reads: bool = True) -> Peer:
        """Ask for a stream, and return the connection."""
        return Peer(self.site, reads=reads).send(request(f"/events{query}", method, *headers))

    def stream(self, query: str = "", last: str | None = None) -> Stream:
        """Return a stream."""
        return Stream(self.ask(query, *([] if last is None else [f"Last-Event-ID: {last}"])))

    def set(self, values: Mapping[str, Any], source: Source | None = None) -> None:
        """Write values by their paths."""
        for path, value in values.items():
            self.tree.assign(parse_path(path), value, source=source)

    def remove(self, *paths: str) -> None:
        """Remove what is at paths."""
        for path in paths:
            self.tree.remove(parse_path(path))

    def tick(self, count: int = 1) -> None:
        """Let ticks pass."""
        for _ in range(count):
            self.clock.advance(TICK_SECONDS + 1e-9)  # ten tenths are a little less than one

    def data(self) -> Any:
        """Return what ``/data`` serves."""
        return Peer(self.site).send(request("/data")).answer().json()


def make_daemon(most: int = 3, cors: CorsPolicy | None = None, boot: DataTree | None = None) -> Daemon:
    """Return a daemon with room for ``most`` streams."""
    clock = Clock()
    tree = boot or make_tree(clock)
    handlers, messaging = Handlers(), Messaging()
    streams = Streams(clock, most)  # type: ignore[arg-type]
    events = EventEndpoints(tree, handlers, messaging, streams, clock)  # type: ignore[arg-type]
    admission = make_admission(clock, cors=cors)
    router = make_router(clock, tree, admission=admission, handlers=handlers, events=events)
    site = make_site(clock, resource=router, admission=admission)
    return Daemon(clock, tree, handlers, messaging, streams, events, site)


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon; when all streams have ended it has nothing left to do."""
    daemon = make_daemon()
    yield daemon
    daemon.streams.close()
    for _ in range(2):
        daemon.clock.advance(0)
    assert len(daemon.streams) == 0
    assert not daemon.messaging.receivers
    asked = daemon.handlers.asked
    daemon.clock.advance(60)
    assert daemon.handlers.asked == asked


# --- what comes -------------------------------------------------------------------------------------------------------


def test_wire_format(daemon: Daemon) -> None:
    """A snapshot, then what has changed with each tick: one line of data each, the revision as id."""
    daemon.set({"a/b": 1, "a/c": "x", "d": {}})
    stream = daemon.stream()
    daemon.set({"a/b": 2, "d/e": None})
    daemon.remove("a/c")
    daemon.tick()
    assert stream.text == (
        "retry: 1000\n\n"
        'id: boot-3\nevent: snapshot\ndata: {"a/b":1,"a/c":"x","d":{}}\n\n'
        'id: boot-6\nevent: change\ndata: {"changed":{"a/b":2,"d/e":null},"removed":["a/c","d"]}\n\n'
    )


def test_empty_tree(daemon: Daemon) -> None:
    """A daemon without values tells so, and then of the first one."""
    stream = daemon.stream()
    assert stream.news() == [("snapshot", {})]
    daemon.set({"a": 1})
    daemon.tick()
    assert stream.news() == [("change", {"changed": {"a": 1}, "removed": []})]


def test_ticks(daemon: Daemon) -> None:
    """All that changes within a tick is one event with the last value of each leaf; a tick without changes is none."""
    stream = daemon.stream()
    stream.news()
    for number in range(100):
        daemon.set({"a": number, f"b/{number % 3}": number})
    daemon.tick()
    assert stream.news() == [("change", {"changed": {"a": 99, "b/0": 99, "b/1": 97, "b/2": 98}, "removed": []})]
    daemon.tick(50)
    daemon.set({"a": 99})  # the same
    daemon.tick()
    assert stream.news() == []


def test_batch_is_one_event(daemon: Daemon) -> None:
    """What is written in one batch comes in one event."""
    stream = daemon.stream()
    stream.news()
    with daemon.tree.batch():
        daemon.set({"a": 1})
        daemon.set({"b": 2})
    daemon.tick()
    assert stream.news() == [("change", {"changed": {"a": 1, "b": 2}, "removed": []})]


def test_a_newcomer_changes_no_ticks(daemon: Daemon) -> None:
    """Who comes between two ticks begins with the last one; nobody else hears anything before the next."""
    first = daemon.stream()
    first.news()
    daemon.set({"a": 1})
    second = daemon.stream()
    assert second.news() == [("snapshot", {})]
    assert first.news() == []
    daemon.tick()
    assert first.news() == second.news() == [("change", {"changed": {"a": 1}, "removed": []})]
    assert first.id == second.id


ODD = {
    "line\nbreak": "a\nb\r\nc\rd",
    "separators \u2028 \u2029 \x85": "\u2028\u2029\x85\x0b\x0c\x1c\x00",
    "data: {}\n\nid: boot-9": "\n\nevent: snapshot\ndata: {}\n\n",
    "a%2Fb%25": "%2F",
    "ü 🌡 \u202e": ":",
    " ": [1, "\n"],
    "\ufeff": "\ufeff",
    ":": {},
}


def test_odd_characters(daemon: Daemon) -> None:
    """Whatever keys and values have in them, an event has one line of data, and the paths are those of the tree."""
    daemon.set({"x": 0})
    stream = daemon.stream()
    daemon.set(ODD)
    daemon.tick()
    snapshot = daemon.stream()
    stream.news()
    expected = {"x": 0, **ODD}
    assert snapshot.news() == [("snapshot", expected)]
    assert stream.leaves == expected
    assert stream.text.count("\nid: ") == 2
    daemon.remove(*ODD)
    daemon.tick()
    stream.news()
    assert stream.leaves == {"x": 0}


# --- what a client asks for -------------------------------------------------------------------------------------------


def test_paths(daemon: Daemon) -> None:
    """A client hears of what is at or below the paths that it names, now or later there; ids go on for all."""
    daemon.set({"a/b": 1, "a/bc": 2, "d": 3, "e/f/g": 4, "%25": 5})
    stream = daemon.stream("?path=a/b&path=e&path=later&path=e/f&path=%2525")
    assert stream.news() == [("snapshot", {"a/b": 1, "e/f/g": 4, "%25": 5})]
    daemon.set({"a/bc": 9, "d": 9})
    daemon.tick()
    assert stream.news() == []
    daemon.set({"a/b": {"x": 1}, "later": 6})
    daemon.remove("e")
    daemon.tick()
    assert stream.news() == [("change", {"changed": {"a/b/x": 1, "later": 6}, "removed": ["a/b", "e/f/g"]})]
    daemon.remove("a")
    daemon.tick()
    assert stream.news() == [("change", {"changed": {}, "removed": ["a/b/x"]})]


def test_path_above(daemon: Daemon) -> None:
    """When what stands above a path becomes a value, what was below it is gone."""
    daemon.set({"a/b/c": 1})
    stream = daemon.stream("?path=a/b")
    stream.news()
    daemon.set({"a": 5})
    daemon.tick()
    assert stream.news() == [("change", {"changed": {}, "removed": ["a/b/c"]})]


def test_meta(daemon: Daemon) -> None:
    """With meta=1 each leaf is what /data?meta=1 shows; a value that was only set again is told, for its age."""
    source = Source("slow", 5.0)
    daemon.set({"a": 1}, source)
    daemon.set({"b": {}})
    daemon.clock.advance(2)
    stream, bare = daemon.stream("?meta=1"), daemon.stream()
    meta = {"value": 1, "unit": None, "time": "2001-09-09T01:46:40.250Z", "age": 2.0, "state": "ok", "error": None}
    empty = {"value": {}, "unit": None, "time": None, "age": 0.0, "state": "ok", "error": None}
    assert stream.news() == [("snapshot", {"a": meta, "b": empty})]
    assert bare.news() == [("snapshot", {"a": 1, "b": {}})]
    daemon.set({"a": 1}, source)
    daemon.tick()
    ((name, data),) = stream.news()
    assert (name, data["changed"]["a"]["time"]) == ("change", "2001-09-09T01:46:42.250Z")
    assert 0 < data["changed"]["a"]["age"] <= TICK_SECONDS
    assert bare.news() == []
    daemon.tree.fail(source, "no answer")
    daemon.tick()
    ((_, data),) = stream.news()
    assert (data["changed"]["a"]["state"], data["changed"]["a"]["error"]) == ("error", "no answer")
    assert bare.news() == [("change", {"changed": {"a": 1}, "removed": []})]


def test_meta_ages_are_of_the_moment(daemon: Daemon) -> None:
    """Two who come one after the other are told the ages of their own moments, and values alone do not age."""
    daemon.set({"a": 1})
    daemon.stream("?meta=1")
    daemon.clock.advance(3)
    ((_, data),) = daemon.stream("?meta=1").news()
    assert data["a"]["age"] == 3


def test_types(daemon: Daemon) -> None:
    """A client hears of the types that it names, and by default of all, of broadcasts if it names a channel."""
    daemon.handlers.current = [status("slow")]
    sensor = told("slow")
    assert daemon.stream().news() == [("snapshot", {}), sensor]
    assert daemon.stream("?types=sensor").news() == [sensor]
    only = daemon.stream("?types=change&types=broadcast&channel=a")
    assert only.news() == [("snapshot", {})]
    daemon.messaging.send("a", b"{}")
    daemon.handlers.current = [status("slow", state="error")]
    daemon.tick(SENSOR_TICKS)
    assert only.news() == [("broadcast", {"channel": "a", "payload": {}})]


def test_default_with_channels(daemon: Daemon) -> None:
    """Who names channels and no types hears of everything, each broadcast when it is sent."""
    stream = daemon.stream("?channel=a&channel=b.*")
    assert list(daemon.messaging.receivers.values()) == [("a", "b.*")]
    stream.news()
    daemon.set({"x": 1})
    daemon.messaging.send("a", b'{"t":"\xe2\x80\xa8",\n"n":1}')
    for broken in (b"[]", b"", b"\xff", b"{", b"[" * 100_000):
        daemon.messaging.send("a", broken)
    daemon.tick()
    assert [name for name, _ in stream.news()] == ["broadcast", "change"]


def test_requests_and_replies_are_not_told(daemon: Daemon) -> None:
    """A pattern that matches the channels of services and of their callers tells nothing of what is between the two."""
    stream = daemon.stream("?types=broadcast&channel=*")
    daemon.messaging.send(
        "door", b'{"action":"open","payload":{"code":1234},"request_id":"1","reply_to":"me.replies.1"}'
    )
    daemon.messaging.send("me.replies.1", b'{"status":"success","payload":{"code":5678},"request_id":"1","final":true}')
    assert stream.news() == []
    for broadcast in ({"request_id": 7}, {"action": "open", "status": "on"}):
        daemon.messaging.send("a", msgspec.json.encode(broadcast))
        assert stream.news() == [("broadcast", {"channel": "a", "payload": broadcast})]


@pytest.mark.parametrize("query", ["?types=change,sensor", "?types=change&types=sensor", "?types=sensor,change,sensor"])
def test_types_are_listed_in_any_way(daemon: Daemon, query: str) -> None:
    """Types are separated by commas or given one by one."""
    daemon.handlers.current = [status("slow")]
    assert len(daemon.stream(query).news()) == 2


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?types=", "there is no type ''"),
        ("?types=change,", "there is no type ''"),
        ("?types=snapshot", "there is no type 'snapshot'"),
        ("?types=Change", "there is no type 'Change'"),
        (f"?types={'x' * 500}", "there is no type 'xxx"),
        ("?types=broadcast", "go together"),
        ("?types=sensor&channel=a", "go together"),
        ("?meta=yes", "meta is 0 or 1"),
        ("?meta=", "meta is 0 or 1"),
        ("?path=/a", "cannot be a key"),
        ("?path=a//b", "cannot be a key"),
        ("?path=a/", "cannot be a key"),
        ("?path=..", "cannot be a key"),
        ("?path=%00", "NUL"),
        ("?path=%FF", "UTF-8"),
        ("?path=" + "a/" * 100 + "a", "deeper"),
        ("?" + "&".join(f"path={number}" for number in range(17)), "16 paths"),
        ("?" + "&".join(f"channel={number}" for number in range(17)), "16 paths"),
        ("?channel=", "channel"),
        ("?" + "&".join(f"x={number}" for number in range(2000)), "fields"),
    ],
    ids=lambda value: value[:20],
)
def test_bad_queries(daemon: Daemon, query: str, detail: str) -> None:
    """What there is no stream of is refused with what is wrong, and takes no room."""
    answer = daemon.ask(query).answer()
    assert answer.status == 400
    assert detail in answer.json()["detail"]
    assert len(daemon.streams) == 0
    assert not daemon.messaging.receivers


def test_same_path_again_counts_once(daemon: Daemon) -> None:
    """A path that is named twice counts once, and the empty one is the whole tree."""
    daemon.set({"a": 1, "b": 2})
    assert daemon.stream("?" + "path=a&" * 30).news() == [("snapshot", {"a": 1})]
    assert daemon.stream("?path=&path=a").news() == [("snapshot", {"a": 1, "b": 2})]


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
def test_other_methods(daemon: Daemon, method: str) -> None:
    """A stream is a GET."""
    answer = daemon.ask(method=method).answer(method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, OPTIONS")


# --- coming again -----------------------------------------------------------------------------------------------------


def test_resume(daemon: Daemon) -> None:
    """Who names what it had last is told what is newer: the latest of each leaf, and what is gone."""
    daemon.set({"a": 1, "b": 1, "c": 1})
    stream, other = daemon.stream(), daemon.stream()
    stream.news()
    stream.peer.leave()
    for number in range(5):
        daemon.set({"a": number, "d": number})
        daemon.tick()
    daemon.remove("b")
    daemon.tick()
    again = daemon.stream(last=stream.id)
    assert again.news() == [("change", {"changed": {"a": 4, "d": 4}, "removed": ["b"]})]
    assert again.id == other.id


def test_resume_while_nobody_was_there(daemon: Daemon) -> None:
    """It is the same if nobody has followed meanwhile."""
    daemon.set({"a": 1, "b": 1})
    stream = daemon.stream()
    stream.peer.leave()
    daemon.set({"a": 2})
    daemon.remove("b")
    daemon.tick(20)
    assert daemon.stream(last=stream.id).news() == [("change", {"changed": {"a": 2}, "removed": ["b"]})]


def test_resume_without_news(daemon: Daemon) -> None:
    """Who has missed nothing is told so, with the same id; who has missed nothing of its own, with the new one."""
    daemon.set({"a": 1})
    stream = daemon.stream()
    again = daemon.stream(last=stream.id)
    assert again.news() == [("change", {"changed": {}, "removed": []})]
    assert again.id == stream.id
    daemon.set({"b": 1})
    daemon.tick()
    filtered = daemon.stream("?path=a", last=stream.id)
    assert filtered.news() == [("change", {"changed": {}, "removed": []})]
    assert filtered.id == "boot-2"


def test_resume_with_meta(daemon: Daemon) -> None:
    """Who wants ages begins anew."""
    daemon.set({"a": 1})
    stream = daemon.stream("?meta=1")
    ((name, _),) = daemon.stream("?meta=1", last=stream.id).news()
    assert name == "snapshot"


@pytest.mark.parametrize(
    "last",
    [
        *("", "other-1", "boot-2", "boot-", "boot-x", "boot-\xb2", "0", "\xff" * 99, "boot-1; boot-1"),
        *("boot-" + "9" * 18, "boot-" + "9" * 6000),
    ],
)
def test_resume_from_elsewhere(daemon: Daemon, last: str) -> None:
    """An id of another boot, of the future, or none at all, gives a snapshot."""
    daemon.set({"a": 1})
    assert daemon.stream(last=last).news() == [("snapshot", {"a": 1})]


def test_resume_too_late(daemon: Daemon) -> None:
    """Who has missed so many removals that not all are remembered gets a snapshot."""
    daemon.set({"x": 1})
    daemon.set({"a": {str(number): number for number in range(1001)}})
    stream = daemon.stream()
    stream.peer.leave()
    daemon.remove("a/0")
    assert [name for name, _ in daemon.stream(last=stream.id).news()] == ["change"]
    daemon.remove("a")
    daemon.tick()
    assert daemon.stream(last=stream.id).news() == [("snapshot", {"x": 1})]


def test_resume_again_and_again(daemon: Daemon) -> None:
    """A client that is cut off again and again holds the tree as /data has it each time it has come again."""
    leaves: dict[str, Any] = {}
    last = None
    for number in range(200):
        daemon.set({f"a/{number % 7}": number, f"b/{number % 3}": {"x": number}})
        if number % 5 == 0:
            daemon.remove(f"a/{number % 7}")
        if number % 3 == 0:
            daemon.tick()
        stream = daemon.stream(last=last)
        stream.leaves = leaves
        ((name, _),) = stream.news()
        assert name == ("snapshot" if last is None else "change")
        stream.peer.leave()
        leaves, last = stream.leaves, stream.id
        data = daemon.data()
        flat = {f"a/{key}": value for key, value in data["a"].items()}
        flat |= {f"b/{key}/x": value["x"] for key, value in data["b"].items()}
        assert leaves == (flat if data["a"] else {"a": {}, **flat})


# --- the states of the handlers ---------------------------------------------------------------------------------------


NEXT_RUN = 1_000_000_000.25


def status(name: str, **more: Any) -> HandlerStatus:
    """Return the status of a sensor, which is well unless ``more`` says something else."""
    fields: dict[str, Any] = {"state": "ok", "next_run": NEXT_RUN, **more}
    return HandlerStatus(name=name, kind="sensor", **fields)


def told(name: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """Return the event that tells of such a status."""
    return "sensor", status_object(status(name, **more))


def test_sensors(daemon: Daemon) -> None:
    """The state of each handler comes at the beginning, and then only when it has changed."""
    daemon.handlers.current = [status("one"), status("two")]
    stream = daemon.stream("?types=sensor")
    assert stream.news() == [told("one"), told("two")]
    daemon.tick(3 * SENSOR_TICKS)
    assert stream.news() == []
    daemon.handlers.current = [status("one"), status("two", state="error")]
    daemon.tick(3 * SENSOR_TICKS)
    assert stream.news() == [told("two", state="error")]
    assert "id:" not in stream.text


def test_sensors_that_flip(daemon: Daemon) -> None:
    """A state that flips between two looks and back is not told; the last one always is."""
    daemon.handlers.current = [status("one")]
    stream = daemon.stream("?types=sensor")
    for number in range(5 * SENSOR_TICKS + 3):
        daemon.handlers.current = [status("one", state="ok" if number % 2 else "error", runs=number)]
        daemon.tick()
    daemon.tick(SENSOR_TICKS)
    assert stream.news()[-1] == ("sensor", status_object(daemon.handlers.current[0]))


@pytest.mark.parametrize(
    ("next_run", "is_news"),
    [
        (NEXT_RUN + 0.001, False),
        (NEXT_RUN - 0.35, False),
        (NEXT_RUN + 1.05, True),
        (NEXT_RUN - 40, True),
        (NEXT_RUN, False),
        (None, True),
    ],
)
def test_next_run(daemon: Daemon, next_run: float | None, is_news: bool) -> None:
    """A next run that is another by some milliseconds is no news: two clocks tell it. A real change is."""
    daemon.handlers.current = [status("one")]
    stream = daemon.stream("?types=sensor")
    stream.news()
    daemon.handlers.current = [status("one", next_run=next_run)]
    daemon.tick(SENSOR_TICKS)
    assert len(stream.news()) == is_news
    daemon.tick(SENSOR_TICKS)
    assert stream.news() == []


def test_next_run_that_drifts(daemon: Daemon) -> None:
    """A next run that moves by little and little is told when it has moved far."""
    stream = daemon.stream("?types=sensor")
    for number in range(15):
        daemon.handlers.current = [status("one", next_run=1_000_000_000 + number * 0.05)]
        daemon.tick(SENSOR_TICKS)
    assert len(stream.news()) == 1
    for number in range(15):
        daemon.handlers.current = [status("one", next_run=1_000_000_001 + number * 0.05)]
        daemon.tick(SENSOR_TICKS)
    assert len(stream.news()) == 1


def test_a_new_listener_hears_of_sensors_as_they_are(daemon: Daemon) -> None:
    """Who is the first to ask for sensors is told how they are now, though others have streams for long."""
    daemon.handlers.current = [status("one")]
    daemon.stream("?types=change")
    daemon.handlers.current = [status("one", state="error")]
    asked = daemon.handlers.asked
    daemon.tick(5 * SENSOR_TICKS)
    assert daemon.handlers.asked == asked  # nobody wants to know
    stream = daemon.stream("?types=sensor")
    assert stream.news() == [told("one", state="error")]
    daemon.tick(SENSOR_TICKS)
    assert stream.news() == []


def test_statuses_raise(daemon: Daemon, logged_failures: list[LogEvent]) -> None:
    """If the handlers cannot be asked that is logged, and the stream goes on; so do the states later."""
    stream = daemon.stream()
    stream.news()
    daemon.handlers.failure = ZeroDivisionError("a status")
    daemon.set({"a": 1})
    daemon.tick(SENSOR_TICKS)
    assert stream.news() == [("change", {"changed": {"a": 1}, "removed": []})]
    [event] = logged_failures
    assert event["log_failure"].check(ZeroDivisionError)
    logged_failures.clear()
    daemon.handlers.failure, daemon.handlers.current = None, [status("one")]
    daemon.set({"a": 2})
    daemon.tick(SENSOR_TICKS)
    assert [name for name, _ in stream.news()] == ["change", "sensor"]


def test_statuses_raise_at_the_beginning(daemon: Daemon, logged_failures: list[LogEvent]) -> None:
    """Who comes then is refused properly, and takes no room; who does not ask for sensors is not concerned."""
    daemon.handlers.failure = ZeroDivisionError("a status")
    answer = daemon.ask("?channel=a").answer()
    assert answer.status == 500
    assert "a status" not in answer.body.decode()
    assert len(daemon.streams) == 0
    assert not daemon.messaging.receivers
    logged_failures.clear()
    assert daemon.stream("?types=change").news() == [("snapshot", {})]
    daemon.handlers.failure = None
    assert daemon.stream().news() == [("snapshot", {})]


# --- how long, and how many -------------------------------------------------------------------------------------------


def test_a_stream_that_is_refused(daemon: Daemon) -> None:
    """It leaves nothing behind: nothing is recorded and no tick is set if there is no stream."""
    broadcasts = [daemon.stream("?channel=a&types=broadcast") for _ in range(3)]
    assert daemon.ask("").answer().status == 503
    daemon.set({"a": 1})
    assert not any("_tell_changes" in str(call) for call in daemon.clock.getDelayedCalls())
    assert len(broadcasts) == 3


def test_comments(daemon: Daemon) -> None:
    """While nothing happens a comment comes now and then."""
    stream = daemon.stream()
    for _ in range(3):
        daemon.clock.advance(COMMENT_SECONDS)
    assert stream.text.endswith("\n\n:\n\n:\n\n:\n\n")


def test_ticker_runs_while_somebody_listens(daemon: Daemon) -> None:
    """With the last stream the ticks end, and begin anew with the next; broadcasts alone need none."""
    assert not daemon.clock.getDelayedCalls()
    first, second = daemon.stream(), daemon.stream("?types=sensor")
    first.peer.leave()
    daemon.tick(SENSOR_TICKS)
    assert daemon.clock.getDelayedCalls()
    second.peer.leave()
    idle = len(daemon.clock.getDelayedCalls())
    broadcasts = daemon.stream("?types=broadcast&channel=a")
    assert len(daemon.clock.getDelayedCalls()) == idle + 1  # for the comment
    broadcasts.peer.leave()
    assert not daemon.clock.getDelayedCalls()
    daemon.set({"a": 1})
    third = daemon.stream()
    daemon.set({"a": 2})
    daemon.tick()
    assert third.news() == [("snapshot", {"a": 1}), ("change", {"changed": {"a": 2}, "removed": []})]


def test_shutdown(daemon: Daemon) -> None:
    """At the end all streams end properly, the ticks with them, and there are no new ones."""
    streams = [daemon.stream(), daemon.stream("?channel=a"), daemon.stream("?types=sensor")]
    daemon.streams.close()
    for stream in streams:
        assert stream.peer.received.endswith(b"\r\n0\r\n\r\n")
        stream.peer.leave()
    assert not daemon.messaging.receivers
    assert not daemon.clock.getDelayedCalls()
    assert daemon.ask().answer().status == 503


def test_cap(daemon: Daemon) -> None:
    """Beyond the cap on streams there is a 503, while all else is answered, until one has left."""
    streams = [daemon.stream() for _ in range(3)]
    answer = daemon.ask().answer()
    assert (answer.status, answer.headers["content-type"]) == (503, "application/problem+json")
    assert daemon.data() == {}
    streams[0].peer.leave()
    assert daemon.stream().news() == [("snapshot", {})]


def test_many_wishes(daemon: Daemon) -> None:
    """However many different things are asked for while nothing changes, not more than so much is kept for the next."""
    daemon.set({"a": 1})
    stream = daemon.stream()
    for number in range(5 * MOST_KEPT):
        other = daemon.stream(f"?path=a&path={number}", last=stream.id if number % 2 else f"boot-x{number}")
        assert other.news() == [("change", {"changed": {}, "removed": []}) if number % 2 else ("snapshot", {"a": 1})]
        other.peer.leave()
        assert len(daemon.routes._first_events) <= MOST_KEPT


def test_100_streams_with_100_filters() -> None:
    """Each of many clients with paths of their own holds what is there of the tree, whatever changes."""
    daemon = make_daemon(most=100)
    streams = [daemon.stream(f"?path=a/{number}&path=b/{number % 10}/{number // 10}") for number in range(100)]
    for turn in range(20):
        for number in range(turn, 100, 3):
            daemon.set({f"a/{number}": {"x": turn} if turn % 2 else turn, f"b/{number % 10}/{number // 10}": turn})
        if turn % 7 == 6:
            daemon.remove("b")
        daemon.tick()
        for stream in streams:
            stream.news()
    data = daemon.data()
    for number, stream in enumerate(streams):
        part = data["a"][str(number)]
        expected = {f"a/{number}/x": part["x"]} if isinstance(part, dict) else {f"a/{number}": part}
        if str(number // 10) in data["b"].get(str(number % 10), {}):
            expected[f"b/{number % 10}/{number // 10}"] = data["b"][str(number % 10)][str(number // 10)]
        assert stream.leaves == expected
        stream.peer.leave()


def test_client_that_does_not_read(daemon: Daemon) -> None:
    """A client that reads nothing is dropped before more than so much waits for it; the others hear everything."""
    stream, deaf = daemon.stream(), daemon.ask(reads=False)
    for number in range(100):
        daemon.set({"a": f"{number}" + "x" * 50_000})
        daemon.tick()
        assert stream.peer.end is None  # it reads
        assert deaf.waiting <= MOST_UNREAD + 100_000
    assert deaf.end == "aborted"
    assert stream.news()[-1][1]["changed"]["a"].startswith("99x")
    assert len(daemon.streams) == 1


def test_large_snapshot(daemon: Daemon) -> None:
    """A snapshot larger than what may pile up is no reason to drop a client that reads it, slow as it is.

    It is handed to the connection in pieces, with the write timeout for each, and what changes meanwhile comes after.
    """
    daemon.set({"a": {f"{number:05}": f"{number:05}" * 20 for number in range(20_000)}})
    peer = daemon.ask(reads=False)
    size = 0
    for number in range(80):
        daemon.set({"a/00000": number})
        daemon.clock.advance(4)
        assert peer.waiting < 200_000
        size += len(peer.read(60_000))
        assert peer.end is None
    while peer.waiting:
        size += len(peer.read())
    assert size > 2 * MOST_UNREAD
    stream = Stream(peer)
    names = [name for name, _ in stream.news()]
    assert names == ["snapshot"] + (len(names) - 1) * ["change"]
    daemon.tick()
    peer.read()
    stream.news()
    assert stream.leaves["a/00000"] == 79
    assert len(stream.leaves) == 20_000
    peer.leave()


def test_reader_of_a_byte_now_and_then(daemon: Daemon) -> None:
    """A client that reads a byte now and then has no more time by that than one that reads none."""
    peer = daemon.ask(reads=False)
    daemon.set({"a": "x" * 100_000})
    daemon.tick()
    for _ in range(9):
        daemon.clock.advance(1)
        peer.read(1)
    assert peer.end is None
    daemon.clock.advance(1)
    assert peer.end == "aborted"
    assert len(daemon.streams) == 0


# --- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"]
)
def test_foreign_pages(daemon: Daemon, header: str) -> None:
    """A page of another origin, which could read nothing, takes no stream."""
    assert daemon.ask("", header).answer().status == 403
    assert len(daemon.streams) == 0


def test_own_page(daemon: Daemon) -> None:
    """A page of ours, and what is no browser, may."""
    assert Stream(daemon.ask("", "Sec-Fetch-Site: same-origin")).news()
    assert Stream(daemon.ask("", "Origin: http://localhost")).news()


@pytest.mark.parametrize(
    ("origins", "allowed"), [("https://a.example", True), ("*", True), ("https://b.example", False)]
)
def test_pages_that_are_allowed(origins: str, allowed: bool) -> None:
    """A page of an origin that is named, or any if all are, may listen, and its browser is told so."""
    daemon = make_daemon(cors=CorsPolicy.of(origins))
    peer = daemon.ask("", "Origin: https://a.example", "Sec-Fetch-Site: cross-site")
    head = peer.received.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200" if allowed else b"HTTP/1.1 403")
    assert (b"Access-Control-Allow-Origin: " in head) == allowed
    peer.leave()
