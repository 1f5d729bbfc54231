"""What an app declares, all kinds together. Declaring starts nothing, opens nothing and needs no reactor."""

from typing import Any

import attrs

from rpiserve.declare.base import Polled, checked_name
from rpiserve.declare.commands import CommandDeclarations
from rpiserve.declare.handler import UserFunction, Where
from rpiserve.declare.hooks import HookDeclarations
from rpiserve.declare.messages import MessageDeclarations
from rpiserve.declare.routes import RouteDeclarations, checked_prefix, prefixed
from rpiserve.declare.schedules import ScheduleDeclarations
from rpiserve.declare.sensors import PollingDeclarations, check_overlap
from rpiserve.errors import DeclarationError


class Registry(
    PollingDeclarations,
    ScheduleDeclarations,
    HookDeclarations,
    CommandDeclarations,
    MessageDeclarations,
    RouteDeclarations,
):
    """The declarations of an app. Each method checks what it is given and raises `DeclarationError` at that line."""

    def register_blueprint(self, blueprint: "Blueprint", url_prefix: str | None = None) -> None:
        """Take all that ``blueprint`` declares. It can declare nothing more after that.

        Commands, actions and sensors keep their names. Other handlers that have the same name as one here get a number
        behind it, in logs and ``/sensors``.

        Args:
            blueprint: the blueprint.
            url_prefix: what the paths of its routes begin with; the blueprint's own by default.

        Raises:
            DeclarationError: it is no blueprint, or registered already, or a name, the place of a sensor or a route is
                taken. A part of it may have been taken then, and what was refused one is not to be run.
        """
        if not isinstance(blueprint, Blueprint) or blueprint is self:
            raise DeclarationError(f"{blueprint!r:.80} is no Blueprint to be registered here")
        self.check_open()
        if blueprint.closed:
            raise DeclarationError(f"the blueprint {blueprint.name!r} is registered already; it can be only once")
        prefix = blueprint.url_prefix if url_prefix is None else checked_prefix(url_prefix)
        for polled in blueprint.polled:
            self._take_polled(polled)
        self.threads += [self._renamed(function) for function in blueprint.threads]
        self.start_hooks += blueprint.start_hooks
        self.stop_hooks += blueprint.stop_hooks
        for kind, mine, theirs in (
            ("command", self.commands, blueprint.commands),
            ("action", self.actions, blueprint.actions),
        ):
            self._take_named(kind, mine, theirs)
        self.listeners += [attrs.evolve(each, function=self._renamed(each.function)) for each in blueprint.listeners]
        for route in blueprint.routes:
            self.add_route(prefixed(route, prefix))
        if blueprint.cors_policy is not None:
            if self.cors_policy is not None:
                raise DeclarationError(f"the blueprint {blueprint.name!r} has a cors() of its own beside the one here")
            self.cors_policy = blueprint.cors_policy
        blueprint.closed = True

    def _take_polled(self, polled: Polled) -> None:
        name = polled.function.name
        if polled.handler is not None and any(each.handler is polled.handler for each in self.polled):
            raise DeclarationError(f"{name}: this handler is declared already; make a second one")
        if polled.path is not None:
            check_overlap(name, polled.path, self.polled)
            self.claim(name)
            self.polled.append(polled)
            return
        function = self._renamed(polled.function)
        prepare = polled.prepare and attrs.evolve(polled.prepare, name=f"{function.name}.prepare")
        self.polled.append(attrs.evolve(polled, function=function, prepare=prepare))

    def _renamed(self, function: UserFunction) -> UserFunction:
        name = self.free_name(function.name)
        self.claim(name)
        return attrs.evolve(function, name=name)

    def on_reactor(self) -> list[UserFunction]:
        """Return all functions that run on the reactor."""
        every = [
            *(function for each in self.polled for function in (each.prepare, each.function)),
            *(*self.threads, *self.start_hooks, *self.stop_hooks),
            *(each.function for each in self.commands.values()),
            *(each.function for each in self.actions.values()),
            *(each.function for each in self.listeners),
            *(each.function for each in self.routes),
        ]
        return [function for function in every if function is not None and function.where is Where.REACTOR]

    @staticmethod
    def _take_named(kind: str, mine: dict[str, Any], theirs: dict[str, Any]) -> None:
        if both := sorted(set(mine) & set(theirs)):
            raise DeclarationError(f"the {kind} {both[0]!r} is declared already; give this one another name")
        mine.update(theirs)

    def thread_count(self) -> int:
        """Return how many of the functions that start by themselves can be in threads at once."""
        lone = (function.where is Where.THREAD for function in (*self.threads, *self.start_hooks, *self.stop_hooks))
        # What prepares a handler never runs at the same time as the handler itself.
        polled = (
            any(function is not None and function.where is Where.THREAD for function in (each.prepare, each.function))
            for each in self.polled
        )
        return sum(lone) + sum(polled)


class Blueprint(Registry):
    """The declarations of one module, to be registered on an app with `App.register_blueprint`.

    It declares what an `App` does, in the same way.

    Args:
        name: its name, for errors.
        url_prefix: what the paths of its routes begin with, such as ``"/lights"``.

    Raises:
        DeclarationError: an argument is wrong.
    """

    def __init__(self, name: str, url_prefix: str = "") -> None:
        super().__init__()
        self.name = checked_name(name)
        self.url_prefix = checked_prefix(url_prefix)

    def check_path(self, path: str) -> None:
        """Take any path: it is checked with its prefix, when the blueprint is registered."""
