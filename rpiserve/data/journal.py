"""The change journal: what changes in the data tree, for those who subscribed to it.

Each write compares the tree before and after it, under the lock of the tree and only where somebody has subscribed, and
appends one entry. All changes of a batch are one entry. The reactor is woken once for a burst of entries, and delivers
them in order. Without subscribers a write costs no more than without a journal.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from rpiserve.data.nodes import Node, Part, children_of, is_leaf
from rpiserve.data.paths import Path
from rpiserve.data.pattern import Pattern, PatternIndex, Step, descend, items_at

MOST_WAITING: Final = 100_000
"""How many changes may wait for a blocked reactor. More become one entry, with the last value of each path."""


@attrs.frozen(eq=False)
class LeafChange:
    """What has become of one leaf. A node without anything in it counts as a leaf.

    Attributes:
        path: where it is.
        old: what was there; None if nothing was.
        new: what is there; None if it was removed. One with the revision of `old` was only set again.
    """

    path: Path
    old: Part | None
    new: Part | None


Receiver: TypeAlias = Callable[[tuple[LeafChange, ...]], object]
"""Gets the changes of one write or one batch."""


@attrs.define(eq=False)
class Subscription:
    """What a receiver is subscribed to. Made by `Journal.subscribe`."""

    receiver: Receiver
    patterns: tuple[Pattern, ...]
    _journal: "Journal"
    active: bool = True
    root: Node | None = None
    """The tree after the last entry that was delivered; None before the first one."""

    def cancel(self) -> None:
        """Receive nothing more, also of what has changed already. On another thread a delivery may be under way."""
        self._journal.remove(self)


class Journal:
    """The journal of one tree.

    Args:
        lock: the lock of the tree, which writers hold.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._index: PatternIndex[Subscription] = PatternIndex()
        self._entries: deque[_JournalEntry] = deque()
        self._waiting = 0
        self._limit = MOST_WAITING
        self._awake = False
        self._delivering = False
        self._wake: Callable[[Callable[[], None]], object] | None = None
        self._failed: Callable[[Receiver], object] = lambda receiver: None

    def open(self, wake: Callable[[Callable[[], None]], object], failed: Callable[[Receiver], object]) -> None:
        """Begin to record and to deliver.

        Args:
            wake: has a function called on the thread that delivers; may be called by any thread.
            failed: called in the handling of what a receiver has raised.
        """
        with self._lock:
            self._wake, self._failed = wake, failed

    def close(self) -> None:
        """Record and deliver nothing more."""
        with self._lock:
            self._wake = None
            self._entries.clear()
            self._waiting, self._limit, self._awake = 0, MOST_WAITING, False

    @property
    def is_open(self) -> bool:
        """Whether changes are recorded."""
        return self._wake is not None

    def subscribe(self, patterns: Iterable[Pattern], receiver: Receiver) -> Subscription:
        """Have ``receiver`` called with what changes at paths that one of ``patterns`` names.

        It begins with the next write, while the journal is open.
        """
        subscription = Subscription(receiver, tuple(dict.fromkeys(patterns)), self)
        with self._lock:
            for pattern in subscription.patterns:
                self._index.add(pattern, subscription)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """End ``subscription``, unless it has ended."""
        with self._lock:
            if subscription.active:
                subscription.active = False
                for pattern in subscription.patterns:
                    self._index.remove(pattern, subscription)

    # --- for the tree --------------------------------------------------------------------------------------------

    def record(self, old: Node, new: Node) -> None:
        """Append what differs between two trees; the lock is held."""
        if self._wake is None or not self._index:
            return
        entry = [
            (subscription, change)
            for change, steps in differences(old, new, self._index.start())
            for subscription in dict.fromkeys(items_at(steps))
        ]
        if not entry:
            return
        self._entries.append(_JournalEntry(new, entry))
        self._waiting += len(entry)
        if self._waiting > self._limit:
            self._condense()
        if not self._awake:
            self._awake = True
            self._wake(self._deliver)

    def _condense(self) -> None:
        """Make one entry of all, with the first old and the last new leaf of each path."""
        latest: dict[tuple[Subscription, Path], LeafChange] = {}
        for entry in self._entries:
            for subscription, change in entry.changes:
                before = latest.pop((subscription, change.path), change)
                latest[subscription, change.path] = attrs.evolve(change, old=before.old)
        changes = [
            (subscription, change) for (subscription, _), change in latest.items() if change.old is not change.new
        ]
        root = self._entries[-1].root
        self._entries.clear()
        self._entries.append(_JournalEntry(root, changes))
        self._waiting = len(changes)
        # It takes as long as there are changes, so not again before as many have come.
        self._limit = max(MOST_WAITING, 2 * self._waiting)

    # --- for the reactor ---------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        with self._lock:
            self._awake = False
            count = len(self._entries)
        if self._delivering:  # what a receiver has written comes after the entry that is being delivered
            return
        self._delivering = True
        try:
            for _ in range(count):  # what is written meanwhile has a turn of the reactor for itself
                with self._lock:
                    if not self._entries:
                        return
                    entry = self._entries.popleft()
                    self._waiting -= len(entry.changes)
                    self._limit = MOST_WAITING
                self._deliver_entry(entry)
        finally:
            self._delivering = False

    def _deliver_entry(self, entry: "_JournalEntry") -> None:
        parts: dict[Subscription, list[LeafChange]] = {}
        for subscription, change in entry.changes:
            parts.setdefault(subscription, []).append(change)
        for subscription, changes in parts.items():
            if subscription.active:
                subscription.root = entry.root
                try:
                    subscription.receiver(tuple(changes))
                except Exception:  # noqa: BLE001 - whatever it is, the others get theirs
                    self._failed(subscription.receiver)


@attrs.frozen(eq=False)
class _JournalEntry:
    """One write or one batch: the tree after it, and who gets which change."""

    root: Node
    changes: list[tuple[Subscription, LeafChange]]


EVERYTHING: Final[PatternIndex[None]] = PatternIndex()
"""An index with the one pattern that names every path."""
EVERYTHING.add(Pattern((), below=True), None)


def differences(
    old: Node, new: Node, steps: tuple[Step[Any], ...]
) -> Iterator[tuple[LeafChange, tuple[Step[Any], ...]]]:
    """Yield each leaf that differs between two trees, and the steps of the patterns that name it.

    Nodes are immutable and share what has not changed, so this takes the time that the changes take, and none for what
    no pattern names.

    Args:
        old: the tree before.
        new: the tree after.
        steps: where to begin, as `PatternIndex.start` returns it.
    """
    yield from _compared(old, new, (), steps)


def _compared(
    old: Part | None, new: Part | None, path: Path, steps: tuple[Step[Any], ...]
) -> Iterator[tuple[LeafChange, tuple[Step[Any], ...]]]:
    was, now = is_leaf(old, path), is_leaf(new, path)
    if (was or now) and any(step.items for step in steps):
        yield LeafChange(path, old if was else None, new if now else None), steps
    before, after = children_of(old), children_of(new)
    for key in _differing(before, after, steps):
        if further := descend(steps, key):
            yield from _compared(before.get(key), after.get(key), (*path, key), further)


def _differing(before: Mapping[str, Part], after: Mapping[str, Part], steps: tuple[Step[Any], ...]) -> list[str]:
    """Return the keys of the children that differ, among those that may lead to a pattern."""
    if all(step.any is None and step.below is None for step in steps):  # few keys, and perhaps thousands of children
        named = dict.fromkeys(key for step in steps for key in step.keys)
        return [key for key in named if before.get(key) is not after.get(key)]
    changed = [key for key, child in after.items() if before.get(key) is not child]
    return changed + [key for key in before if key not in after]
