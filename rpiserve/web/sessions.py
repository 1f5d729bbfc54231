"""The sessions of browsers: who has logged in, by a random cookie. They are gone when the daemon ends."""

import secrets
from typing import Final

import attrs
from twisted.internet.interfaces import IReactorTime

from rpiserve.tokens import Token, digest_of

IDLE_SECONDS: Final = 30 * 86400.0
"""How long a session lasts after its last request."""

MOST_SESSIONS: Final = 1000
"""How many sessions there may be; the one that has been idle longest goes for a new one."""


@attrs.define
class _Session:
    token: Token
    used: float


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
        secret = secrets.token_urlsafe(32)
        self._sessions[digest_of(secret)] = _Session(token, self._clock.seconds())
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

    def end(self, secret: str | None) -> None:
        """End the session ``secret``, if there is one."""
        if secret is not None:
            self._sessions.pop(digest_of(secret), None)
