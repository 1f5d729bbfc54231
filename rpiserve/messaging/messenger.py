"""What a process sends: messages, and requests whose replies it waits for. It lives on the reactor's thread.

All requests share one channel for their replies. Each has an entry in a table until it is answered, timed out,
cancelled or given up, so that what comes late, or twice, or from nowhere, finds none and is only counted.
"""

from collections import Counter
from typing import Any
from uuid import uuid4

import attrs
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from rpiserve.core import wire
from rpiserve.core.thread_bridge import Progress
from rpiserve.data import encoding
from rpiserve.errors import BusUnavailable, CallTimeout, NoResponders, Stopped, TooManyPending
from rpiserve.messaging.bus import Bus

MOST_PENDING = 10_000
"""How many requests may wait for their replies at the same time."""

CLOSING = "it is shutting down here"


@attrs.define(eq=False)
class Pending:
    """A request that waits for its reply.

    Attributes:
        service: the service.
        what: the service and the action, for errors.
        result: fires with the payload of the reply.
        owner: who has sent it.
        progress: what is called with what comes before the reply.
        timer: ends the waiting.
    """

    service: str
    what: str
    result: Deferred[Any]
    owner: object
    progress: Progress | None
    timer: IDelayedCall


class Messenger:
    """Sends messages and requests.

    Args:
        name: who sends them, for the receivers.
        bus: what carries them.
        clock: the reactor's clock, in seconds.
        most_pending: how many requests may wait for their replies.

    Attributes:
        bus: what carries them.
        counts: how many requests were ``sent``, and how many replies were ``late`` (or double) and ``broken``.
    """

    def __init__(self, name: str, bus: Bus, clock: IReactorTime, most_pending: int = MOST_PENDING) -> None:
        self.bus = bus
        self.counts: Counter[str] = Counter()
        self._name = name
        self._clock = clock
        self._most_pending = most_pending
        self._pending: dict[str, Pending] = {}
        self._key = uuid4().hex
        self._channel = f"{name}.replies.{self._key}"
        self._number = 0
        self._hears_replies = False
        self._unheard: list[Deferred[None]] = []
        self._closed = False
        bus.watch(self._lost)

    @property
    def pending(self) -> int:
        """How many requests wait for their replies."""
        return len(self._pending)

    def request(
        self,
        service: str,
        action: str,
        payload: bytes,
        timeout: float,
        owner: object = None,
        progress: Progress | None = None,
    ) -> Deferred[Any]:
        """Send a request.

        Args:
            service: the name of the service.
            action: the action.
            payload: the payload as JSON.
            timeout: seconds to wait for the reply.
            owner: on whose behalf, for `give_up`.
            progress: called with the payload of each reply that is not final. If it raises, that ends the request.

        Returns:
            A Deferred that fires with the reply's payload. It fails with `NoResponders`, `RemoteError`, `CallTimeout`,
            `BusUnavailable`, or `Stopped`. To cancel it ends the request.

        Raises:
            MessageError: it is too large.
            TooManyPending: too many wait already.
        """
        if self._closed:
            return fail(Stopped(f"{service}.{action} was not asked for: {CLOSING}"))
        if len(self._pending) >= self._most_pending:
            raise TooManyPending(f"{self._most_pending} requests wait for their replies already")
        self._number += 1
        request_id = f"{self._key}-{self._number}"
        message = wire.request(
            service,
            action,
            encoding.raw(payload),
            reply_to=self._channel,
            request_id=request_id,
            sender=self._name,
            timeout=timeout,
        )
        result: Deferred[Any] = Deferred(lambda _: self._forget(request_id))
        timer = self._clock.callLater(timeout, self._time_out, request_id, timeout)
        self._pending[request_id] = Pending(service, f"{service}.{action}", result, owner, progress, timer)
        self.counts["sent"] += 1
        if self._hears_replies:
            self._send(None, service, message, request_id)
        else:
            self._replies_heard().addCallbacks(
                self._send,
                self._fail,
                callbackArgs=(service, message, request_id),
                errbackArgs=(request_id,),
            )
        return result

    def give_up(self, owner: object) -> None:
        """End all requests that ``owner`` has sent: they fail with `Stopped`."""
        for request_id, pending in list(self._pending.items()):
            if pending.owner is owner:
                self._fail(Failure(Stopped(f"{pending.what} was given up: the caller was closed")), request_id)

    def close(self) -> None:
        """End all requests: they fail with `Stopped`, as do those that come later."""
        self._closed = True
        for request_id, pending in list(self._pending.items()):
            self._fail(Failure(Stopped(f"{pending.what} was given up: {CLOSING}")), request_id)
        self.bus.unsubscribe(self._channel, self._arrived)

    # --- on the way there --------------------------------------------------------------------------------------------

    def _replies_heard(self) -> Deferred[None]:
        """Return a Deferred that fires when replies will be heard, in the order of the calls."""
        waiting: Deferred[None] = Deferred()
        self._unheard.append(waiting)
        if len(self._unheard) == 1:
            self.bus.subscribe(self._channel, self._arrived).addBoth(self._subscribed)
        return waiting

    def _subscribed(self, outcome: Any) -> None:
        self._hears_replies = not isinstance(outcome, Failure)
        unheard, self._unheard = self._unheard, []
        for waiting in unheard:
            waiting.callback(outcome)

    def _send(self, _: None, service: str, message: bytes, request_id: str) -> None:
        if request_id in self._pending:  # or it was cancelled meanwhile
            sent = self.bus.publish(service, message)
            sent.addCallbacks(self._sent, self._fail, (request_id,), errbackArgs=(request_id,))

    def _sent(self, receivers: int, request_id: str) -> None:
        if not receivers and (pending := self._take(request_id)) is not None:
            pending.result.errback(NoResponders(f"{pending.what}: nobody listens for {pending.service}"))

    # --- on the way back ---------------------------------------------------------------------------------------------

    def _arrived(self, _: str, message: bytes) -> None:
        try:
            reply = wire.parse_reply(message)
        except wire.BrokenMessage:
            self.counts["broken"] += 1
            return
        pending = self._pending.get(reply.request_id)
        if pending is None:
            self.counts["late"] += 1
        elif not reply.final:
            self._progress(pending, reply)
        else:
            self._take(reply.request_id)
            if reply.status == "error":
                pending.result.errback(wire.parse_error(reply.payload))
            else:
                pending.result.callback(reply.payload)

    def _progress(self, pending: Pending, reply: wire.Reply) -> None:
        if pending.progress is not None:
            maybeDeferred(pending.progress, reply.payload).addErrback(self._fail, reply.request_id)

    def _time_out(self, request_id: str, timeout: float) -> None:
        pending = self._pending.pop(request_id)
        pending.result.errback(CallTimeout(f"{pending.what}: no answer within {timeout:g} s"))

    def _lost(self, reason: str) -> None:
        for request_id, pending in list(self._pending.items()):
            text = f"{pending.what}: {self.bus.state.name}: {reason}; whether it was done is not known"
            self._fail(Failure(BusUnavailable(text)), request_id)

    def _fail(self, failure: Failure, request_id: str) -> None:
        pending = self._take(request_id)
        if pending is not None:
            pending.result.errback(failure)

    def _forget(self, request_id: str) -> None:
        self._take(request_id)

    def _take(self, request_id: str) -> Pending | None:
        pending = self._pending.pop(request_id, None)
        if pending is not None and pending.timer.active():
            pending.timer.cancel()
        return pending
