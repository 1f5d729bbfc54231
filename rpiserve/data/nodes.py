"""The nodes of the data tree, and the pure functions that grow one tree out of another.

Nodes and leaves are immutable: a change builds new nodes along its path and shares all others. Each knows the revision
of its last change, and each node keeps its JSON once it has been encoded.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, TypeAlias

import attrs

from rpiserve.data import encoding
from rpiserve.data.paths import Path, format_path
from rpiserve.errors import DataError

OK: Final = "ok"
STALE: Final = "stale"
ERROR: Final = "error"


@attrs.frozen(eq=False)
class Source:
    """A polled handler as the writer of leaves.

    Attributes:
        name: the handler's name.
        max_age: seconds after which a leaf that it has not renewed is stale.
    """

    name: str
    max_age: float


@attrs.frozen(eq=False)
class Leaf:
    """A value with its metadata.

    Attributes:
        value: the value, owned by the tree.
        json: the value as JSON.
        unit: its unit, such as ``"°C"``.
        state: `OK`, `STALE` or `ERROR`.
        error: what went wrong, in state `ERROR`.
        time: when it was set, in seconds since the epoch by the wall clock.
        renewed: when it was set, in seconds by the monotonic clock.
        source: the polled handler that wrote it; None for a leaf that never ages.
        revision: the number of its last change; a renewal with the same value is none.
    """

    value: Any
    json: bytes
    unit: str | None
    state: str
    error: str | None
    time: float
    renewed: float
    source: Source | None
    revision: int

    @property
    def expires(self) -> float:
        """When it turns stale, in seconds by the monotonic clock."""
        return self.renewed + self.source.max_age if self.source is not None and self.state == OK else float("inf")

    def meta(self, now: float) -> dict[str, Any]:
        """Return what ``?meta=1`` shows of it. ``now`` is the monotonic clock's reading, in seconds."""
        return {
            "value": encoding.raw(self.json),
            "unit": self.unit,
            "time": encoding.timestamp(self.time),
            "age": round(max(0.0, now - self.renewed), 3),
            "state": self.state,
            "error": self.error,
        }


@attrs.define(eq=False)
class Node:
    """A mapping of keys to leaves and nodes. Never changed once made, but for what it remembers."""

    children: Mapping[str, "Leaf | Node"]
    revision: int
    known_json: bytes | None = None
    _expires: float | None = None

    @property
    def json(self) -> bytes:
        """The values below it as a JSON object, encoded at the first use."""
        if self.known_json is None:
            parts = (encoding.encode(key) + b":" + child.json for key, child in self.children.items())
            self.known_json = b"{" + b",".join(parts) + b"}"
        return self.known_json

    @property
    def expires(self) -> float:
        """When the first leaf below it turns stale, in seconds by the monotonic clock."""
        if self._expires is None:
            self._expires = min((child.expires for child in self.children.values()), default=float("inf"))
        return self._expires

    def meta(self, now: float) -> dict[str, Any]:
        """Return what ``?meta=1`` shows of it."""
        return {key: child.meta(now) for key, child in self.children.items()}


Part: TypeAlias = Leaf | Node
Change: TypeAlias = Callable[[Node, int], Node]
Subtree: TypeAlias = "Leaf | dict[str, Subtree]"
"""A value that was checked and copied, before it has a place and a revision in the tree."""


def freeze(value: object, where: str) -> tuple[Any, bytes]:
    """Return a copy of the leaf ``value`` that nobody else holds, and its JSON."""
    try:
        mine = copy.deepcopy(value)
    except Exception as error:  # a foreign type's own code may raise anything
        raise encoding.unreadable(value, where, error) from error
    wire = encoding.to_wire(mine, where)
    json = encoding.encode(wire)
    if type(wire) in (str, int, float) and isinstance(mine, type(wire)) and not isinstance(mine, Enum):
        mine = wire  # a subclass of a plain type (a numpy.float64, say) is kept as the plain type
    return mine, json


def items(mapping: Mapping[Any, Any], where: str) -> list[tuple[Any, Any]]:
    """Return the items of ``mapping``, which may be of a foreign type.

    Raises:
        DataError: its own code has raised, or its items are no pairs.
    """
    try:
        return [(key, item) for key, item in mapping.items()]
    except Exception as error:  # as above; a dict that another thread changes meanwhile raises, too
        raise encoding.unreadable(mapping, where, error) from error


def replay(root: Node, changes: Iterable[Change]) -> Node:
    """Return ``root`` after all of ``changes``, which together are one revision."""
    revision = root.revision + 1
    for change in changes:
        root = change(root, revision)
    return root


def insert(node: Node, path: Path, subtree: Subtree, revision: int, above: Path = ()) -> Node:
    """Return ``node`` with ``subtree`` at ``path`` below it; ``above`` is the node's own path, for the error."""
    if not path:
        if isinstance(subtree, Leaf):
            raise DataError("the root is a mapping; a value needs a path")
        return _merge_node(node, subtree, revision)
    key, rest = path[0], path[1:]
    old = node.children.get(key)
    if rest:
        if isinstance(old, Leaf):
            place = format_path((*above, key))
            raise DataError(f"{place} holds a value, so nothing can stand below it; remove it first")
        new: Part = insert(old or Node({}, revision), rest, subtree, revision, (*above, key))
    else:
        new = _merge(old, subtree, revision)
    return _with_children(node, {**node.children, key: new}, revision)


def _merge(old: Part | None, subtree: Subtree, revision: int) -> Part:
    """Return ``subtree`` as it follows ``old`` at the same place."""
    if isinstance(subtree, dict):
        return _merge_node(old if isinstance(old, Node) else Node({}, revision), subtree, revision)
    if not isinstance(old, Leaf):
        return attrs.evolve(subtree, revision=revision)
    unit = subtree.unit if subtree.unit is not None else old.unit
    same = (subtree.json, unit, OK) == (old.json, old.unit, old.state)
    return attrs.evolve(subtree, unit=unit, revision=old.revision if same else revision)


def _merge_node(old: Node, subtree: dict[str, Subtree], revision: int) -> Node:
    children = {key: _merge(old.children.get(key), child, revision) for key, child in subtree.items()}
    return _with_children(old, children, revision)


def remove(node: Node, path: Path, revision: int) -> Node:
    """Return ``node`` without what stands at ``path`` below it, if anything does."""
    key, rest = path[0], path[1:]
    old = node.children.get(key)
    if rest and isinstance(old, Node):
        return _with_children(node, {**node.children, key: remove(old, rest, revision)}, revision)
    if rest or old is None:
        return node
    return _with_children(node, {k: child for k, child in node.children.items() if k != key}, revision)


def _with_children(node: Node, children: dict[str, Part], revision: int) -> Node:
    """Return ``node`` with other children; where none has changed, only renewed, it keeps its revision and JSON."""
    if list(children) == list(node.children) and all(
        new.revision == old.revision != revision
        for new, old in zip(children.values(), node.children.values(), strict=True)
    ):
        return Node(children, node.revision, node.known_json)
    return Node(children, revision)


def map_leaves(node: Node, mark: Callable[[Leaf, int], Leaf], revision: int) -> Node:
    """Return ``node`` with each leaf below it replaced by what ``mark`` makes of it; the values must stay."""
    children = {
        key: mark(child, revision) if isinstance(child, Leaf) else map_leaves(child, mark, revision)
        for key, child in node.children.items()
    }
    if all(new is old for new, old in zip(children.values(), node.children.values(), strict=True)):
        return node
    return Node(children, revision, node.known_json)


def leaves(part: Part, path: Path = (), newer_than: int = -1) -> Iterator[tuple[Path, Part]]:
    """Yield each leaf at or below ``part``, which stands at ``path``; of those below it only what is newer."""
    if is_leaf(part, path):
        yield path, part
    for key, child in children_of(part).items():
        if child.revision > newer_than:
            if children_of(child):
                yield from leaves(child, (*path, key), newer_than)
            else:
                yield (*path, key), child


def is_leaf(part: Part | None, path: Path) -> bool:
    """Tell whether ``part``, which stands at ``path``, counts as a leaf; the root never does."""
    return path != () and part is not None and not children_of(part)


def children_of(part: Part | None) -> Mapping[str, Part]:
    """Return what is directly below ``part``; nothing below a leaf."""
    return part.children if isinstance(part, Node) else {}
