"""The protocols by which the features know each other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class Readiness(Protocol):
    """A part of the daemon that can say whether it is ready."""

    def reasons(self) -> list[str]:
        """Return why it is not ready, a sentence each; nothing if it is."""
        ...


class Commands(Protocol):
    """A part of the daemon that calls commands."""

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


class Messaging(Protocol):
    """A part of the daemon that handles messages, and sends them."""

    def call_own(self, action: str, payload: Any, size: int, send: Callable[[str, bytes, bool], Deferred[int]]) -> None:
        """Have an action of this service answer a request.

        Args:
            action: the action.
            payload: what goes with it.
            size: how many bytes that has as JSON.
            send: gets the status, the payload as JSON and whether it is final, of each answer.
        """
        ...

    def call(
        self, service: str, action: str, payload: bytes, timeout: float, progress: Callable[[Any], object] | None
    ) -> Deferred[Any]:
        """Have an action of any service answer a request, by the bus.

        Args:
            service: the name of the service.
            action: the action.
            payload: what goes with it, as JSON.
            timeout: seconds to wait for the answer.
            progress: gets the payload of each answer that is not final.

        Returns:
            A Deferred that fires with the payload of the answer, and fails with one of the errors of `rpiserve.errors`.

        Raises:
            MessageError: a name is none, or it is too large.
        """
        ...

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        """Send a message, and return how many receivers it has.

        Raises:
            MessageError: it is too large.
        """
        ...

    def hear(self, channels: Sequence[str], receiver: Callable[[str, bytes], object]) -> Callable[[], None]:
        """Have ``receiver`` called with each channel and message of ``channels``, until the result is called."""
        ...


class Services(Protocol):
    """A part of the daemon that knows the services on the bus."""

    def describe(self) -> Deferred[dict[str, Any]]:
        """Return what ``/services`` shows."""
        ...
