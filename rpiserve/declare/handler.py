"""The class form of a polled handler, and what kind of function a user's function is."""

import inspect
from collections.abc import Callable
from enum import Enum
from typing import Any

import attrs

from rpiserve.data.view import DataView
from rpiserve.declare.arguments import beneath_partials, called
from rpiserve.errors import DeclarationError, NotRunning


class Where(Enum):
    """Where a user's function runs."""

    THREAD = "thread"
    REACTOR = "reactor"


@attrs.frozen(eq=False)
class UserFunction:
    """A function of the user's, ready to be run.

    Attributes:
        name: what it is called in logs, errors and ``/sensors``.
        call: the function itself.
        where: in a worker thread, where it may block, or on the reactor.
    """

    name: str
    call: Callable[..., Any]
    where: Where

    @property
    def doc(self) -> str:
        """What its docstring says."""
        return inspect.getdoc(beneath_partials(self.call)) or ""

    @classmethod
    def declare(
        cls, name: str, call: Callable[..., Any], *, reactor: bool = False, arguments: tuple[str, ...] | None = ()
    ) -> "UserFunction":
        """Check ``call`` and return it with its place: an ``async def`` runs on the reactor, a ``def`` in a thread.

        Args:
            name: its name, for errors as well.
            call: the function.
            reactor: run it on the reactor even if it is a plain ``def`` (an ``inlineCallbacks`` function, say).
            arguments: the names of the arguments that it will be given; None if that is not known here.

        Raises:
            DeclarationError: it cannot be called so, or it is a generator, which would run nothing when called.
        """
        if not callable(call):
            raise DeclarationError(f"{name}: {call!r} is no function")
        inner = called(call)
        if inspect.isgeneratorfunction(inner) or inspect.isasyncgenfunction(inner):
            raise DeclarationError(f"{name}: a function with 'yield' in it does not run when it is called; use return")
        if arguments is not None:
            _check_call(name, call, arguments)
        on_reactor = reactor or inspect.iscoroutinefunction(inner)
        return cls(name, call, Where.REACTOR if on_reactor else Where.THREAD)


def _check_call(name: str, call: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    try:
        inspect.signature(call).bind(*arguments)
    except TypeError as error:
        wanted = f"with the argument {', '.join(arguments)}" if arguments else "without arguments"
        raise DeclarationError(f"{name}: rpiserve calls it {wanted}: {error}") from None
    except ValueError:  # a function written in C may have no signature to check
        pass


class Handler:
    """A polled handler with something to prepare.

    Derive from it, write `invoke` and, if there is something to open first, `prepare`; hand an instance to
    ``app.every``. Both may be ``async def``.
    """

    # Class attributes, so that a subclass need not call our __init__, of which there is none.
    _data: DataView | None = None
    _is_stopping: Callable[[], bool] | None = None

    def prepare(self) -> Any:
        """Do what has to be done once before the first `invoke`. If it raises it is tried again, ever more rarely."""

    def invoke(self) -> Any:
        """Do the work of one run; what it returns is of no concern."""
        raise NotImplementedError

    @property
    def data(self) -> DataView:
        """The data tree. What is written through it ages, and is marked when this handler fails.

        Raises:
            NotRunning: the daemon does not run yet.
        """
        if self._data is None:
            raise NotRunning(f"{type(self).__name__}.data is there only while the daemon runs; use app.data before")
        return self._data

    @property
    def stopping(self) -> bool:
        """Whether the daemon is shutting down: a long `invoke` should end then."""
        return self._is_stopping is not None and self._is_stopping()

    def bind(self, data: DataView, is_stopping: Callable[[], bool]) -> None:
        """Give the handler what its properties show. Called by the daemon before anything else is."""
        self._data = data
        self._is_stopping = is_stopping
