"""Whether a default fits the schema beside it, of the kinds that msgspec makes."""

from collections.abc import Mapping
from typing import Any, Final

_TOLD: Final = frozenset({"title", "description", "default", "examples", "format", "discriminator"})
"""The keywords that refuse nothing."""

_REFERENCE: Final = "#/$defs/"


def fits(value: Any, schema: Any, definitions: Mapping[str, Any]) -> bool:
    """Tell whether ``value``, as JSON has it, certainly fits ``schema``.

    Args:
        value: the value.
        schema: the schema.
        definitions: what it refers to, by the names in ``#/$defs/``.
    """
    if not isinstance(schema, dict):
        return schema is True
    return all(_keeps(value, keyword, schema, definitions) for keyword in schema.keys() - _TOLD)


def _keeps(value: Any, keyword: str, schema: dict[str, Any], definitions: Mapping[str, Any]) -> bool:
    """Tell whether ``value`` keeps to ``keyword``. Of one that is not known here that is not certain."""
    wanted = schema[keyword]
    match keyword:
        case "type":
            return bool(_types(value) & {wanted} if isinstance(wanted, str) else _types(value) & {*wanted})
        case "$ref":
            return fits(value, definitions[wanted.removeprefix(_REFERENCE)], definitions)
        case "anyOf":
            return any(fits(value, each, definitions) for each in wanted)
        case "enum":
            return any(value == each and type(value) is type(each) for each in wanted)
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            return "number" not in _types(value) or _within(value, keyword, wanted)
        case "items":
            return not isinstance(value, list) or all(fits(item, wanted, definitions) for item in value)
        case "uniqueItems":
            return not isinstance(value, list) or all(value.count(item) == 1 for item in value)
        case "required":
            return not isinstance(value, dict) or all(key in value for key in wanted)
        case "properties":
            fields = value.items() if isinstance(value, dict) else ()
            return all(fits(item, wanted[key], definitions) for key, item in fields if key in wanted)
        case "additionalProperties":
            fields = value.items() if isinstance(value, dict) else ()
            known = schema.get("properties", {})
            return all(fits(item, wanted, definitions) for key, item in fields if key not in known)
    return False


def _types(value: Any) -> set[str]:
    match value:
        case None:
            return {"null"}
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
    return {"object"}


def _within(value: Any, keyword: str, bound: Any) -> bool:
    match keyword:
        case "minimum":
            return bool(value >= bound)
        case "maximum":
            return bool(value <= bound)
        case "exclusiveMinimum":
            return bool(value > bound)
    return bool(value < bound)
