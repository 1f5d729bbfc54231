"""A limit of wrong tokens for each address, so that guessing costs the guesser time and nobody else anything."""

from typing import Final

from twisted.internet.interfaces import IReactorTime

FREE: Final = 10
"""How many wrong tokens an address may send at once."""

SECONDS_EACH: Final = 6.0
"""How long it takes for one of these to be forgotten."""

MOST_ADDRESSES: Final = 10_000


class Throttle:
    """Counts wrong tokens: for each address a bucket that leaks.

    Args:
        clock: the reactor's clock, in seconds.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._empty_at: dict[str | None, float] = {}

    def note(self, address: str | None) -> None:
        """Note a wrong token from ``address``; None for a unix socket."""
        now = self._clock.seconds()
        empty_at = max(self._empty_at.pop(address, now), now) + SECONDS_EACH
        if len(self._empty_at) >= MOST_ADDRESSES:
            self._empty_at = {other: time for other, time in self._empty_at.items() if time > now}
            while len(self._empty_at) >= MOST_ADDRESSES:
                del self._empty_at[next(iter(self._empty_at))]
        self._empty_at[address] = empty_at

    def wait(self, address: str | None) -> float:
        """Return for how many seconds ``address`` has to wait; 0 if it may try."""
        over = self._empty_at.get(address, 0.0) - self._clock.seconds() - FREE * SECONDS_EACH
        return max(0.0, over + SECONDS_EACH)
