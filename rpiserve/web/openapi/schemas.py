"""The schemas in the OpenAPI document: those that others refer to, those of results, and text that can be sent."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain, count
from typing import Any, Final

import msgspec

from rpiserve.data import encoding
from rpiserve.errors import DataError
from rpiserve.web.openapi.defaults import fits

_DEFINITION: Final = "#/$defs/"
COMPONENT: Final = "#/components/schemas/"

_VALUES: Final = frozenset({"default", "enum", "const", "examples"})
"""The keywords whose values are no schemas, whatever they look like."""

_MAPS: Final = frozenset({"properties", "$defs"})
"""Those whose values are schemas by names, which may look like keywords."""


def ref(name: str) -> dict[str, Any]:
    """Return the schema that is the component called ``name``."""
    return {"$ref": COMPONENT + name}


class Components:
    """The schemas that others refer to. Each has a name of its own, also where classes of two modules share theirs.

    Args:
        own: those of the document itself.

    Attributes:
        schemas: all of them, by their names.
    """

    def __init__(self, own: Mapping[str, Any]) -> None:
        self.schemas: dict[str, Any] = dict(own)
        self._names: dict[tuple[str, str], str] = {}

    def take(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``schema`` with what stands in its ``$defs`` moved here."""
        schema = encodable(schema)
        definitions = schema.get("$defs", {})
        schema = _changed(schema, partial(_without_wrong_default, definitions))
        definitions = schema.get("$defs", {})
        names = {name: self._name(name, definitions) for name in definitions}
        for name, definition in definitions.items():
            self.schemas[names[name]] = _renamed(definition, names)
        own: dict[str, Any] = _renamed({key: value for key, value in schema.items() if key != "$defs"}, names)
        return own

    def _name(self, name: str, definitions: Mapping[str, Any]) -> str:
        """Return the name that the definition ``name`` has here: one that is the same, and all below it, shares one."""
        known = name, repr({each: definitions[each] for each in sorted(_reached(name, definitions))})
        if known not in self._names:
            self._names[known] = free_name(name, self.schemas.keys() | self._names.values())
        return self._names[known]

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the component that ``schema`` is a reference to, if it is one, else ``schema``."""
        resolved: dict[str, Any] = self.schemas.get(schema.get("$ref", "").removeprefix(COMPONENT), schema)
        return resolved


def free_name(name: str, taken: Any) -> str:
    """Return ``name``, with a number behind it if it is among those ``taken``."""
    return next(each for each in chain([name], (f"{name}_{number}" for number in count(2))) if each not in taken)


def _reached(name: str, definitions: Mapping[str, Any]) -> set[str]:
    """Return the names of all definitions that ``name`` is made of, its own among them."""
    reached: set[str] = set()
    waiting = [name]
    while waiting:
        if (each := waiting.pop()) not in reached:
            reached.add(each)
            _changed(definitions[each], partial(_note_reference, waiting))
    return reached


def _note_reference(names: list[str], part: dict[str, Any]) -> dict[str, Any]:
    if isinstance(target := part.get("$ref"), str):
        names.append(target.removeprefix(_DEFINITION))
    return part


def _changed(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Return ``schema`` with each part of it that may be a schema as ``change`` returns it."""
    if isinstance(schema, list):
        return [_changed(item, change) for item in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {}
    for key, value in schema.items():
        if key in _MAPS:
            parts[key] = {name: _changed(each, change) for name, each in value.items()}
        else:
            parts[key] = value if key in _VALUES else _changed(value, change)
    return change(parts)


def _renamed(schema: Any, names: Mapping[str, str], place: str = COMPONENT) -> Any:
    """Return ``schema`` with each reference to a definition turned into one to what has its new name in ``place``."""

    def rename(part: dict[str, Any]) -> dict[str, Any]:
        return {key: renamed(value) if isinstance(value, str) else value for key, value in part.items()}

    def renamed(text: str) -> str:  # in a discriminator's mapping, too
        name = names.get(text.removeprefix(_DEFINITION)) if text.startswith(_DEFINITION) else None
        return text if name is None else place + name

    return _changed(schema, rename)


def _without_wrong_default(definitions: Mapping[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return ``part`` without its default, unless that is certain to fit: to Python, an ``int`` may well be None."""
    if "default" not in part or fits(part["default"], part, definitions):
        return part
    return {key: value for key, value in part.items() if key != "default"}


def result_schema(kind: Any) -> dict[str, Any]:
    """Return a schema of what a function annotated with ``kind`` returns, as `rpiserve.data.encoding` serves it.

    An annotation that says nothing for certain gets the schema that everything fits.
    """
    try:
        schema = msgspec.json.schema(kind)
    except Exception:  # noqa: BLE001 - an annotation may be any object, and msgspec raises as many errors
        return {}
    before = schema.pop("$defs", {})
    after = _served(before)
    # What a class is as a result, and what it is as an argument, are then two components.
    names = {
        name: name if all(before[each] == after[each] for each in _reached(name, before)) else f"{name}.Result"
        for name in before
    }
    result: dict[str, Any] = _renamed(_served(schema), names, _DEFINITION)
    definitions = {names[name]: _renamed(definition, names, _DEFINITION) for name, definition in after.items()}
    return {**result, "$defs": definitions} if definitions else result


def _served(schema: Any) -> Any:
    """Return ``schema`` with what the codec does: a number may be ``null``, and members of a set may look alike."""
    return _changed(schema, _as_served)


def _as_served(part: dict[str, Any]) -> dict[str, Any]:
    served = {key: value for key, value in part.items() if (key, value) != ("uniqueItems", True)}
    if served.get("type") == "string" and served.get("format") == "decimal":
        del served["format"]
        served["type"] = "number"
    if served.get("type") == "number":
        served["type"] = ["number", "null"]  # NaN and the infinities
    return served


def encodable(value: Any) -> Any:
    """Return ``value`` as `rpiserve.data.encoding` can encode it, whatever users have put into it."""
    if isinstance(value, Mapping):
        return {_text(str(key)): encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(item) for item in value]
    try:
        return encoding.to_wire(value, "")
    except DataError:
        return _text(value) if isinstance(value, str) else f"<{type(value).__name__}>"


def _text(text: str) -> str:
    return re.sub("[\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text)
