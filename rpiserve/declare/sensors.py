"""Declaring what runs again and again at an interval: sensors, handlers, background functions."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from rpiserve.data.paths import Path, format_path, overlap, parse_path
from rpiserve.data.tree import Units
from rpiserve.declare.base import (
    AnyFunction,
    Declarations,
    Every,
    Polled,
    checked_bus,
    checked_name,
    checked_seconds,
    is_text,
    work_of,
    written,
)
from rpiserve.declare.handler import Handler, UserFunction
from rpiserve.errors import DeclarationError, PathError

SHORTEST_INTERVAL = 0.01
"""In seconds. Anything shorter is a loop, which belongs into a thread of its own."""


class PollingDeclarations(Declarations):
    """What an app polls."""

    @written("@app.sensor('a/path', every=60) above the function")
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
            check_overlap(path, where, self.polled)
            user_function = UserFunction.declare(path, function, reactor=reactor)
            polled = _polled("sensor", user_function, every, fixed_delay, timeout, stale_after, bus)
            self.claim(path)
            self.polled.append(attrs.evolve(polled, path=where, units=units))
            return function

        return declare

    @written("app.every(60, a_function) below the function, or @app.background('a_name', 60) above it")
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
        name, prepare, function = work_of(self, handler, name, reactor, "every()")
        polled = _polled("every", function, interval, fixed_delay, timeout, stale_after, bus)
        self.claim(name)
        self.polled.append(
            attrs.evolve(polled, prepare=prepare, handler=handler if isinstance(handler, Handler) else None)
        )

    @written("@app.background('a_name', 60) above the function")
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

        checked_name(name)

        def declare(function: AnyFunction) -> AnyFunction:
            user_function = UserFunction.declare(name, function, reactor=reactor)
            polled = _polled("background", user_function, interval, fixed_delay, timeout, None, bus)
            self.claim(name)
            self.polled.append(polled)
            return function

        return declare


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
    seconds = checked_seconds(name, "interval", interval, SHORTEST_INTERVAL)
    return Polled(
        kind=kind,
        function=function,
        prepare=None,
        handler=None,
        trigger=Every(seconds, bool(fixed_delay)),
        timeout=max(seconds, 10.0) if timeout is None else checked_seconds(name, "timeout", timeout),
        max_age=2 * seconds + 5 if stale_after is None else checked_seconds(name, "stale_after", stale_after),
        bus=checked_bus(name, bus),
    )


def check_overlap(name: str, path: Path, polled: Iterable[Polled]) -> None:
    """Check that ``path``, which its sensor is called ``name`` after, is free.

    Raises:
        DeclarationError: another sensor's readings go on or below it, or it is below that one's.
    """
    for other in polled:
        if other.path is not None and overlap(path, other.path):
            theirs = format_path(other.path)
            raise DeclarationError(f"the sensor {name!r} overlaps the sensor {theirs!r}; each has a place of its own")


def _sensor_path(path: str) -> Path:
    try:
        parsed = parse_path(path)
    except PathError as error:
        raise DeclarationError(f"a sensor cannot stand there: {error}; a path is a text such as 'cpu/load'") from None
    if not parsed:
        raise DeclarationError("a sensor's path is empty; it is a text such as 'basement/temperature'")
    return parsed


def _units(path: str, unit: str | Mapping[str, str] | None) -> Units:
    if unit is None or is_text(unit):
        return unit
    if not isinstance(unit, Mapping) or not all(is_text(text) for text in unit.values()):
        raise DeclarationError(f"{path}: unit is {unit!r}; it is a text such as '°C', or a mapping of paths to texts")
    try:
        return {parse_path(below): text for below, text in unit.items()}
    except PathError as error:
        raise DeclarationError(f"{path}: unit: {error}") from None
