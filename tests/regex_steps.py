"""How many steps a regular expression takes: what its time depends on, without a clock.

steps_of(re.compile("a*b"), "a" * 100)

It is matched here as `re` does it, by trying one way after the other, but without its short cuts: it looks at no fewer
characters.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

_PARSER: Any = re._parser  # type: ignore[attr-defined]
_CATEGORIES = {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_NOT_SPACE": r"\S", "CATEGORY_WORD": r"\w"}

Node = tuple[Any, Any]
Test = Callable[[str], bool]


def steps_of(pattern: re.Pattern[str], text: str) -> int:
    """Return how many characters are looked at until all that ``pattern`` matches in ``text`` has been found."""
    search = _Search(text)
    nodes = list(_PARSER.parse(pattern.pattern, pattern.flags))
    found: list[str] = []
    position = 0
    while position <= len(text):
        search.steps += 1
        end = next(search.ends(nodes, position, pattern.flags), None)
        if end is not None:
            found.append(text[position:end])
        position = position + 1 if end is None or end == position else end
    assert found == [match[0] for match in pattern.finditer(text)], "this is not how re matches it"
    return search.steps


class _Search:
    """A search in a text, with its steps."""

    def __init__(self, text: str) -> None:
        self.steps = 0
        self._text = text

    def ends(self, nodes: list[Node], start: int, flags: int) -> Iterator[int]:
        """Yield where a match of ``nodes`` that begins at ``start`` may end, in the order in which it is tried."""
        if not nodes:
            yield start
            return
        for middle in self._ends_of(nodes[0], start, flags):
            yield from self.ends(nodes[1:], middle, flags)

    def _ends_of(self, node: Node, start: int, flags: int) -> Iterator[int]:
        kind, value = str(node[0]), node[1]
        if kind in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
            if self._is_one(node, start, flags):
                yield start + 1
        elif kind == "BRANCH":
            for branch in value[1]:
                yield from self.ends(list(branch), start, flags)
        elif kind == "SUBPATTERN":
            yield from self.ends(list(value[3]), start, (flags | value[1]) & ~value[2])
        elif kind in ("MAX_REPEAT", "POSSESSIVE_REPEAT"):
            ends = self._repeated(value, start, flags)
            yield from ends[-1:] if kind == "POSSESSIVE_REPEAT" else reversed(ends)
        elif kind in ("ASSERT", "ASSERT_NOT"):
            direction, nodes = value
            at = start if direction > 0 else start - nodes.getwidth()[0]
            is_there = at >= 0 and next(self.ends(list(nodes), at, flags), None) is not None
            if is_there == (kind == "ASSERT"):
                yield start
        elif kind == "AT" and str(value) == "AT_BOUNDARY":
            self.steps += 1
            if re.compile(r"\b").match(self._text, start):
                yield start
        else:
            raise NotImplementedError(f"{kind} {value}")

    def _repeated(self, value: tuple[int, Any, Any], start: int, flags: int) -> list[int]:
        """Return where repetitions may end. What is repeated has to match in one way only, if it matches."""
        least, most, nodes = value
        ends, position, count = ([start] if not least else []), start, 0
        while count < int(most):
            end = next(self.ends(list(nodes), position, flags), None)
            if end is None:
                break
            position, count = end, count + 1
            if count >= least:
                ends.append(position)
        return ends

    def _is_one(self, node: Node, at: int, flags: int) -> bool:
        self.steps += 1
        return at < len(self._text) and _is_character(node, self._text[at], flags)


def _is_character(node: Node, character: str, flags: int) -> bool:
    kind, value = str(node[0]), node[1]
    if kind == "ANY":
        return bool(flags & re.DOTALL) or character != "\n"
    if kind == "IN":
        negated = str(value[0][0]) == "NEGATE"
        return negated != any(_is_character(each, character, flags) for each in value[negated:])
    if kind == "CATEGORY":
        return re.fullmatch(_CATEGORIES[str(value)], character) is not None
    same = {character.lower(), character.upper()} if flags & re.IGNORECASE else {character}
    if kind == "RANGE":
        return any(value[0] <= ord(each) <= value[1] for each in same)
    return (chr(value) in same) == (kind == "LITERAL")
