"""What the two ways from outside to the services have in common: `BusClient` and `HttpClient` are both a `Client`.

Their failures are the same errors, so that a caller need not know which of the two it uses.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rpiserve.core.thread_bridge import Progress

Heard = Callable[[str, bytes], object]
"""What is called with a channel and a message on it, as JSON in UTF-8. If it returns True, that was enough."""

Told = Callable[[str], object]
"""What is called with a line for people when the connection was lost, or is back."""


class Client(Protocol):
    """What both ways can do. Everything fails with `BusUnavailable` if the bus or the daemon cannot be reached."""

    async def call(self, service: str, action: str, payload: Any, timeout: float, progress: Progress | None) -> Any:
        """Ask for an action, and return its reply.

        Args:
            service: the name of the service.
            action: the action.
            payload: what goes with it, in the types of JSON.
            timeout: seconds to wait for the reply.
            progress: called with the payload of each reply that is not final.

        Raises:
            NoResponders: nobody listens.
            RemoteError: the service, or the daemon on the way there, has answered with an error; `NotAllowed` if the
                daemon does not let this in.
            CallTimeout: there was no answer in time.
            BusUnavailable: the bus or the daemon cannot be reached, or was lost meanwhile.
            MessageError: a name is none, or the payload is too large.
        """
        ...

    async def publish(self, channel: str, payload: Any) -> int:
        """Send ``payload``, an object, to all who listen to ``channel``, and return how many receivers it has.

        Raises:
            RemoteError: the daemon on the way has answered with an error.
            BusUnavailable: the bus or the daemon cannot be reached.
            MessageError: the channel is none, or the payload is no object, or too large.
        """
        ...

    async def listen(self, channels: Sequence[str], heard: Heard, told: Told) -> None:
        """Have ``heard`` called with each message on ``channels``, names or patterns, until that was enough.

        It goes on when the connection was lost, and tells that; only at the very beginning there has to be one.

        Raises:
            RemoteError: the daemon on the way has answered with an error.
            BusUnavailable: at the beginning the bus or the daemon cannot be reached.
        """
        ...

    async def close(self) -> None:
        """Give up what is under way, and the connections."""
        ...
