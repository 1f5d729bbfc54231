"""What a Deferred has come to, for tests in which all happens at once or on a clock of theirs."""

from typing import Any

from twisted.python.failure import Failure


def brought(deferred: Any) -> Any:
    """Return what ``deferred`` has fired with, or raise that."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    assert found, "it has not fired yet"
    if isinstance(found[0], Failure):
        found[0].raiseException()
    return found[0]
