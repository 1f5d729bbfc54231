"""Patterns of paths: one language for whatever names several values at once.

A segment ``*`` is any one key, and a last segment ``**`` is everything below: ``rooms/*/temperature``, ``tank/**``;
``**`` alone is everything. ``%2A`` is a literal star, ``%2F`` and ``%25`` are what they are in paths, and nothing else
is special: ``a*`` is the key ``a*``.
"""

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import attrs

from rpiserve.data.paths import Path, check_depth, check_key, format_path, unescape
from rpiserve.errors import PathError

ANY: Final = "*"
BELOW: Final = "**"

Item = TypeVar("Item")


@attrs.frozen
class Pattern:
    """A pattern of paths.

    Attributes:
        segments: the keys, without the ``**``; None for any one key.
        below: whether it matches what is below `segments`, and not what is at it.
    """

    segments: tuple[str | None, ...]
    below: bool = False

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """Return the pattern that ``text`` writes.

        Raises:
            PathError: ``text`` is not a pattern; its own text says why.
        """
        if not isinstance(text, str):
            raise PathError(f"a pattern is of type {type(text).__name__}; patterns are strings such as 'rooms/*'")
        written = text.split("/")
        below = written[-1] == BELOW
        if below:
            del written[-1]
        if BELOW in written:
            raise PathError(f"in the pattern {text[:80]!r}: '**' stands at the end only; '*' is any one key")
        try:
            check_depth(tuple(written))
            return cls(tuple(None if each == ANY else check_key(unescape(each, star=True)) for each in written), below)
        except PathError as error:
            raise PathError(f"in the pattern {text[:80]!r}: {error}") from None

    def matches(self, path: Path) -> bool:
        """Return whether the pattern names ``path``."""
        length = len(self.segments)
        if (len(path) <= length) if self.below else (len(path) != length):
            return False
        return all(segment is None or segment == key for segment, key in zip(self.segments, path, strict=False))

    def __str__(self) -> str:
        """Return the pattern as text; `parse` reads it back."""
        written = [ANY if each is None else format_path((each,)).replace("*", "%2A") for each in self.segments]
        return "/".join([*written, BELOW] if self.below else written)


class Step(Generic[Item]):
    """One step of a `PatternIndex`: what the keys so far may still become."""

    __slots__ = ("any", "below", "items", "keys")

    def __init__(self) -> None:
        self.keys: dict[str, Step[Item]] = {}
        self.any: Step[Item] | None = None
        self.below: Step[Item] | None = None
        self.items: list[Item] = []


class PatternIndex(Generic[Item]):
    """Which of many patterns name a path, found without trying each: one step for each key."""

    def __init__(self) -> None:
        self._start: Step[Item] = Step()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, pattern: Pattern, item: Item) -> None:
        """Add ``item`` under ``pattern``."""
        self._step(pattern).items.append(item)
        self._count += 1

    def remove(self, pattern: Pattern, item: Item) -> None:
        """Remove ``item`` from ``pattern`` once; what was never added there is an error.

        Raises:
            ValueError: it is not there.
        """
        self._step(pattern).items.remove(item)
        self._count -= 1
        _prune(self._start)

    def start(self) -> tuple[Step[Item], ...]:
        """Return the steps of the empty path, for `descend`."""
        return (self._start,)

    def matching(self, path: Path) -> list[Item]:
        """Return the items of all patterns that name ``path``, each once."""
        steps = self.start()
        for key in path:
            steps = descend(steps, key)
        return list(dict.fromkeys(items_at(steps)))

    def _step(self, pattern: Pattern) -> Step[Item]:
        step = self._start
        for segment in pattern.segments:
            if segment is None:
                step.any = step.any or Step()
                step = step.any
            else:
                step = step.keys.setdefault(segment, Step())
        if pattern.below:
            if step.below is None:
                step.below = Step()
                step.below.below = step.below  # however deep
            step = step.below
        return step


def descend(steps: tuple[Step[Item], ...], key: str) -> tuple[Step[Item], ...]:
    """Return the steps one ``key`` further; none if no pattern names anything there or below."""
    found: list[Step[Item]] = []
    for step in steps:
        for further in (step.keys.get(key), step.any, step.below):
            if further is not None:
                found.append(further)
    return tuple(found)


def items_at(steps: tuple[Step[Item], ...]) -> Iterator[Item]:
    """Yield the items of the patterns that end at ``steps``."""
    for step in steps:
        yield from step.items


def _prune(step: Step[Item]) -> bool:
    """Remove what leads to no item; return whether anything is left."""
    for key in [key for key, further in step.keys.items() if not _prune(further)]:
        del step.keys[key]
    if step.any is not None and not _prune(step.any):
        step.any = None
    if step.below is not None and step.below is not step and not step.below.items:
        step.below = None
    return bool(step.items or step.keys or step.any or (step.below is not None and step.below is not step))
