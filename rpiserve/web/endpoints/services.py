"""``GET /services``: the bus, and the services on it."""

from typing import Final

from twisted.internet.defer import Deferred

from rpiserve.core.interfaces import Services
from rpiserve.core.tokens import READ
from rpiserve.data import encoding
from rpiserve.web.endpoint_declaration import endpoint
from rpiserve.web.openapi.parts import TEXT, TEXT_OR_NULL, array, ok, operation, problems, record
from rpiserve.web.server.request import LimitedRequest

SERVICES: Final = record(
    bus=record(kind=TEXT, name=TEXT, connected={"type": "boolean"}, since=TEXT, error=TEXT_OR_NULL),
    services=array(record(name=TEXT, actions=array(record(name=TEXT, doc=TEXT)), instances={"type": "integer"})),
)


class ServiceEndpoints:
    """Answers ``/services``; requests to a service are answered in `rpiserve.web.endpoints.actions`.

    Args:
        services: describes the services on the bus.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    @endpoint(
        "GET",
        "/services",
        role=READ,
        operation=operation(
            "messages", "The bus, and the services on it", responses={**ok("Both.", SERVICES), **problems()}
        ),
    )
    def services(self, request: LimitedRequest) -> Deferred[None]:
        """Describe the bus, and the services on it."""
        return self._services.describe().addCallback(encoding.encode).addCallback(request.answer_json)
