"""What comes again and again is logged ever more rarely: a daemon runs for years, and the disk may be an SD card.

Of events of one kind the first is logged in full; then the next one that comes when a minute has passed since, and
again after ten minutes, an hour and six hours. Each line tells how many there were since the line before. After a day
it begins anew. Besides, a text that is new among those of its kind is logged at once, but only a few of them a day: a
text may have the time in it, or a counter. Only so many kinds are told apart; all others are one kind together.
"""

from bisect import bisect_right
from collections.abc import Hashable
from typing import Final

import attrs

AGES: Final = (60.0, 600.0, 3600.0, 21600.0)
"""Seconds after the first event of a kind at which another of them is logged."""

DAY: Final = 86400.0
"""Seconds after which a kind begins anew."""

MOST_TEXTS: Final = 5
"""How many texts of a kind are logged for being new, in a day."""

MOST_KINDS: Final = 50
"""How many kinds are told apart."""

LONGEST_TEXT: Final = 500
"""By how many characters texts are told apart."""


_MIXED: Final = object()


@attrs.define(eq=False)
class Kind:
    """Events of one kind, and what is to be done about the latest of them.

    Attributes:
        began: when the first of this day came, in seconds.
        is_first: whether the latest is that first one, which is logged in full.
        is_due: whether the latest is to be logged.
        times: if it is, how many there were since the last line, this one included.
        incident: for who logs them: under which id the first one stands in the log.
        is_mixed: whether these are all the events of the kinds that are not told apart.
    """

    began: float
    is_mixed: bool = False
    is_first: bool = True
    is_due: bool = True
    times: int = 0
    incident: str = ""
    _unlogged: int = 0
    _ages: int = 0
    _texts: set[str] = attrs.field(factory=set)

    @property
    def is_unknown(self) -> bool:
        """Whether the latest is to be logged in full: nothing that stands in the log tells what it was."""
        return not self.incident or (self.is_mixed and self.is_due)

    @property
    def since(self) -> str:
        """How many there were since the last line, in words; empty if this is the only one."""
        return f"{self.times} times since the last such line" if self.times > 1 else ""

    @property
    def more(self) -> str:
        """The same to be put at the end of a line: with a space, and in brackets."""
        return f" ({self.since})" if self.since else ""

    def take(self, now: float, text: str, overdue: bool) -> None:
        """Take note of one more."""
        text = text[:LONGEST_TEXT]
        ages = bisect_right(AGES, now - self.began)
        is_new = text not in self._texts and len(self._texts) < MOST_TEXTS
        self._unlogged += 1
        self.is_due = self.is_first or overdue or is_new or ages > self._ages
        if self.is_due:
            self.times, self._unlogged, self._ages = self._unlogged, 0, ages
        if is_new:
            self._texts.add(text)

    def renewed(self, now: float) -> "Kind":
        """Return the same kind on another day."""
        return Kind(now, self.is_mixed, unlogged=self._unlogged)


class LogLimit:
    """Decides which events are to be logged, for one source of them."""

    def __init__(self) -> None:
        self._kinds: dict[Hashable, Kind] = {}

    def take(self, now: float, what: Hashable = None, text: str = "", *, overdue: bool = False) -> Kind:
        """Take note of an event.

        Args:
            now: seconds that only grow.
            what: tells of which kind it is.
            text: tells it apart from others of that kind.
            overdue: have it logged in any case.

        Returns:
            Its kind, which says what is to be done about it.
        """
        is_mixed = False
        if what not in self._kinds and len(self._kinds) >= MOST_KINDS:
            self._kinds = {each: kind for each, kind in self._kinds.items() if now - kind.began < DAY}
            if len(self._kinds) >= MOST_KINDS:
                what, is_mixed = _MIXED, True
        kind = self._kinds.get(what)
        if kind is None:
            kind = self._kinds[what] = Kind(now, is_mixed=is_mixed)
        elif now - kind.began >= DAY:
            kind = self._kinds[what] = kind.renewed(now)
        else:
            kind.is_first = False
        kind.take(now, text, overdue)
        return kind


def spoken(seconds: float) -> str:
    """Return a time in words, roughly."""
    for unit, size in (("days", DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
