"""The data tree: what sensors write and the HTTP API serves.

A write publishes the new root in one assignment, so a reader holds a consistent snapshot without any lock and never
waits for a writer. A *change* is a pure function from a root and a revision number to a root. A batch is a list of
changes: its own context sees them on top of the tree, and they are replayed on the tree as it is when the batch ends.
"""

import re
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import TypeAlias

import attrs

from rpiserve.data.encoding import plain_text, printable
from rpiserve.data.journal import Journal
from rpiserve.data.nodes import (
    ERROR,
    OK,
    STALE,
    Change,
    Leaf,
    Node,
    Part,
    Source,
    Subtree,
    freeze,
    insert,
    items,
    map_leaves,
    remove,
    replay,
)
from rpiserve.data.paths import Path, format_path, join

_NUMBER = re.compile("[0-9]{1,18}")

Units: TypeAlias = str | Mapping[Path, str] | None
"""One unit for every leaf that is written, or the unit of each path below the place that is written."""


class DataTree:
    """The tree itself. Safe to use from any thread.

    Args:
        boot_id: a name for this run of the daemon, unique across restarts.
        monotonic: the clock that ages the leaves, in seconds.
        wall: the clock that dates them, in seconds since the epoch.

    Attributes:
        journal: delivers what changes.
    """

    def __init__(self, boot_id: str, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._boot_id = boot_id
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.RLock()
        self._root = Node({}, 0)
        self.journal = Journal(self._lock)

    @property
    def lock(self) -> threading.RLock:
        """Held for the moment of one change; take it to make a read and a write one step."""
        return self._lock

    @property
    def root(self) -> Node:
        """The tree as the current context sees it: with its own open batch, if it has one."""
        return self.root_under(_innermost.get())

    def revision(self, part: Part) -> str:
        """Return the revision of ``part`` as ``<boot id>-<number>``, unique across restarts."""
        return f"{self._boot_id}-{part.revision}"

    def revision_number(self, revision: str) -> int | None:
        """Return the number in ``revision``, which a client may have sent; None if it is none of this boot."""
        boot_id, _, number = revision.rpartition("-")
        return int(number) if boot_id == self._boot_id and _NUMBER.fullmatch(number) else None

    def find(self, path: Path, root: Node | None = None) -> Part:
        """Return what stands at ``path``, now or in the tree as it was with ``root``.

        Raises:
            KeyError: nothing does; its argument is the path as text.
        """
        part: Part = self.root if root is None else root
        for key in path:
            if not isinstance(part, Node) or key not in part.children:
                raise KeyError(format_path(path))
            part = part.children[key]
        return part

    def assign(self, path: Path, value: object, *, units: Units = None, source: Source | None = None) -> None:
        """Put a copy of ``value`` at ``path``, and make the nodes between; a mapping becomes a node.

        What is the same as before keeps its revision; a leaf keeps its unit unless ``units`` has another.

        Raises:
            PathError: a key in a mapping cannot be one, or the place would be too deep.
            DataError: the value cannot be served as JSON, or a part of the path holds a value.
        """
        self.insert(path, self.build_subtree(path, value, units=units, source=source))

    def build_subtree(self, path: Path, value: object, *, units: Units = None, source: Source | None = None) -> Subtree:
        """Return a checked copy of ``value``, to be planted at ``path``; what it raises is told at `assign`.

        It may run foreign code for as long as that likes, so the lock must not be held.
        """
        return self._build_subtree(path, value, units, (), source)

    def insert(self, path: Path, subtree: Subtree) -> None:
        """Put ``subtree`` at ``path``; what it raises is told at `assign`."""
        self.apply(lambda root, revision: insert(root, path, subtree, revision))

    def remove(self, path: Path) -> None:
        """Remove what stands at ``path``.

        Raises:
            KeyError: nothing does.
        """
        with self._lock:
            self.find(path)
            self.apply(lambda root, revision: remove(root, path, revision))

    def fail(self, source: Source, error: str) -> None:
        """Mark each leaf that ``source`` wrote with the state `ERROR` and the text ``error``."""
        text = printable(error)

        def mark(leaf: Leaf, revision: int) -> Leaf:
            if leaf.source is not source or (leaf.state == ERROR and leaf.error == text):
                return leaf
            return attrs.evolve(leaf, state=ERROR, error=text, revision=revision)

        self.apply(lambda root, revision: map_leaves(root, mark, revision))

    def recover(self, source: Source) -> None:
        """Mark each leaf that ``source`` wrote, and `fail` has marked, with the state `OK` again."""

        def mark(leaf: Leaf, revision: int) -> Leaf:
            if leaf.source is not source or leaf.state != ERROR:
                return leaf
            return attrs.evolve(leaf, state=OK, error=None, revision=revision)

        self.apply(lambda root, revision: map_leaves(root, mark, revision))

    def age(self) -> None:
        """Mark as `STALE` each polled leaf that has not been renewed in time."""
        now = self._monotonic()
        if self._root.expires > now:
            return

        def mark(leaf: Leaf, revision: int) -> Leaf:
            return leaf if leaf.expires > now else attrs.evolve(leaf, state=STALE, revision=revision)

        self.apply(lambda root, revision: map_leaves(root, mark, revision))

    def apply(self, *changes: Change) -> None:
        """Do all of ``changes`` at once, or, if one raises, none; in the current context's batch if it has one."""
        with self._lock:
            batch = self._nearest(_innermost.get())
            if batch is None:
                old, self._root = self._root, replay(self._root, changes)
                self.journal.record(old, self._root)
            else:
                batch.extend(changes)

    def now(self) -> float:
        """Return the reading of the clock that ages the leaves, in seconds."""
        return self._monotonic()

    def batch(self) -> "Batch":
        """Return a context manager that collects the writes of the current context; see `Batch`."""
        return Batch(self)

    def root_under(self, batch: "Batch | None") -> Node:
        """Return the tree as seen from inside ``batch``, which may be of another tree or closed."""
        nearest = self._nearest(batch)
        return self._root if nearest is None else nearest.root()

    def _nearest(self, batch: "Batch | None") -> "Batch | None":
        # A context that was copied inside a batch may outlive it: a closed batch is as good as none.
        while batch is not None and not (batch.open and batch.tree is self):
            batch = batch.outer
        return batch

    def _build_subtree(self, path: Path, value: object, units: Units, below: Path, source: Source | None) -> "Subtree":
        if isinstance(value, Mapping):
            children: dict[str, Subtree] = {}
            for key, child in items(value, format_path(path)):
                place = join(path, key)
                children[place[-1]] = self._build_subtree(place, child, units, (*below, place[-1]), source)
            return children
        where = format_path(path)
        frozen, json = freeze(value, where)
        unit = units.get(below) if isinstance(units, Mapping) else units
        if unit is not None:
            unit = plain_text(unit, f"{where}: the unit")
        return Leaf(frozen, json, unit, OK, None, self._wall(), self._monotonic(), source, 0)


class Batch:
    """Writes that readers get all at once.

    Inside ``with tree.batch():`` the current context (and nobody else) sees its own writes on top of the tree. At its
    end they are done in one step; after an exception none is. No lock is held meanwhile. A batch inside a batch becomes
    part of the outer one.
    """

    def __init__(self, tree: DataTree) -> None:
        self.tree = tree
        self.outer: Batch | None = None
        self.open = False
        self._changes: list[Change] = []
        self._base: Node | None = None
        self._seen = Node({}, 0)

    def __enter__(self) -> None:
        if self.open:
            raise RuntimeError("this batch is open already; take a new one from batch()")
        self._changes, self._base = [], None
        self.outer, self.open = _innermost.get(), True
        _innermost.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _innermost.set(self.outer)
        with self.tree.lock:  # or the write of a context that was copied inside might come in between, and be lost
            self.open = False
            if kind is None:
                self.tree.apply(*self._changes)

    def root(self) -> Node:
        """Return the tree as the outer context has it now, with this batch's changes done."""
        with self.tree.lock:
            base = self.tree.root_under(self.outer)
            if base is not self._base:
                self._base, self._seen = base, replay(base, self._changes)
            return self._seen

    def extend(self, changes: tuple[Change, ...]) -> None:
        """Add ``changes``. Raises what they raise on what this batch sees, and is then as before."""
        self._seen = replay(self.root(), changes)
        self._changes.extend(changes)


_innermost: ContextVar[Batch | None] = ContextVar("rpiserve_batch", default=None)
