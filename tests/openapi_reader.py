"""How the tests read an OpenAPI document, and the classes that the functions in it take and return."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from openapi_spec_validator import validate
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from rpiserve import App
from rpiserve.data import encoding
from rpiserve.web.endpoints.table import SUBJECTS
from rpiserve.web.openapi.document import document

Item = TypeVar("Item")


class Level(IntEnum):
    """How bad it is."""

    LOW = 1
    HIGH = 2


@dataclass
class Reading:
    """What was read."""

    value: float
    level: Level = Level.LOW
    at: datetime | None = None
    notes: set[str] = field(default_factory=set)


@dataclass
class Box(Generic[Item]):
    item: Item


class Pair(NamedTuple):
    left: int
    right: int


class Switch(TypedDict, total=False):
    on: bool


class Cat(msgspec.Struct, tag=True):
    lives: int = 9


class Dog(msgspec.Struct, tag=True):
    friend: "Cat | Dog | None" = None


class Loud(Enum):
    YES = "yes"


def read(app: App) -> Any:
    """Return the document of ``app`` as a client reads it, checked to be a valid one."""
    whole = unchecked(app)
    validate(whole)
    return whole


def unchecked(app: App) -> Any:
    """Return the document of ``app``, checked for what the validator does not: its names, and its references."""
    written = document(app.name, "1.2", app.commands, app.actions, app.routes, SUBJECTS)
    read = msgspec.json.decode(encoding.encode(written))
    ids = [operation["operationId"] for _, _, operation in operations(read)]
    assert len(set(ids)) == len(ids)
    templates = [re.sub("{.*?}", "{}", path) for path in read["paths"]]
    assert len(set(templates)) == len(templates)
    for reference in references(read):
        resolved(read, {"$ref": reference})
    return read


def operations(read: Any) -> Iterator[tuple[str, str, Any]]:
    """Go through the paths, methods and operations."""
    for path, item in read["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def references(part: Any) -> Iterator[str]:
    """Go through all references in ``part``."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        yield from part.get("discriminator", {}).get("mapping", {}).values()
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from references(each)


def resolved(read: Any, schema: Any) -> Any:
    """Return what ``schema`` refers to, if it does."""
    if "$ref" not in schema:
        return schema
    place = read
    first, *keys = schema["$ref"].split("/")
    assert first == "#"
    for key in keys:
        place = place[key]
    return place


def fits(read: Any, schema: Any, value: Any) -> bool:
    """Tell whether ``value`` is one by ``schema``, which stands in the document ``read``."""
    registry: Any = Registry().with_resource("urn:document", DRAFT202012.create_resource(read))
    whole = msgspec.json.decode(msgspec.json.encode(schema).replace(b'"#/', b'"urn:document#/'))
    try:
        Draft202012Validator(whole, registry=registry).validate(value)
    except ValidationError:
        return False
    return True


def body(operation: Any) -> Any:
    """Return the schema of the body of a request."""
    return operation["requestBody"]["content"]["application/json"]["schema"]


def result(operation: Any, status: str = "200") -> Any:
    """Return the schema of the JSON of an answer."""
    return operation["responses"][status]["content"]["application/json"]["schema"]


def of_command(function: Callable[..., Any]) -> tuple[Any, Any, Any]:
    """Return the document of an app with one command, and the schemas of its arguments and of its result."""
    app = App("test")
    app.add_command(function, name="command")
    whole = unchecked(app)
    schemas = whole["components"]["schemas"]
    [call] = schemas["Call"]["properties"]["Command"]["oneOf"]
    [called] = schemas["Called"]["properties"]["Command"]["oneOf"]
    return whole, call["properties"]["Args"], called["properties"]["Result"]


def of_route(path: str, function: Callable[..., Any], *methods: str) -> tuple[Any, Any]:
    """Return the document of an app with one route, and its operation."""
    app = App("test")
    app.route(path, methods or ["GET"])(function)
    whole = unchecked(app)
    [found] = [operation for _, _, operation in operations(whole) if "app" in operation["tags"]]
    return whole, found


def returns(annotation: Any) -> Callable[[], Any]:
    """Return a function that says it returns ``annotation``."""

    def function() -> Any: ...

    function.__annotations__["return"] = annotation
    return function
