"""Declaring what runs by the clock and the calendar, and what then becomes of it when the daemon polls."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from rpiserve.core.clocks import Clocks
from rpiserve.core.runner import Runner
from rpiserve.core.threads import ThreadPool
from rpiserve.data.tree import DataTree
from rpiserve.declare.base import Scheduled
from rpiserve.declare.handler import Handler, Where
from rpiserve.declare.registry import Registry
from rpiserve.declare.schedules import CRON_TIME_LIMIT
from rpiserve.declare.timetables import MAX_FACTOR, CronLine, Repeat, Schedule
from rpiserve.errors import DeclarationError, SensorError, StartError
from rpiserve.polling import scheduler
from rpiserve.polling.scheduler import Scheduler
from rpiserve.web.endpoints.handler_status import status_object


def write() -> None:
    """What is to be run."""


class Writer(Handler):
    """A handler that notes what is done with it.

    Attributes:
        calls: what was called, and when.
        broken: how often preparing will fail.
    """

    def __init__(self, clock: Clock | None = None, broken: int = 0) -> None:
        self.clock = clock or Clock()
        self.broken = broken
        self.calls: list[tuple[str, float]] = []

    def prepare(self) -> None:
        """Note it."""
        self.calls.append(("prepare", self.clock.seconds()))
        if self.broken:
            self.broken -= 1
            raise SensorError("no such disk")

    def invoke(self) -> None:
        """Note it."""
        self.calls.append(("invoke", self.clock.seconds()))
        self.data.set("written", len(self.calls))


@pytest.fixture
def app() -> Registry:
    """An app without any declarations."""
    return Registry()


def only(app: Registry) -> Any:
    """Return the one declaration."""
    [polled] = app.polled
    return polled


# --- app.schedule ---------------------------------------------------------------------------------


def test_schedule_by_default(app: Registry) -> None:
    """Without further arguments: daily from the daemon's start on, in the machine's zone, a day at most each time."""
    app.schedule(write)
    polled = only(app)
    assert polled.kind == "schedule"
    assert polled.function.name == "write"
    assert polled.function.call is write
    assert polled.function.where is Where.THREAD
    assert polled.prepare is polled.handler is polled.bus is polled.path is None
    assert polled.trigger == Scheduled(Schedule(None, None, Repeat.DAILY, 1), None)
    assert polled.timeout == 86_400
    assert polled.max_age == float("inf")


def test_schedule_with_everything(app: Registry) -> None:
    """Each argument is found in the declaration, those in raspend's order by their places."""
    writer = Writer()
    app.schedule(
        writer, time(6, 30), date(2026, 1, 1), Repeat.MINUTELY, 15,
        timezone="Asia/Kolkata", name="csv", timeout=20, bus="i2c-1", reactor=True,
    )  # fmt: skip
    polled = only(app)
    assert polled.handler is writer
    assert polled.function.name == "csv"
    assert polled.function.call == writer.invoke
    assert polled.function.where is polled.prepare.where is Where.REACTOR
    assert polled.prepare.call == writer.prepare
    assert polled.trigger == Scheduled(
        Schedule(time(6, 30), date(2026, 1, 1), Repeat.MINUTELY, 15), ZoneInfo("Asia/Kolkata")
    )
    assert polled.timeout == 20
    assert polled.bus == "i2c-1"


def test_repeat_none_is_daily(app: Registry) -> None:
    """raspend's way to say daily is understood."""
    app.schedule(write, repeat=None)
    assert only(app).trigger.schedule.repeat is Repeat.DAILY


@pytest.mark.parametrize(
    ("repeat", "factor", "timeout"),
    [(Repeat.SECOND, 1, 10), (Repeat.SECOND, 11, 11), (Repeat.MINUTELY, 15, 900), (Repeat.WEEKLY, 2, 14 * 86_400)],
)
def test_time_limit_of_a_schedule(app: Registry, repeat: Repeat, factor: int, timeout: float) -> None:
    """A run may take as long as the repetition, but ten seconds in any case."""
    app.schedule(write, repeat=repeat, factor=factor)
    assert only(app).timeout == timeout


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30)), ZoneInfo("Africa/Casablanca")])
def test_zones_as_objects(app: Registry, zone: Any) -> None:
    """A zone may be given as the standard library's object."""
    app.schedule(write, timezone=zone)
    app.cron("0 6 * * *", timezone=zone)(write)
    assert [each.trigger.zone for each in app.polled] == [zone, zone]


def test_names_are_numbered(app: Registry) -> None:
    """What has no name of its own is called by its function or class, with a number if that is taken."""
    app.schedule(write)
    app.cron("0 6 * * *")(write)
    app.schedule(Writer())
    app.schedule(Writer(), name="write-3")
    app.schedule(write)
    assert [each.function.name for each in app.polled] == ["write", "write-2", "Writer", "write-3", "write-4"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"start_time": "06:30"}, "write: start_time is '06:30'; it is a datetime.time without a zone"),
    ({"start_time": time(6, tzinfo=UTC)}, "start_time is datetime.time(6, 0, tzinfo=datetime.timezone.utc)"),
    ({"start_time": datetime(2026, 1, 1)}, "it is a datetime.time without a zone"),
    ({"start_date": "2026-01-01"}, "write: start_date is '2026-01-01'; it is a datetime.date"),
    ({"start_date": datetime(2026, 1, 1)}, "it is a datetime.date"),
    ({"start_date": date.min}, "write: start_date is 0001-01-01; its year is from 2 to 9000"),
    ({"start_date": date(9001, 1, 1)}, "write: start_date is 9001-01-01; its year is from 2 to 9000"),
    ({"repeat": "DAILY"}, "write: repeat is 'DAILY'; it is one of Repeat.WEEKLY, Repeat.DAILY, Repeat.HOURLY"),
    ({"repeat": False}, "write: repeat is False"),
    ({"factor": 0}, f"write: factor is 0; it is a whole number from 1 to {MAX_FACTOR}"),
    ({"factor": -1}, "factor is -1"),
    ({"factor": 1.5}, "factor is 1.5"),
    ({"factor": True}, "factor is True"),
    ({"factor": "2"}, "factor is '2'"),
    ({"factor": None}, "factor is None"),
    ({"factor": MAX_FACTOR + 1}, f"factor is {MAX_FACTOR + 1}"),
    ({"timezone": "Europe/Atlantis"}, "write: timezone is 'Europe/Atlantis'; it is a name such as 'Europe/Berlin'"),
    ({"timezone": "Europe"}, "timezone is 'Europe'"),
    ({"timezone": ""}, "timezone is ''"),
    ({"timezone": "../etc/passwd"}, "timezone is '../etc/passwd'"),
    ({"timezone": "a\0b"}, "timezone is"),
    ({"timezone": 2}, "timezone is 2"),
    ({"timezone": []}, "timezone is []"),
    ({"name": ""}, "'' is no name"),
    ({"name": 5}, "5 is no name"),
    ({"timeout": 0}, "write: timeout is 0; it is a number of seconds"),
    ({"timeout": float("nan")}, "timeout is nan"),
    ({"timeout": "10"}, "timeout is '10'"),
    ({"bus": ""}, "write: bus is ''"),
    ({"bus": 1}, "write: bus is 1"),
]


@pytest.mark.parametrize(("options", "text"), WRONG)
def test_wrong_arguments_of_a_schedule(app: Registry, options: dict[str, Any], text: str) -> None:
    """Each wrong argument is refused where it stands, by its name and with what it should be; nothing is declared."""
    with pytest.raises(DeclarationError) as refusal:
        app.schedule(write, **options)
    assert text in str(refusal.value)
    assert app.polled == []
    app.schedule(write)
    assert only(app).function.name == "write"


class Empty(Handler):
    """Has forgotten its invoke()."""


def with_argument(what: int) -> None:
    """Cannot be called without an argument."""


def with_yield() -> Iterator[None]:
    """Would do nothing when it is called."""
    yield


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (Writer, "schedule() takes a handler, not a class: write Writer()"),
        (Empty(), "Empty: the class Empty has no invoke() of its own"),
        (None, "NoneType: None is no function"),
        (with_argument, "with_argument: rpiserve calls it without arguments"),
        (with_yield, "with_yield: a function with 'yield' in it"),
    ],
)
def test_wrong_handlers_of_a_schedule(app: Registry, handler: Any, text: str) -> None:
    """What cannot be run is refused."""
    with pytest.raises(DeclarationError) as refusal:
        app.schedule(handler)
    assert text in str(refusal.value)
    assert app.polled == []


def test_no_name_and_no_handler_twice(app: Registry) -> None:
    """A name that was given is not given again, and a handler is declared once."""
    writer = Writer()
    app.schedule(writer, name="csv")
    with pytest.raises(DeclarationError, match="the name 'csv' is declared already"):
        app.schedule(write, name="csv")
    with pytest.raises(DeclarationError, match="this handler is declared already"):
        app.schedule(writer)
    assert len(app.polled) == 1


# --- app.cron -------------------------------------------------------------------------------------


def test_cron(app: Registry) -> None:
    """The decorator declares the function, with all that was given, and returns it as it is."""
    decorate = app.cron("0 6 * * mon-fri", timezone="Europe/Berlin", name="blinds", timeout=5, bus="wire")
    assert app.polled == []
    assert decorate(write) is write
    polled = only(app)
    assert polled.kind == "cron"
    assert polled.function.name == "blinds"
    assert polled.function.where is Where.THREAD
    assert polled.trigger == Scheduled(CronLine("0 6 * * mon-fri"), ZoneInfo("Europe/Berlin"))
    assert (polled.timeout, polled.bus, polled.max_age) == (5, "wire", float("inf"))
    assert polled.prepare is polled.handler is polled.path is None


def test_cron_by_default(app: Registry) -> None:
    """Without further arguments: in the machine's zone, an hour at most, on the reactor if it is asynchronous."""

    @app.cron("*/5 * * * *")
    async def look() -> None: ...

    @app.cron("30 */5 * * * *", reactor=True)
    def see() -> None: ...

    first, second = app.polled
    assert first.function.where is second.function.where is Where.REACTOR
    assert first.trigger == Scheduled(CronLine("*/5 * * * *"), None)
    assert first.timeout == CRON_TIME_LIMIT


@pytest.mark.parametrize("line", ["", "junk", "* * * *", "61 * * * *", "0 0 30 2 *", "@daily", 5, None, b"* * * * *"])
def test_wrong_cron_lines(app: Registry, line: Any) -> None:
    """What is no cron line, or never due, is refused before there is anything to decorate, and is quoted."""
    with pytest.raises(DeclarationError) as refusal:
        app.cron(line)
    assert str(refusal.value).startswith(f"cron({line!r}): ")
    assert str(refusal.value).endswith("a text such as '0 6 * * mon-fri'")


@pytest.mark.parametrize(
    ("options", "text"),
    [(options, text) for options, text in WRONG if {"timezone", "name", "timeout", "bus"} & {*options}],
)
def test_wrong_arguments_of_cron(app: Registry, options: dict[str, Any], text: str) -> None:
    """Each wrong argument is refused; nothing is declared."""
    with pytest.raises(DeclarationError) as refusal:
        app.cron("0 6 * * *", **options)(write)
    assert text in str(refusal.value)
    assert app.polled == []


@pytest.mark.parametrize("function", [None, with_argument, with_yield])
def test_wrong_functions_for_cron(app: Registry, function: Any) -> None:
    """What cannot be called is refused."""
    with pytest.raises(DeclarationError):
        app.cron("0 6 * * *")(function)
    assert app.polled == []


def test_cron_with_a_name_that_is_taken(app: Registry) -> None:
    """A name that was given is not given again."""
    app.cron("0 6 * * *", name="a")(write)
    with pytest.raises(DeclarationError, match="the name 'a' is declared already"):
        app.cron("0 6 * * *", name="a")(write)
    assert len(app.polled) == 1


# --- polled ---------------------------------------------------------------------------------------

BOOT = datetime(2026, 7, 1, 3, 59, 30, tzinfo=UTC)


class House:
    """The polling with its clocks, and without threads: what it runs, runs on the reactor.

    Attributes:
        app: the declarations.
        clock: the monotonic clock; the wall clock never leaps.
    """

    def __init__(self) -> None:
        self.app = Registry()
        self.clock = Clock()
        self.polling: Scheduler | None = None

    def wall(self) -> float:
        """Return what the wall clock shows."""
        return BOOT.timestamp() + self.clock.seconds()

    def start(self) -> None:
        """Start what was declared."""
        tree = DataTree("boot", self.clock.seconds, self.wall)
        runner = Runner(self.clock, lambda call, *arguments: call(*arguments), cast(ThreadPool, None))
        self.polling = Scheduler(self.app, runner, tree, Clocks(self.clock, self.wall))
        self.polling.start()

    def wait(self, seconds: float) -> None:
        """Let time pass, second by second."""
        for _ in range(int(seconds)):
            self.clock.advance(1)

    def shown(self) -> list[dict[str, Any]]:
        """Return what clients see of all that was declared."""
        assert self.polling is not None
        return [status_object(status) for status in self.polling.statuses()]

    def report(self) -> dict[str, Any]:
        """Return what clients see of what was declared first."""
        return self.shown()[0]

    def stop(self) -> None:
        """Stop: nothing is left behind."""
        if self.polling is not None:
            assert self.polling.stop().called
        assert self.clock.getDelayedCalls() == []


@pytest.fixture
def house() -> Iterator[House]:
    """A house in which nothing is left in the end."""
    house = House()
    yield house
    house.stop()


def test_prepare_comes_before_the_plan(house: House, logged_failures: list[LogEvent]) -> None:
    """A handler prepares until it succeeds, and its schedule begins then: without a start, with a run at once."""
    writer = Writer(house.clock, broken=2)
    house.app.schedule(writer, repeat=Repeat.MINUTELY, timezone="UTC", reactor=True)
    house.start()
    assert house.polling is not None
    assert house.polling.reasons() != []
    assert house.report()["next_run"] == "2026-07-01T03:59:31.000Z"  # it prepares again
    house.wait(100)
    *tries, (_, prepared) = [call for call in writer.calls if call[0] == "prepare"]
    assert len(tries) == 2
    assert [when for what, when in writer.calls if what == "invoke"] == [prepared, prepared + 60]
    assert house.polling.reasons() == []
    assert len(logged_failures) == 1
    logged_failures.clear()


def test_report_of_a_schedule(house: House) -> None:
    """The report names the schedule and its zone, and shows the next run in local time with its offset."""
    house.app.schedule(Writer(house.clock), time(6), date(1970, 1, 1), timezone="Europe/Berlin", reactor=True)
    house.app.cron("0 6 * * mon-fri", timezone="Asia/Kolkata", reactor=True)(write)
    house.app.cron("0 0 * * * *", timezone=timezone(timedelta(hours=-9, minutes=-30)), reactor=True)(write)
    house.start()
    keys = ("name", "kind", "interval", "schedule", "timezone", "next_run")
    shown = [[each[key] for key in keys] for each in house.shown()]
    assert shown == [
        ["Writer", "schedule", None, "daily × 1", "Europe/Berlin", "2026-07-01T06:00:00+02:00"],
        ["write", "cron", None, "0 6 * * mon-fri", "Asia/Kolkata", "2026-07-02T06:00:00+05:30"],
        ["write-2", "cron", None, "0 0 * * * *", "UTC-09:30", "2026-06-30T19:00:00-09:30"],
    ]
    assert [house.report()[key] for key in ("state", "runs", "last_run")] == ["pending", 0, None]
    house.wait(30)
    assert [house.report()[key] for key in ("state", "runs", "missed", "failures")] == ["ok", 1, 0, 0]
    assert house.report()["last_run"] == "2026-07-01T04:00:00.000Z"
    assert house.report()["next_run"] == "2026-07-02T06:00:00+02:00"


def test_machine_zone_by_default(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no zone is in the machine's own."""
    monkeypatch.setattr(scheduler, "get_localzone", lambda: ZoneInfo("Australia/Lord_Howe"))
    house.app.cron("0 6 * * *", reactor=True)(write)
    house.start()
    assert house.report()["timezone"] == "Australia/Lord_Howe"
    assert house.report()["next_run"] == "2026-07-02T06:00:00+10:30"


@pytest.mark.parametrize("declare", ["schedule", "cron"])
def test_failed_runs_wait_for_their_next_time(house: House, logged_failures: list[LogEvent], declare: str) -> None:
    """A run that fails is shown, and is not tried again before the next slot."""
    starts: list[float] = []

    def fail() -> None:
        starts.append(house.clock.seconds())
        raise SensorError("the disk is full")

    if declare == "schedule":
        house.app.schedule(fail, time(0), date(1970, 1, 1), Repeat.MINUTELY, reactor=True, timezone=UTC)
    else:
        house.app.cron("* * * * *", reactor=True, timezone=UTC)(fail)
    house.start()
    house.wait(200)
    assert starts == [30, 90, 150]
    assert [house.report()[key] for key in ("state", "error", "failures")] == ["error", "the disk is full", 3]
    assert len(logged_failures) == 2
    logged_failures.clear()


def test_stop_during_a_run(house: House) -> None:
    """Polling that is stopped while a planned run is under way waits for it, and it is the last."""
    runs: list[Deferred[None]] = []

    def run() -> Deferred[None]:
        runs.append(Deferred())
        return runs[-1]

    house.app.schedule(run, repeat=Repeat.SECOND, reactor=True, timezone=UTC, timeout=60)
    house.start()
    house.wait(3)
    assert len(runs) == 1
    assert house.polling is not None
    stopped = house.polling.stop()
    assert not stopped.called
    runs[0].callback(None)
    assert stopped.called
    house.wait(100)
    assert len(runs) == 1
    house.polling = None


def test_a_machine_whose_zone_cannot_be_told(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TZ that names no zone ends the start with a line that names the schedule and what to do."""

    def get_localzone() -> None:
        raise ZoneInfoNotFoundError("No time zone found with key CET-1CEST")

    monkeypatch.setattr(scheduler, "get_localzone", get_localzone)
    house.app.schedule(Writer(house.clock), reactor=True)
    with pytest.raises(StartError, match=r"Writer: this machine's time zone cannot be told .*set TZ to a name"):
        house.start()
