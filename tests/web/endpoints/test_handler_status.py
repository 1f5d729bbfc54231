"""The status of a handler as the JSON that clients get."""

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpiserve.core.handler_status import HandlerStatus
from rpiserve.data import encoding
from rpiserve.web.endpoints.handler_status import status_object

BERLIN = ZoneInfo("Europe/Berlin")


def test_polled_handler() -> None:
    """All fields are there, in one order; times are in UTC to the millisecond."""
    status = HandlerStatus(
        name="a/b",
        kind="sensor",
        bus="spi",
        state="error",
        error="no answer",
        last_run=1_000_000_000.2504,
        duration=0.001234,
        interval=10.0,
        next_run=1_000_000_010.25,
        runs=7,
        failures=3,
        missed=2,
        stuck=True,
    )
    assert encoding.encode(status_object(status)).decode() == (
        '{"name":"a/b","kind":"sensor","bus":"spi","state":"error","error":"no answer",'
        '"last_run":"2001-09-09T01:46:40.250Z","duration":0.001234,"interval":10.0,"schedule":null,"timezone":null,'
        '"next_run":"2001-09-09T01:46:50.250Z","runs":7,"failures":3,"missed":2,"stuck":true}'
    )


def test_handler_that_has_not_run() -> None:
    """What is not known, or does not apply, is null."""
    assert encoding.encode(status_object(HandlerStatus(name="serial", kind="thread", state="running"))).decode() == (
        '{"name":"serial","kind":"thread","bus":null,"state":"running","error":null,"last_run":null,"duration":null,'
        '"interval":null,"schedule":null,"timezone":null,"next_run":null,"runs":0,"failures":0,"missed":0,'
        '"stuck":false}'
    )


@pytest.mark.parametrize(
    ("zone", "name", "next_run"),
    [
        (BERLIN, "Europe/Berlin", "2026-07-01T06:00:00+02:00"),
        (UTC, "UTC", "2026-07-01T04:00:00+00:00"),
        (timezone(timedelta(hours=-9, minutes=-30)), "UTC-09:30", "2026-06-30T18:30:00-09:30"),
    ],
)
def test_timetable(zone: tzinfo, name: str, next_run: str) -> None:
    """The next run of a timetable is shown as the clock on the wall of its zone will, with the offset."""
    slot = datetime(2026, 7, 1, 4, tzinfo=UTC).timestamp()
    status = HandlerStatus(name="a", kind="cron", state="ok", schedule="0 6 * * *", timezone=zone, next_run=slot)
    shown = status_object(status)
    assert (shown["schedule"], shown["timezone"], shown["next_run"]) == ("0 6 * * *", name, next_run)


def test_timetable_before_it_is_prepared() -> None:
    """When `prepare` is tried again is no slot of the timetable, so it is in UTC as any other time."""
    status = HandlerStatus(
        name="a", kind="schedule", state="error", timezone=BERLIN, next_run=1_000_000_000.5, prepared=False
    )
    assert status_object(status)["next_run"] == "2001-09-09T01:46:40.500Z"


@given(
    slot=st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)),
    zone=st.sampled_from([BERLIN, UTC, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/New_York")]),
)
def test_slots_survive_as_numbers(slot: datetime, zone: tzinfo) -> None:
    """A slot that goes as seconds since the epoch is shown as the slot itself would be, to the second."""
    status = HandlerStatus(name="a", kind="cron", state="ok", timezone=zone, next_run=slot.timestamp())
    assert status_object(status)["next_run"] == slot.astimezone(zone).isoformat(timespec="seconds")
