"""``GET /health`` and ``GET /ready``: whether the daemon is alive, and whether all of it works."""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from rpiserve.core.interfaces import Readiness
from rpiserve.core.tokens import READ
from rpiserve.data import encoding
from rpiserve.web.endpoint_declaration import PUBLIC, endpoint
from rpiserve.web.openapi.parts import TEXT, answer, array, ok, operation, problems, record
from rpiserve.web.server.request import LimitedRequest


def _readiness(ready: bool) -> dict[str, Any]:
    part = record(ready={"type": "boolean"}, reasons=array(TEXT))
    return record(ready={"const": ready}, reasons=array(TEXT), parts={"type": "object", "additionalProperties": part})


class HealthEndpoints:
    """Answers ``/health`` and ``/ready``.

    Args:
        parts: the parts that ``/ready`` asks, by name.
    """

    def __init__(self, parts: Mapping[str, Readiness]) -> None:
        self._parts = parts

    @endpoint(
        "GET",
        "/health",
        role=PUBLIC,
        operation=operation(
            "status",
            "Whether it is alive",
            responses={**ok("It is.", record(status={"const": "ok"})), **problems()},
            public=True,
        ),
    )
    def health(self, request: LimitedRequest) -> Deferred[None]:
        """Say that the reactor answers."""
        return request.answer_json(encoding.encode({"status": "ok"}))

    @endpoint(
        "GET",
        "/ready",
        role=READ,
        operation=operation(
            "status",
            "Whether all its parts are ready",
            responses={
                **ok("They are.", _readiness(True)),
                **problems(),
                "503": answer("They are not.", _readiness(False)),
            },
        ),
    )
    def ready(self, request: LimitedRequest) -> Deferred[None]:
        """Say whether all parts are ready, and if not, why."""
        reasons = {name: part.reasons() for name, part in self._parts.items()}
        parts = {name: {"ready": not why, "reasons": why} for name, why in reasons.items()}
        every = [reason for why in reasons.values() for reason in why]
        result = {"ready": not every, "reasons": every, "parts": parts}
        return request.answer_json(encoding.encode(result), 503 if every else 200)
