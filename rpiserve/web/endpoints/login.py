"""Logging in and out with a browser: a form, and the cookie of a session."""

import re
from html import escape
from importlib.resources import files
from typing import Final

from twisted.internet.defer import Deferred

from rpiserve.web.access.authorization import Authorizer
from rpiserve.web.access.sessions import IDLE_SECONDS, secret_in, set_cookie
from rpiserve.web.app_request import FORM, PROBLEM_JSON, parse_fields
from rpiserve.web.endpoint_declaration import PUBLIC, endpoint
from rpiserve.web.endpoints.dashboard import POLICY
from rpiserve.web.openapi.parts import TEXT, content, ok, operation, parameter, problems, redirect
from rpiserve.web.openapi.schemas import ref
from rpiserve.web.problems import Problem
from rpiserve.web.server.body import media_type, query_of
from rpiserve.web.server.request import LimitedRequest

HTML: Final = b"text/html; charset=utf-8"

LONGEST_FORM: Final = 1 << 14
"""In bytes. Anybody may send one, and to take a large one apart would hold up the reactor."""

# A path of ours. "//host" and, to a browser, "/\host" are none.
_NEXT = re.compile(r"/(?![/\\])[!-\[\]-~]*")


_TARGET: Final = parameter("next", "query", TEXT, "The path to go to after the login.")
_FORM_AGAIN: Final = {
    "description": "The form, with what was wrong.",
    "content": {**content(TEXT, "text/html"), **content(ref("Problem"), PROBLEM_JSON)},
}
_IN_THE_FORM: Final = "the form is where a token is shown first"


class LoginEndpoints:
    """Answers the requests for ``/login`` and ``/logout``.

    Args:
        access: who lets requests in.
    """

    def __init__(self, access: Authorizer) -> None:
        self._access = access
        self._page = files("rpiserve.web").joinpath("dashboard", "login.html").read_text(encoding="utf-8")

    @endpoint(
        "GET",
        "/login",
        role=PUBLIC,
        operation=operation(
            "access",
            "The form to log in with",
            responses={**ok("A page for people.", TEXT, "text/html"), **problems(404)},
            parameters=(_TARGET,),
            public=True,
        ),
    )
    def page(self, request: LimitedRequest) -> Deferred[None]:
        """Serve the form."""
        self._access.check_login()
        return self._answer(request, 200, "", _next(query_of(request)))

    @endpoint(
        "POST",
        "/login",
        role=PUBLIC,
        operation=operation(
            "access",
            "Log in with a token",
            "Answers with a session cookie. A wrong token is answered with the form again, and 401 or 429.",
            responses={
                **redirect("To where `next` leads."),
                **problems(415),
                **dict.fromkeys(("401", "404", "429"), _FORM_AGAIN),
            },
            body={"type": "object", "properties": {"token": TEXT, "next": TEXT}, "required": ["token"]},
            media_type=FORM,
            public=True,
        ),
        reason=_IN_THE_FORM,
    )
    def log_in(self, request: LimitedRequest) -> Deferred[None]:
        """Begin a session with the token in the form, and send the browser to where it wanted to go."""
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

    @endpoint(
        "POST",
        "/logout",
        role=PUBLIC,
        operation=operation(
            "access", "Log out", responses={**redirect("To the form to log in with."), **problems()}, public=True
        ),
        reason="a session whose token was removed must be able to end",
    )
    def log_out(self, request: LimitedRequest) -> Deferred[None]:
        """End the session."""
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
