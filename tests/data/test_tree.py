"""The data tree: its JSON and revisions, metadata, ageing and failing, batches, and many threads at once."""

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from datetime import date
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from twisted.internet.task import Clock

from rpiserve.data import encoding
from rpiserve.data.nodes import Leaf, Node, Source
from rpiserve.data.paths import MAX_DEPTH
from rpiserve.data.tree import DataTree
from rpiserve.errors import DataError, PathError

Result = TypeVar("Result")


@pytest.fixture
def clock() -> Clock:
    """The clock that ages the leaves; the wall clock shows 1,000,000 s more."""
    return Clock()


@pytest.fixture
def tree(clock: Clock) -> DataTree:
    """An empty tree."""
    return DataTree("boot", clock.seconds, lambda: 1_000_000 + clock.seconds())


@pytest.fixture
def restless() -> Iterator[None]:
    """Let the interpreter switch between threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_thread(function: Callable[..., Result], *arguments: Any) -> Result:
    """Return what ``function`` returns in another thread; fail if that thread is held up."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(function, *arguments).result(timeout=10)
    finally:
        pool.shutdown(wait=False)


@contextmanager
def broken_batch(tree: DataTree) -> Iterator[None]:
    """A batch in which an exception is raised after all that is done in it."""
    with suppress(ZeroDivisionError), tree.batch():
        yield
        raise ZeroDivisionError


def outside(tree: DataTree) -> Node:
    """Return the tree as a context without a batch sees it."""
    return Context().run(lambda: tree.root)


def leaf(tree: DataTree, *path: str) -> Leaf:
    """Return the leaf at ``path``."""
    found = tree.find(path)
    assert isinstance(found, Leaf)
    return found


def plain(node: Node) -> Any:
    """Return what is served of ``node``."""
    return json.loads(node.json)


def meta(tree: DataTree) -> Any:
    """Return what ``?meta=1`` serves of the tree."""
    return json.loads(encoding.encode(tree.root.meta(tree.now())))


# --- the tree, its JSON and its revisions ------------------------------------------------------------


def test_empty(tree: DataTree) -> None:
    """A new tree is an empty object, of revision 0."""
    assert tree.root.json == b"{}"
    assert tree.revision(tree.root) == "boot-0"
    assert tree.find(()) is tree.root


def test_assign_and_find(tree: DataTree) -> None:
    """The nodes between are made, keys may hold a slash, and where nothing stands is a `KeyError` with the path."""
    tree.assign(("a", "b/c"), 1.5)
    tree.assign(("a", "d"), {"e": {}, "f": [1]})
    assert tree.root.json == b'{"a":{"b/c":1.5,"d":{"e":{},"f":[1]}}}'
    assert tree.find(("a", "d", "f")).json == b"[1]"
    for path, text in (
        (("a", "x/y"), "'a/x%2Fy'"),
        (("a", "b/c", "z"), "'a/b%2Fc/z'"),
        (("x", "y"), "'x/y'"),
    ):
        with pytest.raises(KeyError) as caught:
            tree.find(path)
        assert str(caught.value) == text


def test_json_is_encoded_once(tree: DataTree) -> None:
    """A part that has not changed keeps its node, its JSON as the very same object and its revision."""
    tree.assign(("a",), {"x": 1, "y": {"z": 2}})
    tree.assign(("b",), {"x": 1})
    json_a, json_y = tree.find(("a",)).json, tree.find(("a", "y")).json
    revision = tree.find(("a",)).revision
    tree.assign(("b", "x"), 2)
    assert tree.find(("a",)).json is json_a
    assert tree.find(("a",)).revision == revision
    tree.assign(("a", "x"), 3)
    assert tree.find(("a", "y")).json is json_y
    assert tree.root.json == b'{"a":{"x":3,"y":{"z":2}},"b":{"x":2}}'


def test_equal_values_change_nothing(tree: DataTree, clock: Clock) -> None:
    """The same value again moves the time, but neither the revision nor the JSON, however it is assigned."""
    tree.assign(("a", "b"), {"c": 1, "d": []})
    before = tree.root.json
    clock.advance(5)
    for path, value in ((("a", "b", "c"), 1), (("a", "b"), {"c": 1, "d": []}), (("a",), {"b": {"c": 1, "d": []}})):
        tree.assign(path, value)
        assert tree.root.json is before
        assert tree.root.revision == leaf(tree, "a", "b", "c").revision == 1
    assert leaf(tree, "a", "b", "c").time == 1_000_005


def test_the_json_decides(tree: DataTree) -> None:
    """A value of another type that is served alike is no change, though it is what is read from then on."""
    for value in ([1, "2026-01-01"], (Decimal(1), date(2026, 1, 1))):
        tree.assign(("a",), value)
        assert leaf(tree, "a").value == value
        assert tree.root.revision == 1


@pytest.mark.parametrize("other", [2, True, 1.0, "1", [1], None, {"x": 1}, {}], ids=repr)
def test_other_values_change_the_revision(tree: DataTree, other: object) -> None:
    """A value that differs raises the revision of all that it is part of, even if Python calls it equal."""
    tree.assign(("a", "b"), 1)
    tree.assign(("c",), 1)
    before = tree.root.json
    tree.assign(("a", "b"), other)
    assert tree.root.json != before
    assert [tree.find(path).revision for path in ((), ("a",), ("a", "b"), ("c",))] == [3, 3, 3, 2]


def test_order_is_a_change(tree: DataTree) -> None:
    """The keys are served in the order they were assigned in; another order is another revision of the mapping."""
    tree.assign(("a",), {"x": 1, "y": 2})
    tree.assign(("a",), {"y": 2, "x": 1})
    assert tree.root.json == b'{"a":{"y":2,"x":1}}'
    assert (tree.find(("a",)).revision, tree.find(("a", "x")).revision) == (2, 1)


def test_a_mapping_replaces(tree: DataTree) -> None:
    """A mapping replaces what stood there, be it a mapping or a value; None inside it is a value."""
    tree.assign(("a",), {"x": 1, "y": {"z": 1}})
    tree.assign(("a",), {"y": None, "w": 2})
    assert tree.root.json == b'{"a":{"y":null,"w":2}}'
    tree.assign(("a", "w"), {"v": 1})
    assert tree.root.json == b'{"a":{"y":null,"w":{"v":1}}}'
    tree.assign((), {"b": 1})
    assert tree.root.json == b'{"b":1}'


def test_nothing_below_a_value(tree: DataTree) -> None:
    """A path through a value is refused with the place of that value, and changes nothing."""
    tree.assign(("a", "b/c"), 1)
    before = tree.root
    with pytest.raises(DataError, match="a/b%2Fc holds a value, so nothing can stand below it; remove it first"):
        tree.assign(("a", "b/c", "d", "e"), 1)
    assert tree.root is before


def test_the_root_is_a_mapping(tree: DataTree) -> None:
    """A value cannot stand at the root."""
    with pytest.raises(DataError, match="the root is a mapping; a value needs a path"):
        tree.assign((), 1)
    assert tree.root.json == b"{}"


def test_remove(tree: DataTree) -> None:
    """What is removed is gone and its parents have changed; a path where nothing stands is a `KeyError`."""
    tree.assign(("a",), {"b": {"c": 1, "d": 2}, "e": 3})
    tree.remove(("a", "b", "c"))
    assert tree.root.json == b'{"a":{"b":{"d":2},"e":3}}'
    assert tree.root.revision == tree.find(("a", "b")).revision == 2
    tree.remove(("a", "b"))
    assert tree.root.json == b'{"a":{"e":3}}'
    before = tree.root
    for path in (("a", "b"), ("a", "b", "d"), ("a", "e", "f"), ("x",)):
        with pytest.raises(KeyError, match="/".join(path)):
            tree.remove(path)
    assert tree.root is before


class Hostile(Mapping[str, int]):
    """A mapping whose items cannot be had."""

    def __init__(self, items: Callable[[], Any]) -> None:
        self._items = items

    def items(self) -> Any:
        """Do as told."""
        return self._items()

    def __getitem__(self, key: str) -> int:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def fail() -> None:
    """Raise what no caller expects."""
    raise OSError("password 1234")


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ({"b": [b""]}, DataError, "a/b: a value of type bytes"),
        ({"b": {"c/d": b""}}, DataError, "a/b/c%2Fd: a value of type bytes"),
        ({"b": {"": 1}}, PathError, "at a/b: '' cannot be a key"),
        ({"b": {1: 1}}, PathError, "at a/b: a key is of type int"),
        ({"b": threading.Lock()}, DataError, "a/b: a value of type lock could not be read: TypeError"),
        ({"b": Hostile(fail)}, DataError, "a/b: a value of type Hostile could not be read: OSError"),
        ({"b": Hostile(lambda: [1])}, DataError, "a/b: a value of type Hostile could not be read: TypeError"),
        ({"b": Hostile(lambda: [(1, 2, 3)])}, DataError, "a/b: a value of type Hostile could not be read: ValueError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(tree: DataTree, value: object, error: type[Exception], text: str) -> None:
    """A mapping with something in it that is refused is refused as a whole, and the error names the place."""
    tree.assign(("a",), {"b": 1})
    before = tree.root
    with pytest.raises(error) as caught:
        tree.assign(("a",), value)
    assert str(caught.value).startswith(text)
    assert "1234" not in str(caught.value)
    assert tree.root is before


def test_depth(tree: DataTree) -> None:
    """A mapping in itself, or one that is nested too deep, is refused; one as deep as allowed is served."""
    endless: dict[str, Any] = {}
    endless["a"] = endless
    with pytest.raises(PathError, match=f"^at a/a/a/.* is deeper than {MAX_DEPTH} keys"):
        tree.assign(("a",), endless)
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        deep = {"a": deep}
    tree.assign(("a",), deep)
    assert tree.root.json == b'{"a":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH


# --- metadata -----------------------------------------------------------------------------------------


def test_meta(tree: DataTree, clock: Clock) -> None:
    """Each leaf is shown with its value, unit, time, age, state and error, in the shape of the tree."""
    clock.advance(0.5)
    tree.assign(("a", "b"), 21.5, units="°C")
    tree.assign(("c",), [1, {}])
    clock.advance(1.23456)
    shown = {"time": "1970-01-12T13:46:40.500Z", "age": 1.235, "state": "ok", "error": None}
    assert meta(tree) == {
        "a": {"b": {"value": 21.5, "unit": "°C", **shown}},
        "c": {"value": [1, {}], "unit": None, **shown},
    }


def test_age_is_never_negative(tree: DataTree) -> None:
    """A leaf that was set just after the clock was read is 0 s old."""
    tree.assign(("a",), 1)
    assert json.loads(encoding.encode(tree.root.meta(-5.0)))["a"]["age"] == 0


def test_unit_is_kept_and_updated(tree: DataTree) -> None:
    """A write without a unit keeps it; another unit is a change, which the value's JSON does not show."""
    tree.assign(("a",), {"b": 1}, units="W")
    tree.assign(("a", "b"), 2)
    assert leaf(tree, "a", "b").unit == "W"
    tree.assign(("a",), {"b": 3, "c": 4})
    assert (leaf(tree, "a", "b").unit, leaf(tree, "a", "c").unit) == ("W", None)
    before = tree.root
    tree.assign(("a", "b"), 3, units="kW")
    assert (leaf(tree, "a", "b").unit, leaf(tree, "a", "b").revision) == ("kW", before.revision + 1)
    assert tree.root.json == before.json


def test_unit_is_gone_with_its_leaf(tree: DataTree) -> None:
    """A leaf that was removed, or replaced by a mapping, takes its unit along."""
    tree.assign(("a",), 1, units="W")
    tree.remove(("a",))
    tree.assign(("a",), 1)
    assert leaf(tree, "a").unit is None
    tree.assign(("a",), 1, units="W")
    tree.assign(("a",), {})
    tree.assign(("a",), 1)
    assert leaf(tree, "a").unit is None


def test_units_of_a_mapping(tree: DataTree) -> None:
    """One unit is that of every value; a mapping of paths gives each its own, and the others none."""
    reading = {"power": 1, "day": {"yield": 2, "from": None}}
    tree.assign(("a",), reading, units="W")
    assert [leaf(tree, "a", *path).unit for path in (("power",), ("day", "yield"), ("day", "from"))] == ["W"] * 3
    tree.assign(("b",), reading, units={("power",): "W", ("day", "yield"): "Wh", ("gone",): "V"})
    assert [leaf(tree, "b", *path).unit for path in (("power",), ("day", "yield"), ("day", "from"))] == [
        "W",
        "Wh",
        None,
    ]
    tree.assign(("c",), 1, units={(): "A"})
    assert leaf(tree, "c").unit == "A"


class Unit(str):
    """A subclass of str, which the encoder would not take."""


def test_unit_can_be_served(tree: DataTree) -> None:
    """A unit is kept as plain text; one that cannot be encoded is refused at once, not when it is served."""
    tree.assign(("a",), 1, units=Unit("W"))
    assert type(leaf(tree, "a").unit) is str
    assert meta(tree)["a"]["unit"] == "W"
    for path, units in ((("a",), "\ud800"), (("a", "b"), {("b",): "\ud800"})):
        with pytest.raises(DataError, match=f"{'/'.join(path)}: the unit: the text .* lone surrogate"):
            tree.assign(("a",), {"b": 1} if len(path) > 1 else 1, units=units)
    assert meta(tree)["a"]["unit"] == "W"


def test_failing(tree: DataTree, clock: Clock) -> None:
    """A failing source marks what it wrote and nothing else; values, times and JSON stay, the revision rises."""
    good, bad = Source("good", 10), Source("bad", 10)
    tree.assign(("a",), {"x": 1, "y": 2}, source=bad)
    tree.assign(("b",), 3, source=good)
    tree.assign(("c",), 4)
    json_before = tree.root.json
    clock.advance(5)
    tree.fail(bad, "no answer")
    assert [(part["state"], part["error"], part["age"]) for part in meta(tree)["a"].values()] == [
        ("error", "no answer", 5)
    ] * 2
    assert [meta(tree)[key]["state"] for key in "bc"] == ["ok", "ok"]
    assert tree.root.json is json_before
    assert [tree.find(path).revision for path in ((), ("a",), ("a", "x"), ("b",))] == [4, 4, 4, 2]


def test_failing_again(tree: DataTree) -> None:
    """The same failure again is no change, another text is one, and a failure of who wrote nothing is none."""
    source = Source("it", 10)
    tree.fail(source, "before the first reading")
    assert tree.root.revision == 0
    tree.assign(("a",), 1, source=source)
    tree.fail(source, "no answer")
    before = tree.root
    tree.fail(source, "no answer")
    assert tree.root is before
    tree.fail(source, "wrong answer")
    assert leaf(tree, "a").error == "wrong answer"
    assert tree.root.revision == before.revision + 1


def test_recovery(tree: DataTree) -> None:
    """A good reading ends the error, and is a change though the value is the same."""
    source = Source("it", 10)
    tree.assign(("a",), 1, units="W", source=source)
    tree.fail(source, "no answer")
    tree.assign(("a",), 1, source=source)
    assert (leaf(tree, "a").state, leaf(tree, "a").error, leaf(tree, "a").unit) == ("ok", None, "W")
    assert leaf(tree, "a").revision == tree.root.revision == 3


def test_error_text_can_be_served(tree: DataTree) -> None:
    """An error that names a file with undecodable bytes does not keep the metadata from being served."""
    source = Source("it", 10)
    tree.assign(("a",), 1, source=source)
    tree.fail(source, Unit("cannot read \udcff"))
    assert meta(tree)["a"]["error"] == "cannot read \\udcff"
    before = tree.root
    tree.fail(source, "cannot read \udcff")
    assert tree.root is before


def test_ageing(tree: DataTree, clock: Clock) -> None:
    """A polled leaf that is not renewed in time is stale, which is a change; any other leaf never is."""
    tree.assign(("a",), {"x": 1}, source=Source("fast", 10))
    tree.assign(("b",), 2, source=Source("slow", 100))
    tree.assign(("c",), 3)
    before = tree.root
    json_before = before.json
    clock.advance(9.999)
    tree.age()
    assert tree.root is before
    clock.advance(0.001)
    tree.age()
    assert [meta(tree)["a"]["x"]["state"], meta(tree)["b"]["state"]] == ["stale", "ok"]
    assert [tree.find(path).revision for path in ((), ("a",), ("b",))] == [4, 4, 2]
    assert tree.root.json is json_before
    before = tree.root
    tree.age()
    assert tree.root is before
    clock.advance(1e9)
    tree.age()
    assert [meta(tree)[key]["state"] for key in "bc"] == ["stale", "ok"]


def test_renewal_keeps_fresh(tree: DataTree, clock: Clock) -> None:
    """A value that is renewed, though the same, does not turn stale; one that did is ok again, as a change."""
    source = Source("it", 10)
    for _ in range(5):
        tree.assign(("a", "b"), 1, source=source)
        clock.advance(9)
        tree.age()
    assert (leaf(tree, "a", "b").state, tree.root.revision) == ("ok", 1)
    clock.advance(9)
    tree.age()
    assert (leaf(tree, "a", "b").state, tree.root.revision) == ("stale", 2)
    tree.assign(("a", "b"), 1, source=source)
    assert (leaf(tree, "a", "b").state, tree.root.revision) == ("ok", 3)


def test_error_comes_before_stale(tree: DataTree, clock: Clock) -> None:
    """A leaf in error does not turn stale, and a stale one whose source fails is in error."""
    source = Source("it", 10)
    tree.assign(("a",), 1, source=source)
    tree.fail(source, "no answer")
    clock.advance(100)
    tree.age()
    assert leaf(tree, "a").state == "error"
    tree.assign(("a",), 1, source=source)
    clock.advance(100)
    tree.age()
    tree.fail(source, "no answer")
    assert (leaf(tree, "a").state, leaf(tree, "a").error) == ("error", "no answer")


def test_the_last_writer_counts(tree: DataTree, clock: Clock) -> None:
    """A leaf that somebody else has written since ages no more, and is not marked by the failure of its old source."""
    source = Source("it", 10)
    tree.assign(("a",), 1, source=source)
    tree.assign(("a",), 1)
    before = tree.root
    clock.advance(100)
    tree.age()
    tree.fail(source, "no answer")
    assert tree.root is before


# --- batches ------------------------------------------------------------------------------------------


def test_batch(tree: DataTree) -> None:
    """The own context sees its writes at once; other contexts and threads see none until the end, then all."""
    tree.assign(("a",), 1)
    with tree.batch():
        tree.assign(("a",), 2)
        tree.assign(("b",), {"c": 3})
        tree.remove(("b", "c"))
        assert tree.root.json == b'{"a":2,"b":{}}'
        assert outside(tree).json == in_thread(lambda: tree.root).json == b'{"a":1}'
        tree.assign(("a",), 3)
        assert tree.root.json == b'{"a":3,"b":{}}'
        tree.assign(("a",), 2)
    assert tree.root.json == outside(tree).json == b'{"a":2,"b":{}}'
    assert tree.root.revision == 2, "a batch is one change"


def test_batch_that_raises(tree: DataTree) -> None:
    """After an exception none of the writes is done, and the exception is the caller's."""
    tree.assign(("a",), 1)
    before = tree.root
    with broken_batch(tree):
        tree.assign(("a",), 2)
        tree.remove(("a",))
    assert tree.root is before
    tree.assign(("a",), 3)
    assert tree.root.revision == 2


def test_batch_without_a_write(tree: DataTree) -> None:
    """A batch in which nothing was written, or only what stood there, is no change."""
    tree.assign(("a",), 1)
    before = tree.root
    with tree.batch():
        pass
    assert tree.root is before
    with tree.batch():
        tree.assign(("a",), 1)
    assert tree.root.revision == before.revision


def test_refused_write_in_a_batch(tree: DataTree) -> None:
    """A write that is refused inside a batch leaves the others as they are."""
    with tree.batch():
        tree.assign(("a",), 1)
        with pytest.raises(DataError):
            tree.assign(("a", "b"), 1)
        with pytest.raises(DataError):
            tree.assign(("b",), b"")
        with pytest.raises(KeyError):
            tree.remove(("b",))
        tree.assign(("c",), 2)
    assert tree.root.json == b'{"a":1,"c":2}'


def test_batch_in_a_batch(tree: DataTree) -> None:
    """The inner one becomes part of the outer one at its end; after an exception only its own writes are dropped."""
    with tree.batch():
        tree.assign(("a",), 1)
        with tree.batch():
            tree.assign(("b",), 2)
            assert tree.root.json == b'{"a":1,"b":2}'
        with broken_batch(tree):
            tree.assign(("a",), 3)
        assert tree.root.json == b'{"a":1,"b":2}'
        assert outside(tree).json == b"{}"
    assert tree.root.json == b'{"a":1,"b":2}'
    assert tree.root.revision == 1


def test_outer_batch_that_raises(tree: DataTree) -> None:
    """An exception in the outer one drops what the inner one has done, too."""
    with broken_batch(tree), tree.batch():
        tree.assign(("a",), 1)
    assert tree.root.json == b"{}"


def test_batches_of_two_trees(tree: DataTree) -> None:
    """A batch concerns its own tree only, whichever way two of them are nested."""
    other = DataTree("other", tree.now, tree.now)
    with tree.batch(), other.batch():
        tree.assign(("a",), 1)
        other.assign(("b",), 2)
        assert (tree.root.json, other.root.json) == (b'{"a":1}', b'{"b":2}')
        assert (outside(tree).json, outside(other).json) == (b"{}", b"{}")
    assert (tree.root.json, other.root.json) == (b'{"a":1}', b'{"b":2}')


def test_batch_object_serves_one_at_a_time(tree: DataTree) -> None:
    """A batch cannot be entered while it is open; once it has ended it starts anew."""
    batch = tree.batch()
    with batch:
        tree.assign(("a",), 1)
        with pytest.raises(RuntimeError, match="take a new one"):
            batch.__enter__()
    tree.remove(("a",))
    with batch:
        assert tree.root.json == b"{}"
        tree.assign(("b",), 1)
    assert tree.root.json == b'{"b":1}'


def test_writes_from_outside_show_inside(tree: DataTree) -> None:
    """What others write meanwhile is seen inside, below the batch's own writes, and is not undone by its end."""
    tree.assign((), {"a": 1, "b": 1, "c": 1})
    with tree.batch():
        tree.assign(("a",), 2)
        in_thread(tree.assign, ("b",), 3)
        assert tree.root.json == b'{"a":2,"b":3,"c":1}'
        in_thread(tree.assign, ("a",), 4)
        in_thread(tree.remove, ("c",))
        assert tree.root.json == b'{"a":2,"b":3}'
    assert tree.root.json == b'{"a":2,"b":3}'
    assert tree.root.revision == 5


def test_removed_meanwhile(tree: DataTree) -> None:
    """What the batch removes may have gone by its end; what it writes makes the nodes between that have gone."""
    tree.assign((), {"a": {"x": 1, "y": 1}, "b": {"x": 1}, "c": {"d": {}}})
    with tree.batch():
        tree.remove(("a", "x"))
        tree.assign(("b", "x"), 2)
        tree.remove(("c", "d"))
        in_thread(tree.remove, ("a",))
        in_thread(tree.remove, ("b",))
        in_thread(tree.assign, ("c",), 3)
    assert tree.root.json == b'{"c":3,"b":{"x":2}}'


def test_conflict(tree: DataTree) -> None:
    """If a key above a write became a value meanwhile, the batch's end raises an error that names it, and is none."""
    tree.assign(("a",), {})
    batch = tree.batch()
    batch.__enter__()
    tree.assign(("b",), 1)
    tree.assign(("a", "x"), 1)
    in_thread(tree.assign, ("a",), 5)
    with pytest.raises(DataError, match="a holds a value"):
        batch.__exit__(None, None, None)
    assert tree.root.json == b'{"a":5}'
    tree.assign(("c",), 1)
    assert tree.root.json == outside(tree).json == b'{"a":5,"c":1}'


def test_conflict_while_open(tree: DataTree) -> None:
    """Inside, a conflict shows at the next use; once the cause is gone the batch goes on as before."""
    tree.assign(("a",), {})
    with tree.batch():
        tree.assign(("a", "x"), 1)
        in_thread(tree.assign, ("a",), 5)
        with pytest.raises(DataError, match="a holds a value"):
            tree.find(("a",))
        with pytest.raises(DataError, match="a holds a value"):
            tree.assign(("b",), 1)
        in_thread(tree.remove, ("a",))
        assert tree.root.json == b'{"a":{"x":1}}'
    assert tree.root.json == b'{"a":{"x":1}}'


def test_no_lock_while_open(tree: DataTree) -> None:
    """While a batch is open in one thread, another opens, writes and ends its own."""

    def other() -> bytes:
        with tree.batch():
            tree.assign(("b",), 2)
            tree.age()
        return tree.root.json

    with tree.batch():
        tree.assign(("a",), 1)
        assert in_thread(other) == b'{"b":2}'
    assert tree.root.json == b'{"b":2,"a":1}'


def test_no_lock_while_a_value_is_read(tree: DataTree) -> None:
    """A value whose own code takes its time does not keep other threads from writing."""

    def slow() -> dict[str, int]:
        in_thread(tree.assign, ("b",), 2)
        return {"c": 1}

    tree.assign(("a",), Hostile(lambda: slow().items()))
    assert tree.root.json == b'{"b":2,"a":{"c":1}}'


def test_copied_context(tree: DataTree) -> None:
    """A context copied inside a batch takes part in it, also from another thread; once it has ended, in none."""
    with tree.batch():
        inside = copy_context()
        in_thread(inside.run, tree.assign, ("a",), 1)
        assert tree.root.json == in_thread(inside.run, lambda: tree.root.json) == b'{"a":1}'
        assert outside(tree).json == b"{}"
    inside.run(tree.assign, ("b",), 2)
    assert tree.root.json == outside(tree).json == inside.run(lambda: tree.root.json) == b'{"a":1,"b":2}'


def test_copied_context_after_an_exception(tree: DataTree) -> None:
    """A context that was copied inside a batch which then failed writes to the tree itself."""
    with broken_batch(tree):
        inside = copy_context()
        inside.run(tree.assign, ("a",), 1)
    assert inside.run(lambda: tree.root.json) == b"{}"
    inside.run(tree.assign, ("b",), 2)
    assert tree.root.json == b'{"b":2}'


def test_copied_context_falls_back_to_the_outer_batch(tree: DataTree) -> None:
    """A context that was copied inside an inner batch belongs to the outer one when the inner one has ended."""
    with tree.batch():
        with tree.batch():
            inside = copy_context()
        inside.run(tree.assign, ("a",), 1)
        assert tree.root.json == b'{"a":1}'
        assert outside(tree).json == b"{}"
    assert outside(tree).json == b'{"a":1}'


def test_batch_that_outlives_its_outer_one(tree: DataTree) -> None:
    """A batch opened in a copied context goes on when the outer one has ended, and ends on the tree itself."""

    def open_inner() -> None:
        inner.__enter__()
        tree.assign(("b",), 2)

    inner = tree.batch()
    with tree.batch():
        tree.assign(("a",), 1)
        inside = copy_context()
        inside.run(open_inner)
        assert tree.root.json == b'{"a":1}'
    assert inside.run(lambda: tree.root.json) == b'{"a":1,"b":2}'
    assert outside(tree).json == b'{"a":1}'
    inside.run(inner.__exit__, None, None, None)
    assert outside(tree).json == b'{"a":1,"b":2}'


class TellingLock:
    """A lock that tells when a thread asks for it."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self.asked.set()
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()


def test_write_during_the_end_of_a_batch(tree: DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copied context that writes while the batch is ending loses nothing: its write is part of it, or comes after."""
    lock = TellingLock()
    monkeypatch.setattr(tree, "_lock", lock)
    writing = threading.Event()

    def slow_change(root: Node, revision: int) -> Node:
        if not writing.is_set():  # it is done again on the tree itself
            lock.asked.clear()
            writing.set()
            assert lock.asked.wait(10), "the batch has not begun to end"
        return Node({**root.children, "late": root.children["a"]}, revision)

    with ThreadPoolExecutor(1) as pool:
        with tree.batch():
            tree.assign(("a",), 1)
            late = pool.submit(copy_context().run, tree.apply, slow_change)
            assert writing.wait(10)
        late.result(timeout=10)
    assert tree.root.json == b'{"a":1,"late":1}'


def test_states_in_a_batch(tree: DataTree, clock: Clock) -> None:
    """Failing and ageing inside a batch are part of it."""
    source = Source("it", 10)
    tree.assign((), {"a": 1}, source=source)
    tree.assign(("b",), 1, source=Source("other", 10))
    before = tree.root
    clock.advance(20)
    with tree.batch():
        tree.fail(source, "no answer")
        tree.age()
        assert [part["state"] for part in meta(tree).values()] == ["error", "stale"]
        assert outside(tree) is before
    assert [part["state"] for part in meta(tree).values()] == ["error", "stale"]
    assert tree.root.revision == before.revision + 1


def test_state_and_value_in_one_batch(tree: DataTree) -> None:
    """A value that is written right after its state was marked, as one change, is served, and not its JSON before."""
    source = Source("it", 10)
    tree.assign((), {"a": {"x": 1}}, source=source)
    assert tree.root.json == b'{"a":{"x":1}}'
    with tree.batch():
        tree.fail(source, "no answer")
        tree.assign(("a", "x"), 2)
        assert tree.root.json == b'{"a":{"x":2}}'
    assert tree.root.json == b'{"a":{"x":2}}'


# --- many threads -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("restless")
def test_many_threads(tree: DataTree) -> None:
    """Four threads lose no write on their own keys, and readers see each batch whole and revisions that only grow."""
    rounds = 1000
    start = threading.Barrier(5)
    done = threading.Event()

    def write(name: str) -> None:
        start.wait(10)
        for count in range(rounds):
            with tree.batch():
                tree.assign((name, "one"), count)
                with tree.batch():
                    tree.assign((name, "two"), leaf(tree, name, "one").value)
            tree.assign((name, "alone"), count)
            with tree.lock:
                total = leaf(tree, "total").value if "total" in tree.root.children else 0
                tree.assign(("total",), total + 1)

    def read() -> int:
        start.wait(10)
        rounds_read = last = 0
        while not done.is_set():
            root = tree.root
            parsed = plain(root)
            assert root.revision >= last
            assert all(node["one"] == node["two"] for key, node in parsed.items() if key != "total")
            last = root.revision
            rounds_read += 1
        return rounds_read

    with ThreadPoolExecutor(5) as pool:
        reader = pool.submit(read)
        writers = [pool.submit(write, name) for name in "abcd"]
        try:
            for writer in writers:
                writer.result(timeout=60)
        finally:
            done.set()
        assert reader.result(timeout=10) > 0
    last = rounds - 1
    assert plain(tree.root) == {
        **{name: {"one": last, "two": last, "alone": last} for name in "abcd"},
        "total": 4 * rounds,
    }
    assert tree.root.revision >= 4 * rounds


@pytest.mark.usefixtures("restless")
def test_json_from_many_threads(tree: DataTree) -> None:
    """Threads that ask for the JSON of one new tree at the same moment all get the same."""
    tree.assign((), {str(number): {"a": number} for number in range(300)})
    start = threading.Barrier(4)

    def read() -> bytes:
        start.wait(10)
        return tree.root.json

    with ThreadPoolExecutor(4) as pool:
        texts = {job.result(timeout=10) for job in [pool.submit(read) for _ in range(4)]}
    assert texts == {tree.root.json}
    assert plain(tree.root) == {str(number): {"a": number} for number in range(300)}


def test_recover(tree: DataTree) -> None:
    """A handler that works again takes the error off all its leaves, those too that it has not written again."""
    mine, other = Source("mine", 60), Source("other", 60)
    for path, source in (("a", mine), ("b", mine), ("c", other)):
        tree.assign((path,), 1, source=source)
    tree.fail(mine, "broken")
    tree.fail(other, "broken, too")
    before = tree.root.revision
    tree.recover(mine)
    assert [(leaf(tree, key).state, leaf(tree, key).error) for key in "abc"] == [
        ("ok", None),
        ("ok", None),
        ("error", "broken, too"),
    ]
    assert tree.root.revision == before + 1
    tree.recover(mine)
    assert tree.root.revision == before + 1
