"""``GET /events``: what happens, as server-sent events.

A stream begins with a ``snapshot``, or, if the client names by ``Last-Event-ID`` what it had last, with what has
changed since. Then comes one ``change`` a tick after something has changed, with all that has changed by then. So the
latest value of each path always arrives, however often the connection is lost, and there is no log of events to grow.
The states of the handlers come as ``sensor``, and what is sent on channels of the bus as ``broadcast``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rpiserve.core import wire
from rpiserve.core.handler_status import HandlerStatus, HandlerStatuses
from rpiserve.core.interfaces import Messaging
from rpiserve.core.tokens import READ
from rpiserve.data import encoding
from rpiserve.data.follower import Changes, TreeFollower, merge, split
from rpiserve.data.nodes import Leaf, Part
from rpiserve.data.paths import Path, format_path, parse_path
from rpiserve.data.tree import DataTree
from rpiserve.declare.names import checked_channel
from rpiserve.errors import MessageError, PathError
from rpiserve.web.endpoint_declaration import endpoint
from rpiserve.web.endpoints.handler_status import status_object
from rpiserve.web.openapi.parts import META, TEXT, array, ok, operation, parameter, problems
from rpiserve.web.problems import Problem
from rpiserve.web.server.body import query_of
from rpiserve.web.server.event_stream import CONTENT_TYPE, EventStream, Streams, event_bytes
from rpiserve.web.server.request import LimitedRequest

log = Logger()

TICK_SECONDS: Final = 0.1
SENSOR_TICKS: Final = 10
"""The states of the handlers are looked at every so many ticks."""

JITTER_SECONDS: Final = 1.0
"""By how much a handler's next run may move without being news: two clocks tell it."""

MOST_NAMED: Final = 16
"""How many paths, and how many channels and patterns, one stream may name."""

MOST_KEPT: Final = 16
"""How many first events are kept for the next client that wants the same."""

CHANGE, SENSOR, BROADCAST = "change", "sensor", "broadcast"


@attrs.frozen
class EventFilter:
    """What the client of a stream wants to hear of.

    Attributes:
        types: of `CHANGE`, `SENSOR` and `BROADCAST`.
        paths: what the changes are at or below; the root for all.
        meta: whether leaves come with what is known of them.
        channels: the channels and patterns of the broadcasts.
    """

    types: frozenset[str]
    paths: tuple[Path, ...]
    meta: bool
    channels: tuple[str, ...]

    @classmethod
    def of(cls, query: Mapping[str, list[str]]) -> "EventFilter":
        """Return what ``query`` asks for.

        Raises:
            Problem: 400, it asks for what there is not.
        """
        channels = tuple(dict.fromkeys(query.get("channel", [])))
        named = frozenset(name for text in query.get("types", []) for name in text.split(","))
        types = named or frozenset({CHANGE, SENSOR, *((BROADCAST,) if channels else ())})
        if unknown := types - {CHANGE, SENSOR, BROADCAST}:
            raise Problem(400, f"there is no type {min(unknown)[:80]!r}; types are {CHANGE}, {SENSOR} and {BROADCAST}")
        if (BROADCAST in types) != bool(channels):
            raise Problem(400, "the type broadcast and channels go together: types=broadcast&channel=a&channel=b.*")
        meta = query.get("meta", ["0"])[-1]
        if meta not in ("0", "1"):
            raise Problem(400, "meta is 0 or 1")
        paths = dict.fromkeys(query.get("path", [""]))
        if max(len(channels), len(paths)) > MOST_NAMED:
            raise Problem(400, f"a stream names {MOST_NAMED} paths and {MOST_NAMED} channels or patterns at most")
        try:
            for channel in channels:
                checked_channel(channel)
            return cls(types, tuple(map(parse_path, paths)), meta == "1", channels)
        except (MessageError, PathError) as error:
            raise Problem(400, str(error)) from None


_ABOUT: Final = """A stream of server-sent events that does not end. The data of each is JSON.

- `snapshot`: all values by their paths; the first event, unless `Last-Event-ID` says what the client has.
- `change`: `{"changed": {path: value}, "removed": [path]}`; its id is the revision.
- `sensor`: how a handler is, as in `/sensors`.
- `broadcast`: `{"channel": name, "payload": object}`."""


class EventEndpoints:
    """Answers ``/events``.

    Args:
        tree: whose changes are told.
        handlers: what knows how the handlers are.
        messaging: who hears the broadcasts.
        streams: the streams.
        clock: the reactor's clock, in seconds.
    """

    def __init__(
        self,
        tree: DataTree,
        handlers: HandlerStatuses,
        messaging: Messaging,
        streams: Streams,
        clock: IReactorTime,
    ) -> None:
        self._tree = tree
        self._follower = TreeFollower(tree)
        self._handlers = handlers
        self._messaging = messaging
        self._streams = streams
        self._followers: dict[EventStream, EventFilter] = {}
        self._first_events: dict[tuple[EventFilter, str | None], bytes] = {}
        self._told_statuses: dict[str, HandlerStatus] = {}
        self._clock = clock
        self._tick: IDelayedCall | None = None
        self._status_ticker = LoopingCall(self._tell_statuses)
        self._status_ticker.clock = clock

    @endpoint(
        "GET",
        "/events",
        role=READ,
        operation=operation(
            "data",
            "What happens, as it happens",
            _ABOUT,
            responses={**ok("The events.", TEXT, CONTENT_TYPE.decode()), **problems(503)},
            parameters=(
                parameter("path", "query", array(TEXT), "The changes at or below these paths; else all."),
                parameter("types", "query", TEXT, "Of `change`, `sensor` and `broadcast`, with commas between."),
                parameter("channel", "query", array(TEXT), "Broadcasts on these channels or patterns."),
                META,
                parameter("Last-Event-ID", "header", TEXT, "The id of the last event that the client has had."),
            ),
        ),
        endless=True,
        checked=True,
        reason="a script of another site cannot read the streams, but it could use all of them up",
    )
    def listen(self, request: LimitedRequest) -> Deferred[None]:
        """Send the events that the query names, for as long as the client listens."""
        event_filter = EventFilter.of(query_of(request))
        self._look_at_handlers(event_filter)
        stream = self._streams.open(request, endless=True)
        deaf = self._messaging.hear(event_filter.channels, self._receiver(stream)) if event_filter.channels else None

        def ended() -> None:
            if deaf is not None:
                deaf()
            self._leave(stream)

        stream.on_end = ended
        if event_filter.types & {CHANGE, SENSOR}:
            self._follow(stream, event_filter, request.getHeader(b"Last-Event-ID"))
        return stream.done

    def _receiver(self, stream: EventStream) -> Callable[[str, bytes], None]:
        def receive(channel: str, message: bytes) -> None:
            try:
                payload = wire.parse(message)
            except wire.BrokenMessage:
                return
            if wire.is_between_two(payload):  # a pattern may match their channels, but to read is not to control
                return
            # Encoded anew: what others send as JSON may have line breaks between its members.
            stream.send(BROADCAST, encoding.encode({"channel": channel, "payload": payload}))

        return receive

    def _look_at_handlers(self, event_filter: EventFilter) -> None:
        """Look at the handlers for the first stream that wants them: later ones begin with the last look."""
        if SENSOR in event_filter.types and not any(SENSOR in other.types for other in self._followers.values()):
            self._told_statuses = {status.name: status for status in self._handlers.statuses()}

    def _follow(self, stream: EventStream, event_filter: EventFilter, last: bytes | None) -> None:
        if not self._followers:
            self._follower.listen(self._something_changed)
            self._first_events.clear()
        self._followers[stream] = event_filter
        if not self._status_ticker.running:
            self._status_ticker.start(TICK_SECONDS * SENSOR_TICKS, now=False)
        if CHANGE in event_filter.types:
            stream.write(self._first_event(event_filter, None if last is None else last.decode("latin-1")))
        if SENSOR in event_filter.types:
            for status in self._told_statuses.values():
                stream.send(SENSOR, encoding.encode(status_object(status)))

    def _leave(self, stream: EventStream) -> None:
        self._followers.pop(stream, None)
        if self._followers:
            return
        self._follower.ignore()
        if self._status_ticker.running:
            self._status_ticker.stop()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _something_changed(self) -> None:
        """Send the changes a tick later, with all that come until then."""
        if self._tick is None:
            self._tick = self._clock.callLater(TICK_SECONDS, self._tell_changes)

    def _tell_changes(self) -> None:
        self._tick = None
        try:
            self._send_changes()
        except Exception:  # noqa: BLE001 - whatever it is, the next tick may go well
            log.failure("sending changes failed")

    def _send_changes(self) -> None:
        changes = self._follower.advance()
        if changes is None:
            return
        self._first_events.clear()
        filters = {
            event_filter for event_filter in self._followers.values() if CHANGE in event_filter.types
        }  # many want the same
        parts = split(changes, {path for event_filter in filters for path in event_filter.paths})
        events = {
            event_filter: self._change(merge(parts[path] for path in event_filter.paths), event_filter)
            for event_filter in filters
        }
        for stream, event_filter in list(self._followers.items()):
            if event := events.get(event_filter):
                stream.write(event)

    def _tell_statuses(self) -> None:
        try:
            self._send_statuses()
        except Exception:  # noqa: BLE001 - whatever it is, the next tick may go well
            log.failure("sending the states of handlers failed")

    def _send_statuses(self) -> None:
        if not any(SENSOR in event_filter.types for event_filter in self._followers.values()):
            return
        told = self._told_statuses
        news = [status for status in self._handlers.statuses() if _is_news(status, told.get(status.name))]
        told.update({status.name: status for status in news})
        events = [event_bytes(SENSOR, encoding.encode(status_object(status))) for status in news]
        for stream, event_filter in list(self._followers.items()):
            if SENSOR in event_filter.types:
                for event in events:
                    stream.write(event)

    def _first_event(self, event_filter: EventFilter, last: str | None) -> bytes:
        """Return the snapshot, or what has changed since ``last`` if that is known."""
        if event_filter.meta:
            # Ages are not told anew when they alone change, so who wants them begins anew; and they are of this moment.
            return self._snapshot(event_filter)
        event = self._first_events.get((event_filter, last))
        if event is None:
            missed = None if last is None else self._follower.since(last, event_filter.paths)
            event = (
                self._snapshot(event_filter) if missed is None else self._change(missed, event_filter, or_nothing=True)
            )
            if len(self._first_events) >= MOST_KEPT:
                self._first_events.clear()
            self._first_events[event_filter, last] = event
        return event

    def _snapshot(self, event_filter: EventFilter) -> bytes:
        leaves = self._shown(self._follower.leaves(event_filter.paths), event_filter)
        return event_bytes("snapshot", encoding.encode(leaves), self._follower.revision)

    def _change(self, changes: Changes, event_filter: EventFilter, or_nothing: bool = False) -> bytes:
        """Return the event of ``changes``; if there is nothing in them, nothing, unless that is to be told, too."""
        # A renewed value is one that was set again: that changes its age, and nothing else.
        changed = {**changes.changed, **changes.renewed} if event_filter.meta else changes.changed
        if not (changed or changes.removed or or_nothing):
            return b""
        removed = sorted(map(format_path, changes.removed))
        data = encoding.encode({"changed": self._shown(changed, event_filter), "removed": removed})
        return event_bytes(CHANGE, data, self._follower.revision)

    def _shown(self, parts: Mapping[Path, Part], event_filter: EventFilter) -> dict[str, Any]:
        now = self._tree.now()
        return {format_path(path): _shown(part, event_filter.meta, now) for path, part in parts.items()}


def _is_news(status: HandlerStatus, told: HandlerStatus | None) -> bool:
    if told is None or attrs.evolve(status, next_run=told.next_run) != told:
        return True
    if told.next_run is None or status.next_run is None:
        return told.next_run is not status.next_run
    return abs(status.next_run - told.next_run) > JITTER_SECONDS


def _shown(part: Part, meta: bool, now: float) -> Any:
    if not meta:
        return encoding.raw(part.json)
    if isinstance(part, Leaf):
        return part.meta(now)
    # A node with nothing in it.
    return {"value": {}, "unit": None, "time": None, "age": 0.0, "state": "ok", "error": None}
