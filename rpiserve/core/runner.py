"""The one way to run a user's function.

Whatever an app module declares is run by `Runner.start`: a ``def`` in a worker thread, an ``async def`` on the
reactor, each in a copy of the current context, within a time limit, and one at a time where it shares a `Resource`.

The caller gets an answer at once when the time limit has passed, but nobody can end a Python thread from outside. So a
`Run` has two ends: its *result*, which always comes in time, and its *end*, when the user's code has really returned.
Between the two the run is *stuck*, and holds its resource.

All of this lives on the reactor's thread; only the user's function itself is called elsewhere.
"""

import inspect
from collections import defaultdict, deque
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from rpiserve.core import context
from rpiserve.core.context import DaemonScope, RunScope
from rpiserve.core.failures import kind_of
from rpiserve.core.log_limit import LogLimit
from rpiserve.core.threads import Job, ThreadPool
from rpiserve.data import encoding
from rpiserve.declare.handler import UserFunction, Where
from rpiserve.errors import Cancelled, DataError, DeclarationError, HandlerTimeout, ResourceHeld

log = Logger()


class Resource:
    """Something that only one run may use at a time: a hardware bus, say.

    Args:
        name: what it is called in errors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder: Run | None = None
        self._waiting: deque[Run] = deque()
        self._passing_on = False

    def acquire(self, run: "Run") -> None:
        """Let ``run`` begin now, or in its turn; let it fail if the resource is held by a run that is stuck."""
        if self._holder is not None and self._holder.stuck:
            run.finish(self._held())
        else:
            self._waiting.append(run)
            self._pass_on()

    def release(self, run: "Run") -> None:
        """Let the next run begin, if ``run`` is the holder."""
        if run is self._holder:
            self._holder = None
            self._pass_on()

    def _pass_on(self) -> None:
        # A loop, since a run may end as it begins, and hundreds may wait.
        if self._passing_on:
            return
        self._passing_on = True
        try:
            while self._holder is None and self._waiting:
                self._holder = run = self._waiting.popleft()
                run.begin()
        finally:
            self._passing_on = False

    def leave(self, run: "Run") -> None:
        """Take ``run``, which waits, out of the queue."""
        self._waiting.remove(run)

    def fail_waiting(self) -> None:
        """Let all fail that wait for the holder, because it is stuck."""
        while self._waiting:
            self._waiting.popleft().finish(self._held())

    def _held(self) -> Failure:
        assert self._holder is not None
        return Failure(ResourceHeld(f"{self.name} is held by {self._holder.function.name!r}, which hangs"))


class Run:
    """One call of a user's function. Made by `Runner.start`.

    Attributes:
        function: what is called.
        result: fires with what it returned, or fails with what it raised or with `HandlerTimeout`, `ResourceHeld` or
            `Cancelled`.
        ended: fires with None when the user's code has returned, which may be later. Never fails.
        started: when the call began, in seconds by the reactor's clock; None if it has not.
        duration: how long it took from then until the function ended or was given up, in seconds. What a thread does
            is timed there: how late the reactor takes note of it is not in it.
    """

    def __init__(
        self,
        runner: "Runner",
        function: UserFunction,
        arguments: tuple[Any, ...],
        timeout: float | None,
        resource: Resource | None,
        finish: Callable[[Any], Any] | None,
        scope: RunScope,
    ) -> None:
        self.function = function
        self.result: Deferred[Any] = Deferred(lambda _: self.cancel())
        self.ended: Deferred[None] = Deferred()
        self.started: float | None = None
        self.duration: float | None = None
        self._runner = runner
        self._context = copy_context()
        self._context.run(context.scope.set, scope)
        self._arguments = arguments
        self._timeout = timeout
        self._resource = resource
        self._finish = finish
        self._timer: IDelayedCall | None = None
        self._job: Job | None = None
        self._deferred: Deferred[Any] | None = None
        self._has_result = False
        self._has_ended = False

    @property
    def stuck(self) -> bool:
        """Whether the caller has been answered while the user's code still runs."""
        return self._has_result and not self._has_ended

    @property
    def waiting(self) -> bool:
        """Whether it can still be kept from beginning: it waits for its turn, or for a thread."""
        return not self._has_ended and (self.started is None or (self._job is not None and self._job.state == "queued"))

    def limit(self) -> None:
        """Begin to count the time, if it is limited and not counted yet."""
        if self._timeout is not None and self._timer is None:
            self._timer = self._runner.clock.callLater(self._timeout, self._time_out)

    def begin(self) -> None:
        """Call the function. Its `Resource` does this when it is its turn."""
        runner, call, arguments, finish = self._runner, self.function.call, self._arguments, self._finish
        self.started = runner.clock.seconds()
        self.limit()
        run = self._context.run
        if self.function.where is Where.REACTOR:
            self._deferred = run(maybeDeferred, _called, self.function.name, call, arguments)
            if finish is not None:
                self._deferred.addCallback(finish)
            self._deferred.addBoth(self._end)
            return

        def work() -> None:
            try:
                outcome = run(call, *arguments)
                self._refuse_awaitable(outcome)
                if finish is not None:
                    outcome = finish(outcome)
            except BaseException:  # noqa: BLE001 - whatever it is, sys.exit() included, it ends this run and not the thread
                outcome = Failure()
            runner.to_reactor(self._end, outcome, runner.clock.seconds())

        try:
            self._job = runner.pool.submit(work)
        except RuntimeError:
            self._end(Failure())

    def when_ended(self) -> Deferred[None]:
        """Return a Deferred of its own that fires when `ended` does."""
        waiting: Deferred[None] = Deferred()
        self.ended.addCallback(waiting.callback)
        return waiting

    def cancel(self) -> None:
        """Give the run up: if it has not begun it never will, else it is stuck until it ends."""
        if not self._has_result:
            self._give_up(Failure(Cancelled(f"{self.function.name} was given up")))

    def finish(self, failure: Failure) -> None:
        """Let the run fail before it has begun."""
        self._end(failure)

    def _time_out(self) -> None:
        self._timer = None
        self._give_up(Failure(HandlerTimeout(f"no end within {self._timeout:.3g} s")))

    def _give_up(self, failure: Failure) -> None:
        if self.started is None:
            assert self._resource is not None  # what waits for nothing has begun
            self._resource.leave(self)
            self._end(failure)
        elif self._job is not None and self._runner.pool.give_up(self._job):
            self._end(failure)
        else:
            self._answer(failure)
            try:
                if self._deferred is not None:
                    self._deferred.cancel()
            finally:
                if self._resource is not None and self.stuck:
                    self._resource.fail_waiting()

    def _answer(self, outcome: Any, at: float | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.started is not None:
            self.duration = (self._runner.clock.seconds() if at is None else at) - self.started
        self._has_result = True
        self.result.callback(outcome)

    def _end(self, outcome: Any, at: float | None = None) -> None:
        """Take note that it has ended, ``at`` that time if it was not just now."""
        late = self._has_result
        self._has_ended = True
        if late:
            self._log_late(outcome)
        else:
            self._answer(outcome, at)
        self._runner.active.discard(self)
        if self._resource is not None:
            self._resource.release(self)
        self.ended.callback(None)

    def _refuse_awaitable(self, outcome: object) -> None:
        if inspect.iscoroutine(outcome):
            outcome.close()
        if inspect.isawaitable(outcome):  # as a Deferred is, too
            raise DeclarationError(
                f"{self.function.name} ran in a thread and returned a {type(outcome).__name__}: "
                "make it an async def, or declare it with reactor=True"
            )

    def _log_late(self, outcome: Any) -> None:
        name, now = self.function.name, self._runner.clock.seconds()
        if not isinstance(outcome, Failure):
            kind = self._runner.late[name].take(now)
            if kind.is_due:
                log.warn("{name} has ended at last; its result came too late{more}", name=name, more=kind.more)
        elif not outcome.check(CancelledError):
            kind = kind_of(outcome, self._runner.late[name], now)
            if kind.is_due:
                text = "{name} has ended at last, too late, and with an error{more}"
                log.failure(text, outcome, LogLevel.error, name=name, more=kind.more)


class Runner:
    """Runs users' functions.

    Args:
        clock: the reactor's clock, in seconds.
        to_reactor: calls a function with arguments on the reactor's thread; may itself be called on any thread.
        pool: the threads for plain functions.
        daemon_scope: what the functions find behind the proxies.

    Attributes:
        active: the runs that have not ended.
        late: which ends that came too late are logged, by the names of the functions.
    """

    def __init__(
        self,
        clock: IReactorTime,
        to_reactor: Callable[..., object],
        pool: ThreadPool,
        daemon_scope: DaemonScope | None = None,
    ) -> None:
        self.clock = clock
        self.to_reactor = to_reactor
        self.pool = pool
        self.daemon_scope = daemon_scope
        self.active: set[Run] = set()
        self.late: defaultdict[str, LogLimit] = defaultdict(LogLimit)

    def stop(self) -> Deferred[Any]:
        """Give up the runs that wait. The Deferred fires when all others have ended that are not stuck."""
        runs = list(self.active)
        for run in runs:
            if run.waiting:
                run.cancel()
        return DeferredList([run.when_ended() for run in runs if not run.stuck])

    def cancel_asynchronous(self) -> None:
        """Cancel what runs on the reactor, so that it can clean up after itself."""
        for run in list(self.active):
            if run.function.where is Where.REACTOR:
                run.cancel()

    def running(self) -> list[str]:
        """Return the names of the functions that run. Safe to use from any thread."""
        return [run.function.name for run in list(self.active)]

    def start(
        self,
        function: UserFunction,
        *arguments: Any,
        timeout: float | None = None,
        resource: Resource | None = None,
        from_arrival: bool = False,
        finish: Callable[[Any], Any] | None = None,
        scope: RunScope | None = None,
    ) -> Run:
        """Call ``function`` with ``arguments`` in its place, as soon as that may be.

        Args:
            function: the user's function.
            arguments: what it is called with.
            timeout: seconds after which the caller is answered in any case; None for no limit.
            resource: what only one run may use at a time.
            from_arrival: count the time that it waits for ``resource``, too. If that uses up all, it never begins.
            finish: makes the result of what the function returned, where the function ran. It may raise.
            scope: what the function finds behind the proxies, if that is not just the daemon's scope.

        Returns:
            The run, under way or, with a resource, perhaps waiting.
        """
        if scope is None:
            scope = RunScope(function.name, self.daemon_scope)
        run = Run(self, function, arguments, timeout, resource, finish, scope)
        self.active.add(run)
        if from_arrival:
            run.limit()
        if resource is None:
            run.begin()
        else:
            resource.acquire(run)
        return run


def _called(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    outcome = call(*arguments)
    return _awaited(name, outcome) if inspect.iscoroutine(outcome) else outcome


async def _awaited(name: str, outcome: Any) -> Any:
    """Return what ``outcome`` brings, and what that brings, for as long as there is something to be awaited."""
    while inspect.isawaitable(outcome):  # return response.success(…) in an async def is a Deferred within a coroutine
        outcome = await outcome
    return outcome


def name_beneath(frame: FrameType) -> str | None:
    """Return the name of the user's function that ``frame`` has called on the reactor; None if it has called none."""
    if frame.f_code not in (_called.__code__, _awaited.__code__):
        return None
    name: str = frame.f_locals["name"]
    return name


class Unserializable(Exception):
    """What a function has returned cannot be served as JSON; the text says why."""


def encode_result(result: object, where: str) -> bytes:
    """Return ``result``, which ``where`` says what it is of, as JSON: a ``finish`` for `Runner.start`.

    Raises:
        Unserializable: it cannot be served.
    """
    try:
        return encoding.encode(encoding.to_wire(result, where))
    except DataError as error:
        raise Unserializable(str(error)) from error
