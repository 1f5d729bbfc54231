"""``GET /sensors``: the handlers, and how they are."""

from typing import Any, ClassVar, Final, get_args

from twisted.internet.defer import Deferred

from rpiserve.core.handler_status import HandlerState, HandlerStatuses
from rpiserve.core.tokens import READ
from rpiserve.data import encoding
from rpiserve.web.endpoint_declaration import endpoint
from rpiserve.web.endpoints.handler_status import status_object
from rpiserve.web.openapi.parts import COUNT, TEXT, TEXT_OR_NULL, array, ok, operation, problems, record
from rpiserve.web.openapi.schemas import ref
from rpiserve.web.server.request import LimitedRequest

_NUMBER_OR_NULL: Final = {"type": ["number", "null"]}

SENSOR: Final = record(
    name=TEXT,
    kind=TEXT,
    bus=TEXT_OR_NULL,
    state={"enum": list(get_args(HandlerState))},
    error=TEXT_OR_NULL,
    last_run={**TEXT_OR_NULL, "format": "date-time"},
    duration={**_NUMBER_OR_NULL, "description": "Of the last run, in seconds."},
    interval={**_NUMBER_OR_NULL, "description": "In seconds; null for a schedule."},
    schedule=TEXT_OR_NULL,
    timezone=TEXT_OR_NULL,
    next_run={**TEXT_OR_NULL, "format": "date-time"},
    runs=COUNT,
    failures=COUNT,
    missed=COUNT,
    stuck={"type": "boolean"},
)


class SensorEndpoints:
    """Answers ``/sensors``.

    Args:
        handlers: reports the handlers.
    """

    schemas: ClassVar[dict[str, Any]] = {"Sensor": SENSOR}

    def __init__(self, handlers: HandlerStatuses) -> None:
        self._handlers = handlers

    @endpoint(
        "GET",
        "/sensors",
        role=READ,
        operation=operation(
            "status",
            "The handlers, and how they are",
            responses={**ok("All of them.", array(ref("Sensor"))), **problems()},
        ),
    )
    def sensors(self, request: LimitedRequest) -> Deferred[None]:
        """List the handlers."""
        return request.answer_json(encoding.encode([status_object(status) for status in self._handlers.statuses()]))
