"""What an app declares. Declaring starts nothing, opens nothing and needs no reactor."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, TypeGuard, TypeVar

import attrs

from rpiserve.data import Units
from rpiserve.errors import DeclarationError, PathError
from rpiserve.handler import Handler, UserFunction, Where
from rpiserve.paths import Path, format_path, overlap, parse_path

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

SHORTEST_INTERVAL = 0.01
"""In seconds. Anything shorter is a loop, which belongs into a thread of its own."""

LONGEST_INTERVAL = 1e9
"""In seconds, some thirty years. For anything much longer there are no dates, and an infinity is never over."""


@attrs.frozen(eq=False)
class Polled:
    """A handler that runs again and again.

    Attributes:
        kind: what declared it: ``sensor``, ``every`` or ``background``.
        function: what runs each time.
        prepare: what runs once before, for a `Handler`.
        handler: the `Handler` itself, if it is one.
        interval: seconds from one run to the next.
        fixed_delay: counted from the end of a run instead of its start.
        timeout: seconds that a run may take.
        max_age: seconds after which what it wrote is stale.
        bus: the name of the hardware bus that it shares with other handlers.
        path: where a sensor's readings go.
        units: their units.
    """

    kind: str
    function: UserFunction
    prepare: UserFunction | None
    handler: Handler | None
    interval: float
    fixed_delay: bool
    timeout: float
    max_age: float
    bus: str | None
    path: Path | None = None
    units: Units = None


class Registry:
    """The declarations of an app. Each method checks what it is given and raises `DeclarationError` at that line."""

    def __init__(self) -> None:
        self.polled: list[Polled] = []
        self.threads: list[UserFunction] = []
        self.start_hooks: list[UserFunction] = []
        self.stop_hooks: list[UserFunction] = []
        self._names: set[str] = set()

    def sensor(
        self,
        path: str,
        every: float = 60,
        *,
        unit: str | Mapping[str, str] | None = None,
        timeout: float | None = None,
        stale_after: float | None = None,
        fixed_delay: bool = False,
        bus: str | None = None,
        reactor: bool = False,
    ) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function whose readings go into the data tree.

        It takes no arguments. A mapping that it returns replaces all below ``path``; None is a failed reading.

        Args:
            path: where its readings go, as keys joined by ``/``. It is the sensor's name, too.
            every: the interval in seconds.
            unit: the unit of the reading; of each value in a mapping; or a mapping from their paths below ``path``.
            timeout: seconds that a reading may take; the interval, at least 10, by default.
            stale_after: seconds without a good reading until the value is stale; ``2 × every + 5`` by default.
            fixed_delay: count the interval from the end of a reading instead of its start.
            bus: the name of a hardware bus; handlers that name the same one never run at the same time.
            reactor: run a plain ``def`` on the reactor, where it must not block.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: an argument is wrong, or the path overlaps that of another sensor.
        """
        where = _sensor_path(path)
        units = _units(path, unit)

        def declare(function: AnyFunction) -> AnyFunction:
            for other in self.polled:
                if other.path is not None and overlap(where, other.path):
                    raise DeclarationError(
                        f"the sensor {path!r} overlaps the sensor {format_path(other.path)!r}; "
                        "each has a place of its own"
                    )
            user_function = UserFunction.declare(path, function, reactor=reactor)
            polled = _polled("sensor", user_function, every, fixed_delay, timeout, stale_after, bus)
            self._claim(path)
            self.polled.append(attrs.evolve(polled, path=where, units=units))
            return function

        return declare

    def every(
        self,
        interval: float,
        handler: Handler | Callable[[], Any],
        *,
        name: str | None = None,
        timeout: float | None = None,
        stale_after: float | None = None,
        fixed_delay: bool = False,
        bus: str | None = None,
        reactor: bool = False,
    ) -> None:
        """Declare a `Handler`, or a function without arguments, that runs every ``interval`` seconds.

        Args:
            interval: seconds from one run to the next.
            handler: what runs.
            name: its name; that of its class or function by default, numbered if it is taken.
            timeout: seconds that a run may take; the interval, at least 10, by default.
            stale_after: seconds until what it wrote through its ``data`` is stale; ``2 × interval + 5`` by default.
            fixed_delay: count the interval from the end of a run instead of its start.
            bus: the name of a hardware bus; handlers that name the same one never run at the same time.
            reactor: run a plain ``def`` on the reactor, where it must not block.

        Raises:
            DeclarationError: an argument is wrong, or the name or the `Handler` is declared already.
        """
        if isinstance(handler, type):
            raise DeclarationError(f"every() takes a handler, not a class: write {handler.__name__}()")
        if name is None:
            name = self._free_name(type(handler).__name__ if isinstance(handler, Handler) else _name_of(handler))
        _checked_name(name)
        prepare = None
        if isinstance(handler, Handler):
            if type(handler).invoke is Handler.invoke:
                raise DeclarationError(f"{name}: the class {type(handler).__name__} has no invoke() of its own")
            if any(other.handler is handler for other in self.polled):
                raise DeclarationError(f"{name}: this handler is declared already; make a second one")
            prepare = UserFunction.declare(f"{name}.prepare", handler.prepare, reactor=reactor)
            function = UserFunction.declare(name, handler.invoke, reactor=reactor)
        else:
            function = UserFunction.declare(name, handler, reactor=reactor)
        polled = _polled("every", function, interval, fixed_delay, timeout, stale_after, bus)
        self._claim(name)
        self.polled.append(
            attrs.evolve(polled, prepare=prepare, handler=handler if isinstance(handler, Handler) else None)
        )

    def background(
        self,
        name: str,
        interval: float,
        *,
        timeout: float | None = None,
        fixed_delay: bool = False,
        bus: str | None = None,
        reactor: bool = False,
    ) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function without arguments that runs every ``interval`` seconds; the arguments are as in `every`.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: an argument is wrong, or the name is taken.
        """
        _checked_name(name)

        def declare(function: AnyFunction) -> AnyFunction:
            user_function = UserFunction.declare(name, function, reactor=reactor)
            polled = _polled("background", user_function, interval, fixed_delay, timeout, None, bus)
            self._claim(name)
            self.polled.append(polled)
            return function

        return declare

    def thread(self, name: str) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function that runs for long in a thread of its own.

        It takes one argument, ``running``: a function that tells whether it should go on. If it raises it is started
        again, after a pause that grows with each failure in a row.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: an argument is wrong, or the name is taken.
        """
        _checked_name(name)

        def declare(function: AnyFunction) -> AnyFunction:
            user_function = UserFunction.declare(name, function, arguments=("running",))
            if user_function.where is Where.REACTOR:
                raise DeclarationError(f"{name}: an async def has no thread; use every() or background() for it")
            self._claim(name)
            self.threads.append(user_function)
            return function

        return declare

    def on_start(self, *, reactor: bool = False) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function without arguments that runs once when the daemon has started to listen.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: it is no function, or takes arguments.
        """
        return self._hook("on_start", self.start_hooks, reactor)

    def on_stop(self, *, reactor: bool = False) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function without arguments that runs once at shutdown, after all handlers have ended.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: it is no function, or takes arguments.
        """
        return self._hook("on_stop", self.stop_hooks, reactor)

    def functions(self) -> Iterator[UserFunction]:
        """Return all declared functions that can run at the same time."""
        yield from (polled.function for polled in self.polled)
        yield from (*self.threads, *self.start_hooks, *self.stop_hooks)

    def _hook(self, kind: str, hooks: list[UserFunction], reactor: bool) -> Callable[[AnyFunction], AnyFunction]:
        def declare(function: AnyFunction) -> AnyFunction:
            name = f"{kind} {_name_of(function)}"
            hooks.append(UserFunction.declare(name, function, reactor=reactor))
            return function

        return declare

    def _claim(self, name: str) -> None:
        if name in self._names:
            raise DeclarationError(f"the name {name!r} is declared already; give this one another")
        self._names.add(name)

    def _free_name(self, base: str) -> str:
        if base not in self._names:
            return base
        return next(name for number in count(2) if (name := f"{base}-{number}") not in self._names)


def _polled(
    kind: str,
    function: UserFunction,
    interval: float,
    fixed_delay: bool,
    timeout: float | None,
    stale_after: float | None,
    bus: str | None,
) -> Polled:
    name = function.name
    seconds = _seconds(name, "interval", interval, SHORTEST_INTERVAL)
    if bus is not None and not _is_name(bus):
        raise DeclarationError(f"{name}: bus is {bus!r}; it is a name such as 'i2c-1'")
    return Polled(
        kind=kind,
        function=function,
        prepare=None,
        handler=None,
        interval=seconds,
        fixed_delay=bool(fixed_delay),
        timeout=max(seconds, 10.0) if timeout is None else _seconds(name, "timeout", timeout),
        max_age=2 * seconds + 5 if stale_after is None else _seconds(name, "stale_after", stale_after),
        bus=bus,
    )


def _seconds(name: str, what: str, value: object, least: float = 0.001) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= LONGEST_INTERVAL:
        wanted = f"it is a number of seconds from {least:g} to {LONGEST_INTERVAL:g}"
        raise DeclarationError(f"{name}: {what} is {value!r:.80}; {wanted}")
    return float(value)


def _checked_name(name: object) -> None:
    if not _is_name(name):
        raise DeclarationError(f"{name!r} is no name; a name is a text such as 'health_check'")


def _is_name(name: object) -> bool:
    return _is_text(name) and bool(name.strip())


def _is_text(text: object) -> TypeGuard[str]:
    """Tell whether ``text`` is one that UTF-8 can express: one with a lone surrogate could not be served."""
    return isinstance(text, str) and text == text.encode(errors="replace").decode()


def _name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


def _sensor_path(path: str) -> Path:
    try:
        parsed = parse_path(path)
    except PathError as error:
        raise DeclarationError(f"a sensor cannot stand there: {error}") from None
    if not parsed:
        raise DeclarationError("a sensor's path is empty; it is a text such as 'basement/temperature'")
    return parsed


def _units(path: str, unit: str | Mapping[str, str] | None) -> Units:
    if unit is None or _is_text(unit):
        return unit
    if not isinstance(unit, Mapping) or not all(_is_text(text) for text in unit.values()):
        raise DeclarationError(f"{path}: unit is {unit!r}; it is a text such as '°C', or a mapping of paths to texts")
    try:
        return {parse_path(below): text for below, text in unit.items()}
    except PathError as error:
        raise DeclarationError(f"{path}: unit: {error}") from None
