"""One polled handler in motion: its runs, and what becomes of its readings.

- When it runs is up to its trigger. It never overlaps itself: a slot that comes while a run is under way is *missed*,
  which is counted, and never made up for.
- A run that outlasts its time limit has failed, and no other begins until its thread returns.
- A handler with something to prepare does that first, and tries again with growing pauses.
"""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpiserve.core import retry
from rpiserve.core.clocks import Clocks
from rpiserve.core.failures import FailureStreak
from rpiserve.core.handler_status import HandlerStatus
from rpiserve.core.runner import Resource, Run, Runner
from rpiserve.data.nodes import Source, Subtree
from rpiserve.data.tree import DataTree
from rpiserve.data.view import DataView
from rpiserve.declare.base import Polled
from rpiserve.errors import Cancelled, SensorError
from rpiserve.polling.triggers import Trigger, wall_time

log = Logger()


@attrs.define
class RunCounts:
    """What one handler has done so far."""

    runs: int = 0
    failures: int = 0
    last_run: float | None = None
    duration: float | None = None


class Poller:
    """Runs one polled handler.

    Args:
        polled: the declaration.
        trigger: when it runs.
        runner: what runs it.
        tree: where its readings go.
        clocks: the reactor's clock and the wall clock.
        resource: the hardware bus that it shares with others.
    """

    def __init__(
        self,
        polled: Polled,
        trigger: Trigger,
        runner: Runner,
        tree: DataTree,
        clocks: Clocks,
        resource: Resource | None = None,
    ) -> None:
        self.run_counts = RunCounts()
        self._polled = polled
        self._trigger = trigger
        self._runner = runner
        self._tree = tree
        self._clock = clocks.reactor
        self._wall = clocks.wall
        self._resource = resource
        self._source = Source(polled.function.name, polled.max_age)
        self._prepared = polled.prepare is None
        self._failure_streak = FailureStreak(
            (polled.prepare or polled.function).name, clocks.reactor.seconds
        )  # of what is to run first
        self._good = False
        self._stopping = False
        self._run: Run | None = None
        self._retry: IDelayedCall | None = None
        if polled.handler is not None:
            polled.handler.bind(DataView(tree, (), self._source), lambda: self._stopping)

    def start(self) -> None:
        """Begin: prepare if there is something to prepare, then run when it is time."""
        if self._prepared:
            self._trigger.start(self._run_once)
        else:
            self._prepare()

    def stop(self) -> Deferred[None]:
        """Begin no more runs; fires when the one under way has ended, at once if there is none or it is stuck."""
        self._stopping = True
        self._trigger.stop()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        run = self._run
        if run is not None and run.waiting:
            run.cancel()
        return succeed(None) if run is None or run.stuck or self._run is None else run.when_ended()

    def reasons(self) -> list[str]:
        """Return why it is not ready: what it has to prepare has not been prepared."""
        if self._prepared:
            return []
        return [f"{self._polled.function.name} is not prepared: {self._failure_streak.text or 'not yet'}"]

    def status(self) -> HandlerStatus:
        """Return how it is."""
        polled, run_counts, trigger = self._polled, self.run_counts, self._trigger.status()
        next_run = trigger.next_run
        if self._retry is not None:
            next_run = wall_time(self._retry.getTime(), self._clock, self._wall)
        return HandlerStatus(
            name=polled.function.name,
            kind=polled.kind,
            bus=polled.bus,
            state="error" if self._failure_streak.count else "ok" if self._good else "pending",
            error=self._failure_streak.text,
            last_run=run_counts.last_run,
            duration=None if run_counts.duration is None else round(run_counts.duration, 6),
            interval=trigger.interval,
            schedule=trigger.schedule,
            timezone=trigger.timezone,
            next_run=next_run,
            prepared=self._prepared,
            runs=run_counts.runs,
            failures=run_counts.failures,
            missed=self._trigger.missed,
            stuck=self._run is not None and self._run.stuck,
        )

    def _prepare(self) -> None:
        self._retry = None
        assert self._polled.prepare is not None
        run = self._runner.start(self._polled.prepare, timeout=self._polled.timeout, resource=self._resource)
        self._follow(run, self._is_prepared, self._prepare_ended)

    def _is_prepared(self, _: object) -> None:
        self._prepared = True
        self._failure_streak.clear()
        self._failure_streak = FailureStreak(self._polled.function.name, self._clock.seconds)

    def _prepare_ended(self) -> None:
        if self._prepared:
            self._trigger.start(self._run_once)
        else:
            self._retry = self._clock.callLater(retry.delay(self._failure_streak.count), self._prepare)

    def _run_once(self) -> Deferred[None]:
        run = self._runner.start(
            self._polled.function, timeout=self._polled.timeout, resource=self._resource, finish=self._check
        )
        self.run_counts.runs += 1
        self.run_counts.last_run = self._wall()
        return self._follow(run, self._take, lambda: self._trigger.ended(self._failure_streak.count))

    def _follow(self, run: Run, good: Callable[[Any], None], then: Callable[[], None]) -> Deferred[None]:
        """See to ``run``'s result, and when it has ended to what comes ``then``. The Deferred never fails."""
        self._run = run
        run.result.addBoth(self._note_duration, run)
        run.result.addCallback(good)
        run.result.addErrback(self._fail)
        run.result.addErrback(lambda failure: log.failure("while polling {name}", failure, name=run.function.name))

        def ended(_: None) -> None:
            self._run = None
            if not self._stopping:
                then()

        done: Deferred[None] = Deferred()
        run.ended.addCallback(ended)
        run.ended.addErrback(lambda failure: log.failure("while polling {name}", failure, name=run.function.name))
        run.ended.addCallback(done.callback)
        return done

    def _note_duration(self, outcome: Any, run: Run) -> Any:
        if run.function is self._polled.function:
            self.run_counts.duration = run.duration
        return outcome

    def _check(self, reading: object) -> "Subtree | None":
        """Return a sensor's reading as it goes into the tree. This runs where the sensor ran, for it may take long."""
        polled = self._polled
        if polled.path is None:
            return None
        if reading is None:
            raise SensorError("the reading is None: the function has returned nothing")
        return self._tree.build_subtree(polled.path, reading, units=polled.units, source=self._source)

    def _take(self, subtree: "Subtree | None") -> None:
        if self._polled.path is not None and subtree is not None:
            self._tree.insert(self._polled.path, subtree)
        if self._failure_streak.count:
            self._tree.recover(self._source)
        self._good = True
        self._failure_streak.clear()

    def _fail(self, failure: Failure) -> None:
        if failure.check(Cancelled):
            return
        self.run_counts.failures += 1
        self._tree.fail(self._source, self._failure_streak.note(failure))
