"""What has changed in the data tree from one look at it to the next, for those who follow it.

While somebody follows, the change journal brings what changes, and each path is kept with its last value until the next
look. What changed while there was no follower is found by comparing the two trees. For a follower that was away, each
leaf knows the revision of its last change; only what was removed has to be remembered, for a while. A node without
anything in it counts as a leaf here, or a follower would not learn of it.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final

import attrs

from rpiserve.data.journal import EVERYTHING, LeafChange, Subscription, differences
from rpiserve.data.nodes import Node, Part, is_leaf, leaves
from rpiserve.data.paths import Path
from rpiserve.data.pattern import Pattern
from rpiserve.data.tree import DataTree

MOST_REMOVED: Final = 1000
"""How many removed leaves are remembered."""

MOST_LOOKS: Final = 10_000
"""How many looks are remembered."""


@attrs.frozen
class Changes:
    """What has changed.

    Attributes:
        changed: the leaves whose value, unit or state is another, or that are new.
        renewed: those that were only set again.
        removed: the paths of those that are gone.
    """

    changed: dict[Path, Part]
    renewed: dict[Path, Part]
    removed: list[Path]


class TreeFollower:
    """Follows a tree, one look after the other: by the journal while it is open, else by comparing.

    Args:
        tree: the tree.
        most_removed: how many removed leaves are remembered.

    Attributes:
        root: the tree at the last look.
    """

    def __init__(self, tree: DataTree, most_removed: int = MOST_REMOVED) -> None:
        self._tree = tree
        self._removed: deque[tuple[int, Path]] = deque()
        self._most_removed = most_removed
        self.root = tree.root
        self._complete_since = self.root.revision  # since then all that were removed are remembered
        self._looks = {self.root.revision: None}
        self._subscription: Subscription | None = None
        self._latest: dict[Path, LeafChange] = {}

    @property
    def revision(self) -> str:
        """The revision of the last look."""
        return self._tree.revision(self.root)

    def listen(self, changed: Callable[[], object]) -> None:
        """Take what changes from the journal from now on, and have ``changed`` called whenever something does."""
        if self._subscription is not None:
            return

        def receive(changes: tuple[LeafChange, ...]) -> None:
            for change in changes:
                before = self._latest.get(change.path, change)
                self._latest[change.path] = attrs.evolve(change, old=before.old)
            changed()

        with self._tree.lock:
            self.advance()
            if self._tree.journal.is_open:
                self._subscription = self._tree.journal.subscribe([Pattern((), below=True)], receive)
                self._subscription.root = self.root

    def ignore(self) -> None:
        """Take nothing more from the journal: the next look compares."""
        if self._subscription is not None:
            self._subscription.cancel()
            self._subscription = None
            self._latest.clear()

    def advance(self) -> Changes | None:
        """Look again, and return what has changed since the last look; None if nothing has."""
        subscription = self._subscription
        old, new = self.root, self._tree.root if subscription is None else subscription.root
        if new is None or new is old:
            return None
        self.root = new
        if subscription is None:
            changes = difference(old, new)
        else:  # all that leads to the tree after the last delivery
            changes = sorted_out(self._latest.values())
            self._latest.clear()
        self._removed.extend((new.revision, path) for path in changes.removed)
        while len(self._removed) > self._most_removed:
            self._complete_since = self._removed.popleft()[0]
        self._looks[new.revision] = None
        if len(self._looks) > MOST_LOOKS:
            del self._looks[next(iter(self._looks))]
        return changes

    def leaves(self, places: Iterable[Path], newer_than: int = -1) -> dict[Path, Part]:
        """Return the leaves at or below ``places``, as they were at the last look, if they are newer than that."""
        found: dict[Path, Part] = {}
        for place in places:
            try:
                part = self._tree.find(place, self.root)
            except KeyError:
                continue
            if part.revision > newer_than:
                found.update(leaves(part, place, newer_than))
        return found

    def since(self, revision: str, places: Collection[Path] = ((),)) -> Changes | None:
        """Return what has changed at or below ``places`` between ``revision`` and the last look.

        None if that is not known any more, or ``revision`` is not that of a look: what came and went between two looks
        is not known, and who has seen it would keep it.
        """
        number = self._tree.revision_number(revision)
        if number not in self._looks or number < self._complete_since:
            return None
        gone = dict.fromkeys(path for removed, path in self._removed if removed > number)
        removed = [path for path in gone if _is_below(path, places) and not self._has_leaf(path)]
        return Changes(self.leaves(places, number), {}, removed)

    def _has_leaf(self, path: Path) -> bool:
        try:
            return is_leaf(self._tree.find(path, self.root), path)
        except KeyError:
            return False


def difference(old: Node, new: Node) -> Changes:
    """Return what has changed from ``old`` to ``new``."""
    return sorted_out(change for change, _ in differences(old, new, EVERYTHING.start()))


def sorted_out(changes: Iterable[LeafChange]) -> Changes:
    """Return ``changes``, of which there is one for each path, by what they are to a follower."""
    result = Changes({}, {}, [])
    for change in changes:
        if change.new is not None:
            renewed = change.old is not None and change.old.revision == change.new.revision
            (result.renewed if renewed else result.changed)[change.path] = change.new
        elif change.old is not None:
            result.removed.append(change.path)
    return result


def split(changes: Changes, places: Iterable[Path]) -> dict[Path, Changes]:
    """Return what of ``changes`` is at or below each of ``places``, in the time that one look at each change takes."""
    parts = {place: Changes({}, {}, []) for place in places}
    lengths = sorted({len(place) for place in parts})

    def parts_with(path: Path) -> list[Changes]:
        return [parts[path[:length]] for length in lengths if length <= len(path) and path[:length] in parts]

    for path, leaf in changes.changed.items():
        for part in parts_with(path):
            part.changed[path] = leaf
    for path, leaf in changes.renewed.items():
        for part in parts_with(path):
            part.renewed[path] = leaf
    for path in changes.removed:
        for part in parts_with(path):
            part.removed.append(path)
    return parts


def merge(parts: Iterable[Changes]) -> Changes:
    """Return all of ``parts``, which may overlap, as one."""
    changes, removed = Changes({}, {}, []), dict[Path, None]()
    for part in parts:
        changes.changed.update(part.changed)
        changes.renewed.update(part.renewed)
        removed.update(dict.fromkeys(part.removed))
    changes.removed.extend(removed)
    return changes


def _is_below(path: Path, places: Iterable[Path]) -> bool:
    return any(path[: len(place)] == place for place in places)
