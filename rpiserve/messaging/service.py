"""The messages of one service: what arrives on the bus, who handles it, and that every request is answered once.

A request goes this way: the bus delivers bytes, `wire` makes a request of them, the action is found and its payload
checked, and the `Runner` runs the handler. What that returns, or what went wrong, is the final answer, unless the
handler has given one itself. What cannot be run is answered with the reason, so that no caller waits in vain.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpiserve.core import wire
from rpiserve.core.context import RunScope
from rpiserve.core.failures import IncidentLog
from rpiserve.core.log_limit import LogLimit
from rpiserve.core.metrics import Metric, Sample
from rpiserve.core.runner import Resource, Run, Runner, Unserializable, encode_result
from rpiserve.core.thread_bridge import Link, Progress
from rpiserve.data import encoding
from rpiserve.declare.arguments import BadArguments
from rpiserve.declare.handler import Where
from rpiserve.declare.messages import Action, Listener
from rpiserve.declare.names import checked_bus_name, checked_channel
from rpiserve.declare.payload import Payload
from rpiserve.errors import Cancelled, HandlerTimeout, MessageError
from rpiserve.messaging.bus import Bus, Receiver
from rpiserve.messaging.messenger import Messenger
from rpiserve.messaging.pubsub_request import Exchange, PubSubRequest, PubSubResponse, Send

log = Logger()

MOST_UNDER_WAY = 1000
"""How many messages may be handled or wait for that: so many for a ``def``, and as many for an ``async def``."""

MOST_BYTES = 16 << 20
"""How many bytes all of these may have."""

LONGEST_TEXT = 1000
"""How many characters of what is wrong with a request its answer tells."""

ACTIONS: Final = Metric(
    "rpiserve_actions_total", "Requests for actions, by what they were answered.", "counter", ("name", "outcome")
)
COUNTED: Final = {
    "received": Metric("rpiserve_messages_received_total", "Messages that have come by the bus.", "counter"),
    "broken": Metric("rpiserve_messages_broken_total", "Messages that were no valid ones.", "counter"),
    "dropped": Metric("rpiserve_messages_dropped_total", "Broadcasts that there was no room for.", "counter"),
    "unsent": Metric("rpiserve_replies_unsent_total", "Answers that the bus did not take.", "counter"),
    "failed": Metric("rpiserve_listener_failures_total", "Broadcasts whose listener has failed.", "counter"),
}
ACTIVE: Final = Metric("rpiserve_messages_active", "Messages that are being handled, or wait for a thread.", "gauge")
CONNECTED: Final = Metric("rpiserve_bus_connected", "Whether the bus is connected.", "gauge", ("kind", "bus"))


class MessagingService:
    """The actions and listeners of an app, and its calls of other services.

    Args:
        name: the service's name on the bus.
        actions: the declarations of its actions, by name.
        listeners: those of its listeners.
        bus: what carries the messages.
        runner: what runs the handlers, with a pool of threads for those alone.
        link: the way by which handlers in threads send their answers.

    Attributes:
        messenger: what sends.
        counts: how many messages were ``received``, ``broken``, ``dropped`` because there were too many; how many
            requests were ``answered``, and of these by ``success`` or the code of the error, direct messages included;
            how many answers were ``unsent`` because the bus did not take them; and how many listeners ``failed``.
    """

    def __init__(
        self,
        name: str,
        actions: Mapping[str, Action],
        listeners: Sequence[Listener],
        bus: Bus,
        runner: Runner,
        link: Link[Messenger],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.messenger = Messenger(name, bus, runner.clock)
        self._outcomes: Counter[tuple[str, str]] = Counter()
        self._name = name
        self._actions = actions
        self._bus = bus
        self._runner = runner
        self._link = link
        self._incidents = IncidentLog(runner.clock)
        self._under_way = {Where.THREAD: 0, Where.REACTOR: 0}
        self._bytes = 0
        self._complaints = LogLimit()
        self._late: defaultdict[str, LogLimit] = defaultdict(LogLimit)
        self._stopping = False
        self._receivers: list[tuple[str, Receiver]] = [(name, self._request_arrived)]
        for listener in listeners:
            resource = Resource(listener.function.name) if listener.ordered else None
            receiver = partial(self._broadcast_arrived, listener, resource)
            self._receivers += [(channel, receiver) for channel in listener.channels]

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> Deferred[None]:
        """Begin; fires when the first attempt to connect has come to an end."""
        for channel, receiver in self._receivers:
            self._bus.subscribe(channel, receiver).addErrback(self._not_subscribed, channel)
        return self._bus.start()

    def _not_subscribed(self, failure: Failure, channel: str) -> None:
        log.failure("cannot listen to {channel!r}", failure, channel=channel)

    def stop(self) -> Deferred[Any]:
        """Take nothing more. Fires when all handlers have ended that are not stuck; those that wait are given up."""
        self._stopping = True
        for channel, receiver in self._receivers:
            self._bus.unsubscribe(channel, receiver)
        return self._runner.stop()

    def cancel_asynchronous(self) -> None:
        """Cancel the handlers that run on the reactor."""
        self._runner.cancel_asynchronous()

    def close(self) -> Deferred[None]:
        """Give up the requests that wait for their replies, and close the bus."""
        self.messenger.close()
        return self._bus.close()

    def running(self) -> list[str]:
        """Return the names of the handlers that run. Safe to use from any thread."""
        return self._runner.running()

    def reasons(self) -> list[str]:
        """Return why it is not ready: the bus is not connected."""
        state = self._bus.state
        if state.connected:
            return []
        return [f"{state.name} is not connected since {encoding.timestamp(state.since)}: {state.error or 'not yet'}"]

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of the messages and the bus."""
        state = self._bus.state
        yield CONNECTED.sample(state.connected, state.kind, state.name)
        for labels, count in self._outcomes.items():
            yield ACTIONS.sample(count, *labels)
        for counted, metric in COUNTED.items():
            yield metric.sample(self.counts[counted])
        yield ACTIVE.sample(len(self._runner.active))
        yield from self._runner.pool.samples()

    # --- requests ----------------------------------------------------------------------------------------------------

    def _request_arrived(self, channel: str, message: bytes) -> None:
        self.counts["received"] += 1
        try:
            request = wire.parse_request(message)
        except wire.BrokenMessage as error:
            self._complain("broken", channel, str(error))
            return
        self._handle(request, channel, len(message), self._sender(request))

    def _sender(self, request: wire.Request) -> Send | None:
        request_id = request.request_id
        if request_id is None:
            return None
        channel = request.reply_to or f"{self._name}.responses"

        def send(status: str, payload: bytes, final: bool) -> Deferred[int]:
            return self._bus.publish(channel, wire.reply(request_id, status, encoding.raw(payload), final=final))

        return send

    def call_own(self, action: str, payload: Any, size: int, send: Send) -> None:
        """Have an action of this service answer a request that has not come by the bus.

        Args:
            action: the action.
            payload: what goes with it.
            size: how many bytes that has as JSON.
            send: gets the answers, the last of them final.
        """
        raw = {"action": action, "payload": payload}
        self._handle(wire.Request(action, payload, "", None, None, None, raw), None, size, send)

    def _handle(self, request: wire.Request, channel: str | None, size: int, send: Send | None) -> None:
        action = self._actions.get(request.action) if isinstance(request.action, str) else None
        if action is None:
            # Not counted by its name: there may be any number of them.
            exchange = Exchange(f"{request.action!r:.80}", send, self.counts, partial(self._count_outcome, ""))
            self._refuse(exchange, wire.UNKNOWN_ACTION, f"{self._name} has no action {request.action!r:.80}")
            return
        name = action.function.name
        exchange = Exchange(name, send, self.counts, partial(self._count_outcome, name))
        view = PubSubRequest.of(request, channel)
        try:
            arguments = self._arguments(action.payload, view, view.payload)
        except BadArguments as error:
            self._refuse(exchange, wire.INVALID_PAYLOAD, str(error), errors=error.errors)
            return
        if (full := self._full(action.function.where, size)) is not None:
            self._refuse(exchange, wire.BUSY, full)
            return
        function = action.function
        waits = function.where is Where.THREAD  # on the reactor it has its turn at once
        if waits and request.timeout is not None and request.timeout < action.timeout:
            call = partial(self._in_time, function.call, self._runner.clock.seconds() + request.timeout)
            function = attrs.evolve(function, call=call)
        response = PubSubResponse(exchange, self._link)
        run = self._runner.start(
            function,
            *arguments,
            timeout=action.timeout,
            from_arrival=True,
            finish=partial(self._encode, exchange),
            scope=RunScope(name, self._runner.daemon_scope, view, response),
        )
        self._count(run, size)
        run.result.addCallback(self._succeed, exchange)
        run.result.addErrback(self._explain, exchange, name)
        run.result.addErrback(lambda failure: log.failure("while answering for {name}", failure, name=name))

    def _count_outcome(self, name: str, outcome: str) -> None:
        self._outcomes[name, outcome] += 1

    @staticmethod
    def _arguments(wanted: Payload, plain: object, payload: object) -> tuple[Any, ...]:
        """Return what a handler is called with: nothing, ``plain``, or ``payload`` as the class that it wants."""
        if not wanted.wanted:
            return ()
        return (plain if wanted.parameter is None else wanted.convert(payload),)

    def _in_time(self, call: Callable[..., Any], end: float, *arguments: Any) -> Any:
        # Where the handler runs, as it begins: by then the caller may have gone.
        if self._runner.clock.seconds() > end:
            raise HandlerTimeout("the caller's time was up before it had its turn")
        return call(*arguments)

    @staticmethod
    def _encode(exchange: Exchange, result: object) -> bytes:
        """Return what the handler returned as JSON; this runs where the handler ran, for it may take long."""
        return b"null" if exchange.answered else encode_result(result, "the answer")

    @staticmethod
    def _succeed(payload: bytes, exchange: Exchange) -> Deferred[int] | None:
        if exchange.answered:
            return None
        try:
            return exchange.reply("success", payload, True)
        except MessageError as error:
            raise Unserializable(str(error)) from error

    def _explain(self, failure: Failure, exchange: Exchange, name: str) -> None:
        text, incident = f"{name}: {failure.getErrorMessage()}", None
        if failure.check(HandlerTimeout):
            noted = self._late[name].take(self._runner.clock.seconds())
            if noted.is_due:
                error = failure.getErrorMessage()
                log.warn("{name} took too long: {error}{more}", name=name, error=error, more=noted.more)
            code = wire.TIMEOUT
        elif failure.check(Cancelled):
            code, text = wire.BUSY, f"{self._name} is shutting down"
        else:
            incident = self._incidents.note(name, failure)
            code = wire.UNSERIALIZABLE
            if not failure.check(Unserializable):
                assert failure.type is not None
                code, text = wire.HANDLER_ERROR, f"{name} raised {failure.type.__name__}"
        if not exchange.answered:
            self._refuse(exchange, code, text, incident)

    def _refuse(
        self,
        exchange: Exchange,
        code: str,
        text: str,
        incident: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        # Cut: what a client has sent may stand in its errors, and the answer must not be too large to be sent.
        shown = [{key: _shown(value) for key, value in error.items()} for error in errors]
        payload = encoding.encode(wire.error(_shown(text), code, incident, shown))
        exchange.reply("error", payload, True, code)

    # --- listeners ---------------------------------------------------------------------------------------------------

    def _broadcast_arrived(self, listener: Listener, resource: Resource | None, channel: str, message: bytes) -> None:
        self.counts["received"] += 1
        function = listener.function
        try:
            raw = wire.parse(message)
            arguments = self._arguments(listener.payload, raw, raw)
        except (wire.BrokenMessage, BadArguments) as error:
            self._complain("broken", channel, f"{function.name} cannot take it: {error}")
            return
        if (full := self._full(function.where, len(message))) is not None:
            self._complain("dropped", channel, full)
            return
        run = self._runner.start(
            function,
            *arguments,
            timeout=listener.timeout,
            resource=resource,
            scope=RunScope(function.name, self._runner.daemon_scope, PubSubRequest.of_broadcast(raw, channel)),
        )
        self._count(run, len(message))
        run.result.addErrback(self._listener_failed, function.name)

    def _listener_failed(self, failure: Failure, name: str) -> None:
        if not failure.check(Cancelled):
            self.counts["failed"] += 1
            self._incidents.note(name, failure)

    # --- for others in this daemon -----------------------------------------------------------------------------------

    def call(
        self, service: str, action: str, payload: bytes, timeout: float, progress: Progress | None
    ) -> Deferred[Any]:
        """Have an action of any service answer a request, by the bus; the names are checked."""
        checked_bus_name(service, "a service")
        checked_bus_name(action, "an action")
        return self.messenger.request(service, action, payload, timeout, progress=progress)

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        """Send ``message``; fires with how many receivers it has."""
        return self._bus.publish(checked_channel(channel), message)

    def hear(self, channels: Sequence[str], receiver: Receiver) -> Callable[[], None]:
        """Have ``receiver`` called with what is sent to ``channels``, names or patterns.

        Returns:
            A function that ends this.
        """
        for channel in channels:
            self._bus.subscribe(channel, receiver).addErrback(self._not_subscribed, channel)

        def end() -> None:
            for channel in channels:
                self._bus.unsubscribe(channel, receiver)

        return end

    # --- how much there may be ---------------------------------------------------------------------------------------

    def _full(self, where: Where, size: int) -> str | None:
        """Return why nothing more can be taken, if that is so."""
        if self._stopping:
            return f"{self._name} is shutting down"
        if self._under_way[where] >= MOST_UNDER_WAY or self._bytes + size > MOST_BYTES:
            return f"{self._name} has too much to do already; try again later"
        if where is Where.THREAD and self._runner.pool.clogged:
            return f"{self._runner.pool.stuck} handlers of {self._name} hang; try again later"
        return None

    def _count(self, run: Run, size: int) -> None:
        where = run.function.where
        self._under_way[where] += 1
        self._bytes += size

        def ended(_: None) -> None:
            self._under_way[where] -= 1
            self._bytes -= size

        run.ended.addCallback(ended)

    def _complain(self, kind: str, channel: str, text: str) -> None:
        """Count a message that was not handled, and log it, but not each of many."""
        self.counts[kind] += 1
        noted = self._complaints.take(self._runner.clock.seconds(), kind, text)
        if noted.is_due:
            log.warn(
                "a message on {channel} was {kind}: {text}{more}",
                channel=encoding.printable(f"{channel!r:.100}"),
                kind=kind,
                text=encoding.printable(f"{text:.300}"),
                more=noted.more,
            )


def _shown(text: str) -> str:
    return encoding.printable(text[:LONGEST_TEXT])
