"""The functions that run once: at the start, and at the stop."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_pool import Bench
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, capturedLogs, formatEvent

from rpiserve.core.context import DaemonScope, broadcast
from rpiserve.daemon.hooks import StartHooks, run_stop_hooks
from rpiserve.declare.handler import UserFunction
from rpiserve.errors import SensorError


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An runner with fake threads; at its end nothing may be left."""
    bench = Bench()
    yield bench
    assert bench.idle


def hooks(*calls: Callable[[], Any]) -> list[UserFunction]:
    """Return functions named ``hook 0``, ``hook 1`` …"""
    return [UserFunction.declare(f"hook {number}", call) for number, call in enumerate(calls)]


def raising(error: BaseException) -> Callable[[], None]:
    """Return a function that raises ``error``."""

    def function() -> None:
        raise error

    return function


def noting(order: list[int], count: int) -> list[UserFunction]:
    """Return functions that note their number in ``order``."""
    return hooks(*(functools.partial(order.append, number) for number in range(count)))


# --- at the start -------------------------------------------------------------------------------


def test_start_hooks_run_one_after_the_other(bench: Bench) -> None:
    """They run in the order of their declaration, each when the one before has ended, and without a time limit."""
    order: list[int] = []
    start = StartHooks(noting(order, 3), bench.runner)
    done = start.run()
    for number in range(3):
        assert len(bench.pool.jobs) == 1
        bench.clock.advance(1e6)
        assert order == list(range(number))
        assert not done.called
        bench.pool.end()
    assert order == [0, 1, 2]
    assert done.called


def test_no_start_hooks(bench: Bench) -> None:
    """Where there are none all is ready at once."""
    start = StartHooks([], bench.runner)
    assert start.run().called
    assert start.reasons() == []


def test_reasons_before_and_while_they_run(bench: Bench) -> None:
    """All that have not ended are named, from before the start until they have."""
    start = StartHooks(noting([], 2), bench.runner)
    waiting = ["hook 0 has not ended yet", "hook 1 has not ended yet"]
    assert start.reasons() == waiting
    start.run()
    assert start.reasons() == waiting
    bench.pool.end()
    assert start.reasons() == waiting[1:]
    bench.pool.end()
    assert start.reasons() == []


def test_same_start_hook_twice(bench: Bench) -> None:
    """A function that was declared twice runs twice, and is waited for twice."""
    order: list[int] = []
    start = StartHooks(noting(order, 1) * 2, bench.runner)
    done = start.run()
    bench.pool.end()
    assert start.reasons() == ["hook 0 has not ended yet"]
    bench.pool.end()
    assert (order, done.called, start.reasons()) == ([0, 0], True, [])


def test_failed_start_hooks(bench: Bench, logged_failures: list[LogEvent]) -> None:
    """A failure is logged and stays among the reasons, without an unknown exception's text; the others run on."""
    order: list[int] = []
    start = StartHooks(
        hooks(raising(ValueError("secret")), raising(SensorError("no meter")), functools.partial(order.append, 2)),
        bench.runner,
    )
    done = start.run()
    for _ in range(3):
        bench.pool.end()
    assert (order, done.called) == ([2], True)
    unknown, known = start.reasons()
    assert unknown == f"hook 0 failed: ValueError (incident {logged_failures[0]['incident']}, see the log)"
    assert known == "hook 1 failed: no meter"
    assert len(logged_failures) == 2
    logged_failures.clear()


def test_asynchronous_start_hook(bench: Bench) -> None:
    """An ``async def`` is waited for as well."""
    awaited: Deferred[None] = Deferred()

    async def function() -> None:
        await awaited

    start = StartHooks(hooks(function), bench.runner)
    start.run()
    assert start.reasons() == ["hook 0 has not ended yet"]
    awaited.callback(None)
    assert start.reasons() == []


# --- at the stop --------------------------------------------------------------------------------


def test_stop_hooks_run_one_after_the_other(bench: Bench) -> None:
    """They run in the order of their declaration, each when the one before has ended."""
    order: list[int] = []
    done = run_stop_hooks(noting(order, 3), bench.runner, 4)
    for number in range(3):
        assert len(bench.pool.jobs) == 1
        bench.clock.advance(1)
        bench.pool.end()
        assert len(order) == number + 1
    assert order == [0, 1, 2]
    assert done.called


def test_no_stop_hooks(bench: Bench) -> None:
    """Where there are none the stop goes on at once."""
    assert run_stop_hooks([], bench.runner, 4).called


def test_failed_stop_hooks(bench: Bench, logged_failures: list[LogEvent]) -> None:
    """A failure is logged, and keeps no other from running."""
    order: list[int] = []
    done = run_stop_hooks(hooks(raising(ValueError()), functools.partial(order.append, 1)), bench.runner, 4)
    bench.pool.end()
    bench.pool.end()
    assert (order, done.called) == ([1], True)
    assert [event["log_failure"].type for event in logged_failures] == [ValueError]
    logged_failures.clear()


def test_stop_hooks_are_bounded_together(bench: Bench, logged_failures: list[LogEvent]) -> None:
    """All of them together have so much time. One that hangs leaves its share to each that is left."""
    order: list[int] = []
    done = run_stop_hooks(noting(order, 4), bench.runner, 10)
    bench.clock.advance(1)
    bench.pool.end()  # 9 s are left for three
    for _ in range(3):
        assert not done.called
        bench.clock.advance(3)
    assert done.called
    assert len(bench.pool.jobs) == 3
    assert [str(formatEvent(event)) for event in logged_failures] == [
        f"hook {number} failed: no end within 3 s" for number in (1, 2, 3)
    ]
    logged_failures.clear()
    with capturedLogs():
        for _ in range(3):
            bench.pool.end()
    assert order == [0, 1, 2, 3]


def test_start_hooks_end_with_the_stop(bench: Bench) -> None:
    """Once the daemon stops, no further ``on_start`` function begins."""
    order: list[int] = []
    start_hooks = StartHooks(noting(order, 2), bench.runner)
    done = start_hooks.run()
    start_hooks.stop()
    bench.pool.end()
    assert done.called
    assert order == [0]
    assert start_hooks.reasons() == ["hook 1 has not ended yet"]


def test_hanging_asynchronous_stop_hook(bench: Bench, logged_failures: list[LogEvent]) -> None:
    """An ``async def`` that does not end in time is cancelled."""

    async def function() -> None:
        await Deferred()

    done = run_stop_hooks(hooks(function), bench.runner, 4)
    bench.clock.advance(4)
    assert done.called
    assert len(logged_failures) == 1
    logged_failures.clear()


def test_what_stop_hooks_find_around_themselves(bench: Bench) -> None:
    """An ``on_stop`` function still has the means to send, when what all others have is closed already."""
    bench.runner.daemon_scope = DaemonScope(["closed"], None)
    found: list[str] = []
    start = StartHooks(hooks(lambda: found.append(broadcast[0])), bench.runner)
    start.run()
    bench.pool.end()
    run_stop_hooks(hooks(lambda: found.append(broadcast[0])), bench.runner, 4, DaemonScope(["open"], None))
    bench.pool.end()
    assert found == ["closed", "open"]


def test_stopping_before_start_hooks_have_begun(bench: Bench) -> None:
    """A stop that comes before the first ``on_start`` function waits for nothing, and none begins after it."""
    order: list[int] = []
    start_hooks = StartHooks(noting(order, 2), bench.runner)
    assert start_hooks.stop().called
    assert start_hooks.run().called
    assert order == []
