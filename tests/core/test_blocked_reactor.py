"""How late the reactor is, and who is blamed for it: by clocks that the test holds, and once by a real thread."""

import functools
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from fake_pool import Bench
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.logger import LogEvent, capturedLogs, formatEvent, globalLogPublisher

from rpiserve import App, Handler
from rpiserve.core.blocked_reactor import (
    LIMIT,
    LONG,
    RECENT,
    WINDOW,
    ReactorLag,
    blamed,
    cpu_seconds,
    frames_of,
)
from rpiserve.declare.handler import UserFunction
from rpiserve.declare.registry import Blueprint

PATIENCE = 30.0
"""Seconds after which what has not happened will not happen."""


# --- whose code it is -------------------------------------------------------------------------------------------------


class Stage:
    """Runs functions on a reactor as the daemon does, and tells who would be blamed for what they do."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.functions: list[UserFunction] = []
        self.verdicts: list[str | None] = []

    def declare(self, name: str, call: Callable[..., Any]) -> UserFunction:
        """Declare ``call`` as a function of the user's that runs on the reactor."""
        function = UserFunction.declare(name, call, reactor=True, arguments=None)
        self.functions.append(function)
        return function

    def look(self, *_: Any) -> None:
        """Note who would be blamed at this moment: this is what a function calls where it would block."""
        self.verdicts.append(blamed(frames_of(threading.get_ident()), self.functions))

    def verdict(self, call: Callable[..., Any], *arguments: Any) -> str | None:
        """Return who is blamed when ``call``, declared as ``it``, calls `look`."""
        self.bench.runner.start(self.declare("it", call), *arguments)
        [verdict] = self.verdicts
        return verdict


@pytest.fixture
def stage() -> Stage:
    """A stage, on which two others are declared that never run."""
    stage = Stage()

    async def innocent() -> None:
        """Do nothing."""

    stage.declare("innocent", innocent)
    stage.declare("neither", lambda: None)
    return stage


def test_an_async_def_is_blamed(stage: Stage) -> None:
    """An ``async def`` is blamed for what it does, and for what it calls."""

    async def read() -> None:
        helper()

    def helper() -> None:
        stage.look()

    assert stage.verdict(read) == "it"


def test_an_async_def_is_blamed_after_it_has_waited(stage: Stage) -> None:
    """It is blamed, too, when it goes on after an ``await``, far from where it was started."""
    answer: Deferred[None] = Deferred()

    async def read() -> None:
        await answer
        await later()

    async def later() -> None:
        stage.look()

    stage.bench.runner.start(stage.declare("it", read))
    assert stage.verdicts == []
    answer.callback(None)
    assert stage.verdicts == ["it"]


def test_a_function_of_callbacks_is_blamed_after_it_has_waited(stage: Stage) -> None:
    """An ``inlineCallbacks`` function is found by its code, for nothing of ours is on the stack when it goes on."""
    answer: Deferred[None] = Deferred()

    @inlineCallbacks
    def read() -> Any:
        yield answer
        stage.look()

    stage.bench.runner.start(stage.declare("it", read))
    answer.callback(None)
    assert stage.verdicts == ["it"]


class Meter(Handler):
    """A handler that looks."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    async def invoke(self) -> None:
        """Look."""
        self.stage.look()

    __call__ = invoke


def passed_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate ``function``."""

    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


@pytest.mark.parametrize("by_code", [True, False])
@pytest.mark.parametrize(
    "made",
    [
        lambda stage: Meter(stage).invoke,
        lambda stage: Meter(stage),
        lambda stage: functools.partial(Meter.invoke, Meter(stage)),
        lambda stage: passed_on(Meter(stage).invoke),
        lambda stage: functools.partial(passed_on(Meter(stage).invoke)),
    ],
    ids=["method", "object", "partial", "decorated", "partial of decorated"],
)
def test_however_it_is_wrapped(stage: Stage, made: Callable[[Stage], Any], by_code: bool) -> None:
    """A method, an object, a partial and what is decorated are found, run by us or met on the stack by their code."""
    if not by_code:
        assert stage.verdict(made(stage)) == "it"
        return
    coroutine = stage.declare("it", made(stage)).call()
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert stage.verdicts == ["it"]


def test_handlers_made_of_the_same_code(stage: Stage) -> None:
    """Where a loop declares many handlers of one function, the one that runs is blamed."""

    async def read(pin: int) -> None:
        if pin == 2:
            stage.look()

    pins = [stage.declare(f"pin {pin}", functools.partial(read, pin)) for pin in range(4)]
    for pin in pins:
        stage.bench.runner.start(pin)
    assert stage.verdicts == ["pin 2"]


def test_handlers_made_of_the_same_code_that_cannot_be_told_apart(stage: Stage) -> None:
    """Where the stack does not tell which of them it is, all are named."""
    answer: Deferred[None] = Deferred()

    @inlineCallbacks
    def read(pin: int) -> Any:
        yield answer
        if pin == 1:
            stage.look()

    for pin in range(2):
        stage.bench.runner.start(stage.declare(f"pin {pin}", functools.partial(read, pin)))
    answer.callback(None)
    assert stage.verdicts == ["pin 0 or pin 1"]


def test_the_innermost_is_blamed(stage: Stage) -> None:
    """Where one handler sets off another, the one that blocks is blamed and not the one that waits for it."""

    async def inner() -> None:
        stage.look()

    async def outer() -> None:
        stage.bench.runner.start(stage.declare("inner", inner))

    stage.bench.runner.start(stage.declare("outer", outer))
    assert stage.verdicts == ["inner"]


def test_nobody_is_blamed(stage: Stage) -> None:
    """What is no handler is not blamed on one."""
    stage.look()
    assert stage.verdicts == [None]


def test_a_function_written_in_c(stage: Stage) -> None:
    """A function without code of its own to be found is found by who has called it, and hinders nobody else."""
    assert stage.verdict(functools.partial(map(stage.look, [1]).__next__)) == "it"


def test_which_functions_run_on_the_reactor() -> None:
    """All that an app declares and that runs on the reactor is known, and nothing that runs in a thread."""
    app, blueprint = App("a"), Blueprint("b")

    async def work() -> None:
        """Do nothing."""

    def plain() -> None:
        """Do nothing."""

    for function in (work, plain):
        name = function.__name__
        blueprint.sensor(f"{name}/sensor")(function)
        app.background(f"{name} often", 5)(function)
        app.cron("* * * * *", name=f"{name} by cron")(function)
        app.on_start()(function)
        app.on_stop()(function)
        app.command(name=f"{name}_command")(function)
        app.action(f"{name}_action")(function)
        app.listen(f"{name}_channel")(function)
        app.route(f"/{name}")(function)
    app.every(5, Meter(Stage()))
    app.register_blueprint(blueprint)
    names = [function.name for function in app.on_reactor()]
    assert (len(names), len(set(names))) == (10, 10)
    assert {name for name in names if "plain" in name} == set()


# --- how late it is, and that it is told ------------------------------------------------------------------------------


class Reactor(Clock):
    """A clock that also goes on while nothing runs."""

    def block(self, seconds: float) -> None:
        """Let time pass in which the reactor does nothing."""
        self.rightNow += seconds

    def run(self, seconds: float) -> None:
        """Let time pass in which the reactor does all that is due, when it is."""
        end = self.rightNow + seconds
        while (calls := self.getDelayedCalls()) and (due := min(call.getTime() for call in calls)) <= end:
            self.advance(max(0.0, due - self.rightNow))
        self.advance(max(0.0, end - self.rightNow))


class Machine:
    """A reactor that a `ReactorLag` watches, and its log.

    Attributes:
        cpu: how much time of the processor the reactor's thread has used, in seconds.
        looking: called whenever the stack is looked at.
    """

    def __init__(self, log: list[LogEvent]) -> None:
        self.reactor = Reactor()
        self.cpu = 0.0
        self.looking: Callable[[], object] = lambda: None
        self.stack: list[FrameType] = []
        self.lag = ReactorLag(self.reactor, [UserFunction.declare("greedy", greedy)], self._frames, lambda _: self.cpu)
        self._log = log
        self._told = 0
        self._look_due = LIMIT
        self.lag.start()

    def _frames(self, thread: int) -> list[FrameType]:
        assert thread == threading.get_ident()
        self.looking()
        return self.stack

    def block(self, seconds: float, busy: bool = True) -> None:
        """Let nothing run on the reactor for some time, while the thread that watches does its work."""
        end = self.reactor.rightNow + seconds
        while self._look_due <= end:
            self.block_all(max(0.0, self._look_due - self.reactor.rightNow), busy)
            self.look()
        self.block_all(max(0.0, end - self.reactor.rightNow), busy)

    def block_all(self, seconds: float, busy: bool = True) -> None:
        """Let nothing run at all."""
        self.reactor.block(seconds)
        self.cpu += seconds if busy else 0.0

    def look(self) -> None:
        """Have the thread that watches look."""
        self._look_due = self.reactor.rightNow + self.lag.look()

    def run(self, seconds: float) -> None:
        """Let the reactor run freely, and the thread that watches as well."""
        end = self.reactor.rightNow + seconds
        while self._look_due <= end:
            self.reactor.run(max(0.0, self._look_due - self.reactor.rightNow))
            self.look()
        self.reactor.run(max(0.0, end - self.reactor.rightNow))

    def news(self) -> list[str]:
        """Return the lines that were logged since the last call."""
        events, self._told = self._log[self._told :], len(self._log)
        return [str(formatEvent(event)) for event in events]

    def metrics(self) -> dict[str, float]:
        """Return what is measured, by the name and the labels."""
        return {" ".join((metric.name, *labels)): value for metric, labels, value in self.lag.samples()}


async def greedy() -> Any:
    """Return the stack of a handler that blocks."""
    return frames_of(threading.get_ident())


def stack_of(coroutine: Any) -> list[FrameType]:
    """Return what ``coroutine`` returns, which does not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        frames: list[FrameType] = stop.value
        return frames
    raise AssertionError("it has waited")


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine whose reactor runs."""
    with capturedLogs() as log:
        machine = Machine(log)
        yield machine
        machine.lag.stop()
        assert machine.reactor.getDelayedCalls() == []


def test_a_reactor_that_is_in_time(machine: Machine) -> None:
    """Nothing is told of a reactor that does what is due, and its lag is nothing to speak of."""
    machine.run(100)
    assert machine.news() == []
    assert machine.lag.reasons() == []
    names = ["lag_seconds", "lag_max_seconds"]
    names += [f"{name} {who}" for name in ("blocked_total", "blocked_seconds_total") for who in ("", "greedy")]
    assert machine.metrics() == pytest.approx({f"rpiserve_reactor_{name}": 0.0 for name in names}, abs=1e-6)


def test_the_lag(machine: Machine) -> None:
    """The lag is how late the last heartbeat was, or is; the maximum goes back a minute."""
    for seconds, highest in ((0.5, 0.5), (0.3, 0.5), (0.7, 0.7), (0.2, 0.7)):
        machine.run(10)
        machine.block(seconds)
        assert machine.metrics()["rpiserve_reactor_lag_seconds"] == pytest.approx(seconds, abs=0.11)
        machine.run(0)
        assert machine.metrics()["rpiserve_reactor_lag_seconds"] == pytest.approx(seconds, abs=0.11)
        assert machine.metrics()["rpiserve_reactor_lag_max_seconds"] == pytest.approx(highest, abs=0.11)
    machine.run(1)
    assert machine.metrics()["rpiserve_reactor_lag_seconds"] == pytest.approx(0, abs=1e-6)
    machine.run(WINDOW - 5)
    assert machine.metrics()["rpiserve_reactor_lag_max_seconds"] == pytest.approx(0.2, abs=0.11)
    machine.run(6)
    assert machine.metrics()["rpiserve_reactor_lag_max_seconds"] == pytest.approx(0, abs=1e-6)
    assert machine.news() == []


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "waiting"])
def test_a_blockage(machine: Machine, busy: bool) -> None:
    """Who blocks the reactor is told while that lasts, with the stack, and once more with the time when it is over."""
    machine.run(5)
    machine.stack = stack_of(greedy())
    machine.block(1.2, busy)
    [line] = machine.news()
    assert "blocked, for 1.0 s so far, by greedy;" in line
    assert "in greedy\n    return frames_of" in line
    machine.block(2.3, busy)
    assert machine.news() == []
    machine.run(0.1)
    assert machine.news() == ["the reactor goes on, after 3.5 s; it was blocked by greedy"]
    assert machine.lag.reasons() == ["the reactor was blocked for 3.5 s a moment ago, by greedy"]
    metrics = machine.metrics()
    assert metrics["rpiserve_reactor_blocked_total greedy"] == 1
    assert metrics["rpiserve_reactor_blocked_seconds_total greedy"] == pytest.approx(3.5)
    machine.run(RECENT)
    assert machine.lag.reasons() == []
    assert machine.news() == []


def test_a_blockage_by_none_of_the_handlers(machine: Machine) -> None:
    """What is no handler blocks the reactor, too: then the stack has to tell."""
    machine.stack = frames_of(threading.get_ident())
    machine.block(1.2)
    [line] = machine.news()
    assert "by none of the app's handlers;" in line
    assert "in test_a_blockage_by_none_of_the_handlers" in line
    machine.run(1)
    assert machine.metrics()["rpiserve_reactor_blocked_total "] == 1
    assert machine.lag.reasons() == ["the reactor was blocked for 1.2 s a moment ago, by none of the app's handlers"]


def test_no_flood(machine: Machine) -> None:
    """A reactor that is blocked for an hour is told of once, and so is its end."""
    machine.stack = stack_of(greedy())
    machine.block(3600)
    assert len(machine.news()) == 1
    machine.run(10)
    assert len(machine.news()) == 1


def test_the_same_again(machine: Machine) -> None:
    """Of who blocks the reactor again and again it is told ever more rarely, and of each end whose beginning was."""
    machine.stack = stack_of(greedy())
    told = []
    for number in range(60):
        machine.block(1.5)
        lines = machine.news()
        machine.run(18.5)
        ends = machine.news()
        assert len(lines) == len(ends)
        told += [(number, line) for line in lines]
    assert [number for number, _ in told] == [0, 4, 31]
    assert ["in greedy" in line for _, line in told] == [True, False, False]
    assert told[2][1].startswith("the reactor is blocked again (27 times since the last such line), for 1.0 s so far, ")
    assert machine.metrics()["rpiserve_reactor_blocked_total greedy"] == 60


def test_one_that_may_never_end(machine: Machine) -> None:
    """A blockage that lasts is told of with its stack, and so is its end, though many short ones came before."""
    machine.stack = stack_of(greedy())
    for _ in range(3):
        machine.block(1.5)
        machine.run(1)
    assert len(machine.news()) == 2
    machine.block(LONG - 1)
    assert machine.news() == []
    machine.block(3600)
    [line] = machine.news()
    assert "blocked, for 60." in line
    assert "in greedy" in line
    machine.run(1)
    assert machine.news() == ["the reactor goes on, after 3659.0 s; it was blocked by greedy"]


def test_a_process_that_was_stopped(machine: Machine) -> None:
    """Where the thread that watches stood still as well, nobody is blamed; who looks first makes no difference."""
    machine.stack = stack_of(greedy())
    machine.run(0.5)
    machine.block_all(3600, busy=False)
    machine.look()
    assert machine.news() == []
    machine.run(0.1)
    [line] = machine.news()
    assert line.startswith("the reactor was held up for 3599.")
    assert "nobody was seen" in line
    machine.run(100)
    machine.block_all(5, busy=False)
    machine.reactor.run(0)
    machine.look()
    assert [line[:34] for line in machine.news()] == ["the reactor was held up for 4.9 s,"]
    assert machine.metrics()["rpiserve_reactor_blocked_total "] == 2
    assert machine.lag.reasons() == []


def test_a_machine_without_time(machine: Machine) -> None:
    """That the process does not get on is told ever more rarely."""
    told = []
    for _ in range(300):
        machine.block_all(3, busy=False)
        machine.look()
        machine.run(6)
        told += machine.news()
    assert len(told) == 3
    assert "(7 times since the last such line)" in told[1]


def test_a_blockage_that_goes_on_after_the_process_was_stopped(machine: Machine) -> None:
    """Who still blocks the reactor a second after the process was stopped is blamed for it."""
    machine.stack = stack_of(greedy())
    machine.block_all(60, busy=False)
    machine.look()
    machine.block(0.9)
    assert machine.news() == []
    machine.block(0.2)
    [line] = machine.news()
    assert "by greedy" in line


def test_a_function_in_c_that_holds_the_interpreter(machine: Machine) -> None:
    """Who has used the processor all the time while nobody else could run is blamed, if he is still there."""
    machine.stack = stack_of(greedy())
    machine.block_all(4, busy=True)
    machine.look()
    [line] = machine.news()
    assert "for 4.0 s so far, by greedy" in line


def test_a_blockage_that_ends_while_it_is_looked_at(machine: Machine) -> None:
    """If the reactor goes on while its stack is taken, nobody is blamed by that stack."""
    machine.stack = stack_of(greedy())

    def go_on() -> None:
        machine.block_all(0.2)
        machine.reactor.run(0)

    machine.looking = go_on
    machine.block(1.1)
    [line] = machine.news()
    assert line.startswith("the reactor was held up for 1.1 s, and nobody was seen doing it")
    assert machine.lag.reasons() == []


def test_the_end_is_told_after_the_beginning(machine: Machine) -> None:
    """If the reactor goes on while the line about it is written, the line about the end comes behind it."""
    machine.stack = stack_of(greedy())

    def observe(event: LogEvent) -> None:
        if "is blocked" in str(formatEvent(event)):
            machine.reactor.run(0)

    globalLogPublisher.addObserver(observe)
    try:
        machine.block(1.1)
    finally:
        globalLogPublisher.removeObserver(observe)
    first, second = machine.news()
    assert "is blocked, for 1.0 s so far" in first
    assert second == "the reactor goes on, after 1.0 s; it was blocked by greedy"
    machine.run(1)
    assert machine.news() == []


# --- in real time -----------------------------------------------------------------------------------------------------


class RealTime(Clock):
    """A clock that shows the time of day, and runs nothing by itself."""

    def seconds(self) -> float:
        """Return the time."""
        return time.monotonic()


@contextmanager
def watched(lag: ReactorLag) -> Iterator[threading.Thread]:
    """Have a thread watch for ``lag`` during the block."""
    lag.start()
    thread = threading.Thread(target=lag.watch)
    thread.start()
    try:
        yield thread
    finally:
        lag.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()


def test_it_is_logged_while_the_reactor_is_blocked() -> None:
    """A thread writes the line, with the place in the code, while the reactor's thread is still busy there."""
    lines: list[LogEvent] = []

    async def hog() -> bool:
        end = time.monotonic() + PATIENCE
        while not lines and time.monotonic() < end:
            pass
        return bool(lines)

    bench = Bench()
    function = UserFunction.declare("hog", hog)
    with capturedLogs() as log, watched(ReactorLag(RealTime(), [function])):
        lines = log
        run = bench.runner.start(function)
    outcome: list[Any] = []
    run.result.addCallback(outcome.append)
    assert outcome == [True]
    line = str(formatEvent(log[0]))
    assert "by hog" in line
    assert "while not lines and" in line
    assert "_awaited" not in line  # what is beneath the handler is no news


def test_a_blockage_at_the_start(machine: Machine) -> None:
    """Who blocks the reactor from the very beginning is blamed, even if he waits all the time."""
    machine.stack = stack_of(greedy())
    machine.block(1.1, busy=False)
    [line] = machine.news()
    assert "by greedy" in line


def test_an_error_while_watching(logged_failures: list[LogEvent]) -> None:
    """What goes wrong in the thread that watches is logged once, and ends it."""
    clock = Clock()
    with watched(ReactorLag(clock, [], frames=lambda thread: [][thread])) as thread:
        clock.rightNow += LIMIT
        thread.join(PATIENCE)
        assert not thread.is_alive()
    [event] = logged_failures
    assert "nobody watches any more" in str(formatEvent(event))
    assert event["log_failure"].check(IndexError)
    logged_failures.clear()


def test_without_a_clock_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not tell the time of a thread, that of the process has to do."""
    before = cpu_seconds(threading.get_ident())
    monkeypatch.delattr(time, "pthread_getcpuclockid")
    assert cpu_seconds(0) >= before


def test_frames_of_a_thread_that_has_ended() -> None:
    """A thread that is not there has no frames; and the garbage is collected afterwards as it was before."""
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join(PATIENCE)
    assert gc.isenabled()
    assert frames_of(thread.ident or 0) == []
    assert gc.isenabled()
    gc.disable()
    try:
        frames_of(threading.get_ident())
        assert not gc.isenabled()
    finally:
        gc.enable()
