"""Broadcasts over HTTP: sending them. They are heard by `rpiserve.web.endpoints.events`."""

from twisted.internet.defer import Deferred

from rpiserve.core.interfaces import Messaging
from rpiserve.core.tokens import CONTROL
from rpiserve.data import encoding
from rpiserve.declare.names import NAME
from rpiserve.web.endpoint_declaration import endpoint
from rpiserve.web.openapi.parts import COUNT, name_in_path, ok, operation, problems, record
from rpiserve.web.problems import Problem
from rpiserve.web.server.body import read_json
from rpiserve.web.server.request import LimitedRequest


class BroadcastEndpoints:
    """Sends broadcasts for clients.

    Args:
        messaging: who reaches the bus.
    """

    def __init__(self, messaging: Messaging) -> None:
        self._messaging = messaging

    @endpoint(
        "POST",
        "/broadcasts/<channel>",
        role=CONTROL,
        operation=operation(
            "messages",
            "Send a broadcast",
            "The body is the message; none is an empty object.",
            responses={
                **ok("How many receivers it has.", record(receivers=COUNT)),
                **problems(404, 415, 422, 503),
            },
            parameters=(name_in_path("channel", "The channel.", "news"),),
            body={"type": "object"},
            required=False,
        ),
    )
    def publish(self, request: LimitedRequest, channel: str) -> Deferred[None]:
        """Send the object in the body to ``channel``, and answer with how many receivers it has."""
        if not NAME.fullmatch(channel):
            raise Problem(404, "HTTP reaches channels with names of 1 to 64 letters, digits, '_', '.' and '-'")
        body, message = read_json(request)
        if not isinstance(message, dict):
            raise Problem(422, "a broadcast is a JSON object", code="invalid_payload")
        sent = self._messaging.publish(channel, body)
        return sent.addCallback(lambda receivers: request.answer_json(encoding.encode({"receivers": receivers})))
