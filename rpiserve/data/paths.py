"""Keys and paths of the data tree.

A *key* is a non-empty string without NUL that is not ``.`` or ``..``. A *path* is a tuple of keys; written as text its
keys are joined by ``/``, and ``%2F`` and ``%25`` stand for a ``/`` and a ``%`` inside a key. There are no other
escapes: any other ``%`` is a percent sign.
"""

import re
from typing import TypeAlias

from rpiserve.errors import PathError

Path: TypeAlias = tuple[str, ...]

MAX_DEPTH = 64
"""How deep a tree may nest: deeper than anyone needs, shallow enough for recursion."""

_ESCAPE = re.compile("%(2[Ff]|25)")
_STAR_ESCAPE = re.compile("%(2[FfAa]|25)")
_ESCAPED = {"2F": "/", "25": "%", "2A": "*"}


def check_key(key: object) -> str:
    """Return ``key`` as a plain ``str``.

    Raises:
        PathError: it is no key; the text says why.
    """
    if not isinstance(key, str):
        raise PathError(f"a key is of type {type(key).__name__}; keys are strings")
    plain = str.__str__(key)
    if plain in ("", ".", ".."):
        raise PathError(f"{plain!r} cannot be a key")
    if "\0" in plain:
        raise PathError(f"the key {plain[:80]!r} holds a NUL character")
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise PathError(f"the key {plain[:80]!r} holds a lone surrogate, which UTF-8 cannot express") from None
    return plain


def check_depth(path: Path) -> Path:
    """Return ``path``.

    Raises:
        PathError: it is deeper than `MAX_DEPTH`.
    """
    if len(path) > MAX_DEPTH:
        raise PathError(f"the path {format_path(path)[:80]!r}… is deeper than {MAX_DEPTH} keys")
    return path


def join(path: Path, key: object) -> Path:
    """Return the path of ``key`` below ``path``.

    Raises:
        PathError: ``key`` cannot be one, or would stand too deep; the text names ``path``.
    """
    try:
        return check_depth((*path, check_key(key)))
    except PathError as error:
        raise PathError(f"at {format_path(path)[:80] or 'the root'}: {error}") from None


def parse_path(text: str) -> Path:
    """Return the path that ``text`` writes: ``"a/b%2Fc"`` is ``("a", "b/c")``, ``""`` is the root, ``()``.

    Raises:
        PathError: ``text`` is not a string, or one of its keys cannot be one.
    """
    if not isinstance(text, str):
        raise PathError(f"a path is of type {type(text).__name__}; paths are strings such as 'a/b'")
    if text == "":
        return ()
    try:
        return check_depth(tuple(check_key(unescape(segment)) for segment in text.split("/")))
    except PathError as error:
        raise PathError(f"in the path {text[:80]!r}: {error}") from None


def format_path(path: Path) -> str:
    """Return ``path`` as text; `parse_path` reads it back."""
    return "/".join(key.replace("%", "%25").replace("/", "%2F") for key in path)


def overlap(one: Path, other: Path) -> bool:
    """Tell whether one of the two paths lies on or below the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def unescape(segment: str, star: bool = False) -> str:
    """Return the key that a segment of a path, or with ``star`` of a pattern, writes."""
    return (_STAR_ESCAPE if star else _ESCAPE).sub(lambda match: _ESCAPED[match[1].upper()], segment)
