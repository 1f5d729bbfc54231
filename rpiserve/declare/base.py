"""What all declarations share: the names, the handlers, and the checks."""

import functools
import inspect
from collections.abc import Callable
from datetime import tzinfo
from itertools import count
from typing import Any, TypeGuard, TypeVar, cast

import attrs

from rpiserve.data.paths import Path
from rpiserve.data.tree import Units
from rpiserve.declare.handler import Handler, UserFunction
from rpiserve.declare.timetables import CronLine, Schedule
from rpiserve.errors import DeclarationError

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])
"""What a decorator is put above, and returns as it is."""

TIME_LIMIT = 30.0
"""Seconds that a command, a message or a request may take by default."""

LONGEST_INTERVAL = 1e9
"""In seconds, some thirty years. For anything much longer there are no dates, and an infinity is never over."""


@attrs.frozen
class Every:
    """At an interval.

    Attributes:
        interval: seconds from one run to the next.
        fixed_delay: counted from the end of a run instead of its start.
    """

    interval: float
    fixed_delay: bool


@attrs.frozen
class Scheduled:
    """By a timetable.

    Attributes:
        schedule: the timetable, but for the zone and the time of the start.
        zone: the zone; None for the machine's own.
    """

    schedule: Schedule | CronLine
    zone: tzinfo | None


@attrs.frozen(eq=False)
class Polled:
    """A handler that runs again and again.

    Attributes:
        kind: what declared it: ``sensor``, ``every``, ``background``, ``schedule`` or ``cron``.
        function: what runs each time.
        prepare: what runs once before, for a `Handler`.
        handler: the `Handler` itself, if it is one.
        trigger: when it runs.
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
    trigger: Every | Scheduled
    timeout: float
    max_age: float
    bus: str | None
    path: Path | None = None
    units: Units = None


def written(form: str) -> Callable[[AnyFunction], AnyFunction]:
    """Return a decorator for the methods that users declare with: a wrong call is told how it is written.

    Args:
        form: how it is written.
    """

    def decorate(method: AnyFunction) -> AnyFunction:
        signature = inspect.signature(method)
        first = list(signature.parameters.values())[1]

        @functools.wraps(method)
        def declare(*arguments: Any, **options: Any) -> Any:
            if not arguments or not isinstance(arguments[0], Declarations):
                raise DeclarationError(
                    f"{method.__name__}() is called on a class; make an app of it first: app = App('a_name')"
                )
            given = arguments[1] if arguments[1:] else options.get(first.name)
            if first.annotation is str and callable(given):  # the parentheses are missing
                raise DeclarationError(f"a function is no {first.name}; write {form}")
            try:
                signature.bind(*arguments, **options)
            except TypeError as error:
                raise DeclarationError(f"{method.__name__}(): {error}; write {form}") from None
            return method(*arguments, **options)

        return cast(AnyFunction, declare)

    return decorate


class Declarations:
    """The names that are taken, and the handlers that were declared."""

    def __init__(self) -> None:
        super().__init__()
        self.polled: list[Polled] = []
        self.closed = False
        self._names: set[str] = set()

    def check_open(self) -> None:
        """Check that more may be declared.

        Raises:
            DeclarationError: this is a blueprint that has been registered, so it would be lost.
        """
        if self.closed:
            raise DeclarationError("the blueprint has been registered already; declare it all before that")

    def claim(self, name: str) -> None:
        """Take ``name``.

        Raises:
            DeclarationError: it is taken, or there may be no more.
        """
        self.check_open()
        if name in self._names:
            raise DeclarationError(f"the name {name!r} is declared already; give this one another")
        self._names.add(name)

    def free_name(self, base: str) -> str:
        """Return ``base``, with a number behind it if it is taken."""
        if base not in self._names:
            return base
        return next(name for number in count(2) if (name := f"{base}-{number}") not in self._names)


def work_of(
    declarations: Declarations, handler: Handler | Callable[[], Any], name: str | None, reactor: bool, verb: str
) -> tuple[str, UserFunction | None, UserFunction]:
    """Return the name of ``handler``, what prepares it, if anything does, and what runs each time.

    Raises:
        DeclarationError: it cannot be run so, or it is declared already.
    """
    if isinstance(handler, type):
        raise DeclarationError(f"{verb} takes a handler, not a class: write {handler.__name__}()")
    if not isinstance(handler, Handler):
        name = declarations.free_name(name_of(handler)) if name is None else checked_name(name)
        return name, None, UserFunction.declare(name, handler, reactor=reactor)
    kind = type(handler)
    name = declarations.free_name(kind.__name__) if name is None else checked_name(name)
    if kind.invoke is Handler.invoke:
        raise DeclarationError(f"{name}: the class {kind.__name__} has no invoke() of its own")
    if any(other.handler is handler for other in declarations.polled):
        raise DeclarationError(f"{name}: this handler is declared already; make a second one")
    prepare = UserFunction.declare(f"{name}.prepare", handler.prepare, reactor=reactor)
    return name, prepare, UserFunction.declare(name, handler.invoke, reactor=reactor)


def name_of(function: object) -> str:
    """Return what ``function`` is called where it was written."""
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


def checked_seconds(name: str, what: str, value: object, least: float = 0.001) -> float:
    """Return ``value`` as a number of seconds.

    Args:
        name: whose it is, for the error.
        what: what it is, for the error.
        value: the value.
        least: the smallest one, in seconds.

    Raises:
        DeclarationError: it is none, or longer than `LONGEST_INTERVAL`.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= LONGEST_INTERVAL:
        wanted = f"it is a number of seconds from {least:g} to {LONGEST_INTERVAL:g}"
        raise DeclarationError(f"{name}: {what} is {value!r:.80}; {wanted}")
    return float(value)


def checked_name(name: object) -> str:
    """Return ``name`` as a name.

    Raises:
        DeclarationError: it is none.
    """
    if not is_text(name) or not name.strip():
        shown = "a function" if callable(name) else repr(name)
        raise DeclarationError(f"{shown} is no name; a name is a text such as 'health_check'")
    return name


def checked_bus(name: str, bus: object) -> str | None:
    """Return ``bus`` as the name of a hardware bus, or None.

    Raises:
        DeclarationError: it is neither.
    """
    if bus is None or (is_text(bus) and bus.strip()):
        return bus
    raise DeclarationError(f"{name}: bus is {bus!r}; it is a name such as 'i2c-1'")


def is_text(text: object) -> TypeGuard[str]:
    """Tell whether ``text`` is one that UTF-8 can express: one with a lone surrogate could not be served."""
    return isinstance(text, str) and text == text.encode(errors="replace").decode()
