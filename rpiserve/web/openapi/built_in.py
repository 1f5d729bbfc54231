"""What every daemon has by itself, as the OpenAPI document tells of it."""

from typing import Any, Final

from rpiserve.declare.names import NAME
from rpiserve.web.endpoints.actions import CALL_SECONDS, LONGEST_CALL
from rpiserve.web.openapi.parts import (
    PROBLEM,
    TEXT,
    TEXT_OR_NULL,
    answer,
    array,
    content,
    ok,
    operation,
    parameter,
    problems,
    record,
)
from rpiserve.web.openapi.schemas import ref

EVENT_STREAM: Final = "text/event-stream"

TAGS: Final = {
    "data": "The data tree: what sensors read and handlers write.",
    "commands": "Functions that are called by name.",
    "actions": "What answers the requests of other services; here by HTTP.",
    "messages": "The way to the bus, and to the other services on it.",
    "status": "How the daemon is.",
    "app": "The app's own routes.",
}

_NUMBER_OR_NULL: Final = {"type": ["number", "null"]}
_COUNT: Final = {"type": "integer", "minimum": 0}


_LEAF = record(
    value={},
    unit=TEXT_OR_NULL,
    time={**TEXT_OR_NULL, "format": "date-time"},
    age={"type": "number", "description": "Seconds since it was set."},
    state={"enum": ["ok", "stale", "error"]},
    error=TEXT_OR_NULL,
)
_SENSOR = record(
    name=TEXT,
    kind=TEXT,
    bus=TEXT_OR_NULL,
    state={"enum": ["ok", "error", "pending"]},
    error=TEXT_OR_NULL,
    last_run={**TEXT_OR_NULL, "format": "date-time"},
    duration={**_NUMBER_OR_NULL, "description": "Of the last run, in seconds."},
    interval={**_NUMBER_OR_NULL, "description": "In seconds; null for a schedule."},
    schedule=TEXT_OR_NULL,
    timezone=TEXT_OR_NULL,
    next_run={**TEXT_OR_NULL, "format": "date-time"},
    runs=_COUNT,
    failures=_COUNT,
    missed=_COUNT,
    stuck={"type": "boolean"},
)
_SERVICES = record(
    bus=record(kind=TEXT, name=TEXT, connected={"type": "boolean"}, since=TEXT, error=TEXT_OR_NULL),
    services=array(record(name=TEXT, actions=array(record(name=TEXT, doc=TEXT)), instances={"type": "integer"})),
)
_LISTED_COMMAND = record(
    Name=TEXT,
    Args={"type": "object", "additionalProperties": TEXT, "description": "Each argument's annotation, as text."},
    URL={**TEXT, "description": "The URL that calls it, with the values left out."},
    Doc=TEXT,
    Schema={"type": "object", "description": "A JSON Schema of the arguments."},
)

SCHEMAS: Final = {"Problem": PROBLEM, "Leaf": _LEAF, "Sensor": _SENSOR}


def _name_in_path(name: str, description: str, example: str) -> dict[str, Any]:
    return parameter(name, "path", {"type": "string", "pattern": f"^{NAME.pattern}$"}, description, example=example)


_META = parameter(
    "meta", "query", {"type": "integer", "enum": [0, 1], "default": 0}, "1 to get each value as a `Leaf`, without ETag."
)
_IF_NONE_MATCH = parameter("If-None-Match", "header", TEXT, "The ETag of an answer that is there already.")
_ETAG = {"ETag": {"description": "Of this very content.", "schema": TEXT}}
_UNCHANGED = {"304": {"description": "It is as it was.", "headers": _ETAG}}
_TREE_PATH = parameter(
    "path",
    "path",
    {"type": "string", "minLength": 1, "pattern": "^[^\0]+$"},
    "One or more keys with slashes between them, which OpenAPI cannot say: `room/temperature` is `temperature` in "
    "`room`. A slash in a key is written `%2F`.",
    example="host",
)

_EVENTS = """A stream of server-sent events that does not end. The data of each is JSON.

- `snapshot`: all values by their paths; the first event, unless `Last-Event-ID` says what the client has.
- `change`: `{"changed": {path: value}, "removed": [path]}`; its id is the revision.
- `sensor`: how a handler is, as in `/sensors`.
- `broadcast`: `{"channel": name, "payload": object}`."""

_TIMEOUT = parameter(
    "timeout",
    "query",
    {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_CALL, "default": CALL_SECONDS},
    "How many seconds the answer may take.",
)


def reply(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of an action, whose payload has ``schema``."""
    text = "The payload of the reply; to who accepts `text/event-stream`, events: `progress`, then `result` or `error`."
    return {"200": {"description": text, "content": {**content(schema), **content(TEXT, EVENT_STREAM)}}}


def _readiness(ready: bool) -> dict[str, Any]:
    part = record(ready={"type": "boolean"}, reasons=array(TEXT))
    return record(ready={"const": ready}, reasons=array(TEXT), parts={"type": "object", "additionalProperties": part})


def paths(service: str) -> dict[str, Any]:
    """Return the paths that every daemon has and that look alike in each; ``service`` is its name."""
    data = "The values, as an object of objects."
    return {
        "/data": {
            "get": operation(
                "data",
                "All data",
                responses={"200": {**answer(data, {"type": "object"}), "headers": _ETAG}, **_UNCHANGED, **problems()},
                parameters=(_META, _IF_NONE_MATCH),
            )
        },
        "/data/{path}": {
            "get": operation(
                "data",
                "The data at a path",
                "A value itself, or an object of all below the path.",
                responses={
                    "200": {**answer("The value or the object.", {}), "headers": _ETAG},
                    **_UNCHANGED,
                    **problems(404),
                },
                parameters=(_TREE_PATH, _META, _IF_NONE_MATCH),
            )
        },
        "/cmds": {
            "get": operation(
                "commands",
                "The commands",
                responses={
                    **ok("All of them.", record(Commands=array(record(Command=_LISTED_COMMAND)))),
                    **problems(),
                },
            )
        },
        "/services": {
            "get": operation(
                "messages", "The bus, and the services on it", responses={**ok("Both.", _SERVICES), **problems()}
            )
        },
        "/services/{service}/{action}": {
            "post": operation(
                "messages",
                "Have an action of any service answer",
                "The body is the payload; none is an empty object. A client that leaves ends the request.",
                responses={**reply({}), **problems(404, 415, 422, 502, 503, 504)},
                parameters=(
                    _name_in_path("service", "The name of the service.", service),
                    _name_in_path("action", "The name of the action.", "get_status"),
                    _TIMEOUT,
                ),
                body={},
                required=False,
            )
        },
        "/broadcasts/{channel}": {
            "post": operation(
                "messages",
                "Send a broadcast",
                "The body is the message; none is an empty object.",
                responses={
                    **ok("How many receivers it has.", record(receivers=_COUNT)),
                    **problems(404, 415, 422, 503),
                },
                parameters=(_name_in_path("channel", "The channel.", "news"),),
                body={"type": "object"},
                required=False,
            )
        },
        "/events": {
            "get": operation(
                "data",
                "What happens, as it happens",
                _EVENTS,
                responses={**ok("The events.", TEXT, EVENT_STREAM), **problems(503)},
                parameters=(
                    parameter("path", "query", array(TEXT), "The changes at or below these paths; else all."),
                    parameter("types", "query", TEXT, "Of `change`, `sensor` and `broadcast`, with commas between."),
                    parameter("channel", "query", array(TEXT), "Broadcasts on these channels or patterns."),
                    _META,
                    parameter("Last-Event-ID", "header", TEXT, "The id of the last event that the client has had."),
                ),
            )
        },
        "/sensors": {
            "get": operation(
                "status",
                "The handlers, and how they are",
                responses={**ok("All of them.", array(ref("Sensor"))), **problems()},
            )
        },
        "/health": {
            "get": operation(
                "status",
                "Whether it is alive",
                responses={**ok("It is.", record(status={"const": "ok"})), **problems()},
                public=True,
            )
        },
        "/ready": {
            "get": operation(
                "status",
                "Whether all its parts are ready",
                responses={
                    **ok("They are.", _readiness(True)),
                    **problems(),
                    "503": answer("They are not.", _readiness(False)),
                },
            )
        },
        "/metrics": {
            "get": operation(
                "status",
                "What Prometheus asks for",
                responses={**ok("Its text format.", TEXT, "text/plain"), **problems()},
            )
        },
        "/openapi.json": {
            "get": operation("status", "This document", responses={**ok("It.", {"type": "object"}), **problems()})
        },
        "/": {
            "get": operation(
                "status",
                "The dashboard",
                responses={**ok("A page for people.", TEXT, "text/html"), **problems(404)},
            )
        },
    }
