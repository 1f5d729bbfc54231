"""The change journal: no change is lost, none comes twice, and the order is kept."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpiserve.data import journal as journal_module
from rpiserve.data.journal import LeafChange, Receiver
from rpiserve.data.nodes import Leaf, Node, Source, leaves
from rpiserve.data.pattern import Pattern
from rpiserve.data.tree import DataTree
from rpiserve.errors import DataError

LONG = 30.0


class Journalled:
    """A tree whose journal is delivered when the test says so.

    Attributes:
        tree: the tree.
        wakes: how often the reactor was woken.
        failed: the receivers that raised.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.tree = DataTree("boot", lambda: self.now, lambda: 0.0)
        self.wakes = 0
        self.failed: list[Receiver] = []
        self._deliver: list[Callable[[], None]] = []
        self.tree.journal.open(self._wake, self.failed.append)

    def _wake(self, deliver: Callable[[], None]) -> None:
        self.wakes += 1
        self._deliver.append(deliver)

    def deliver(self) -> None:
        """Let the reactor's thread do what it was woken for."""
        while self._deliver:
            self._deliver.pop(0)()

    def listen(self, *texts: str) -> list[list[tuple[str, Any, Any]]]:
        """Subscribe to patterns, and return the list that grows by each entry."""
        entries: list[list[tuple[str, Any, Any]]] = []
        self.tree.journal.subscribe(
            map(Pattern.parse, texts), lambda changes: entries.append(list(map(shown, changes)))
        )
        return entries


def value_of(part: Any) -> Any:
    """Return the value of a leaf; ``{}`` for an empty node, None for nothing."""
    return part.value if isinstance(part, Leaf) else {} if isinstance(part, Node) else None


def shown(change: LeafChange) -> tuple[str, Any, Any]:
    """Return a change for comparison."""
    return "/".join(change.path), value_of(change.old), value_of(change.new)


@pytest.fixture
def bench() -> Journalled:
    """A tree with a journal."""
    return Journalled()


def test_what_is_subscribed_to(bench: Journalled) -> None:
    """Each write is an entry of old and new leaves; what nobody subscribed to makes none, and wakes nobody."""
    entries = bench.listen("a/*")
    bench.tree.assign(("a",), {"x": 1, "y": {"z": 2}})
    bench.tree.assign(("b",), 3)
    bench.tree.assign(("a", "x"), 4)
    bench.tree.remove(("a",))
    bench.deliver()
    assert entries == [[("a/x", None, 1)], [("a/x", 1, 4)], [("a/x", 4, None)]]
    assert bench.wakes == 1


def test_a_leaf_that_becomes_a_node(bench: Journalled) -> None:
    """A replaced subtree removes what was below it; a node without anything in it is a leaf."""
    entries = bench.listen("**")
    bench.tree.assign(("a",), {"x": 1})
    bench.tree.remove(("a", "x"))
    bench.tree.assign(("a", "y"), 2)
    bench.deliver()
    assert entries == [[("a/x", None, 1)], [("a", None, {}), ("a/x", 1, None)], [("a", {}, None), ("a/y", None, 2)]]


def test_a_batch_is_one_entry(bench: Journalled) -> None:
    """Readers get all of a batch at once, and so do subscribers; a batch that fails is no entry."""
    entries = bench.listen("**")
    with bench.tree.batch():
        bench.tree.assign(("a",), 1)
        bench.tree.assign(("b",), 2)
        bench.tree.assign(("a",), 3)
    with contextlib.suppress(ZeroDivisionError), bench.tree.batch():
        bench.tree.assign(("a",), 4)
        raise ZeroDivisionError
    bench.deliver()
    assert entries == [[("a", None, 3), ("b", None, 2)]]


def test_states_units_and_renewals(bench: Journalled) -> None:
    """A change of state or unit is a change; a value that is set again keeps its revision."""
    seen: list[LeafChange] = []
    bench.tree.journal.subscribe([Pattern.parse("a")], seen.extend)
    source = Source("a", 10.0)
    bench.tree.assign(("a",), 1, source=source)
    bench.tree.assign(("a",), 1, source=source)
    bench.tree.fail(source, "broken")
    bench.tree.recover(source)
    bench.now = 11.0
    bench.tree.age()
    bench.tree.assign(("a",), 1, units="m", source=source)
    bench.deliver()
    assert [(change.new.state, change.new.unit) for change in seen if isinstance(change.new, Leaf)] == [
        ("ok", None),
        ("ok", None),
        ("error", None),
        ("ok", None),
        ("stale", None),
        ("ok", "m"),
    ]
    revisions = [change.new.revision for change in seen if change.new is not None]
    assert revisions[0] == revisions[1] < revisions[2]


def test_cancelled_and_late(bench: Journalled) -> None:
    """A subscription gets what changes after it began and until it is cancelled, whenever that is delivered."""
    bench.listen("**")
    bench.tree.assign(("a",), 1)
    late = bench.listen("**")
    early: list[LeafChange] = []
    subscription = bench.tree.journal.subscribe([Pattern.parse("**")], early.extend)
    bench.tree.assign(("a",), 2)
    subscription.cancel()
    subscription.cancel()
    bench.deliver()
    assert late == [[("a", 1, 2)]]
    assert early == []


def test_a_receiver_that_raises(bench: Journalled) -> None:
    """It is reported, and the others get theirs, in this entry and the next ones."""

    def broken(changes: Any) -> None:
        raise ZeroDivisionError

    bench.tree.journal.subscribe([Pattern.parse("**")], broken)
    entries = bench.listen("**")
    bench.tree.assign(("a",), 1)
    bench.tree.assign(("a",), 2)
    bench.deliver()
    assert bench.failed == [broken, broken]
    assert entries == [[("a", None, 1)], [("a", 1, 2)]]


def test_a_receiver_that_writes(bench: Journalled) -> None:
    """What a receiver writes is an entry of its own, after those that wait."""
    entries = bench.listen("**")

    def copy(changes: tuple[LeafChange, ...]) -> None:
        bench.tree.assign(("b",), value_of(changes[0].new))

    bench.tree.journal.subscribe([Pattern.parse("a")], copy)
    bench.tree.assign(("a",), 1)
    bench.tree.assign(("a",), 2)
    bench.deliver()
    assert entries == [[("a", None, 1)], [("a", 1, 2)], [("b", None, 1)], [("b", 1, 2)]]


def test_without_a_reactor(bench: Journalled) -> None:
    """Before it is opened and after it is closed nothing is recorded, so that nothing can pile up."""
    entries = bench.listen("**")
    bench.tree.assign(("a",), 1)
    bench.tree.journal.close()
    bench.tree.assign(("a",), 2)
    bench.deliver()
    assert entries == []


def test_a_reactor_that_is_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded: beyond that it becomes one entry, from the first old value to the last new one."""
    monkeypatch.setattr(journal_module, "MOST_WAITING", 10)
    bench = Journalled()
    entries = bench.listen("**")
    for number in range(100):
        bench.tree.assign((f"key{number % 3}",), number)
    bench.deliver()
    latest: dict[str, Any] = {}
    for entry in entries:
        for path, old, new in entry:
            assert latest.get(path) == old
            latest[path] = new
    assert latest == {"key0": 99, "key1": 97, "key2": 98}
    assert sum(map(len, entries)) <= 13
    for number in range(1000):
        bench.tree.assign((f"passing{number}",), 1)
        bench.tree.remove((f"passing{number}",))
    assert bench.tree.journal._waiting <= 22  # what came and went leaves nothing


def test_opened_again(bench: Journalled) -> None:
    """A journal that was closed while it waited for a turn of the reactor wakes it again."""
    entries = bench.listen("**")
    bench.tree.assign(("a",), 1)
    bench.tree.journal.close()
    bench.tree.journal.open(bench._wake, bench.failed.append)
    bench.tree.assign(("a",), 2)
    bench.deliver()
    assert entries == [[("a", 1, 2)]]
    assert bench.wakes == 2


# --- against a model -------------------------------------------------------------------------------------------------

paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(tuple)
values = st.recursive(st.integers(0, 3), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=2))
writes = st.one_of(
    st.tuples(st.just("assign"), paths, values),
    st.tuples(st.just("remove"), paths, st.none()),
    st.tuples(st.just("deliver"), st.none(), st.none()),
)
steps = st.lists(writes | st.tuples(st.just("batch"), st.lists(writes, max_size=4), st.booleans()), max_size=12)
patterns = st.sampled_from(["**", "a", "*", "a/**", "*/b", "a/*/c", "b/**"])


def flat(tree: DataTree) -> dict[tuple[str, ...], Any]:
    """Return all leaves, empty nodes among them."""
    return dict(leaves(tree.root))


def write(bench: Journalled, kind: str, path: Any, value: Any) -> None:
    """Do one step; a write that is refused changes nothing."""
    try:
        if kind == "assign":
            bench.tree.assign(path, value)
        elif kind == "remove":
            bench.tree.remove(path)
        else:
            bench.deliver()
    except (KeyError, DataError):
        pass


@settings(deadline=None)
@given(steps, st.lists(patterns, min_size=1, max_size=3))
def test_against_a_model(story: list[Any], texts: list[str]) -> None:
    """Each write and each batch is one entry, with just what differs between the trees before and after it."""
    bench = Journalled()
    received: list[dict[tuple[str, ...], tuple[Any, Any]]] = []

    def receive(changes: tuple[LeafChange, ...]) -> None:
        entry = {change.path: (change.old, change.new) for change in changes}
        assert len(entry) == len(changes), "a path came twice"
        received.append(entry)

    named = [Pattern.parse(text) for text in texts]
    bench.tree.journal.subscribe(named, receive)
    expected: list[dict[tuple[str, ...], tuple[Any, Any]]] = []

    def step(do: Callable[[], None]) -> None:
        before = flat(bench.tree)
        do()
        after = flat(bench.tree)
        entry = {
            path: (before.get(path), after.get(path))
            for path in {**before, **after}
            if before.get(path) is not after.get(path) and any(pattern.matches(path) for pattern in named)
        }
        if entry:
            expected.append(entry)

    def batch(writes: list[Any], fails: bool) -> None:
        try:
            with bench.tree.batch():
                for each in writes:
                    if each[0] != "deliver":
                        write(bench, *each)
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass

    for kind, one, other in story:
        if kind == "deliver":
            bench.deliver()
        elif kind == "batch":
            step(lambda one=one, other=other: batch(one, other))  # type: ignore[misc]
        else:
            step(lambda kind=kind, one=one, other=other: write(bench, kind, one, other))  # type: ignore[misc]
    bench.deliver()
    assert bench.failed == []
    assert received == expected


def test_with_threads() -> None:
    """Four threads write at once while the changes are delivered: what is put together of them is the tree."""
    bench = Journalled()
    built: dict[tuple[str, ...], Any] = {}
    sizes: list[int] = []

    def receive(changes: tuple[LeafChange, ...]) -> None:
        sizes.append(len(changes))
        for change in changes:
            assert built.get(change.path) is change.old
            if change.new is None:
                del built[change.path]
            else:
                built[change.path] = change.new

    bench.tree.journal.subscribe([Pattern.parse("**")], receive)
    start = threading.Barrier(5)

    def work(name: str) -> None:
        start.wait(LONG)
        for number in range(200):
            bench.tree.assign((name, str(number % 7)), number)
            with bench.tree.batch():
                bench.tree.assign(("shared", "one"), number)
                bench.tree.assign(("shared", "two"), number)
            if number % 10 == 9:
                bench.tree.remove((name,))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    start.wait(LONG)
    while any(thread.is_alive() for thread in threads):
        bench.deliver()
    for thread in threads:
        thread.join(LONG)
    bench.deliver()
    assert built == flat(bench.tree)
    assert bench.failed == []
    assert sizes.count(2) >= 4 * 200, "a batch was delivered in parts"
