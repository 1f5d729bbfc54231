"""``GET /data``: the data tree."""

from typing import Any, ClassVar, Final

from twisted.internet.defer import Deferred

from rpiserve.core.handler_status import HandlerStatuses
from rpiserve.core.tokens import READ
from rpiserve.data import encoding
from rpiserve.data.paths import format_path
from rpiserve.data.tree import DataTree
from rpiserve.web.endpoint_declaration import endpoint
from rpiserve.web.openapi.parts import (
    ETAG,
    META,
    TEXT,
    TEXT_OR_NULL,
    UNCHANGED,
    answer,
    operation,
    parameter,
    problems,
    record,
)
from rpiserve.web.problems import Problem
from rpiserve.web.server.etags import answer_tagged
from rpiserve.web.server.request import JSON, LimitedRequest
from rpiserve.web.server.request_target import decode_segment

LEAF: Final = record(
    value={},
    unit=TEXT_OR_NULL,
    time={**TEXT_OR_NULL, "format": "date-time"},
    age={"type": "number", "description": "Seconds since it was set."},
    state={"enum": ["ok", "stale", "error"]},
    error=TEXT_OR_NULL,
)

_IF_NONE_MATCH: Final = parameter("If-None-Match", "header", TEXT, "The ETag of an answer that is there already.")
_TREE_PATH: Final = parameter(
    "path",
    "path",
    {"type": "string", "minLength": 1, "pattern": "^[^\0]+$"},
    "One or more keys with slashes between them, which OpenAPI cannot say: `room/temperature` is `temperature` in "
    "`room`. A slash in a key is written `%2F`.",
    example="host",
)


class DataEndpoints:
    """Answers ``/data``.

    Args:
        tree: the data.
        handlers: reports why a value is missing.
    """

    schemas: ClassVar[dict[str, Any]] = {"Leaf": LEAF}

    def __init__(self, tree: DataTree, handlers: HandlerStatuses) -> None:
        self._tree = tree
        self._handlers = handlers

    @endpoint(
        "GET",
        "/data",
        role=READ,
        operation=operation(
            "data",
            "All data",
            responses={
                "200": {**answer("The values, as an object of objects.", {"type": "object"}), "headers": ETAG},
                **UNCHANGED,
                **problems(),
            },
            parameters=(META, _IF_NONE_MATCH),
        ),
        below=operation(
            "data",
            "The data at a path",
            "A value itself, or an object of all below the path.",
            responses={
                "200": {**answer("The value or the object.", {}), "headers": ETAG},
                **UNCHANGED,
                **problems(404),
            },
            parameters=(_TREE_PATH, META, _IF_NONE_MATCH),
        ),
    )
    def data(self, request: LimitedRequest) -> Deferred[None]:
        """Serve the tree, or the part at a path."""
        path = tuple(decode_segment(segment) for segment in request.postpath)
        try:
            part = self._tree.find(path)
        except KeyError:
            raise Problem(404, self._why_missing(format_path(path))) from None
        if _flag(request, b"meta"):
            return request.answer_json(encoding.encode(part.meta(self._tree.now())))
        return answer_tagged(request, f'"{self._tree.revision(part)}"'.encode(), JSON, part.json)

    def _why_missing(self, path: str) -> str:
        for handler in self._handlers.statuses():  # that of a sensor has the name of its path
            if f"{handler.name}/".startswith(f"{path}/"):
                why = f": {handler.error}" if handler.error else ""
                return f"{handler.name} has not brought a value yet{why}; /sensors tells more"
        return f"there is nothing at {path!r}; /data shows all there is"


def _flag(request: LimitedRequest, name: bytes) -> bool:
    value = request.args.get(name, [b"0"])[-1]
    if value not in (b"0", b"1"):
        raise Problem(400, f"{name.decode()} is 0 or 1")
    return bool(value == b"1")
