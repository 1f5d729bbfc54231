"""Commands: what they are called, and how they run, those of one object in turn."""

import math
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from queue import Queue
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from rpiserve import App, broadcast, cache
from rpiserve.commands.calls import MOST_CALLS, CommandCalls
from rpiserve.core.context import DaemonScope, scope
from rpiserve.core.log_limit import DAY
from rpiserve.declare.arguments import BadArguments
from rpiserve.declare.handler import Where
from rpiserve.errors import (
    Cancelled,
    DeclarationError,
    HandlerFailed,
    HandlerTimeout,
    ResourceHeld,
    SensorError,
    UnknownCommand,
)

PATIENCE = 30.0


class Bell:
    """Something with methods."""

    def __init__(self) -> None:
        self.state = "on"

    def switch(self, onoff: str) -> str:
        """Switch it."""
        self.state = onoff
        return onoff

    def ring(self) -> str:
        return "ding"

    @classmethod
    def make(cls) -> str:
        return cls.__name__

    @staticmethod
    def tune() -> str:
        return "dong"


@pytest.fixture
def app() -> App:
    """An app without commands."""
    return App("test")


# --- names ------------------------------------------------------------------------------------------------------------

theBell = Bell()
twin = theBell


def names(app: App) -> list[str]:
    """Return the names of the commands of ``app``."""
    return list(app.commands)


def test_name_of_a_method(app: App) -> None:
    """A method is called by the variable of its object, a local one before a global one, and its own name."""
    app.add_command(theBell.switch)
    back = theBell
    app.add_command(back.switch)
    frontDoor = Bell()
    app.add_command(frontDoor.switch)
    app.add_command(frontDoor.ring)
    assert names(app) == ["theBell.switch", "back.switch", "frontDoor.switch", "frontDoor.ring"]
    assert frontDoor is not back


def test_name_is_found_by_identity(app: App) -> None:
    """An object that is equal to that of another variable is not taken for it, and equality is not even asked for."""

    class Equal(Bell):
        def __eq__(self, other: object) -> bool:
            raise AssertionError

        __hash__ = None  # type: ignore[assignment]

    first, second = Equal(), Equal()
    app.add_command(second.ring)
    app.add_command(first.ring)
    assert names(app) == ["second.ring", "first.ring"]


def test_names_of_functions(app: App) -> None:
    """A function has its own name, wherever it is; so has a static method. A class method has its class's."""

    def water() -> None: ...

    app.add_command(water)
    app.add_command(Bell.tune)
    app.add_command(Bell.make)
    app.add_command(theBell.make, name="made")
    assert names(app) == ["water", "tune", "Bell.make", "made"]
    assert app.commands["Bell.make"].owner is Bell


def declare_all(app: App, *bells: Bell) -> None:
    """Declare a command of each."""
    for bell in bells:
        app.add_command(bell.ring)


def test_methods_in_a_loop(app: App) -> None:
    """The objects of a loop all have the same variable: the second command is refused, with the way out."""
    with pytest.raises(DeclarationError, match=r"'bell.ring' is declared already; give this one .* name=…"):
        declare_all(app, Bell(), Bell())
    assert names(app) == ["bell.ring"]
    for number, bell in enumerate([Bell(), Bell()]):
        app.add_command(bell.ring, name=f"bell{number}.ring")
    assert names(app) == ["bell.ring", "bell0.ring", "bell1.ring"]


class House:
    """Something with an object for an attribute."""

    def __init__(self) -> None:
        self.bell = Bell()

    def declare(self, app: App) -> None:
        app.add_command(self.bell.ring)


def test_methods_of_an_attribute(app: App) -> None:
    """An object that no variable holds has no name: the error asks for one."""
    house = House()
    for declare in (house.declare, lambda app: app.add_command(house.bell.ring)):
        with pytest.raises(DeclarationError, match=r"no variable here holds the object of ring\(\); .* with name=…"):
            declare(app)
    app.add_command(house.bell.ring, name="bell.ring")
    assert names(app) == ["bell.ring"]


class Callback:
    """Something that is called as a function is."""

    def __call__(self) -> None: ...


@pytest.mark.parametrize("function", [lambda: 0, partial(theBell.switch, "on"), Callback()])
def test_functions_without_a_name(app: App, function: Callable[..., Any]) -> None:
    """What has no name of its own gets none: the error asks for one."""
    with pytest.raises(DeclarationError, match=r"has no name of its own; give it one with name=…"):
        app.add_command(function)
    with pytest.raises(DeclarationError, match=r"has no name of its own; give it one with name=…"):
        app.command(function)
    assert names(app) == []


def test_names_are_unique(app: App) -> None:
    """No two commands have the same name, however they came by it."""
    app.add_command(theBell.ring)
    with pytest.raises(DeclarationError, match=r"the command 'theBell.ring' is declared already"):
        app.add_command(theBell.ring)
    with pytest.raises(DeclarationError, match=r"the command 'theBell.ring' is declared already"):
        app.command(name="theBell.ring")(len)
    app.add_command(twin.switch, name="switch")
    with pytest.raises(DeclarationError, match=r"the command 'switch' is declared already"):

        @app.command
        def switch() -> None: ...


@pytest.mark.parametrize("name", ["", " ", 5, b"x"])
def test_names_that_are_none(app: App, name: Any) -> None:
    """A name is a text with something in it."""
    with pytest.raises(DeclarationError, match="is no name"):
        app.add_command(theBell.ring, name=name)
    with pytest.raises(DeclarationError, match="is no name"):
        app.command(name=name)(len)


# --- declarations -----------------------------------------------------------------------------------------------------


def test_decorator(app: App) -> None:
    """The decorator, with and without arguments, leaves the function as it is."""

    def water() -> None:
        """Water the garden."""

    async def drain() -> None: ...

    def flush() -> Deferred[None]:
        raise NotImplementedError

    assert app.command(water) is water
    assert app.command(name="drain it", timeout=5, concurrent=True)(drain) is drain
    assert app.command(reactor=True)(flush) is flush
    assert names(app) == ["water", "drain it", "flush"]
    assert app.commands["water"].function.doc == "Water the garden."
    assert app.commands["water"].timeout == 30
    assert app.commands["water"].owner is water
    assert app.commands["water"].function.where is Where.THREAD
    assert app.commands["drain it"].function.doc == ""
    assert app.commands["drain it"].timeout == 5
    assert app.commands["drain it"].owner is None
    assert app.commands["drain it"].function.where is Where.REACTOR
    assert app.commands["flush"].function.where is Where.REACTOR


def test_wrong_declarations(app: App) -> None:
    """What cannot work is refused at the line that declares it, by the command's name, and declares nothing."""

    def generator() -> Iterator[int]:
        yield 1

    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (5, {"name": "five"}, "five: 5 is no function"),
        (5, {}, "5 is no function; a command gets a name with name=…"),
        (generator, {}, "generator: a function with 'yield' in it does not run when it is called"),
        (theBell.ring, {"timeout": 0}, "theBell.ring: timeout is 0; it is a number of seconds"),
        (theBell.ring, {"timeout": None}, "theBell.ring: timeout is None"),
        (theBell.ring, {"timeout": math.inf}, "theBell.ring: timeout is inf"),
        (lambda name: 0, {"name": "x"}, "x: no argument may be called 'name'"),
        (print, {"name": "x"}, "x: the argument .* has no name to give it by"),
    ]
    for function, options, message in wrong:
        with pytest.raises(DeclarationError, match=message):
            app.add_command(function, **options)
    assert names(app) == []


def named(zone: int) -> int:
    """Return the number of the zone."""
    return zone


class Listed(list[int]):
    """An object that counts as false while it is empty."""

    def grow(self) -> None: ...

    def shrink(self) -> None: ...


def test_owners(app: App) -> None:
    """The commands of one object have one owner, even an object that counts as false, and partials of its methods."""
    listed = Listed()
    app.add_command(listed.grow)
    app.add_command(listed.shrink)
    app.add_command(partial(listed.append, 1), name="add")
    app.add_command(partial(partial(listed.insert, 0), 1), name="insert")
    assert [command.owner is listed for command in app.commands.values()] == [True] * 4
    app.add_command(partial(named), name="named")
    assert app.commands["named"].owner is named


def test_docs(app: App) -> None:
    """What a command's docstring says is that of the function, without the indentation of the source."""

    def water() -> None:
        """Water the garden.

        All of it.
        """

    app.add_command(water)
    app.add_command(partial(water), name="part")
    app.add_command(theBell.switch)
    app.add_command(theBell.ring)
    docs = [command.function.doc for command in app.commands.values()]
    assert docs == ["Water the garden.\n\nAll of it."] * 2 + ["Switch it.", ""]


# --- the calls --------------------------------------------------------------------------------------------------------


class Loop:
    """A reactor for one test: a clock that the test moves, and what comes from other threads, in its turn."""

    def __init__(self) -> None:
        self.clock = Clock()
        self._calls: Queue[tuple[Callable[..., object], tuple[Any, ...]]] = Queue()

    def to_reactor(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have ``function`` called in its turn."""
        self._calls.put((function, arguments))

    def until(self, condition: Callable[[], object]) -> None:
        """Make turns until ``condition`` holds."""
        while not condition():
            function, arguments = self._calls.get(timeout=PATIENCE)
            function(*arguments)

    def wait(self, *deferreds: Deferred[Any]) -> list[Any]:
        """Make turns until all ``deferreds`` have fired, and return what they fired with."""
        outcomes = [outcome_of(deferred) for deferred in deferreds]
        self.until(lambda: all(outcomes))
        return [outcome[0] for outcome in outcomes]


def outcome_of(deferred: Deferred[Any]) -> list[Any]:
    """Return a list into which comes what ``deferred`` fires with, an error as the exception."""
    outcome: list[Any] = []
    deferred.addErrback(lambda failure: failure.value).addCallback(outcome.append)
    return outcome


@pytest.fixture
def loop() -> Loop:
    """What the calls run on."""
    return Loop()


Make = Callable[..., CommandCalls]


@pytest.fixture
def make_calls(app: App, loop: Loop) -> Iterator[Make]:
    """Makes the `CommandCalls` of the app's commands, and sees to it that nothing is left under way."""
    made = []

    def make(max_workers: int = 10) -> CommandCalls:
        made.append(CommandCalls(app.commands, loop.clock, loop.to_reactor, max_workers))
        return made[-1]

    yield make
    for calls in made:
        assert calls.running() == []
    assert loop.clock.getDelayedCalls() == []


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The warnings that are logged."""
    texts: list[str] = []

    def observe(event: LogEvent) -> None:
        if event.get("log_level") == LogLevel.warn:
            texts.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)


class Gate:
    """What a command waits for until the test lets it go on."""

    def __init__(self) -> None:
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()

    def wait(self) -> None:
        """Say that it has come so far, and wait."""
        self._entered.release()
        assert self._open.wait(PATIENCE)

    def await_entry(self, times: int = 1) -> None:
        """Wait until commands have come so far."""
        for _ in range(times):
            assert self._entered.acquire(timeout=PATIENCE)

    def open(self) -> None:
        """Let them go on, these and all to come."""
        self._open.set()


def test_result_as_json(app: App, loop: Loop, make_calls: Make) -> None:
    """A command gets its arguments in their types; its result comes as JSON."""

    @app.command
    def water(zone: int, seconds: float = 10) -> dict[str, Any]:
        return {"zone": zone, "seconds": seconds, "thread": threading.current_thread() is threading.main_thread()}

    @app.command
    async def drain(zones: list[int]) -> dict[str, Any]:
        return {"zones": zones, "thread": threading.current_thread() is threading.main_thread()}

    calls = make_calls()
    assert loop.wait(calls.call("water", {"zone": "3"}), calls.call("drain", {"zones": "4"})) == [
        b'{"zone":3,"seconds":10,"thread":false}',
        b'{"zones":[4],"thread":true}',
    ]


def test_refusals(app: App, make_calls: Make) -> None:
    """An unknown command and wrong arguments are refused before anything runs."""
    ran = []

    @app.command
    def water(zone: int) -> None:
        ran.append(zone)

    calls = make_calls()
    for name in ("", "Water", "water ", "ran.append", "water.__call__", "x" * 1000):
        with pytest.raises(UnknownCommand, match=r"there is no command .*; /cmds lists them") as unknown:
            calls.call(name, {"zone": 1})
        assert len(str(unknown.value)) < 200
    with pytest.raises(BadArguments, match='zone: expected an integer, got "'):
        calls.call("water", {"zone": "x"})
    assert calls.running() == []
    assert ran == []


def test_description(app: App, make_calls: Make) -> None:
    """`CommandCalls` tells of each command what a client needs to call it."""
    app.add_command(theBell.switch)
    app.add_command(theBell.ring)
    assert make_calls().describe() == [
        {
            "Name": "theBell.switch",
            "Args": {"onoff": "str"},
            "Doc": "Switch it.",
            "Schema": {
                "type": "object",
                "properties": {"onoff": {"type": "string"}},
                "required": ["onoff"],
                "additionalProperties": False,
            },
        },
        {
            "Name": "theBell.ring",
            "Args": {},
            "Doc": "",
            "Schema": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
        },
    ]


class Counter:
    """Counts how many calls are in it at the same time."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.calls: list[int] = []

    def count(self, number: int) -> int:
        self.inside += 1
        self.most = max(self.most, self.inside)
        threading.Event().wait(0.0005)  # lets other threads in, if there are any
        self.calls.append(number)
        self.inside -= 1
        return number

    def recount(self, number: int) -> int:
        return self.count(number)


def test_commands_of_one_object_never_overlap(app: App, loop: Loop, make_calls: Make) -> None:
    """A hundred calls at once of the commands of one object run one after the other, in order, and all end."""
    counter = Counter()
    app.add_command(counter.count)
    app.add_command(counter.recount)
    app.add_command(partial(counter.count), name="part")
    calls = make_calls()
    methods = ["counter.count", "counter.recount", "part"]
    answers = [calls.call(methods[number % 3], {"number": number}) for number in range(100)]
    assert loop.wait(*answers) == [b"%d" % number for number in range(100)]
    assert counter.most == 1
    assert counter.calls == list(range(100))


def test_calls_of_one_function_never_overlap(app: App, loop: Loop, make_calls: Make) -> None:
    """Nor do the calls of one function."""
    counter = Counter()

    @app.command
    def count(number: int) -> int:
        return counter.count(number)

    calls = make_calls()
    loop.wait(*(calls.call("count", {"number": number}) for number in range(20)))
    assert counter.most == 1


def test_different_objects_overlap(app: App, loop: Loop, make_calls: Make) -> None:
    """However many objects there are, a call of one never waits for those of the others."""
    together = threading.Barrier(20, timeout=PATIENCE)

    class Meeting:
        def meet(self) -> bool:
            return together.wait() >= 0

    meetings = [Meeting() for _ in range(20)]
    for number, meeting in enumerate(meetings):
        app.add_command(meeting.meet, name=f"meet{number}")
    calls = make_calls(max_workers=1)
    assert loop.wait(*(calls.call(f"meet{number}", {}) for number in range(20))) == [b"true"] * 20


def test_concurrent_commands(app: App, loop: Loop, make_calls: Make) -> None:
    """Calls of a concurrent command overlap, up to as many as there are workers; the others wait for one of these."""
    gate = Gate()
    counter = Counter()

    @app.command(concurrent=True)
    def count(number: int) -> int:
        counter.inside += 1
        counter.most = max(counter.most, counter.inside)
        gate.wait()
        counter.inside -= 1
        return number

    calls = make_calls(max_workers=3)
    answers = [calls.call("count", {"number": number}) for number in range(10)]
    gate.await_entry(3)
    assert counter.inside == 3
    gate.open()
    assert loop.wait(*answers) == [b"%d" % number for number in range(10)]
    assert counter.most <= 3


def test_a_hung_command(app: App, loop: Loop, make_calls: Make, warnings: list[str]) -> None:
    """One that hangs is answered in time, and keeps its object to itself until its thread returns.

    Those that wait for the object, and those that come, are told so; other objects' commands are not affected.
    """
    gate = Gate()

    class Machine:
        def hang(self) -> str:
            gate.wait()
            return "late"

        def work(self) -> str:
            return "done"

    machine, other = Machine(), Machine()
    app.add_command(machine.hang, timeout=5)
    app.add_command(machine.work)
    app.add_command(other.work)
    calls = make_calls()
    hung, waiting = outcome_of(calls.call("machine.hang", {})), outcome_of(calls.call("machine.work", {}))
    gate.await_entry()
    loop.clock.advance(4.9)
    assert (hung, waiting) == ([], [])
    loop.clock.advance(0.1)
    (timeout,), (held,) = hung, waiting
    assert isinstance(timeout, HandlerTimeout)
    assert isinstance(held, ResourceHeld)
    assert str(held) == "machine is held by 'machine.hang', which hangs"
    assert calls.running() == ["machine.hang"]
    (held_too,) = loop.wait(calls.call("machine.work", {}))
    assert isinstance(held_too, ResourceHeld)
    assert loop.wait(calls.call("other.work", {})) == [b'"done"']
    assert warnings == []

    gate.open()
    loop.until(lambda: not calls.running())
    assert warnings == ["machine.hang has ended at last; its result came too late"]
    assert loop.wait(calls.call("machine.work", {}), calls.call("machine.hang", {})) == [b'"done"', b'"late"']


def test_a_hung_function(app: App, loop: Loop, make_calls: Make) -> None:
    """A function is held up by its own hung call only, and a concurrent one not even by that."""
    gate = Gate()
    hanging = [True]

    def work() -> str:
        if hanging:
            gate.wait()
        return "done"

    app.add_command(work, timeout=5)
    app.add_command(lambda: work(), name="concurrent", timeout=5, concurrent=True)
    calls = make_calls(max_workers=2)
    hung = [outcome_of(calls.call(name, {})) for name in ("work", "concurrent")]
    gate.await_entry(2)
    loop.clock.advance(5)
    assert all(isinstance(outcome[0], HandlerTimeout) for outcome in hung)
    hanging.clear()
    held, done = loop.wait(calls.call("work", {}), calls.call("concurrent", {}))
    assert str(held) == "work is held by 'work', which hangs"
    assert done == b'"done"'
    gate.open()
    loop.until(lambda: not calls.running())


def test_a_late_error_is_logged(app: App, loop: Loop, make_calls: Make, logged_failures: list[LogEvent]) -> None:
    """What a hung command raises at last is logged with its traceback."""
    gate = Gate()

    @app.command(timeout=1)
    def hang() -> None:
        gate.wait()
        raise ZeroDivisionError

    calls = make_calls()
    calls.call("hang", {}).addErrback(lambda _: None)
    gate.await_entry()
    loop.clock.advance(1)
    gate.open()
    loop.until(lambda: not calls.running())
    (event,) = logged_failures
    assert event["log_failure"].check(ZeroDivisionError)
    assert "hang has ended at last" in formatEvent(event)
    logged_failures.clear()


def test_time_spent_waiting_counts(app: App, loop: Loop, make_calls: Make) -> None:
    """A call that has waited for its turn until its time is up is answered so, and never runs."""
    first: Deferred[None] = Deferred()
    ran: list[str] = []

    class Machine:
        async def begin(self) -> None:
            await first

        async def work(self) -> None:
            ran.append("work")

    machine = Machine()
    app.add_command(machine.begin, timeout=100)
    app.add_command(machine.work, timeout=1)
    calls = make_calls()
    calls.call("machine.begin", {})
    outcome = outcome_of(calls.call("machine.work", {}))
    loop.clock.advance(1)
    assert isinstance(outcome[0], HandlerTimeout)
    first.callback(None)
    assert ran == []
    assert calls.running() == []


def test_hundreds_may_wait(app: App, loop: Loop, make_calls: Make) -> None:
    """However many calls wait for an object, all get their turn, and one too many is told so at once."""
    first: Deferred[None] = Deferred()

    @app.command
    async def work() -> None:
        await first

    calls = make_calls()
    outcomes = [outcome_of(calls.call("work", {})) for _ in range(MOST_CALLS)]
    with pytest.raises(ResourceHeld, match="under way already"):
        calls.call("work", {})
    first.callback(None)
    assert outcomes == [[b"null"]] * MOST_CALLS
    assert outcome_of(calls.call("work", {})) == [b"null"]


def test_hung_concurrent_calls_are_bounded(app: App, loop: Loop, make_calls: Make) -> None:
    """Each call that hangs keeps a thread; when there are as many of those as workers, no more begin."""
    gate = Gate()
    app.add_command(lambda: gate.wait(), name="hang", timeout=1, concurrent=True)
    calls = make_calls(max_workers=2)
    outcomes = [outcome_of(calls.call("hang", {})) for _ in range(2)]
    gate.await_entry(2)
    loop.clock.advance(1)
    assert all(isinstance(outcome[0], HandlerTimeout) for outcome in outcomes)
    with pytest.raises(ResourceHeld, match="2 calls of concurrent commands hang"):
        calls.call("hang", {})
    gate.open()
    loop.until(lambda: not calls.running())
    loop.wait(calls.call("hang", {}))


def test_async_commands(app: App, loop: Loop, make_calls: Make) -> None:
    """Commands on the reactor take their turn, too; one past its limit is cancelled, which frees its object."""
    fires: list[Deferred[str]] = []

    class Machine:
        async def work(self) -> str:
            fires.append(Deferred())
            return await fires[-1]

        def now(self) -> Deferred[str]:
            fires.append(Deferred())
            return fires[-1]

    machine = Machine()
    app.add_command(machine.work, timeout=5)
    app.add_command(machine.now, timeout=5, reactor=True)
    calls = make_calls()
    outcomes = [outcome_of(calls.call(name, {})) for name in ("machine.work", "machine.now", "machine.work")]
    assert len(fires) == 1
    fires[0].callback("first")
    assert outcomes == [[b'"first"'], [], []]
    assert len(fires) == 2
    loop.clock.advance(5)
    assert isinstance(outcomes[1][0], HandlerTimeout)
    assert isinstance(outcomes[2][0], HandlerTimeout)  # it waited for as long
    outcome = outcome_of(calls.call("machine.work", {}))
    fires[-1].callback("fourth")
    assert outcome == [b'"fourth"']


def fail(error: BaseException) -> Any:
    """Raise ``error``."""
    raise error


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a secret"),
        SensorError("a secret"),
        UnknownCommand("a secret"),
        BadArguments([{"argument": "a secret", "message": "a secret"}]),
        SystemExit("a secret"),
        KeyboardInterrupt("a secret"),
        CancelledError(),
        DeclarationError("a secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions(
    app: App, loop: Loop, make_calls: Make, logged_failures: list[LogEvent], error: BaseException
) -> None:
    """Whatever a command raises is logged under an incident; the client gets its id, and nothing of the text."""
    app.add_command(lambda: fail(error), name="in a thread")

    async def on_the_reactor() -> None:
        fail(error)

    app.add_command(on_the_reactor)
    calls = make_calls()
    names = ["in a thread", "on_the_reactor"] if isinstance(error, Exception) else ["in a thread"]
    for name in names:
        (failed,) = loop.wait(calls.call(name, {}))
        assert isinstance(failed, HandlerFailed)
        assert str(failed) == f"the command {name} failed"
        (event,) = logged_failures
        assert event["log_failure"].value is error
        assert formatEvent(event) == f"{name} failed, incident {failed.incident}"
        logged_failures.clear()


def test_data_errors_of_a_command(app: App, loop: Loop, make_calls: Make, logged_failures: list[LogEvent]) -> None:
    """A command that gives the data tree what it refuses has failed, as with any other error."""

    @app.command
    def store() -> None:
        app.data["it"] = object()

    (failed,) = loop.wait(make_calls().call("store", {}))
    assert str(failed) == "the command store failed"
    (event,) = logged_failures
    assert failed.incident in formatEvent(event)
    logged_failures.clear()


@dataclass
class Reading:
    """A result with a name for each part."""

    value: float
    text: str


@pytest.mark.parametrize(
    ("result", "json"),
    [
        (None, b"null"),
        (math.nan, b"null"),
        ([1, math.inf, {"a": -math.inf}], b'[1,null,{"a":null}]'),
        (Reading(1.5, "é"), '{"value":1.5,"text":"é"}'.encode()),
        ({1}, b"[1]"),
        (10**30, b"1" + b"0" * 30),
    ],
    ids=repr,
)
def test_results(app: App, loop: Loop, make_calls: Make, result: object, json: bytes) -> None:
    """All that the data tree takes may be a result; what JSON has no number for is null."""
    app.add_command(lambda: result, name="it")
    assert loop.wait(make_calls().call("it", {})) == [json]


class Hostile:
    """What raises when it is read."""

    def __iter__(self) -> Iterator[int]:
        raise KeyError("a secret")


def endless() -> list[Any]:
    """Return a list that holds itself."""
    result: list[Any] = []
    result.append(result)
    return result


@pytest.mark.parametrize(
    "result",
    [object(), b"bytes", {1: 2}, {"a": [object()]}, "\ud800", endless(), type("L", (list,), dict(vars(Hostile)))([1])],
    ids=lambda result: type(result).__name__,
)
def test_results_that_cannot_be_served(
    app: App, loop: Loop, make_calls: Make, logged_failures: list[LogEvent], result: object
) -> None:
    """A result that JSON cannot express is a failure of the command, which has run."""
    app.add_command(lambda: result, name="it")
    (failed,) = loop.wait(make_calls().call("it", {}))
    assert isinstance(failed, HandlerFailed)
    assert str(failed) == "the command it returned what cannot be served as JSON"
    (event,) = logged_failures
    assert failed.incident in formatEvent(event)
    assert event["log_failure"].getErrorMessage().startswith("the result: ")
    logged_failures.clear()


def test_repeated_failures(app: App, loop: Loop, make_calls: Make, logged_failures: list[LogEvent]) -> None:
    """A command that a client calls in a loop logs one traceback a day and few lines; each answer has its incident."""
    app.add_command(lambda: 1 // 0, name="raises")
    app.add_command(lambda: object(), name="unserializable")
    calls = make_calls()
    for name in ("raises", "unserializable"):
        incidents = []
        for _ in range(5):
            (failed,) = loop.wait(calls.call(name, {}))
            assert isinstance(failed, HandlerFailed)
            incidents.append(failed.incident)
            loop.clock.advance(20)
        assert len(set(incidents)) == 1
        assert ["log_failure" in event for event in logged_failures] == [True, False]
        assert all(incidents[0] in formatEvent(event) for event in logged_failures)
        logged_failures.clear()
        loop.clock.advance(DAY)
        (failed,) = loop.wait(calls.call(name, {}))
        assert failed.incident != incidents[0]
        assert ["log_failure" in event for event in logged_failures] == [True]
        logged_failures.clear()


def test_what_a_command_finds_around_itself(app: App, loop: Loop) -> None:
    """Commands find the daemon's broadcast and cache behind the proxies, and their own name for the log."""

    def find() -> Any:
        return [broadcast[0], cache[0], scope.get().name]

    app.add_command(find, name="it")
    app.add_command(find, name="concurrent", concurrent=True)
    calls = CommandCalls(app.commands, loop.clock, loop.to_reactor, 1, DaemonScope(["b"], ["c"]))
    assert loop.wait(calls.call("it", {})) == [b'["b","c","it"]']
    assert loop.wait(calls.call("concurrent", {})) == [b'["b","c","concurrent"]']


def test_def_that_returns_a_coroutine(app: App, loop: Loop, make_calls: Make, logged_failures: list[LogEvent]) -> None:
    """A plain def that returns a coroutine is an error, which says in the log what to do."""

    async def work() -> None: ...

    app.add_command(lambda: work(), name="it")
    (failed,) = loop.wait(make_calls().call("it", {}))
    assert isinstance(failed, HandlerFailed)
    (event,) = logged_failures
    assert "make it an async def, or declare it with reactor=True" in event["log_failure"].getErrorMessage()
    logged_failures.clear()


def test_a_client_that_gives_up(app: App, loop: Loop, make_calls: Make) -> None:
    """To cancel the answer leaves the command running, to its end: in a thread, on the reactor, and in the queue."""
    gate = Gate()
    fire: Deferred[None] = Deferred()
    ended: list[str] = []

    class Machine:
        def work(self, what: str) -> None:
            gate.wait()
            ended.append(what)

    machine = Machine()
    app.add_command(machine.work)

    @app.command
    async def on_the_reactor() -> None:
        await fire
        ended.append("async")

    calls = make_calls()
    answers = [
        calls.call("machine.work", {"what": "running"}),
        calls.call("machine.work", {"what": "waiting"}),
        calls.call("on_the_reactor", {}),
    ]
    gate.await_entry()
    outcomes = [outcome_of(answer) for answer in answers]
    for answer in answers:
        answer.cancel()
    assert all(isinstance(outcome[0], CancelledError) for outcome in outcomes)
    gate.open()
    fire.callback(None)
    loop.until(lambda: not calls.running())
    assert ended == ["async", "running", "waiting"]


def test_error_that_nobody_waits_for(app: App, loop: Loop, make_calls: Make, logged_failures: list[LogEvent]) -> None:
    """A command whose client has given up is still heard of in the log when it fails."""
    gate = Gate()

    @app.command
    def work() -> None:
        gate.wait()
        raise ZeroDivisionError

    calls = make_calls()
    answer = calls.call("work", {})
    answer.addErrback(lambda failure: failure.trap(CancelledError))
    gate.await_entry()
    answer.cancel()
    gate.open()
    loop.until(lambda: not calls.running())
    assert [event["log_failure"].type for event in logged_failures] == [ZeroDivisionError]
    logged_failures.clear()


def test_context(app: App, loop: Loop, make_calls: Make) -> None:
    """A command runs in a copy of the context that called it: what it sets there is not seen by others."""
    who: ContextVar[str] = ContextVar("who", default="nobody")

    @app.command
    def ask() -> str:
        before = who.get()
        who.set("the command")
        return before

    calls = make_calls()
    who.set("the caller")
    assert loop.wait(calls.call("ask", {}), calls.call("ask", {})) == [b'"the caller"'] * 2
    assert who.get() == "the caller"


def test_stop(app: App, loop: Loop, make_calls: Make) -> None:
    """A stop gives up what waits, waits for what runs, and does not wait for what is stuck."""
    gates = [Gate(), Gate()]

    class Machine:
        def hang(self) -> None:
            gates[0].wait()

        def work(self) -> str:
            gates[1].wait()
            return "done"

    stuck, busy = Machine(), Machine()
    app.add_command(stuck.hang, timeout=1)
    app.add_command(busy.work)
    calls = make_calls()
    calls.call("stuck.hang", {}).addErrback(lambda _: None)
    gates[0].await_entry()
    loop.clock.advance(1)
    running, waiting = outcome_of(calls.call("busy.work", {})), outcome_of(calls.call("busy.work", {}))
    gates[1].await_entry()
    stopped = outcome_of(calls.stop())
    assert isinstance(waiting[0], Cancelled)
    assert sorted(calls.running()) == ["busy.work", "stuck.hang"]
    assert (running, stopped) == ([], [])
    gates[1].open()
    loop.until(lambda: stopped)
    assert running == [b'"done"']
    assert calls.running() == ["stuck.hang"]
    gates[0].open()
    loop.until(lambda: not calls.running())


def test_stop_without_calls(make_calls: Make) -> None:
    """Where nothing runs a stop is done at once."""
    assert len(outcome_of(make_calls().stop())) == 1


def test_no_thread_to_be_had(app: App, loop: Loop, make_calls: Make, logged_failures: list[LogEvent]) -> None:
    """If the system gives us no thread, the call has failed, and the next one tries again."""
    app.add_command(theBell.ring)
    calls = make_calls()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda self: fail(RuntimeError("can't start new thread")))
        (failed,) = loop.wait(calls.call("theBell.ring", {}))
    assert isinstance(failed, HandlerFailed)
    assert isinstance(logged_failures[0]["log_failure"], Failure)
    logged_failures.clear()
    assert loop.wait(calls.call("theBell.ring", {})) == [b'"ding"']
