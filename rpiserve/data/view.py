"""The data tree as users handle it: nested mappings, and paths beside them."""

import copy
from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any

from rpiserve.data.nodes import Leaf, Node, Part, Source, Subtree
from rpiserve.data.paths import Path, check_depth, format_path, join, parse_path
from rpiserve.data.tree import Batch, DataTree
from rpiserve.errors import DataError


class DataView(MutableMapping[str, Any]):
    """A mapping at one place of the data tree. Safe to use from any thread.

    ``[]``, ``get``, ``in``, ``del``, ``update`` and iteration take keys, as a dict does; `at` and `set` take paths such
    as ``"a/b"``, from here on. The view is bound to its path: if the node is replaced it shows the new one, if there
    is none any more each use of it raises `KeyError`. Values are copied on their way in, mutable ones on their way out.

    Args:
        tree: the tree.
        path: the place of this view; ``()`` is the root.
        source: the polled handler that writes through this view; what it writes ages.
    """

    def __init__(self, tree: DataTree, path: Path = (), source: Source | None = None) -> None:
        self._tree = tree
        self._path = path
        self._source = source

    @property
    def revision(self) -> str:
        """The revision of the last change on or below this view's place, as ``<boot id>-<number>``."""
        return self._tree.revision(self._node())

    def at(self, path: str) -> Any:
        """Return the value at ``path`` from here, or a view of the node there.

        Raises:
            KeyError: nothing stands there.
            PathError: ``path`` cannot be a path.
        """
        below = parse_path(path)
        return self._show(self._tree.find((*self._path, *below)), below)

    def set(self, path: str, value: object, *, unit: str | None = None) -> None:
        """Put a copy of ``value`` at ``path`` from here, and make the nodes between.

        Args:
            path: where to, as keys joined by ``/``.
            value: the value; a mapping becomes a node with all that is in it.
            unit: the unit of the value, of each value in a mapping; None leaves that of the value before.

        Raises:
            KeyError: this view's own node is gone.
            PathError: ``path`` cannot be a path.
            DataError: the value cannot be served as JSON, or a part of the path holds a value.
        """
        below = parse_path(path)
        if not below:
            raise DataError("set() needs the path of a value; update() changes this view's own")
        if unit is not None and not isinstance(unit, str):
            raise DataError(f"{path}: the unit is of type {type(unit).__name__}; units are strings")
        self._assign(check_depth((*self._path, *below)), value, unit)

    def batch(self) -> Batch:
        """Return a context manager that collects writes: readers get all of them at its end, or none if it raises."""
        return self._tree.batch()

    def snapshot(self) -> dict[str, Any]:
        """Return all below here as nested dicts of copies, of one moment."""
        return _copy_node(self._node())

    def __getitem__(self, key: str) -> Any:
        children = self._node().children
        if key not in children:
            raise KeyError(key)
        return self._show(children[key], (key,))

    def __setitem__(self, key: str, value: object) -> None:
        self._assign(join(self._path, key), value)

    def __delitem__(self, key: str) -> None:
        with self._tree.lock:
            if key not in self._node().children:
                raise KeyError(key)
            self._tree.remove((*self._path, key))

    def __iter__(self) -> Iterator[str]:
        return iter(self._node().children)

    def __len__(self) -> int:
        return len(self._node().children)

    # The mixins of MutableMapping take the KeyError of a view whose node is gone for that of a missing key, and they
    # read and write key by key, though other threads may write in between; hence these.

    def __contains__(self, key: object) -> bool:
        return key in self._node().children

    def items(self) -> ItemsView[str, Any]:
        """Return the items, of one moment."""
        return self._shown().items()

    def values(self) -> ValuesView[Any]:
        """Return the values, of one moment."""
        return self._shown().values()

    def __eq__(self, other: object) -> bool:
        return bool(self.snapshot() == _plain(other))

    def __deepcopy__(self, memo: object) -> dict[str, Any]:
        return self.snapshot()

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value or view at ``key``, or ``default`` if there is none."""
        children = self._node().children
        return self._show(children[key], (key,)) if key in children else default

    def update(self, other: Any = (), /, **values: Any) -> None:
        """Assign each item of a mapping or of an iterable of pairs, and each keyword argument, in one step."""
        places = ((join(self._path, key), value) for key, value in dict(_plain(other), **values).items())
        subtrees = {path: self._build_subtree(path, value) for path, value in places}
        with self._tree.lock, self.batch():
            self._node()
            for path, subtree in subtrees.items():
                self._tree.insert(path, subtree)

    def clear(self) -> None:
        """Remove all that stands below here."""
        self._assign(self._path, {})

    def pop(self, key: str, *default: Any) -> Any:
        """Remove ``key`` and return what stood there, a node as nested dicts; ``default`` if nothing did."""
        with self._tree.lock:
            part = self._node().children.get(key)
            if part is None:
                if default:
                    return default[0]
                raise KeyError(key)
            self._tree.remove((*self._path, key))
        return _copy(part)

    def popitem(self) -> tuple[str, Any]:
        """Remove the item that was added last, and return it as `pop` does."""
        with self._tree.lock:
            items = list(self._node().children.items())
            if not items:
                raise KeyError(f"{self!r} is empty")
            key, part = items[-1]
            self._tree.remove((*self._path, key))
        return key, _copy(part)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return what stands at ``key``; if nothing does, assign ``default`` first."""
        part = self._node().children.get(key)
        if part is None:
            path = join(self._path, key)
            subtree = self._build_subtree(path, default)
            with self._tree.lock:
                if key not in self._node().children:
                    self._tree.insert(path, subtree)
                part = self._node().children[key]
        return self._show(part, (key,))

    def __str__(self) -> str:
        return str(self.snapshot())

    def __repr__(self) -> str:
        return f"<data at {format_path(self._path)!r}>" if self._path else "<data>"

    def _node(self) -> Node:
        part = self._tree.find(self._path)
        if isinstance(part, Node):
            return part
        raise KeyError(format_path(self._path))

    def _assign(self, path: Path, value: object, unit: str | None = None) -> None:
        subtree = self._build_subtree(path, value, unit)
        with self._tree.lock:
            self._node()
            self._tree.insert(path, subtree)

    def _build_subtree(self, path: Path, value: object, unit: str | None = None) -> Subtree:
        return self._tree.build_subtree(path, _plain(value), units=unit, source=self._source)

    def _shown(self) -> dict[str, Any]:
        return {key: self._show(part, (key,)) for key, part in self._node().children.items()}

    def _show(self, part: Part, below: Path) -> Any:
        if isinstance(part, Leaf):
            return copy.deepcopy(part.value)
        return DataView(self._tree, (*self._path, *below), self._source)


def _plain(value: Any) -> Any:
    """Return ``value``; a view as a snapshot, so that what is assigned is of one moment."""
    return value.snapshot() if isinstance(value, DataView) else value


def _copy_node(node: Node) -> dict[str, Any]:
    return {key: _copy(child) for key, child in node.children.items()}


def _copy(part: Part) -> Any:
    return _copy_node(part) if isinstance(part, Node) else copy.deepcopy(part.value)
