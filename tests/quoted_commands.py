"""Commands whose annotations Python keeps as text, as it does for whoever writes the import below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from msgspec import Meta

if TYPE_CHECKING:
    from nowhere import Unknown


class Colour(Enum):
    """Colours, by their names in lower case."""

    RED = "red"
    BLUE = "blue"


class Level(Enum):
    """Levels, by number."""

    LOW = 1
    HIGH = 2


@dataclass
class Point:
    """A dataclass with a default."""

    x: float
    y: float = 0.0
    shown: bool = True


@dataclass
class Tree:
    """A dataclass that holds others of its kind."""

    name: str
    children: list[Tree] = field(default_factory=list)


class Options(TypedDict, total=False):
    """A TypedDict, none of whose members has to be there."""

    fast: bool
    zones: list[int]


def an_int(it: int) -> None: ...
def a_float(it: float) -> None: ...
def a_bool(it: bool) -> None: ...
def a_str(it: str) -> None: ...
def a_decimal(it: Decimal) -> None: ...
def a_literal(it: Literal["on", "off", 3]) -> None: ...
def an_enum(it: Colour) -> None: ...
def a_numbered_enum(it: Level) -> None: ...
def an_optional(it: int | None) -> None: ...
def a_union(it: bool | float) -> None: ...
def a_union_with_text(it: bool | str) -> None: ...
def ints(it: list[int]) -> None: ...
def floats(it: tuple[float, ...]) -> None: ...
def bools(it: list[bool]) -> None: ...
def texts(it: list[str]) -> None: ...
def a_list(it: list[Any]) -> None: ...
def a_set(it: frozenset[int]) -> None: ...
def a_pair(it: tuple[int, bool]) -> None: ...
def perhaps_ints(it: list[int] | None) -> None: ...
def a_mapping(it: dict[str, float]) -> None: ...
def by_number(it: dict[float, int]) -> None: ...
def a_dataclass(it: Point) -> None: ...
def a_recursive_dataclass(it: Tree) -> None: ...
def a_typed_dict(it: Options) -> None: ...
def a_percentage(it: Annotated[int, Meta(ge=0, le=100)]) -> None: ...
def an_annotated_bool(it: Annotated[bool, "a switch", Meta(description="a switch")]) -> None: ...
def anything(it: Any) -> None: ...


def described(zone: "in the garden", seconds: "10 to 60", plain: Unknown) -> None: ...  # type: ignore # noqa: F722
def in_further_quotes(it: "int") -> None: ...  # noqa: UP037


def unknown_class(it: Callable[[], None]) -> None: ...
def unknown_class_inside(it: list[object | Callable[[], None]]) -> None: ...


def noted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator, as many are written."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


@noted
def decorated(it: Colour) -> None: ...


class Machine:
    """Something with methods."""

    def method(self, it: Colour) -> None: ...

    @classmethod
    def of_the_class(cls, it: Colour) -> None: ...

    @staticmethod
    def static(it: Colour) -> None: ...

    def __call__(self, it: Colour) -> None: ...

    def open(self, *, it: int = 0, **others: Any) -> dict[str, Any]:
        return {"it": it, **others}
