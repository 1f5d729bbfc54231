"""Broadcasts over HTTP: sending them. They are heard by `rpiserve.web.endpoints.events`."""

from twisted.internet.defer import Deferred

from rpiserve.core.interfaces import Messaging
from rpiserve.data import encoding
from rpiserve.declare.names import NAME
from rpiserve.web.access.origins import Provenance
from rpiserve.web.problems import Problem
from rpiserve.web.server.body import read_json
from rpiserve.web.server.channel import LimitedRequest


class BroadcastRoutes:
    """Sends broadcasts for clients.

    Args:
        messaging: who reaches the bus.
        provenance: who may send what.
    """

    def __init__(self, messaging: Messaging, provenance: Provenance) -> None:
        self._messaging = messaging
        self._provenance = provenance

    def publish(self, request: LimitedRequest, channel: str) -> Deferred[None]:
        """Send the object in the body to ``channel``, and answer with how many receivers it has."""
        self._provenance.check(request)
        if not NAME.fullmatch(channel):
            raise Problem(404, "HTTP reaches channels with names of 1 to 64 letters, digits, '_', '.' and '-'")
        body, message = read_json(request)
        if not isinstance(message, dict):
            raise Problem(422, "a broadcast is a JSON object", code="invalid_payload")
        sent = self._messaging.publish(channel, body)
        return sent.addCallback(lambda receivers: request.answer_json(encoding.encode({"receivers": receivers})))
