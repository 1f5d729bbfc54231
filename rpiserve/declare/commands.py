"""Declaring commands: functions and methods that clients call by name."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, overload

import attrs

from rpiserve.declare.arguments import Signature, beneath_partials
from rpiserve.declare.base import TIME_LIMIT, AnyFunction, Declarations, checked_name, checked_seconds, written
from rpiserve.declare.handler import UserFunction
from rpiserve.errors import DeclarationError


@attrs.frozen(eq=False)
class Command:
    """A function that clients call by name.

    Attributes:
        function: what is called; its name is the command's.
        signature: its arguments.
        timeout: seconds that it may take.
        owner: what its calls may not overlap with: the other commands with the same owner. None if they may.
    """

    function: UserFunction
    signature: Signature
    timeout: float
    owner: object | None


class CommandDeclarations(Declarations):
    """The commands of an app."""

    def __init__(self) -> None:
        super().__init__()
        self.commands: dict[str, Command] = {}

    @written("app.add_command(a_function)")
    def add_command(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        timeout: float = TIME_LIMIT,
        concurrent: bool = False,
        reactor: bool = False,
    ) -> None:
        """Declare a method or a function as a command.

        Calls of the commands of one object never overlap, nor those of one function.

        Args:
            function: the method or function.
            name: what clients call it by. By default ``variable.method`` for a method, by the name of the variable that
                holds the object where this is called; a function's own name for a function.
            timeout: seconds that a call may take.
            concurrent: let its calls overlap.
            reactor: run a plain ``def`` on the reactor, where it must not block.

        Raises:
            DeclarationError: an argument is wrong, no name can be found, or the name is taken.
        """
        caller = sys._getframe(2)  # between there is what `written` has made of this
        if name is None:
            name = _default_name(function, (caller.f_locals, caller.f_globals))
        self._add(function, name, timeout, concurrent, reactor)

    @overload
    def command(self, function: AnyFunction, /) -> AnyFunction: ...

    @overload
    def command(
        self, /, *, name: str | None = None, timeout: float = ..., concurrent: bool = ..., reactor: bool = ...
    ) -> Callable[[AnyFunction], AnyFunction]: ...

    @written("@app.command above the function, or @app.command(name='a_name')")
    def command(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        timeout: float = TIME_LIMIT,
        concurrent: bool = False,
        reactor: bool = False,
    ) -> Callable[..., Any]:
        """Declare a function as a command; a decorator, with or without arguments. They are those of `add_command`.

        Returns:
            The function as it is, or a decorator that returns it so.

        Raises:
            DeclarationError: an argument is wrong, or the name is taken.
        """

        def declare(function: AnyFunction) -> AnyFunction:
            self._add(function, _default_name(function, ()) if name is None else name, timeout, concurrent, reactor)
            return function

        return declare if function is None else declare(function)

    def _add(self, function: Callable[..., Any], name: str, timeout: float, concurrent: bool, reactor: bool) -> None:
        self.check_open()
        name = checked_name(name)
        if name in self.commands:
            raise DeclarationError(f"the command {name!r} is declared already; give this one another name with name=…")
        user_function = UserFunction.declare(name, function, reactor=reactor, arguments=None)
        self.commands[name] = Command(
            function=user_function,
            signature=Signature.of(function, name),
            timeout=checked_seconds(name, "timeout", timeout),
            owner=None if concurrent else _owner(function),
        )


def _owner(function: Any) -> object:
    """Return the object that ``function`` is a method of, else the function itself; a partial is what is in it."""
    function = beneath_partials(function)
    owner = getattr(function, "__self__", None)
    return function if owner is None else owner


def _default_name(function: object, scopes: tuple[Mapping[str, Any], ...]) -> str:
    if not callable(function):
        raise DeclarationError(f"{function!r:.80} is no function; a command gets a name with name=…")
    own = getattr(function, "__name__", "<lambda>")
    owner = getattr(function, "__self__", None)
    if owner is None:
        if own == "<lambda>":
            raise DeclarationError(f"the command {function!r} has no name of its own; give it one with name=…")
        return str(own)
    for scope in scopes:
        for variable, value in scope.items():
            if value is owner:
                return f"{variable}.{own}"
    raise DeclarationError(f"no variable here holds the object of {own}(); give the command a name with name=…")
