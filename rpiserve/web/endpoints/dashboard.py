"""The dashboard: a page that shows all there is, for people who would rather look than read."""

import hashlib
from importlib.resources import files

import attrs
from twisted.internet.defer import Deferred

from rpiserve.core.tokens import READ
from rpiserve.web.endpoint_declaration import GENERATED, PUBLIC, endpoint
from rpiserve.web.openapi.parts import TEXT, UNCHANGED, ok, operation, parameter, problems
from rpiserve.web.problems import Problem
from rpiserve.web.server.etags import answer_tagged
from rpiserve.web.server.request import LimitedRequest
from rpiserve.web.server.request_target import decode_segment

INDEX = "index.html"

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

# All that the page loads is ours, and nothing in it is written into the page itself.
POLICY = b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"


LOG_OUT = b'<form method="post" action="/logout"><button class="quiet">Log out</button></form>'


@attrs.frozen
class _File:
    kind: bytes
    body: bytes
    tag: bytes


_OFF = "there is no dashboard, because of --no-dashboard; /data has the values"


class DashboardEndpoints:
    """Answers ``/`` and ``/dashboard`` with the files of the dashboard, from memory.

    Args:
        enabled: whether there is a dashboard.
        has_login: whether people log in to see it.
    """

    def __init__(self, enabled: bool, has_login: bool) -> None:
        self._files: dict[str, _File] = {}
        self._enabled = enabled
        for file in files("rpiserve.web").joinpath("dashboard").iterdir():
            kind = TYPES.get(file.name.rpartition(".")[2])
            if kind is not None:
                body = file.read_bytes().replace(b"<!-- log out -->", LOG_OUT if has_login else b"")
                tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                self._files[file.name] = _File(kind.encode(), body, tag.encode())

    @endpoint(
        "GET",
        "/",
        role=READ,
        operation=operation(
            "status", "The dashboard", responses={**ok("A page for people.", TEXT, "text/html"), **problems(404)}
        ),
    )
    def page(self, request: LimitedRequest) -> Deferred[None]:
        """Serve the page."""
        return self._serve(request, INDEX)

    @endpoint(
        "GET",
        "/dashboard",
        role=PUBLIC,
        operation=GENERATED,
        below=operation(
            "status",
            "A file that the dashboard loads",
            responses={"200": {"description": "The file.", "content": {"*/*": {}}}, **UNCHANGED, **problems(404)},
            parameters=(parameter("path", "path", TEXT, "The name of the file.", example="main.js"),),
            public=True,
        ),
    )
    def part(self, request: LimitedRequest) -> Deferred[None]:
        """Serve what the page loads."""
        return self._serve(request, "/".join(map(decode_segment, request.postpath)))

    def _serve(self, request: LimitedRequest, name: str) -> Deferred[None]:
        if not self._enabled:
            raise Problem(404, _OFF)
        file = self._files.get(name)
        if file is None:
            raise Problem(404, "the dashboard has no such part; its page is /")
        return answer_tagged(request, file.tag, file.kind, file.body, {b"Content-Security-Policy": POLICY})
