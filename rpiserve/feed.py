"""What has changed in the data tree from one look at it to the next, for those who follow it.

The nodes are immutable and share what has not changed, so two looks are compared in the time that the changes take. For
who was away, each leaf knows the revision of its last change; only what was removed has to be remembered, for a while.
A node without anything in it counts as a leaf here, or who follows would not hear of it.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

import attrs

from rpiserve.data import DataTree
from rpiserve.nodes import Node, Part
from rpiserve.paths import Path

MOST_REMOVED: Final = 1000
"""How many removed leaves are remembered."""


@attrs.frozen
class Changes:
    """What has changed.

    Attributes:
        changed: the leaves whose value, unit or state is another, or that are new.
        renewed: those that were only set again.
        removed: the paths of those that are gone.
    """

    changed: Mapping[Path, Part]
    renewed: Mapping[Path, Part]
    removed: tuple[Path, ...]


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
        return changes

    def since(self, revision: str) -> Changes | None:
        """Return what has changed between ``revision`` and the last look; None if that is not known any more."""
        number = self._tree.revision_number(revision)
        if number is None or not self._complete_since <= number <= self.root.revision:
            return None
        changed = dict(leaves(self.root, newer_than=number))
        gone = dict.fromkeys(path for removed, path in self._removed if removed > number)
        return Changes(changed, {}, tuple(path for path in gone if not self._has_leaf(path)))

    def _has_leaf(self, path: Path) -> bool:
        try:
            return _is_leaf(self._tree.find(path, self.root), path)
        except KeyError:
            return False


def difference(old: Node, new: Node) -> Changes:
    """Return what has changed from ``old`` to ``new``."""
    changed: dict[Path, Part] = {}
    renewed: dict[Path, Part] = {}
    removed: list[Path] = []

    def compare(old: Part | None, new: Part | None, path: Path) -> None:
        was_leaf, is_leaf = _is_leaf(old, path), _is_leaf(new, path)
        if new is not None and is_leaf:
            same = was_leaf and old is not None and old.revision == new.revision
            (renewed if same else changed)[path] = new
        elif was_leaf:
            removed.append(path)
        before, after = _children(old), _children(new)
        for key, child in after.items():
            if before.get(key) is not child:  # asked here for the sake of nodes with thousands of children
                compare(before.get(key), child, (*path, key))
        for key, child in before.items():
            if key not in after:
                compare(child, None, (*path, key))

    compare(old, new, ())
    return Changes(changed, renewed, tuple(removed))


def leaves(part: Part, path: Path = (), newer_than: int = -1) -> Iterator[tuple[Path, Part]]:
    """Yield each leaf at or below ``part``, which stands at ``path``; of those below it only what is newer."""
    if _is_leaf(part, path):
        yield path, part
    for key, child in _children(part).items():
        if child.revision > newer_than:
            yield from leaves(child, (*path, key), newer_than)


def _is_leaf(part: Part | None, path: Path) -> bool:
    """Tell whether ``part``, which stands at ``path``, counts as a leaf; the root never does."""
    return path != () and part is not None and not _children(part)


def _children(part: Part | None) -> Mapping[str, Part]:
    return part.children if isinstance(part, Node) else {}
