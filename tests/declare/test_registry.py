"""Declaring: what is right is kept as it was said, what is wrong is refused at its line, and nothing starts."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from naming import shown
from twisted.internet.defer import inlineCallbacks, succeed

from rpiserve import App, Handler
from rpiserve.declare.base import Polled
from rpiserve.declare.handler import Where
from rpiserve.declare.registry import Registry
from rpiserve.errors import DeclarationError


def read() -> float:
    """Return a reading."""
    return 1.0


async def fetch() -> float:
    """Return a reading, on the reactor."""
    return 1.0


def stream() -> Iterator[float]:
    """Run nothing when called."""
    yield 1.0


def convert(value: float) -> float:
    """Take an argument."""
    return value


def loop(running: Callable[[], bool]) -> None:
    """Run for long."""


async def asynchronous_loop(running: Callable[[], bool]) -> None:
    """Run for long, on the reactor, where there is no thread."""


class Meter(Handler):
    """A handler."""

    def invoke(self) -> None:
        """Do nothing."""


class Unfinished(Handler):
    """A handler that does nothing."""

    def prepare(self) -> None:
        """Prepare nothing."""


class Asynchronous(Handler):
    """A handler that runs on the reactor."""

    async def prepare(self) -> None:
        """Prepare nothing."""

    async def invoke(self) -> None:
        """Do nothing."""


class Streaming(Handler):
    """A handler whose `invoke` runs nothing."""

    def invoke(self) -> Iterator[None]:
        """Run nothing."""
        yield


@pytest.fixture
def registry() -> Registry:
    """A registry with nothing in it."""
    return Registry()


def refused(registry: Registry, declare: Callable[[], object], *texts: str) -> None:
    """Assert that ``declare`` is refused with all of ``texts`` in the error, and has left nothing behind."""
    before = contents(registry)
    with pytest.raises(DeclarationError) as caught:
        declare()
    assert contents(registry) == before
    for text in texts:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def contents(registry: Registry) -> tuple[list[Any], ...]:
    """Return all that is in a registry."""
    return tuple(
        list(part)
        for part in (
            registry.polled,
            registry.threads,
            registry.start_hooks,
            registry.stop_hooks,
            sorted(registry._names),
        )
    )


def names(registry: Registry) -> list[str]:
    """Return the names of the polled handlers."""
    return [polled.function.name for polled in registry.polled]


def only(registry: Registry) -> Polled:
    """Return the one polled handler."""
    [polled] = registry.polled
    return polled


# --- what is right ------------------------------------------------------------------------------


def test_sensor(registry: Registry) -> None:
    """A sensor is named by its path, keeps all that was said of it, and its function is returned as it is."""
    returned = registry.sensor(
        "basement/party_room", every=30, unit="°C", timeout=5, stale_after=90, fixed_delay=True, bus="i2c-1"
    )(read)
    assert returned is read
    polled = only(registry)
    assert (polled.kind, polled.function.name, polled.function.call) == ("sensor", "basement/party_room", read)
    assert polled.path == ("basement", "party_room")
    assert (polled.trigger.interval, polled.timeout, polled.max_age) == (30, 5, 90)
    assert (polled.trigger.fixed_delay, polled.bus, polled.units) == (True, "i2c-1", "°C")
    assert (polled.handler, polled.prepare, polled.function.where) == (None, None, Where.THREAD)


@pytest.mark.parametrize(("every", "timeout", "max_age"), [(60, 60, 125), (1, 10, 7), (0.01, 10, 5.02), (9.5, 10, 24)])
def test_default_times(registry: Registry, every: float, timeout: float, max_age: float) -> None:
    """A run may take its interval, at least 10 s; a value is stale after two intervals and 5 s."""
    registry.sensor("a", every=every)(read)
    assert (only(registry).timeout, only(registry).max_age) == (timeout, max_age)


def test_sensor_defaults(registry: Registry) -> None:
    """Only the path has to be said: each minute, at a fixed rate, on no bus and without a unit."""
    registry.sensor("a")(read)
    polled = only(registry)
    assert (polled.trigger.interval, polled.trigger.fixed_delay, polled.bus, polled.units) == (60, False, None, None)


def test_units_of_a_mapping(registry: Registry) -> None:
    """Units are given by the paths below the sensor's, with their escapes; the empty one is the reading itself."""
    registry.sensor("a", unit={"x": "V", "y/z": "A", "p%2Fq": "W", "": "Hz"})(read)
    assert only(registry).units == {("x",): "V", ("y", "z"): "A", ("p/q",): "W", (): "Hz"}


def test_sensors_side_by_side(registry: Registry) -> None:
    """Paths that only begin alike do not overlap, nor does a key with a slash overlap a path."""
    for path in ("a/b", "a/bc", "a/c", "a%2Fb", "ab"):
        registry.sensor(path)(read)
    assert len(registry.polled) == 5


def test_every_with_a_function(registry: Registry) -> None:
    """A function gets its own name, and the arguments mean what they mean for a sensor."""
    assert registry.every(5, read, timeout=3, stale_after=7, fixed_delay=True, bus="spi", reactor=True) is None
    polled = only(registry)
    assert (polled.kind, polled.function.name, polled.function.call) == ("every", "read", read)
    assert (polled.trigger.interval, polled.timeout, polled.max_age) == (5, 3, 7)
    assert (polled.trigger.fixed_delay, polled.bus, polled.path, polled.handler) == (True, "spi", None, None)
    assert polled.function.where is Where.REACTOR


def test_every_with_a_handler(registry: Registry) -> None:
    """A handler gets its class's name; both of its methods are declared."""
    meter = Meter()
    registry.every(5, meter)
    polled = only(registry)
    assert polled.handler is meter
    assert polled.function.name == "Meter"
    assert polled.function.call == meter.invoke
    assert polled.prepare is not None
    assert (polled.prepare.name, polled.prepare.call) == ("Meter.prepare", meter.prepare)


@pytest.mark.parametrize(
    ("handler", "options", "where"),
    [
        (Meter(), {}, Where.THREAD),
        (Meter(), {"reactor": True}, Where.REACTOR),
        (Asynchronous(), {}, Where.REACTOR),
    ],
)
def test_where_a_handler_runs(registry: Registry, handler: Handler, options: dict[str, bool], where: Where) -> None:
    """Both methods of a handler run where they say, or where ``reactor=True`` says."""
    registry.every(5, handler, **options)
    polled = only(registry)
    assert polled.prepare is not None
    assert {polled.function.where, polled.prepare.where} == {where}


def test_default_names_are_numbered(registry: Registry) -> None:
    """What would have the same name gets a number, which no other name has, however it came to be."""
    registry.every(1, Meter())
    registry.every(1, Meter(), name="Meter-2")
    registry.every(1, Meter())
    registry.every(1, Meter())
    registry.every(1, read)
    registry.every(1, read)
    registry.background("fetch", 1)(fetch)
    registry.every(1, fetch)
    assert names(registry) == ["Meter", "Meter-2", "Meter-3", "Meter-4", "read", "read-2", "fetch", "fetch-2"]


def test_names_of_all_kinds_of_functions(registry: Registry) -> None:
    """Whatever can be called has a name by default: a method with its class, an object by its class."""

    class Clock:
        def __call__(self) -> None: ...

        def tick(self) -> None: ...

    for function in (Clock(), Clock().tick, functools.partial(convert, 1), [].copy):
        registry.every(1, function)
    qualified = "test_names_of_all_kinds_of_functions.<locals>.Clock.tick"
    assert names(registry) == ["Clock", qualified, "partial", "list.copy"]


def test_inline_callbacks(registry: Registry) -> None:
    """An ``inlineCallbacks`` function, which looks like a plain one, runs on the reactor where that was said."""

    @registry.sensor("power", reactor=True)
    @inlineCallbacks
    def power() -> Any:
        yield succeed(None)
        return 5

    assert only(registry).function.where is Where.REACTOR


def test_background(registry: Registry) -> None:
    """A background function has the name and the interval that it was given."""
    assert registry.background("health_check", 30, timeout=3, fixed_delay=True, bus="b", reactor=True)(read) is read
    polled = only(registry)
    assert (polled.kind, polled.function.name, polled.trigger.interval) == ("background", "health_check", 30)
    assert (polled.timeout, polled.max_age, polled.trigger.fixed_delay, polled.bus) == (3, 65, True, "b")
    assert polled.function.where is Where.REACTOR


def test_thread(registry: Registry) -> None:
    """A thread's function is kept by its name and returned as it is."""
    assert registry.thread("serial")(loop) is loop
    [function] = registry.threads
    assert (function.name, function.call, function.where) == ("serial", loop, Where.THREAD)


def test_hooks(registry: Registry) -> None:
    """Any number of hooks may be declared, the same function too; they keep their order and say what they are."""
    assert registry.on_start()(read) is read
    registry.on_start()(fetch)
    registry.on_start()(read)
    assert registry.on_stop(reactor=True)(read) is read
    starts = [(hook.name, hook.where) for hook in registry.start_hooks]
    assert starts == [
        ("on_start read", Where.THREAD),
        ("on_start fetch", Where.REACTOR),
        ("on_start read", Where.THREAD),
    ]
    assert [(hook.name, hook.where) for hook in registry.stop_hooks] == [("on_stop read", Where.REACTOR)]


def test_thread_count(registry: Registry) -> None:
    """All that can run at the same time is counted, once: `prepare` never runs beside its `invoke`."""
    registry.sensor("a")(read)
    registry.every(1, Meter())
    registry.background("b", 1)(fetch)
    registry.thread("serial")(loop)
    registry.on_start()(read)
    registry.on_stop()(read)
    assert registry.thread_count() == 5  # fetch runs on the reactor


def test_prepare_counts_if_it_alone_is_in_a_thread(registry: Registry) -> None:
    """A handler whose `prepare` blocks needs a thread, even if its `invoke` does not; it would never start without."""

    class Split(Handler):
        def prepare(self) -> None: ...

        async def invoke(self) -> None: ...

    registry.every(1, Split())
    assert registry.thread_count() == 1


def test_registries_share_nothing() -> None:
    """Two registries may declare the same names and paths."""
    for registry in (Registry(), Registry()):
        registry.sensor("a")(read)
        registry.background("b", 1)(read)


# --- what is wrong ------------------------------------------------------------------------------

NO_SECONDS = [
    0,
    0.0,
    -1,
    -0.5,
    1e-3,
    float("nan"),
    float("inf"),
    -float("inf"),
    True,
    False,
    "5",
    None,
    [5],
    1e10,
    10**400,
]


@pytest.mark.parametrize("every", NO_SECONDS, ids=repr)
def test_intervals_that_are_none(registry: Registry, every: Any) -> None:
    """Only a number of seconds that a clock can measure is an interval, wherever one is declared."""
    refused(registry, lambda: registry.sensor("a", every=every)(read), "a: interval is ", "number of seconds")
    refused(registry, lambda: registry.every(every, read), "read: interval is ", "number of seconds")
    refused(registry, lambda: registry.every(every, Meter()), "Meter: interval is ", "number of seconds")
    refused(registry, lambda: registry.background("b", every)(read), "b: interval is ", "number of seconds")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5", [5], 10**400], ids=repr)
def test_times_that_are_none(registry: Registry, seconds: Any) -> None:
    """Nor may anything else be a time limit or an age."""
    refused(registry, lambda: registry.sensor("a", timeout=seconds)(read), "a: timeout is ")
    refused(registry, lambda: registry.sensor("a", stale_after=seconds)(read), "a: stale_after is ")
    refused(registry, lambda: registry.every(5, read, timeout=seconds), "read: timeout is ")
    refused(registry, lambda: registry.every(5, read, stale_after=seconds), "read: stale_after is ")
    refused(registry, lambda: registry.background("b", 5, timeout=seconds)(read), "b: timeout is ")


@pytest.mark.parametrize("bus", ["", " ", 1, True, b"i2c-1", ("i2c", 1), "\udc80"], ids=repr)
def test_buses_that_are_none(registry: Registry, bus: Any) -> None:
    """A bus has a name; nothing else can be one, and no handler shares "" by accident."""
    refused(registry, lambda: registry.sensor("a", bus=bus)(read), "a: bus is ", "'i2c-1'")
    refused(registry, lambda: registry.every(5, read, bus=bus), "read: bus is ")
    refused(registry, lambda: registry.background("b", 5, bus=bus)(read), "b: bus is ")


@pytest.mark.parametrize("path", ["/a", "a/", "a//b", "a/./b", "..", "a\0", "\udc80", None, 5, b"a"], ids=repr)
def test_bad_paths(registry: Registry, path: Any) -> None:
    """A path that the data tree cannot have is refused."""
    refused(registry, lambda: registry.sensor(path), "a sensor cannot stand there")


WRITTEN: list[tuple[Callable[[Any], object], str, str]] = [
    (lambda app: app.sensor(read), "a function is no path", "@app.sensor('a/path', every=60)"),
    (lambda app: app.background(read), "a function is no name", "@app.background('a_name', 60)"),
    (lambda app: app.thread(loop), "a function is no name", "@app.thread('a_name')"),
    (lambda app: app.cron(read), "a function is no line", "@app.cron('0 6 * * mon-fri')"),
    (lambda app: app.action(read), "a function is no name", "@app.action('a_name')"),
    (lambda app: app.listen(read), "a function is no channel", "@app.listen('a.channel')"),
    (lambda app: app.route(read), "a function is no path", "@app.route('/a/path')"),
    (lambda app: app.every(read), "every(): missing a required argument: 'handler'", "app.every(60, a_function)"),
    (lambda app: app.every(60), "every(): missing a required argument: 'handler'", "@app.background('a_name', 60)"),
    (lambda app: app.background("x"), "background(): missing a required argument: 'interval'", "@app.background("),
    (lambda app: app.sensor("a", evry=5), "sensor(): got an unexpected keyword argument 'evry'", "every=60"),
    (lambda app: app.schedule(), "schedule(): missing a required argument: 'handler'", "app.schedule(a_function"),
    (lambda app: app.command("water"), "'water' is no function", "name=…"),
    (lambda app: app.command(nam="x"), "command(): got an unexpected keyword argument 'nam'", "name='a_name'"),
    (lambda app: app.add_command(), "add_command(): missing a required argument", "app.add_command(a_function)"),
    (lambda app: app.on_start(read, 1), "on_start(): too many positional arguments", "@app.on_start()"),
    (lambda app: app.cors(), "cors(): missing a required argument: 'allowed_origins'", "app.cors(["),
]


@pytest.mark.parametrize(("declare", "wrong", "right"), WRITTEN)
def test_wrong_calls(registry: Registry, declare: Callable[[Any], object], wrong: str, right: str) -> None:
    """Whoever forgets parentheses or an argument is told what is missing, and how it is written."""
    refused(registry, lambda: declare(registry), wrong, right)


@pytest.mark.parametrize("declare", [lambda: App.sensor("a", every=5), lambda: App.on_start()], ids=["sensor", "hook"])  # type: ignore[arg-type, call-arg, misc]
def test_class_in_the_place_of_an_app(declare: Callable[[], object]) -> None:
    """What is declared on the class itself is refused: there is no app yet."""
    with pytest.raises(DeclarationError, match=r"is called on a class; make an app of it first: app = App\('a_name'\)"):
        declare()


def test_hooks_without_parentheses(registry: Registry) -> None:
    """`on_start` and `on_stop` are decorators with or without parentheses."""
    assert registry.on_start(read) is read
    assert registry.on_stop(read) is read
    assert [hook.call for hook in (*registry.start_hooks, *registry.stop_hooks)] == [read, read]


def test_empty_path(registry: Registry) -> None:
    """No sensor can take the whole tree."""
    refused(registry, lambda: registry.sensor(""), "path is empty")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "a"),
        ("a/b", "a"),
        ("a", "a/b"),
        ("a/b", "a/b/c/d"),
        ("a%2Fb", "a%2fb"),
        ("a%2Fb/c", "a%2Fb"),
        ("50%", "50%25"),
    ],
)
def test_overlapping_sensors(registry: Registry, one: str, other: str) -> None:
    """A sensor on, above or below another is refused, in whatever way the path is written; the error names both."""
    registry.sensor(one)(read)
    refused(registry, lambda: registry.sensor(other)(read), "overlaps the sensor", repr(other))


def test_overlapping_sensors_by_a_decorator_made_before(registry: Registry) -> None:
    """What counts is what has been declared when a function is, not when its decorator was made."""
    above, below = registry.sensor("a"), registry.sensor("a/b")
    above(read)
    refused(registry, lambda: below(read), "'a/b' overlaps the sensor 'a'")
    refused(registry, lambda: above(fetch), "'a' overlaps the sensor 'a'")


@pytest.mark.parametrize("unit", [5, b"V", ["V"], {"x": 5}, {"x": None}, "\udc80", {"x": "\udc80"}], ids=repr)
def test_bad_units(registry: Registry, unit: Any) -> None:
    """A unit is a text, or a mapping to texts."""
    refused(registry, lambda: registry.sensor("a", unit=unit), "a: unit is ")


@pytest.mark.parametrize("unit", [{"x/": "V"}, {5: "V"}, {"..": "V"}], ids=repr)
def test_bad_places_of_units(registry: Registry, unit: Mapping[Any, str]) -> None:
    """The keys of a mapping of units are paths."""
    refused(registry, lambda: registry.sensor("a", unit=unit), "a: unit: ")


@pytest.mark.parametrize("name", ["", "  ", "\n", 5, b"a", ["a"], "\udc80", read, loop], ids=shown)
def test_bad_names(registry: Registry, name: Any) -> None:
    """A name is a text with something in it. A function in its place means that the parentheses are missing."""
    refused(registry, lambda: registry.every(1, read, name=name), "is no name")
    refused(registry, lambda: registry.background(name, 1), "is no name")
    refused(registry, lambda: registry.thread(name), "is no name")
    refused(registry, lambda: registry.background(None, 1), "is no name")  # type: ignore[arg-type]
    refused(registry, lambda: registry.thread(None), "is no name")  # type: ignore[arg-type]


def test_names_that_are_taken(registry: Registry) -> None:
    """A name stands for one thing, of whatever kind; the error says which name it is."""
    registry.sensor("taken")(read)
    refused(registry, lambda: registry.every(1, read, name="taken"), "'taken' is declared already")
    refused(registry, lambda: registry.background("taken", 1)(read), "'taken' is declared already")
    refused(registry, lambda: registry.thread("taken")(loop), "'taken' is declared already")
    registry.thread("serial")(loop)
    refused(registry, lambda: registry.sensor("serial")(read), "'serial' is declared already")
    registry.background("check", 1)(read)
    again = registry.background("again", 1)
    again(read)
    refused(registry, lambda: again(fetch), "'again' is declared already")


def test_handler_class(registry: Registry) -> None:
    """A class in place of a handler is refused with what to write instead."""
    refused(registry, lambda: registry.every(1, Meter), "not a class", "write Meter()")


def test_handler_without_invoke(registry: Registry) -> None:
    """A handler that would do nothing is refused by the name of its class."""
    refused(registry, lambda: registry.every(1, Unfinished()), "the class Unfinished has no invoke()")


def test_handler_twice(registry: Registry) -> None:
    """One handler cannot run in two places at once."""
    meter = Meter()
    registry.every(1, meter)
    refused(registry, lambda: registry.every(2, meter), "this handler is declared already")
    registry.every(2, Meter())


def test_handler_that_yields(registry: Registry) -> None:
    """The methods of a handler are looked at as any other function is."""
    refused(registry, lambda: registry.every(1, Streaming()), "Streaming: a function with 'yield' in it")


@pytest.mark.parametrize(
    ("function", "text"), [(5, "is no function"), (None, "is no function"), (stream, "'yield'"), (convert, "without")]
)
def test_functions_that_cannot_be_run(registry: Registry, function: Any, text: str) -> None:
    """What cannot be called without arguments, or would run nothing then, is refused wherever it is declared."""
    refused(registry, lambda: registry.sensor("a")(function), "a: ", text)
    refused(registry, lambda: registry.every(1, function), text)
    refused(registry, lambda: registry.background("b", 1)(function), "b: ", text)
    refused(registry, lambda: registry.on_start()(function), "on_start ", text)
    refused(registry, lambda: registry.on_stop()(function), "on_stop ", text)


@pytest.mark.parametrize(
    ("function", "text"), [(asynchronous_loop, "an async def has no thread"), (read, "running"), (5, "is no function")]
)
def test_functions_that_are_no_threads(registry: Registry, function: Any, text: str) -> None:
    """A thread's function is a plain one that takes ``running``."""
    refused(registry, lambda: registry.thread("serial")(function), "serial: ", text)


def test_what_was_refused_can_be_declared_right(registry: Registry) -> None:
    """A refused declaration claims nothing: neither its name nor its path."""
    refused(registry, lambda: registry.sensor("a", every=0)(read))
    refused(registry, lambda: registry.every(0, read, name="b"))
    refused(registry, lambda: registry.thread("c")(read))
    registry.sensor("a")(read)
    registry.every(1, read, name="b")
    registry.thread("c")(loop)


# --- the app ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "a" * 65, "a\n", None, 5], ids=repr)
def test_bad_app_names(name: Any) -> None:
    """The name of an app has to do as the name of a channel, too."""
    with pytest.raises(DeclarationError, match="1 to 64 letters"):
        App(name)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "5", None], ids=repr)
def test_bad_app_workers(workers: Any) -> None:
    """The number of workers is a whole number of at least 1."""
    with pytest.raises(DeclarationError, match="at least 1"):
        App("greenhouse", max_workers=workers)


def test_app() -> None:
    """An app has its name, its own tree, and all that a registry has."""
    one, other = App("a" * 64, max_workers=1), App("greenhouse-2.north_side")
    one.data.set("a", 1)
    assert one.data.at("a") == 1
    assert "a" not in other.data
    assert (one.max_workers, other.max_workers) == (1, 10)
    assert one.data.revision != other.data.revision
    one.sensor("b")(read)
    assert names(one) == ["b"]


# In a process of its own: what an import does can only be seen where nothing has been imported yet.
OBSERVED_IMPORT = """
import json, sys, threading

import attrs, msgspec, twisted.internet.defer, twisted.internet.task, twisted.logger, twisted.python.failure
import asyncio, uuid  # the libraries are loaded: what is opened from here on is rpiserve's own doing

events = []
def observe(event, arguments):
    if event in ("open", "subprocess.Popen") or event.startswith(("socket", "os.", "_thread", "signal")):
        events.append([event, [str(argument) for argument in arguments]])
sys.addaudithook(observe)

import rpiserve
app = rpiserve.App("greenhouse")
app.sensor("a")(lambda: 1)
app.thread("b")(lambda running: None)
app.data.set("c", 1)

print(json.dumps({
    "modules": sorted(sys.modules),
    "threads": threading.active_count(),
    "events": events,
}))
"""


def test_importing_starts_nothing() -> None:
    """To import rpiserve and to declare an app installs no reactor, starts no thread, and opens only Python's files."""
    process = subprocess.run(
        [sys.executable, "-B", "-W", "error::ResourceWarning", "-c", OBSERVED_IMPORT],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert process.stderr == ""
    seen = json.loads(process.stdout)
    modules = set(seen["modules"])
    assert "rpiserve.app" in modules
    assert not modules & {"twisted.internet.reactor", "klein", "txredisapi", "treq", "twisted.web.server"}
    assert seen["threads"] == 1
    not_python = [
        [event, arguments]
        for event, arguments in seen["events"]
        if not (event in ("open", "os.listdir", "os.scandir") and is_import(arguments))
    ]
    assert not_python == []


def is_import(arguments: list[str]) -> bool:
    """Tell whether what was opened is what Python opens to import a module."""
    path = arguments[0]
    reading = len(arguments) < 2 or arguments[1] in ("r", "rb", "None")
    return reading and any(path.startswith(place) for place in sys.path if place)
