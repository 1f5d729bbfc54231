"""What is secret is taken out of texts before anybody sees them.

Nothing of ours logs a secret in the first place. But an exception of a library's may hold the URL that it failed with,
and a header may get into a traceback: so all that is logged comes by here last.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from rpiserve.tokens import PREFIX

HIDDEN: Final = "***"
"""What stands in the place of a secret."""

SHORTEST: Final = 6
"""In characters. A known secret that is shorter would be found in the middle of anything."""

LONGEST_SECRET: Final = 8200
"""In characters. Of a longer one, with what it is recognised by, a part may be seen where a text is cut."""

SECRET_NAMES: Final = r"passphrase|password|passwd|secret|token|api[_-]?key"
"""What fields that hold secrets are called, or end with, as a regular expression."""

_TOKEN: Final = rf"{PREFIX}[A-Za-z0-9_-]{{20,}}"

_TOKEN_BYTES: Final = re.compile(_TOKEN.encode())

# The repetitions have bounds: a text that was made to match almost everywhere must not cost seconds.
_QUOTED = r""""(?:\\.|[^"\\]){0,4000}"|'(?:\\.|[^'\\]){0,4000}'"""

_RULES: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # A password within a URL; in one that was not encoded there may be a slash. What looks like a port is one.
        (r"(://[^\s/@:\[]{0,256}:)(?!\d{1,5}(?:[/?#]|\s|$))[^\s]{1,1000}@", rf"\1{HIDDEN}@"),
        (_TOKEN, f"{PREFIX}{HIDDEN}"),
        # Headers: as they are sent, and as Python shows them in dictionaries, tuples and lists.
        (
            r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)"
            rf"(?:([\"']\s{{0,4}}[:,]\s{{0,4}}[\[(]?b?)(?:{_QUOTED})|(\s{{0,4}}[:=]\s{{0,4}})[^\r\n]{{1,8000}})",
            rf"\1\2\3{HIDDEN}",
        ),
        (r"\b([Bb]earer\s{1,4})[A-Za-z0-9._~+/=-]{8,}", rf"\1{HIDDEN}"),
        # The cookie of a session of ours, wherever it stands.
        (r"\b(rpiserve(?:-\d{1,5})?=)[A-Za-z0-9_-]{20,}", rf"\1{HIDDEN}"),
        # Fields of forms and queries, keyword arguments, and entries of dictionaries.
        (
            rf"(?i)({SECRET_NAMES})(?:(=\s{{0,4}}b?)(?:{_QUOTED}|[\"']?[^&\s;,)\"']{{1,4000}})"
            rf"|([\"']\s{{0,4}}:\s{{0,4}}b?)(?:{_QUOTED}|[^\s,}}\]]{{1,4000}}))",
            rf"\1\2\3{HIDDEN}",
        ),
        (rf"(?i)\b((?:{SECRET_NAMES.replace('|token', '')}):\s{{1,4}})\S{{1,4000}}", rf"\1{HIDDEN}"),
    )
)


def hide_tokens(text: bytes) -> bytes:
    """Return ``text``, which may be JSON and still is, without tokens of ours."""
    return _TOKEN_BYTES.sub(f"{PREFIX}{HIDDEN}".encode(), text)


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Return ``text`` without the secrets in it: `HIDDEN` stands in their places.

    These are tokens of ours, passwords in URLs, the values of the headers ``Authorization`` and ``Cookie``, and of
    fields that are called a password, a token or the like.

    Args:
        text: any text.
        known: secrets that are hidden wherever they stand, whatever they look like.
    """
    for secret in known:
        if len(secret) >= SHORTEST:
            text = text.replace(secret, HIDDEN).replace(quote(secret, safe=""), HIDDEN)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
