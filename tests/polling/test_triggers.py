"""When runs begin, on clocks that the test holds in its hand; above all, what becomes of it when the clock is set.

What no stall means here: once the wall clock has been set, the next run is not later than the first slot by the new
time. If the clock was set back within the timetable's grain it is the first slot that has not been yet: so at most a
grain later than it would have been.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent

from rpiserve.core import retry
from rpiserve.declare.timetables import PERIODS, CronLine, Repeat, Schedule, Timetable
from rpiserve.polling import triggers
from rpiserve.polling.triggers import LONGEST_SLEEP, CalendarTrigger, FixedDelay, FixedRate, Trigger, TriggerStatus

BERLIN = ZoneInfo("Europe/Berlin")
BOOT = datetime(2026, 7, 1, 3, 59, 30, tzinfo=UTC)
"""Half a minute before six o'clock in Berlin."""


class SleepyClock(Clock):
    """A clock that remembers for how long it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps: list[float] = []

    def callLater(self, when: float, *args: Any, **kwargs: Any) -> IDelayedCall:
        """Remember the delay."""
        self.sleeps.append(when)
        return super().callLater(when, *args, **kwargs)


class Machine:
    """A trigger with its clocks, and with runs that last ``takes`` seconds.

    Attributes:
        clock: the monotonic one.
        runs: when runs began: by the monotonic clock, and by the wall clock.
        running: whether a run is under way.
    """

    def __init__(self, boot: datetime = BOOT, takes: float = 0.0, failures: int = 0) -> None:
        self.clock = SleepyClock()
        self.takes = takes
        self.failures = failures
        self.runs: list[tuple[float, datetime]] = []
        self.running = False
        self.trigger: Trigger | None = None
        self._lead = boot.timestamp()
        self._end: IDelayedCall | None = None

    def wall(self) -> float:
        """Return what the wall clock shows, in seconds since the epoch."""
        return self._lead + self.clock.seconds()

    @property
    def now(self) -> datetime:
        """What the wall clock shows."""
        return datetime.fromtimestamp(self.wall(), UTC)

    def planned(self, schedule: Schedule | CronLine, zone: tzinfo = BERLIN) -> "Machine":
        """Start a schedule."""
        self.trigger = CalendarTrigger(
            lambda now: schedule.timetable(now, zone), schedule.describe(), zone, self.clock, self.wall
        )
        self.trigger.start(self.begin)
        return self

    def begin(self) -> Deferred[None]:
        """Begin a run."""
        assert not self.running
        self.runs.append((self.clock.seconds(), self.now))
        if not self.takes:
            self.end()
            return succeed(None)
        self.running = True
        done: Deferred[None] = Deferred()

        def end() -> None:
            self.running = False
            self.end()
            done.callback(None)

        self._end = self.clock.callLater(self.takes, end)
        self.clock.sleeps.pop()  # this was no sleep of the trigger's
        return done

    def end(self) -> None:
        """Tell the trigger that a run has ended."""
        assert self.trigger is not None
        self.trigger.ended(self.failures)

    def wait(self, seconds: float) -> None:
        """Let time pass, from one delayed call to the next."""
        until = self.clock.seconds() + seconds
        while (calls := self.clock.getDelayedCalls()) and min(call.getTime() for call in calls) <= until:
            self.clock.advance(max(0.0, min(call.getTime() for call in calls) - self.clock.seconds()))
        self.clock.advance(until - self.clock.seconds())

    def wait_for_run(self, longest: float) -> None:
        """Let time pass until a run begins."""
        before, until = len(self.runs), self.clock.seconds() + longest
        while len(self.runs) == before and self.clock.seconds() < until:
            self.wait(max(1e-6, min(call.getTime() for call in self.clock.getDelayedCalls()) - self.clock.seconds()))
        assert len(self.runs) > before, f"no run within {longest} s"

    def set(self, seconds: float) -> None:
        """Set the wall clock."""
        self._lead += seconds

    def next_run(self) -> datetime:
        """Return what is shown as the next run."""
        assert self.trigger is not None
        next_run = self.trigger.status().next_run
        assert next_run is not None
        return datetime.fromtimestamp(next_run, UTC)

    def stop(self) -> None:
        """Stop: no delayed call is left but that of a run under way."""
        assert self.trigger is not None
        self.trigger.stop()
        assert self.clock.getDelayedCalls() == ([self._end] if self.running else [])


# --- plans: the usual course ----------------------------------------------------------------------

OLD = date(1970, 1, 1)
SIX = time(6)

KINDS: dict[str, Schedule | CronLine] = {
    "weekly": Schedule(SIX, date(1970, 1, 7), Repeat.WEEKLY, 1),  # a Wednesday, as the day of BOOT is
    "daily": Schedule(SIX, OLD, Repeat.DAILY, 1),
    "hourly": Schedule(SIX, OLD, Repeat.HOURLY, 1),
    "quarters": Schedule(SIX, OLD, Repeat.MINUTELY, 15),
    "seconds": Schedule(SIX, OLD, Repeat.SECOND, 10),
    "second": Schedule(SIX, OLD, Repeat.SECOND, 1),
    "cron": CronLine("0 6 * * *"),
    "cron-star": CronLine("*/15 * * * *"),
    "cron-seconds": CronLine("*/10 * * * * *"),
}

PERIOD = {"weekly": 7 * 86_400, "daily": 86_400, "hourly": 3600, "quarters": 900, "seconds": 10, "second": 1}
PERIOD |= {"cron": 86_400, "cron-star": 900, "cron-seconds": 10}


def table_of(kind: str) -> Timetable:
    """Return the timetable of a kind."""
    return KINDS[kind].timetable(BOOT, BERLIN)


@pytest.fixture
def look_rarely(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what comes once a day or week look at the clock each quarter only, or a week would be 20,000 looks long."""
    if request.node.callspec.params["kind"] in ("weekly", "daily", "cron"):
        monkeypatch.setattr(triggers, "LONGEST_SLEEP", 900.0)


@pytest.mark.parametrize("repeat", list(Repeat))
def test_without_a_start_the_first_run_is_at_once(repeat: Repeat) -> None:
    """Without a start the first run is at that of the daemon, and the second one period later."""
    machine = Machine(datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=UTC)).planned(Schedule(None, None, repeat, 1))
    assert [elapsed for elapsed, _ in machine.runs] == [0.0]
    assert machine.next_run().replace(microsecond=0) == (BOOT.replace(hour=12, minute=0, second=0) + PERIODS[repeat])
    machine.stop()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("look_rarely")
def test_old_starts(kind: str) -> None:
    """With a start in the past the first run is at the next slot, neither before nor after, and so is each further."""
    machine = Machine().planned(KINDS[kind])
    machine.wait(30 + 3 * PERIOD[kind] - 0.5)
    table, expected = table_of(kind), []
    slot = table.next(BOOT - timedelta(microseconds=1))
    while slot < machine.now:
        expected.append(slot)
        slot = table.next(slot)
    walls = [wall for _, wall in machine.runs]
    assert len(walls) == len(expected) >= 3
    assert all(
        timedelta(0) <= wall - slot < timedelta(milliseconds=1) for wall, slot in zip(walls, expected, strict=True)
    )
    machine.stop()


def test_sleeps_are_short() -> None:
    """However far the next slot is, the clock is looked at twice a minute, and not much more often."""
    machine = Machine().planned(KINDS["daily"])
    machine.wait(2 * 86_400)
    assert max(machine.clock.sleeps) == LONGEST_SLEEP
    assert len(machine.clock.sleeps) < 2 * 2880 + 20
    machine.stop()


def test_over_a_night_of_25_hours() -> None:
    """A schedule goes on over the night on which clocks change: 25 hours from one daily run to the next."""
    machine = Machine(datetime(2026, 10, 24, 3, 0, tzinfo=UTC)).planned(KINDS["daily"])
    machine.wait(3 * 86_400)
    first, second, third = [elapsed for elapsed, _ in machine.runs]
    assert round(second - first) == 25 * 3600
    assert round(third - second) == 24 * 3600
    machine.stop()


def test_missed_slots_are_counted() -> None:
    """Slots that come while a run is under way are missed and counted; the next run is at the next slot after it."""
    machine = Machine(takes=35).planned(KINDS["seconds"])
    machine.wait(100)
    assert [elapsed for elapsed, _ in machine.runs] == [0, 40, 80]
    assert machine.trigger is not None
    assert machine.trigger.missed == 6
    machine.wait(15)
    machine.stop()


@pytest.mark.parametrize("failures", [1, 7])
def test_failures_are_not_retried(failures: int) -> None:
    """A run that failed is followed by that at the next slot, no sooner and no later."""
    machine = Machine(failures=failures).planned(KINDS["quarters"])
    machine.wait(3600)
    assert [round(elapsed) for elapsed, _ in machine.runs] == [30, 930, 1830, 2730]
    machine.stop()


def test_a_reactor_that_was_held_up() -> None:
    """A slot that is seen too late, for something held up the reactor, is seen to once, and those after it not."""
    machine = Machine(takes=1).planned(KINDS["seconds"])
    machine.wait(5)
    machine.clock.advance(60)  # in one leap
    assert len(machine.runs) == 2
    machine.wait(10)
    assert [round(elapsed) for elapsed, _ in machine.runs] == [0, 65, 70]
    machine.wait(1)
    machine.stop()


def test_status() -> None:
    """The status has the schedule, its zone and the next run, during a run as well, by the wall clock as it is set."""
    machine = Machine(takes=10)
    schedule = KINDS["daily"]
    planned = CalendarTrigger(
        lambda now: schedule.timetable(now, BERLIN), "daily × 1", BERLIN, machine.clock, machine.wall
    )
    machine.trigger = planned

    def due(*date: int) -> TriggerStatus:
        next_run = datetime(*date, tzinfo=BERLIN).timestamp()  # type: ignore[arg-type]
        return TriggerStatus(schedule="daily × 1", timezone=BERLIN, next_run=next_run)

    assert planned.status() == TriggerStatus(schedule="daily × 1", timezone=BERLIN, next_run=None)
    planned.start(machine.begin)
    assert planned.status() == due(2026, 7, 1, 6)
    machine.wait(35)
    assert machine.running
    assert planned.status() == due(2026, 7, 2, 6)
    machine.set(86_400 * 120)
    machine.wait(30)
    assert planned.status() == due(2026, 10, 29, 6)
    machine.stop()


@pytest.mark.parametrize("kind", ["daily", "seconds"])
def test_stop_at_any_moment(kind: str) -> None:
    """Stopping a schedule at any time, even twice, leaves no delayed call and begins no run."""
    for seconds in (0, 1, 29.999, 30, 31, 34.9, 45, 3600.5):
        machine = Machine(takes=5).planned(KINDS[kind])
        machine.wait(seconds)
        machine.stop()
        machine.stop()
        machine.trigger = None
    idle = CalendarTrigger(lambda now: KINDS[kind].timetable(now, BERLIN), "", BERLIN, machine.clock, machine.wall)
    idle.stop()


# --- plans: the wall clock is set -----------------------------------------------------------------

HOUR, DAY = 3600.0, 86_400.0
STEPS = [0.5, 1, 59 * 60, 3 * HOUR, 3 * HOUR + 1, DAY, 400 * DAY]
STEPS += [-step for step in STEPS]
GRAIN = 3 * HOUR
MOMENTS = [7.3, 29.9, 30.0, 37.7, 30 + HOUR / 2]
"""Asleep, just before a slot, at a slot, after a run, much later."""


def runs_after(machine: Machine, elapsed: float) -> list[datetime]:
    """Return when runs began after a moment, by the wall clock."""
    return [wall for at, wall in machine.runs if at > elapsed]


def bound(kind: str, before: datetime, now: datetime) -> datetime:
    """Return the latest time for the next run, by the wall clock: it was set from ``before`` to ``now``."""
    table = table_of(kind)
    within = timedelta(0) < before - now <= table.grain
    return table.next(before if within else now)


def check_steps(machine: Machine, kind: str, before: datetime, moved: float) -> None:
    """Check what follows after a step, of a clock that is set right now: no storm, no stall, no slot twice."""
    table, now, elapsed = table_of(kind), machine.now, machine.clock.seconds()
    due = bound(kind, before, now)
    machine.wait_for_run((due - now).total_seconds() + 1e-3)
    period = PERIOD[kind]
    machine.wait(period * 1.5)
    walls = runs_after(machine, elapsed)
    end = machine.now
    regular, slot = 0, table.next(now)
    while slot <= end:
        regular, slot = regular + 1, table.next(slot)
    assert len(walls) <= regular + 1, "more than one run to catch up"
    if abs(moved) <= table.grain.total_seconds():
        after_which = [table.next(wall) for _, wall in machine.runs]
        assert len(set(after_which)) == len(after_which), "a slot had two runs"
    assert max(machine.clock.sleeps) <= triggers.LONGEST_SLEEP


@pytest.mark.parametrize("step", [GRAIN, GRAIN + 1, -GRAIN, -GRAIN - 1])
@pytest.mark.parametrize("kind", ["weekly", "daily", "cron"])
@pytest.mark.usefixtures("look_rarely")
def test_clock_is_set(kind: str, step: float) -> None:
    """At either edge of the grain: one run to catch up at most, no stall, no slot twice within it.

    What comes more often than daily is left to `test_clock_is_set_again_and_again`.
    """
    assert table_of(kind).grain.total_seconds() == GRAIN
    for moment in MOMENTS:
        machine = Machine().planned(KINDS[kind])
        machine.wait(moment)
        before = machine.now
        machine.set(step)
        check_steps(machine, kind, before, step)
        machine.stop()


@pytest.mark.parametrize("step", [GRAIN, GRAIN + 1, -GRAIN, -GRAIN - 1])
@pytest.mark.parametrize("kind", ["daily", "cron"])
@pytest.mark.usefixtures("look_rarely")
def test_clock_is_set_during_a_run(kind: str, step: float) -> None:
    """The same while a run is under way: none begins before its end."""
    machine = Machine(takes=20).planned(KINDS[kind])
    machine.wait(40)
    assert machine.running
    before = machine.now
    machine.set(step)
    machine.wait(10)
    assert not machine.running
    assert len(machine.runs) == 1
    check_steps(machine, kind, before, step)
    machine.wait(20)
    machine.stop()


def test_daily_catches_up_once() -> None:
    """Set forward by the grain, a daily run that was passed over is made up for, at the next look, and only once."""
    machine = Machine().planned(KINDS["daily"])
    machine.wait(5)
    machine.set(3 * HOUR)
    machine.wait(30)
    assert [wall.hour for _, wall in machine.runs] == [7]  # nine o'clock in Berlin
    machine.wait(DAY)
    assert [wall.hour for _, wall in machine.runs] == [7, 4]
    machine.stop()


def test_corrections_are_not_caught_up_with() -> None:
    """Set forward by more, what was passed over is not made up for: the machine was off at that time, as it seems."""
    machine = Machine().planned(KINDS["daily"])
    machine.wait(5)
    machine.set(400 * DAY + HOUR)
    machine.wait(23 * HOUR)
    assert machine.runs == []
    machine.wait(60)
    assert len(machine.runs) == 1
    machine.stop()


def test_slot_right_after_a_correction() -> None:
    """A slot that comes after the correction is not lost because the correction has not been noticed yet."""
    machine = Machine(datetime(1970, 1, 1, 0, 0, 3, tzinfo=UTC)).planned(KINDS["daily"])
    machine.wait(61)  # the last look was a second ago
    machine.set((datetime(2026, 7, 1, 3, 59, 50, tzinfo=UTC) - machine.now).total_seconds())
    machine.wait(29)
    assert len(machine.runs) == 1
    machine.wait(60)
    assert len(machine.runs) == 1
    machine.stop()


@pytest.mark.parametrize("step", [20_000 * DAY, 8 * HOUR, -8 * HOUR, -400 * DAY])
@pytest.mark.parametrize("repeat", [Repeat.DAILY, Repeat.HOURLY, Repeat.MINUTELY, Repeat.SECOND])
def test_clock_that_was_wrong_at_boot(repeat: Repeat, step: float) -> None:
    """Without a start time, a schedule keeps its period through the first time sync, in either direction.

    The clock showed 1990, the time of the last shutdown, or some time that is yet to come.
    """
    machine = Machine(datetime(1990, 7, 1, 12, tzinfo=UTC)).planned(Schedule(None, None, repeat, 1), UTC)
    period = PERIODS[repeat].total_seconds()
    machine.wait(min(period / 2, 100))
    machine.set(step)
    machine.wait(2.5 * period - machine.clock.seconds())
    assert [round(elapsed, 3) for elapsed, _ in machine.runs] == [0, period, 2 * period]
    machine.stop()


@pytest.mark.parametrize("schedule", [KINDS["daily"], KINDS["cron"], Schedule(SIX, None, Repeat.DAILY, 1)])
@pytest.mark.parametrize("boot", [datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC), BOOT - timedelta(hours=9)])
def test_boot_without_the_time(schedule: Schedule | CronLine, boot: datetime) -> None:
    """A machine that learns the time after boot only runs what is daily at the right time of the same day."""
    machine = Machine(boot).planned(schedule)
    machine.wait(40)
    machine.set((BOOT - machine.now).total_seconds() - 3600)
    machine.wait(3 * DAY)
    assert [round((wall - BOOT).total_seconds()) for _, wall in machine.runs] == [30, 30 + DAY, 30 + 2 * DAY]
    machine.stop()


SHORT = {kind: KINDS[kind] for kind in ("hourly", "quarters", "seconds", "second", "cron-star", "cron-seconds")}


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(SHORT)),
    takes=st.sampled_from([0.0, 0.3, 12.0, 1000.0]),
    story=st.lists(
        st.tuples(
            st.one_of(st.floats(0, 60), st.floats(0, 4000)),
            st.one_of(st.floats(-2, 2), st.sampled_from(STEPS), st.floats(-1e8, 1e8)),
        ),
        max_size=8,
    ),
)
def test_clock_is_set_again_and_again(kind: str, takes: float, story: list[tuple[float, float]]) -> None:
    """Whatever is done to the clock, each step brings one run more at most, and in the end all goes as it should."""
    machine = Machine(takes=takes).planned(SHORT[kind])
    for pause, step in story:
        machine.wait(pause)
        machine.set(step)
    period, grain = PERIOD[kind], table_of(kind).grain.total_seconds()
    assert len(machine.runs) <= machine.clock.seconds() / period + 1 + len(story)
    machine.wait(takes + LONGEST_SLEEP + grain + 2 * period)
    start = machine.clock.seconds()
    machine.wait(2 * takes + 6 * period)
    elapsed = [at for at, _ in machine.runs if at > start]
    assert elapsed
    pause = (takes // period + 1) * period
    distances = [b - a for a, b in pairwise(elapsed)]
    assert all(abs(distance - pause) < 1e-3 for distance in distances)
    assert max(machine.clock.sleeps) <= LONGEST_SLEEP
    machine.wait(takes)
    machine.stop()


# --- intervals ------------------------------------------------------------------------------------


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine whose trigger is stopped in the end, and then leaves nothing behind."""
    machine = Machine()
    yield machine
    machine.takes = 0
    machine.wait(100 if machine.running else 0)
    machine.stop()


def test_fixed_rate(machine: Machine) -> None:
    """Runs begin at multiples of the interval, whatever the wall clock does; the report says when the next one does."""
    machine.trigger = FixedRate("a", 10, machine.clock, machine.wall)
    assert machine.trigger.status().next_run is None
    machine.trigger.start(machine.begin)
    machine.wait(15)
    machine.set(-400 * DAY)
    machine.wait(10)
    assert [elapsed for elapsed, _ in machine.runs] == [0, 10, 20]
    machine.set(400 * DAY)
    next_run = datetime(2026, 7, 1, 4, tzinfo=UTC).timestamp()
    assert machine.trigger.status() == TriggerStatus(interval=10, next_run=next_run)


def test_fixed_rate_and_overruns(machine: Machine) -> None:
    """What overruns misses slots: they are all counted, and logged ever more rarely."""
    machine.takes = 15
    machine.trigger = FixedRate("slow", 10, machine.clock, machine.wall)
    with capturedLogs() as logged:
        machine.trigger.start(machine.begin)
        machine.wait(75)
        machine.takes = 5
        machine.wait(24)
        machine.takes = 15
        machine.wait(11)
    assert [elapsed for elapsed, _ in machine.runs] == [0, 20, 40, 60, 80, 90, 100]
    assert machine.trigger.missed == 4
    warning = "slow did not end within its interval of 10 s: runs are missed"
    assert [formatEvent(event) for event in logged] == [warning, f"{warning} (3 times since the last such line)"]
    assert machine.trigger.status().next_run is None
    with capturedLogs() as logged:
        machine.wait(15)
    assert machine.trigger.missed == 5
    assert logged == []


def test_fixed_rate_on_a_late_reactor(machine: Machine) -> None:
    """Slots that pass while nothing runs, for something holds up the reactor, are missed, and nobody is blamed."""
    machine.trigger = FixedRate("innocent", 10, machine.clock, machine.wall)
    with capturedLogs() as logged:
        machine.trigger.start(machine.begin)
        machine.clock.advance(35)
        assert machine.trigger.missed == 2
        machine.takes = 4
        machine.wait(6)
        machine.clock.rightNow += 20  # of its end the reactor hears too late
        machine.wait(0)
        assert machine.trigger.missed == 2
        machine.wait(10)
        assert machine.trigger.missed == 4
    assert logged == []


def test_fixed_rate_and_an_overrun_on_a_late_reactor(machine: Machine) -> None:
    """A run that still goes on when the reactor has caught up gets as long again as the reactor was late."""
    machine.trigger = FixedRate("slow", 10, machine.clock, machine.wall)
    machine.takes = 1000
    with capturedLogs() as logged:
        machine.trigger.start(machine.begin)
        machine.clock.advance(17)
        machine.wait(6.5)
        assert logged == []
        machine.wait(0.5)
    assert len(logged) == 1


def test_fixed_rate_and_an_overrun_on_a_reactor_that_is_always_late(machine: Machine) -> None:
    """A reactor that is a little late each time does not keep it from being told."""
    machine.trigger = FixedRate("slow", 10, machine.clock, machine.wall)
    machine.takes = 1000
    with capturedLogs() as logged:
        machine.trigger.start(machine.begin)
        for _ in range(20):
            machine.clock.advance(0.75)
    assert len(logged) == 1


def test_fixed_rate_of_what_blocks_the_reactor(machine: Machine) -> None:
    """What holds up the reactor itself for longer than its interval is told."""

    def begin() -> Deferred[None]:
        machine.clock.rightNow += 10
        return machine.begin()

    machine.trigger = FixedRate("greedy", 10, machine.clock, machine.wall)
    with capturedLogs() as logged:
        machine.trigger.start(begin)
    assert len(logged) == 1


def test_fixed_rate_and_failures(machine: Machine) -> None:
    """After failures slots are skipped, which the report knows; after a success none is."""
    machine.failures = 3
    machine.trigger = FixedRate("a", 10, machine.clock, machine.wall)
    machine.trigger.start(machine.begin)
    skipped = round(retry.delay(3, 10) / 10) * 10
    assert skipped > 10
    assert machine.next_run() == BOOT + timedelta(seconds=skipped)
    machine.wait(skipped - 1)
    assert len(machine.runs) == 1
    machine.failures = 0
    machine.wait(1)
    assert len(machine.runs) == 2
    assert machine.next_run() == BOOT + timedelta(seconds=skipped + 10)


def test_fixed_rate_that_breaks(machine: Machine, logged_failures: list[LogEvent]) -> None:
    """If beginning a run raises, which is our own mistake, the log says that this was the end of it."""

    def broken() -> Deferred[None]:
        raise ZeroDivisionError

    machine.trigger = FixedRate("a", 10, machine.clock, machine.wall)
    machine.trigger.start(broken)
    [event] = logged_failures
    assert event["log_failure"].check(ZeroDivisionError)
    assert str(formatEvent(event)).startswith("a is polled no more")
    logged_failures.clear()


def test_fixed_delay(machine: Machine) -> None:
    """The interval counts from the end of a run; after failures it is longer, and the report knows."""
    machine.takes = 3
    machine.trigger = FixedDelay(10, machine.clock, machine.wall)
    machine.trigger.start(machine.begin)
    assert machine.trigger.status().next_run is None
    machine.wait(20)
    assert [elapsed for elapsed, _ in machine.runs] == [0, 13]
    next_run = datetime(2026, 7, 1, 3, 59, 56, tzinfo=UTC).timestamp()
    assert machine.trigger.status() == TriggerStatus(interval=10, next_run=next_run)
    machine.failures = 3
    machine.wait(9.5)
    assert machine.next_run() == BOOT + timedelta(seconds=29 + retry.delay(3, 10))
    assert machine.trigger.missed == 0


@pytest.mark.parametrize(
    "make", [lambda m: FixedRate("a", 10, m.clock, m.wall), lambda m: FixedDelay(10, m.clock, m.wall)]
)
def test_stop_an_interval_at_any_moment(make: Callable[[Machine], Trigger]) -> None:
    """Whenever an interval is stopped, before its start and twice included, no run begins any more."""
    for seconds in (None, 3, 10, 17):
        machine = Machine()
        machine.trigger = make(machine)
        if seconds is not None:
            machine.trigger.start(machine.begin)
            machine.wait(seconds)
        machine.stop()
        machine.stop()
        count = len(machine.runs)
        machine.wait(100)
        assert len(machine.runs) == count
