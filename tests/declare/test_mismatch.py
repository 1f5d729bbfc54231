"""What does not fit an annotation: found where msgspec refuses a value, and told in words for people."""

import datetime
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta
from msgspec.inspect import type_info

from rpiserve.declare.mismatch import Mismatch, describe, find_mismatch

HUGE = 10**4000


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Pair(NamedTuple):
    x: int
    y: float = 0.0


@dataclass
class Zone:
    number: Annotated[int, Meta(ge=1, le=8)]
    children: list["Zone"] = field(default_factory=list)


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["on", "off"] = "on"


@dataclass
class Refusing:
    text: str

    def __post_init__(self) -> None:
        if self.text:
            raise ValueError("it is not empty")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "an integer"),
        (Annotated[int, Meta(ge=0, le=60)], "an integer from 0 to 60"),
        (Annotated[float, Meta(ge=0, le=60)], "a number from 0 to 60"),
        (Annotated[float, Meta(gt=0)], "a number above 0"),
        (Annotated[float, Meta(ge=0.5, lt=1)], "a number of at least 0.5 and below 1"),
        (Annotated[int, Meta(multiple_of=5)], "an integer that is a multiple of 5"),
        (Decimal, "a number"),
        (bool, "true or false"),
        (str, "a text"),
        (Annotated[str, Meta(min_length=1)], "a text of at least 1 character"),
        (Annotated[str, Meta(max_length=8)], "a text of at most 8 characters"),
        (Annotated[str, Meta(min_length=2, max_length=8)], "a text of 2 to 8 characters"),
        (Annotated[str, Meta(pattern="^a")], "a text that matches ^a"),
        (Literal["on", "off"], "one of 'off', 'on'"),
        (Literal["on"], "'on'"),
        (Colour, "one of 'red', 'green'"),
        (Literal[tuple(range(100))], "one of " + ", ".join(map(str, range(20))) + " and 80 more"),
        (int | None, "an integer or null"),
        (list[int], "a list"),
        (Annotated[list[int], Meta(min_length=2, max_length=2)], "a list of 2 items"),
        (tuple[int, bool], "a list of 2 items"),
        (dict[str, int], "an object"),
        (Zone, "an object"),
        (datetime.datetime, "a date and time"),
        (uuid.UUID, "a UUID"),
        (Any, "anything"),
    ],
)
def test_describe(kind: Any, words: str) -> None:
    """Each kind of annotation has words for people."""
    assert describe(type_info(kind)) == words


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (int, "much", 'expected an integer, got "much"'),
        (int, None, "expected an integer, got null"),
        (int, [1], "expected an integer, got a list"),
        (Annotated[int, Meta(le=9)], HUGE, "expected an integer of at most 9, got a very large integer"),
        (int, "x" * 100, f'expected an integer, got "{"x" * 58}…'),
        (int, "a\n\ud800", 'expected an integer, got "a\\n\\ud800"'),
        (list[int], [1, "x"], '[1]: expected an integer, got "x"'),
        (Annotated[list[int], Meta(max_length=1)], [1, 2], "expected a list of at most 1 item, got 2"),
        (tuple[int, bool], [1], "expected a list of 2 items, got 1"),
        (dict[int, str], {"x": "y"}, 'expected an integer as a key, got "x"'),
        (dict[str, int], {"a b": "y"}, '["a b"]: expected an integer, got "y"'),
        (Zone, {}, "number: it is missing"),
        (Zone, {"number": 9}, "number: expected an integer from 1 to 8, got 9"),
        (Zone, {"number": 1, "children": [{}]}, "children[0].number: it is missing"),
        (list[Zone], [{"number": 0}], "[0].number: expected an integer from 1 to 8, got 0"),
        (Zone | None, {"number": 9}, "number: expected an integer from 1 to 8, got 9"),
        (Zone | None, 7, "expected an object or null, got 7"),
        (Strict, {"x": 1}, "x: there is no such field"),
        (list[Refusing], [{"text": "a"}], "[0]: it is not empty"),
    ],
)
def test_find_mismatch(kind: Any, value: object, text: str) -> None:
    """What does not fit is named by its place, with what it should be and what it is."""
    found = find_mismatch(value, type_info(kind))
    assert isinstance(found, Mismatch)
    assert str(found) == text


KINDS = [
    int,
    Annotated[int, Meta(ge=0, le=3)],
    float,
    Decimal,
    bool,
    str,
    bytes,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    type(None),
    Any,
    Annotated[str, Meta(min_length=1, pattern="1")],
    Literal["on", 3],
    Colour,
    int | None,
    bool | str,
    float | list[int],
    list[int],
    set[float],
    frozenset[str],
    tuple[int, ...],
    tuple[int, bool],
    dict[str, float],
    dict[int, str],
    Pair,
    Zone,
    Zone | None,
    Strict,
    Refusing,
    list[Zone],
]
WORDS = ["", "on", "red", "1", "1.5", "null", "true", "2020-01-01", "00:00:00", "AAAA"]
TEXTS = st.sampled_from(WORDS) | st.text(max_size=4)
NAMES = st.sampled_from(["number", "children", "mode", "text", "x", "1"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 10) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(VALUES, st.sampled_from(KINDS))
def test_it_finds_what_msgspec_refuses(value: object, kind: Any) -> None:
    """Something is found if, and only if, msgspec does not take the value."""
    try:
        msgspec.convert(value, kind, strict=False)
        fits = True
    except (msgspec.ValidationError, ArithmeticError):
        fits = False
    assert (find_mismatch(value, type_info(kind)) is None) == fits
