"""Calls of commands: the command is found, its arguments are checked, and it runs in its turn."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from rpiserve.core.context import DaemonScope
from rpiserve.core.failures import IncidentLog
from rpiserve.core.metrics import Metric, Sample
from rpiserve.core.runner import Resource, Runner, Unserializable, encode_result
from rpiserve.core.threads import ThreadPool
from rpiserve.core.wire import HANDLER_ERROR, UNSERIALIZABLE
from rpiserve.declare.arguments import BadArguments
from rpiserve.declare.commands import Command
from rpiserve.errors import Cancelled, HandlerFailed, HandlerTimeout, ResourceHeld, UnknownCommand

MOST_CALLS = 128
"""How many calls may run or wait at the same time: so many connections can wait for them, and others are left."""

COMMANDS: Final = Metric(
    "rpiserve_commands_total", "Calls of commands, by what came of them.", "counter", ("name", "outcome")
)
ACTIVE: Final = Metric("rpiserve_commands_active", "Calls of commands that run, or wait for their turn.", "gauge")


class CommandCalls:
    """Calls the commands of an app.

    Args:
        commands: the declarations, by name.
        clock: the reactor's clock, in seconds.
        to_reactor: calls a function on the reactor's thread; may itself be called on any thread.
        max_workers: how many calls of concurrent commands may run at the same time; the others wait.
        daemon_scope: what they find behind the proxies.
    """

    def __init__(
        self,
        commands: Mapping[str, Command],
        clock: IReactorTime,
        to_reactor: Callable[..., object],
        max_workers: int,
        daemon_scope: DaemonScope | None = None,
    ) -> None:
        self._commands = commands
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._incidents = IncidentLog(clock)
        owned = [(name, command.owner) for name, command in commands.items() if command.owner is not None]
        self._resources = {id(owner): Resource(name.rpartition(".")[0] or name) for name, owner in owned}
        # Only one call of an owner's runs at a time, so with a thread for each owner none waits for another's thread.
        turns = ThreadPool("rpiserve-command", len(self._resources))
        self._serial = Runner(clock, to_reactor, turns, daemon_scope)
        concurrent = ThreadPool("rpiserve-concurrent", max_workers)
        self._concurrent = Runner(clock, to_reactor, concurrent, daemon_scope)

    def call(self, name: str, arguments: Mapping[str, object]) -> Deferred[bytes]:
        """Call a command. Once it has begun it runs to its end, whatever becomes of the Deferred.

        Args:
            name: its name.
            arguments: its arguments, as a client sent them.

        Returns:
            A Deferred that fires with the result as JSON. It fails with `HandlerTimeout`, with `ResourceHeld` if the
            object is busy with a call that hangs, or with `HandlerFailed` if the command raised or its result cannot be
            served. The time that a call waits for its turn counts: if that uses up its limit, it never runs.

        Raises:
            ResourceHeld: too many calls are under way.
            UnknownCommand: there is none of that name.
            BadArguments: the arguments do not fit.
        """
        command = self._commands.get(name)
        if command is None:
            self._outcomes["", "unknown"] += 1  # not by its name: there may be any number of them
            raise UnknownCommand(f"there is no command {name[:100]!r}; /cmds lists them")
        runner = self._concurrent if command.owner is None else self._serial
        try:
            converted = command.signature.convert(arguments)
            self._check_capacity(runner)
        except (BadArguments, ResourceHeld) as error:
            self._outcomes[name, "invalid" if isinstance(error, BadArguments) else "busy"] += 1
            raise
        run = runner.start(
            attrs.evolve(command.function, call=partial(command.function.call, **converted)),
            timeout=command.timeout,
            resource=None if command.owner is None else self._resources[id(command.owner)],
            from_arrival=True,
            finish=partial(encode_result, where="the result"),
        )
        # A Deferred of its own: to cancel it gives up the answer, not the run.
        answer: Deferred[bytes] = Deferred()
        run.result.addBoth(self._count, name).addErrback(self._explain, name).addBoth(answer.callback)
        return answer

    def _count(self, outcome: Any, name: str) -> Any:
        kind = "success"
        if isinstance(outcome, Failure):
            kinds = {HandlerTimeout: "timeout", ResourceHeld: "busy", Cancelled: "cancelled"}
            kind = next((kinds[error] for error in kinds if outcome.check(error)), "error")
        self._outcomes[name, kind] += 1
        return outcome

    def _check_capacity(self, runner: Runner) -> None:
        if len(self._serial.active) + len(self._concurrent.active) >= MOST_CALLS:
            raise ResourceHeld(f"{MOST_CALLS} calls of commands are under way already; try again later")
        if runner is self._concurrent and runner.pool.clogged:
            raise ResourceHeld(f"{runner.pool.stuck} calls of concurrent commands hang; try again later")

    def describe(self) -> list[dict[str, Any]]:
        """Return what ``/cmds`` shows of each command, but for its URL."""
        return [
            {
                "Name": name,
                "Args": command.signature.texts(),
                "Doc": command.function.doc,
                "Schema": command.signature.schema(),
            }
            for name, command in self._commands.items()
        ]

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of them."""
        for labels, count in self._outcomes.items():
            yield COMMANDS.sample(count, *labels)
        yield ACTIVE.sample(len(self._serial.active) + len(self._concurrent.active))
        for runner in (self._serial, self._concurrent):
            yield from runner.pool.samples()

    def stop(self) -> Deferred[Any]:
        """Return a Deferred that fires when all calls have ended that are not stuck. Those that wait are given up."""
        return DeferredList([self._serial.stop(), self._concurrent.stop()])

    def cancel_asynchronous(self) -> None:
        """Cancel the calls that run on the reactor."""
        for runner in (self._serial, self._concurrent):
            runner.cancel_asynchronous()

    def running(self) -> list[str]:
        """Return the names of the commands that run."""
        return [*self._serial.running(), *self._concurrent.running()]

    def _explain(self, failure: Failure, name: str) -> Failure:
        """Return a failure that may be shown to a client: what the run itself came to, or else an incident."""
        if failure.check(HandlerTimeout, ResourceHeld, Cancelled):
            return failure
        how, code = "failed", HANDLER_ERROR
        if failure.check(Unserializable):
            how, code = "returned what cannot be served as JSON", UNSERIALIZABLE
        return Failure(HandlerFailed(f"the command {name} {how}", self._incidents.note(name, failure), code))
