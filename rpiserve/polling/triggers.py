"""When the runs of a polled handler begin: three ways, each with the clocks it needs.

A trigger is told what to run when it starts, and when a run has ended; it never begins a run before that.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol, TypeAlias

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rpiserve.core import retry
from rpiserve.core.log_limit import LogLimit
from rpiserve.declare.timetables import Agenda, Timetable

log = Logger()

LEEWAY = 0.1
"""How late the reactor may come to the end of an interval, in seconds, before the run is given as much time again."""

LONGEST_SLEEP = 30.0
"""Seconds after which a schedule looks at the wall clock again: so soon it notices that the clock was set."""

Begin: TypeAlias = Callable[[], Deferred[None]]
"""Begins a run; its Deferred fires when the run has ended, and never fails."""


@attrs.frozen(kw_only=True)
class TriggerStatus:
    """What is known of the runs to come.

    Attributes:
        interval: seconds from one run to the next; None for a timetable.
        schedule: the timetable in words; None for an interval.
        timezone: the zone of the timetable.
        next_run: when the next run is due, in seconds since the epoch; None if that is not known yet.
    """

    interval: float | None = None
    schedule: str | None = None
    timezone: tzinfo | None = None
    next_run: float | None


class Trigger(Protocol):
    """When runs begin.

    Attributes:
        missed: how many slots have come while a run was under way or the reactor was blocked.
    """

    missed: int

    def start(self, begin: Begin) -> None:
        """Begin the first run when it is due, and each further one."""
        ...

    def ended(self, failures: int) -> None:
        """Take note that a run has ended, the last ``failures`` of them with an error."""
        ...

    def stop(self) -> None:
        """Begin no more runs."""
        ...

    def status(self) -> TriggerStatus:
        """Return what is known of the runs to come."""
        ...


class FixedRate:
    """Runs at the slots *start + k × interval*. After failures slots are skipped, by the rule of `retry.delay`.

    A run that lasts longer than the interval is logged. One of which the reactor only hears late is not: it is not the
    handler that has held up the reactor. The slots that are missed count in any case.

    Args:
        name: the handler's name, for the log.
        interval: in seconds.
        clock: the reactor's clock, in seconds.
        wall: the wall clock, in seconds since the epoch.
    """

    def __init__(self, name: str, interval: float, clock: IReactorTime, wall: Callable[[], float]) -> None:
        self.missed = 0
        self._name = name
        self._interval = interval
        self._clock = clock
        self._wall = wall
        self._resume = -math.inf
        self._overruns = LogLimit()
        self._limit: IDelayedCall | None = None
        self._begin: Begin | None = None
        self._loop = LoopingCall.withCount(self._slot)
        self._loop.clock = clock

    def start(self, begin: Begin) -> None:
        """Begin the first run at once."""
        self._begin = begin
        self._loop.start(self._interval).addErrback(
            lambda failure: log.failure("{name} is polled no more", failure, name=self._name)
        )

    def ended(self, failures: int) -> None:
        """Decide which slots to skip."""
        self._stop_watching()
        self._resume = -math.inf
        if failures:
            # Half an interval of grace: a slot comes a little late by the clock, this moment a little later.
            self._resume = self._clock.seconds() + retry.delay(failures, self._interval) - self._interval / 2

    def stop(self) -> None:
        """Begin no more runs. A run under way ends the loop when it ends."""
        self._stop_watching()
        if self._loop.running:
            self._loop.stop()

    def status(self) -> TriggerStatus:
        """Return the interval, and when the next run is due."""
        return TriggerStatus(interval=self._interval, next_run=wall_time(self._next_run(), self._clock, self._wall))

    def _slot(self, slots: int) -> Deferred[None] | None:
        """Do what is due at a slot. ``slots`` is how many have come since the last one that was seen to."""
        self.missed += slots - 1
        now = self._clock.seconds()
        if now < self._resume:
            return None
        assert self._begin is not None
        ended = self._begin()
        left = now + self._interval - self._clock.seconds()
        if left <= 0:  # it was on the reactor all the time
            self._tell_overrun()
        elif not ended.called and self._loop.running:
            self._limit = self._clock.callLater(left, self._overrun, now + self._interval)
        return ended

    def _overrun(self, due: float) -> None:
        """Tell that the run lasts too long; but if the reactor comes to this late, wait for so long, once."""
        self._limit = None
        late = self._clock.seconds() - due
        if late > LEEWAY:
            self._limit = self._clock.callLater(late, self._tell_overrun)
        else:
            self._tell_overrun()

    def _tell_overrun(self) -> None:
        self._limit = None
        overruns = self._overruns.take(self._clock.seconds())
        if overruns.is_due:
            log.warn(
                "{name} did not end within its interval of {interval:g} s: runs are missed{more}",
                name=self._name,
                interval=self._interval,
                more=overruns.more,
            )

    def _stop_watching(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _next_run(self) -> float | None:
        if self._loop.call is None:
            return None
        slot = float(self._loop.call.getTime())
        skipped = max(0, math.ceil((self._resume - slot) / self._interval)) if self._resume > slot else 0
        return slot + skipped * self._interval


class FixedDelay:
    """Begins each run ``interval`` seconds after the end of the last; after failures later, by `retry.delay`.

    Args:
        interval: in seconds.
        clock: the reactor's clock, in seconds.
        wall: the wall clock, in seconds since the epoch.
    """

    def __init__(self, interval: float, clock: IReactorTime, wall: Callable[[], float]) -> None:
        self.missed = 0
        self._interval = interval
        self._clock = clock
        self._wall = wall
        self._begin: Begin | None = None
        self._timer: IDelayedCall | None = None

    def start(self, begin: Begin) -> None:
        """Begin the first run at once."""
        self._begin = begin
        self._run()

    def ended(self, failures: int) -> None:
        """Begin to wait."""
        pause = retry.delay(failures, self._interval) if failures else self._interval
        self._timer = self._clock.callLater(pause, self._run)

    def stop(self) -> None:
        """Begin no more runs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def status(self) -> TriggerStatus:
        """Return the interval, and when the next run is due."""
        next_run = None if self._timer is None else self._timer.getTime()
        return TriggerStatus(interval=self._interval, next_run=wall_time(next_run, self._clock, self._wall))

    def _run(self) -> None:
        self._timer = None
        assert self._begin is not None
        self._begin()


class CalendarTrigger:
    """Begins a run at each slot of a timetable, by the wall clock, which may be set at any time. Never retries.

    Args:
        schedule: makes the timetable, given the time of the start.
        description: the schedule in words.
        zone: whose wall clock the timetable is in.
        clock: the reactor's clock, in seconds.
        wall: the wall clock, in seconds since the epoch.
    """

    def __init__(
        self,
        schedule: Callable[[datetime], Timetable],
        description: str,
        zone: tzinfo,
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self.missed = 0
        self._schedule = schedule
        self._description = description
        self._zone = zone
        self._clock = clock
        self._wall = wall
        self._started = 0.0
        self._agenda: Agenda | None = None
        self._begin: Begin | None = None
        self._timer: IDelayedCall | None = None

    def start(self, begin: Begin) -> None:
        """Begin to follow the timetable."""
        self._begin = begin
        self._started = self._clock.seconds()
        self._agenda = Agenda(self._schedule, self._now())
        self._wake()

    def ended(self, failures: int) -> None:
        """Go on to the next slot, however the run went."""
        assert self._agenda is not None
        now = self._now()
        self.missed += self._agenda.done(now, self._elapsed())
        self._sleep(now)

    def stop(self) -> None:
        """Begin no more runs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def status(self) -> TriggerStatus:
        """Return the timetable in words, its zone, and when the next run is due."""
        next_run = None
        if self._agenda is not None and self._agenda.slot > self._now():  # a run that lasts longer decides at its end
            next_run = self._agenda.slot.timestamp()
        return TriggerStatus(schedule=self._description, timezone=self._zone, next_run=next_run)

    def _wake(self) -> None:
        self._timer = None
        assert self._agenda is not None
        assert self._begin is not None
        now = self._now()
        if self._agenda.take(now, self._elapsed()):
            self._begin()
        else:
            self._sleep(now)

    def _sleep(self, now: datetime) -> None:
        assert self._agenda is not None
        pause = min(max(0.0, (self._agenda.slot - now).total_seconds()), LONGEST_SLEEP)
        self._timer = self._clock.callLater(pause, self._wake)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)

    def _elapsed(self) -> timedelta:
        return timedelta(seconds=self._clock.seconds() - self._started)


def wall_time(moment: float | None, clock: IReactorTime, wall: Callable[[], float]) -> float | None:
    """Return a ``moment`` of the reactor's clock as the wall clock will show it, in seconds since the epoch.

    Args:
        moment: in seconds by ``clock``; None gives None.
        clock: the reactor's clock, in seconds.
        wall: the wall clock, in seconds since the epoch.
    """
    return None if moment is None else wall() + moment - clock.seconds()
