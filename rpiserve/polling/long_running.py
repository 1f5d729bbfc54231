"""A user's function that runs for long in a thread of its own."""

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from rpiserve.core import retry
from rpiserve.core.failures import FailureStreak
from rpiserve.core.handler_status import HandlerStatus
from rpiserve.core.runner import Run, Runner
from rpiserve.declare.handler import UserFunction
from rpiserve.polling.triggers import wall_time

STEADY = 60.0
"""Seconds after which a thread that was started again is taken to work: the pauses between its starts begin anew."""


class LongRunner:
    """Keeps one such function running: if it raises it is started again, after a pause that grows.

    Args:
        function: the function; it is given ``running``.
        runner: what runs it.
        clock: the reactor's clock, in seconds.
        wall: the wall clock, in seconds since the epoch.
    """

    def __init__(self, function: UserFunction, runner: Runner, clock: IReactorTime, wall: Callable[[], float]) -> None:
        self._function = function
        self._runner = runner
        self._clock = clock
        self._wall = wall
        self._stopping = False
        self._finished = False
        self._run: Run | None = None
        self._timer: IDelayedCall | None = None
        self._steady: IDelayedCall | None = None
        self._failure_streak = FailureStreak(function.name, clock.seconds)
        self._runs = 0
        self._failures = 0
        self._last_run: float | None = None

    def start(self) -> None:
        """Start the thread."""
        self._timer = None
        self._runs += 1
        self._last_run = self._wall()
        if self._failure_streak.count:
            self._steady = self._clock.callLater(STEADY, self._works)
        self._run = run = self._runner.start(self._function, self._running)
        run.result.addCallbacks(self._returned, self._raised)
        run.ended.addCallback(self._again)

    def stop(self) -> Deferred[None]:
        """Turn ``running()`` false; fires when the function has returned."""
        self._stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stop_watching()
        if self._run is None:
            return succeed(None)
        return self._run.when_ended()

    def status(self) -> HandlerStatus:
        """Return how it is: ``error`` while it waits to be started again."""
        restart = None if self._timer is None else self._timer.getTime()
        return HandlerStatus(
            name=self._function.name,
            kind="thread",
            state="error" if restart is not None else "finished" if self._finished else "running",
            error=self._failure_streak.text,
            last_run=self._last_run,
            next_run=wall_time(restart, self._clock, self._wall),
            runs=self._runs,
            failures=self._failures,
        )

    def _running(self) -> bool:
        return not self._stopping

    def _works(self) -> None:
        self._steady = None
        self._failure_streak.clear()

    def _stop_watching(self) -> None:
        if self._steady is not None:
            self._steady.cancel()
            self._steady = None

    def _returned(self, _: object) -> None:
        self._finished = True
        self._failure_streak.clear()

    def _raised(self, failure: Failure) -> None:
        self._failures += 1
        self._failure_streak.note(failure)

    def _again(self, _: None) -> None:
        self._run = None
        self._stop_watching()
        if not self._finished and not self._stopping:
            self._timer = self._clock.callLater(retry.delay(self._failure_streak.count), self.start)
