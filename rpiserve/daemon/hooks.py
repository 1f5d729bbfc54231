"""The functions that run once: when the daemon has started, and when it stops."""

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.python.failure import Failure

from rpiserve.core.context import DaemonScope, RunScope
from rpiserve.core.failures import FailureStreak
from rpiserve.core.runner import Run, Runner
from rpiserve.declare.handler import UserFunction


class StartHooks:
    """Runs the ``on_start`` functions, one after the other in the order of their declaration.

    Args:
        functions: the functions.
        runner: what runs them.
    """

    def __init__(self, functions: Iterable[UserFunction], runner: Runner) -> None:
        self._functions = list(functions)
        self._runner = runner
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
            self._run = run = self._runner.start(function)
            run.result.addErrback(self._note, function)
            yield run.when_ended()
            self._waiting.remove(function.name)

    def stop(self) -> Deferred[None]:
        """Let no more begin; fires when the one under way has ended."""
        self._stopping = True
        return succeed(None) if self._run is None else self._run.when_ended()

    def _note(self, failure: Failure, function: UserFunction) -> None:
        text = FailureStreak(function.name, self._runner.clock.seconds).note(failure)
        self._failed.append(f"{function.name} failed: {text}")

    def reasons(self) -> list[str]:
        """Return which have not ended yet, and which have failed."""
        return [f"{name} has not ended yet" for name in self._waiting] + self._failed


@inlineCallbacks
def run_stop_hooks(
    functions: Sequence[UserFunction], runner: Runner, seconds: float, daemon_scope: DaemonScope | None = None
) -> Any:
    """Run the ``on_stop`` functions, one after the other in the order of their declaration.

    Args:
        functions: the functions.
        runner: what runs them.
        seconds: how long all of them together may take. What the others do not use is shared by those that are left,
            so that one that hangs leaves the next its share.
        daemon_scope: what they find behind the proxies.

    Returns:
        A Deferred that fires when all have ended or the time is up. It never fails: failures are logged.
    """
    end = runner.clock.seconds() + seconds
    for left, function in zip(range(len(functions), 0, -1), functions, strict=True):
        share = max(0.0, end - runner.clock.seconds()) / left
        run = runner.start(function, timeout=share, scope=RunScope(function.name, daemon_scope))
        result: Deferred[Any] = run.result
        yield result.addErrback(FailureStreak(function.name, runner.clock.seconds).note)
