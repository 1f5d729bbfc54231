"""What the operations in the OpenAPI document are made of."""

from collections.abc import Sequence
from typing import Any, Final

from rpiserve.declare.names import NAME
from rpiserve.errors import CODES
from rpiserve.web.app_request import JSON, PROBLEM_JSON, phrase_of
from rpiserve.web.openapi.schemas import ref

TEXT: Final = {"type": "string"}
TEXT_OR_NULL: Final = {"type": ["string", "null"]}

ANY_REQUEST: Final = (400, 401, 403, 408, 413, 421, 429)
"""The statuses of the errors that every request may get, before anybody has looked at what it asks for."""


def record(**properties: Any) -> dict[str, Any]:
    """Return the schema of an object that has all of ``properties``, and may have more."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def array(items: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an array of ``items``."""
    return {"type": "array", "items": items}


PROBLEM: Final = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {**TEXT, "format": "uri-reference"},
        "title": {**TEXT, "description": "What the status is called."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {**TEXT, "description": "What was wrong, and what to do."},
        "errors": {
            **array(record(argument=TEXT, message=TEXT)),
            "description": "With 422: what is wrong with which argument or field.",
        },
        "incident": {**TEXT, "description": "With 500: what to look for in the log of the daemon."},
        "code": {
            **TEXT,
            "pattern": "^[a-z0-9_]{1,40}$",
            "description": "A word that a program can go by.\n\n"
            + "\n".join(f"- `{code}`: {meaning}." for code, meaning in CODES.items()),
        },
        "remote_code": {**TEXT_OR_NULL, "description": "With `remote_error`: the service's own code, if it gave one."},
    },
    "required": ["type", "title", "status", "detail", "code"],
}


COUNT: Final = {"type": "integer", "minimum": 0}


def content(schema: dict[str, Any], media_type: str = JSON) -> dict[str, Any]:
    """Return the content of a body with ``schema``."""
    return {media_type: {"schema": schema}}


def answer(description: str, schema: dict[str, Any], media_type: str = JSON) -> dict[str, Any]:
    """Return an answer with a body."""
    return {"description": description, "content": content(schema, media_type)}


def ok(description: str, schema: dict[str, Any], media_type: str = JSON) -> dict[str, Any]:
    """Return the answer that is meant, by its status."""
    return {"200": answer(description, schema, media_type)}


def problem_answers() -> dict[str, Any]:
    """Return the answers that are errors, by the names that `problems` refers to."""
    statuses = (*ANY_REQUEST, 404, 415, 422, 500, 502, 503, 504)
    return {f"problem-{status}": answer(phrase_of(status), ref("Problem"), PROBLEM_JSON) for status in statuses}


def problems(*statuses: int) -> dict[str, Any]:
    """Return the answers that are errors: those that any request may get, and those with ``statuses``."""
    return {
        str(status): {"$ref": f"#/components/responses/problem-{status}"}
        for status in sorted({*ANY_REQUEST, *statuses})
    }


def operation(
    tag: str,
    summary: str,
    description: str = "",
    *,
    responses: dict[str, Any],
    parameters: Sequence[dict[str, Any]] = (),
    body: dict[str, Any] | None = None,
    required: bool = True,
    media_type: str = JSON,
    public: bool = False,
) -> dict[str, Any]:
    """Return an operation.

    Args:
        tag: what kind of thing it is of.
        summary: what it does, in a line.
        description: more of that.
        responses: the answers, by their statuses.
        parameters: the parameters.
        body: the schema of the request's body; None if it has none.
        required: whether there has to be a body.
        media_type: what the body is.
        public: whether it needs no token even where others do.
    """
    result: dict[str, Any] = {"tags": [tag], "summary": summary}
    if description:
        result["description"] = description
    if parameters:
        result["parameters"] = list(parameters)
    if body is not None:
        result["requestBody"] = {"required": required, "content": content(body, media_type)}
    if public:
        result["security"] = []
    return {**result, "responses": responses}


def parameter(name: str, where: str, schema: dict[str, Any], description: str = "", **more: Any) -> dict[str, Any]:
    """Return a parameter; ``where`` it is, is ``path``, ``query`` or ``header``."""
    told = {"description": description} if description else {}
    needed = {"required": True} if where == "path" else {}
    return {"name": name, "in": where, **told, **needed, "schema": schema, **more}


def name_in_path(name: str, description: str, example: str) -> dict[str, Any]:
    """Return the parameter of a path that names a service, an action or a channel."""
    schema = {"type": "string", "pattern": f"^{NAME.pattern}$"}
    return parameter(name, "path", schema, description, example=example)


def redirect(description: str) -> dict[str, Any]:
    """Return the response that sends the client to another path."""
    location = {"description": "The path.", "schema": TEXT}
    return {"303": {"description": description, "headers": {"Location": location}}}


def reply(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI response of an action, whose payload has ``schema``."""
    text = "The payload of the reply; to who accepts `text/event-stream`, events: `progress`, then `result` or `error`."
    return {"200": {"description": text, "content": {**content(schema), **content(TEXT, EVENT_STREAM)}}}


EVENT_STREAM: Final = "text/event-stream"
ETAG: Final = {"ETag": {"description": "Of this very content.", "schema": TEXT}}
UNCHANGED: Final = {"304": {"description": "It is as it was.", "headers": ETAG}}
META: Final = parameter(
    "meta", "query", {"type": "integer", "enum": [0, 1], "default": 0}, "1 to get each value as a `Leaf`, without ETag."
)
