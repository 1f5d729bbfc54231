"""When scheduled handlers are due: by example, over the nights on which clocks change, and when the clock is set.

What is true in general is in ``test_timetable_properties.py``.
"""

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from itertools import pairwise, product
from zoneinfo import ZoneInfo

import pytest

from rpiserve.declare.timetables import (
    FIRST_YEAR,
    LAST_YEAR,
    LONGEST_GRAIN,
    MAX_COUNTED,
    MAX_FACTOR,
    PERIODS,
    TICK,
    Agenda,
    CronLine,
    CronSlots,
    Repeat,
    Schedule,
    Timetable,
    instant,
)

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")
KOLKATA = ZoneInfo("Asia/Kolkata")
APIA = ZoneInfo("Pacific/Apia")
NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)

STARTS = [date(1970, 1, 1), date(1999, 12, 31), date(2026, 1, 1), date(2026, 2, 1)]
"""Starts before the nights below, however old."""


def utc(text: str) -> datetime:
    """Return a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(table: Timetable, begin: datetime, end: datetime) -> list[datetime]:
    """Return the slots from ``begin`` on and before ``end``."""
    found = []
    slot = table.next(begin - TICK)
    while slot < end:
        found.append(slot)
        slot = table.next(slot)
    return found


def midnight(day: date, zone: tzinfo) -> datetime:
    """Return when a day begins, in UTC."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def on(day: str, table: Timetable, zone: tzinfo) -> list[str]:
    """Return the slots of a day as its wall clock shows them, with the offset."""
    begin = date.fromisoformat(day)
    found = slots(table, midnight(begin, zone), midnight(begin + timedelta(days=1), zone))
    return [slot.astimezone(zone).strftime("%H:%M%z") for slot in found]


def daily(at: time, zone: tzinfo, start: date = date(1970, 1, 1)) -> Timetable:
    """Return a daily timetable."""
    return Schedule(at, start, Repeat.DAILY, 1).timetable(NOW, zone)


# --- the calendar ---------------------------------------------------------------------------------

NIGHTS = [
    # zone, day, wall time, what the clock shows when it is due
    (BERLIN, "2026-03-29", "01:59", ["01:59+0100"]),
    (BERLIN, "2026-03-29", "02:00", ["03:00+0200"]),
    (BERLIN, "2026-03-29", "02:30", ["03:00+0200"]),
    (BERLIN, "2026-03-29", "03:00", ["03:00+0200"]),
    (BERLIN, "2026-10-25", "01:59", ["01:59+0200"]),
    (BERLIN, "2026-10-25", "02:00", ["02:00+0200"]),
    (BERLIN, "2026-10-25", "02:30", ["02:30+0200"]),
    (BERLIN, "2026-10-25", "03:00", ["03:00+0100"]),
    (NEW_YORK, "2026-03-08", "02:30", ["03:00-0400"]),
    (NEW_YORK, "2026-11-01", "01:00", ["01:00-0400"]),
    (NEW_YORK, "2026-11-01", "01:30", ["01:30-0400"]),
    (LORD_HOWE, "2026-10-04", "02:00", ["02:30+1100"]),
    (LORD_HOWE, "2026-10-04", "02:15", ["02:30+1100"]),
    (LORD_HOWE, "2026-10-04", "02:30", ["02:30+1100"]),
    (LORD_HOWE, "2026-04-05", "01:30", ["01:30+1100"]),
    (LORD_HOWE, "2026-04-05", "01:45", ["01:45+1100"]),
    (LORD_HOWE, "2026-04-05", "02:00", ["02:00+1030"]),
    (KOLKATA, "2026-03-29", "02:30", ["02:30+0530"]),
    (KOLKATA, "2026-10-25", "02:30", ["02:30+0530"]),
    (ZoneInfo("Antarctica/Troll"), "2026-03-29", "02:30", ["03:00+0200"]),
    (ZoneInfo("Antarctica/Troll"), "2026-10-25", "01:30", ["01:30+0200"]),
    (ZoneInfo("Africa/Casablanca"), "2026-02-15", "02:30", ["02:30+0100"]),
    (ZoneInfo("Africa/Casablanca"), "2026-03-22", "02:30", ["03:00+0100"]),
    (ZoneInfo("Asia/Kathmandu"), "2026-03-29", "02:30", ["02:30+0545"]),
    (timezone(timedelta(hours=-3, minutes=-30)), "2026-03-29", "02:30", ["02:30-0330"]),
    (UTC, "2026-03-29", "02:30", ["02:30+0000"]),
]


@pytest.mark.parametrize(("zone", "day", "at", "shown"), NIGHTS)
def test_daily_over_a_night(zone: tzinfo, day: str, at: str, shown: list[str]) -> None:
    """A daily run is there once: right after the gap if its time is skipped, the first time if it comes twice.

    The days before and after are as ever, and an old start makes no difference.
    """
    for start in STARTS:
        table = daily(time.fromisoformat(at), zone, start)
        assert on(day, table, zone) == shown
        for other in (-1, 1):
            neighbour = date.fromisoformat(day) + timedelta(days=other)
            [usual] = on(neighbour.isoformat(), table, zone)
            assert usual[:5] == at


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE, KOLKATA])
@pytest.mark.parametrize("at", ["00:00", "01:45", "02:10", "02:30", "23:59"])
def test_one_run_each_day_of_a_year(zone: tzinfo, at: str) -> None:
    """In a year with both its nights there are as many daily runs as days, each on another one."""
    table = daily(time.fromisoformat(at), zone)
    found = slots(table, midnight(date(2026, 1, 1), zone), midnight(date(2027, 1, 1), zone))
    assert [slot.astimezone(zone).date() for slot in found] == [date(2026, 1, 1) + timedelta(n) for n in range(365)]


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE, KOLKATA])
@pytest.mark.parametrize(
    ("repeat", "factor", "days"),
    [(Repeat.DAILY, 2, 2), (Repeat.DAILY, 10, 10), (Repeat.WEEKLY, 1, 7), (Repeat.WEEKLY, 3, 21)],
)
def test_factors_of_the_calendar(zone: tzinfo, repeat: Repeat, factor: int, days: int) -> None:
    """Every so many days and weeks are counted in dates from the start, over both nights, at the same wall time."""
    start = date(1970, 1, 5)
    found = slots(Schedule(time(6), start, repeat, factor).timetable(NOW, zone), utc("2026-01-01"), utc("2027-01-01"))
    local = [slot.astimezone(zone) for slot in found]
    assert {moment.time() for moment in local} == {time(6)}
    assert all((moment.date() - start).days % days == 0 for moment in local)
    assert {b.date() - a.date() for a, b in pairwise(local)} == {timedelta(days=days)}


def test_a_start_in_the_future_is_waited_for() -> None:
    """Before the start there is no slot, however long that takes."""
    start = date(2027, 2, 3)
    for repeat in Repeat:
        table = Schedule(time(4, 5), start, repeat, 3).timetable(NOW, BERLIN)
        assert table.next(utc("1970-01-01")) == table.next(NOW) == utc("2027-02-03T03:05")


def test_a_date_that_is_skipped() -> None:
    """Samoa went without the 30th of December 2011. What was due then is due when the 31st begins, and only once."""
    assert on("2011-12-29", daily(time(10), APIA), APIA) == ["10:00-1000"]
    assert on("2011-12-31", daily(time(10), APIA), APIA) == ["00:00+1400", "10:00+1400"]
    assert on("2011-12-31", daily(time(0), APIA), APIA) == ["00:00+1400"]
    weekly = Schedule(time(10), date(2011, 12, 23), Repeat.WEEKLY, 1).timetable(NOW, APIA)
    assert on("2011-12-31", weekly, APIA) == ["00:00+1400"]
    assert weekly.next(utc("2011-12-31T00:00")) == utc("2012-01-05T20:00")


@pytest.mark.parametrize(
    ("name", "gap", "fold"),
    [("America/Asuncion", "2023-10-01", "2024-03-23"), ("Asia/Beirut", "2026-03-29", "2026-10-24")],
)
def test_zones_whose_clocks_change_at_midnight(name: str, gap: str, fold: str) -> None:
    """Where midnight is skipped it is due at one o'clock of that day; 23:30 of the day with 25 hours is due once."""
    zone = ZoneInfo(name)
    [shown] = on(gap, daily(time(0), zone), zone)
    assert shown[:5] == "01:00"
    for at in (time(23, 30), time(0), time(0, 30)):
        assert len(on(fold, daily(at, zone), zone)) == 1
        assert len(on(gap, daily(at, zone), zone)) == 1
    first = slots(
        daily(time(23, 30), zone), midnight(date.fromisoformat(fold), zone), midnight(date(2027, 1, 1), zone)
    )[0]
    assert first.astimezone(zone).fold == 0


def test_the_second_of_two_if_it_is_meant() -> None:
    """A start time with ``fold=1`` is due the second time it comes, and like any other on all other days."""
    second = daily(time(2, 30, fold=1), BERLIN)
    assert on("2026-10-25", second, BERLIN) == ["02:30+0100"]
    assert on("2026-10-26", second, BERLIN) == ["02:30+0100"]
    assert on("2026-03-29", second, BERLIN) == ["03:00+0200"]
    assert on("2026-07-01", second, BERLIN) == ["02:30+0200"]


def test_gap_with_an_odd_length() -> None:
    """The end of a gap is found to the second, even in the days when offsets were odd."""
    amsterdam = ZoneInfo("Europe/Amsterdam")  # went from +00:19:32, as it then had it, to summer time
    end = instant(datetime(1936, 5, 15, 2, 30), amsterdam)
    assert end.microsecond == 0
    assert (end - TICK).astimezone(amsterdam).utcoffset() != end.astimezone(amsterdam).utcoffset()
    assert instant(datetime(1936, 5, 15, 2, 30, 0, 7), amsterdam) == end


# --- grids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        (BERLIN, date(2026, 3, 29), 23),
        (BERLIN, date(2026, 10, 25), 25),
        (NEW_YORK, date(2026, 3, 8), 23),
        (NEW_YORK, date(2026, 11, 1), 25),
        (LORD_HOWE, date(2026, 10, 4), 23.5),
        (LORD_HOWE, date(2026, 4, 5), 24.5),
        (KOLKATA, date(2026, 3, 29), 24),
        (KOLKATA, date(2026, 10, 25), 24),
    ],
)
def test_grids_count_elapsed_time(zone: tzinfo, day: date, hours: float) -> None:
    """On the day of 23 hours there are 23 hourly runs, on that of 25 there are 25, at equal distances."""
    begin, end = midnight(day, zone), midnight(day + timedelta(days=1), zone)
    assert end - begin == timedelta(hours=hours)
    grids = [(Repeat.HOURLY, 1), (Repeat.HOURLY, 5), (Repeat.MINUTELY, 1), (Repeat.MINUTELY, 15), (Repeat.SECOND, 420)]
    for (repeat, factor), start in product(grids, STARTS):
        step = PERIODS[repeat] * factor
        found = slots(Schedule(time(0), start, repeat, factor).timetable(NOW, zone), begin, end)
        assert {b - a for a, b in pairwise(found)} == {step}
        assert abs(len(found) - (end - begin) / step) < 1
        assert found[0] - begin < step
        assert (found[0] - midnight(start, zone)) % step == timedelta(0)


@pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
def test_each_second_of_a_night(day: str) -> None:
    """A slot each second means each second that elapses, while the wall clock leaps."""
    begin = midnight(date.fromisoformat(day), BERLIN) + timedelta(hours=1)
    table = Schedule(time(0), date(1970, 1, 1), Repeat.SECOND, 1).timetable(NOW, BERLIN)
    found = slots(table, begin - timedelta(minutes=15), begin + timedelta(minutes=15))
    assert found == [begin + timedelta(seconds=n) for n in range(-900, 900)]


def test_start_of_a_grid_in_a_gap_or_a_fold() -> None:
    """A start that is skipped keeps its minute; one that comes twice is the first, or as its ``fold`` says."""

    def start(at: time, day: date) -> datetime:
        return Schedule(at, day, Repeat.HOURLY, 1).timetable(NOW, BERLIN).next(utc("2026-01-01"))

    assert start(time(2, 30), date(2026, 3, 29)) == utc("2026-03-29T01:30")  # shown as 03:30
    assert start(time(2, 30), date(2026, 10, 25)) == utc("2026-10-25T00:30")
    assert start(time(2, 30, fold=1), date(2026, 10, 25)) == utc("2026-10-25T01:30")


# --- the start ------------------------------------------------------------------------------------


@pytest.mark.parametrize("repeat", list(Repeat))
@pytest.mark.parametrize(
    "now",
    [
        "2026-07-01T12:34:56.789012",
        "2026-03-29T00:59:59.999999",
        "2026-03-29T01:00:00",
        "2026-10-25T00:30:00",  # the first 02:30 in Berlin
        "2026-10-25T01:30:00",  # the second
        "2026-04-04T14:45:00",  # both 01:45 on Lord Howe Island
        "2026-04-04T15:15:00",
        "1970-01-01T00:00:07",
    ],
)
def test_without_a_start_the_first_slot_is_now(now: str, repeat: Repeat) -> None:
    """Without a start, the time of the daemon's start is a slot, to the microsecond, in any hour of the year."""
    for zone in (BERLIN, NEW_YORK, LORD_HOWE, KOLKATA, UTC):
        desk = Desk(Schedule(None, None, repeat, 1), utc(now), zone)
        assert desk.agenda.slot == desk.now
        assert desk.take()
        assert desk.agenda.slot >= desk.now + PERIODS[repeat] - timedelta(hours=1)


def test_half_a_start() -> None:
    """A time without a date is on the day of the daemon's start; a date without a time at the time of that."""
    now = utc("2026-07-01T12:00:30")  # 14:00:30 in Berlin
    times = {at: Schedule(time(at), None, Repeat.DAILY, 1).timetable(now, BERLIN).next(now) for at in (6, 18)}
    assert times == {6: utc("2026-07-02T04:00"), 18: utc("2026-07-01T16:00")}
    hourly = Schedule(time(18), None, Repeat.HOURLY, 1).timetable(now, BERLIN)
    assert hourly.next(now) == utc("2026-07-01T16:00")
    dated = Schedule(None, date(2026, 6, 1), Repeat.WEEKLY, 1).timetable(now, BERLIN)
    assert dated.next(now) == utc("2026-07-06T12:00:30")
    assert Schedule(time(0), None, Repeat.DAILY, 1).timetable(now, BERLIN).next(now) == utc("2026-07-01T22:00")


@pytest.mark.parametrize("year", [FIRST_YEAR, LAST_YEAR])
@pytest.mark.parametrize("repeat", list(Repeat))
@pytest.mark.parametrize("zone", [BERLIN, timezone(timedelta(hours=-23)), timezone(timedelta(hours=23))])
def test_the_farthest_starts(zone: tzinfo, repeat: Repeat, year: int) -> None:
    """The oldest and the latest start, with the greatest factor, are no failure_streak."""
    for factor in (1, MAX_FACTOR):
        table = Schedule(time(0), date(year, 1, 1), repeat, factor).timetable(NOW, zone)
        first = table.next(NOW)
        assert first > NOW
        assert year == LAST_YEAR or table.next(first) > first


def test_in_words() -> None:
    """A schedule tells in words what it is."""
    assert Schedule(None, None, Repeat.MINUTELY, 15).describe() == "minutely × 15"
    assert CronLine("0 6 * * mon-fri").describe() == "0 6 * * mon-fri"


# --- cron lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "after", "following"),
    [
        ("0 6 * * mon-fri", "2026-05-15T10:00", ["2026-05-18T06:00", "2026-05-19T06:00"]),  # a Friday
        ("*/15 * * * *", "2026-05-15T10:00", ["2026-05-15T10:15", "2026-05-15T10:30"]),
        ("*/15 * * * *", "2026-05-15T09:59:59.999999", ["2026-05-15T10:00", "2026-05-15T10:15"]),
        ("5,10 8-9 1,15 jan,jul *", "2026-05-15T10:00", ["2026-07-01T08:05", "2026-07-01T08:10", "2026-07-01T09:05"]),
        ("0 0 L * *", "2026-02-01", ["2026-02-28", "2026-03-31"]),
        ("0 0 LW * *", "2026-05-01", ["2026-05-29", "2026-06-30"]),
        ("0 0 * * 1#2", "2026-05-01", ["2026-05-11", "2026-06-08"]),
        ("0 0 * * 5L", "2026-05-01", ["2026-05-29", "2026-06-26"]),
        ("0 0 29 2 *", "2026-05-01", ["2028-02-29", "2032-02-29"]),
        ("0 0 13 * fri", "2026-05-09", ["2026-05-13", "2026-05-15"]),  # the one or the other
        ("*/20 30 8 * * *", "2026-05-15T10:00", ["2026-05-16T08:30:00", "2026-05-16T08:30:20", "2026-05-16T08:30:40"]),
        ("30 0 0 1 1 *", "2026-05-15T10:00", ["2027-01-01T00:00:30", "2028-01-01T00:00:30"]),
    ],
)
def test_cron_lines(line: str, after: str, following: list[str]) -> None:
    """A line means what cron(8) says, with the additions that are common, and six fields begin with the second."""
    CronLine(line).check()
    for zone in (UTC, KOLKATA):
        table = CronLine(line).timetable(NOW, zone)
        moment = datetime.fromisoformat(after).replace(tzinfo=zone).astimezone(UTC)
        for expected in following:
            moment = table.next(moment)
            assert moment.tzinfo is UTC
            assert moment == datetime.fromisoformat(expected).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("zone", "day", "line", "shown"),
    [
        (BERLIN, "2026-03-29", "30 2 * * *", ["03:00+0200"]),
        (BERLIN, "2026-03-29", "0,20,40 2 * * *", ["03:00+0200"]),
        (BERLIN, "2026-03-29", "30 2,3 * * *", ["03:00+0200", "03:30+0200"]),
        (BERLIN, "2026-10-25", "30 2 * * *", ["02:30+0200"]),
        (BERLIN, "2026-10-25", "0 1-3 * * *", ["01:00+0200", "02:00+0200", "03:00+0100"]),
        (BERLIN, "2026-10-25", "*/30 2 * * *", ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]),
        (BERLIN, "2026-03-29", "*/30 2 * * *", []),
        (BERLIN, "2026-10-25", "0 30 2 * * *", ["02:30+0200", "02:30+0100"]),
        (BERLIN, "2026-03-29", "0 30 2 * * *", []),
        (NEW_YORK, "2026-03-08", "30 2 * * sun", ["03:00-0400"]),
        (NEW_YORK, "2026-11-01", "30 1 * * sun", ["01:30-0400"]),
        (LORD_HOWE, "2026-10-04", "15 2 * * *", ["02:30+1100"]),
        (LORD_HOWE, "2026-04-05", "45 1 * * *", ["01:45+1100"]),
        (APIA, "2011-12-31", "0 10 * * *", ["00:00+1400", "10:00+1400"]),
        (ZoneInfo("Antarctica/Troll"), "2026-03-29", "30 1,2 * * *", ["03:00+0200"]),
        (ZoneInfo("Asia/Beirut"), "2026-03-29", "0 0 * * *", ["01:00+0300"]),
        (LORD_HOWE, "2026-10-04", "*/15 2 * * *", ["02:30+1100", "02:45+1100"]),
        (
            LORD_HOWE,
            "2026-04-05",
            "*/15 1 5 * *",
            ["01:00+1100", "01:15+1100", "01:30+1100", "01:45+1100", "01:30+1030", "01:45+1030"],
        ),
        (ZoneInfo("Asia/Beirut"), "2026-03-29", "*/30 0,1 29 * *", ["01:00+0300", "01:30+0300"]),
        (ZoneInfo("America/St_Johns"), "2010-11-07", "0 */12 7 11 *", ["00:00-0230", "00:00-0330", "12:00-0330"]),
    ],
)
def test_cron_lines_over_a_night(zone: tzinfo, day: str, line: str, shown: list[str]) -> None:
    """A fixed time is due once, as a daily one is; one with a ``*`` or with seconds when the clock shows it."""
    assert on(day, CronSlots(line, zone), zone) == shown


def test_hourly_cron_lines_count_the_hours_of_the_day() -> None:
    """On the day of 23 hours ``0 * * * *`` is due 23 times, on that of 25 hours 25 times."""
    assert len(on("2026-03-29", CronSlots("0 * * * *", BERLIN), BERLIN)) == 23
    assert len(on("2026-10-25", CronSlots("0 * * * *", BERLIN), BERLIN)) == 25


@pytest.mark.parametrize(
    "line",
    [
        "", "junk", "* * * *", "* * * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
        "* * * * 8", "*/0 * * * *", "5-1 * * * *", "a * * * *", "1, * * * *", "-1 * * * *", "1.5 * * * *", "@daily",
        "* * * * 1#6", "* * * * L", "٣ * * * *", "\N{SUPERSCRIPT TWO} * * * *", "* * * * mon#x", "* * * foo *",
        "9" * 5000 + " * * * *",
    ],
)  # fmt: skip
def test_no_cron_lines(line: str) -> None:
    """What is no cron line is refused with a reason, and never with another kind of error."""
    with pytest.raises(ValueError, match=r".+"):
        CronLine(line).check()


@pytest.mark.parametrize("line", ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 LW * */7"])
def test_dates_that_never_come(line: str) -> None:
    """A line that is never due is refused: the 30th of February, or a last weekday that is a Sunday."""
    with pytest.raises(ValueError, match=r"bad day-of-month|no date is ever like that"):
        CronLine(line).check()


# --- an agenda ------------------------------------------------------------------------------------


class Desk:
    """An agenda with the two clocks that it is told of.

    Attributes:
        now: what the wall clock shows.
        elapsed: since the start.
    """

    def __init__(self, schedule: Schedule | CronLine, now: datetime = NOW, zone: tzinfo = UTC) -> None:
        self.now = now
        self.elapsed = timedelta(0)
        self.agenda = Agenda(lambda now: schedule.timetable(now, zone), now)

    def wait(self, **time: float) -> "Desk":
        """Let time pass."""
        self.now += timedelta(**time)
        self.elapsed += timedelta(**time)
        return self

    def set(self, **step: float) -> "Desk":
        """Set the wall clock."""
        self.now += timedelta(**step)
        return self

    def take(self) -> bool:
        """Look at the clocks."""
        return self.agenda.take(self.now, self.elapsed)

    def done(self) -> int:
        """End a run."""
        return self.agenda.done(self.now, self.elapsed)

    def slot(self) -> str:
        """Return the next slot."""
        return self.agenda.slot.strftime("%Y-%m-%d %H:%M:%S")


HOURLY = Schedule(time(0), date(1970, 1, 1), Repeat.HOURLY, 1)
DAILY = Schedule(time(13), date(1970, 1, 1), Repeat.DAILY, 1)


def test_a_slot_at_the_start_is_due() -> None:
    """A daemon that starts at the very moment of a slot does not let it pass; right after, it is too late."""
    assert Desk(HOURLY).take()
    assert not Desk(HOURLY, NOW + TICK).take()


def test_a_slot_is_taken_once() -> None:
    """A slot is due when its time has come, and not again; the next one is due in its own time."""
    desk = Desk(HOURLY, NOW - TICK)
    assert not desk.take()
    assert desk.wait(microseconds=1).take()
    assert not desk.take()
    assert desk.done() == 0
    assert not desk.wait(minutes=59).take()
    assert desk.wait(minutes=1).take()


def test_missed_slots_are_counted() -> None:
    """What comes during a run is missed and counted, also at the moment of its end; the next is after that."""
    desk = Desk(HOURLY)
    assert desk.take()
    assert desk.wait(hours=3).done() == 3
    assert desk.slot() == "2026-07-01 16:00:00"
    assert not desk.take()


def test_counting_has_an_end() -> None:
    """A daemon that was held up for years does not count each second of them."""
    desk = Desk(Schedule(None, None, Repeat.SECOND, 1))
    assert desk.take()
    assert desk.wait(days=1000).done() == MAX_COUNTED
    assert desk.agenda.slot == desk.now + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("schedule", "grain"),
    [
        (DAILY, timedelta(hours=3)),
        (Schedule(None, None, Repeat.WEEKLY, 5), timedelta(hours=3)),
        (HOURLY, timedelta(hours=1)),
        (Schedule(None, None, Repeat.SECOND, 1), timedelta(seconds=1)),
        (Schedule(None, None, Repeat.MINUTELY, 15), timedelta(minutes=15)),
        (Schedule(None, None, Repeat.HOURLY, 48), timedelta(hours=3)),
        (CronLine("0 13 * * *"), timedelta(hours=3)),
        (CronLine("0 1,13 * * *"), timedelta(hours=3)),
        (CronLine("0 * * * *"), timedelta(minutes=1)),
        (CronLine("*/15 13 * * *"), timedelta(minutes=1)),
        (CronLine("0 0 13 * * *"), timedelta(minutes=1)),
    ],
)
def test_grain(schedule: Schedule | CronLine, grain: timedelta) -> None:
    """A timetable's grain is three hours, the step of a grid that has a shorter one, or a minute for a ``*`` line."""
    assert schedule.timetable(NOW, UTC).grain == grain <= LONGEST_GRAIN


@pytest.mark.parametrize("back", [0.5, 1, 59 * 60, 3600])
def test_set_back_within_the_grain(back: float) -> None:
    """A clock that is set back by no more than the grain brings no slot a second time."""
    desk = Desk(HOURLY)
    assert desk.take()
    desk.done()
    desk.set(seconds=-back)
    assert not desk.take()
    assert not desk.wait(seconds=back).take()
    assert desk.slot() == "2026-07-01 13:00:00"


def test_set_back_beyond_the_grain() -> None:
    """A clock that is set back by more is believed: the next slot is the next by the new time."""
    desk = Desk(HOURLY)
    assert desk.take()
    desk.done()
    assert not desk.wait(seconds=1).set(seconds=-3602).take()
    assert desk.slot() == "2026-07-01 11:00:00"


def test_set_back_little_by_little() -> None:
    """Steps add up: a clock that is set back by half an hour, again and again, does not put a slot off for ever."""
    desk = Desk(HOURLY)
    assert desk.take()
    desk.done()
    for _ in range(20):
        assert not desk.wait(seconds=1).set(minutes=-31).take()
        assert desk.agenda.slot - desk.now <= timedelta(hours=2)


def test_steps_that_cancel_each_other() -> None:
    """There and back again within the grain is as if nothing had been."""
    desk = Desk(DAILY)
    for _ in range(10):
        assert not desk.wait(seconds=1).set(hours=-3).take()
        assert not desk.set(hours=3).take()
    assert desk.slot() == "2026-07-01 13:00:00"


def test_set_forward_within_the_grain() -> None:
    """Slots that were passed over are made up for by one run; the others count as missed."""
    desk = Desk(CronLine("0,30 13,14 * * *"))
    assert desk.wait(minutes=45).set(hours=3).take()  # 15:45
    assert desk.done() == 3
    assert desk.slot() == "2026-07-02 13:00:00"


def test_set_forward_beyond_the_grain() -> None:
    """Slots that were passed over by a correction are not made up for: there never was such a time."""
    desk = Desk(DAILY)
    assert not desk.take()
    assert not desk.set(hours=3, seconds=1).take()
    assert desk.slot() == "2026-07-02 13:00:00"


def test_a_slot_between_a_correction_and_the_next_look() -> None:
    """The clock is looked at now and then only: a slot that came after it was set, and before the look, is due."""
    desk = Desk(DAILY)
    assert not desk.take()
    desk.set(days=400, minutes=59, seconds=45)
    assert desk.wait(seconds=30).take()
    assert not desk.take()
    assert desk.slot() == "2027-08-06 13:00:00"


def test_a_correction_during_a_run() -> None:
    """A run that was under way when the clock was set is not followed by one for the past; what came is missed."""
    desk = Desk(HOURLY)
    assert desk.take()
    desk.wait(minutes=1).set(days=400)
    assert desk.wait(minutes=90).done() == 1
    assert desk.slot() == "2027-08-05 14:00:00"
    assert not desk.take()


@pytest.mark.parametrize(
    "step", [timedelta(days=-400), timedelta(hours=-5), timedelta(hours=5), timedelta(days=20_000)]
)
@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(None, None, Repeat.HOURLY, 1),
        Schedule(None, None, Repeat.DAILY, 1),
        Schedule(None, None, Repeat.WEEKLY, 1),
        Schedule(None, None, Repeat.MINUTELY, 90),
    ],
)
def test_a_plan_from_the_start_on_follows_the_start(schedule: Schedule, step: timedelta) -> None:
    """Without a start of its own, a schedule begins with the daemon: when that was is known only by the right clock.

    So a clock that was wrong at boot, in whichever direction, neither puts the next run off nor brings it forward.
    """
    desk = Desk(schedule, datetime(1990, 1, 1, 10, tzinfo=UTC))
    assert desk.take()
    desk.wait(seconds=1).done()
    desk.now += step
    assert not desk.wait(seconds=30).take()
    assert desk.agenda.slot == desk.now - desk.elapsed + PERIODS[schedule.repeat] * schedule.factor


def test_a_time_without_a_date_follows_the_start_too() -> None:
    """Of a schedule with a time only, the date is that of the daemon's start by the right clock."""
    desk = Desk(Schedule(time(18), None, Repeat.HOURLY, 1), datetime(2026, 7, 1, 12, tzinfo=UTC))
    assert not desk.take()
    assert not desk.wait(seconds=20).set(days=-400).take()
    assert desk.slot() == "2025-05-27 18:00:00"


def test_a_date_of_its_own_stays() -> None:
    """A start that was given by its date is waited for, whatever the clock does meanwhile."""
    desk = Desk(Schedule(time(18), date(2026, 7, 1), Repeat.HOURLY, 1))
    assert not desk.take()
    assert not desk.set(days=-400).take()
    assert desk.slot() == "2026-07-01 18:00:00"
