"""How long to leave alone what keeps failing."""

RETRY_CAP = 60.0
"""The longest pause between two tries, in seconds, for what has no interval of its own that is longer."""


def delay(failures: int, base: float = 1.0) -> float:
    """Return the seconds from a failure to the next try.

    Args:
        failures: how many tries have failed in a row, at least 1.
        base: the pause after the first, in seconds. It doubles with each further failure, up to ``base`` itself or
            `RETRY_CAP`, whichever is longer.
    """
    doublings = min(failures - 1, 64)  # beyond that the cap holds anyway, and the number would grow without bound
    return min(base * 2.0**doublings, max(base, RETRY_CAP))
