"""Which pages of other origins may use us: Cross-Origin Resource Sharing (WHATWG Fetch, section 3.3).

A browser shows a page the answers of another origin only if these say so, and asks before it sends anything that a
plain form could not. What a page may *do* is decided by the same policy, since a browser sends some requests unasked.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

import attrs

ANY: Final = "*"

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""What a page of an origin that is named may use by default."""

READING: Final = ("GET", "HEAD")
"""What any page may use by default, if all origins are allowed."""

HEADERS: Final = ("Content-Type", "Authorization", "If-None-Match", "Last-Event-ID")

MAX_AGE: Final = 600
"""Seconds for which a browser may remember the answer to a preflight, by default."""

# As a browser writes it: a name of another script as xn--….
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|[0-9a-f:.]*:[0-9a-f:.]*")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110, section 5.6.2


@attrs.frozen
class CorsPolicy:
    """Who may do what. Made by `of`.

    Attributes:
        allowed_origins: origins, each as a browser writes it; or `ANY` alone.
        allowed_methods: methods, or `ANY` alone.
        allowed_headers: headers of requests, or `ANY` alone.
        expose_headers: headers of answers that the page may see.
        allow_credentials: whether the browser sends its cookies along.
        max_age: seconds for which it may remember the answer to a preflight.
    """

    allowed_origins: tuple[str, ...]
    allowed_methods: tuple[str, ...]
    allowed_headers: tuple[str, ...]
    expose_headers: tuple[str, ...]
    allow_credentials: bool
    max_age: int

    @classmethod
    def of(
        cls,
        allowed_origins: str | Iterable[str],
        allowed_methods: str | Iterable[str] = (),
        allowed_headers: str | Iterable[str] = HEADERS,
        expose_headers: str | Iterable[str] = (),
        allow_credentials: bool = False,
        max_age: int = MAX_AGE,
    ) -> "CorsPolicy":
        """Return a policy, checked.

        Args:
            allowed_origins: such as ``https://panel.example`` or ``http://localhost:3000``; ``"*"`` for all.
            allowed_methods: by default `METHODS` for origins that are named, and `READING` if all are allowed.
            allowed_headers: headers that requests may have; ``"*"`` for any.
            expose_headers: headers of answers that the page may see, beyond those that it always may.
            allow_credentials: let the browser send its cookies along.
            max_age: seconds for which a browser may remember the answer to a preflight.

        Raises:
            ValueError: a value is wrong; the text says which, and what it should be.
        """
        origins = tuple(dict.fromkeys(map(_origin, _texts("allowed_origins", allowed_origins))))
        if not origins:
            raise ValueError("allowed_origins names no origin, such as https://panel.example")
        if not isinstance(allow_credentials, bool):
            raise ValueError(f"allow_credentials is {allow_credentials!r}; it is true or false")
        if ANY in origins and allow_credentials:
            raise ValueError("allow_credentials does not go with the origin '*': name the origins")
        exposed = _tokens("expose_headers", expose_headers)
        if ANY in exposed and allow_credentials:  # browsers would look for a header of that name
            raise ValueError("allow_credentials does not go with '*' in expose_headers: name the headers")
        if isinstance(max_age, bool) or not isinstance(max_age, int) or max_age < 0:
            raise ValueError(f"max_age is {max_age!r}; it is a whole number of seconds")
        usual = READING if ANY in origins else METHODS
        methods = tuple(method.upper() for method in _tokens("allowed_methods", allowed_methods)) or usual
        return cls(
            allowed_origins=origins,
            allowed_methods=methods,
            allowed_headers=_tokens("allowed_headers", allowed_headers),
            expose_headers=exposed,
            allow_credentials=allow_credentials,
            max_age=max_age,
        )

    def knows(self, origin: str) -> bool:
        """Tell whether a page of ``origin`` may see answers."""
        return ANY in self.allowed_origins or origin in self.allowed_origins

    def allows(self, origin: str, method: str) -> bool:
        """Tell whether a page of ``origin`` may use ``method``."""
        return self.knows(origin) and (ANY in self.allowed_methods or method in self.allowed_methods)

    def headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers of any answer to a request with this ``Origin``; None if it has none."""
        if ANY in self.allowed_origins:
            headers = {"Access-Control-Allow-Origin": ANY}
        elif origin is None or not self.knows(origin):
            return {"Vary": "Origin"}  # the answer to another page would differ, and caches must know
        else:
            headers = {"Vary": "Origin", "Access-Control-Allow-Origin": origin}
        if self.allow_credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        if self.expose_headers:
            headers["Access-Control-Expose-Headers"] = ", ".join(self.expose_headers)
        return headers

    def preflight(self, origin: str, method: str, wanted: str) -> dict[str, str]:
        """Return the headers of the answer to a preflight.

        Args:
            origin: who asks.
            method: the method that it wants to use.
            wanted: the headers that it wants to send, separated by commas.
        """
        vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        if not self.knows(origin):
            return {"Vary": vary}
        methods = (method,) if ANY in self.allowed_methods and _TOKEN.fullmatch(method) else self.allowed_methods
        # Named rather than "*", which browsers take literally where there are credentials, and never for Authorization.
        names = [name.strip() for name in wanted.split(",")] if ANY in self.allowed_headers else self.allowed_headers
        return {
            **self.headers(origin),
            "Vary": vary,
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": ", ".join(name for name in names if _TOKEN.fullmatch(name)),
            "Access-Control-Max-Age": str(self.max_age),
        }


def _texts(what: str, value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]
    for text in texts:
        if not isinstance(text, str) or not text:
            raise ValueError(f"{what} has {text!r}; it is a list of texts, or '*'")
    if ANY in texts and len(texts) > 1:
        raise ValueError(f"{what} has '*' beside others; it stands alone")
    return [str(text) for text in texts]


def _tokens(what: str, value: object) -> tuple[str, ...]:
    texts = _texts(what, value)
    for text in texts:
        if not _TOKEN.fullmatch(text):
            raise ValueError(f"{what} has {text!r:.80}; it is a list of names, or '*'")
    return tuple(texts)


def _origin(text: str) -> str:
    if text == ANY:
        return text
    parts = urlsplit("")
    try:
        parts = urlsplit(text.lower())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    rest = (parts.query, parts.fragment, parts.path.removeprefix("/"))
    if not _HOST.fullmatch(host) or parts.scheme not in ("http", "https") or any(rest) or "@" in text:
        raise ValueError(f"allowed_origins has {text!r:.80}; an origin is scheme://host or scheme://host:port, or '*'")
    host = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]  # which a browser leaves out
    return f"{parts.scheme}://{host}" if port in (None, usual) else f"{parts.scheme}://{host}:{port}"
