"""The codes of the errors: one list, which the classes, the wire and the documentation go by."""

import inspect
import re
from pathlib import Path

import pytest

from rpiserve import errors
from rpiserve.core import wire
from rpiserve.declare.arguments import BadArguments
from rpiserve.declare.payload import BadPayload
from rpiserve.errors import CODES, RpiserveError

CLASSES = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, RpiserveError)]


@pytest.mark.parametrize("kind", [*CLASSES, BadArguments, BadPayload])
def test_codes_of_classes(kind: type[RpiserveError]) -> None:
    """The code of each class is in the list."""
    assert kind.code is None or kind.code in CODES


def test_codes_of_the_wire() -> None:
    """So is each that a service answers with."""
    assert CODES.keys() >= {
        wire.UNKNOWN_ACTION,
        wire.INVALID_PAYLOAD,
        wire.HANDLER_ERROR,
        wire.TIMEOUT,
        wire.BUSY,
        wire.UNSERIALIZABLE,
    }


def test_codes_are_words() -> None:
    """Each code fits the pattern that clients are told of."""
    assert [code for code in CODES if not re.fullmatch("[a-z0-9_]{1,40}", code)] == []


def test_codes_are_documented() -> None:
    """The table in the documentation lists all of them, and no others, in order."""
    text = Path("docs/web.md").read_text(encoding="utf-8")
    table = text.partition("| Code | ")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == sorted(CODES)
