"""Which services there are on the bus."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from deferreds import brought
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from rpiserve import App
from rpiserve.errors import BusUnavailable
from rpiserve.messaging.discovery import ANNOUNCE_SECONDS, LASTING_SECONDS, LONGEST_DOC, ServiceDiscovery
from rpiserve.messaging.memory_bus import MemoryBus


@pytest.fixture
def clock() -> Clock:
    """The reactor's clock."""
    return Clock()


class ComingBus(MemoryBus):
    """The bus, when it is made to come and to forget all, as a server does that is started anew."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, lambda: 0.0)  # type: ignore[arg-type]
        self._told: list[Callable[[], object]] = []

    def when_connected(self, connected: Callable[[], object]) -> None:
        self._told.append(connected)

    def lose_all(self) -> None:
        """Forget what is announced."""
        for name in brought(self.announced()):
            self.withdraw(name)

    def come(self) -> None:
        """Tell that there is a connection."""
        for connected in self._told:
            connected()


@pytest.fixture
def bus(clock: Clock) -> MemoryBus:
    """The bus."""
    return MemoryBus(clock, lambda: 1_000_000_000.0)  # type: ignore[arg-type]


def directory(name: str, bus: MemoryBus, clock: Clock, **docs: str) -> ServiceDiscovery:
    """Return the directory of a service with actions that have these docstrings."""
    app = App(name)
    for action, doc in docs.items():

        def answer() -> None: ...

        answer.__doc__ = doc
        app.action(action)(answer)
    return ServiceDiscovery(name, app.actions, bus, clock)  # type: ignore[arg-type]


def services(asked: ServiceDiscovery) -> list[dict[str, Any]]:
    """Return the services that ``asked`` knows of now."""
    result = brought(asked.describe())
    found: list[dict[str, Any]] = result["services"]
    return found


def test_two_services(bus: MemoryBus, clock: Clock) -> None:
    """Each service lists both, itself first, with their actions and what these say of themselves."""
    one, other = directory("one", bus, clock, go="Go."), directory("other", bus, clock)
    one.start()
    other.start()
    assert services(one) == [
        {"name": "one", "actions": [{"name": "go", "doc": "Go."}], "instances": 1},
        {"name": "other", "actions": [], "instances": 1},
    ]
    assert [service["name"] for service in services(other)] == ["other", "one"]


def test_how_the_bus_is(bus: MemoryBus, clock: Clock) -> None:
    """What is told of the bus is there for a reader."""
    told = brought(directory("one", bus, clock).describe())["bus"]
    assert told == {
        "kind": "memory",
        "name": "the embedded bus",
        "connected": True,
        "since": "2001-09-09T01:46:40.000Z",
        "error": None,
    }


def test_a_service_that_lives(bus: MemoryBus, clock: Clock) -> None:
    """A service is listed for as long as it runs, however long that is."""
    one, other = directory("one", bus, clock), directory("other", bus, clock)
    other.start()
    for _ in range(50):
        clock.advance(ANNOUNCE_SECONDS)
        assert len(services(one)) == 2


def test_a_service_that_ends(bus: MemoryBus, clock: Clock) -> None:
    """A service that stops is forgotten at once, and nothing of it is left on the clock."""
    one, other = directory("one", bus, clock), directory("other", bus, clock)
    other.start()
    other.stop()
    other.stop()
    assert len(services(one)) == 1
    assert clock.getDelayedCalls() == []


def test_a_service_that_dies(bus: MemoryBus, clock: Clock) -> None:
    """A service that is killed is forgotten after a while."""
    one, other = directory("one", bus, clock), directory("other", bus, clock)
    bus.announce("other:1", b'{"name":"other","actions":[]}', LASTING_SECONDS)
    assert len(services(one)) == 2
    clock.advance(LASTING_SECONDS)
    assert len(services(one)) == 1
    assert len(services(other)) == 1


def test_instances(bus: MemoryBus, clock: Clock) -> None:
    """Several instances of a service are one entry, with their number."""
    daemons = [directory(name, bus, clock) for name in ("one", "one", "two", "two", "two")]
    for daemon in daemons:
        daemon.start()
    assert [(service["name"], service["instances"]) for service in services(daemons[0])] == [("one", 2), ("two", 3)]


@pytest.mark.parametrize(
    "entry",
    [
        b"",
        b"nonsense",
        b"\xff",
        b"[" * 100_000,
        b'{"name":"<b>","actions":[]}',
        b'{"name":"x"}',
        b'{"name":"x","actions":[{"name":"a b"}]}',
        msgspec.json.encode({"name": "x", "actions": [{"name": "a", "doc": "x" * (LONGEST_DOC + 1)}]}),
        msgspec.json.encode({"name": "x", "actions": [{"name": "a"}] * 501}),
    ],
)
def test_what_others_may_have_written(bus: MemoryBus, clock: Clock, entry: bytes) -> None:
    """An entry that is none is passed over: anybody who reaches the bus may have written it."""
    bus.announce("x:1", entry, LASTING_SECONDS)
    assert [service["name"] for service in services(directory("one", bus, clock))] == ["one"]


def test_a_bus_that_is_away(bus: MemoryBus, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the bus is away a service knows of itself, says nothing in the log, and is listed again afterwards."""
    one, other = directory("one", bus, clock), directory("other", bus, clock)
    with monkeypatch.context() as patch:
        for name in ("announce", "announced", "withdraw"):
            patch.setattr(bus, name, lambda *_: fail(BusUnavailable("it is away")))
        other.start()
        assert len(services(one)) == 1
    clock.advance(ANNOUNCE_SECONDS)
    assert len(services(one)) == 2


def test_a_bus_that_comes_back(clock: Clock) -> None:
    """Once the bus is back, which has kept nothing, each service is listed at once; one that has ended is not."""
    bus = ComingBus(clock)
    one, other, ended = (directory(name, bus, clock) for name in ("one", "other", "ended"))
    for each in (one, other, ended):
        each.start()
    ended.stop()
    for listed in (one, other):
        bus.lose_all()
        assert len(services(listed)) == 1
        bus.come()
        assert {service["name"] for service in services(listed)} == {"one", "other"}


def test_a_bus_that_is_there_before_the_service(clock: Clock) -> None:
    """A service that has not begun yet is not announced, whatever becomes of the bus."""
    bus = ComingBus(clock)
    directory("one", bus, clock)
    bus.come()
    assert brought(bus.announced()) == {}


def test_an_error_of_ours(
    bus: MemoryBus, clock: Clock, monkeypatch: pytest.MonkeyPatch, logged_failures: list[LogEvent]
) -> None:
    """Any other error is logged."""
    monkeypatch.setattr(bus, "announce", lambda *_: fail(ZeroDivisionError()))
    directory("one", bus, clock).start()
    assert [event["log_failure"].type for event in logged_failures] == [ZeroDivisionError]
    logged_failures.clear()
