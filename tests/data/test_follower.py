"""What has changed in the tree: whoever applies it, from whichever look on, holds the tree's leaves."""

import json
from collections.abc import Iterable
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeAlias

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rpiserve.data.follower import Changes, TreeFollower, merge, split
from rpiserve.data.nodes import Source, leaves
from rpiserve.data.paths import Path, parse_path
from rpiserve.data.tree import DataTree
from rpiserve.errors import DataError

Held: TypeAlias = dict[Path, Any]
"""The leaves that somebody holds."""


@pytest.fixture
def clock() -> Clock:
    """The clock of the tree."""
    return Clock()


@pytest.fixture
def tree(clock: Clock) -> DataTree:
    """An empty tree."""
    return DataTree("boot", clock.seconds, clock.seconds)


def write(tree: DataTree, **values: Any) -> None:
    """Write values, each at the path that its name is with ``_`` for ``/``."""
    for name, value in values.items():
        tree.assign(parse_path(name.replace("_", "/")), value)


def shown(changes: Changes | None) -> tuple[dict[str, Any], set[str], list[str]]:
    """Return what has changed, what was renewed and what was removed, by paths as text."""
    assert changes is not None
    changed = {"/".join(path): json.loads(part.json) for path, part in changes.changed.items()}
    return changed, {"/".join(path) for path in changes.renewed}, sorted("/".join(path) for path in changes.removed)


# --- from look to look ------------------------------------------------------------------------------------------------


def test_nothing(tree: DataTree) -> None:
    """Without a write nothing has changed, and the revision stays."""
    feed = TreeFollower(tree)
    assert feed.advance() is None
    write(tree, a=1)
    revision = feed.revision
    assert feed.advance() is not None
    assert feed.advance() is None
    assert (revision, feed.revision) == ("boot-0", "boot-1")


def test_changes(tree: DataTree) -> None:
    """A look tells what is new, what is another, what was only set again and what is gone; and nothing else."""
    write(tree, a_same=1, a_other=1, a_again=1, a_gone=1, b_same=1)
    feed = TreeFollower(tree)
    write(tree, a_other=2, a_again=1, c_new={"x": 1, "y": {"z": 2}})
    tree.remove(("a", "gone"))
    assert shown(feed.advance()) == ({"a/other": 2, "c/new/x": 1, "c/new/y/z": 2}, {"a/again"}, ["a/gone"])


def test_states_and_units(tree: DataTree, clock: Clock) -> None:
    """Another unit, an error, its end and staleness are changes, though the value is the same."""
    source = Source("slow", 5.0)
    tree.assign(("a",), 1, source=source)
    feed = TreeFollower(tree)
    for change in (
        lambda: tree.assign(("a",), 1, units="W", source=source),
        lambda: tree.fail(source, "no answer"),
        lambda: tree.recover(source),
        lambda: (clock.advance(6), tree.age()),
    ):
        change()
        assert shown(feed.advance()) == ({"a": 1}, set(), [])


@pytest.mark.parametrize(
    ("before", "after", "changed", "removed"),
    [
        (1, {"x": 1}, {"a/x": 1}, ["a"]),
        ({"x": 1}, 1, {"a": 1}, ["a/x"]),
        ({}, 1, {"a": 1}, []),
        (1, {}, {"a": {}}, []),
        ({"x": 1}, {}, {"a": {}}, ["a/x"]),
        ({}, {"x": {}}, {"a/x": {}}, ["a"]),
        ({"x": 1, "y": 2}, {"y": 2, "z": 3}, {"a/z": 3}, ["a/x"]),
        ({"x": {"y": {"z": 1}}}, {"x": 1}, {"a/x": 1}, ["a/x/y/z"]),
    ],
    ids=str,
)
def test_kinds(tree: DataTree, before: Any, after: Any, changed: dict[str, Any], removed: list[str]) -> None:
    """Values, mappings and empty mappings take each other's places; an empty mapping counts as a leaf."""
    tree.assign(("a",), before)
    feed = TreeFollower(tree)
    seen = feed.revision
    tree.assign(("a",), after)
    told, _, gone = shown(feed.advance())
    assert (told, gone) == (changed, removed)
    assert shown(feed.since(seen)) == (changed, set(), removed)


def test_last_child_goes(tree: DataTree) -> None:
    """A mapping whose last member is removed becomes an empty one, which is told."""
    write(tree, a_b=1)
    feed = TreeFollower(tree)
    tree.remove(("a", "b"))
    assert shown(feed.advance()) == ({"a": {}}, set(), ["a/b"])
    tree.remove(("a",))
    assert shown(feed.advance()) == ({}, set(), ["a"])  # and the root itself is never a leaf


def test_come_and_gone(tree: DataTree) -> None:
    """What came and went between two looks is not told; what went and came again is."""
    write(tree, a=1, b=1)
    feed = TreeFollower(tree)
    write(tree, c=1)
    tree.remove(("c",))
    tree.remove(("a",))
    write(tree, a=1)
    assert shown(feed.advance()) == ({"a": 1}, set(), [])


def test_batch(tree: DataTree) -> None:
    """What is written in a batch is told together, once it has ended."""
    feed = TreeFollower(tree)
    with tree.batch():
        write(tree, a=1, b=2)
        assert Context().run(feed.advance) is None
    assert shown(feed.advance()) == ({"a": 1, "b": 2}, set(), [])


# --- for who was away -------------------------------------------------------------------------------------------------


def test_since(tree: DataTree) -> None:
    """Who was away is told the latest of each leaf, and what is gone; of many writes to one leaf only the last."""
    write(tree, a=1, b=1, c=1)
    feed = TreeFollower(tree)
    seen = feed.revision
    for number in range(5):
        write(tree, a=number)
        feed.advance()
    tree.remove(("b",))
    feed.advance()
    tree.remove(("c",))
    feed.advance()
    write(tree, c=2)
    feed.advance()
    assert shown(feed.since(seen)) == ({"a": 4, "c": 2}, set(), ["b"])
    assert shown(feed.since(feed.revision)) == ({}, set(), [])


@pytest.mark.parametrize(
    "revision",
    [
        *("", "-", "boot", "boot-", "boot--1", "boot-3", "boot-+1", "boot- 1", "boot-1\n", "boot-1.0", "boot-0x1"),
        *("other-1", "-1", "1", "Boot-1", "boot-٣", "boot-²", "boot-1\0", "\xff"),
        *(f"boot-{'9' * 18}", f"boot-{'9' * 5000}", "x" * 5000),
    ],
)
def test_since_what_is_not_known(tree: DataTree, revision: str) -> None:
    """What is no revision of this boot up to now cannot be gone on from."""
    feed = TreeFollower(tree)
    write(tree, a=1)
    tree.assign(("a",), 2)
    feed.advance()
    assert feed.revision == "boot-2"
    assert feed.since(revision) is None


def test_between_two_looks(tree: DataTree) -> None:
    """Nobody goes on from what ``/data`` was between two looks: it may have had what the feed has never seen."""
    feed = TreeFollower(tree)
    write(tree, a=1)
    between = tree.revision(tree.root)
    tree.remove(("a",))
    feed.advance()
    assert feed.since(between) is None
    assert shown(feed.since("boot-0")) == ({}, set(), [])


def test_looks_are_forgotten(tree: DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many looks are remembered, and nobody goes on from an earlier one."""
    monkeypatch.setattr("rpiserve.data.follower.MOST_LOOKS", 3)
    feed = TreeFollower(tree)
    for number in range(5):
        write(tree, a=number)
        feed.advance()
    assert [feed.since(f"boot-{number}") is not None for number in range(6)] == [False] * 3 + [True] * 3


def test_before_the_feed(tree: DataTree) -> None:
    """What was removed before the first look is not known, so nobody can go on from there."""
    write(tree, a=1, b=1)
    tree.remove(("a",))
    feed = TreeFollower(tree)
    assert feed.since("boot-2") is None
    assert feed.since("boot-3") is not None


def test_removals_are_forgotten(tree: DataTree) -> None:
    """So many removed leaves are remembered, and who has missed one that is not any more cannot go on."""
    feed = TreeFollower(tree, most_removed=3)
    revisions = []
    for number in range(10):
        tree.assign((str(number),), number)
        feed.advance()
        revisions.append(feed.revision)
        tree.remove((str(number),))
        feed.advance()
        assert len(feed._removed) <= 3
    assert [feed.since(revision) is not None for revision in revisions] == 7 * [False] + 3 * [True]
    assert shown(feed.since(revisions[7])) == ({}, set(), ["7", "8", "9"])


def test_many_removed_at_once(tree: DataTree) -> None:
    """More than are remembered, removed at once, are told to who is there and not to who comes after."""
    write(tree, a={str(number): number for number in range(50)}, b=1)
    feed = TreeFollower(tree, most_removed=10)
    seen = feed.revision
    tree.remove(("a",))
    changes = feed.advance()
    assert changes is not None
    assert len(changes.removed) == 50
    assert len(feed._removed) == 10
    assert feed.since(seen) is None
    assert feed.since(feed.revision) is not None


# --- for who wants a part of it ---------------------------------------------------------------------------------------


def test_split(tree: DataTree) -> None:
    """Each place gets what is at or below it, be it of any kind, and places may overlap."""
    write(tree, a_b=1, a_c_x=1, d=1, e=1)
    feed = TreeFollower(tree)
    write(tree, a_b=2, a_bb=2, a_c={"y": 2}, d=1, e=2)
    changes = feed.advance()
    assert changes is not None
    parts = split(changes, [(), ("a",), ("a", "b"), ("a", "c"), ("d",), ("none",), ("e", "deeper")])
    assert parts[()] == changes
    assert shown(parts[("a",)]) == ({"a/b": 2, "a/bb": 2, "a/c/y": 2}, set(), ["a/c/x"])
    assert shown(parts[("a", "b")]) == ({"a/b": 2}, set(), [])
    assert shown(parts[("a", "c")]) == ({"a/c/y": 2}, set(), ["a/c/x"])
    assert shown(parts[("d",)]) == ({}, {"d"}, [])
    assert parts[("none",)] == parts[("e", "deeper")] == Changes({}, {}, [])
    assert shown(merge([parts[("a",)], parts[("a", "c")], parts[("d",)]])) == (
        {"a/b": 2, "a/bb": 2, "a/c/y": 2},
        {"d"},
        ["a/c/x"],
    )


# --- whatever happens -------------------------------------------------------------------------------------------------


@attrs.frozen
class Set:
    """A write."""

    path: Path
    value: Any

    def do(self, tree: DataTree) -> None:
        """Do it, if it can be done."""
        with suppress(DataError):  # below a value
            tree.assign(self.path, self.value)


@attrs.frozen
class Remove:
    """A removal."""

    path: Path

    def do(self, tree: DataTree) -> None:
        """Do it, if it can be done."""
        with suppress(KeyError):
            tree.remove(self.path)


@attrs.frozen
class Batch:
    """Several at once."""

    steps: list[Set | Remove]

    def do(self, tree: DataTree) -> None:
        """Do them."""
        with tree.batch():
            for step in self.steps:
                step.do(tree)


@attrs.frozen
class Look:
    """A look at the tree."""


@attrs.frozen
class Resume:
    """Somebody comes again, who was there at an earlier look."""

    which: int


def flat(part: Any, path: Path = ()) -> Held:
    """Return the leaves of what ``/data`` serves."""
    if not isinstance(part, dict) or (path and not part):
        return {path: part}
    return {place: leaf for key, child in part.items() for place, leaf in flat(child, (*path, key)).items()}


def applied(changes: Changes, held: Held) -> Held:
    """Return what somebody holds who held ``held`` and was told ``changes``."""
    removed = set(changes.removed)
    kept = {path: value for path, value in held.items() if path not in removed}
    return {**kept, **{path: json.loads(part.json) for path, part in changes.changed.items()}}


def below(place: Path, held: Held) -> Held:
    """Return what of ``held`` is at or below ``place``."""
    return {path: value for path, value in held.items() if path[: len(place)] == place}


PLACES: tuple[Path, ...] = ((), ("a",), ("b",), ("a", "b"), ("c/%", "a", "b"))

KEYS = st.sampled_from(["a", "b", "c/%"])
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(tuple)
VALUES = st.recursive(st.integers(0, 2), lambda values: st.dictionaries(KEYS, values, max_size=3), max_leaves=4)
WRITES = st.one_of(st.builds(Set, PATHS, VALUES), st.builds(Set, PATHS, VALUES), st.builds(Remove, PATHS))
STEPS = st.one_of(
    WRITES,
    WRITES,
    st.builds(Batch, st.lists(WRITES, max_size=4)),
    st.just(Look()),
    st.builds(Resume, st.integers(0, 50)),
)


@given(st.lists(STEPS, max_size=40), st.sampled_from([0, 1, 5, 1000]))
@example([Set(("a",), 1), Look(), Batch([Remove(("a",)), Set(("a", "b"), {})]), Resume(1)], 1000)
def test_followers_hold_the_leaves(steps: Iterable[Any], most_removed: int) -> None:
    """Whatever is written, and wherever somebody goes on from, what is told makes the tree's leaves of what was held.

    It is so for who wants the whole tree as for who wants a part of it. Nobody is refused while all removed leaves are
    remembered, and no more are than may be.
    """
    clock = Clock()
    tree = DataTree("boot", clock.seconds, clock.seconds)
    feed = TreeFollower(tree, most_removed)
    looks: list[tuple[str, Held]] = [(feed.revision, {})]
    for step in [*steps, Look(), *(Resume(number) for number in range(50))]:
        if isinstance(step, Look):
            changes = feed.advance()
            held = looks[-1][1]
            if changes is not None:
                assert not changes.changed.keys() & changes.renewed.keys()
                parts = split(changes, PLACES)
                for place in PLACES:
                    assert applied(parts[place], below(place, held)) == below(place, applied(changes, held))
                held = applied(changes, held)
            looks.append((feed.revision, held))
            assert held == flat(json.loads(tree.root.json))
            assert held == {path: json.loads(part.json) for path, part in leaves(feed.root)}
            assert len(feed._removed) <= most_removed
        elif isinstance(step, Resume):
            revision, held = looks[step.which % len(looks)]
            changes = feed.since(revision)
            if changes is None:
                assert most_removed < 1000
            else:
                assert applied(changes, held) == looks[-1][1]
                for place in PLACES:
                    part = feed.since(revision, [place])
                    assert part is not None
                    assert applied(part, below(place, held)) == below(place, looks[-1][1])
        else:
            step.do(tree)
