"""What a request carries: its JSON body and its query."""

from typing import Any

from rpiserve.web.app_request import JSON, parse_fields, parse_json
from rpiserve.web.problems import Problem
from rpiserve.web.server.request import LimitedRequest


def check_json(request: LimitedRequest) -> None:
    """Check that ``request`` says its body is JSON, which no HTML form can say; or has neither a body nor a type.

    Raises:
        Problem: 415, it does not.
    """
    kind = media_type(request)
    if kind is None and not request.content.getvalue():
        return
    if kind != JSON:
        raise Problem(415, "the body is JSON, and Content-Type says so: application/json")


def media_type(request: LimitedRequest) -> str | None:
    """Return what ``request`` says its body is, without parameters and in small letters; None if it does not say."""
    content_type = request.header(b"Content-Type")
    return None if content_type is None else content_type.split(";")[0].strip().lower()


def read_json(request: LimitedRequest) -> tuple[bytes, Any]:
    """Return the body of ``request``, as it came and as the value that it is; no body is an empty object.

    Raises:
        Problem: 415, it is not said to be JSON.
        HttpError: 400, it is none, or nests too deeply.
    """
    check_json(request)
    body = request.content.read() or b"{}"
    return body, parse_json(body)


def query_of(request: LimitedRequest) -> dict[str, list[str]]:
    """Return the values of each field in the query of ``request``.

    Raises:
        HttpError: 400, it is not UTF-8, or has too many fields.
    """
    return parse_fields(request.uri.partition(b"?")[2])
