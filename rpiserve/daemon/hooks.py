"""The functions that run once: when the daemon has started, and when it stops."""

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.python.failure import Failure

from rpiserve.core.context import Scope, Surroundings
from rpiserve.core.failures import Trouble
from rpiserve.core.runner import Invoker, Run
from rpiserve.declare.handler import UserFunction


class StartHooks:
    """Runs the ``on_start`` functions, one after the other in the order of their declaration.

    Args:
        functions: the functions.
        invoker: what runs them.
    """

    def __init__(self, functions: Iterable[UserFunction], invoker: Invoker) -> None:
        self._functions = list(functions)
        self._invoker = invoker
        self._waiting = [function.name for function in self._functions]
        self._failed: list[str] = []
        self._stopping = False
        self._run: Run | None = None

    @inlineCallbacks
    def run(self) -> Any:
        """Run them; the Deferred fires when all have ended, or `stop` has let no more begin. It never fails."""
        for function in self._functions:
            if self._stopping:
                return
            self._run = run = self._invoker.start(function)
            run.result.addErrback(self._note, function)
            yield run.when_ended()
            self._waiting.remove(function.name)

    def stop(self) -> Deferred[None]:
        """Let no more begin; fires when the one under way has ended."""
        self._stopping = True
        return succeed(None) if self._run is None else self._run.when_ended()

    def _note(self, failure: Failure, function: UserFunction) -> None:
        text = Trouble(function.name, self._invoker.clock.seconds).note(failure)
        self._failed.append(f"{function.name} failed: {text}")

    def reasons(self) -> list[str]:
        """Return which have not ended yet, and which have failed."""
        return [f"{name} has not ended yet" for name in self._waiting] + self._failed


@inlineCallbacks
def run_stop_hooks(
    functions: Sequence[UserFunction], invoker: Invoker, seconds: float, surroundings: Surroundings | None = None
) -> Any:
    """Run the ``on_stop`` functions, one after the other in the order of their declaration.

    Args:
        functions: the functions.
        invoker: what runs them.
        seconds: how long all of them together may take. What the others do not use is shared by those that are left,
            so that one that hangs leaves the next its share.
        surroundings: what they find behind the proxies.

    Returns:
        A Deferred that fires when all have ended or the time is up. It never fails: failures are logged.
    """
    end = invoker.clock.seconds() + seconds
    for left, function in zip(range(len(functions), 0, -1), functions, strict=True):
        share = max(0.0, end - invoker.clock.seconds()) / left
        run = invoker.start(function, timeout=share, scope=Scope(function.name, surroundings))
        result: Deferred[Any] = run.result
        yield result.addErrback(Trouble(function.name, invoker.clock.seconds).note)
