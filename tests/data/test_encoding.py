"""The JSON codec: how each type is served, and what is refused."""

import json
import math
import re
from collections import ChainMap, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from pathlib import PurePath
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpiserve.data import encoding
from rpiserve.data.paths import MAX_DEPTH
from rpiserve.errors import DataError


class Colour(Enum):
    """Values of two types."""

    RED = "red"
    NEAR = (1, 2.5)
    BROKEN = b"red"


class Mode(StrEnum):
    """Texts."""

    AUTO = "auto"


class Level(IntEnum):
    """Numbers."""

    HIGH = 3


class Authorizer(IntFlag):
    """Numbers that add up."""

    READ = 1
    WRITE = 2


class Wire(Flag):
    """The same, though no numbers themselves."""

    ONE = 1
    TWO = 2


class Point(NamedTuple):
    """Two numbers."""

    x: int
    y: float


@dataclass(frozen=True)
class Inner:
    """A frozen dataclass."""

    when: date
    tags: frozenset[str] = frozenset()


@dataclass
class Outer:
    """One dataclass in another, and in a list."""

    inner: Inner
    more: list[Inner] = field(default_factory=list)


class Text(str):
    """A subclass of str whose own methods are of no help."""

    def __str__(self) -> str:
        raise OSError("no text")

    def encode(self, *args: object) -> bytes:
        """Claim to be fine."""
        return b""


class Whole(int):
    """A subclass of int."""


class Real(float):
    """A subclass of float."""


class Money(Decimal):
    """A subclass of Decimal."""


class Moment(datetime):
    """A datetime that writes itself in its own way."""

    text: Any = ""

    def isoformat(self, *args: object, **kwargs: object) -> str:
        """Return anything."""
        return self.text


class Ratio(Mapping[str, int]):
    """A mapping that is no dict."""

    def __getitem__(self, key: str) -> int:
        return {"a": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class NowhereTime(tzinfo):
    """A time zone that knows no time."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        """Fail with a text that is nobody's business."""
        raise RuntimeError("password 1234")


class Endless(Enum):
    """An Enum whose value is itself."""

    SELF = 1

    @property
    def value(self) -> "Endless":
        """Return itself."""
        return self


def strict(text: bytes) -> Any:
    """Parse JSON as RFC 8259 has it: UTF-8, no NaN, no Infinity, no key twice."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(items)) == len(items)
        return dict(items)

    return json.loads(text.decode(), parse_constant=refuse, object_pairs_hook=pairs)


def served(value: object) -> str:
    """Return ``value`` as JSON."""
    return encoding.encode(encoding.to_wire(value, "a/b")).decode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0, "0"),
        (-(2**63) - 1, "-9223372036854775809"),
        (10**4299, "1" + "0" * 4299),
        (Decimal("1E+5000"), "1E+5000"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e300, "1e300"),
        (5e-324, "5e-324"),
        (math.nan, "null"),
        (math.inf, "null"),
        (-math.inf, "null"),
        ('°C\n"\\\0\u2028🌡', '"°C\\n\\"\\\\\\u0000\u2028🌡"'),
        (Decimal("21.50"), "21.50"),
        (Decimal("1E+3"), "1E+3"),
        (Decimal("-0"), "-0"),
        (Decimal("1e-9"), "1E-9"),
        (Decimal("NaN"), "null"),
        (Decimal("sNaN123"), "null"),
        (Decimal("-Infinity"), "null"),
        (datetime(2026, 3, 29, 1, 2, 3, 4), '"2026-03-29T01:02:03.000004"'),
        (datetime(2026, 3, 29, 1, 2, 3, tzinfo=UTC), '"2026-03-29T01:02:03+00:00"'),
        (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-23))), '"0001-01-01T00:00:00-23:00"'),
        (date(2026, 3, 29), '"2026-03-29"'),
        (time(1, 2, 3), '"01:02:03"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Colour.RED, '"red"'),
        (Colour.NEAR, "[1,2.5]"),
        (Mode.AUTO, '"auto"'),
        (Level.HIGH, "3"),
        (Authorizer.READ | Authorizer.WRITE, "3"),
        (Wire.ONE | Wire.TWO, "3"),
        ([1, [2, ()]], "[1,[2,[]]]"),
        (Point(1, 2.5), "[1,2.5]"),
        ({3, 1, 20}, "[1,20,3]"),
        (frozenset({"b", 1, None, "a", True and 2.5}), '["a","b",1,2.5,null]'),
        ({"a": {"b": 1}, "": 2, "\0": 3}, '{"a":{"b":1},"":2,"\\u0000":3}'),
        (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
        (ChainMap({"a": 1}), '{"a":1}'),
        (Ratio(), '{"a":1}'),
        ({Mode.AUTO: 1, Text("b"): 2}, '{"auto":1,"b":2}'),
        (Inner(date(2026, 1, 1), frozenset("ab")), '{"when":"2026-01-01","tags":["a","b"]}'),
        (
            Outer(Inner(date(2026, 1, 1)), [Inner(date(2026, 1, 2))]),
            '{"inner":{"when":"2026-01-01","tags":[]},"more":[{"when":"2026-01-02","tags":[]}]}',
        ),
        (Text("plain"), '"plain"'),
        (Whole(5), "5"),
        (Real(1.5), "1.5"),
        (Real("nan"), "null"),
        (Money("1.50"), "1.50"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_served(value: object, text: str) -> None:
    """Each type that can be served looks as the documentation says, and is strict JSON."""
    assert served(value) == text
    strict(text.encode())


def looped() -> list[Any]:
    """Return a list that contains itself, at some depth."""
    loop: list[Any] = []
    loop.append({"a": (1, loop)})
    return loop


def nested(depth: int) -> list[Any]:
    """Return ``depth`` lists, each but the last with the next in it."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def moment(text: object) -> Moment:
    """Return a datetime that writes itself as ``text``."""
    when = Moment(2026, 1, 1)
    when.text = text
    return when


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"a", "a value of type bytes cannot be served as JSON; what can: None, bool, int"),
        (bytearray(b"a"), "of type bytearray"),
        (memoryview(b"a"), "of type memoryview"),
        (1j, "of type complex"),
        (object(), "of type object"),
        (int, "of type type"),
        (Inner, "of type type"),
        (PurePath("a"), "of type PurePosixPath"),
        (range(3), "of type range"),
        (iter([1]), "of type list_iterator"),
        (timedelta(1), "of type timedelta"),
        (UTC, "of type timezone"),
        (Colour.BROKEN, "of type bytes"),
        ([1, {"a": (b"",)}], "of type bytes"),
        (Inner(b"", frozenset()), "of type bytes"),
        ("\ud800", "the text '\\ud800' holds a lone surrogate"),
        (Text("\udcff"), "lone surrogate"),
        ({"\ud800": 1}, "lone surrogate"),
        ([{"a": "\udfff"}], "lone surrogate"),
        (moment("\ud800"), "lone surrogate"),
        (moment(b"2026"), "a value of type Moment could not be read: TypeError"),
        ({1: 2}, "a key is of type int; keys are strings"),
        ([{None: 2}], "a key is of type NoneType"),
        ({10**5000: 2}, "a key is of type int"),
        (looped(), "the list contains itself"),
        (nested(MAX_DEPTH + 1), f"nests deeper than {MAX_DEPTH} levels"),
        (10**4300, "a number has more than 4300 characters"),
        ({-(10**20000), "a"}, "a number has more than 4300 characters"),
        ([Decimal("9" * 4301)], "a number has more than 4300 characters"),
        (datetime(2026, 1, 1, tzinfo=NowhereTime()), "a value of type datetime could not be read: RuntimeError"),
        ([datetime(2026, 1, 1, tzinfo=NowhereTime())], "a value of type list could not be read: RuntimeError"),
        (Endless.SELF, "a value of type Endless could not be read: RecursionError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refused(value: object, reason: str) -> None:
    """What cannot be served is a `DataError` that names place and reason, whatever the value's own code does."""
    with pytest.raises(DataError, match=re.escape(reason)) as caught:
        encoding.to_wire(value, "a/b")
    assert str(caught.value).startswith("a/b: ")
    assert "1234" not in str(caught.value)


def test_the_cause_is_kept() -> None:
    """The exception that a value's own code raised is chained, for the log; its text is not shown to clients."""
    with pytest.raises(DataError) as caught:
        encoding.to_wire(datetime(2026, 1, 1, tzinfo=NowhereTime()), "")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert str(caught.value).startswith("the root: ")


def test_as_deep_as_allowed() -> None:
    """`MAX_DEPTH` levels are served, and one and the same list twice side by side is no loop."""
    assert served(nested(MAX_DEPTH)) == "[" * MAX_DEPTH + "]" * MAX_DEPTH
    twice = [1]
    assert served([twice, twice]) == "[[1],[1]]"


def test_a_dataclass_without_a_field() -> None:
    """A dataclass that lacks a field is refused like any other value that cannot be read."""
    bare = make_dataclass("Bare", ["a"])(1)
    del bare.a
    with pytest.raises(DataError, match="a/b: a value of type Bare could not be read: AttributeError"):
        encoding.to_wire(bare, "a/b")


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda values: st.lists(values) | st.dictionaries(st.text(), values),
        max_leaves=20,
    )
)
def test_what_json_has_round_trips(value: object) -> None:
    """Whatever JSON can express is read back as it was, by a strict parser."""
    assert json.dumps(strict(encoding.encode(encoding.to_wire(value, "")))) == json.dumps(value)


@settings(deadline=None)
@given(st.sets(st.integers() | st.text() | st.none() | st.tuples(st.integers(), st.text()), max_size=8), st.randoms())
def test_equal_sets_look_alike(value: set[object], random: Any) -> None:
    """A set's JSON does not depend on the order in which its members came."""
    shuffled = sorted(value, key=repr)
    random.shuffle(shuffled)
    assert served(value) == served(set(shuffled)) == served(frozenset(shuffled))


def test_raw() -> None:
    """JSON that is there already is put into other JSON as it is."""
    assert (
        encoding.encode({"a": encoding.raw(b"1.50"), "b": [encoding.raw(b'{"c":null}')]})
        == b'{"a":1.50,"b":[{"c":null}]}'
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1.5, "1970-01-01T00:00:01.500Z"),
        (1774746000.0004, "2026-03-29T01:00:00.000Z"),
        (-0.001, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_timestamp(seconds: float, text: str) -> None:
    """A time is shown in UTC, to the millisecond."""
    assert encoding.timestamp(seconds) == text


def test_printable() -> None:
    """A text with lone surrogates becomes one that can be encoded; any other stays as it is."""
    assert encoding.printable("/dev/\udcff: gone") == "/dev/\\udcff: gone"
    assert encoding.printable("°C 🌡") == "°C 🌡"
    assert encoding.printable("x\n\x1b[2J\x9f") == r"x\x0a\x1b[2J\x9f"
