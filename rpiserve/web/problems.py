"""Errors as ``application/problem+json`` (RFC 9457): the one ladder from what went wrong to an HTTP answer."""

import re
from collections.abc import Mapping
from typing import Any

from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from rpiserve.core import wire
from rpiserve.core.failures import log_incident
from rpiserve.data import encoding
from rpiserve.data.encoding import printable
from rpiserve.declare.arguments import BadArguments
from rpiserve.errors import (
    BusUnavailable,
    CallTimeout,
    Cancelled,
    HandlerFailed,
    HandlerTimeout,
    HttpError,
    MessageError,
    NoResponders,
    RemoteError,
    ResourceHeld,
    Stopped,
    TooManyPending,
    UnknownCommand,
)
from rpiserve.logs.redaction import hide_tokens
from rpiserve.web.app_request import PROBLEM_JSON, phrase_of, problem_of

CONTENT_TYPE = PROBLEM_JSON.encode()

_CODE = re.compile("[a-z0-9_]{1,40}")
"""The codes of an own action that HTTP clients get; those of others could not be told from a text."""

_STATUSES = {wire.UNKNOWN_ACTION: 404, wire.INVALID_PAYLOAD: 422, wire.BUSY: 503, wire.TIMEOUT: 504}
"""The statuses of the codes in error replies that tell of more than a failure."""


class Problem(Exception):
    """An HTTP answer that is an error.

    Args:
        status: the HTTP status code.
        detail: what was wrong and what to do, for the client's reader.
        headers: further headers of the answer.
        code: the word that a program can go by; None for that of the status.
        members: further members of the object, such as ``errors``.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        headers: dict[bytes, bytes] | None = None,
        *,
        code: str | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.members = members

    def body(self) -> bytes:
        """Return the answer's body."""
        # It may quote what a client has sent, who may have put a token into the wrong place.
        return hide_tokens(encoding.encode(problem_of(self.status, self.detail, self.code, **self.members)))

    def raw_answer(self, headers: Mapping[str, str]) -> bytes:
        """Return the whole answer, for a connection on which there is no request to answer and that is to be closed.

        Args:
            headers: further headers of the answer.
        """
        body = self.body()
        head = f"HTTP/1.1 {self.status} {phrase_of(self.status)}".encode()
        lines = (
            head,
            b"Content-Type: " + CONTENT_TYPE,
            b"X-Content-Type-Options: nosniff",
            b"Content-Length: %d" % len(body),
            b"Connection: close",
            *(name + b": " + value for name, value in self.headers.items()),
            *(f"{name}: {value}".encode() for name, value in headers.items()),
        )
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


def problem_from(failure: Failure) -> Problem:
    """Return the problem that tells a client of ``failure``.

    An exception that nobody foresaw is logged; the client gets an incident id that stands in the log beside it, and
    nothing of its text.
    """
    error = failure.value
    match error:
        case Problem():
            return error
        case HttpError():
            return Problem(error.status, printable(str(error)))  # it is a handler's, and may quote anything
        case BadArguments():
            return Problem(422, str(error), code=error.code, errors=error.errors)
        case UnknownCommand():
            return Problem(404, str(error), code=error.code)
        case HandlerTimeout():
            return Problem(504, f"it took too long: {error}", code=error.code)
        case HandlerFailed():
            text = f"{error}; the log has more under this incident"
            return Problem(500, text, code=error.code, incident=error.incident)
        case RemoteError():
            return _problem_of_reply(error, 502, code="remote_error", remote_code=error.code)
        case NoResponders() | BusUnavailable() | TooManyPending() | Stopped() | ResourceHeld() | Cancelled():
            return Problem(503, str(error), code=error.code)
        case CallTimeout():
            return Problem(504, str(error), code=error.code)
        case MessageError():  # names and channels are checked before, so it is too large
            return Problem(413, str(error), code="too_large")
        case MethodNotAllowed():
            methods = ", ".join(sorted({*(error.valid_methods or ()), "OPTIONS"}))
            return Problem(405, f"the methods here are {methods}", {b"Allow": methods.encode()})
        case HTTPException(code=404):
            return Problem(
                404, "nothing here; /openapi.json lists all there is; there are /data, /cmds, /sensors and others"
            )
        case HTTPException(code=int(code)):
            return Problem(code, "the request cannot be answered")
    incident = log_incident("answering a request", failure)
    return Problem(500, "an error on our side; the log has more under this incident", incident=incident)


def problem_of_own_reply(error: RemoteError) -> Problem:
    """Return the problem that tells a client of the error reply of an action of this service."""
    code = error.code if error.code is not None and _CODE.fullmatch(error.code) else wire.HANDLER_ERROR
    return _problem_of_reply(error, 500, code=code)


def _problem_of_reply(error: RemoteError, otherwise: int, **members: Any) -> Problem:
    """Return the problem that tells a client of an error reply.

    Args:
        error: the reply.
        otherwise: the status if the code of the reply has none of its own.
        members: the code, and what else there is to tell.
    """
    if error.incident is not None:
        members["incident"] = error.incident
    if error.errors:
        members["errors"] = error.errors
    return Problem(_STATUSES.get(error.code or "", otherwise), str(error), **members)


def answer_other_method(request: Any, failure: Failure) -> Any:
    """Answer OPTIONS, which no route has, with the methods of the route; refuse any other method that it has not."""
    problem = problem_from(failure)
    if request.method == b"OPTIONS":
        return request.answer(204, CONTENT_TYPE, b"", problem.headers)
    return request.answer_problem(problem)


def answer_failure(request: Any, failure: Failure) -> Any:
    """Answer ``request`` with the problem that ``failure`` is."""
    return request.answer_problem(problem_from(failure))
