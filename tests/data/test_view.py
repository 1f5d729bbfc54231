"""The data tree as users handle it: mappings that behave like dicts, paths beside them, copies in and out."""

import copy
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from itertools import chain
from typing import Any

import pytest
from twisted.internet.task import Clock

from rpiserve.data.nodes import Leaf, Source
from rpiserve.data.paths import MAX_DEPTH
from rpiserve.data.tree import DataTree
from rpiserve.data.view import DataView
from rpiserve.errors import DataError, PathError


@pytest.fixture
def tree() -> DataTree:
    """An empty tree."""
    clock = Clock()
    return DataTree("boot", clock.seconds, clock.seconds)


@pytest.fixture
def data(tree: DataTree) -> DataView:
    """A view of the whole of it."""
    return DataView(tree)


def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``function`` returns in another thread; fail if that thread is held up."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(function, *arguments).result(timeout=10)
    finally:
        pool.shutdown(wait=False)


class Mode(StrEnum):
    """A text that is more than one."""

    AUTO = "auto"


@dataclass
class Window:
    """A mutable leaf."""

    low: float
    tags: list[str]


class Lazy(Mapping[str, int]):
    """A mapping that does something each time it is read."""

    def __init__(self, read: Callable[[], object]) -> None:
        self._read = read

    def __getitem__(self, key: str) -> int:
        return {"x": 1}[key]

    def __iter__(self) -> Iterator[str]:
        self._read()
        return iter(["x"])

    def __len__(self) -> int:
        return 1


# --- as a dict ----------------------------------------------------------------------------------------


def test_nested_mappings(data: DataView) -> None:
    """Assigning, reading, asking, counting and iterating take keys, at each level."""
    data["a"] = {}
    data["a"]["b"] = 1
    data["a"]["c"] = {"d": None}
    assert data["a"]["b"] == 1
    assert data["a"]["c"]["d"] is None
    assert isinstance(data["a"]["c"], DataView)
    assert (data.get("x"), data.get("x", 5), data["a"].get("b"), data["a"].get("c")) == (None, 5, 1, {"d": None})
    assert ("b" in data["a"], "b" in data, "x" in data["a"]) == (True, False, False)
    assert (len(data), len(data["a"]), list(data["a"])) == (1, 2, ["b", "c"])
    assert list(data["a"].items()) == [("b", 1), ("c", {"d": None})]
    assert list(data["a"].values()) == [1, {"d": None}]
    assert list(data["a"].keys()) == ["b", "c"]
    del data["a"]["b"]
    assert data == {"a": {"c": {"d": None}}}


def test_keys_are_no_paths(data: DataView) -> None:
    """A slash in a key is part of the key, for reading and for writing."""
    data["a/b"] = 1
    data.set("a", {"b": 2})
    assert (data["a/b"], data["a"]["b"], data.at("a%2Fb"), data.at("a/b")) == (1, 2, 1, 2)
    assert ("a/b" in data, "a/b" in data["a"]) == (True, False)


@pytest.mark.parametrize("missing", ["x", "", ".", 1, None, ("a",)])
def test_missing_key(data: DataView, missing: Any) -> None:
    """What is not there, or could not be, is a `KeyError` with the key, as in a dict."""
    data["a"] = 1
    for use in (data.__getitem__, data.__delitem__, data.pop):
        with pytest.raises(KeyError) as caught:
            use(missing)
        assert caught.value.args == (missing,)
    assert (missing in data, data.get(missing, 5), data.pop(missing, 6)) == (False, 5, 6)


@pytest.mark.parametrize("key", ["", ".", "..", "a\0", "\ud800", 1, None, b"a", 10**5000], ids=range(9))
def test_bad_key(data: DataView, key: Any) -> None:
    """A key that cannot be one is refused wherever it is written, with the place, and nothing is changed."""
    data.set("a/b", 1)
    revision = data.revision
    for use in (
        lambda: data["a"].__setitem__(key, 1),
        lambda: data["a"].setdefault(key, 1),
        lambda: data["a"].update({"c": 1, key: 1}),
        lambda: data["a"].update([("c", 1), (key, 1)]),
        lambda: data.__setitem__("a", {key: 1}),
    ):
        with pytest.raises(PathError, match=r"^at a: "):
            use()
    assert data == {"a": {"b": 1}}
    assert data.revision == revision


def test_update(data: DataView) -> None:
    """Mappings, pairs, keyword arguments and views are taken as by a dict, and are one change."""
    data["a"] = {"x": 1, "y": 1}
    data["a"].update({"y": 2}, z=3)
    data["a"].update([("x", 4), ("w", {"v": 5})])
    data["a"].update()
    assert data["a"] == {"x": 4, "y": 2, "z": 3, "w": {"v": 5}}
    assert data.revision == "boot-3"
    data["b"] = {}
    data["b"].update(data["a"])
    assert data["b"] == data["a"]
    data["b"].update(data["b"])
    assert data["b"] == data["a"]


def test_update_that_is_refused(data: DataView) -> None:
    """If one value of an update is refused, the others are not written either."""
    data["a"] = 1
    with pytest.raises(DataError, match="c/d: a value of type bytes"):
        data.update({"a": 2, "b": 3, "c": {"d": b""}})
    with pytest.raises(TypeError):
        data.update([1])
    assert data == {"a": 1}
    assert data.revision == "boot-1"


def test_update_is_one_step(data: DataView) -> None:
    """While an update reads its values others see none of them, then all."""
    seen = []
    data.update({"a": 1, "b": Lazy(lambda: seen.append(in_thread(data.snapshot))), "c": 2})
    assert seen == [{}]
    assert data == {"a": 1, "b": {"x": 1}, "c": 2}


def test_clear(data: DataView) -> None:
    """All below a view goes, and the view stays; also at the root."""
    data.set("a/b/c", 1)
    view = data["a"]
    view.clear()
    assert data == {"a": {}}
    assert view == {}
    data.clear()
    assert data == {}


def test_pop(data: DataView) -> None:
    """`pop` gives what stood there, a mapping as dicts of its own, and takes a default as a dict's does."""
    data["a"] = {"b": {"c": [1]}, "d": 2, "n": None}
    popped = data["a"].pop("b")
    assert type(popped) is dict
    assert popped == {"c": [1]}
    assert (data["a"].pop("d", 9), data["a"].pop("d", 9)) == (2, 9)
    assert data["a"].pop("n", 5) is None
    assert data == {"a": {}}


def test_popitem(data: DataView) -> None:
    """`popitem` gives what was added last; an empty view has nothing to give."""
    data.update({"a": 1, "b": {"c": 2}})
    data["a"] = 3
    assert data.popitem() == ("b", {"c": 2})
    assert data.popitem() == ("a", 3)
    with pytest.raises(KeyError, match="<data> is empty"):
        data.popitem()


def test_setdefault(data: DataView) -> None:
    """`setdefault` writes only what is not there, and gives what then is; without a value it writes None."""
    assert data.setdefault("a", {"b": 1}) == {"b": 1}
    data["a"].setdefault("c", [])
    assert data.setdefault("a", 5) == {"b": 1, "c": []}
    assert data.setdefault("n") is None
    assert data.setdefault("n", b"not looked at") is None
    data.setdefault("l", []).append(1)
    data.setdefault("m", {})["b"] = 1
    assert data.pop("m") == {"b": 1}
    assert data == {"a": {"b": 1, "c": []}, "n": None, "l": []}


def test_setdefault_of_two(data: DataView) -> None:
    """If another thread writes the key while the default is read, its value counts, and nothing is overwritten."""
    assert data.setdefault("a", Lazy(lambda: in_thread(data.__setitem__, "a", 5))) == 5
    assert data == {"a": 5}


def test_equality(data: DataView) -> None:
    """A view equals a mapping with the same items, on either side and in it; it cannot be hashed, as a dict cannot."""
    data["a"] = {"b": {"c": 1}}
    assert data == {"a": {"b": {"c": 1}}}
    assert data["a"] == {"b": {"c": 1}}
    assert {"x": data["a"]} == {"x": {"b": {"c": 1}}}
    assert data != {"a": {"b": {"c": 2}}}
    assert data["a"] == DataView(data._tree, ("a",))
    assert data["a"] != data["a"]["b"]
    assert data["a"] != 5
    with pytest.raises(TypeError):
        hash(data)


def test_repr(data: DataView) -> None:
    """A view shows its place and not its values, be its node there or not."""
    data.set("a%2Fb/c", {})
    view = data.at("a%2Fb/c")
    data.clear()
    assert (repr(data), repr(view)) == ("<data>", "<data at 'a%2Fb/c'>")


def test_iteration_is_of_one_moment(data: DataView) -> None:
    """What others change meanwhile neither breaks nor changes an iteration that has begun."""
    data["a"] = {"x": 1, "y": {"z": 2}}
    keys, items, values = iter(data["a"]), data["a"].items(), data["a"].values()
    assert next(keys) == "x"
    in_thread(data["a"].update, {"x": 5, "w": 1})
    in_thread(data["a"].__delitem__, "y")
    assert list(keys) == ["y"]
    assert [key for key, _ in items] == ["x", "y"]
    assert next(iter(values)) == 1
    assert data["a"] == {"x": 5, "w": 1}


# --- paths --------------------------------------------------------------------------------------------


def test_at(data: DataView) -> None:
    """`at` reads values and views by paths that begin at the view; the empty path is the view itself."""
    data["a"] = {"b/c": {"d": 1}}
    assert data.at("a/b%2Fc/d") == data["a"].at("b%2Fc/d") == 1
    assert data.at("a/b%2Fc") == data["a"].at("b%2Fc") == {"d": 1}
    assert data["a"].at("") == data["a"]
    for view, path, text in ((data, "a/x/y", "'a/x/y'"), (data["a"], "b%2Fc/d/e", "'a/b%2Fc/d/e'")):
        with pytest.raises(KeyError) as caught:
            view.at(path)
        assert str(caught.value) == text


def test_set(data: DataView, tree: DataTree) -> None:
    """`set` writes by paths that begin at the view, makes the nodes between, and keeps a unit that is not given."""
    data.set("a/b/c", 1, unit="°C")
    data["a"].set("b/c", 2)
    data["a"].set("b%2Fb", {"x": 1, "y": 2}, unit="W")
    assert data == {"a": {"b": {"c": 2}, "b/b": {"x": 1, "y": 2}}}
    for path, unit in ((("a", "b", "c"), "°C"), (("a", "b/b", "x"), "W"), (("a", "b/b", "y"), "W")):
        found = tree.find(path)
        assert isinstance(found, Leaf)
        assert found.unit == unit


@pytest.mark.parametrize(
    ("path", "value", "unit", "error", "text"),
    [
        ("", {"x": 1}, None, DataError, r"set\(\) needs the path of a value; update\(\)"),
        ("/", 1, None, PathError, "in the path '/'"),
        (1, 1, None, PathError, "a path is of type int"),
        ("x", 1, 10**5000, DataError, "x: the unit is of type int; units are strings"),
        ("x", 1, "\ud800", DataError, "b/x: the unit: .* lone surrogate"),
        ("x/y", b"", None, DataError, "b/x/y: a value of type bytes"),
        ("x/y", {".": 1}, None, PathError, "at b/x/y: '.' cannot be a key"),
        ("a/x", 1, None, DataError, "b/a holds a value"),
        ("/".join("x" * MAX_DEPTH), 1, None, PathError, "b/x/x/.* is deeper than"),
    ],
    ids=range(9),
)
def test_set_refuses(data: DataView, path: Any, value: object, unit: Any, error: type[Exception], text: str) -> None:
    """A bad path, value or unit, or a value in the way, is refused with the place, and nothing is changed."""
    data["b"] = {"a": 1}
    with pytest.raises(error, match=text):
        data["b"].set(path, value, unit=unit)
    assert data == {"b": {"a": 1}}
    assert data.revision == "boot-1"


def test_revision(data: DataView) -> None:
    """A view tells the revision of its own part, which other parts do not touch."""
    data["a"] = {}
    data["b"] = {}
    data["b"]["c"] = 1
    assert (data.revision, data["a"].revision, data["b"].revision) == ("boot-3", "boot-1", "boot-3")


def test_batch(data: DataView) -> None:
    """A batch of any view is one of the tree: all uses of it see the writes inside, other threads see none."""
    data["a"] = {"x": 1, "l": [1]}
    view = data["a"]
    with view.batch():
        view["x"] += 1
        view.update(y=2)
        view.pop("l")
        view.setdefault("z", {})["w"] = 3
        assert data == {"a": {"x": 2, "y": 2, "z": {"w": 3}}}
        assert in_thread(data.snapshot) == {"a": {"x": 1, "l": [1]}}
    assert in_thread(data.snapshot) == {"a": {"x": 2, "y": 2, "z": {"w": 3}}}
    assert data.revision == "boot-2"


# --- copies -------------------------------------------------------------------------------------------


def test_values_are_copied_in(data: DataView, tree: DataTree) -> None:
    """What becomes of a value after it was assigned changes nothing in the tree, at any depth."""
    inner, tags = [1], ["a"]
    mapping = {"x": [inner], "w": Window(1, tags)}
    data["a"] = mapping
    data["b"] = inner
    before = tree.root.json
    inner.append(2)
    tags.append("b")
    mapping["y"] = [5]
    mapping["w"].low = 5
    assert data == {"a": {"x": [[1]], "w": Window(1, ["a"])}, "b": [1]}
    data["c"] = 1
    assert tree.root.json == before[:-1] + b',"c":1}'


def test_values_are_copied_out(data: DataView) -> None:
    """What becomes of a value that was read changes nothing in the tree, however it was read."""
    data["a"] = {"l": [[1]], "s": {1}, "w": Window(1, ["a"])}
    for read in (
        lambda: data["a"],
        lambda: data["a"].snapshot(),
        lambda: data.snapshot()["a"],
        lambda: dict(data["a"].items()),
        lambda: copy.deepcopy(data)["a"],
    ):
        read()["l"][0].append(2)
        read()["s"].add(2)
        read()["w"].tags.append("b")
    data.at("a/l").append(2)
    data["a"].get("l").append(2)
    for value in data["a"].values():
        if isinstance(value, list):
            value.append(2)
    assert data == {"a": {"l": [[1]], "s": {1}, "w": Window(1, ["a"])}}


def test_popped_values_are_copies(data: DataView) -> None:
    """What was popped in a batch that failed, and was changed then, is in the tree as before."""
    data["a"] = {"l": [1], "m": [1], "n": [1]}
    with suppress(ZeroDivisionError), data.batch():
        data["a"].popitem()[1].append(2)
        data["a"].pop("m").append(2)
        data.pop("a")["l"].append(2)
        raise ZeroDivisionError
    assert data == {"a": {"l": [1], "m": [1], "n": [1]}}


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        1,
        1.5,
        "a",
        (1, [2]),
        {1},
        frozenset({1}),
        Decimal("1.50"),
        date(2026, 1, 1),
        Mode.AUTO,
        Window(1, []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_keep_their_types(data: DataView, value: object) -> None:
    """What is read is of the type that was assigned."""
    data["a"] = value
    assert data["a"] == value
    assert type(data["a"]) is type(value)


def test_subclasses_of_plain_types_become_plain(data: DataView) -> None:
    """A subclass of float, int or str is kept as the plain value, and not as whatever it drags along."""

    class Real(float):
        """Like numpy.float64."""

    class Text(str):
        """Like werkzeug's markup."""

    class Whole(int):
        """A number with a name."""

    data.update({"a": Real(1.5), "b": Text("x"), "c": Whole(2), "d": {Text("e"): 1}})
    assert [type(data[key]) for key in "abc"] == [float, str, int]
    assert [type(key) for key in data["d"]] == [str]


def test_views_as_values(data: DataView) -> None:
    """A view is assigned as a copy of what it shows, wherever it stands in the value, even inside itself."""
    data["a"] = {"x": [1], "y": {}}
    data["b"] = data["a"]
    data["c"] = {"d": data["a"]}
    data["e"] = [data["a"]]
    data["a"]["x"] = 5
    data["a"]["self"] = data["a"]
    old = {"x": [1], "y": {}}
    assert data == {
        "a": {"x": 5, "y": {}, "self": {"x": 5, "y": {}}},
        "b": old,
        "c": {"d": old},
        "e": [old],
    }


def test_a_stale_view_as_a_value(data: DataView) -> None:
    """A view whose node is gone has nothing to be copied: `KeyError` by itself, `DataError` inside a value."""
    data["a"] = {}
    view = data["a"]
    del data["a"]
    with pytest.raises(KeyError, match="'a'"):
        data["b"] = view
    with pytest.raises(DataError, match="b/c: a value of type DataView could not be read: KeyError"):
        data["b"] = {"c": view}
    with pytest.raises(DataError, match="b: a value of type list could not be read: KeyError"):
        data["b"] = [view]
    assert data == {}


# --- views whose node is gone or another --------------------------------------------------------------


USES: dict[str, Callable[[DataView], object]] = {
    "[]": lambda view: view["x"],
    "get": lambda view: view.get("x"),
    "get with a default": lambda view: view.get("x", 1),
    "in": lambda view: "x" in view,
    "len": len,
    "bool": bool,
    "iter": iter,
    "items": lambda view: view.items(),
    "values": lambda view: view.values(),
    "list of keys": lambda view: list(view.keys()),
    "==": lambda view: view == {},
    "=": lambda view: view.__setitem__("x", 1),
    "del": lambda view: view.__delitem__("x"),
    "update": lambda view: view.update(x=1),
    "update with nothing": lambda view: view.update({}),
    "clear": lambda view: view.clear(),
    "pop": lambda view: view.pop("x"),
    "pop with a default": lambda view: view.pop("x", 1),
    "popitem": lambda view: view.popitem(),
    "setdefault": lambda view: view.setdefault("x", 1),
    "at": lambda view: view.at("x"),
    "set": lambda view: view.set("x/y", 1),
    "snapshot": lambda view: view.snapshot(),
    "copy": copy.deepcopy,
    "revision": lambda view: view.revision,
}


@pytest.mark.parametrize("end", ["removed", "parent removed", "a value", "parent a value", "removed in a batch"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_view_whose_node_is_gone(data: DataView, tree: DataTree, use: Callable[[DataView], object], end: str) -> None:
    """Each use of a view whose node is gone is a `KeyError` with its path, and writes nothing."""
    data["a"] = {"b": {"x": 1}}
    view = data["a"]["b"]
    with tree.batch() if end == "removed in a batch" else nullcontext():
        if end.startswith("removed"):
            del data["a"]["b"]
        elif end == "parent removed":
            del data["a"]
        else:
            data.set("a/b" if end == "a value" else "a", 5)
        before = tree.root.json
        with pytest.raises(KeyError, match="'a/b"):
            use(view)
        assert tree.root.json == before


def test_gone_while_a_value_is_read(data: DataView) -> None:
    """A node that another thread removes while the value is read is gone: the write does not bring it back."""
    for write in (
        lambda view, value: view.__setitem__("b", value),
        lambda view, value: view.update(b=value),
        lambda view, value: view.setdefault("b", value),
        lambda view, value: view.set("b/c", value),
    ):
        data["a"] = {}
        with pytest.raises(KeyError, match="'a'"):
            write(data["a"], Lazy(lambda: in_thread(data.pop, "a", None)))
        assert data == {}


def test_a_view_whose_node_was_replaced(data: DataView) -> None:
    """A view is bound to its path: it shows the new node, also after there was none for a while."""
    data.set("a/b/x", 1)
    view = data["a"]["b"]
    data["a"] = {"b": {"y": 2}}
    assert view == {"y": 2}
    del data["a"]
    data["a"] = {"b": {}}
    view["z"] = 3
    assert data == {"a": {"b": {"z": 3}}}


def test_a_view_that_wrote_for_a_handler(data: DataView, tree: DataTree) -> None:
    """What is written through a handler's view, or one that it gave out, is marked when the handler fails."""
    source = Source("handler", 10)
    view = DataView(tree, (), source)
    view["a"] = {"x": 1}
    view["a"]["y"] = 2
    view.at("a").set("z", 3)
    view.update(b=4)
    view.setdefault("c", 5)
    next(iter(view.values()))["v"] = 6
    data["d"] = 7
    data["a"]["w"] = 8
    tree.fail(source, "no answer")
    states = {}

    def walk(part: Any, path: str) -> None:
        if isinstance(part, Leaf):
            states[path] = part.state
        else:
            for key, child in part.children.items():
                walk(child, f"{path}/{key}")

    walk(tree.root, "")
    assert {path for path, state in states.items() if state == "error"} == {
        *("/a/x", "/a/y", "/a/z", "/a/v"),
        *("/b", "/c"),
    }
    assert {path for path, state in states.items() if state == "ok"} == {"/d", "/a/w"}


# --- threads ------------------------------------------------------------------------------------------


def test_no_lock_while_a_value_is_read(data: DataView) -> None:
    """A value whose own code takes its time keeps no other thread from writing, however it is assigned."""
    data["a"] = {}
    slow = Lazy(lambda: in_thread(data.__setitem__, "other", 1))
    for write in (
        lambda: data["a"].__setitem__("x", slow),
        lambda: data["a"].set("y", slow),
        lambda: data["a"].update(z=slow),
        lambda: data["a"].setdefault("w", slow),
    ):
        write()
        assert data.pop("other") == 1
    assert data == {"a": {key: {"x": 1} for key in "xyzw"}}


def test_read_and_write_as_one_step(data: DataView, tree: DataTree) -> None:
    """Increments under the lock, and the calls that read and write in one, lose nothing between four threads."""
    rounds = 300
    data.update({"count": 0, "stack": {str(number): number for number in range(rounds)}})

    def work() -> list[Any]:
        got = []
        for _ in range(rounds):
            with tree.lock:
                data["count"] += 1
            try:
                got.append(data["stack"].popitem()[1])
            except KeyError:
                break
        return got

    with ThreadPoolExecutor(4) as pool:
        got = [job.result(timeout=30) for job in [pool.submit(work) for _ in range(4)]]
    assert sorted(chain(*got)) == list(range(rounds))
    assert data["count"] == rounds + sum(len(one) < rounds for one in got)
    assert data["stack"] == {}


def test_as_text(data: DataView) -> None:
    """Printed, a view shows what is in it."""
    data["a"] = {"b": [1]}
    assert str(data) == "{'a': {'b': [1]}}"
