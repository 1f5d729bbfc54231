"""``GET /openapi.json``: the description of all endpoints, for programs."""

from twisted.internet.defer import Deferred

from rpiserve.core.tokens import READ
from rpiserve.web.endpoint_declaration import endpoint
from rpiserve.web.openapi.parts import ok, operation, problems
from rpiserve.web.server.request import JSON, LimitedRequest


class OpenApiEndpoints:
    """Answers ``/openapi.json``.

    Args:
        document: the document, as JSON.
    """

    def __init__(self, document: bytes) -> None:
        self._document = document

    @endpoint(
        "GET",
        "/openapi.json",
        role=READ,
        operation=operation("status", "This document", responses={**ok("It.", {"type": "object"}), **problems()}),
    )
    def document(self, request: LimitedRequest) -> Deferred[None]:
        """Serve the OpenAPI document."""
        return request.answer(200, JSON, self._document, {b"Cache-Control": b"no-cache"})
