"""What is logged of failures: incidents in what clients call, and the trouble of one handler."""

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import ClassVar

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from rpiserve.core.log_limit import Kind, LogLimit, spoken
from rpiserve.data.encoding import printable
from rpiserve.errors import RpiserveError

log = Logger()


def log_incident(name: str, failure: Failure, more: str = "") -> str:
    """Log that ``name`` has failed, with the traceback, and return the id under which it stands in the log.

    Args:
        name: what has failed.
        failure: how.
        more: what else there is to say.
    """
    incident = uuid.uuid4().hex[:8]
    text = "{name} failed, incident {incident}{more}"
    log.failure(text, failure, LogLevel.error, name=name, incident=incident, more=more)
    return incident


def kind_of(failure: Failure, thinning: LogLimit, now: float, *, overdue: bool = False) -> Kind:
    """Have ``thinning`` take note of ``failure``: those of a type that come from the same line of code are of a kind.

    The type goes by its name: there are libraries that make a new class each time.
    """
    assert failure.type is not None
    place: tuple[Hashable, ...] = (failure.type.__module__, failure.type.__qualname__)
    if failure.frames:
        place += tuple(failure.frames[-1][1:3])
    return thinning.take(now, place, failure.getErrorMessage(), overdue=overdue)


def _text_of(failure: Failure) -> str:
    return printable(f"{failure.getErrorMessage():.500}")


class IncidentLog:
    """What has gone wrong in functions that anybody may call at any time, a client in a loop among them.

    How much of it is logged, and when, is up to `LogLimit`. What is not logged has the id of what was: of the first
    failure of that kind on that day, which stands in the log with its traceback.

    Args:
        clock: the reactor's clock, in seconds.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._thinning: defaultdict[str, LogLimit] = defaultdict(LogLimit)

    def note(self, name: str, failure: Failure) -> str:
        """Take note that ``name`` has failed, and return the id under which the traceback stands in the log.

        Args:
            name: the function's name; there must be only so many of them.
            failure: how it failed.
        """
        kind = kind_of(failure, self._thinning[name], self._clock.seconds())
        if kind.is_unknown:
            kind.incident = log_incident(name, failure, kind.more)
        elif kind.is_due:
            text = "{name} failed again{more}, as in incident {incident}: {error}"
            log.error(text, name=name, more=kind.more, incident=kind.incident, error=_text_of(failure))
        return kind.incident


@attrs.define(eq=False)
class FailureStreak:
    """What has gone wrong in one handler, since it last went well.

    How much of it is logged, and when, is up to `LogLimit`, whether it went well in between or not: a sensor with a
    loose contact must not fill the disk in a year. That it works again is logged if that it failed was.

    Attributes:
        name: the handler's name.
        now: returns seconds that only grow.
        count: how often it has failed in a row.
        text: what to show of the last failure.
    """

    LONGEST_SILENCE: ClassVar[float] = 3600.0
    """Seconds after which it is logged in any case that it fails: for so long the log may end with it working again."""

    name: str
    now: Callable[[], float] = time.monotonic
    count: int = 0
    text: str | None = None
    _thinning: LogLimit = attrs.field(factory=LogLimit)
    _since: float = 0.0
    _told: bool = False

    def note(self, failure: Failure) -> str:
        """Count ``failure``, log it if it is time to, and return the text to show of it.

        Of an error that rpiserve knows that is its own text. Of any other it is the class and an incident id, which
        also stands in the log beside the traceback: an exception's text may hold what is nobody's business.
        """
        now = self.now()
        if not self.count:
            self._since = now
        self.count += 1
        overdue = not self._told and now - self._since >= self.LONGEST_SILENCE
        kind = kind_of(failure, self._thinning, now, overdue=overdue)
        self._told = self._told or kind.is_due
        notes = [f"{self.count} in a row"] if self.count > 1 else []
        notes += [kind.since] if kind.since else []
        more = f" ({', '.join(notes)})" if notes else ""
        if isinstance(failure.value, RpiserveError):
            # Text that UTF-8 cannot express, of a file's name perhaps, would be refused wherever it is to be shown.
            self.text = printable(str(failure.value))
            if kind.is_due:
                log.error("{name} failed{more}: {text}", name=self.name, more=more, text=self.text)
            return self.text
        if kind.is_unknown:
            kind.incident = log_incident(self.name, failure, more)
        elif kind.is_due:
            text = "{name} failed again{more} as in incident {incident}: {error}"
            log.error(text, name=self.name, more=more, incident=kind.incident, error=_text_of(failure))
        assert failure.type is not None
        self.text = f"{failure.type.__name__} (incident {kind.incident}, see the log)"
        return self.text

    def clear(self) -> None:
        """Note that it went well."""
        if self._told:
            failures = "1 failure" if self.count == 1 else f"{self.count} failures"
            text = "{name} works again after {failures} in {time}"
            log.info(text, name=self.name, failures=failures, time=spoken(self.now() - self._since))
        self.count, self.text, self._told = 0, None, False
