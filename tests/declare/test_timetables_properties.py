"""What is true of every timetable, checked against oracles that find the slots by another way.

The oracles walk through a few days in UTC, minute by minute (or second by second), and look at what a wall clock on
the way shows. They know nothing of gaps and folds: the slot for a date and a time is the first moment at which the
clock shows that or more.
"""

from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from rpiserve.declare.timetables import PERIODS, TICK, CronSlots, Repeat, Schedule, Timetable

FIXED = timezone(timedelta(hours=-9, minutes=-30))

NIGHTS: list[tuple[tzinfo, date]] = [
    (ZoneInfo(name), date.fromisoformat(day))
    for name, days in {
        "Europe/Berlin": "2026-03-29 2026-10-25 1980-04-06 2027-03-28",
        "America/New_York": "2026-03-08 2026-11-01 1974-01-06",
        "Australia/Lord_Howe": "2026-04-05 2026-10-04",
        "Asia/Kolkata": "2026-03-29 2026-10-25",
        "Antarctica/Troll": "2026-03-29 2026-10-25",
        "Africa/Casablanca": "2026-02-15 2026-03-22",
        "Asia/Kathmandu": "1986-01-01 2026-03-29",
        "America/Asuncion": "2023-10-01 2024-03-24",
        "Asia/Beirut": "2026-03-29 2026-10-25",
        "America/Havana": "2026-03-08 2026-11-01",
        "America/St_Johns": "2010-03-14 2010-11-07",
        "Pacific/Apia": "2011-12-30",
        "Pacific/Kwajalein": "1993-08-21",
    }.items()
    for day in days.split()
]
NIGHTS += [(FIXED, date(2026, 3, 29)), (UTC, date(2026, 3, 29))]

MINUTE = timedelta(minutes=1)
NOW = datetime(2026, 7, 1, tzinfo=UTC)

nights = st.sampled_from(NIGHTS)
wall_minutes = st.one_of(  # most of them when clocks change
    st.integers(0, 4 * 60 - 1), st.integers(23 * 60, 24 * 60 - 1), st.integers(0, 24 * 60 - 1)
).map(lambda minutes: time(minutes // 60, minutes % 60))
moments = st.integers(24 * 3600 * 1_000_000, 4 * 24 * 3600 * 1_000_000).map(lambda us: timedelta(microseconds=us))
"""Times after the begin of a walk."""


@cache
def walk(zone: tzinfo, day: date) -> list[tuple[datetime, datetime]]:
    """Return each minute of the six days around a night: in UTC, and as the wall clock shows it."""
    begin = datetime.combine(day, time(), UTC) - timedelta(days=3)
    minutes = [begin + n * MINUTE for n in range(6 * 24 * 60)]
    return [(moment, moment.astimezone(zone).replace(tzinfo=None)) for moment in minutes]


def first_shown(steps: list[tuple[datetime, datetime]], wanted: list[datetime]) -> list[datetime]:
    """Return, without duplicates, when the wall clock first shows each of some times, or more. They are sorted."""
    found: list[datetime] = []
    wanted = [local for local in wanted if local > steps[0][1]]
    for moment, shown in steps:
        if wanted and shown >= wanted[0]:
            found.append(moment)
            while wanted and shown >= wanted[0]:
                del wanted[0]
    return found


def check(table: Timetable, expected: list[datetime], after: datetime, end: datetime) -> None:
    """Check that ``next`` agrees with what an oracle found up to ``end``, whatever it is asked after.

    So it is later than ``after``, no slot is between the two, and from slot to slot it passes over none.
    """
    left = [slot for slot in expected if slot > after]
    following = table.next(after)
    assert following.tzinfo is UTC
    if not left:
        assert following >= end
        return
    assert following == left[0]
    before = max((slot for slot in expected if slot <= after), default=after)
    for other in (before, after + (following - after) / 3, following - TICK):
        assert table.next(other) == following
    for slot in left[1:20]:
        following = table.next(following)
        assert following == slot


@settings(max_examples=200, deadline=None)
@given(
    night=nights,
    at=wall_minutes,
    repeat=st.sampled_from([Repeat.DAILY, Repeat.WEEKLY]),
    factor=st.integers(1, 4),
    back=st.one_of(st.integers(-3, 6), st.integers(0, 15_000)),
    moment=moments,
)
def test_calendar(
    night: tuple[tzinfo, date], at: time, repeat: Repeat, factor: int, back: int, moment: timedelta
) -> None:
    """A calendar's slots are those that one finds by watching the wall clock, with starts from 1970 to next year."""
    zone, day = night
    start = max(day - timedelta(days=back), date(1970, 1, 1))
    steps = walk(zone, day)
    days = factor * (7 if repeat is Repeat.WEEKLY else 1)
    dates = [day + timedelta(days=n) for n in range(-5, 5)]
    wanted = [datetime.combine(d, at) for d in dates if d >= start and (d - start).days % days == 0]
    table = Schedule(at, start, repeat, factor).timetable(NOW, zone)
    check(table, first_shown(steps, wanted), steps[0][0] + moment, steps[-1][0] - timedelta(days=1))


@settings(max_examples=60, deadline=None)
@given(night=nights, second=st.integers(0, 86_399), moment=st.integers(0, 86_399_999_999))
def test_calendar_to_the_second(night: tuple[tzinfo, date], second: int, moment: int) -> None:
    """The same for times with seconds: around the moment that is found, the clock is watched second by second."""
    zone, day = night
    at = (datetime.min + timedelta(seconds=second)).time()
    table = Schedule(at, date(1970, 1, 1), Repeat.DAILY, 1).timetable(NOW, zone)
    following = table.next(datetime.combine(day, time(), UTC) - timedelta(days=1) + timedelta(microseconds=moment))
    around = [following + timedelta(seconds=n) for n in range(-600, 3)]
    steps = [(moment, moment.astimezone(zone).replace(tzinfo=None)) for moment in around]
    dates = [following.astimezone(zone).date() + timedelta(days=n) for n in (-1, 0)]
    assert following in first_shown(steps, [datetime.combine(d, at) for d in dates])


@settings(max_examples=60, deadline=None)
@given(night=nights, at=wall_minutes)
def test_one_run_each_wall_clock_day(night: tuple[tzinfo, date], at: time) -> None:
    """No date of the calendar has more than one daily run of its own, and each date that exists has one."""
    zone, day = night
    table = Schedule(at, date(1970, 1, 1), Repeat.DAILY, 1).timetable(NOW, zone)
    steps = walk(zone, day)
    inner = steps[24 * 60 : -24 * 60]
    dates = sorted({shown.date() for _, shown in inner})[1:-1]
    found = [table.next(inner[0][0] - TICK)]
    while found[-1] <= inner[-1][0]:
        found.append(table.next(found[-1]))
    for each in dates:
        runs = [slot for slot in found if slot.astimezone(zone).date() == each]
        # The one exception: what belongs to a date that was skipped altogether is due when the next one begins.
        follows_a_skipped_date = each - timedelta(days=1) not in dates and each != dates[0]
        assert len(runs) == 1 or (follows_a_skipped_date and len(runs) == 2)


@settings(max_examples=200, deadline=None)
@given(
    night=nights,
    at=wall_minutes,
    repeat=st.sampled_from([Repeat.HOURLY, Repeat.MINUTELY, Repeat.SECOND]),
    factor=st.one_of(st.integers(1, 10), st.integers(1, 100_000)),
    start=st.dates(date(1970, 1, 1), date(2027, 12, 31)),
    moment=moments,
)
def test_grid(
    night: tuple[tzinfo, date], at: time, repeat: Repeat, factor: int, start: date, moment: timedelta
) -> None:
    """A grid's slots are an arithmetic sequence of seconds, with starts from 1970 to next year."""
    zone, day = night
    table = Schedule(at, start, repeat, factor).timetable(NOW, zone)
    first = table.next(datetime(1969, 1, 1, tzinfo=UTC))
    shown = first.astimezone(zone).replace(tzinfo=None)
    gap = shown - datetime.combine(start, at)  # not zero only if the start is skipped
    assert timedelta(0) <= gap <= timedelta(days=1)
    assert not gap or (first - gap).astimezone(zone).utcoffset() != first.astimezone(zone).utcoffset()

    begin = datetime.combine(day, time(), UTC) - timedelta(days=3)
    seconds = range(int(first.timestamp()), int(datetime(2200, 1, 1, tzinfo=UTC).timestamp()), _seconds(repeat, factor))
    index = bisect_right(seconds, (begin + moment).timestamp())
    expected = [datetime.fromtimestamp(second, UTC) for second in seconds[max(0, index - 1) : index + 20]]
    check(table, expected, begin + moment, expected[-1])


def _seconds(repeat: Repeat, factor: int) -> int:
    return {Repeat.HOURLY: 3600, Repeat.MINUTELY: 60, Repeat.SECOND: 1}[repeat] * factor


@settings(max_examples=100, deadline=None)
@given(
    night=nights,
    repeat=st.sampled_from(Repeat),
    factor=st.integers(1, 30),
    moment=moments,
)
def test_without_a_start(night: tuple[tzinfo, date], repeat: Repeat, factor: int, moment: timedelta) -> None:
    """Without a start, the daemon's start is a slot, whenever that is, and the first."""
    zone, day = night
    started = datetime.combine(day, time(), UTC) - timedelta(days=3) + moment
    table = Schedule(None, None, repeat, factor).timetable(started, zone)
    assert table.next(started - TICK) == started
    following = table.next(started)
    change = timedelta(0) if repeat in (Repeat.HOURLY, Repeat.MINUTELY, Repeat.SECOND) else timedelta(days=1)
    assert abs(following - started - PERIODS[repeat] * factor) <= change


# --- cron lines -----------------------------------------------------------------------------------

# A field as it is written, and what it means.
PLAIN_MINUTES = [("0", {0}), ("30", {30}), ("59", {59}), ("0,30", {0, 30}), ("10-20/5", {10, 15, 20})]
PLAIN_HOURS = [("0", {0}), ("1", {1}), ("2", {2}), ("0,23", {0, 23}), ("1-3", {1, 2, 3}), ("17", {17})]
STAR_MINUTES = [("*", set(range(60))), ("*/15", {0, 15, 30, 45}), ("*/7", set(range(0, 60, 7)))]
STAR_HOURS = [("*", set(range(24))), ("*/2", set(range(0, 24, 2)))]
WEEKDAYS = [("*", {1, 2, 3, 4, 5, 6, 7}), ("sun", {7}), ("0", {7}), ("mon-fri", {1, 2, 3, 4, 5}), ("6,7", {6, 7})]

plain_minutes, plain_hours = st.sampled_from(PLAIN_MINUTES), st.sampled_from(PLAIN_HOURS)
any_minutes, any_hours = st.sampled_from(PLAIN_MINUTES + STAR_MINUTES), st.sampled_from(PLAIN_HOURS + STAR_HOURS)
weekdays = st.sampled_from(WEEKDAYS)


@settings(max_examples=200, deadline=None)
@given(night=nights, minutes=plain_minutes, hours=plain_hours, days=weekdays, moment=moments)
def test_cron_lines_with_a_fixed_time(
    night: tuple[tzinfo, date],
    minutes: tuple[str, set[int]],
    hours: tuple[str, set[int]],
    days: tuple[str, set[int]],
    moment: timedelta,
) -> None:
    """By Debian's rule, a fixed time is due when the wall clock first shows it or more, and only then."""
    zone, day = night
    steps = walk(zone, day)
    times = sorted(time(hour, minute) for hour in hours[1] for minute in minutes[1])
    dates = [day + timedelta(days=n) for n in range(-5, 5)]
    wanted = [datetime.combine(d, at) for d in dates if d.isoweekday() in days[1] for at in times]
    table = CronSlots(f"{minutes[0]} {hours[0]} * * {days[0]}", zone)
    check(table, first_shown(steps, wanted), steps[0][0] + moment, steps[-1][0] - timedelta(days=1))


@settings(max_examples=100, deadline=None)
@given(
    night=nights,
    minutes=any_minutes,
    hours=any_hours,
    days=weekdays,
    seconds=st.sampled_from(["", "0 "]),
    moment=moments,
)
def test_cron_lines_that_go_by_what_the_clock_shows(
    night: tuple[tzinfo, date],
    minutes: tuple[str, set[int]],
    hours: tuple[str, set[int]],
    days: tuple[str, set[int]],
    seconds: str,
    moment: timedelta,
) -> None:
    """By Debian's rule, a line with a ``*`` (or with seconds) is due whenever the wall clock shows such a time."""
    zone, day = night
    if not seconds and not minutes[0].startswith("*"):
        hours = ("*", set(range(24)))
    steps = walk(zone, day)
    expected = [
        moment
        for moment, shown in steps
        if shown.minute in minutes[1] and shown.hour in hours[1] and shown.isoweekday() in days[1]
    ]
    table = CronSlots(f"{seconds}{minutes[0]} {hours[0]} * * {days[0]}", zone)
    check(table, expected, steps[0][0] + moment, steps[-1][0] - timedelta(days=1))


@settings(max_examples=150, deadline=None)
@given(
    night=nights,
    minutes=any_minutes,
    hours=any_hours,
    moment=moments,
)
def test_cron_lines_always_go_on(
    night: tuple[tzinfo, date], minutes: tuple[str, set[int]], hours: tuple[str, set[int]], moment: timedelta
) -> None:
    """In every zone, whatever the line, each answer is later than the moment asked for, and never too late by days."""
    zone, day = night
    table = CronSlots(f"{minutes[0]} {hours[0]} * * *", zone)
    after = datetime.combine(day, time(), UTC) - timedelta(days=3) + moment
    for _ in range(30):
        following = table.next(after)
        assert after < following <= after + timedelta(days=2)
        after = following
