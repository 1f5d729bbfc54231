"""The status of a handler as JSON, for ``/sensors`` and the event ``sensor``."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rpiserve.core.handler_status import HandlerStatus
from rpiserve.data import encoding

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def status_object(status: HandlerStatus) -> dict[str, Any]:
    """Return ``status`` as the object that clients get.

    Times are RFC 3339 text in UTC, to the millisecond. The next run of a timetable is in the timetable's own zone, to
    the second: it is read beside the clock on the wall.
    """
    return {
        "name": status.name,
        "kind": status.kind,
        "bus": status.bus,
        "state": status.state,
        "error": status.error,
        "last_run": None if status.last_run is None else encoding.timestamp(status.last_run),
        "duration": status.duration,
        "interval": status.interval,
        "schedule": status.schedule,
        "timezone": None if status.timezone is None else str(status.timezone),
        "next_run": _next_run_text(status),
        "runs": status.runs,
        "failures": status.failures,
        "missed": status.missed,
        "stuck": status.stuck,
    }


def _next_run_text(status: HandlerStatus) -> str | None:
    if status.next_run is None:
        return None
    if status.timezone is None or not status.prepared:  # when `prepare` is tried again is in no timetable
        return encoding.timestamp(status.next_run)
    # Not by fromtimestamp(): a slot may be after 2038, which is out of range on some 32-bit systems.
    slot = _EPOCH + timedelta(seconds=status.next_run)
    return slot.astimezone(status.timezone).isoformat(timespec="seconds")
