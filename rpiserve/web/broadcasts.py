"""Broadcasts over HTTP: sending them, and hearing them as server-sent events."""

from typing import Final

from twisted.internet.defer import Deferred

from rpiserve import codec, wire
from rpiserve.errors import MessageError
from rpiserve.ports import Messaging
from rpiserve.web.body import query_of, read_json
from rpiserve.web.channel import LimitedRequest
from rpiserve.web.problems import Problem
from rpiserve.web.provenance import Provenance
from rpiserve.web.sse import Streams

MOST_CHANNELS: Final = 16
"""How many channels and patterns one stream may listen to."""


class BroadcastRoutes:
    """Sends and receives broadcasts for clients.

    Args:
        messaging: who reaches the bus.
        provenance: who may send what.
        streams: the streams for those who listen.
    """

    def __init__(self, messaging: Messaging, provenance: Provenance, streams: Streams) -> None:
        self._messaging = messaging
        self._provenance = provenance
        self._streams = streams

    def publish(self, request: LimitedRequest, channel: str) -> Deferred[None]:
        """Send the object in the body to ``channel``, and answer with how many receivers it has."""
        self._provenance.check_post(request)
        if not wire.NAME.fullmatch(channel):
            raise Problem(404, "HTTP reaches channels with names of 1 to 64 letters, digits, '_', '.' and '-'")
        body, message = read_json(request)
        if not isinstance(message, dict):
            raise Problem(422, "a broadcast is a JSON object")
        sent = self._messaging.publish(channel, body)
        return sent.addCallback(lambda receivers: request.answer_json(codec.encode({"receivers": receivers})))

    def listen(self, request: LimitedRequest) -> Deferred[None]:
        """Send what is broadcast on the channels that the query names, for as long as the client listens."""
        # It changes nothing, but a foreign page that cannot read the streams could still use them all up.
        self._provenance.check_post(request)
        query = query_of(request)
        if query.get("types") != ["broadcast"]:
            raise Problem(400, "there are broadcasts so far: /events?types=broadcast&channel=NAME")
        channels = list(dict.fromkeys(query.get("channel", [])))
        if not 0 < len(channels) <= MOST_CHANNELS:
            raise Problem(400, f"a stream listens to 1 to {MOST_CHANNELS} channels or patterns: channel=a&channel=b.*")
        try:
            for channel in channels:
                wire.checked_channel(channel)
        except MessageError as error:
            raise Problem(400, str(error)) from None
        stream = self._streams.open(request, endless=True)

        def receive(channel: str, message: bytes) -> None:
            try:
                payload = wire.parse(message)
            except wire.BrokenMessage:
                return
            # Encoded anew: what others send as JSON may have line breaks between its members.
            stream.send("broadcast", codec.encode({"channel": channel, "payload": payload}))

        stream.on_end = self._messaging.hear(channels, receive)
        return stream.done
