"""What a handler of messages or of a route is given: nothing, the request, or a checked payload."""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Collection
from types import UnionType
from typing import Any, Final

import attrs
import msgspec

from rpiserve.declare.arguments import BadArguments, Parameter, annotation_of, parameter_of
from rpiserve.declare.mismatch import Mismatch
from rpiserve.errors import DeclarationError


def payload_of(function: Callable[..., Any], name: str, given: Collection[str] = ()) -> "Payload":
    """Return what ``function``, which handles messages and is called ``name`` in errors, wants to be given.

    Args:
        function: the function.
        name: its name.
        given: the names of arguments that it is given besides.

    Raises:
        DeclarationError: it wants more than one argument, or a type that no message can have.
    """
    try:
        every = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise DeclarationError(f"{name}: Python does not tell its arguments; wrap it in a def") from None
    parameters = [each for each in every if each.name not in given]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first = next((each for each in parameters if each.kind in positional), None)
    needed = [each.name for each in parameters if each.default is each.empty and each.kind not in _VARIABLE]
    if first is None or (first.default is not first.empty and not needed):
        wanted, first = [], None
    else:
        wanted = [first.name]
    if needed not in (wanted, []):
        beside = f" beside {', '.join(sorted(given))}" if given else ""
        raise DeclarationError(f"{name}: it is given one argument at most{beside}, and needs {', '.join(needed)}")
    if first is None:
        return Payload(False, None)
    kind, _ = annotation_of(first, function)
    return Payload(True, parameter_of(first, function, name) if _is_structured(kind) else None)


_VARIABLE: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _is_structured(kind: Any) -> bool:
    """Tell whether ``kind`` is a class with fields, or a choice among types with such a class."""
    origin = typing.get_origin(kind)
    if origin in (typing.Annotated, typing.Union, UnionType):
        return any(map(_is_structured, typing.get_args(kind)[: 1 if origin is typing.Annotated else None]))
    kind = origin or kind  # of Box[int] it is Box
    if str(getattr(kind, "__module__", "")).startswith("rpiserve."):
        return False  # PubSubRequest is not what a payload becomes: the handler is given one as it is
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    return is_struct or dataclasses.is_dataclass(kind) or attrs.has(kind) or typing.is_typeddict(kind)


class BadPayload(BadArguments):
    """The payload of a message or a request does not fit."""

    code = "invalid_payload"


@attrs.frozen
class Payload:
    """What a handler of messages wants to be given.

    Attributes:
        wanted: whether it takes an argument at all.
        parameter: that argument, if its annotation is a class with fields (a dataclass, Struct or TypedDict).
    """

    wanted: bool
    parameter: Parameter | None

    def convert(self, payload: object) -> Any:
        """Return ``payload`` as that class, by the same rules as the arguments of commands.

        Raises:
            BadPayload: it does not fit; the error names the field.
        """
        assert self.parameter is not None
        try:
            return self.parameter.convert(payload)
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            path, text = (error.path, error.message) if isinstance(error, Mismatch) else ("", str(error))
            raise BadPayload([{"argument": path[:100] or "payload", "message": text}]) from None

    def schema(self) -> dict[str, Any] | None:
        """Return a JSON Schema (2020-12) of the payload, if it has a class."""
        return None if self.parameter is None else msgspec.json.schema(self.parameter.type)
