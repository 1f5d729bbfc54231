"""All that polls, together: it starts and stops as one, and one cannot delay another."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_pool import Bench
from twisted.logger import LogEvent, formatEvent

from rpiserve.core.clocks import Clocks
from rpiserve.data.tree import DataTree
from rpiserve.declare.handler import Handler
from rpiserve.declare.registry import Registry
from rpiserve.errors import SensorError
from rpiserve.polling.scheduler import Scheduler


class House(Bench):
    """A registry, and the polling of what it declares."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.tree = DataTree("boot", self.clock.seconds, self.clock.seconds)
        self.polling: Scheduler | None = None

    def make(self) -> Scheduler:
        """Make the polling of what has been declared."""
        self.polling = Scheduler(self.registry, self.runner, self.tree, Clocks(self.clock, self.clock.seconds))
        return self.polling

    def start(self) -> Scheduler:
        """Make the polling and start it."""
        polling = self.make()
        polling.start()
        return polling

    def state(self, path: str) -> str:
        """Return the state of a value."""
        part: Any = self.tree.find((path,))
        return str(part.state)


@pytest.fixture
def house() -> Iterator[House]:
    """A house, of which nothing is left once its polling has stopped and what runs has ended."""
    house = House()
    yield house
    assert house.polling is not None
    stopped = house.polling.stop()
    while house.pool.jobs:
        house.pool.end()
    assert stopped.called
    assert house.idle


class Meter(Handler):
    """A handler that can be prepared only when its meter is there."""

    there = False

    def prepare(self) -> None:
        """Open it."""
        if not self.there:
            raise SensorError("no meter")

    def invoke(self) -> None:
        """Do nothing."""


def loop(running: Callable[[], bool]) -> None:
    """Run for long."""


def test_making_it_starts_nothing(house: House) -> None:
    """Polling that has not been started has nothing under way, and can be stopped."""
    house.registry.sensor("a")(lambda: 1)
    house.registry.thread("serial")(loop)
    assert house.make().stop().called
    assert house.idle


def test_empty(house: House) -> None:
    """An app without sensors has polling all the same."""
    polling = house.start()
    assert (polling.statuses(), polling.reasons()) == ([], [])


def test_all_start_at_once(house: House) -> None:
    """Everything declared is started, and shown in the order of its declaration, threads last."""
    registry = house.registry
    registry.thread("serial")(loop)
    registry.sensor("a")(lambda: 1)
    registry.background("check", 30)(lambda: None)
    registry.every(5, lambda: None, name="every")
    polling = house.start()
    assert len(house.pool.jobs) == 4
    shown = [(status.name, status.kind, status.interval) for status in polling.statuses()]
    assert shown == [
        ("a", "sensor", 60),
        ("check", "background", 30),
        ("every", "every", 5),
        ("serial", "thread", None),
    ]


def test_buses_are_told_apart(house: House) -> None:
    """Handlers with the same bus share it, whatever their kind; those with another or none run beside them."""
    for path, bus in [("a", "i2c-1"), ("b", "i2c-1"), ("c", "i2c-2"), ("d", None), ("e", None)]:
        house.registry.sensor(path, bus=bus)(lambda: 1)
    house.registry.background("f", 60, bus="i2c-1")(lambda: None)
    house.start()
    assert len(house.pool.jobs) == 4


def test_values_age(house: House) -> None:
    """Values that are not renewed grow stale by themselves, whatever else hangs."""
    house.registry.sensor("a", every=10, stale_after=15, timeout=1000)(lambda: 1)
    house.start()
    house.pool.end()
    for _ in range(14):
        house.clock.advance(1)
    assert house.state("a") == "ok"
    house.clock.advance(1)
    assert house.state("a") == "stale"
    house.pool.end()
    assert house.state("a") == "ok"


class BrokenTree(DataTree):
    """A tree that cannot age."""

    def age(self) -> None:
        """Fail."""
        raise ZeroDivisionError


def test_ageing_that_fails_is_noticed(house: House, logged_failures: list[LogEvent]) -> None:
    """An error of our own in the ageing is logged, and the polling can still be stopped."""
    house.tree = BrokenTree("boot", house.clock.seconds, house.clock.seconds)
    house.start()
    house.clock.advance(1)
    [event] = logged_failures
    assert formatEvent(event) == "values age no more"
    logged_failures.clear()


def test_reasons(house: House, logged_failures: list[LogEvent]) -> None:
    """The polling is ready when all handlers are prepared; until then it says which is not, and why."""
    meter = Meter()
    house.registry.every(5, meter)
    house.registry.sensor("a")(lambda: 1)
    house.registry.thread("serial")(loop)
    polling = house.make()
    assert polling.reasons() == ["Meter is not prepared: not yet"]
    polling.start()
    house.pool.end()
    assert polling.reasons() == ["Meter is not prepared: no meter"]
    logged_failures.clear()
    meter.there = True
    house.clock.advance(1)
    while house.pool.jobs:
        house.pool.end()
    assert polling.reasons() == []


def test_stop_waits_for_what_runs(house: House) -> None:
    """A stop has ended when all that runs has, and begins nothing more."""
    house.registry.sensor("a", every=10)(lambda: 1)
    house.registry.thread("serial")(loop)
    stopped = house.start().stop()
    house.clock.advance(5)
    house.pool.end()
    assert not stopped.called
    house.pool.end()
    assert stopped.called
    house.clock.advance(1000)
    assert house.idle


def test_stop_does_not_wait_for_what_is_stuck(house: House, logged_failures: list[LogEvent]) -> None:
    """A hung handler does not hold up the stop."""
    house.registry.sensor("a", every=10)(lambda: 1)
    polling = house.start()
    house.clock.advance(10)
    assert polling.stop().called
    logged_failures.clear()
