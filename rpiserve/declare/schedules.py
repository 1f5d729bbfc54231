"""Declaring what runs by the clock and the calendar."""

import math
from collections.abc import Callable
from datetime import date, datetime, time, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from rpiserve.declare.base import (
    AnyFunction,
    Declarations,
    Polled,
    Scheduled,
    checked_bus,
    checked_name,
    checked_seconds,
    name_of,
    work_of,
    written,
)
from rpiserve.declare.handler import Handler, UserFunction
from rpiserve.declare.timetables import FIRST_YEAR, LAST_YEAR, MAX_FACTOR, PERIODS, CronLine, Repeat, Schedule
from rpiserve.errors import DeclarationError

CRON_TIME_LIMIT = 3600.0
"""Seconds that a run by a cron line may take by default."""


class ScheduleDeclarations(Declarations):
    """What an app runs by the clock and the calendar."""

    @written("app.schedule(a_function, datetime.time(6, 30)) below the function")
    def schedule(
        self,
        handler: Handler | Callable[[], Any],
        start_time: time | None = None,
        start_date: date | None = None,
        repeat: Repeat | None = Repeat.DAILY,
        factor: int = 1,
        *,
        timezone: str | tzinfo | None = None,
        name: str | None = None,
        timeout: float | None = None,
        bus: str | None = None,
        reactor: bool = False,
    ) -> None:
        """Declare a `Handler`, or a function without arguments, that runs at regular times from a start on.

        With a start in the past, however old, the first run is at the next regular time. A run that fails is not
        tried again before the next.

        Args:
            handler: what runs.
            start_time: the wall time of the first run; None for that of the daemon's start.
            start_date: its date; None for that of the daemon's start. With neither, the first run is at the start.
            repeat: the unit of the repetition; None is daily.
            factor: how many units from one run to the next.
            timezone: the zone of ``start_time``, by its name in the IANA database; None for the machine's own.
            name: its name; that of its class or function by default, numbered if it is taken.
            timeout: seconds that a run may take; the repetition, at least 10, by default.
            bus: the name of a hardware bus; handlers that name the same one never run at the same time.
            reactor: run a plain ``def`` on the reactor, where it must not block.

        Raises:
            DeclarationError: an argument is wrong, or the name or the `Handler` is declared already.
        """
        name, prepare, function = work_of(self, handler, name, reactor, "schedule()")
        schedule = _schedule(name, start_time, start_date, Repeat.DAILY if repeat is None else repeat, factor)
        usual = max(10.0, PERIODS[schedule.repeat].total_seconds() * schedule.factor)
        polled = Polled(
            kind="schedule",
            function=function,
            prepare=prepare,
            handler=handler if isinstance(handler, Handler) else None,
            trigger=Scheduled(schedule, _zone(name, timezone)),
            timeout=usual if timeout is None else checked_seconds(name, "timeout", timeout),
            max_age=math.inf,
            bus=checked_bus(name, bus),
        )
        self.claim(name)
        self.polled.append(polled)

    @written("@app.cron('0 6 * * mon-fri') above the function")
    def cron(
        self,
        line: str,
        *,
        timezone: str | tzinfo | None = None,
        name: str | None = None,
        timeout: float = CRON_TIME_LIMIT,
        bus: str | None = None,
        reactor: bool = False,
    ) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function without arguments that runs by a line as in a crontab.

        Args:
            line: minute, hour, day of the month, month and day of the week, such as ``0 6 * * mon-fri``; with a sixth
                field, for the second, before them.
            timezone: its zone, by its name in the IANA database; None for the machine's own.
            name: its name; the function's own by default, numbered if it is taken.
            timeout: seconds that a run may take.
            bus: the name of a hardware bus; handlers that name the same one never run at the same time.
            reactor: run a plain ``def`` on the reactor, where it must not block.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: an argument is wrong, or the name is taken.
        """
        if not isinstance(line, str):
            raise DeclarationError(f"cron({line!r}): a cron line is a text such as '0 6 * * mon-fri'")
        try:
            CronLine(line).check()
        except ValueError as error:
            raise DeclarationError(f"cron({line!r}): {error}; it is a text such as '0 6 * * mon-fri'") from None

        def declare(function: AnyFunction) -> AnyFunction:
            own = self.free_name(name_of(function)) if name is None else checked_name(name)
            polled = Polled(
                kind="cron",
                function=UserFunction.declare(own, function, reactor=reactor),
                prepare=None,
                handler=None,
                trigger=Scheduled(CronLine(line), _zone(own, timezone)),
                timeout=checked_seconds(own, "timeout", timeout),
                max_age=math.inf,
                bus=checked_bus(own, bus),
            )
            self.claim(own)
            self.polled.append(polled)
            return function

        return declare


def _schedule(name: str, start_time: object, start_date: object, repeat: object, factor: object) -> Schedule:
    if start_time is not None and not (isinstance(start_time, time) and start_time.tzinfo is None):
        raise DeclarationError(f"{name}: start_time is {start_time!r}; it is a datetime.time without a zone")
    if start_date is not None and not (isinstance(start_date, date) and not isinstance(start_date, datetime)):
        raise DeclarationError(f"{name}: start_date is {start_date!r}; it is a datetime.date")
    if start_date is not None and not FIRST_YEAR <= start_date.year <= LAST_YEAR:
        raise DeclarationError(f"{name}: start_date is {start_date}; its year is from {FIRST_YEAR} to {LAST_YEAR}")
    if not isinstance(repeat, Repeat):
        raise DeclarationError(f"{name}: repeat is {repeat!r}; it is one of {', '.join(map(str, Repeat))}")
    if isinstance(factor, bool) or not isinstance(factor, int) or not 1 <= factor <= MAX_FACTOR:
        raise DeclarationError(f"{name}: factor is {factor!r}; it is a whole number from 1 to {MAX_FACTOR}")
    return Schedule(start_time, start_date, repeat, factor)


def _zone(name: str, timezone: object) -> tzinfo | None:
    if timezone is None or isinstance(timezone, tzinfo):
        return timezone
    try:
        return ZoneInfo(timezone)  # type: ignore[arg-type]  # whatever it is, the answer is the same
    except Exception:  # noqa: BLE001 - by what it is, the database raises one thing or another
        raise DeclarationError(f"{name}: timezone is {timezone!r}; it is a name such as 'Europe/Berlin'") from None
