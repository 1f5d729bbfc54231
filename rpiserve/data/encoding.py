"""The one JSON codec: what can be served, and how it looks.

Numbers, strings, booleans and None are themselves. NaN and infinities become ``null`` (RFC 8259 has no such numbers),
a Decimal a number, dates and times ISO 8601 text, a UUID text, an Enum its value, sets and tuples arrays (a set in the
order of its members' JSON, so that equal sets look alike), a dataclass an object.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from itertools import accumulate
from typing import Any
from uuid import UUID

import msgspec

from rpiserve.data.paths import MAX_DEPTH
from rpiserve.errors import DataError

_encoder = msgspec.json.Encoder(decimal_format="number")

_KNOWN = (
    "None, bool, int, float, str, list, dict, tuple, set, datetime, date, time, Decimal, UUID, Enum and dataclasses"
)

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")

_LONGEST_NUMBER = 4300  # see sys.int_info.default_max_str_digits

JSON_DEPTH = 32
"""How many levels deep the JSON that clients send may nest."""

# Possessive, and content with a string that never ends: no JSON makes it look at a byte twice.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def is_too_deep(json: bytes) -> bool:
    """Tell whether ``json``, which need not be well-formed, nests deeper than `JSON_DEPTH` levels."""
    if json.count(b"[") + json.count(b"{") <= JSON_DEPTH:
        return False
    brackets = _STRINGS.sub(b"", json).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > JSON_DEPTH


def encode(value: Any) -> bytes:
    """Return ``value``, which is made of what `to_wire` returns, as JSON in UTF-8."""
    return _encoder.encode(value)


def raw(json: bytes) -> msgspec.Raw:
    """Return a stand-in for JSON that is encoded already, to be put inside what `encode` takes."""
    return msgspec.Raw(json)


def timestamp(seconds: float) -> str:
    """Return a time in ``seconds`` since the epoch as RFC 3339 text in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def plain_text(value: str, where: str) -> str:
    """Return ``value`` as a plain ``str``.

    Raises:
        DataError: it holds a lone surrogate; the text names ``where``.
    """
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{where}: the text {plain[:40]!r} holds a lone surrogate, which UTF-8 cannot express"
        ) from None
    return plain


def printable(text: str) -> str:
    """Return ``text`` with lone surrogates and control characters as escapes.

    A message about a file may hold some of its name's, and one about a device what that has answered: a terminal that
    shows the log would obey it.
    """
    plain = text.encode("utf-8", "backslashreplace").decode()
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", plain)


def to_wire(value: object, where: str) -> Any:
    """Return ``value`` in the types that JSON has.

    Args:
        value: anything; only the types named in this module's docstring are taken.
        where: the path that the value is for, to be named in the error.

    Raises:
        DataError: the value, or something in it, cannot be served as JSON.
    """
    try:
        return _convert(value, where, ())
    except DataError:
        raise
    except Exception as error:  # a foreign type's own code (a tzinfo, iteration) may raise anything
        raise unreadable(value, where, error) from error


def unreadable(value: object, where: str, error: Exception) -> DataError:
    """Return the error for a ``value`` whose own code has raised ``error`` while it was read."""
    # Without the text of ``error``, which may hold what is nobody's business: that of a DataError is shown to clients.
    kind, reason = type(value).__name__, type(error).__name__
    return DataError(f"{where or 'the root'}: a value of type {kind} could not be read: {reason}")


def _convert(value: object, where: str, around: tuple[int, ...]) -> Any:
    # Most specific first: a bool is an int, an IntEnum too, and a datetime is a date.
    match value:
        case None | bool():
            return value
        case Enum():
            return _convert(value.value, where, around)
        case int():
            return _number(int.__int__(value), where)
        case float():
            return float.__float__(value) if math.isfinite(value) else None
        case str():
            return plain_text(value, where)
        case Decimal():
            return _number(Decimal(value), where) if value.is_finite() else None
        case datetime() | date() | time():
            return plain_text(value.isoformat(), where)
        case UUID():
            return plain_text(str(value), where)
    if id(value) in around:
        raise DataError(f"{where}: the {type(value).__name__} contains itself")
    if len(around) >= MAX_DEPTH:
        raise DataError(f"{where}: the value nests deeper than {MAX_DEPTH} levels")
    around = (*around, id(value))
    match value:
        case list() | tuple():
            return [_convert(item, where, around) for item in value]
        case set() | frozenset():
            return sorted((_convert(item, where, around) for item in value), key=encode)
        case Mapping():
            return _object(value.items(), where, around)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
        return _object(fields, where, around)
    kind = type(value).__name__
    raise DataError(f"{where}: a value of type {kind} cannot be served as JSON; what can: {_KNOWN}")


def _object(items: Iterable[tuple[object, object]], where: str, around: tuple[int, ...]) -> dict[str, Any]:
    converted = {}
    for key, item in items:
        if not isinstance(key, str):
            raise DataError(f"{where}: a key is of type {type(key).__name__}; keys are strings")
        converted[plain_text(key, where)] = _convert(item, where, around)
    return converted


def _number(value: int | Decimal, where: str) -> int | Decimal:
    try:
        too_long = len(str(value)) > _LONGEST_NUMBER
    except ValueError:  # Python itself refuses to write it
        too_long = True
    if too_long:
        raise DataError(f"{where}: a number has more than {_LONGEST_NUMBER} characters, which JSON parsers refuse")
    return value
