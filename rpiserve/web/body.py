"""What a request carries: its JSON body and its query."""

from typing import Any
from urllib.parse import parse_qs

import msgspec

from rpiserve import codec
from rpiserve.web.channel import LimitedRequest
from rpiserve.web.problems import Problem


def check_json(request: LimitedRequest) -> None:
    """Check that ``request`` says its body is JSON, which no HTML form can say.

    Raises:
        Problem: 415, it does not.
    """
    content_type = request.getHeader(b"Content-Type") or b""
    if content_type.split(b";")[0].strip().lower() != b"application/json":
        raise Problem(415, "the body is JSON, and Content-Type says so: application/json")


def read_json(request: LimitedRequest) -> tuple[bytes, Any]:
    """Return the body of ``request``, as it came and as the value that it is; no body is an empty object.

    Raises:
        Problem: 415, it is not said to be JSON; 400, it is none, or nests too deeply.
    """
    check_json(request)
    body = request.content.read() or b"{}"
    if codec.is_too_deep(body):
        raise Problem(400, f"the body nests deeper than {codec.JSON_DEPTH} levels")
    try:
        body.decode()
        return body, msgspec.json.decode(body)
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, f"the body is no JSON: {error}") from None


def read_query(query: bytes) -> dict[str, list[str]]:
    """Return the values of each field in a query string.

    Raises:
        Problem: 400, it is not UTF-8.
    """
    try:
        # Not Twisted's, which takes a semicolon for an ampersand and drops what has no "=".
        return parse_qs(query.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Problem(400, "the query is not UTF-8") from None


def query_of(request: LimitedRequest) -> dict[str, list[str]]:
    """Return the values of each field in the query of ``request``.

    Raises:
        Problem: 400, it is not UTF-8.
    """
    return read_query(request.uri.partition(b"?")[2])
