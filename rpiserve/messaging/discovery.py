"""The services on the bus: each announces itself, again and again, and is forgotten when it does so no more."""

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rpiserve.data import encoding
from rpiserve.declare.messages import Action
from rpiserve.declare.names import NAME
from rpiserve.errors import BusError
from rpiserve.messaging.bus import Bus, BusState

log = Logger()

ANNOUNCE_SECONDS: Final = 10.0
LASTING_SECONDS: Final = 3 * ANNOUNCE_SECONDS
"""How long a service that has died is still listed."""

LONGEST_DOC: Final = 2000
"""In characters, of what is told of an action."""

MOST_ACTIONS: Final = 500

Text = Annotated[str, msgspec.Meta(max_length=LONGEST_DOC)]


class _Action(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(pattern=f"^(?:{NAME.pattern})$")]
    doc: Text = ""


class _Announcement(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(pattern=f"^(?:{NAME.pattern})$")]
    actions: Annotated[list[_Action], msgspec.Meta(max_length=MOST_ACTIONS)]


class ServiceDiscovery:
    """Announces this service, and lists all.

    Args:
        name: the name of this service.
        actions: its actions.
        bus: the bus.
        clock: the reactor's clock, in seconds.
    """

    def __init__(self, name: str, actions: Mapping[str, Action], bus: Bus, clock: IReactorTime) -> None:
        told = [_Action(action, each.function.doc[:LONGEST_DOC]) for action, each in actions.items()]
        self._own = _Announcement(name, told[:MOST_ACTIONS])
        self._announcement = msgspec.json.encode(self._own)
        self._instance = f"{name}:{uuid.uuid4().hex[:8]}"
        self._bus = bus
        self._ticker = LoopingCall(self._announce)
        self._ticker.clock = clock
        bus.when_connected(self._announce_again)

    def start(self) -> None:
        """Begin to announce this service."""
        self._ticker.start(ANNOUNCE_SECONDS)

    def stop(self) -> None:
        """Announce it no more, and have it forgotten at once."""
        if self._ticker.running:
            self._ticker.stop()
            self._bus.withdraw(self._instance).addErrback(_ignored)

    @property
    def bus_state(self) -> BusState:
        """How the bus is."""
        return self._bus.state

    def describe(self) -> Deferred[dict[str, Any]]:
        """Return what ``/services`` shows: how the bus is, and the services on it, this one first.

        While the bus is away this one is all that is known.
        """
        state = self._bus.state
        bus = {
            "kind": state.kind,
            "name": state.name,
            "connected": state.connected,
            "since": encoding.timestamp(state.since),
            "error": state.error,
        }
        announced = self._bus.announced().addErrback(lambda failure: failure.trap(BusError) and {})
        return announced.addCallback(lambda entries: {"bus": bus, "services": self._listed(entries)})

    def _announce(self) -> None:
        announced = self._bus.announce(self._instance, self._announcement, LASTING_SECONDS)
        announced.addErrback(_ignored)

    def _announce_again(self) -> None:
        # At once: a server that was started anew knows nobody, and until the next tick the others would not know us.
        if self._ticker.running:
            self._announce()

    def _listed(self, announced: Mapping[str, bytes]) -> list[dict[str, Any]]:
        entries: dict[str, tuple[_Announcement, int]] = {self._own.name: (self._own, 1)}
        for instance in sorted(announced.keys() - {self._instance}):
            try:
                entry = msgspec.json.decode(announced[instance], type=_Announcement)
            except (msgspec.DecodeError, RecursionError):  # whoever reaches the bus may have written it
                continue
            known, count = entries.get(entry.name, (entry, 0))
            entries[entry.name] = (known, count + 1)
        return [{**msgspec.to_builtins(entry), "instances": count} for entry, count in entries.values()]


def _ignored(failure: Any) -> None:
    """Leave a failure of the bus to those who tell of the bus; there is nobody to be told of us meanwhile."""
    if not failure.check(BusError):
        log.failure("while announcing the service", failure)
