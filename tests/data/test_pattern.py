"""Patterns of paths: what they match, how they are written, and the index that finds them without trying each."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpiserve.data.pattern import Pattern, PatternIndex
from rpiserve.errors import PathError

keys = st.sampled_from(["a", "b", "*", "**", "a*", "%", "/", "c d"])
paths = st.lists(keys, min_size=1, max_size=4).map(tuple)
patterns = st.builds(Pattern, st.lists(st.none() | keys, max_size=3).map(tuple), st.booleans()).filter(
    lambda pattern: pattern.segments or pattern.below
)


@pytest.mark.parametrize(
    ("text", "named", "not_named"),
    [
        ("a/b", [("a", "b")], [("a",), ("a", "b", "c"), ("b", "a")]),
        ("rooms/*/temperature", [("rooms", "hall", "temperature")], [("rooms", "hall"), ("rooms", "temperature")]),
        ("*", [("a",), ("*",)], [("a", "b"), ()]),
        ("tank/**", [("tank", "level"), ("tank", "a", "b")], [("tank",), ("other", "level")]),
        ("**", [("a",), ("a", "b", "c")], [()]),
        ("*/b/**", [("a", "b", "c")], [("a", "b"), ("a", "c", "b")]),
        ("a*", [("a*",)], [("ab",), ("a",)]),
        ("%2A/%2F%25", [("*", "/%")], [("a", "/%")]),
        ("%2a%2A", [("**",)], [("a",)]),
        ("%2B", [("%2B",)], [("+",)]),
    ],
)
def test_what_is_named(text: str, named: list[Any], not_named: list[Any]) -> None:
    """A star is one key, two at the end are everything below, and three escapes are all there are."""
    pattern = Pattern.parse(text)
    assert all(pattern.matches(path) for path in named)
    assert not any(pattern.matches(path) for path in not_named)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be a key"),
        ("a//b", "cannot be a key"),
        ("a/**/b", "at the end only"),
        ("**/**", "at the end only"),
        ("a/..", "cannot be a key"),
        ("a\0", "NUL"),
        ("/".join("a" * 65), "deeper than 64"),
        (None, "strings such as"),
    ],
)
def test_what_is_not_a_pattern(text: Any, reason: str) -> None:
    """The error names the pattern and says what is wrong with it."""
    with pytest.raises(PathError, match=reason):
        Pattern.parse(text)


@given(patterns)
def test_there_and_back(pattern: Pattern) -> None:
    """A pattern that is written as text is read back as the same."""
    assert Pattern.parse(str(pattern)) == pattern


@given(st.lists(patterns, max_size=8), st.lists(paths, max_size=8), st.data())
def test_index(several: list[Pattern], asked: list[Any], data: Any) -> None:
    """The index finds what trying each pattern finds, also after some were removed, and keeps nothing of those."""
    index: PatternIndex[int] = PatternIndex()
    for number, pattern in enumerate(several):
        index.add(pattern, number)
    gone = data.draw(st.sets(st.integers(0, len(several) - 1))) if several else set()
    for number in gone:
        index.remove(several[number], number)
    left = {number: pattern for number, pattern in enumerate(several) if number not in gone}
    assert len(index) == len(left)
    for path in asked:
        assert set(index.matching(path)) == {number for number, pattern in left.items() if pattern.matches(path)}
    for number, pattern in left.items():
        index.remove(pattern, number)
    [start] = index.start()
    assert (start.keys, start.any, start.below, start.items) == ({}, None, None, [])


def test_an_item_under_two_patterns() -> None:
    """It is found once."""
    index: PatternIndex[str] = PatternIndex()
    for text in ("a/*", "a/b", "**"):
        index.add(Pattern.parse(text), "x")
    assert index.matching(("a", "b")) == ["x"]
