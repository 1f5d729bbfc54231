"""The OpenAPI document of an app: schemas from its annotations, texts from its docstrings.

What it says of the arguments of commands and of payloads is what they become. More is accepted: conversion is lenient,
and takes ``"3"`` for an integer and ``"on"`` for a boolean.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rpiserve.declare.arguments import returned
from rpiserve.declare.commands import Command
from rpiserve.declare.messages import Action
from rpiserve.declare.routes import Route
from rpiserve.web.endpoint_declaration import endpoints_of
from rpiserve.web.openapi.functions import answer_schema, payload_schema, told
from rpiserve.web.openapi.parts import PROBLEM, ok, operation, parameter, problem_answers, problems, record, reply
from rpiserve.web.openapi.routes import route_paths
from rpiserve.web.openapi.schemas import Components, encodable, free_name, ref, result_schema

_ABOUT: Final = """The HTTP API of a service that runs on rpiserve.

Errors are `application/problem+json`. `HEAD` works wherever `GET` only reads. A request that changes something is
refused with 403 if a browser sends it for a page of another origin, unless that is allowed."""

TAGS: Final = {
    "data": "The data tree: what sensors read and handlers write.",
    "commands": "Functions that are called by name.",
    "actions": "What answers the requests of other services; here by HTTP.",
    "messages": "The way to the bus, and to the other services on it.",
    "status": "How the daemon is.",
    "access": "Logging in and out, for browsers.",
    "pages": "The user's own pages.",
    "app": "The app's own routes.",
}

_TOKEN: Final = "Needed if the daemon has a token file. A browser may log in at `/login` instead."

_LENIENT: Final = (
    'What is given is converted to these types: `"3"` does for an integer, and `"on"` for true, just as in a query.'
)


def document(
    name: str,
    version: str,
    commands: Mapping[str, Command],
    actions: Mapping[str, Action],
    routes: Sequence[Route],
    subjects: Sequence[object],
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of an app. `rpiserve.data.encoding` can encode it, whatever its texts hold.

    Args:
        name: the service's name.
        version: what is served under this description: the version of rpiserve, say.
        commands: the commands, by name.
        actions: the actions, by name.
        routes: the app's own routes.
        subjects: what answers the built-in endpoints, objects or classes.
    """
    schemas = {key: schema for subject in subjects for key, schema in getattr(subject, "schemas", {}).items()}
    components = Components({"Problem": PROBLEM, **schemas})
    paths = _built_in_paths(subjects, name)
    _add_commands(paths, components, commands)
    for action_name, action in actions.items():
        paths[f"/actions/{action_name}"] = {"post": _action(action_name, action, components)}
    paths |= route_paths(routes, components)
    _name_operations(paths)
    whole: dict[str, Any] = encodable(
        {
            "openapi": "3.1.0",
            "info": {"title": name, "version": version, "description": _ABOUT},
            "tags": [{"name": tag, "description": text} for tag, text in TAGS.items()],
            "paths": paths,
            "components": {
                "schemas": components.schemas,
                "responses": problem_answers(),
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": _TOKEN}},
            },
            "security": [{}, {"token": []}],
        }
    )
    return whole


def _built_in_paths(subjects: Sequence[object], name: str) -> dict[str, Any]:
    """Return the paths of the endpoints that look alike in every daemon; ``name`` is that of the service."""
    paths: dict[str, Any] = {}
    for subject in subjects:
        for each in endpoints_of(subject):
            for path, described in each.operations():
                paths.setdefault(path, {})[each.method.lower()] = dict(described)
    own = paths.get("/services/{service}/{action}", {})
    for described in own.values():  # the one service that is there in any case
        described["parameters"] = [
            {**each, "example": name} if each["name"] == "service" else each for each in described["parameters"]
        ]
    return paths


def _name_operations(paths: Mapping[str, Any]) -> None:
    """Give each operation an id that is like a name in a program: ``GET /data/{path}`` is ``get_data_path``."""
    taken: set[str] = set()
    for path, item in paths.items():
        for method, each in item.items():
            operation_id = free_name("_".join([method, *re.findall(r"\w+", path, re.ASCII)]), taken)
            taken.add(operation_id)
            each["operationId"] = operation_id


# --- commands --------------------------------------------------------------------------------------------------------


def _add_commands(paths: dict[str, Any], components: Components, commands: Mapping[str, Command]) -> None:
    calls = [_call(name, command, components) for name, command in commands.items()]
    answers = [_called(name, command, components) for name, command in commands.items()]
    # With no command every call is answered by 404, but an empty choice is no schema.
    own = {
        "Call": record(Command={"oneOf": calls} if calls else record(Name={"type": "string"})),
        "Called": record(Command={"oneOf": answers} if answers else record(Name={"type": "string"}, Result={})),
    }
    call, called = (free_name(name, components.schemas) for name in own)
    components.schemas |= {call: own["Call"], called: own["Called"]}
    post: dict[str, Any] = {
        "responses": {
            **ok("The body as it was sent, with `Result` in its `Command`.", ref(called)),
            **problems(404, 415, 422, 500, 503, 504),
        },
        "body": ref(call),
    }
    paths["/cmd"] = {
        "get": operation(
            "commands",
            "Call a command by its URL",
            f"The other fields of the query are the arguments; one that stands twice is a list. {_LENIENT}",
            responses={**ok("The result alone.", {}), **problems(404, 422, 500, 503, 504)},
            parameters=[
                parameter("name", "query", _choice(commands), "The name of the command.", required=True),
                parameter("arguments", "query", _ARGUMENTS, "The arguments.", style="form", explode=True),
            ],
        ),
        "post": operation("commands", "Call a command", _LENIENT, **post),
    }
    paths.setdefault("/", {})["post"] = operation("commands", "Call a command, as `POST /cmd` does", _LENIENT, **post)


_ARGUMENTS: Final = {
    "type": "object",
    "additionalProperties": {"type": "string"},
    "propertyNames": {"not": {"const": "name"}},
}


def _choice(names: Iterable[str]) -> dict[str, Any]:
    choice = list(names)
    return {"type": "string", **({"enum": choice} if choice else {})}


def _call(name: str, command: Command, components: Components) -> dict[str, Any]:
    arguments = components.take(command.signature.schema())
    description = {"description": command.function.doc} if command.function.doc else {}
    schema = {"title": name, **description, **record(Name={"const": name}, Args=arguments)}
    return schema if arguments["required"] else {**schema, "required": ["Name"]}


def _called(name: str, command: Command, components: Components) -> dict[str, Any]:
    result = components.take(result_schema(returned(command.function.call)))
    schema = record(Name={"const": name}, Args={"type": "object"}, Result=result)
    return {"title": name, **schema, "required": ["Name", "Result"]}


# --- actions ---------------------------------------------------------------------------------------------------------


def _action(name: str, action: Action, components: Components) -> dict[str, Any]:
    answer = answer_schema(action.function.call, components, pairs=False)
    payload = payload_schema(action.payload, components)
    return operation(
        "actions",
        *told(action.function.doc, name),
        responses={**reply(answer or {}), **problems(415, 422, 500, 503, 504)},
        body=payload,
        required=bool(components.resolved(payload).get("required")),  # no body is an empty object
    )
