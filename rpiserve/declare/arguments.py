"""The arguments of a command: from its annotations to the conversion of what a client sent, and to a schema.

Conversion is lenient and the same for JSON and for a query string: ``"3"`` is an int, ``"on"`` and ``1`` are true. What
msgspec can make is a type here: the plain types, ``Literal``, ``Enum``, collections, unions, dataclasses, and any of
them in quotes. An annotation that is no type is a description, for people; a parameter without one takes what comes.
"""

import ast
import inspect
import math
import typing
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Final

import attrs
import msgspec
import msgspec.inspect as types

from rpiserve.data import encoding
from rpiserve.declare.mismatch import Mismatch, describe, find_mismatch
from rpiserve.errors import DataError, DeclarationError, RpiserveError

_TRUE: Final = frozenset({"on", "yes", "true", "1"})
_FALSE: Final = frozenset({"off", "no", "false", "0"})
_ANYTHING: Final = object()
"""Stands for the type of a parameter that takes what comes."""

MOST_ERRORS: Final = 50
"""How many errors a client is told of at once."""


class BadArguments(RpiserveError):
    """What a client sent does not fit.

    Attributes:
        errors: what is wrong, as ``{"argument": name, "message": text}`` each.
    """

    code = "invalid_arguments"

    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__("; ".join(f"{error['argument']}: {error['message']}" for error in errors))
        self.errors = errors


@attrs.frozen
class Parameter:
    """One argument.

    Attributes:
        name: its name.
        text: its annotation as text, or ``""``.
        type: the type to convert to; a marker of this module's for none.
        required: whether it has no default.
        default: its default.
    """

    name: str
    text: str
    type: Any
    required: bool
    default: Any

    def convert(self, value: object) -> Any:
        """Return ``value`` in the parameter's type.

        Raises:
            Mismatch: it does not fit; the text says where and how.
            ValueError: it holds a number that is not finite, or its class refuses it.
        """
        if self.type is _ANYTHING:
            return value
        try:
            converted = _converted(value, self.type)
        except msgspec.ValidationError:
            kind = types.type_info(self.type)
            loosened = _loosened(value, kind)
            try:
                converted = _converted(loosened, self.type)
            except msgspec.ValidationError:
                raise find_mismatch(loosened, kind) or Mismatch("", f"expected {describe(kind)}") from None
        if not _is_finite(msgspec.to_builtins(converted, builtin_types=(Decimal,), enc_hook=lambda _: None)):
            raise ValueError("it is not a finite number, or holds one that is not")
        return converted


def _converted(value: object, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        raise
    except Exception as error:  # a class's own code, its __post_init__ say, may raise anything
        raise ValueError(f"it was refused with a {type(error).__name__}") from error


@attrs.frozen
class Signature:
    """The arguments of a function.

    Attributes:
        parameters: each of them, in order.
        open: whether it takes further arguments by name.
        reserved: the names that these cannot have.
    """

    parameters: tuple[Parameter, ...]
    open: bool
    reserved: frozenset[str]

    @classmethod
    def of(cls, function: Callable[..., Any], name: str) -> "Signature":
        """Return the signature of ``function``, which is called ``name`` in errors.

        Raises:
            DeclarationError: no client could give it its arguments.
        """
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise DeclarationError(f"{name}: Python does not tell its arguments; wrap it in a def") from None
        parameters = []
        for parameter in signature.parameters.values():
            match parameter.kind:
                case parameter.VAR_KEYWORD:
                    continue
                case parameter.POSITIONAL_ONLY | parameter.VAR_POSITIONAL:
                    raise DeclarationError(f"{name}: the argument {str(parameter)!r} has no name to give it by")
            if parameter.name == "name":
                raise DeclarationError(f"{name}: no argument may be called 'name': /cmd?name=… names the command")
            parameters.append(parameter_of(parameter, function, name))
        open_ = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
        return cls(tuple(parameters), open_, frozenset({"name", *(_bound(function) if open_ else ())}))

    def convert(self, arguments: Mapping[str, object]) -> dict[str, Any]:
        """Return ``arguments`` in the types of the parameters, to call the function with.

        Raises:
            BadArguments: one is missing, unknown or of another type.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        converted: dict[str, Any] = {}
        errors: list[dict[str, str]] = []
        for argument, value in arguments.items():
            if len(errors) == MOST_ERRORS:
                break
            try:
                if argument in known:
                    converted[argument] = known[argument].convert(value)
                elif self.open and argument not in self.reserved:
                    converted[argument] = value
                else:
                    raise ValueError(f"there is no such argument; there are: {', '.join(known) or 'none'}")
            except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
                errors.append({"argument": argument[:100], "message": str(error)})
        errors.extend(
            {"argument": parameter.name, "message": "it is missing"}
            for parameter in self.parameters
            if parameter.required and parameter.name not in arguments
        )
        if errors:
            raise BadArguments(errors)
        return converted

    def texts(self) -> dict[str, str]:
        """Return each parameter's annotation as text."""
        return {parameter.name: parameter.text for parameter in self.parameters}

    def schema(self) -> dict[str, Any]:
        """Return a JSON Schema (2020-12) of the arguments as one object."""
        typed = [parameter for parameter in self.parameters if parameter.type is not _ANYTHING]
        schemas, definitions = msgspec.json.schema_components([parameter.type for parameter in typed])
        properties: dict[str, Any] = {
            parameter.name: {"description": parameter.text} if parameter.text else {} for parameter in self.parameters
        }
        properties |= {parameter.name: schema for parameter, schema in zip(typed, schemas, strict=True)}
        for parameter in self.parameters:
            if not parameter.required:
                properties[parameter.name] = {**properties[parameter.name], **_default(parameter.default)}
        required = [parameter.name for parameter in self.parameters if parameter.required]
        schema = {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": self.open,
        }
        return {**schema, "$defs": definitions} if definitions else schema


def annotation_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> tuple[Any, str]:
    """Return the type that ``parameter`` of ``function`` is annotated with, and the annotation as text."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return _ANYTHING, ""
    if isinstance(annotation, str):
        return _quoted_type(annotation, function), _unquoted(annotation)
    return annotation, inspect.formatannotation(annotation)


def parameter_of(parameter: inspect.Parameter, function: Callable[..., Any], name: str) -> Parameter:
    kind, text = annotation_of(parameter, function)
    try:
        msgspec.json.schema(kind)
    except Exception as error:  # noqa: BLE001 - an annotation may be any object, and msgspec raises as many errors
        if isinstance(kind, type) or typing.get_origin(kind) is not None:
            reason = str(error).rpartition("\n")[2]
            raise DeclarationError(f"{name}: no client can send a {text} for {parameter.name!r}: {reason}") from None
        kind = _ANYTHING
    required = parameter.default is parameter.empty
    return Parameter(parameter.name, text, kind, required, None if required else parameter.default)


def _quoted_type(text: str, function: Callable[..., Any]) -> Any:
    """Return what the annotation ``text`` stands for in ``function``'s module, if it is Python."""

    class Holder:
        __annotations__ = {"it": text}

    scope = getattr(_written(function), "__globals__", {})
    try:
        return typing.get_type_hints(Holder, scope, {}, include_extras=True)["it"]
    except Exception:  # noqa: BLE001 - a description, read as Python, may do anything
        return _ANYTHING


def _unquoted(text: str) -> str:
    """Return the annotation ``text`` without the quotes that it was written in beneath a ``__future__`` import."""
    try:
        inner = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return inner if isinstance(inner, str) else text


def beneath_partials(function: Any) -> Any:
    """Return what ``function`` calls in the end, if it is a partial."""
    while isinstance(function, partial):
        function = function.func
    return function


def called(function: Any) -> Any:
    """Return the function or class that runs when ``function`` is called: of another object it is its ``__call__``."""
    function = beneath_partials(function)
    return function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__


def returned(function: Callable[..., Any]) -> Any:
    """Return the type that ``function`` is annotated to return; ``Any`` if that is not said, or not for certain."""
    inner = called(function)
    if inspect.isclass(inner) or hasattr(inner, "__wrapped__"):  # a decorator copies what it may not keep
        return Any
    try:
        annotation = inspect.signature(inner).return_annotation
    except (TypeError, ValueError):
        return Any
    kind = _quoted_type(annotation, function) if isinstance(annotation, str) else annotation
    return Any if kind is inspect.Signature.empty or kind is _ANYTHING else kind


def _written(function: Callable[..., Any]) -> Any:
    """Return the function that somebody wrote: what is beneath the partials, the binding and the decorators."""
    inner = called(function)
    return inspect.unwrap(getattr(inner, "__func__", inner))


def _bound(function: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that have their values already, such as ``self``."""
    parameters = inspect.signature(_written(function)).parameters.values()
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]


def _loosened(value: object, kind: types.Type) -> object:
    """Return ``value`` as msgspec takes it where it stands for a ``kind``.

    The words for true and false become these, JSON in a text is decoded, and a single item becomes a list.
    """
    match kind:
        case types.Metadata():
            return _loosened(value, kind.type)
        case types.UnionType():
            others = (_loosened(value, alternative) for alternative in kind.types)
            return next((other for other in others if other is not value), value)
        case types.BoolType() if isinstance(value, str):
            word = value.strip().lower()
            return True if word in _TRUE else False if word in _FALSE else value
        case types.ListType() | types.VarTupleType() | types.SetType() | types.FrozenSetType() | types.TupleType():
            if isinstance(value, str):
                value = _decoded(value) if value.lstrip().startswith("[") else [value]
            if isinstance(value, list):
                kinds = kind.item_types if isinstance(kind, types.TupleType) else (kind.item_type,) * len(value)
                if len(kinds) == len(value):
                    return [_loosened(item, each) for item, each in zip(value, kinds, strict=True)]
        case types.DictType() | types.DataclassType() | types.TypedDictType() | types.StructType():
            if isinstance(value, str) and value.lstrip().startswith("{"):
                value = _decoded(value)
            if isinstance(value, dict):
                if isinstance(kind, types.DictType):
                    fields = dict.fromkeys(value, kind.value_type)
                else:
                    fields = {field.encode_name: field.type for field in kind.fields}
                return {key: _loosened(item, fields[key]) if key in fields else item for key, item in value.items()}
    return value


def _decoded(text: str) -> Any:
    """Return what ``text`` says if it is JSON, else ``text``."""
    try:
        return text if encoding.is_too_deep(text.encode()) else msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _is_finite(value: object) -> bool:
    """Tell whether all numbers in ``value``, which is made of builtin types, are finite."""
    match value:
        case float():
            return math.isfinite(value)
        case Decimal():
            return value.is_finite()
        case dict():
            return all(_is_finite(key) and _is_finite(item) for key, item in value.items())
        case list() | tuple():
            return all(map(_is_finite, value))
    return True


def _default(value: object) -> dict[str, Any]:
    try:
        return {"default": encoding.to_wire(value, "")}
    except DataError:  # a default may be any object; what is no JSON is left out
        return {}
