"""What the rooms know of each other."""

from typing import Any, Protocol


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
