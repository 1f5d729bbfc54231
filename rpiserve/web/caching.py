"""Conditional requests (RFC 9110, section 13): whether a client has already what it asks for."""

import re

_ENTITY_TAG = re.compile(rb'(?:W/)?("[^"]*")')


def matches(header: bytes | None, tag: bytes) -> bool:
    """Tell whether the value of ``If-None-Match`` names ``tag``, by the weak comparison of section 13.1.2."""
    return header is not None and (header.strip() == b"*" or tag in _ENTITY_TAG.findall(header))
