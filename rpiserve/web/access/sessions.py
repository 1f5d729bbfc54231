"""The sessions of browsers: who has logged in, by a random cookie. They are gone when the daemon ends."""

import secrets
from http.cookies import SimpleCookie
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime

from rpiserve.core.tokens import Token, digest_of
from rpiserve.web.server.request import LimitedRequest

IDLE_SECONDS: Final = 30 * 86400.0
"""How long a session lasts after its last request."""

RENEWAL_SECONDS: Final = 86400.0
"""How often a browser is told that its session goes on: it counts from when it has been told."""

MOST_SESSIONS: Final = 1000
"""How many sessions there may be; the one that has been idle longest goes for a new one."""

MOST_OF_A_TOKEN: Final = 100
"""How many of them one token may have, or who has one could end the sessions of all others."""


@attrs.define
class _Session:
    token: Token
    used: float
    told: float


class Sessions:
    """All sessions.

    Args:
        clock: the reactor's clock, in seconds.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # By the hashes of their secrets: a look-up by a hash tells nothing by the time that it takes. The one that has
        # been idle longest comes first.
        self._sessions: dict[str, _Session] = {}

    def begin(self, token: Token) -> str:
        """Begin a session of ``token``'s, and return its secret."""
        secret, now = secrets.token_urlsafe(32), self._clock.seconds()
        own = [key for key, session in self._sessions.items() if session.token == token]
        if len(own) >= MOST_OF_A_TOKEN:
            del self._sessions[own[0]]
        self._sessions[digest_of(secret)] = _Session(token, now, now)
        while len(self._sessions) > MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return secret

    def find(self, secret: str | None) -> Token | None:
        """Return the token that the session ``secret`` was begun with, and take that for a use of it; None if none."""
        session = None if secret is None else self._sessions.pop(digest_of(secret), None)
        now = self._clock.seconds()
        if session is None or secret is None or now - session.used > IDLE_SECONDS:
            return None
        session.used = now
        self._sessions[digest_of(secret)] = session
        return session.token

    def is_due(self, secret: str | None) -> bool:
        """Tell whether the browser has to be told that the session ``secret`` goes on; from now on it has been."""
        session = None if secret is None else self._sessions.get(digest_of(secret))
        now = self._clock.seconds()
        if session is None or now - session.told < RENEWAL_SECONDS:
            return False
        session.told = now
        return True

    def end(self, secret: str | None) -> None:
        """End the session ``secret``, if there is one."""
        if secret is not None:
            self._sessions.pop(digest_of(secret), None)


def secret_in(request: LimitedRequest) -> str | None:
    """Return the secret of the session that ``request`` belongs to, if it names one."""
    value = request.received_cookies.get(_name(request).encode())
    return None if value is None else value.decode("latin-1")


def set_cookie(request: LimitedRequest, secret: str, seconds: int) -> None:
    """Have the browser keep the secret of a session for so many seconds; 0 to have it forget it."""
    cookie, name = SimpleCookie(), _name(request)
    cookie[name] = secret
    for key, setting in (("path", "/"), ("max-age", seconds), ("httponly", True), ("samesite", "Strict")):
        cookie[name][key] = setting
    if request.secure:
        cookie[name]["secure"] = True
    request.cookies.append(cookie[name].OutputString().encode())


def _name(request: LimitedRequest) -> str:
    # With the port: a browser sends the cookies of all ports of a host to each of them.
    port = getattr(request.host, "port", None)
    return "rpiserve" if port is None else f"rpiserve-{port}"
