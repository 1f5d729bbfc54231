"""How a handler is: numbers and words, which are rendered where they leave the daemon."""

from datetime import tzinfo
from typing import Literal, Protocol, TypeAlias

import attrs

HandlerState: TypeAlias = Literal["pending", "ok", "error", "running", "finished"]
"""A handler that is polled is ``pending``, ``ok`` or ``error``, a thread ``running``, ``error`` or ``finished``."""


@attrs.frozen(kw_only=True)
class HandlerStatus:
    """How one handler is at one moment.

    Attributes:
        name: the handler's name; a sensor has that of its path.
        kind: what declared it: ``sensor``, ``every``, ``background``, ``schedule``, ``cron`` or ``thread``.
        bus: the name of the hardware bus that it shares; None without one.
        state: what the last run came to.
        error: the text to show of the failure, as long as the handler fails.
        last_run: when the last run began, in seconds since the epoch; None before the first one.
        duration: how long the last run took, in seconds, to the microsecond; None before its end, and for a thread.
        interval: seconds from one run to the next; None for a schedule and a thread.
        schedule: the timetable in words; None for an interval and a thread.
        timezone: the zone of the timetable.
        next_run: when it is due to run or to prepare again, in seconds since the epoch; None if that is not known yet.
        prepared: whether its ``prepare``, if it has one, has succeeded.
        runs: how many runs have begun.
        failures: how many runs have failed.
        missed: how many slots have passed while a run was under way or the reactor was blocked.
        stuck: whether a run has passed its time limit and has not ended yet.
    """

    name: str
    kind: str
    bus: str | None = None
    state: HandlerState
    error: str | None = None
    last_run: float | None = None
    duration: float | None = None
    interval: float | None = None
    schedule: str | None = None
    timezone: tzinfo | None = None
    next_run: float | None = None
    prepared: bool = True
    runs: int = 0
    failures: int = 0
    missed: int = 0
    stuck: bool = False


class HandlerStatuses(Protocol):
    """A part of the daemon that runs handlers, and knows how they are."""

    def statuses(self) -> list[HandlerStatus]:
        """Return the status of each handler, in the order of their declaration, threads last."""
        ...
