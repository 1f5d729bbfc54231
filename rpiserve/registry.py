"""What an app declares, all kinds together. Declaring starts nothing, opens nothing and needs no reactor."""

from rpiserve.declare.commands import CommandDeclarations
from rpiserve.declare.lifecycle import LifecycleDeclarations
from rpiserve.declare.messages import MessageDeclarations
from rpiserve.declare.polling import PollingDeclarations
from rpiserve.declare.schedules import ScheduleDeclarations
from rpiserve.handler import Where


class Registry(
    PollingDeclarations, ScheduleDeclarations, LifecycleDeclarations, CommandDeclarations, MessageDeclarations
):
    """The declarations of an app. Each method checks what it is given and raises `DeclarationError` at that line."""

    def thread_count(self) -> int:
        """Return how many of the declared functions, but for commands and messages, can be in threads at once."""
        lone = (function.where is Where.THREAD for function in (*self.threads, *self.start_hooks, *self.stop_hooks))
        # What prepares a handler never runs at the same time as the handler itself.
        polled = (
            any(function is not None and function.where is Where.THREAD for function in (each.prepare, each.function))
            for each in self.polled
        )
        return sum(lone) + sum(polled)
