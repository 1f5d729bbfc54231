"""One polled handler in motion, on a clock and with threads that the test holds in its hand."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from fake_pool import Bench
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, capturedLogs, formatEvent

from rpiserve.core.clocks import Clocks
from rpiserve.core.handler_status import HandlerStatus
from rpiserve.core.runner import Resource
from rpiserve.data import encoding
from rpiserve.data.paths import parse_path
from rpiserve.data.tree import DataTree
from rpiserve.declare.handler import Handler
from rpiserve.declare.registry import Registry
from rpiserve.errors import SensorError
from rpiserve.polling.poller import Poller
from rpiserve.polling.scheduler import trigger_for

NOW = datetime(2026, 5, 17, 12, 0, 0, tzinfo=UTC).timestamp()
HOUR, DAY = 3600.0, 86400.0


class House(Bench):
    """Pollers with their tree and their clocks. The wall clock can be set: by ``shift`` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = 0.0
        self.registry = Registry()
        self.tree = DataTree("boot", self.clock.seconds, self.wall)
        self.pollers: list[Poller] = []
        self.buses: dict[str, Resource] = {}

    def wall(self) -> float:
        """Return the time of the wall clock."""
        return NOW + self.clock.seconds() + self.shift

    def start(self) -> Poller:
        """Start what was declared last."""
        polled = self.registry.polled[-1]
        bus = None if polled.bus is None else self.buses.setdefault(polled.bus, Resource(f"the bus {polled.bus}"))
        trigger = trigger_for(polled, self.clock, self.wall)
        poller = Poller(polled, trigger, self.runner, self.tree, Clocks(self.clock, self.wall), bus)
        self.pollers.append(poller)
        poller.start()
        return poller

    def sensor(self, call: Callable[[], Any], path: str = "a", every: float = 10, **options: Any) -> Poller:
        """Declare a sensor and start it."""
        self.registry.sensor(path, every=every, **options)(call)
        return self.start()

    def handler(self, handler: Handler | Callable[[], Any], every: float = 10, **options: Any) -> Poller:
        """Declare a handler and start it."""
        self.registry.every(every, handler, **options)
        return self.start()

    def seconds(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass, in small steps."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)

    def meta(self, path: str = "a") -> dict[str, Any]:
        """Return what is known of a value."""
        return self.tree.find(parse_path(path)).meta(self.clock.seconds())

    def value(self, path: str = "a") -> Any:
        """Return a value."""
        part: Any = self.tree.find(parse_path(path))
        return part.value


@pytest.fixture
def house() -> Iterator[House]:
    """A house in which nothing is left when all pollers have been stopped and what runs has ended."""
    house = House()
    yield house
    stopped = [poller.stop() for poller in house.pollers]
    while house.pool.jobs:
        house.pool.end()
    assert all(deferred.called for deferred in stopped)
    assert house.idle


@pytest.fixture
def failing(logged_failures: list[LogEvent]) -> Iterator[list[LogEvent]]:
    """For tests whose sensors fail: what is logged of it is expected."""
    yield logged_failures
    logged_failures.clear()


class Script:
    """A function whose calls go as they are told: each returns the next of its outcomes, or raises it.

    Attributes:
        starts: when it was called.
    """

    def __init__(self, house: House, *outcomes: Any) -> None:
        self.house = house
        self.outcomes = list(outcomes)
        self.starts: list[float] = []

    def __call__(self) -> Any:
        """Go on to the next outcome; the last is that of all further calls."""
        self.starts.append(self.house.clock.seconds())
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Meter(Handler):
    """A handler that follows two scripts."""

    def __init__(self, prepare: Callable[[], Any], invoke: Callable[[], Any]) -> None:
        self._prepare = prepare
        self._invoke = invoke

    def prepare(self) -> Any:
        """Follow the one."""
        return self._prepare()

    def invoke(self) -> Any:
        """Follow the other."""
        return self._invoke()


BROKEN = SensorError("the wire is cut")


def at(seconds: float) -> Any:
    """Return what equals a time after the start, in seconds since the epoch, to the millisecond."""
    return pytest.approx(NOW + seconds, abs=0.0005)


def texts(events: list[LogEvent]) -> list[str]:
    """Return log events as text."""
    return [str(formatEvent(event)) for event in events]


# --- when it runs -------------------------------------------------------------------------------


def test_fixed_rate(house: House) -> None:
    """The first run is at the start, and from then on there is one at each interval."""
    script = Script(house, 1)
    poller = house.sensor(script, reactor=True)
    assert script.starts == [0]
    house.seconds(45)
    assert script.starts == [0, 10, 20, 30, 40]
    assert (poller.run_counts.runs, poller.run_counts.failures, poller.status().missed) == (5, 0, 0)


def test_fixed_rate_does_not_drift(house: House) -> None:
    """Runs that take a while leave the slots where they are."""
    poller = house.sensor(lambda: 1)
    for slot in range(5):
        assert poller.run_counts.runs == slot + 1
        house.seconds(8)
        house.pool.end()
        house.seconds(2)
    assert poller.status().missed == 0
    assert len(house.pool.jobs) == 1


@pytest.mark.parametrize(
    ("took", "missed", "next_start"),
    [(9.5, 0, 10), (10, 1, 20), (10.5, 1, 20), (19.5, 1, 20), (20, 2, 30), (35, 3, 40), (1000, 100, 1010)],
)
def test_overrun(house: House, took: float, missed: int, next_start: float) -> None:
    """Slots that come while it runs are missed: counted, not made up for. The next run is at the next slot."""
    poller = house.sensor(lambda: 1, timeout=2000)
    house.seconds(took)
    assert poller.run_counts.runs == 1
    house.pool.end()
    house.seconds(next_start - took - 0.5)
    assert poller.run_counts.runs == 1
    house.seconds(0.5)
    assert (poller.run_counts.runs, poller.status().missed) == (2, missed)


def test_overruns_are_logged_ever_more_rarely(house: House) -> None:
    """A handler that overruns again and again, perhaps not each time, is warned of as any trouble is."""
    poller = house.sensor(lambda: 1, timeout=100)
    with capturedLogs() as logs:
        for _ in range(60):
            for took, rest in [(15, 5), (2, 8)]:
                house.seconds(took)
                house.pool.end()
                house.seconds(rest)
    warning = "a did not end within its interval of 10 s: runs are missed"
    more = [f" ({times} times since the last such line)" for times in (2, 18)]
    assert texts(logs) == [warning, *(warning + times for times in more)]
    assert poller.status().missed == 60


def test_reading_of_which_a_late_reactor_hears_late(house: House) -> None:
    """When another holds up the reactor, the duration is right, what is missed counts, and nobody is warned of."""
    arrived: list[tuple[Any, ...]] = []
    house.runner.to_reactor = lambda *call: arrived.append(call)
    poller = house.sensor(lambda: 1, timeout=20)
    house.seconds(0.5)
    house.pool.end()
    with capturedLogs() as logs:
        house.clock.rightNow += 25
        [(end, *arguments)] = arrived
        end(*arguments)
        house.clock.advance(0)
    assert (poller.status().duration, poller.status().state) == (0.5, "ok")
    house.seconds(4.5)
    assert (poller.run_counts.runs, poller.status().missed) == (2, 2)
    assert logs == []
    arrived.clear()
    house.pool.end()
    [(end, *arguments)] = arrived
    end(*arguments)


def test_reactor_that_was_held_up(house: House) -> None:
    """When the reactor itself was held up, the slots of that time are missed, and one run follows."""
    script = Script(house, 1)
    poller = house.sensor(script, reactor=True)
    house.clock.advance(57)
    assert script.starts == [0, 57]
    house.seconds(10)
    assert script.starts == [0, 57, 60]
    assert poller.status().missed == 4


def test_fixed_delay(house: House) -> None:
    """With a fixed delay the next run begins an interval after the end of the last, and nothing is ever missed."""
    poller = house.sensor(lambda: 1, fixed_delay=True)
    for runs, took in enumerate([0.5, 3, 9.5], 1):
        house.seconds(took)
        house.pool.end()
        house.seconds(9.5)
        assert poller.run_counts.runs == runs
        house.seconds(0.5)
        assert poller.run_counts.runs == runs + 1
    assert poller.status().missed == 0


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize(
    ("every", "starts"),
    [
        (1, [0, 1, 3, 7, 15, 31, 63, 123, 183]),
        (7, [0, 7, 21, 49, 105, 168, 231]),  # 60 s are up between two slots: it is the later one
        (10, [0, 10, 30, 70, 130, 190]),
        (60, [0, 60, 120, 180]),
        (90, [0, 90, 180, 270]),
    ],
)
def test_backoff_at_a_fixed_rate(house: House, every: float, starts: list[float]) -> None:
    """After each failure in a row more slots are skipped, up to 60 s or the interval; no run is added, none missed."""
    script = Script(house, BROKEN)
    poller = house.sensor(script, every=every, reactor=True)
    house.seconds(starts[-1] + 0.5)
    assert script.starts == starts
    assert poller.run_counts.failures == len(starts)
    assert poller.status().missed == 0


@pytest.mark.parametrize(("every", "starts"), [(1, [0, 1, 3, 7, 15, 31, 63, 123, 183]), (90, [0, 90, 180])])
@pytest.mark.usefixtures("failing")
def test_backoff_with_a_fixed_delay(house: House, every: float, starts: list[float]) -> None:
    """With a fixed delay the pauses grow by the same rule."""
    script = Script(house, BROKEN)
    house.sensor(script, every=every, fixed_delay=True, reactor=True)
    house.seconds(starts[-1] + 0.5)
    assert script.starts == starts


@pytest.mark.parametrize("fixed_delay", [False, True])
@pytest.mark.usefixtures("failing")
def test_backoff_is_over_with_the_first_success(house: House, fixed_delay: bool) -> None:
    """A good run ends the backoff: the next run is after one interval, and the next failure is the first again."""
    script = Script(house, BROKEN, BROKEN, BROKEN, 1, 1, BROKEN, BROKEN, 1)
    house.sensor(script, fixed_delay=fixed_delay, reactor=True)
    house.seconds(130.5)
    assert script.starts == [0, 10, 30, 70, 80, 90, 100, 120, 130]


@pytest.mark.usefixtures("failing")
def test_backoff_counts_from_the_end_of_the_run(house: House) -> None:
    """The pause after a long run that fails begins when it ends; slots that came meanwhile are missed, not skipped."""
    poller = house.sensor(Script(house, BROKEN), timeout=100)
    house.seconds(1)
    house.pool.end()
    house.seconds(9)
    assert poller.run_counts.runs == 2
    house.seconds(25)
    house.pool.end()  # at 35, to rest for 20 s: until 55, less the half interval of grace
    house.seconds(14.5)
    assert poller.run_counts.runs == 2
    house.seconds(0.5)
    assert (poller.run_counts.runs, poller.status().missed) == (3, 2)


# --- what becomes of its readings ---------------------------------------------------------------


def test_reading(house: House) -> None:
    """A reading is at its path with its unit and its time, and ages."""
    house.sensor(Script(house, 21.5), "basement/room", every=60, unit="°C", reactor=True)
    house.seconds(3)
    assert house.value("basement/room") == 21.5
    meta = house.meta("basement/room")
    del meta["value"]
    assert meta == {"unit": "°C", "time": encoding.timestamp(NOW), "age": 3, "state": "ok", "error": None}


def test_mapping_replaces_what_was_there(house: House) -> None:
    """A mapping takes the place of all that the sensor had before, with a unit for each part; None in it is a value."""
    script = Script(house, {"x": 1, "y": {"z": 2}}, {"y": {"z": None}})
    house.sensor(script, unit={"x": "V", "y/z": "A"}, reactor=True)
    assert (house.meta("a/x")["unit"], house.meta("a/y/z")["unit"]) == ("V", "A")
    house.seconds(10)
    assert house.value("a/y/z") is None
    with pytest.raises(KeyError):
        house.tree.find(("a", "x"))


def test_stale_reading(house: House) -> None:
    """A reading that is not renewed in the time that was declared is stale, and good again when it is renewed."""
    house.sensor(lambda: 1, stale_after=12, timeout=100)
    house.pool.end()
    house.seconds(11.5)
    house.tree.age()
    assert house.meta()["state"] == "ok"
    house.seconds(0.5)
    house.tree.age()
    assert house.meta()["state"] == "stale"
    house.pool.end()
    assert house.meta()["state"] == "ok"


def test_failed_reading(house: House, failing: list[LogEvent]) -> None:
    """A failure keeps the last good value and marks it with what went wrong, until the next good one."""
    house.sensor(Script(house, 1, BROKEN, 2), reactor=True)
    house.seconds(10)
    assert house.value() == 1
    assert (house.meta()["state"], house.meta()["error"]) == ("error", "the wire is cut")
    assert texts(failing) == ["a failed: the wire is cut"]
    house.seconds(10)
    assert house.value() == 2
    assert (house.meta()["state"], house.meta()["error"]) == ("ok", None)


@pytest.mark.usefixtures("failing")
def test_unknown_failure_is_not_shown(house: House) -> None:
    """Of an exception that is not ours only the class and an incident are shown, in the report as in the data."""
    poller = house.sensor(Script(house, 1, ValueError("secret")), reactor=True)
    house.seconds(10)
    for shown in (poller.status().error, house.meta()["error"]):
        assert shown.startswith("ValueError (incident ")
        assert "secret" not in shown


@pytest.mark.usefixtures("failing")
def test_no_reading(house: House) -> None:
    """None is a failed reading: most likely a ``return`` is missing."""
    poller = house.sensor(Script(house, 1, None), reactor=True)
    house.seconds(10)
    assert house.value() == 1
    assert poller.status().error == "the reading is None: the function has returned nothing"
    assert poller.run_counts.failures == 1


@pytest.mark.parametrize(
    ("reading", "place"),
    [
        (b"5", "basement"),
        ({"x": {"y": object()}}, "basement/x/y"),
        ({"x/y": "\udc80"}, "basement/x%2Fy"),
        ({5: 1}, "basement"),
        ({"": 1}, "basement"),
    ],
)
@pytest.mark.usefixtures("failing")
def test_reading_that_cannot_be_served(house: House, reading: object, place: str) -> None:
    """What the tree refuses is a failed reading; the tree's own text names the place, and the last good one stays."""
    poller = house.sensor(Script(house, 1, reading), "basement", reactor=True)
    house.seconds(10)
    assert house.value("basement") == 1
    assert place in poller.status().error
    assert "incident" not in poller.status().error


def test_what_a_handler_returns_is_of_no_concern(house: House) -> None:
    """Only a sensor has to return something; other handlers may return anything."""
    poller = house.handler(Script(house, None, b"bytes", 5), reactor=True)
    house.seconds(20)
    assert (poller.run_counts.runs, poller.run_counts.failures) == (3, 0)
    assert poller.status().state == "ok"


@pytest.mark.usefixtures("failing")
def test_what_a_handler_writes(house: House) -> None:
    """What a handler writes through its ``data`` ages, and is marked when the handler fails; nothing else is."""
    outcomes = Script(house, 1, BROKEN)
    meter = Meter(lambda: None, lambda: meter.data.set("yield/day", outcomes(), unit="Wh"))
    house.handler(meter, stale_after=30, reactor=True)
    house.tree.assign(("other",), 1)
    assert house.meta("yield/day")["unit"] == "Wh"
    house.seconds(10)
    assert house.meta("yield/day")["state"] == "error"
    assert house.meta("other")["state"] == "ok"


def test_ageing_of_what_a_handler_writes(house: House) -> None:
    """What a handler does not write again is stale after its time."""
    meter = Meter(lambda: None, lambda: "yield" in meter.data or meter.data.set("yield", 1))
    house.handler(meter, stale_after=30, reactor=True)
    house.seconds(30)
    house.tree.age()
    assert house.meta("yield")["state"] == "stale"


# --- preparing ----------------------------------------------------------------------------------


def test_prepare_comes_first(house: House) -> None:
    """A handler is prepared once, and runs as soon as that has ended; its slots count from there."""
    order: list[str] = []
    poller = house.handler(Meter(lambda: order.append("prepare"), lambda: order.append("invoke")))
    assert poller.reasons() == ["Meter is not prepared: not yet"]
    house.seconds(4)
    house.pool.end()
    assert order == ["prepare"]
    assert poller.reasons() == []
    assert poller.run_counts.runs == 1
    house.pool.end()
    house.seconds(9.5)
    assert poller.run_counts.runs == 1
    house.seconds(0.5)
    house.pool.end()
    assert order == ["prepare", "invoke", "invoke"]


@pytest.mark.usefixtures("failing")
def test_prepare_is_tried_again(house: House) -> None:
    """A `prepare` that raises is tried again after 1, 2, 4 … and at most 60 s, whatever the interval."""
    prepare, invoke = Script(house, *[BROKEN] * 9, None), Script(house, None)
    poller = house.handler(Meter(prepare, invoke), every=500, reactor=True)
    house.seconds(122)
    assert prepare.starts == [0, 1, 3, 7, 15, 31, 63]
    assert poller.reasons() == ["Meter is not prepared: the wire is cut"]
    assert (poller.status().state, poller.status().next_run) == ("error", at(123))
    assert (poller.run_counts.runs, poller.status().last_run, poller.status().duration) == (0, None, None)
    house.seconds(121.5)
    assert prepare.starts[7:] == [123, 183, 243]
    assert invoke.starts == [243]
    assert poller.reasons() == []
    assert (poller.status().state, poller.status().error) == ("ok", None)


def test_log_of_preparing(house: House, failing: list[LogEvent]) -> None:
    """The log says of what could not be prepared that it was that, and when it could; later failures are the others."""
    house.handler(Meter(Script(house, BROKEN, BROKEN, None), Script(house, BROKEN)), reactor=True)
    with capturedLogs() as logs:
        house.seconds(5)
    assert texts(failing) == ["Meter.prepare failed: the wire is cut", "Meter failed: the wire is cut"]
    assert "Meter.prepare works again after 2 failures in 3 s" in texts(logs)


@pytest.mark.usefixtures("failing")
def test_prepare_that_hangs(house: House) -> None:
    """A `prepare` that hangs has failed; it is tried again only after its thread has returned."""
    poller = house.handler(Meter(Script(house, None), Script(house, None)), timeout=20)
    house.seconds(20)
    assert poller.status().stuck
    assert poller.reasons() == ["Meter is not prepared: no end within 20 s"]
    house.seconds(1000)
    assert len(house.pool.jobs) == 1
    house.pool.end()
    assert not poller.status().stuck
    house.seconds(1)
    house.pool.end()
    assert poller.reasons() == []
    assert poller.run_counts.runs == 1


def test_asynchronous_handler(house: House) -> None:
    """Both methods may be ``async def``."""
    order: list[str] = []

    class Inverter(Handler):
        async def prepare(self) -> None:
            order.append("prepare")

        async def invoke(self) -> None:
            order.append("invoke")

    house.handler(Inverter())
    house.seconds(10)
    assert order == ["prepare", "invoke", "invoke"]


# --- time limits --------------------------------------------------------------------------------


@pytest.mark.parametrize("fixed_delay", [False, True])
def test_hanging_reading(house: House, failing: list[LogEvent], fixed_delay: bool) -> None:
    """A hung reading has failed at its time limit; the handler does not run again until the thread has returned."""
    poller = house.sensor(Script(house, 1, 2, 3), timeout=15, fixed_delay=fixed_delay)
    house.pool.end()
    house.seconds(10)
    house.seconds(14.5)
    assert not poller.status().stuck
    house.seconds(0.5)
    assert poller.status().stuck
    assert poller.status().duration == 15
    assert (poller.run_counts.failures, poller.status().state) == (1, "error")
    assert (house.meta()["state"], house.meta()["error"]) == ("error", "no end within 15 s")
    house.seconds(1000)
    assert (poller.run_counts.runs, len(house.pool.jobs), poller.run_counts.failures) == (2, 1, 1)
    house.pool.end()  # at 1025
    assert not poller.status().stuck
    assert poller.status().duration == 15
    assert house.value() == 1  # the late reading is not stored
    house.seconds(10)
    assert poller.run_counts.runs == 3
    house.pool.end()
    assert (house.value(), house.meta()["state"]) == (3, "ok")
    assert poller.status().missed == (0 if fixed_delay else 101)
    assert len(failing) == 1


@pytest.mark.usefixtures("failing")
def test_async_reading_past_its_time(house: House) -> None:
    """An ``async def`` that takes too long is cancelled and has failed; as it then ends it runs on."""
    starts: list[float] = []

    async def read() -> int:
        starts.append(house.clock.seconds())
        await Deferred()
        return 1

    poller = house.sensor(read, timeout=3)
    house.seconds(3)
    assert poller.status().error == "no end within 3 s"
    assert not poller.status().stuck
    house.seconds(37)
    assert starts == [0, 10, 30]


# --- buses --------------------------------------------------------------------------------------


def test_bus(house: House) -> None:
    """Handlers on one bus wait for each other; one on another bus does not. Waiting alone makes nobody fail."""
    one = house.sensor(lambda: 1, "one", bus="i2c-1", timeout=30)
    two = house.sensor(lambda: 2, "two", bus="i2c-1", timeout=30)
    house.sensor(lambda: 3, "three", bus="i2c-2", timeout=30)
    assert len(house.pool.jobs) == 2
    house.seconds(25)
    house.pool.end()
    assert house.value("one") == 1
    house.pool.end()
    assert house.value("three") == 3
    house.pool.end()
    assert house.value("two") == 2
    assert (one.run_counts.failures, two.run_counts.failures) == (0, 0)
    assert two.status().bus == "i2c-1"


def test_bus_that_is_held(house: House, failing: list[LogEvent]) -> None:
    """While one hangs the others on its bus fail with its name, by the rules of backoff, and go on afterwards."""
    house.sensor(lambda: 1, "lamp", every=1000, bus="i2c-1", timeout=5)
    other = house.sensor(lambda: 2, "other", bus="i2c-1")
    house.seconds(5)
    assert other.status().error == "the bus i2c-1 is held by 'lamp', which hangs"
    assert not other.status().stuck
    assert other.status().duration is None
    house.seconds(30)
    assert other.run_counts.failures == 3  # at 5, 10 and 30
    house.pool.end()
    house.seconds(35)
    house.pool.end()
    assert house.value("other") == 2
    assert len(failing) == 2


def test_preparing_takes_the_bus(house: House) -> None:
    """Preparing talks to the hardware as well: it waits for the bus as a run does."""
    house.sensor(lambda: 1, "one", bus="i2c-1")
    house.handler(Meter(lambda: None, lambda: None), bus="i2c-1")
    assert len(house.pool.jobs) == 1
    house.pool.end()
    assert len(house.pool.jobs) == 1


# --- stopping: the fixture `house` asserts that nothing is left ---------------------------------


def stopped(house: House, poller: Poller) -> None:
    """Assert that ``poller``, which has been told to stop, begins nothing more."""
    runs = poller.run_counts.runs
    house.clock.advance(10_000)
    assert poller.run_counts.runs == runs
    assert not house.pool.jobs


def test_stop_before_start(house: House) -> None:
    """What has not been started can be stopped."""
    house.registry.sensor("a")(lambda: 1)
    [polled] = house.registry.polled
    trigger = trigger_for(polled, house.clock, house.wall)
    poller = Poller(polled, trigger, house.runner, house.tree, Clocks(house.clock, house.wall))
    assert poller.stop().called
    stopped(house, poller)


@pytest.mark.parametrize("fixed_delay", [False, True])
def test_stop_when_idle(house: House, fixed_delay: bool) -> None:
    """Between two runs a stop is done at once."""
    poller = house.sensor(lambda: 1, fixed_delay=fixed_delay)
    house.pool.end()
    house.seconds(3)
    assert poller.stop().called
    assert house.idle
    assert poller.status().next_run is None
    stopped(house, poller)


@pytest.mark.parametrize("fixed_delay", [False, True])
def test_stop_while_running(house: House, fixed_delay: bool) -> None:
    """A stop waits for the run under way, whose reading still counts."""
    poller = house.sensor(lambda: 1, fixed_delay=fixed_delay)
    house.seconds(3)
    done = poller.stop()
    assert not done.called
    house.seconds(2)
    house.pool.end()
    assert done.called
    assert house.value() == 1
    assert house.idle
    stopped(house, poller)


@pytest.mark.usefixtures("failing")
def test_stop_while_running_and_then_stuck(house: House) -> None:
    """A run that hangs only after the stop has begun is marked at its time limit as ever; nothing follows it."""
    poller = house.sensor(lambda: 1, timeout=15)
    house.seconds(3)
    done = poller.stop()
    house.seconds(12)
    assert poller.status().stuck
    assert not house.clock.getDelayedCalls()
    house.pool.end()
    assert done.called
    stopped(house, poller)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("fixed_delay", [False, True])
def test_stop_while_stuck(house: House, fixed_delay: bool) -> None:
    """What is stuck is not waited for, and when its thread returns after all nothing follows."""
    poller = house.sensor(lambda: 1, timeout=15, fixed_delay=fixed_delay)
    house.seconds(20)
    assert poller.stop().called
    assert not house.clock.getDelayedCalls()
    house.pool.end()
    assert house.idle
    stopped(house, poller)


@pytest.mark.parametrize("prepare", [False, True])
def test_stop_while_waiting_for_the_bus(house: House, prepare: bool) -> None:
    """Who waits for a bus leaves the queue: it neither runs nor fails, and the bus goes to the next."""
    house.sensor(lambda: 1, "one", bus="i2c-1")
    if prepare:
        poller = house.handler(Meter(lambda: None, lambda: None), bus="i2c-1")
    else:
        poller = house.sensor(lambda: 2, "two", bus="i2c-1")
    house.sensor(lambda: 3, "three", bus="i2c-1")
    assert poller.stop().called
    assert (poller.run_counts.failures, poller.status().error) == (0, None)
    house.pool.end()
    house.pool.end()
    assert house.value("three") == 3
    with pytest.raises(KeyError):
        house.value("two")


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("fixed_delay", [False, True])
def test_stop_while_backing_off(house: House, fixed_delay: bool) -> None:
    """Nothing is left of a pause after failures."""
    poller = house.sensor(Script(house, BROKEN), fixed_delay=fixed_delay, reactor=True)
    house.seconds(35)
    assert poller.stop().called
    assert house.idle
    stopped(house, poller)


def test_stop_while_preparing(house: House) -> None:
    """A stop waits for `prepare`, which is not followed by a run."""
    poller = house.handler(Meter(lambda: None, lambda: None))
    done = poller.stop()
    assert not done.called
    house.pool.end()
    assert done.called
    assert house.idle
    stopped(house, poller)


@pytest.mark.usefixtures("failing")
def test_stop_between_two_tries_to_prepare(house: House) -> None:
    """Nothing is left of a pause between two tries."""
    poller = house.handler(Meter(Script(house, BROKEN), lambda: None), reactor=True)
    house.seconds(5)
    assert poller.stop().called
    assert house.idle
    stopped(house, poller)


def test_stop_twice(house: House) -> None:
    """A second stop is as good as the first."""
    poller = house.sensor(lambda: 1)
    first, second = poller.stop(), poller.stop()
    house.pool.end()
    assert first.called
    assert second.called
    assert poller.stop().called


def test_stop_from_within_a_run(house: House) -> None:
    """A function on the reactor that leads to the stop of its own poller is the last run."""
    poller = house.sensor(lambda: poller.stop() and 1 if house.clock.seconds() else 1, reactor=True)
    house.seconds(10)
    assert poller.run_counts.runs == 2
    assert house.value() == 1
    stopped(house, poller)


def test_a_handler_knows_that_it_stops(house: House) -> None:
    """``stopping`` is true from the stop on, so that a long run can end early."""
    seen: list[bool] = []
    meter = Meter(lambda: None, lambda: seen.append(meter.stopping))
    poller = house.handler(meter)
    house.pool.end()
    house.pool.end()
    house.seconds(10)
    poller.stop()
    house.pool.end()
    assert seen == [False, True]


# --- its status ---------------------------------------------------------------------------------


def test_status(house: House) -> None:
    """All that is shown of a handler, before, while and after it runs."""
    poller = house.sensor(lambda: 1, "a/b", bus="spi")
    pending = HandlerStatus(name="a/b", kind="sensor", bus="spi", state="pending", interval=10, last_run=at(0), runs=1)
    assert poller.status() == pending
    house.seconds(1.5)
    house.pool.end()
    assert poller.status() == attrs.evolve(pending, state="ok", duration=1.5, next_run=at(10))


@pytest.mark.usefixtures("failing")
def test_status_of_failures(house: House) -> None:
    """A handler that has never succeeded is in error, and `next_run` is the slot that will not be skipped."""
    poller = house.sensor(Script(house, BROKEN, BROKEN, BROKEN, 1), reactor=True)
    seen = []
    for _ in range(8):
        status = poller.status()
        seen.append((status.state, status.failures, status.next_run))
        house.seconds(10)
    waiting = ("error", 3, at(70))
    assert seen == [
        ("error", 1, at(10)),
        ("error", 2, at(30)),
        ("error", 2, at(30)),
        waiting,
        waiting,
        waiting,
        waiting,
        ("ok", 3, at(80)),
    ]


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("every", [0.5, 1, 7, 11, 60, 90])
def test_next_run_is_when_it_runs(house: House, every: float) -> None:
    """Whatever `next_run` says while a handler fails, that is when it runs."""
    script = Script(house, BROKEN)
    poller = house.sensor(script, every=every, reactor=True)
    for _ in range(9):
        promised, runs = poller.status().next_run, poller.run_counts.runs
        while poller.run_counts.runs == runs:
            house.clock.advance(house.clock.getDelayedCalls()[0].getTime() - house.clock.seconds())
        assert poller.status().last_run == pytest.approx(promised, abs=0.0005)


def test_status_with_a_fixed_delay(house: House) -> None:
    """With a fixed delay the next run is known once the last has ended."""
    poller = house.sensor(lambda: 1, fixed_delay=True)
    assert poller.status().next_run is None
    house.seconds(3)
    house.pool.end()
    assert poller.status().next_run == at(13)


# --- the wall clock -----------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [3 * HOUR, -3 * HOUR, 400 * DAY, -400 * DAY], ids=["+3h", "-3h", "+400d", "-400d"])
@pytest.mark.parametrize("fixed_delay", [False, True])
@pytest.mark.parametrize("during_a_run", [False, True])
def test_wall_clock_is_set(house: House, shift: float, fixed_delay: bool, during_a_run: bool) -> None:
    """When the wall clock is set nothing stalls, storms or overlaps, and nothing grows stale; only dates change."""
    poller = house.sensor(lambda: 1, fixed_delay=fixed_delay)
    house.pool.end()
    house.seconds(10)
    if not during_a_run:
        house.pool.end()
    house.seconds(1)
    house.shift = shift
    house.seconds(1)
    if during_a_run:
        house.pool.end()
    house.tree.age()
    assert (house.meta()["state"], house.meta()["age"]) == ("ok", 0 if during_a_run else 2)
    assert not house.pool.jobs
    began = 12 if fixed_delay and during_a_run else 10
    assert poller.status().next_run == at(began + 10 + shift)
    house.seconds(began - 2.5)
    assert not house.pool.jobs
    house.seconds(0.5)
    assert len(house.pool.jobs) == 1
    house.pool.end()
    assert poller.status().last_run == at(began + 10 + shift)
    assert house.meta()["time"] == encoding.timestamp(NOW + began + 10 + shift)
    assert (poller.run_counts.runs, poller.status().missed, poller.run_counts.failures) == (3, 0, 0)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("shift", [3 * HOUR, -3 * HOUR])
def test_wall_clock_is_set_during_backoff_and_time_limits(house: House, shift: float) -> None:
    """Pauses and time limits are measured on the other clock, too."""
    script = Script(house, BROKEN)
    house.sensor(script, reactor=True)
    hanging = house.sensor(lambda: 1, "hanging", timeout=15)
    house.seconds(12)
    house.shift = shift
    house.seconds(2.5)
    assert hanging.run_counts.failures == 0
    house.seconds(0.5)
    assert hanging.run_counts.failures == 1
    house.seconds(55.5)
    assert script.starts == [0, 10, 30, 70]


# --- what must not happen -----------------------------------------------------------------------


class BrokenTree(DataTree):
    """A tree that cannot even take note of a failure."""

    def fail(self, source: Any, error: str) -> None:
        """Fail."""
        raise ZeroDivisionError


def test_our_own_mistake_does_not_end_the_polling(house: House, failing: list[LogEvent]) -> None:
    """An error in our own code, where a failure is noted, is logged and the handler goes on being polled."""
    house.tree = BrokenTree("boot", house.clock.seconds, house.wall)
    script = Script(house, BROKEN, 1)
    house.sensor(script, reactor=True)
    assert texts(failing)[-1] == "while polling a"
    assert failing[-1]["log_failure"].check(ZeroDivisionError)
    house.seconds(10)
    assert script.starts == [0, 10]
    assert house.value() == 1
