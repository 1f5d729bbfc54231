"""All that polls: the pollers, the long-running threads, and the ageing of what they wrote."""

from collections.abc import Callable, Iterator
from datetime import tzinfo
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from tzlocal import get_localzone

from rpiserve.core.clocks import Clocks
from rpiserve.core.handler_status import HandlerStatus
from rpiserve.core.metrics import Metric, Sample
from rpiserve.core.runner import Resource, Runner
from rpiserve.data.tree import DataTree
from rpiserve.declare.base import Every, Polled
from rpiserve.declare.registry import Registry
from rpiserve.errors import StartError
from rpiserve.polling.long_running import LongRunner
from rpiserve.polling.poller import Poller
from rpiserve.polling.triggers import CalendarTrigger, FixedDelay, FixedRate, Trigger

log = Logger()

AGEING_INTERVAL = 1.0
"""Seconds between two looks for values that have become stale."""

_LABELS: Final = ("name", "kind")
RUNS: Final = Metric("rpiserve_handler_runs_total", "Runs that a handler has begun.", "counter", _LABELS)
FAILURES: Final = Metric("rpiserve_handler_failures_total", "Runs that have failed.", "counter", _LABELS)
MISSED: Final = Metric(
    "rpiserve_handler_missed_total",
    "Runs that fell out because the one before had not ended, or the reactor was blocked.",
    "counter",
    _LABELS,
)
DURATION: Final = Metric("rpiserve_handler_duration_seconds", "How long the last run took.", "gauge", _LABELS)
FAILING: Final = Metric("rpiserve_handler_failing", "Whether the last run has failed.", "gauge", _LABELS)
STUCK: Final = Metric(
    "rpiserve_handler_stuck", "Whether a run has passed its time limit and not ended yet.", "gauge", _LABELS
)


class Scheduler:
    """Polls for one app: its pollers, its long-running threads, and the ageing of values.

    Args:
        registry: the declarations.
        runner: what runs the users' functions.
        tree: where readings go.
        clocks: the reactor's clock and the wall clock.
    """

    def __init__(self, registry: Registry, runner: Runner, tree: DataTree, clocks: Clocks) -> None:
        clock, wall = clocks.reactor, clocks.wall
        buses: dict[str | None, Resource] = {
            polled.bus: Resource(f"the bus {polled.bus}") for polled in registry.polled if polled.bus is not None
        }
        self._pollers = [
            Poller(polled, trigger_for(polled, clock, wall), runner, tree, clocks, buses.get(polled.bus))
            for polled in registry.polled
        ]
        long_runners = [LongRunner(function, runner, clock, wall) for function in registry.threads]
        self._parts: list[Poller | LongRunner] = [*self._pollers, *long_runners]
        self._ageing = LoopingCall(tree.age)
        self._ageing.clock = clock

    def start(self) -> None:
        """Start everything."""
        for part in self._parts:
            part.start()
        self._ageing.start(AGEING_INTERVAL, now=False).addErrback(
            lambda failure: log.failure("values age no more", failure)
        )

    def stop(self) -> Deferred[Any]:
        """Begin nothing more; fires when all that is under way has ended. What is stuck is not waited for."""
        if self._ageing.running:
            self._ageing.stop()
        return DeferredList([part.stop() for part in self._parts])

    def reasons(self) -> list[str]:
        """Return why it is not ready."""
        return [reason for poller in self._pollers for reason in poller.reasons()]

    def statuses(self) -> list[HandlerStatus]:
        """Return the status of each handler, in the order of their declaration, threads last."""
        return [part.status() for part in self._parts]

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of the handlers."""
        for status in self.statuses():
            labels = status.name, status.kind
            yield RUNS.sample(status.runs, *labels)
            yield FAILURES.sample(status.failures, *labels)
            yield MISSED.sample(status.missed, *labels)
            yield FAILING.sample(status.state == "error", *labels)
            yield STUCK.sample(status.stuck, *labels)
            if status.duration is not None:
                yield DURATION.sample(status.duration, *labels)


def trigger_for(polled: Polled, clock: IReactorTime, wall: Callable[[], float]) -> Trigger:
    """Return the trigger that ``polled`` asks for; a schedule without a zone is in the machine's own."""
    trigger = polled.trigger
    if not isinstance(trigger, Every):
        schedule, zone = trigger.schedule, trigger.zone or _local_zone(polled.function.name)
        return CalendarTrigger(lambda now: schedule.timetable(now, zone), schedule.describe(), zone, clock, wall)
    if trigger.fixed_delay:
        return FixedDelay(trigger.interval, clock, wall)
    return FixedRate(polled.function.name, trigger.interval, clock, wall)


def _local_zone(name: str) -> tzinfo:
    try:
        return get_localzone()
    except Exception as error:  # by what is wrong with the machine, tzlocal raises one thing or another
        raise StartError(
            f"{name}: this machine's time zone cannot be told ({' '.join(str(error).split())}): "
            "set TZ to a name such as Europe/Berlin, or give the schedule a timezone="
        ) from error
