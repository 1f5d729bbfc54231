"""Roles, and how a request shows that it has one.

With a token file each request that is not public shows a token, as ``Authorization: Bearer`` (RFC 6750) or by the
cookie of a session that was begun with one at ``/login``. Without one everybody may do all who can reach us, and the
rest of this package sees to it that these are the right ones.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Final
from urllib.parse import quote

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rpiserve.core.metrics import Metric, Sample
from rpiserve.core.tokens import CONTROL, Token, TokenFile
from rpiserve.web.access.proxies import is_forwarded
from rpiserve.web.access.sessions import IDLE_SECONDS, Sessions, secret_in, set_cookie
from rpiserve.web.access.throttle import Throttle
from rpiserve.web.endpoint_declaration import PUBLIC
from rpiserve.web.problems import Problem
from rpiserve.web.server.addresses import network_of
from rpiserve.web.server.request import FREE_BODY, LimitedRequest

log = Logger()

QUIET_SECONDS: Final = 600.0
"""How long the log says no more of wrong tokens, once it has."""

PROXY_HINT: Final = "; if that is a proxy of yours, name it with --trusted-proxy, or its clients wait for each other"

REASONS: Final = ("refused", "wrong", "role", "throttled")
DENIED: Final = Metric(
    "rpiserve_http_denied_total", "Requests that were not let in, by the reason.", "counter", ("reason",)
)


class Authorizer:
    """Lets requests in.

    Args:
        tokens: the tokens; None if there is no token file.
        open: whether anybody is let in who can reach us.
        clock: the reactor's clock, in seconds.

    Attributes:
        sessions: those of browsers that have logged in.
        counts: how many requests were ``refused`` without a token, with a ``wrong`` one, with too small a ``role``, and
            how many were ``throttled``.
    """

    def __init__(self, tokens: TokenFile | None, open: bool, clock: IReactorTime) -> None:
        self.counts: Counter[str] = Counter()
        self.sessions = Sessions(clock)
        self._tokens = tokens
        self._throttle = Throttle(clock)
        self._open = open
        self._clock = clock
        self._quiet_until = 0.0

    @property
    def has_login(self) -> bool:
        """Whether there is something to log in with."""
        return self._tokens is not None

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of who was not let in."""
        for reason in REASONS:
            yield DENIED.sample(self.counts[reason], reason)

    def require(self, request: LimitedRequest, role: str) -> None:
        """Let ``request`` in, if it may do what needs ``role``.

        Raises:
            Problem: it may not: 401 or, for a page that a person has asked for, 303 to the login form; 403; 429 after
                too many wrong tokens.
        """
        if role == PUBLIC:
            return
        if self._tokens is None:
            if is_forwarded(request.requestHeaders) and not self._open:
                self.counts["refused"] += 1
                raise Problem(
                    403,
                    "this came by a proxy: --trusted-proxy names it if it lets in only whom it should, or use tokens",
                )
            return
        token = self._token_of(request, self._tokens)
        request.token_name = token.name
        request.set_headers({"Rpiserve-Role": token.role})  # so that a page offers nothing that would be refused
        if role == CONTROL and token.role != CONTROL:
            self.counts["role"] += 1
            scope = {b"WWW-Authenticate": b'Bearer realm="rpiserve", error="insufficient_scope", scope="control"'}
            raise Problem(403, f"the token {token.name!r} may read; this needs one with the role control", scope)
        request.is_authenticated = True
        request.still_allowed = partial(self._still_holds, request, token, self._tokens)

    def check_token(self, request: LimitedRequest) -> None:
        """Let ``request`` send a large body, whatever it is for, if it shows a token or there are none.

        Raises:
            Problem: 401, it does not; 429 after too many wrong tokens.
        """
        if self._tokens is not None:
            self._token_of(request, self._tokens, f"a body of more than {FREE_BODY >> 10} KiB")

    def _still_holds(self, request: LimitedRequest, token: Token, tokens: TokenFile) -> bool:
        """Tell whether ``token``, and the session if ``request`` has come by one, are still good."""
        by_session = _shown(request) is None
        return tokens.is_valid(token) and (not by_session or self.sessions.find(secret_in(request)) == token)

    def _token_of(self, request: LimitedRequest, tokens: TokenFile, what: str = "this") -> Token:
        secret = _shown(request)
        if secret is not None:
            token = tokens.find(secret)
            if token is None:
                raise self._wrong(request)
            return token
        session = secret_in(request)
        token = self.sessions.find(session)
        if session is not None and token is not None and tokens.is_valid(token):
            if self.sessions.is_due(session):
                set_cookie(request, session, int(IDLE_SECONDS))
            return token
        self.counts["refused"] += 1
        if request.method == b"GET" and b"text/html" in (request.getHeader(b"Accept") or b""):
            target = quote(request.uri.decode("latin-1"), safe="")
            raise Problem(303, "log in first", {b"Location": f"/login?next={target}".encode()}, code="unauthorized")
        raise Problem(401, f"{what} needs a token: Authorization: Bearer …, or log in at /login", _CHALLENGE)

    def check_login(self) -> TokenFile:
        """Return what people log in with.

        Raises:
            Problem: 404, there is nothing.
        """
        if self._tokens is None:
            raise Problem(404, "there is nothing to log in with: everybody is let in who can reach this")
        return self._tokens

    def log_in(self, request: LimitedRequest, secret: str) -> str:
        """Begin a session with a token, and return what its cookie holds.

        Raises:
            Problem: 401, it is no token; 404, there are none; 429, there were too many wrong ones.
        """
        tokens = self.check_login()
        self._check_throttle(request)  # before a look at it: a form is what guesses are made with
        token = tokens.find(secret)
        if token is None:
            raise self._wrong(request)
        self.sessions.end(secret_in(request))
        return self.sessions.begin(token)

    def _wrong(self, request: LimitedRequest) -> Problem:
        self._check_throttle(request)
        self._throttle.note(_address_of(request))
        self.counts["wrong"] += 1
        self._tell(request)
        return Problem(401, "there is no such token", {b"WWW-Authenticate": _CHALLENGE_WRONG})

    def _tell(self, request: LimitedRequest) -> None:
        """Say that an address has to wait, but not as often as somebody would like who fills disks."""
        now = self._clock.seconds()
        if now < self._quiet_until or not self._throttle.wait(_address_of(request)):
            return
        self._quiet_until = now + QUIET_SECONDS
        log.warn(
            "{address} has sent too many wrong tokens and has to wait; {wrong} were sent in all since the start{hint}",
            address=request.client_host or "a client of the unix socket",
            wrong=self.counts["wrong"],
            hint=PROXY_HINT if is_forwarded(request.requestHeaders) else "",
        )

    def _check_throttle(self, request: LimitedRequest) -> None:
        wait = self._throttle.wait(_address_of(request))
        if wait > 0:
            self.counts["throttled"] += 1
            raise Problem(429, "too many wrong tokens; try again later", {b"Retry-After": b"%d" % (wait + 1)})


def _shown(request: LimitedRequest) -> str | None:
    """Return the token that ``request`` shows in its header. Another scheme than Bearer is for a proxy before us."""
    scheme, _, secret = (request.header(b"Authorization") or "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else None


def _address_of(request: LimitedRequest) -> str | None:
    return None if request.client_host is None else network_of(request.client_host)


_CHALLENGE: Final = {b"WWW-Authenticate": b'Bearer realm="rpiserve"'}
_CHALLENGE_WRONG: Final = b'Bearer realm="rpiserve", error="invalid_token"'
