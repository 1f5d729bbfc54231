"""The data tree as users handle it: nested mappings, and paths beside them."""

import copy
from collections.abc import Iterator, MutableMapping
from typing import Any

from rpiserve.data import Batch, DataTree
from rpiserve.errors import DataError
from rpiserve.nodes import Leaf, Node, Part, Source
from rpiserve.paths import Path, check_depth, check_key, format_path, parse_path


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
            PathError: ``path`` cannot be a path.
            DataError: the value cannot be served as JSON, or a part of the path holds a value.
        """
        below = parse_path(path)
        if not below:
            raise DataError("set() needs the path of a value; update() changes this view's own")
        if unit is not None and not isinstance(unit, str):
            raise DataError(f"{path}: the unit {unit!r} is of type {type(unit).__name__}; units are strings")
        self._assign(below, value, unit)

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
        with self._tree.lock:
            self._node()
            self._assign((check_key(key),), value)

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
    # write key by key; hence these.

    def __contains__(self, key: object) -> bool:
        return key in self._node().children

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value or view at ``key``, or ``default`` if there is none."""
        children = self._node().children
        return self._show(children[key], (key,)) if key in children else default

    def update(self, other: Any = (), /, **values: Any) -> None:
        """Assign each item of a mapping or of an iterable of pairs, and each keyword argument, in one step."""
        with self.batch():
            super().update(other, **values)

    def clear(self) -> None:
        """Remove all that stands below here."""
        with self._tree.lock:
            self._node()
            self._assign((), {})

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
            keys = list(self)
            if not keys:
                raise KeyError(f"{self!r} is empty")
            return keys[-1], self.pop(keys[-1])

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return what stands at ``key``; if nothing does, assign ``default`` first."""
        with self._tree.lock:
            return super().setdefault(key, default)

    def __repr__(self) -> str:
        return f"<data at {format_path(self._path)!r}>" if self._path else "<data>"

    def _node(self) -> Node:
        part = self._tree.find(self._path)
        if isinstance(part, Node):
            return part
        raise KeyError(format_path(self._path))

    def _assign(self, below: Path, value: object, unit: str | None = None) -> None:
        path = check_depth((*self._path, *below))
        self._tree.assign(path, _plain(value), units=unit, source=self._source)

    def _show(self, part: Part, below: Path) -> Any:
        if isinstance(part, Leaf):
            return copy.deepcopy(part.value)
        return DataView(self._tree, (*self._path, *below), self._source)


def _plain(value: object) -> object:
    """Return ``value``; a view as a snapshot, so that what is assigned is of one moment."""
    return value.snapshot() if isinstance(value, DataView) else value


def _copy_node(node: Node) -> dict[str, Any]:
    return {key: _copy(child) for key, child in node.children.items()}


def _copy(part: Part) -> Any:
    return _copy_node(part) if isinstance(part, Node) else copy.deepcopy(part.value)
