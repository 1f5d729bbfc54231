"""What has changed in the data tree from one look at it to the next, for those who follow it.

The nodes are immutable and share what has not changed, so two looks are compared in the time that the changes take. For
who was away, each leaf knows the revision of its last change; only what was removed has to be remembered, for a while.
A node without anything in it counts as a leaf here, or who follows would not hear of it.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import attrs

from rpiserve.data.nodes import Node, Part
from rpiserve.data.paths import Path
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


class TreeFeed:
    """Follows a tree, one look after the other.

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

    @property
    def revision(self) -> str:
        """The revision of the last look."""
        return self._tree.revision(self.root)

    def advance(self) -> Changes | None:
        """Look again, and return what has changed since the last look; None if nothing has."""
        old, new = self.root, self._tree.root
        if new is old:
            return None
        self.root = new
        changes = difference(old, new)
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
            return _is_leaf(self._tree.find(path, self.root), path)
        except KeyError:
            return False


def difference(old: Node, new: Node) -> Changes:
    """Return what has changed from ``old`` to ``new``."""
    changes = Changes({}, {}, [])

    def compare(old: Part | None, new: Part | None, path: Path) -> None:
        was_leaf, is_leaf = _is_leaf(old, path), _is_leaf(new, path)
        if new is not None and is_leaf:
            same = was_leaf and old is not None and old.revision == new.revision
            (changes.renewed if same else changes.changed)[path] = new
        elif was_leaf:
            changes.removed.append(path)
        before, after = _children(old), _children(new)
        # Told apart here, and not by a call for each, for the sake of nodes with thousands of children.
        for key in [key for key, child in after.items() if before.get(key) is not child]:
            compare(before.get(key), after[key], (*path, key))
        for key in [key for key in before if key not in after]:
            compare(before[key], None, (*path, key))

    compare(old, new, ())
    return changes


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


def leaves(part: Part, path: Path = (), newer_than: int = -1) -> Iterator[tuple[Path, Part]]:
    """Yield each leaf at or below ``part``, which stands at ``path``; of those below it only what is newer."""
    if _is_leaf(part, path):
        yield path, part
    for key, child in _children(part).items():
        if child.revision > newer_than:
            if _children(child):
                yield from leaves(child, (*path, key), newer_than)
            else:
                yield (*path, key), child


def _is_leaf(part: Part | None, path: Path) -> bool:
    """Tell whether ``part``, which stands at ``path``, counts as a leaf; the root never does."""
    return path != () and part is not None and not _children(part)


def _is_below(path: Path, places: Iterable[Path]) -> bool:
    return any(path[: len(place)] == place for place in places)


def _children(part: Part | None) -> Mapping[str, Part]:
    return part.children if isinstance(part, Node) else {}
