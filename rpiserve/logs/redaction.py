"""What is secret is taken out of texts before anybody sees them.

Nothing of ours logs a secret in the first place. But an exception of a library's may hold the URL that it failed with,
and a header may get into a traceback: so all that is logged comes by here last.

Some of these texts come from strangers, and the reactor waits meanwhile: no rule may take more than so many steps for
each character, whatever the text. So nothing is looked for from a place on that was looked through for it already.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple
from urllib.parse import quote

from rpiserve.core.tokens import PREFIX

HIDDEN: Final = "***"
"""What stands in the place of a secret."""

SHORTEST: Final = 6
"""In characters. A known secret that is shorter would be found in the middle of anything."""

LONGEST_SECRET: Final = 8200
"""In characters. Of a longer one, with what it is recognised by, a part may be seen where a text is cut."""

LONGEST_PATH: Final = 300
"""In characters. So far back it is looked for the beginning of a path."""

_PATH_AHEAD = r"(?![\"']?\s{0,4}[=:]\s{0,4}b?[\"']?[/~])"

# Where a first letter stands as a class most places of a text are passed over at once.
_NAMES: Final = rf"[Pp](?i:assphrase|assword|asswd|wd{_PATH_AHEAD})|[Ss](?i:ecret)|[Aa](?i:pi[_-]?key)"
"""What fields that hold secrets are called, or end with. As PWD the environment has the current directory, too."""

_TOKEN_NAME: Final = r"[Tt](?:(?<=[A-Za-z0-9][_-].)|(?<=[a-z]T))(?i:oken)"
"""A token with a word before it is a field. One without stands in sentences, too."""


def _or_encoded(characters: str, codes: str) -> str:
    """Return what matches one of ``characters``, also as it is in a URL, encoded however often."""
    return rf"(?:{characters}|%(?:25)*+(?:{codes}))"


def _hexadecimal(character: str) -> str:
    return "".join(f"[{digit}{digit.lower()}]" if digit.isalpha() else digit for digit in f"{ord(character):02X}")


_TOKEN: Final = "".join(_or_encoded(each, _hexadecimal(each)) for each in PREFIX) + (
    _or_encoded("[A-Za-z0-9_-]", "2[Dd]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]") + "{20,}+"
)

_TOKEN_BYTES: Final = re.compile(_TOKEN.encode())

# With (?s:.) nothing but the end of the text keeps a quoted one from being found. That happens once for each quote:
# none that comes later could begin another, it would have been the end of this.
_QUOTED = r"""(?:"[^"\\]*+(?:\\(?s:.)[^"\\]*+)*+"|'[^'\\]*+(?:\\(?s:.)[^'\\]*+)*+')"""

_NO_WEB = r"(?<!(?i:http)://)(?<!(?i:https)://)(?<!\b(?i:ws)://)(?<!\b(?i:wss)://)"

_USER: Final = re.compile(r"://[^\s/@:\[]*+:")
_WEB: Final = re.compile(rf"://(?!{_NO_WEB})")
_PORT: Final = re.compile(r"\d{1,5}([/?#])")
_END_OF_PATH: Final = re.compile(r"[?#@]")


def _without_password(word: re.Match[str]) -> str:
    """Return ``word``, which begins with a ``://``, without the password in it: it ends before the last ``@``."""
    text, (start, end) = word.string, word.span()
    at = text.rfind("@", start, end)
    if at < 0:
        return word[0]
    path_end = start
    for user in _USER.finditer(text, start, at):
        port = _PORT.match(text, user.end(), at)
        if port is not None and port[1] == "/" and not _WEB.match(text, user.start()):
            if path_end < port.end() and (found := _END_OF_PATH.search(text, port.end())):
                path_end = found.start()
            if text[path_end] == "@":
                port = None
        if port is None and user.end() < at:
            return f"{text[start : user.end()]}{HIDDEN}{text[at:end]}"
    return word[0]


def _without_value(field: re.Match[str]) -> str:
    """Return ``field`` without its value, unless its name is the end of a path: behind that stands what is wrong."""
    before = field.string[max(0, field.start() - LONGEST_PATH) : field.start()]
    is_path = "/" in before.rpartition(" ")[2]
    return field[0] if is_path else f"{field[1]}{HIDDEN}"


class _Rule(NamedTuple):
    """A kind of secret.

    Attributes:
        words: one of them is in each text that has such a secret, in small letters.
        pattern: what matches the secret and what it is recognised by.
        replacement: what comes in the place of that.
    """

    words: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]


_NAME_WORDS = ("pass", "secret", "token", "key", "pwd")

_RULES: Final = (
    # A password within a URL, up to the end of the word, and one with blanks.
    _Rule(("://",), re.compile(r"://\S+"), _without_password),
    _Rule(
        ("://",),
        re.compile(
            rf"(://(?::|{_NO_WEB}[^\s/@:\[]++:(?!\d{{1,5}}\b)))"
            r"(?:[^\s/@\"'<>,;()\[\]{}]++[ \t]){1,3}+[^\s/]*@(?=[\w\[/])"
        ),
        rf"\1{HIDDEN}@",
    ),
    _Rule((PREFIX[0], "%"), re.compile(_TOKEN), f"{PREFIX}{HIDDEN}"),
    # Headers: as they are sent, and as Python shows them in dictionaries, tuples and lists.
    _Rule(
        ("authorization", "cookie"),
        re.compile(
            r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)"
            rf"(?:([\"']\s{{0,4}}[:,]\s{{0,4}}[\[(]?b?){_QUOTED}|(\s{{0,4}}[:=]\s{{0,4}}+)(?!Bearer …)[^\r\n]++)"
        ),
        rf"\1\2\3{HIDDEN}",
    ),
    _Rule(("bearer",), re.compile(r"([Bb]earer\s{1,4})[A-Za-z0-9._~+/=-]{8,}+"), rf"\1{HIDDEN}"),
    # The cookie of a session of ours, wherever it stands.
    _Rule(("rpiserve",), re.compile(r"(rpiserve(?:-\d{1,5})?=)[A-Za-z0-9_-]{20,}+"), rf"\1{HIDDEN}"),
    # Fields of forms and queries, keyword arguments, and entries of dictionaries.
    _Rule(
        _NAME_WORDS,
        re.compile(
            rf"({_NAMES}|[Tt](?i:oken))(?:(=\s{{0,4}}b?)(?:{_QUOTED}|[\"']?[^&\s;,)\"']++)"
            rf"|([\"']\s{{0,4}}:\s{{0,4}}b?)(?:{_QUOTED}|[^\s,}}\]]++))"
        ),
        rf"\1\2\3{HIDDEN}",
    ),
    _Rule(_NAME_WORDS, re.compile(rf"((?:{_NAMES}|{_TOKEN_NAME}):\s{{1,4}})\S++"), _without_value),
)


def hide_tokens(text: bytes) -> bytes:
    """Return ``text``, which may be JSON and still is, without tokens of ours, encoded for a URL or not."""
    return _TOKEN_BYTES.sub(f"{PREFIX}{HIDDEN}".encode(), text)


def redact(text: str, known: Iterable[str] = ()) -> str:
    """Return ``text`` without the secrets in it: `HIDDEN` stands in their places.

    These are tokens of ours, passwords in URLs, the values of the headers ``Authorization`` and ``Cookie``, and of
    fields that are called a password, a token or the like.

    A password that was not encoded makes a URL ambiguous. It is taken to end before the last ``@`` of the word, so it
    may hold slashes, and more than the password may be hidden. What stays, although it might be one:

    * What looks like a port: one to five digits with a slash, ``?`` or ``#`` behind them, as in
      ``http://host:8080/path@2x.png``. In URLs other than those of the web (http, https, ws, wss) the path before a
      query holds no ``@``, so there ``redis://me:12345/x@host`` has a password.
    * What has blanks in it, where a sentence may as well have gone on: in URLs of the web that name a user, beginning
      with what might be a port, with more than three blanks, or with slashes, quotes or the like before the last.
    * What has no ``://`` before it: addresses of e-mail and times are more frequent.

    Of fields, a ``token`` without a word before it counts with ``=`` or in quotes, not with a mere colon, as it has in
    sentences; and a ``pwd`` that begins with ``/`` or ``~`` is a directory.

    Args:
        text: any text.
        known: secrets that are hidden wherever they stand, whatever they look like.
    """
    for secret in known:
        if len(secret) >= SHORTEST:
            text = text.replace(secret, HIDDEN).replace(quote(secret, safe=""), HIDDEN)
    small = text.lower()
    for words, pattern, replacement in _RULES:
        if any(word in small for word in words):
            text = pattern.sub(replacement, text)
    return text
