"""Declaring what runs for long, and what runs once at the start and at the end."""

from collections.abc import Callable
from typing import Any

from rpiserve.declare.base import AnyFunction, Declarations, checked_name, name_of, written
from rpiserve.declare.handler import UserFunction, Where
from rpiserve.errors import DeclarationError


class HookDeclarations(Declarations):
    """An app's threads, and its functions for the start and the stop."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[UserFunction] = []
        self.start_hooks: list[UserFunction] = []
        self.stop_hooks: list[UserFunction] = []

    @written("@app.thread('a_name') above the function")
    def thread(self, name: str) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function that runs for long in a thread of its own.

        It takes one argument, ``running``: a function that tells whether it should go on. If it raises it is started
        again, after a pause that grows with each failure in a row.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: an argument is wrong, or the name is taken.
        """

        checked_name(name)

        def declare(function: AnyFunction) -> AnyFunction:
            user_function = UserFunction.declare(name, function, arguments=("running",))
            if user_function.where is Where.REACTOR:
                raise DeclarationError(f"{name}: an async def has no thread; use every() or background() for it")
            self.claim(name)
            self.threads.append(user_function)
            return function

        return declare

    @written("@app.on_start() above the function")
    def on_start(self, function: Callable[..., Any] | None = None, /, *, reactor: bool = False) -> Callable[..., Any]:
        """Declare a function without arguments that runs once when the daemon has started to listen.

        Returns:
            A decorator that returns the function as it is; used without parentheses, the function.

        Raises:
            DeclarationError: it is no function, or takes arguments.
        """
        return self._hook("on_start", self.start_hooks, reactor, function)

    @written("@app.on_stop() above the function")
    def on_stop(self, function: Callable[..., Any] | None = None, /, *, reactor: bool = False) -> Callable[..., Any]:
        """Declare a function without arguments that runs once at shutdown, after all handlers have ended.

        Returns:
            A decorator that returns the function as it is; used without parentheses, the function.

        Raises:
            DeclarationError: it is no function, or takes arguments.
        """
        return self._hook("on_stop", self.stop_hooks, reactor, function)

    def _hook(
        self, kind: str, hooks: list[UserFunction], reactor: bool, function: Callable[..., Any] | None
    ) -> Callable[..., Any]:
        def declare(function: AnyFunction) -> AnyFunction:
            self.check_open()
            name = f"{kind} {name_of(function)}"
            hooks.append(UserFunction.declare(name, function, reactor=reactor))
            return function

        return declare if function is None else declare(function)
