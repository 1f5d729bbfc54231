"""The one way to run a user's function: where it runs, when its caller is answered, and who waits for whom.

Threads are a `Bench`'s: a job ends when the test says so, and the clock stands still meanwhile. The tests with real
threads hand what arrives "on the reactor" over by a queue.
"""

import functools
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import pytest_twisted
from fake_pool import Bench
from twisted.internet.defer import CancelledError, Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure

from rpiserve.core import context
from rpiserve.core.context import DaemonScope, RunScope
from rpiserve.core.runner import Resource, Run, Runner
from rpiserve.core.threads import ThreadPool
from rpiserve.declare.handler import UserFunction
from rpiserve.errors import Cancelled, DeclarationError, HandlerTimeout, ResourceHeld, SensorError

PATIENCE = 10.0

colour: ContextVar[str] = ContextVar("colour", default="none")


class RealThreads:
    """An `Runner` on real threads. What they have for the reactor waits until the test takes it."""

    def __init__(self, limit: int = 2) -> None:
        self.clock = Clock()
        self.pool = ThreadPool("worker", limit, idle_seconds=0)
        self._arrived: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.runner = Runner(self.clock, self._to_reactor, self.pool)

    def _to_reactor(self, function: Callable[..., object], *arguments: Any) -> None:
        self._arrived.put(functools.partial(function, *arguments))

    def deliver(self) -> None:
        """Do the next thing that arrives on the reactor."""
        self._arrived.get(timeout=PATIENCE)()


class Follower:
    """Notes what becomes of a run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.results: list[Any] = []
        self.ends = 0
        self.stuck_at_end: bool | None = None
        run.result.addBoth(self.results.append)
        run.ended.addCallback(self._ended)

    def _ended(self, _: None) -> None:
        self.ends += 1
        self.stuck_at_end = self.run.stuck

    @property
    def result(self) -> Any:
        """What the run returned. There is one result, and it is no failure."""
        [result] = self.results
        assert not isinstance(result, Failure), result.getTraceback()
        return result

    @property
    def error(self) -> BaseException:
        """What the run failed with. There is one result."""
        [result] = self.results
        assert isinstance(result, Failure)
        assert result.value is not None
        return result.value

    @property
    def state(self) -> str:
        """How far it is."""
        assert self.run.stuck is (bool(self.results) and not self.ends)
        return {(0, 0): "under way", (1, 0): "stuck", (1, 1): "ended"}[len(self.results), self.ends]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An runner with fake threads; at its end nothing may be left."""
    bench = Bench()
    yield bench
    assert bench.idle


def start(bench: Bench | RealThreads, call: Callable[..., Any], *arguments: Any, **options: Any) -> Follower:
    """Run a function of the name ``it``, or of ``name``."""
    name, reactor = options.pop("name", "it"), options.pop("reactor", False)
    function = UserFunction.declare(name, call, reactor=reactor, arguments=("argument",) * len(arguments))
    return Follower(bench.runner.start(function, *arguments, **options))


def texts(events: list[LogEvent]) -> list[str]:
    """Return log events as text."""
    return [str(formatEvent(event)) for event in events]


def raising(error: BaseException) -> Callable[[], None]:
    """Return a function that raises ``error``."""

    def function() -> None:
        raise error

    return function


async def wait_for(deferred: "Deferred[Any]") -> Any:
    """Wait, as an ``async def`` of the user's."""
    return await deferred


# --- results ------------------------------------------------------------------------------------


def test_thread_function(bench: Bench) -> None:
    """A plain function is called in the pool; its result, whatever it is, is handed over when it ends."""
    reading = object()
    run = start(bench, lambda: reading)
    assert run.state == "under way"
    assert run.run in bench.runner.active
    bench.clock.advance(2.5)
    bench.pool.end()
    assert run.state == "ended"
    assert run.result is reading
    assert (run.run.started, run.run.duration) == (0, 2.5)


def test_duration_is_measured_in_the_thread(bench: Bench) -> None:
    """How long the reactor takes to hear of the end of a thread's work is no part of the duration."""
    arrived: list[tuple[Any, ...]] = []
    bench.runner.to_reactor = lambda *call: arrived.append(call)
    run = start(bench, lambda: 1)
    bench.clock.advance(0.5)
    bench.pool.end()
    bench.clock.advance(2.5)
    [(end, *arguments)] = arrived
    end(*arguments)
    assert (run.state, run.run.duration) == ("ended", 0.5)


def test_arguments(bench: Bench) -> None:
    """A function is given its arguments, in a thread and on the reactor."""
    in_thread = start(bench, lambda one, two: [one, two], 1, "2")
    bench.pool.end()
    on_reactor = start(bench, lambda one: [one], 1, reactor=True)
    assert (in_thread.result, on_reactor.result) == ([1, "2"], [1])


def test_async_function(bench: Bench) -> None:
    """An ``async def`` runs on the reactor at once and ends when what it waits for has come."""
    awaited: Deferred[str] = Deferred()
    run = start(bench, functools.partial(wait_for, awaited), timeout=5)
    assert not bench.pool.jobs
    assert run.state == "under way"
    bench.clock.advance(3)
    awaited.callback("come")
    assert (run.state, run.result, run.run.duration) == ("ended", "come", 3)


def test_async_function_that_does_not_wait(bench: Bench) -> None:
    """An ``async def`` that waits for nothing has ended as soon as it is started."""

    async def function() -> int:
        return 5

    run = start(bench, function, timeout=5)
    assert (run.state, run.result, run.run.duration) == ("ended", 5, 0)


def test_reactor_functions(bench: Bench) -> None:
    """With ``reactor=True`` a plain function may return a value, a Deferred, a coroutine, or be an inlineCallbacks."""
    awaited: Deferred[int] = Deferred()

    @inlineCallbacks
    def inline() -> Any:
        value = yield awaited
        return value + 1

    waiting: Deferred[int] = Deferred()
    runs = [
        start(bench, lambda: 1, reactor=True),
        start(bench, lambda: waiting, reactor=True),
        start(bench, lambda: wait_for(Deferred.fromCoroutine(wait_for(awaited))), reactor=True),
        start(bench, inline, reactor=True),
    ]
    assert [run.state for run in runs] == ["ended", "under way", "under way", "under way"]
    waiting.callback(2)
    awaited.callback(3)
    assert [run.result for run in runs[:2]] == [1, 2]
    assert runs[2].state == "ended"
    assert runs[3].state == "ended"


@pytest.mark.parametrize(
    "error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), SensorError("x")]
)
def test_exceptions(bench: Bench, error: BaseException) -> None:
    """Whatever is raised is the run's failure, and harms neither thread nor reactor, ``sys.exit()`` included."""

    async def function() -> None:
        raise error

    runs = [start(bench, raising(error)), start(bench, raising(error), reactor=True)]
    if not isinstance(error, GeneratorExit):  # which means something else to a coroutine
        runs.append(start(bench, function))
    bench.pool.end()
    assert [run.error for run in runs] == [error] * len(runs)
    assert {run.state for run in runs} == {"ended"}


def test_exit_does_not_end_a_real_thread() -> None:
    """After ``sys.exit()`` in a function its thread goes on with the next."""
    bench = RealThreads(limit=1)
    runs = [start(bench, sys.exit), start(bench, lambda: "next")]
    bench.deliver()
    bench.deliver()
    assert isinstance(runs[0].error, SystemExit)
    assert runs[1].result == "next"


@pytest.mark.parametrize(
    ("call", "kind"),
    [(lambda: wait_for(Deferred()), "coroutine"), (Deferred, "Deferred")],
    ids=["coroutine", "Deferred"],
)
def test_plain_function_that_should_be_on_the_reactor(bench: Bench, call: Callable[[], Any], kind: str) -> None:
    """A plain function that returns a coroutine or a Deferred is told of ``reactor=True``, and nothing else is said."""
    run = start(bench, call)
    bench.pool.end()
    assert isinstance(run.error, DeclarationError)
    assert str(run.error) == (
        f"it ran in a thread and returned a {kind}: make it an async def, or declare it with reactor=True"
    )


def test_plain_function_that_should_be_on_the_reactor_and_is_late(
    bench: Bench, logged_failures: list[LogEvent]
) -> None:
    """Late or not, the coroutine is closed, so that Python does not warn of it, and the mistake is named."""
    run = start(bench, lambda: wait_for(Deferred()), timeout=5)
    bench.clock.advance(5)
    bench.pool.end()
    assert run.state == "ended"
    [event] = logged_failures
    assert "reactor=True" in str(event["log_failure"].value)
    logged_failures.clear()


def test_no_thread_to_be_had(bench: Bench) -> None:
    """When the system gives no thread, the run fails with that, and the next may try again."""
    bench.pool.error = RuntimeError("can't start new thread")
    run = start(bench, lambda: 1, timeout=5, resource=(bus := Resource("the bus")))
    assert (run.state, str(run.error)) == ("ended", "can't start new thread")
    bench.pool.error = None
    run = start(bench, lambda: 1, timeout=5, resource=bus)
    bench.pool.end()
    assert run.result == 1


# --- context ------------------------------------------------------------------------------------


def test_context_is_carried_into_a_thread() -> None:
    """A function in a thread sees the context of who started it; what it changes there stays there."""
    bench = RealThreads()
    token = colour.set("red")
    try:

        def function() -> list[object]:
            seen = colour.get()
            colour.set("blue")
            return [seen, colour.get(), threading.current_thread() is threading.main_thread()]

        run = start(bench, function)
        colour.set("green")
        bench.deliver()
        assert run.result == ["red", "blue", False]
        assert colour.get() == "green"
    finally:
        colour.reset(token)


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "async"])
def test_context_on_the_reactor(bench: Bench, plain: bool) -> None:
    """A function on the reactor has its own copy of the context, over all its waiting."""
    token = colour.set("red")
    awaited: Deferred[None] = Deferred()
    try:

        async def function() -> list[str]:
            seen = [colour.get()]
            colour.set("blue")
            await awaited
            return [*seen, colour.get()]

        run = start(bench, (lambda: Deferred.fromCoroutine(function())) if plain else function, reactor=plain)
        assert colour.get() == "red"
        colour.set("green")
        awaited.callback(None)
        assert run.result == ["red", "blue"]
        assert colour.get() == "green"
    finally:
        colour.reset(token)


def test_context_of_a_run_that_waits_for_its_turn(bench: Bench) -> None:
    """A run that waits has the context of who started it, not of who let it begin."""
    bus = Resource("the bus")
    first = start(bench, lambda: None, resource=bus)
    token = colour.set("red")
    second = start(bench, colour.get, resource=bus)
    third = start(bench, colour.get, resource=bus, reactor=True)
    colour.reset(token)
    bench.pool.end()
    bench.pool.end()
    assert first.state == "ended"
    assert (second.result, third.result) == ("red", "red")


# --- time limits --------------------------------------------------------------------------------


def test_time_limit_of_a_thread(bench: Bench) -> None:
    """When the time is up the caller is answered, once; the run is stuck until its thread returns, which is logged."""
    run = start(bench, lambda: "too late", timeout=5)
    bench.clock.advance(4.75)
    assert run.state == "under way"
    bench.clock.advance(0.25)
    assert run.state == "stuck"
    assert (type(run.error), str(run.error)) == (HandlerTimeout, "no end within 5 s")
    assert run.run.duration == 5
    assert bench.pool.stuck == 1
    assert run.run in bench.runner.active
    bench.clock.advance(100)
    with capturedLogs() as logs:
        bench.pool.end()
    assert run.state == "ended"
    assert run.run.duration == 5
    assert texts(logs) == ["it has ended at last; its result came too late"]


def test_time_limit_that_is_kept(bench: Bench) -> None:
    """A run that ends in time leaves no timer."""
    run = start(bench, lambda: 1, timeout=5)
    bench.clock.advance(4.75)
    bench.pool.end()
    assert run.result == 1
    assert not bench.clock.getDelayedCalls()


def test_no_time_limit(bench: Bench) -> None:
    """Without a time limit a run may take any time."""
    run = start(bench, lambda: 1)
    bench.clock.advance(1e6)
    assert run.state == "under way"
    bench.pool.end()
    assert run.result == 1


def test_time_limit_while_queued(bench: Bench) -> None:
    """A run that finds no free thread in time never begins, and is not stuck."""
    bench.pool.full = True
    run = start(bench, lambda: 1, timeout=5)
    bench.clock.advance(5)
    assert run.state == "ended"
    assert isinstance(run.error, HandlerTimeout)
    assert not bench.pool.jobs


def test_late_failure(bench: Bench, logged_failures: list[LogEvent]) -> None:
    """A failure that comes too late is not delivered, but logged with its traceback."""
    run = start(bench, raising(ValueError("late")), timeout=5)
    bench.clock.advance(5)
    bench.pool.end()
    assert isinstance(run.error, HandlerTimeout)
    [event] = logged_failures
    assert texts([event]) == ["it has ended at last, too late, and with an error"]
    assert event["log_level"] is LogLevel.error
    assert event["log_failure"].check(ValueError)
    logged_failures.clear()


def test_late_ends_are_logged_ever_more_rarely(bench: Bench, logged_failures: list[LogEvent]) -> None:
    """What comes too late each time, with a result or with an error, is not logged each time."""
    with capturedLogs() as logs:
        for call in (lambda: "too late", raising(ValueError("late"))):
            for _ in range(50):
                start(bench, call, timeout=5)
                bench.clock.advance(10)
                bench.pool.end()
                bench.clock.advance(10)
    late = "it has ended at last; its result came too late"
    error = "it has ended at last, too late, and with an error"
    more = [f" ({times} times since the last such line)" for times in (3, 27)]
    assert texts(logs) == [late, late + more[0], late + more[1], error, error + more[0], error + more[1]]
    logged_failures.clear()


def test_time_limit_of_an_async_function(bench: Bench) -> None:
    """An ``async def`` is cancelled when its time is up. As it then ends it is not stuck, and nothing is logged."""
    cancelled: list[Deferred[None]] = []
    with capturedLogs() as logs:
        run = start(bench, functools.partial(wait_for, Deferred(cancelled.append)), timeout=5)
        bench.clock.advance(5)
    assert run.state == "ended"
    assert run.stuck_at_end is False
    assert isinstance(run.error, HandlerTimeout)
    assert len(cancelled) == 1
    assert logs == []


def test_async_function_that_cleans_up(bench: Bench) -> None:
    """An ``async def`` may take its time to clean up when it is cancelled, and is stuck for as long."""
    cleaned: Deferred[None] = Deferred()

    async def function() -> None:
        try:
            await Deferred()
        finally:
            await cleaned

    run = start(bench, function, timeout=5)
    bench.clock.advance(5)
    assert run.state == "stuck"
    cleaned.callback(None)
    assert run.state == "ended"


def test_async_function_that_swallows_its_cancellation(bench: Bench) -> None:
    """An ``async def`` that goes on in spite of all is stuck until it ends; its result is logged, not delivered."""
    second: Deferred[str] = Deferred()

    async def function() -> str:
        try:
            await Deferred()
        except CancelledError:
            return await second
        raise AssertionError

    run = start(bench, function, timeout=5)
    bench.clock.advance(5)
    assert run.state == "stuck"
    bench.clock.advance(100)
    with capturedLogs() as logs:
        second.callback("late")
    assert run.state == "ended"
    assert isinstance(run.error, HandlerTimeout)
    assert texts(logs) == ["it has ended at last; its result came too late"]


def test_async_function_that_fails_as_it_is_cancelled(bench: Bench, logged_failures: list[LogEvent]) -> None:
    """What an ``async def`` raises in place of its cancellation is logged."""

    async def function() -> None:
        try:
            await Deferred()
        except CancelledError:
            raise ValueError("in place of it") from None

    run = start(bench, function, timeout=5)
    bench.clock.advance(5)
    assert run.state == "ended"
    assert isinstance(run.error, HandlerTimeout)
    [event] = logged_failures
    assert event["log_failure"].check(ValueError)
    logged_failures.clear()


def test_deferred_that_cannot_be_cancelled(bench: Bench) -> None:
    """A canceller that raises is an error of its own; those who wait for the bus are answered nevertheless."""

    def canceller(_: object) -> None:
        raise ZeroDivisionError

    bus = Resource("the bus")
    deferred: Deferred[None] = Deferred(canceller)
    run = start(bench, lambda: deferred, reactor=True, timeout=5, resource=bus)
    waiting = start(bench, lambda: 1, resource=bus)
    with pytest.raises(ZeroDivisionError):
        bench.clock.advance(5)
    assert (run.state, type(run.error)) == ("stuck", HandlerTimeout)
    assert isinstance(waiting.error, ResourceHeld)
    deferred.callback(None)
    assert run.state == "ended"


# --- cancelling ---------------------------------------------------------------------------------


def test_cancelling_what_runs(bench: Bench) -> None:
    """Who cancels a run in a thread is answered at once; the thread goes on, stuck."""
    run = start(bench, lambda: 1, timeout=5)
    run.run.cancel()
    assert (run.state, type(run.error)) == ("stuck", Cancelled)
    assert not bench.clock.getDelayedCalls()
    bench.pool.end()
    assert run.state == "ended"


def test_cancelling_what_is_queued(bench: Bench) -> None:
    """A run that has no thread yet never gets one once it is cancelled."""
    bench.pool.full = True
    run = start(bench, lambda: 1, timeout=5)
    run.run.cancel()
    assert (run.state, type(run.error), str(run.error)) == ("ended", Cancelled, "it was given up")


def test_cancelling_an_async_function(bench: Bench) -> None:
    """To cancel a run on the reactor is to cancel what it waits for."""
    run = start(bench, functools.partial(wait_for, Deferred()), timeout=5)
    run.run.cancel()
    assert (run.state, type(run.error)) == ("ended", Cancelled)


def test_cancelling_twice_or_too_late(bench: Bench) -> None:
    """To cancel a run that has been answered does nothing."""
    run = start(bench, lambda: 1)
    run.run.cancel()
    run.run.cancel()
    bench.pool.end()
    run.run.cancel()
    assert isinstance(run.error, Cancelled)
    done = start(bench, lambda: 1)
    bench.pool.end()
    done.run.cancel()
    assert done.result == 1


def test_cancelling_the_result(bench: Bench) -> None:
    """To cancel the Deferred of the result is to cancel the run."""
    run = start(bench, lambda: 1, timeout=5)
    run.run.result.cancel()
    assert (run.state, type(run.error)) == ("stuck", Cancelled)
    bench.pool.end()


# --- races --------------------------------------------------------------------------------------


def test_thread_ends_just_as_the_time_is_up() -> None:
    """A result that is on its way to the reactor when the time is up has come too late: the caller gets one answer."""
    bench = RealThreads(limit=1)
    run = start(bench, lambda: "on its way", timeout=5)
    thread_is_free = start(bench, lambda: None)  # with one thread this begins when the first job has ended
    arrived = [bench._arrived.get(timeout=PATIENCE) for _ in range(2)]
    bench.clock.advance(5)
    assert (run.state, type(run.error)) == ("stuck", HandlerTimeout)
    assert bench.pool.stuck == 0
    with capturedLogs() as logs:
        for arrival in arrived:
            arrival()
    assert run.state == "ended"
    assert isinstance(run.error, HandlerTimeout)
    assert texts(logs) == ["it has ended at last; its result came too late"]
    assert thread_is_free.state == "ended"
    assert not bench.runner.active


def test_time_is_up_while_the_thread_hands_over() -> None:
    """When the time is up after a thread has handed over and before the pool knows, the thread is not lost."""
    bench = RealThreads(limit=1)
    handed_over, go_on = threading.Event(), threading.Event()
    put = bench.runner.to_reactor
    threads: list[threading.Thread] = []

    def to_reactor(*arguments: Any) -> None:
        threads.append(threading.current_thread())
        put(*arguments)
        handed_over.set()
        go_on.wait(PATIENCE)

    bench.runner.to_reactor = to_reactor
    run = start(bench, lambda: "on its way", timeout=5)
    assert handed_over.wait(PATIENCE)
    bench.clock.advance(5)
    assert bench.pool.stuck == 1
    go_on.set()
    threads[0].join(PATIENCE)
    assert (bench.pool.stuck, bench.pool.threads) == (0, 0)
    bench.deliver()
    assert run.state == "ended"
    assert isinstance(run.error, HandlerTimeout)


def test_result_and_time_limit_in_the_same_turn_of_the_reactor() -> None:
    """A result that arrives first wins, and takes the timer with it."""
    bench = RealThreads()
    run = start(bench, lambda: "in time", timeout=5)
    bench.clock.rightNow = 5  # the timer is due, but its turn has not come
    bench.deliver()
    bench.clock.advance(0)
    assert (run.state, run.result) == ("ended", "in time")


def test_hanging_threads_delay_nobody() -> None:
    """With real threads: while some hang, others work; the hung ones come back into an intact pool."""
    bench = RealThreads(limit=2)
    release = threading.Event()
    begun = threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        release.wait(PATIENCE)

    hanging = [start(bench, hang, timeout=5) for _ in range(2)]
    for _ in hanging:
        assert begun.acquire(timeout=PATIENCE)
    queued = start(bench, lambda: "worked")
    bench.clock.advance(5)
    bench.deliver()
    assert queued.result == "worked"
    assert [run.state for run in hanging] == ["stuck", "stuck"]
    release.set()
    bench.deliver()
    bench.deliver()
    assert [run.state for run in hanging] == ["ended", "ended"]


@pytest_twisted.ensureDeferred
async def test_on_the_real_reactor() -> None:
    """With the real reactor the function runs in another thread, and its result arrives in the reactor's."""
    from twisted.internet import reactor

    clock: Any = reactor
    here = threading.current_thread()
    runner = Runner(clock, clock.callFromThread, ThreadPool("worker", 1, idle_seconds=0))
    run = runner.start(UserFunction.declare("it", threading.current_thread), timeout=PATIENCE)
    there = await run.result
    assert there is not here
    assert threading.current_thread() is here
    await run.ended
    assert not runner.active


# --- resources ----------------------------------------------------------------------------------


def test_one_at_a_time_in_their_order(bench: Bench) -> None:
    """Runs that share a resource run one at a time, in the order in which they came; others run beside them."""
    bus, order = Resource("the bus"), []
    runs = [start(bench, functools.partial(order.append, number), resource=bus) for number in range(4)]
    beside = start(bench, lambda: "beside", resource=Resource("another bus"))
    assert [run.run.started is not None for run in runs] == [True, False, False, False]
    assert len(bench.pool.jobs) == 2
    bench.clock.advance(1)
    for _ in range(5):
        bench.pool.end()
    assert order == [0, 1, 2, 3]
    assert [run.run.started for run in runs] == [0, 1, 1, 1]
    assert beside.result == "beside"


def test_next_begins_before_the_end_is_told(bench: Bench) -> None:
    """By the time a run's end is told the next has begun: who asks again then stands behind those who wait."""
    bus, order = Resource("the bus"), []
    first = start(bench, lambda: order.append("first"), resource=bus)
    second = start(bench, lambda: order.append("second"), resource=bus)
    again: list[Follower] = []
    first.run.ended.addCallback(lambda _: again.append(start(bench, lambda: order.append("again"), resource=bus)))
    bench.pool.end()
    assert second.run.started is not None
    assert again[0].run.started is None
    bench.pool.end()
    bench.pool.end()
    assert order == ["first", "second", "again"]


def test_time_in_the_queue_does_not_count(bench: Bench) -> None:
    """The time limit begins when the run does."""
    bus = Resource("the bus")
    start(bench, lambda: 1, resource=bus)
    second = start(bench, lambda: 2, resource=bus, timeout=5)
    bench.clock.advance(100)
    assert second.state == "under way"
    bench.pool.end()
    bench.clock.advance(4)
    bench.pool.end()
    assert (second.result, second.run.started, second.run.duration) == (2, 100, 4)


def test_who_hangs_is_named(bench: Bench) -> None:
    """While the holder hangs, those who wait and those who come fail at once with its name, and do not begin."""
    bus = Resource("the bus i2c-1")
    holder = start(bench, lambda: 1, name="lamp", resource=bus, timeout=5)
    waiting = [start(bench, lambda: 1, resource=bus) for _ in range(2)]
    bench.clock.advance(5)
    assert holder.state == "stuck"
    late = start(bench, lambda: 1, resource=bus)
    for run in (*waiting, late):
        assert (run.state, type(run.error)) == ("ended", ResourceHeld)
        assert str(run.error) == "the bus i2c-1 is held by 'lamp', which hangs"
        assert (run.run.started, run.run.duration) == (None, None)
    assert len(bench.pool.jobs) == 1
    bench.pool.end()
    after = start(bench, lambda: "free", resource=bus)
    bench.pool.end()
    assert after.result == "free"


def test_who_is_cancelled_at_once_does_not_hang(bench: Bench) -> None:
    """An ``async def`` that ends when its time is up does not hold the bus, so those who wait have their turn."""
    bus = Resource("the bus")
    holder = start(bench, functools.partial(wait_for, Deferred()), resource=bus, timeout=5)
    waiting = [start(bench, lambda: "my turn", resource=bus) for _ in range(2)]
    bench.clock.advance(5)
    assert isinstance(holder.error, HandlerTimeout)
    assert [run.run.started for run in waiting] == [5, None]
    bench.pool.end()
    bench.pool.end()
    assert [run.result for run in waiting] == ["my turn", "my turn"]


def test_queued_for_a_thread_is_not_hanging(bench: Bench) -> None:
    """A holder that found no thread in time gives the bus on."""
    bus = Resource("the bus")
    bench.pool.full = True
    holder = start(bench, lambda: 1, resource=bus, timeout=5)
    waiting = start(bench, lambda: "my turn", resource=bus)
    bench.clock.advance(5)
    assert isinstance(holder.error, HandlerTimeout)
    assert waiting.run.started == 5
    bench.pool.end()
    assert waiting.result == "my turn"


def test_cancelling_who_waits(bench: Bench) -> None:
    """Who is cancelled while waiting leaves the queue and never begins; the others keep their order."""
    bus, order = Resource("the bus"), []
    runs = [start(bench, functools.partial(order.append, number), resource=bus, timeout=5) for number in range(4)]
    runs[2].run.cancel()
    runs[1].run.result.cancel()
    assert [run.state for run in runs] == ["under way", "ended", "ended", "under way"]
    assert isinstance(runs[1].error, Cancelled)
    bench.pool.end()
    bench.pool.end()
    assert order == [0, 3]


def test_holder_that_fails(bench: Bench) -> None:
    """A failure gives the bus on as any end does."""
    bus = Resource("the bus")
    holder = start(bench, raising(ValueError()), resource=bus)
    waiting = start(bench, lambda: "my turn", resource=bus)
    bench.pool.end()
    bench.pool.end()
    assert isinstance(holder.error, ValueError)
    assert waiting.result == "my turn"


# --- what a function finds around itself ------------------------------------------------------------------------------


def test_scope_of_a_run(bench: Bench) -> None:
    """A function finds its own name and the daemon's daemon_scope, or the scope that it was given; outside is none."""
    bench.runner.daemon_scope = DaemonScope("broadcast", "cache")
    own = RunScope("own", None, "request", "response")
    in_thread = start(bench, context.scope.get)
    given = start(bench, context.scope.get, scope=own)
    on_reactor = start(bench, lambda: context.scope.get(), name="other", reactor=True)
    bench.pool.end()
    bench.pool.end()
    assert in_thread.result == RunScope("it", bench.runner.daemon_scope)
    assert given.result is own
    assert on_reactor.result == RunScope("other", bench.runner.daemon_scope)
    assert context.scope.get(None) is None


def test_scope_of_what_a_handler_starts(bench: Bench) -> None:
    """A run that is started within a handler has a scope of its own, and takes nothing from that handler's."""
    inner: list[Follower] = []

    def outer() -> str:
        inner.append(start(bench, lambda: context.scope.get().name, name="inner", reactor=True))
        return context.scope.get().name

    follower = start(bench, outer, name="outer", reactor=True)
    assert (inner[0].result, follower.result) == ("inner", "outer")


def test_async_function_that_returns_a_deferred(bench: Bench) -> None:
    """What an ``async def`` returns is awaited if it is a Deferred, a coroutine, or one that brings the other."""
    gate: Deferred[Any] = Deferred()

    async def inner() -> Deferred[Any]:
        return gate

    async def outer() -> Any:
        return inner()

    followers = [start(bench, outer), start(bench, lambda: outer(), reactor=True)]
    assert [follower.state for follower in followers] == ["under way"] * 2
    gate.callback("done")
    assert followers[0].result == "done"
    assert followers[1].state == "ended"


def test_async_function_that_returns_a_deferred_that_fails(bench: Bench) -> None:
    """The failure of a Deferred that an ``async def`` returns is the run's, and to cancel the run cancels it."""
    cancelled: list[Deferred[Any]] = []
    gates: list[Deferred[Any]] = [Deferred(), Deferred(cancelled.append)]

    async def function(gate: Deferred[Any]) -> Deferred[Any]:
        return gate

    failing, hanging = (start(bench, function, gate) for gate in gates)
    gates[0].errback(ValueError("no"))
    assert isinstance(failing.error, ValueError)
    hanging.run.cancel()
    assert cancelled == [gates[1]]
    assert isinstance(hanging.error, Cancelled)
