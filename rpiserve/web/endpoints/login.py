"""Logging in and out with a browser: a form, and the cookie of a session."""

import re
from html import escape
from importlib.resources import files
from typing import Final

from twisted.internet.defer import Deferred

from rpiserve.web.access.authorization import Access
from rpiserve.web.access.origins import Provenance
from rpiserve.web.access.sessions import IDLE_SECONDS, secret_in, set_cookie
from rpiserve.web.app_request import FORM, parse_fields
from rpiserve.web.endpoints.dashboard import POLICY
from rpiserve.web.problems import Problem
from rpiserve.web.server.body import media_type, query_of
from rpiserve.web.server.channel import LimitedRequest

HTML: Final = b"text/html; charset=utf-8"

LONGEST_FORM: Final = 1 << 14
"""In bytes. Anybody may send one, and to take a large one apart would hold up the reactor."""

# A path of ours. "//host" and, to a browser, "/\host" are none.
_NEXT = re.compile(r"/(?![/\\])[!-\[\]-~]*")


class LoginRoutes:
    """Answers the requests for ``/login`` and ``/logout``.

    Args:
        access: who lets requests in.
        provenance: who may send what.
    """

    def __init__(self, access: Access, provenance: Provenance) -> None:
        self._access = access
        self._provenance = provenance
        self._page = files("rpiserve.web").joinpath("dashboard", "login.html").read_text(encoding="utf-8")

    def page(self, request: LimitedRequest) -> Deferred[None]:
        """Serve the form."""
        self._access.check_login()
        return self._answer(request, 200, "", _next(query_of(request)))

    def log_in(self, request: LimitedRequest) -> Deferred[None]:
        """Begin a session with the token in the form, and send the browser to where it wanted to go."""
        self._provenance.check(request)
        if media_type(request) != FORM:
            raise Problem(415, f"the body is a form, and Content-Type says so: {FORM}")
        if len(form := request.content.read()) > LONGEST_FORM:
            raise Problem(413, f"the form may have {LONGEST_FORM} bytes")
        fields = parse_fields(form, "the form")
        target = _next(fields)
        try:
            secret = self._access.log_in(request, fields.get("token", [""])[-1].strip())
        except Problem as problem:
            return self._answer(request, problem.status, problem.detail, target, problem.headers)
        set_cookie(request, secret, int(IDLE_SECONDS))
        return request.answer(303, HTML, b"", {b"Location": target.encode(), b"Cache-Control": b"no-store"})

    def log_out(self, request: LimitedRequest) -> Deferred[None]:
        """End the session."""
        self._provenance.check(request)
        self._access.sessions.end(secret_in(request))
        set_cookie(request, "", 0)
        return request.answer(303, HTML, b"", {b"Location": b"/login", b"Cache-Control": b"no-store"})

    def _answer(
        self,
        request: LimitedRequest,
        status: int,
        message: str,
        target: str,
        headers: dict[bytes, bytes] | None = None,
    ) -> Deferred[None]:
        page = self._page.replace("{message}", escape(message)).replace("{next}", escape(target))
        own = {b"Cache-Control": b"no-store", b"Content-Security-Policy": POLICY, b"Referrer-Policy": b"same-origin"}
        return request.answer(status, HTML, page.encode(), own | (headers or {}))


def _next(fields: dict[str, list[str]]) -> str:
    target = fields.get("next", ["/"])[-1]
    return target if _NEXT.fullmatch(target) else "/"
