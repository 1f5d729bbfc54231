"""A caller outside a daemon: it connects at its first use, and lets go of everything in the end."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.python import threadable

from rpiserve.client import caller as callers
from rpiserve.client.caller import Caller
from rpiserve.core import wire
from rpiserve.errors import BusUnavailable, MessageError, NotRunning, StartError, Stopped
from rpiserve.messaging import redis_bus
from rpiserve.messaging.address import RedisAddress
from rpiserve.messaging.memory_bus import MemoryBus

URL = "redis://somewhere:7000/2"


class Reactor(MemoryReactorClock):
    """A reactor in memory, which other threads hand their work to.

    Attributes:
        stops: what it calls when it stops.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stops: list[Callable[[], object]] = []
        self.work: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., object], *arguments: Any, **options: Any) -> None:
        self.work.put(lambda: function(*arguments, **options))

    def addSystemEventTrigger(self, phase: str, event: str, function: Any, *arguments: Any) -> Any:
        assert (phase, event) == ("before", "shutdown")
        trigger = partial(function, *arguments)
        self.stops.append(trigger)
        return trigger

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        self.stops.remove(trigger)

    def stop(self) -> None:
        """Do what is to be done when it stops."""
        stops, self.stops = self.stops, []
        for trigger in stops:
            trigger()


class World:
    """What a caller finds in its process.

    Attributes:
        addresses: where it has connected to.
        bus: the bus that it gets there.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reactor = Reactor()
        self.addresses: list[RedisAddress] = []
        self.error: Exception | None = None
        self.bus = MemoryBus(self.reactor, self.reactor.seconds)
        monkeypatch.setattr(redis_bus, "RedisBus", self._make_bus)
        monkeypatch.setattr(threadable, "ioThread", threading.get_ident())

    def _make_bus(self, address: RedisAddress, reactor: Any, wall: Callable[[], float]) -> MemoryBus:
        assert reactor is self.reactor
        if self.error is not None:
            raise self.error
        self.addresses.append(address)
        return self.bus

    def caller(self, service: str = "svc", **options: Any) -> Caller:
        """Make a caller."""
        return Caller(service, URL, reactor=self.reactor, **options)

    def serve(self) -> None:
        """Have a service on the bus that echoes."""

        def receive(_: str, message: bytes) -> None:
            request = wire.parse_request(message)
            assert request.reply_to is not None
            assert request.request_id is not None
            payload = [request.payload, request.sender, request.timeout]
            self.bus.publish(request.reply_to, wire.reply(request.request_id, "success", payload, final=True))

        self.bus.subscribe("svc", receive)

    def turn(self) -> None:
        """Let all that is under way arrive."""
        self.reactor.pump([0] * 5)

    def in_thread(self, *functions: Callable[[], Any]) -> list[Any]:
        """Return what each of ``functions`` returns in a thread of its own, or the error that it raises there."""
        outcomes: list[Any] = [None] * len(functions)
        left = len(functions)

        def call(which: int, function: Callable[[], Any]) -> None:
            try:
                outcomes[which] = function()
            except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
                outcomes[which] = error
            self.reactor.work.put(end)

        def end() -> None:
            nonlocal left
            left -= 1

        threads = [threading.Thread(target=call, args=each) for each in enumerate(functions)]
        for thread in threads:
            thread.start()
        while left:
            self.reactor.work.get(timeout=30)()
            self.turn()
        for thread in threads:
            thread.join(30)
        return outcomes


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A process in which nothing is left to happen in the end."""
    world = World(monkeypatch)
    yield world
    world.turn()
    assert world.reactor.getDelayedCalls() == []


def outcome_of(deferred: Deferred[Any]) -> Any:
    """Return what ``deferred`` has fired with, the error if that is one."""
    outcomes: list[Any] = []
    deferred.addCallbacks(outcomes.append, lambda failure: outcomes.append(failure.value))
    return outcomes[0]


def test_making_one_connects_nowhere(world: World) -> None:
    """A caller may be made at any time; it connects at its first use, once, and to where it was told."""
    world.serve()
    caller = world.caller(password_file="/run/password", ca_file="/run/ca.pem", name="alarm", timeout=7)
    assert world.addresses == []
    asked = [caller.send_request("get", 1), caller.send_request("get", 2, timeout=3)]
    world.turn()
    assert [outcome_of(each) for each in asked] == [[1, "alarm", 7], [2, "alarm", 3]]
    [address] = world.addresses
    assert (address.host, address.port, address.db) == ("somewhere", 7000, 2)
    assert (address.password_file, address.ca_file) == (Path("/run/password"), Path("/run/ca.pem"))
    assert outcome_of(caller.close()) is None


def test_wrong_arguments(world: World) -> None:
    """What is wrong with an argument is told when the caller is made, without the URL, which may hold a password."""
    with pytest.raises(
        MessageError, match="redis is no address of a Redis server; it is redis://host:port/db"
    ) as raised:
        Caller("svc", "http://:secret@host", reactor=world.reactor)
    assert "secret" not in str(raised.value)
    with pytest.raises(MessageError, match="is no name of a service"):
        world.caller("a b")
    with pytest.raises(MessageError, match="timeout is 0"):
        world.caller(timeout=0)


def test_the_installed_reactor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a reactor it takes the one that is installed."""
    monkeypatch.setattr("twisted.internet.reactor", world.reactor)
    world.serve()
    caller = Caller("svc", URL)
    asked = caller.send_request("get", 1)
    world.turn()
    assert outcome_of(asked) == [1, "caller", 5]
    caller.close()


def test_other_messages(world: World) -> None:
    """It sends to channels and to the service, too."""
    heard: list[tuple[str, bytes]] = []
    for channel in ("news", "svc"):
        world.bus.subscribe(channel, lambda *message: heard.append(message))
    caller = world.caller()
    assert outcome_of(caller.send_message("news", {"a": 1})) == 1
    assert outcome_of(caller.send_to_service({"a": 2}, action="log")) == 1
    world.turn()
    assert heard == [("news", b'{"a":1}'), ("svc", b'{"a":2,"action":"log"}')]
    caller.close()


def test_close(world: World) -> None:
    """Closing ends what is under way and the connections, and leaves the reactor nothing to do for it."""
    world.bus.subscribe("svc", lambda channel, message: None)
    caller = world.caller()
    asked = caller.send_request("get")
    assert len(world.reactor.stops) == 1
    assert outcome_of(caller.close()) is None
    assert isinstance(outcome_of(asked), Stopped)
    assert not world.bus.state.connected
    assert world.reactor.stops == []
    with pytest.raises(Stopped):
        caller.send_request("get")
    assert outcome_of(caller.close()) is None


def test_close_unused(world: World) -> None:
    """Closing one that was never used connects nowhere, and it is of no use then."""
    caller = world.caller()
    assert outcome_of(caller.close()) is None
    with pytest.raises(Stopped):
        caller.send_request("get")
    other = world.caller()
    assert world.in_thread(other.close) == [None]
    assert world.addresses == []


def test_the_reactor_stops(world: World) -> None:
    """When the reactor stops, what is under way ends and the connections, too; closing then does no harm."""
    world.bus.subscribe("svc", lambda channel, message: None)
    caller = world.caller()
    asked = caller.send_request("get")
    world.reactor.stop()
    assert isinstance(outcome_of(asked), Stopped)
    assert not world.bus.state.connected
    assert isinstance(outcome_of(caller.send_request("get")), Stopped)
    assert isinstance(outcome_of(caller.send_message("news", {})), BusUnavailable)
    assert outcome_of(caller.close()) is None


def test_from_threads(world: World) -> None:
    """In threads it blocks and returns; several that use it first at the same time connect once."""
    world.serve()
    world.reactor.running = True
    caller = world.caller()

    def ask() -> Any:
        return caller.send_request("get", 1)[0]

    assert world.in_thread(*[ask] * 10) == [1] * 10
    assert len(world.addresses) == 1
    assert world.in_thread(ask) == [1]
    assert world.in_thread(caller.close) == [None]
    assert isinstance(world.in_thread(ask)[0], Stopped)


def test_two_threads_at_first_use(world: World) -> None:
    """Of two threads that both find it unconnected, the second to come to the reactor leaves it as it is."""
    link = callers.OwnLink(RedisAddress.parse(URL), "me", world.reactor)
    link._open()
    link._open()
    assert len(world.addresses) == 1
    link.end()


def test_without_a_running_reactor(world: World) -> None:
    """In a thread it is of no use before the reactor runs, and says so; it can be used later."""
    caller = world.caller()
    [error] = world.in_thread(lambda: caller.send_request("get"))
    assert isinstance(error, NotRunning)
    assert str(error) == "a Caller needs Twisted's reactor, which does not run"
    assert world.addresses == []


def test_certificates_that_cannot_be_read(world: World) -> None:
    """What keeps it from connecting at all is raised where it is used first, in a thread as well."""
    world.error = StartError("no certificates")
    caller = world.caller()
    with pytest.raises(StartError, match="no certificates"):
        caller.send_request("get")
    world.reactor.running = True
    assert isinstance(world.in_thread(lambda: caller.send_request("get"))[0], StartError)
    world.error = None
    assert world.addresses == []
