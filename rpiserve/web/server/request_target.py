"""The target of a request: the segments of its path, in one canonical form."""

from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

from rpiserve.web.problems import Problem


def segments_of(path: bytes) -> list[bytes]:
    """Return the segments of ``path``, which begins with a slash.

    Each is percent-encoded in one and the same way, so that nothing in a segment (a ``%2F``, a line break) can change
    which route it takes. A slash at the end is left out.

    Raises:
        Problem: 400, a segment is not UTF-8 or holds a NUL character; 404, a segment is empty.
    """
    segments = [_canonical_segment(segment) for segment in path.removesuffix(b"/").split(b"/")[1:]]
    if b"" in segments:  # Klein takes "//data" for "/data"
        raise Problem(404, "there is nothing between two slashes")
    return segments or [b""]


def decode_segment(segment: bytes) -> str:
    """Return what a segment of a path, as `segments_of` returns it, stands for."""
    return unquote_to_bytes(segment).decode()


def split_absolute(target: bytes) -> tuple[bytes, bytes]:
    """Return the authority and the path of a target in absolute form (RFC 9112, section 3.2.2).

    Raises:
        Problem: 400, it is not one.
    """
    try:
        parts = urlsplit(target)
    except ValueError:
        parts = urlsplit(b"")
    if parts.scheme not in (b"http", b"https"):
        raise Problem(400, "the target of a request is a path that begins with a slash")
    return parts.netloc, parts.path or b"/"


def _canonical_segment(segment: bytes) -> bytes:
    plain = unquote_to_bytes(segment)
    try:
        plain.decode()
    except UnicodeDecodeError:
        raise Problem(400, "the path is not UTF-8") from None
    if b"\0" in plain:
        raise Problem(400, "the path holds a NUL character")
    return quote_from_bytes(plain, safe="").encode()
