"""Conditional requests (RFC 9110, section 13): whether a client has already what it asks for."""

import re

from twisted.internet.defer import Deferred

from rpiserve.web.server.request import LimitedRequest

_ENTITY_TAG = re.compile(rb'(?:W/)?("[^"]*")')


def matches(header: bytes | None, tag: bytes) -> bool:
    """Tell whether the value of ``If-None-Match`` names ``tag``, by the weak comparison of section 13.1.2."""
    return header is not None and (header.strip() == b"*" or tag in _ENTITY_TAG.findall(header))


def answer_tagged(
    request: LimitedRequest, tag: bytes, content_type: bytes, body: bytes, headers: dict[bytes, bytes] | None = None
) -> Deferred[None]:
    """Answer with ``body``, or tell the client that it has it already.

    Args:
        request: the request.
        tag: the entity tag of the body, in its quotes.
        content_type: what it is.
        body: the body.
        headers: further headers.
    """
    own = {b"ETag": tag, b"Cache-Control": b"no-cache", **(headers or {})}
    if matches(request.getHeader(b"If-None-Match"), tag):
        return request.answer(304, content_type, b"", own)
    return request.answer(200, content_type, body, own)
