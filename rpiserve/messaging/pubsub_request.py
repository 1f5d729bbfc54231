"""A request and its answer, as the handler that gives it sees them."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpiserve.core import wire
from rpiserve.core.thread_bridge import Link
from rpiserve.data import encoding
from rpiserve.errors import AlreadyAnswered, BusError

log = Logger()

Send = Callable[[str, bytes, bool], Deferred[int]]
"""Sends a status, a payload as JSON, and whether it is final; fires with the number of receivers."""


@attrs.frozen
class PubSubRequest:
    """A request, a direct message or a broadcast, as its handler sees it.

    Attributes:
        payload: its ``payload`` or, of a message that has none, all of it but ``action``.
        action: the action that is asked for; None in a broadcast.
        channel: the channel it came by; None if it came by HTTP.
        request_id: what its answer carries; None if it wants none.
        reply_to: the channel that its answer goes to, if it names one.
        sender: who sent it, by its own account.
        service: the service it was meant for, by its own account.
        raw: all of it.
    """

    payload: Any
    action: str | None
    channel: str | None
    request_id: str | int | None
    reply_to: str | None
    sender: str | None
    service: str | None
    raw: dict[str, Any]

    @classmethod
    def of(cls, request: wire.Request, channel: str | None) -> "PubSubRequest":
        """Return the view of a request or direct message that came by ``channel``."""
        service = request.raw.get("service")
        return cls(
            payload=request.payload,
            action=request.action,
            channel=channel,
            request_id=request.request_id,
            reply_to=request.reply_to,
            sender=request.sender,
            service=service if isinstance(service, str) else None,
            raw=request.raw,
        )

    @classmethod
    def of_broadcast(cls, raw: dict[str, Any], channel: str) -> "PubSubRequest":
        """Return the view of the message ``raw`` that came by ``channel``."""
        return cls(wire.payload_of(raw), None, channel, None, None, None, None, raw)


class Exchange:
    """One request, and whether it has had its final answer. It lives on the reactor's thread.

    Args:
        name: the action, for the log.
        send: sends an answer; None if the request wants none.
        counts: where the final answer is counted, and each that the bus does not take.
        count_outcome: called with what the final answer is counted as.
    """

    def __init__(
        self,
        name: str,
        send: Send | None,
        counts: Counter[str],
        count_outcome: Callable[[str], object] = lambda kind: None,
    ) -> None:
        self._name = name
        self._send = send
        self._counts = counts
        self._count_outcome = count_outcome
        self.answered = False

    def reply(self, status: str, payload: bytes, final: bool, kind: str | None = None) -> Deferred[int]:
        """Send an answer.

        Args:
            status: ``success``, ``error`` or ``progress``.
            payload: what it says, as JSON.
            final: whether it is the last one.
            kind: as what it is counted, if not by its status.

        Returns:
            A Deferred that fires with the number of receivers: 0 if it could not be sent, which is logged. It fails
            with `AlreadyAnswered` if there was a final answer before.

        Raises:
            MessageError: it is too large; nothing has been sent then.
        """
        if self.answered:
            return fail(AlreadyAnswered(f"the request for {self._name} has been answered already, or is out of time"))
        sent = succeed(0) if self._send is None else self._send(status, payload, final)
        if final:
            self.answered = True
            self._counts["answered"] += 1
            self._counts[kind or status] += 1
            self._count_outcome(kind or status)
        return sent.addErrback(self._not_sent)

    def _not_sent(self, failure: Failure) -> int:
        failure.trap(BusError)
        self._counts["unsent"] += 1
        log.error("the answer of {name} could not be sent: {error}", name=self._name, error=failure.getErrorMessage())
        return 0


class PubSubResponse:
    """How a handler answers the request that it handles.

    Each method sends at once and returns the number of receivers; on the reactor it returns a Deferred of that.

    Args:
        exchange: the request.
        link: the way to the reactor's thread.
    """

    def __init__(self, exchange: Exchange, link: Link[Any]) -> None:
        self._exchange = exchange
        self._link = link

    def success(self, payload: Any = None) -> Any:
        """Send the final answer.

        Raises:
            DataError: ``payload`` cannot be sent as JSON; nothing has been sent then.
            MessageError: it is too large; nothing has been sent then.
            AlreadyAnswered: there was a final answer before, or the time for it is up.
        """
        return self._reply("success", payload, True)

    def send(self, payload: Any = None, final: bool = True) -> Any:
        """Send an answer, the final one unless ``final`` is False. It raises what `success` does."""
        return self._reply("success", payload, final)

    def progress(self, payload: Any = None, percentage: float | None = None) -> Any:
        """Tell how far it is. It raises what `success` does.

        Args:
            payload: what there is to tell. With a percentage, what is no mapping goes as ``{"data": payload}``.
            percentage: from 0 to 100; it travels in the payload as ``progress_percentage``.
        """
        if percentage is not None:
            members = payload if isinstance(payload, Mapping) else {} if payload is None else {"data": payload}
            payload = {**members, "progress_percentage": min(max(0, percentage), 100)}
        return self._reply("progress", payload, False)

    def error(self, err: object, final: bool = True, code: str = wire.HANDLER_ERROR) -> Any:
        """Send an error. It raises what `success` does.

        Args:
            err: what to tell, such as an exception; its text is sent.
            final: whether that is the last answer.
            code: what kind of error it is.
        """
        return self._reply("error", wire.error(str(err), code), final, wire.HANDLER_ERROR)

    def _reply(self, status: str, payload: Any, final: bool, kind: str | None = None) -> Any:
        json = encoding.encode(encoding.to_wire(payload, "the answer"))  # here, since it may take long
        return self._link.call(lambda _: self._exchange.reply(status, json, final, kind))
