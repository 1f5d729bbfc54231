"""When scheduled handlers are due: grids, calendars, cron lines, and what becomes of them when the clock is set.

All times in here are aware datetimes; slots are in UTC. The rules:

- ``HOURLY``, ``MINUTELY`` and ``SECOND`` count elapsed time. A slot is the start plus a multiple of the step.
- ``DAILY`` and ``WEEKLY`` follow the calendar: a slot is a wall time on a date. A wall time that is skipped, when
  clocks go forward, is due right after the gap; one that comes twice, when they go back, is due the first time, or the
  second if its ``fold`` says so.
- Cron lines are read by `cronsim`, by the rules of Debian's cron: one with a fixed minute and hour follows the calendar
  as above. One whose minute or hour begins with ``*``, or that has a field for the second, is due whenever the wall
  clock shows such a time: not at all in a gap, twice if it comes twice.
- If, since the last run, the clock was set by no more than a timetable's *grain*, no slot is repeated, and slots that
  were passed over are made up for by one run. If it was set by more, that is a correction: the timetable is made anew,
  as if the clock had been right from the start, and the next slot is the first since the last look at the clock. The
  grain is three hours, as cron(8) has it; that of a grid with a shorter step is the step.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import Enum
from itertools import count, islice
from typing import Protocol

import attrs
from cronsim import CronSim, CronSimError

LONGEST_GRAIN = timedelta(hours=3)
TICK = timedelta(microseconds=1)
MAX_FACTOR = 100_000
FIRST_YEAR, LAST_YEAR = 2, 9000  # of a start: so much room is left for offsets and steps
MAX_COUNTED = 1000
"""More missed slots than that are not counted one by one."""


class Repeat(Enum):
    """The unit by which a schedule repeats."""

    WEEKLY = "weekly"
    DAILY = "daily"
    HOURLY = "hourly"
    MINUTELY = "minutely"
    SECOND = "second"


PERIODS = {
    Repeat.WEEKLY: timedelta(weeks=1),
    Repeat.DAILY: timedelta(days=1),
    Repeat.HOURLY: timedelta(hours=1),
    Repeat.MINUTELY: timedelta(minutes=1),
    Repeat.SECOND: timedelta(seconds=1),
}


class Timetable(Protocol):
    """A sequence of slots.

    Attributes:
        grain: by how much the clock may be set without the next slot being computed anew.
    """

    @property
    def grain(self) -> timedelta: ...

    def next(self, after: datetime) -> datetime:
        """Return the first slot after ``after``, in UTC."""
        ...


@attrs.frozen
class Grid:
    """Slots at equal distances in elapsed time."""

    start: datetime
    step: timedelta

    @property
    def grain(self) -> timedelta:
        """The step, or three hours if that is less."""
        return min(self.step, LONGEST_GRAIN)

    def next(self, after: datetime) -> datetime:
        """Return the first slot after ``after``, in UTC."""
        passed = (after - self.start) // self.step + 1 if after >= self.start else 0
        return self.start + passed * self.step


@attrs.frozen
class Calendar:
    """Slots at the same wall time, every so many days.

    Attributes:
        start: date and wall time of the first, without a zone.
        days: from one to the next.
        zone: whose wall clock it is.
    """

    start: datetime
    days: int
    zone: tzinfo
    grain = LONGEST_GRAIN

    def next(self, after: datetime) -> datetime:
        """Return the first slot after ``after``, in UTC."""
        first, wall_time = self.start.date(), self.start.time()  # apart, since a sum has no fold
        # One period early: what was due in a gap may be due on the date after.
        passed = max(0, (after.astimezone(self.zone).date() - first).days // self.days - 1)
        days = (first + timedelta(days=k * self.days) for k in count(passed))
        slots = (instant(datetime.combine(day, wall_time), self.zone) for day in days)
        return next(slot for slot in slots if slot > after)


@attrs.frozen
class CronSlots:
    """The slots of a cron line.

    Attributes:
        line: the line.
        zone: whose wall clock it is.
    """

    line: str
    zone: tzinfo

    @property
    def grain(self) -> timedelta:
        """Three hours, but a minute for a line that goes by what the clock shows: cron(8) has that use the new time."""
        return timedelta(minutes=1) if self._goes_by_what_is_shown() else LONGEST_GRAIN

    def next(self, after: datetime) -> datetime:
        """Return the first slot after ``after``, in UTC."""
        # cronsim gets no zone: where clocks change by half an hour, or at midnight, it might look for a slot for ever.
        return self._next_shown(after) if self._goes_by_what_is_shown() else self._next_of_the_day(after)

    def _goes_by_what_is_shown(self) -> bool:
        fields = self.line.split()
        return len(fields) == 6 or fields[0].startswith("*") or fields[1].startswith("*")

    def _next_of_the_day(self, after: datetime) -> datetime:
        """Return the next slot, each of them coming once on its day."""
        local = after.astimezone(self.zone).replace(tzinfo=None, fold=0)
        slots = (instant(slot, self.zone) for slot in CronSim(self.line, local))
        return next(slot for slot in slots if slot > after)

    def _next_shown(self, after: datetime) -> datetime:
        """Return when the wall clock shows such a time next: twice if it is put back, never if it skips that."""
        shown, pause = after.astimezone(self.zone), timedelta(0)
        while True:
            local, offset = shown.replace(tzinfo=None, fold=0), shown.utcoffset() or timedelta(0)
            slot = (next(CronSim(self.line, local - pause)) - offset).replace(tzinfo=UTC)
            # A change that is undone before the slot counts only if it is near: then a time may be shown once more.
            change = _change(self.zone, shown, min(slot, shown + timedelta(days=1))) or _change(self.zone, shown, slot)
            if change is None or slot < change:
                return slot
            shown, pause = change.astimezone(self.zone), timedelta(seconds=1)  # a slot at the change itself counts


@attrs.frozen
class CronLine:
    """A line as in a crontab, or with a field for the second before it. Check it with `check`.

    Attributes:
        line: such as ``0 6 * * mon-fri``.
    """

    line: str

    def timetable(self, now: datetime, zone: tzinfo) -> Timetable:
        """Return the timetable in ``zone``."""
        return CronSlots(self.line, zone)

    def describe(self) -> str:
        """Return it as it is written."""
        return self.line

    def check(self) -> None:
        """Check that it is a cron line, and ever due.

        Raises:
            ValueError: it is not; the text says why.
        """
        try:
            next(CronSim(self.line, datetime(2000, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ValueError(str(error).lower()) from None
        except StopIteration:
            raise ValueError("no date is ever like that") from None


@attrs.frozen
class Schedule:
    """What ``app.schedule`` was told; with the time of the daemon's start it becomes a timetable.

    Attributes:
        time: the wall time of the first slot; None for that of the daemon's start.
        date: its date; None for that of the daemon's start.
        repeat: the unit of the repetition.
        factor: how many units.
    """

    time: time | None
    date: date | None
    repeat: Repeat
    factor: int

    def timetable(self, now: datetime, zone: tzinfo) -> Timetable:
        """Return the timetable, for a daemon that starts at ``now`` in ``zone``."""
        local = now.astimezone(zone).replace(tzinfo=None)
        start = datetime.combine(self.date or local.date(), self.time or local.time())
        period = PERIODS[self.repeat] * self.factor
        if self.repeat in (Repeat.WEEKLY, Repeat.DAILY):
            return Calendar(start, period.days, zone)
        # A start that is skipped is read by the offset before the gap: its minute is what the grid is about.
        return Grid(start.replace(tzinfo=zone).astimezone(UTC), period)

    def describe(self) -> str:
        """Return it in words."""
        return f"{self.repeat.value} × {self.factor}"


def instant(local: datetime, zone: tzinfo) -> datetime:
    """Return when the wall clock of ``zone`` shows ``local``, in UTC.

    If it does so twice, its ``fold`` tells which time; if it never does, the end of the gap in which it would.
    """
    usual = local.replace(tzinfo=zone).astimezone(UTC)
    if usual.astimezone(zone).replace(tzinfo=None) == local:
        return usual
    # In a gap, fold=0 reads the time by the offset before it and fold=1 by the offset after (PEP 495): so the first is
    # an instant after the gap, the second one before.
    before, after = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (1, 0))
    return _change(zone, before, after) or after


def _change(zone: tzinfo, before: datetime, after: datetime) -> datetime | None:
    """Return when the clocks of ``zone`` change between two instants, in UTC; None if they show the same offset."""
    before, after = before.astimezone(UTC), after.astimezone(UTC)
    offset = after.astimezone(zone).utcoffset()
    if before.astimezone(zone).utcoffset() == offset:
        return None
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after.replace(microsecond=0)


class Agenda:
    """Which slot is next, by a wall clock that may be set at any time.

    With ``now``, what the wall clock shows, it is told the time ``elapsed`` since the start by a clock that is never
    set. When the start was, by the wall clock, follows from the two; if that changes, the wall clock was set.

    Args:
        schedule: makes the timetable, given the time of the start.
        now: what the wall clock shows at the start. A slot at this very moment is due.

    Attributes:
        slot: the next one.
    """

    def __init__(self, schedule: Callable[[datetime], Timetable], now: datetime) -> None:
        self._schedule = schedule
        self._start = now  # by the wall clock as it was at the end of the last run
        self._looked = timedelta(0)
        self._timetable = schedule(now)
        self.slot = self._timetable.next(now - TICK)

    def take(self, now: datetime, elapsed: timedelta) -> bool:
        """Tell whether the next slot is due. If so it is taken, and the one after it is the next."""
        self._look(now, elapsed)
        if now < self.slot:
            return False
        self.slot = self._timetable.next(self.slot)
        return True

    def done(self, now: datetime, elapsed: timedelta) -> int:
        """Go on after the run for the slot that was taken; return how many slots were missed."""
        self._look(now, elapsed)
        self._start = now - elapsed
        missed = sum(1 for _ in islice(self._slots_until(now), MAX_COUNTED))
        if missed:
            self.slot = self._timetable.next(now)
        return missed

    def _look(self, now: datetime, elapsed: timedelta) -> None:
        start = now - elapsed
        if abs(start - self._start) > self._timetable.grain:
            self._start = start
            self._timetable = self._schedule(start)
            self.slot = self._timetable.next(start + self._looked)
        self._looked = elapsed

    def _slots_until(self, now: datetime) -> Iterator[datetime]:
        slot = self.slot
        while slot <= now:
            yield slot
            slot = self._timetable.next(slot)
