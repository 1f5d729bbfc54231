"""What a user's function says of itself in the OpenAPI document: its docstring, what it takes, and what it answers."""

from collections.abc import Callable
from typing import Any

import msgspec.inspect as types

from rpiserve.declare.arguments import returned
from rpiserve.declare.payload import Payload
from rpiserve.web.openapi.schemas import Components, result_schema


def told(doc: str, otherwise: str) -> tuple[str, str]:
    """Return the first paragraph of a docstring as one line, and the rest; ``otherwise`` if there is none."""
    first, _, rest = doc.strip().partition("\n\n")
    return " ".join(first.split()) or otherwise, rest.strip()


def payload_schema(payload: Payload, components: Components) -> dict[str, Any]:
    """Return a schema of the payload; without a class it may be anything."""
    return components.take(payload.schema() or {})


def answer_schema(function: Callable[..., Any], components: Components, pairs: bool) -> dict[str, Any] | None:
    """Return a schema of what an action or a route answers by returning it; None if it may well answer otherwise.

    Args:
        function: the function.
        components: what takes the schemas that this one refers to.
        pairs: whether a pair may be data and a status, and bytes are sent as they are.
    """
    kind = returned(function)
    return components.take(result_schema(kind)) if _is_answer(kind, pairs) else None


def _is_answer(kind: Any, pairs: bool) -> bool:
    """Tell whether what is annotated with ``kind`` is sent as JSON, and was not given as an answer some other way."""
    try:
        return _is_data(types.type_info(kind), pairs)
    except Exception:  # noqa: BLE001 - an annotation may be any object
        return False


def _is_data(kind: types.Type, pairs: bool) -> bool:
    match kind:
        case types.Metadata():
            return _is_data(kind.type, pairs)
        case types.UnionType():
            return all(_is_data(alternative, pairs) for alternative in kind.types)
        case types.NoneType() | types.AnyType() | types.RawType() | types.CustomType():
            return False
        case types.TupleType() | types.VarTupleType() | types.NamedTupleType():
            return not pairs
        case types.BytesType() | types.ByteArrayType() | types.MemoryViewType():
            return not pairs
    return True
