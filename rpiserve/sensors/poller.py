"""One polled handler in motion: when it runs, and what becomes of its readings.

The rules, for a handler with the interval *i*:

- At a fixed rate it runs at the slots *start + k·i*. A slot that comes while a run is under way is *missed*: it is
  counted, and never made up for. With a fixed delay the next run begins *i* seconds after the end of the last.
- It never overlaps itself. A run that outlasts its time limit has failed, and no other begins until its thread returns.
- After *n* failures in a row it rests for `backoff.delay` seconds: slots are skipped, never added.
- A handler with something to prepare does that first, and tries again with the same growing pauses.
"""

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpiserve import backoff, codec
from rpiserve.data import DataTree
from rpiserve.errors import Cancelled, SensorError
from rpiserve.invoke import Invoker, Resource, Run, Trouble
from rpiserve.nodes import Source
from rpiserve.registry import Polled
from rpiserve.views import DataView

log = Logger()


@attrs.define
class Tally:
    """What one handler has done so far."""

    runs: int = 0
    failures: int = 0
    missed: int = 0
    last_run: float | None = None
    duration: float | None = None


class Poller:
    """Runs one polled handler.

    Args:
        polled: the declaration.
        invoker: what runs it.
        tree: where its readings go.
        clock: the reactor's clock, in seconds.
        wall: the wall clock, in seconds since the epoch.
        resource: the hardware bus that it shares with others.
    """

    def __init__(
        self,
        polled: Polled,
        invoker: Invoker,
        tree: DataTree,
        clock: IReactorTime,
        wall: Callable[[], float],
        resource: Resource | None = None,
    ) -> None:
        self.tally = Tally()
        self._polled = polled
        self._invoker = invoker
        self._tree = tree
        self._clock = clock
        self._wall = wall
        self._resource = resource
        self._source = Source(polled.function.name, polled.max_age)
        self._trouble = Trouble(polled.function.name)
        self._prepared = polled.prepare is None
        self._good = False
        self._stopping = False
        self._run: Run | None = None
        self._loop: LoopingCall | None = None
        self._timer: IDelayedCall | None = None
        self._resume = float("-inf")
        self._overran = False
        if polled.handler is not None:
            polled.handler.bind(DataView(tree, (), self._source), lambda: self._stopping)

    def start(self) -> None:
        """Begin: prepare if there is something to prepare, then run at once and from then on."""
        if self._prepared:
            self._begin_polling()
        else:
            self._prepare()

    def stop(self) -> Deferred[None]:
        """Begin no more runs; fires when the one under way has ended, at once if there is none or it is stuck."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        run = self._run
        if run is not None and run.started is None:
            run.cancel()
        if run is None or run.stuck or self._run is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        run.ended.addCallback(ended.callback)
        return ended

    def reasons(self) -> list[str]:
        """Return why it is not ready: what it has to prepare has not been prepared."""
        if self._prepared:
            return []
        return [f"{self._polled.function.name} is not prepared: {self._trouble.text or 'not yet'}"]

    def report(self) -> dict[str, Any]:
        """Return what ``/sensors`` shows of it."""
        polled, tally = self._polled, self.tally
        next_run = self._next_run()
        return {
            "name": polled.function.name,
            "kind": polled.kind,
            "interval": polled.interval,
            "bus": polled.bus,
            "state": "error" if self._trouble.count else "ok" if self._good else "pending",
            "error": self._trouble.text,
            "last_run": None if tally.last_run is None else codec.timestamp(tally.last_run),
            "duration": None if tally.duration is None else round(tally.duration, 6),
            "next_run": None if next_run is None else codec.timestamp(self._wall() + next_run - self._clock.seconds()),
            "runs": tally.runs,
            "failures": tally.failures,
            "missed": tally.missed,
            "stuck": self._run is not None and self._run.stuck,
        }

    def _prepare(self) -> None:
        self._timer = None
        assert self._polled.prepare is not None
        run = self._invoker.start(self._polled.prepare, timeout=self._polled.timeout, resource=self._resource)
        self._follow(run, self._is_prepared, self._prepare_again)

    def _is_prepared(self, _: object) -> None:
        self._prepared = True
        self._trouble.clear()

    def _prepare_again(self) -> None:
        if self._prepared:
            self._begin_polling()
        else:
            self._timer = self._clock.callLater(backoff.delay(self._trouble.count), self._prepare)

    def _begin_polling(self) -> None:
        if self._polled.fixed_delay:
            self._run_once()
            return
        self._loop = LoopingCall.withCount(self._slot)
        self._loop.clock = self._clock
        self._loop.start(self._polled.interval).addErrback(
            lambda failure: log.failure("{name} is polled no more", failure, name=self._polled.function.name)
        )

    def _slot(self, slots: int) -> Deferred[None] | None:
        """Do what is due at a slot. ``slots`` is how many have come since the last one that was seen to."""
        self._count_missed(slots - 1)
        return None if self._clock.seconds() < self._resume else self._run_once()

    def _count_missed(self, missed: int) -> None:
        self.tally.missed += missed
        if missed and not self._overran:
            log.warn(
                "{name} takes longer than its interval of {interval:g} s: runs are missed",
                name=self._polled.function.name,
                interval=self._polled.interval,
            )
        self._overran = bool(missed)

    def _run_once(self) -> Deferred[None]:
        self._timer = None
        run = self._invoker.start(self._polled.function, timeout=self._polled.timeout, resource=self._resource)
        self.tally.runs += 1
        self.tally.last_run = self._wall()
        return self._follow(run, self._take, self._rest)

    def _follow(self, run: Run, good: Callable[[Any], None], then: Callable[[], None]) -> Deferred[None]:
        """See to ``run``'s result, and when it has ended to what comes ``then``. The Deferred never fails."""
        self._run = run
        run.result.addCallback(good)
        run.result.addErrback(self._fail)
        run.result.addErrback(lambda failure: log.failure("while polling {name}", failure, name=run.function.name))

        def ended(_: None) -> None:
            self._run = None
            if run.function is self._polled.function:
                self.tally.duration = run.duration
            if not self._stopping:
                then()

        done: Deferred[None] = Deferred()
        run.ended.addCallback(ended)
        run.ended.addErrback(lambda failure: log.failure("while polling {name}", failure, name=run.function.name))
        run.ended.addCallback(done.callback)
        return done

    def _take(self, reading: object) -> None:
        polled = self._polled
        if polled.path is not None:
            if reading is None:
                raise SensorError("the reading is None: the function has returned nothing")
            self._tree.assign(polled.path, reading, units=polled.units, source=self._source)
        self._good = True
        self._resume = float("-inf")
        self._trouble.clear()

    def _fail(self, failure: Failure) -> None:
        if failure.check(Cancelled):
            return
        self.tally.failures += 1
        self._tree.fail(self._source, self._trouble.note(failure))

    def _rest(self) -> None:
        """Decide when to run again, after a run that has ended just now."""
        interval, failures = self._polled.interval, self._trouble.count
        pause = backoff.delay(failures, interval) if failures else interval
        if self._polled.fixed_delay:
            self._timer = self._clock.callLater(pause, self._run_once)
        elif failures:
            # Half an interval of grace: a slot comes a little late by the clock, this rest a little later.
            self._resume = self._clock.seconds() + pause - interval / 2

    def _next_run(self) -> float | None:
        """Return when it will run next, in seconds by the reactor's clock, as far as that can be said."""
        if self._timer is not None:
            return self._timer.getTime()
        if self._loop is None or self._loop.call is None:
            return None
        slot = self._loop.call.getTime()
        skipped = max(0, -int(-(self._resume - slot) // self._polled.interval)) if self._resume > slot else 0
        return slot + skipped * self._polled.interval
