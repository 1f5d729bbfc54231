"""What the rooms know of each other."""

from collections.abc import Mapping
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class Readiness(Protocol):
    """A part of the daemon that can say whether it is ready."""

    def reasons(self) -> list[str]:
        """Return why it is not ready, a sentence each; nothing if it is."""
        ...


class HandlerReports(Protocol):
    """Whoever runs handlers and can tell of them."""

    def report(self) -> list[dict[str, Any]]:
        """Return what ``/sensors`` shows: an object for each handler."""
        ...


class Commands(Protocol):
    """Whoever knows the commands."""

    def call(self, name: str, arguments: Mapping[str, object]) -> Deferred[bytes]:
        """Call a command; the Deferred fires with its result as JSON.

        Args:
            name: its name.
            arguments: its arguments, as a client sent them.

        Raises:
            UnknownCommand: there is none of that name.
            BadArguments: the arguments do not fit.
        """
        ...

    def describe(self) -> list[dict[str, Any]]:
        """Return ``Name``, ``Args``, ``Doc`` and ``Schema`` of each command."""
        ...
