"""What does not fit an annotation, and where: in words for people, from the type and the value alone."""

import datetime
import json
import uuid
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
import msgspec.inspect as types

from rpiserve.data.encoding import printable

LONGEST_VALUE: Final = 60
"""How many characters of a wrong value are shown."""

MOST_CHOICES: Final = 20
"""How many of the values that there are to choose from are named."""

_Fields = types.DataclassType | types.TypedDictType | types.StructType
_LISTS: Final = (
    types.ListType,
    types.VarTupleType,
    types.SetType,
    types.FrozenSetType,
    types.CollectionType,
    types.TupleType,
)

_WORDS: Final[dict[type[types.Type], str]] = {
    types.AnyType: "anything",
    types.NoneType: "null",
    types.DecimalType: "a number",
    types.BoolType: "true or false",
    types.BytesType: "bytes in Base64",
    types.ByteArrayType: "bytes in Base64",
    types.MemoryViewType: "bytes in Base64",
    types.DateTimeType: "a date and time",
    types.DateType: "a date",
    types.TimeType: "a time of day",
    types.TimeDeltaType: "a duration",
    types.UUIDType: "a UUID",
    types.DictType: "an object",
    types.DataclassType: "an object",
    types.TypedDictType: "an object",
    types.StructType: "an object",
    types.NamedTupleType: "a list",
}


_PLAIN: Final[dict[type[types.Type], Any]] = {
    types.NoneType: type(None),
    types.BoolType: bool,
    types.IntType: int,
    types.FloatType: float,
    types.DecimalType: Decimal,
    types.StrType: str,
    types.BytesType: bytes,
    types.ByteArrayType: bytearray,
    types.MemoryViewType: memoryview,
    types.DateTimeType: datetime.datetime,
    types.DateType: datetime.date,
    types.TimeType: datetime.time,
    types.TimeDeltaType: datetime.timedelta,
    types.UUIDType: uuid.UUID,
    types.ListType: list,
    types.VarTupleType: list,
    types.SetType: list,
    types.FrozenSetType: list,
    types.CollectionType: list,
    types.TupleType: list,
    types.DictType: dict,
}


class Mismatch(ValueError):
    """A value does not fit its type.

    Args:
        path: the way to the part that does not fit, such as ``zones[1].number``; ``""`` for the value itself.
        message: what is wrong with that.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


def find_mismatch(value: object, kind: types.Type, path: str = "") -> Mismatch | None:
    """Return the first part of ``value`` that does not fit ``kind``; None if nothing is found.

    Args:
        value: the value, in the types of JSON.
        kind: what it has to fit, by the lenient rules of `msgspec.convert`.
        path: the way to it.
    """
    if isinstance(kind, types.Metadata):
        return find_mismatch(value, kind.type, path)
    if isinstance(kind, types.UnionType):
        return _find_in_union(value, kind, path)
    if isinstance(kind, _Fields) and not getattr(kind, "array_like", False):
        return _find_in_fields(value, kind, path) if isinstance(value, dict) else _unexpected(value, kind, path)
    if isinstance(kind, _LISTS) and isinstance(value, list):
        return _find_in_list(value, kind, path)
    if isinstance(kind, types.DictType) and isinstance(value, dict):
        return _find_in_mapping(value, kind, path)
    return None if _fits(value, kind) else _unexpected(value, kind, path)


def _unexpected(value: object, kind: types.Type, path: str) -> Mismatch:
    return Mismatch(path, f"expected {describe(kind)}, got {_shown_value(value)}")


def _first(found: Iterable[Mismatch | None]) -> Mismatch | None:
    return next((each for each in found if each is not None), None)


def _find_in_union(value: object, kind: types.UnionType, path: str) -> Mismatch | None:
    found = [find_mismatch(value, alternative, path) for alternative in kind.types]
    if None in found:
        return None
    objects = [each for each, alternative in zip(found, kind.types, strict=True) if isinstance(alternative, _Fields)]
    if isinstance(value, dict) and len(objects) == 1:
        return objects[0]
    return _unexpected(value, kind, path)


def _find_in_fields(value: dict[str, Any], kind: _Fields, path: str) -> Mismatch | None:
    return _first(_mismatches_in_fields(value, kind, path))


def _mismatches_in_fields(value: dict[str, Any], kind: _Fields, path: str) -> Iterator[Mismatch | None]:
    for field in kind.fields:
        way = f"{path}.{field.encode_name}" if path else field.encode_name
        if field.encode_name in value:
            yield find_mismatch(value[field.encode_name], field.type, way)
        elif field.required:
            yield Mismatch(way, "it is missing")
    if isinstance(kind, types.StructType) and kind.forbid_unknown_fields:
        known = {field.encode_name for field in kind.fields} | {kind.tag_field}
        for name in value.keys() - known:
            yield Mismatch(f"{path}.{name[:100]}" if path else name[:100], "there is no such field")
    yield _refusal(value, kind.cls, path)


def _refusal(value: object, cls: Any, path: str) -> Mismatch | None:
    """Return what ``cls`` itself raises for a ``value`` whose fields fit."""
    try:
        msgspec.convert(value, cls, strict=False)
    except msgspec.ValidationError as error:
        return None if error.__cause__ is None else Mismatch(path, str(error.__cause__))
    except Exception as error:  # noqa: BLE001 - a class's own code, its __post_init__ say, may raise anything
        return Mismatch(path, f"it was refused with a {type(error).__name__}")
    return None


def _find_in_list(value: list[Any], kind: Any, path: str) -> Mismatch | None:
    if isinstance(kind, types.TupleType):
        kinds = kind.item_types
        if len(kinds) != len(value):
            return Mismatch(path, f"expected {describe(kind)}, got {len(value)}")
    else:
        kinds = (kind.item_type,) * len(value)
        if not _least(kind) <= len(value) <= _most(kind):
            return Mismatch(path, f"expected {describe(kind)}, got {len(value)}")
    pairs = zip(value, kinds, strict=True)
    return _first(find_mismatch(item, each, f"{path}[{number}]") for number, (item, each) in enumerate(pairs))


def _find_in_mapping(value: dict[str, Any], kind: types.DictType, path: str) -> Mismatch | None:
    if not _least(kind) <= len(value) <= _most(kind):
        return Mismatch(path, f"expected {describe(kind)}, got {len(value)}")
    for key in value:
        if find_mismatch(key, kind.key_type) is not None:
            return Mismatch(path, f"expected {describe(kind.key_type)} as a key, got {_shown_value(key)}")
    return _first(find_mismatch(item, kind.value_type, f"{path}[{_shown_value(key)}]") for key, item in value.items())


def _least(kind: Any) -> float:
    return kind.min_length or 0


def _most(kind: Any) -> float:
    return float("inf") if kind.max_length is None else kind.max_length


def _fits(value: object, kind: types.Type) -> bool:
    try:
        msgspec.convert(value, _python_type(kind), strict=False)
    except Exception:  # noqa: BLE001 - a class's own code may raise anything
        return False
    return True


def _python_type(kind: types.Type) -> Any:
    """Return the annotation that ``kind``, which has no parts, was made from."""
    names: tuple[str, ...] = ()
    match kind:
        case types.IntType() | types.FloatType():
            names = ("gt", "ge", "lt", "le", "multiple_of")
        case types.StrType():
            names = ("min_length", "max_length", "pattern")
        case types.BytesType() | types.ByteArrayType() | types.MemoryViewType():
            names = ("min_length", "max_length")
        case types.DateTimeType() | types.TimeType():
            names = ("tz",)
        case types.LiteralType():
            return Literal[kind.values]
        case _:
            if type(kind) not in _PLAIN:
                return getattr(kind, "cls", Any)
    limits = {name: limit for name in names if (limit := getattr(kind, name, None)) is not None}
    plain = _PLAIN[type(kind)]
    return Annotated[plain, msgspec.Meta(**limits)] if limits else plain


def describe(kind: types.Type) -> str:
    """Return what a value of ``kind`` is, in words: ``a number from 0 to 60``."""
    match kind:
        case types.Metadata():
            return describe(kind.type)
        case types.UnionType():
            return " or ".join(dict.fromkeys(map(describe, kind.types)))
        case types.IntType():
            return "an integer" + _range(kind)
        case types.FloatType():
            return "a number" + _range(kind)
        case types.StrType():
            return "a text" + _length(kind, "character") + (f" that matches {kind.pattern}" if kind.pattern else "")
        case types.LiteralType():
            return _choice(kind.values)
        case types.EnumType():
            return _choice([member.value for member in kind.cls])
        case types.TupleType():
            return f"a list of {_counted(len(kind.item_types), 'item')}"
        case types.DictType():
            return "an object" + _length(kind, "member")
    if isinstance(kind, _LISTS):
        return "a list" + _length(kind, "item")
    return _WORDS.get(type(kind)) or f"a {getattr(kind, 'cls', type(kind)).__name__}"


def _range(kind: types.IntType | types.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        text = f" from {kind.ge:g} to {kind.le:g}"
    else:
        limits = {"above": kind.gt, "of at least": kind.ge, "below": kind.lt, "of at most": kind.le}
        parts = [f"{word} {limit:g}" for word, limit in limits.items() if limit is not None]
        text = f" {' and '.join(parts)}" if parts else ""
    return text if kind.multiple_of is None else f"{text} that is a multiple of {kind.multiple_of:g}"


def _length(kind: Any, what: str) -> str:
    least, most = kind.min_length or 0, kind.max_length
    if most is None:
        return f" of at least {_counted(least, what)}" if least else ""
    if least == most:
        return f" of {_counted(most, what)}"
    return f" of {least} to {_counted(most, what)}" if least else f" of at most {_counted(most, what)}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _choice(values: Iterable[object]) -> str:
    shown = [repr(value) for value in values]
    more = f" and {len(shown) - MOST_CHOICES} more" if len(shown) > MOST_CHOICES else ""
    return f"one of {', '.join(shown[:MOST_CHOICES])}{more}" if len(shown) > 1 else "".join(shown)


def _shown_value(value: object) -> str:
    """Return ``value``, which is in the types of JSON, as a client knows it; of a large one its kind."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 4 * LONGEST_VALUE:
        return "a very large integer"  # Python refuses to write some
    text = printable(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
