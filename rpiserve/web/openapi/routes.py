"""The app's own routes, as the OpenAPI document tells of them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

import attrs
from werkzeug.routing import Map
from werkzeug.routing.rules import parse_converter_args

from rpiserve.declare.routes import VARIABLE, Route
from rpiserve.web.app_request import PROBLEM_JSON
from rpiserve.web.openapi.functions import answer_schema, payload_schema, told
from rpiserve.web.openapi.parts import answer, content, ok, operation, parameter, problems
from rpiserve.web.openapi.schemas import Components, ref


@attrs.frozen
class _Template:
    """A path as OpenAPI writes it.

    Attributes:
        text: the path, with its variables in braces.
        variables: the name and the schema of each variable.
    """

    text: str
    variables: list[tuple[str, dict[str, Any]]]

    @classmethod
    def of(cls, path: str, names: Iterable[str] | None = None) -> "_Template":
        """Return the template of ``path``, with other ``names`` of its variables if they are given."""
        # Between the fixed parts stand the three groups of each variable.
        parts = VARIABLE.split(path)
        own = list(names or parts[3::4])
        schemas = [_of_converter(*each) for each in zip(parts[1::4], parts[2::4], strict=True)]
        fixed = [quote(part, safe="/!$&'()*+,;=:@~") for part in parts[::4]]
        braces = [f"{{{name}}}" for name in own]
        text = "".join(each for pair in zip(fixed, [*braces, ""], strict=True) for each in pair)
        return cls(text, list(zip(own, schemas, strict=True)))


def _of_converter(name: str | None, arguments: str | None) -> dict[str, Any]:
    """Return the schema of a variable with the converter of that ``name``."""
    args, options = parse_converter_args(arguments or "")
    routing: Any = Map()
    converter: Any = routing.converters[name or "default"](routing, *args, **options)
    match name:
        case "int" | "float":
            digits = getattr(converter, "fixed_digits", 0)
            if digits:
                return {"type": "string", "pattern": f"^[0-9]{{{digits}}}$"}
            least = converter.min if converter.min is not None else None if converter.signed else 0
            bounds = {"minimum": least, "maximum": converter.max}
            written = {"description": "With a point: 2.0"} if name == "float" else {}
            given = {key: value for key, value in bounds.items() if value is not None}
            return {"type": "integer" if name == "int" else "number", **given, **written}
        case "uuid":
            return {"type": "string", "format": "uuid"}
        case "any":
            return {"type": "string", "enum": sorted(converter.items)}
        case "path":
            return {"type": "string", "minLength": 1, "description": "It may have slashes in it, as they are."}
    pattern = {"pattern": f"^{converter.regex}$"} if arguments else {}
    return {"type": "string", "minLength": 1, **pattern}


def route_paths(routes: Sequence[Route], components: Components) -> dict[str, Any]:
    """Return the paths of ``routes``. To OpenAPI ``/<int:a>`` and ``/<b>`` are one path, so they share an item."""
    paths: dict[str, Any] = {}
    first: dict[str, _Template] = {}
    for route in routes:
        template = _Template.of(route.path)
        shape = re.sub(r"{\w+}", "{}", template.text)
        if shape in first:
            template = _Template.of(route.path, [name for name, _ in first[shape].variables])
        first.setdefault(shape, template)
        item = paths.setdefault(template.text, {})
        for method in map(str.lower, route.methods):
            new = _route(route, method, template, components)
            item[method] = _either(item[method], new) if method in item else new
    return paths


def _route(route: Route, method: str, template: _Template, components: Components) -> dict[str, Any]:
    acts, payload = method != "get", route.payload
    parameters = [parameter(name, "path", schema) for name, schema in template.variables]
    schema = payload_schema(payload, components)
    if not acts:
        parameters += _query(schema, components)
    statuses = [500, 503, 504]
    statuses += [404] if template.variables else []
    statuses += [422] if payload.parameter is not None else []
    answered = answer_schema(route.function.call, components, pairs=True)
    return operation(
        "app",
        *told(route.function.doc, f"{method.upper()} {route.path}"),
        responses=_anything() if answered is None else _answers(answered, statuses),
        parameters=parameters,
        body=schema if acts and payload.wanted else None,
        required=payload.parameter is not None,
        public=route.role == "public",
    )


def _query(schema: dict[str, Any], components: Components) -> list[dict[str, Any]]:
    """Return the fields of a payload with ``schema``, if it is a class with fields, as parameters in the query."""
    fields = components.resolved(schema)
    parameters = []
    for name, each in fields.get("properties", {}).items():
        place: dict[str, Any] = {"required": name in fields["required"]}
        made = parameter(name, "query", each, **place)
        if components.resolved(each).get("type") == "object":  # which is written as JSON
            made["content"] = content(made.pop("schema"))
        parameters.append(made)
    return parameters


def _answers(schema: dict[str, Any], statuses: Iterable[int]) -> dict[str, Any]:
    """Return the answers of a function that returns what has ``schema``, or gives an error through ``response``."""
    other = answer("Another error that it answers with.", ref("Problem"), PROBLEM_JSON)
    return {**ok("What it returns.", schema), **problems(*statuses), "default": other}


def _anything() -> dict[str, Any]:
    """Return the answers of a function that may answer with anything, and with any status."""
    return {
        "200": {"description": "What it answers with."},
        "default": {"description": "What it answers with, or a `Problem` as `application/problem+json`."},
    }


def _either(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the operation that stands for two routes, which of them it is being told by the variables alone."""
    variables = ([each for each in route["parameters"] if each["in"] == "path"] for route in (one, other))
    parameters = [
        {**first, "schema": {"anyOf": [first["schema"], second["schema"]]}}
        for first, second in zip(*variables, strict=True)
    ]
    texts = [text for each in (one, other) for text in (each["summary"], each.get("description")) if text]
    body: dict[str, Any] | None = {} if "requestBody" in {**one, **other} else None
    return operation(
        "app",
        f"{one['summary']} / {other['summary']}",
        "\n\n".join(texts),
        responses=_anything(),
        parameters=parameters,
        body=body,
        required=False,
    )
