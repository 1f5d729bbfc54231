"""The client by the bus."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from rpiserve.client.interface import Heard, Told
from rpiserve.core.thread_bridge import Link, Progress
from rpiserve.declare.names import checked_channel
from rpiserve.errors import BusUnavailable
from rpiserve.messaging import caller
from rpiserve.messaging.bus import Bus
from rpiserve.messaging.messenger import Messenger


class BusClient:
    """The way by the bus.

    Args:
        bus: the bus, which has not begun; this begins and closes it.
        name: who calls, for the services' logs.
        reactor: the reactor.
    """

    def __init__(self, bus: Bus, name: str, reactor: Any) -> None:
        self._bus = bus
        self._reactor = reactor
        self._messenger = Messenger(name, bus, reactor)
        self._link: Link[Messenger] = Link("a client")
        self._begun = False

    async def call(self, service: str, action: str, payload: Any, timeout: float, progress: Progress | None) -> Any:
        """As `Client.call`."""
        asking = caller.Caller(service, self._link, timeout)
        await self._begin()
        return await asking.send_request(action, payload, on_progress=progress)

    async def publish(self, channel: str, payload: Any) -> int:
        """As `Client.publish`."""
        await self._begin()
        receivers: int = await caller.Broadcast(self._link).send(channel, payload)
        return receivers

    async def listen(self, channels: Sequence[str], heard: Heard, told: Told) -> None:
        """As `Client.listen`."""
        enough: Deferred[None] = Deferred()
        away = False

        def receive(channel: str, message: bytes) -> None:
            if enough.called:
                return
            try:
                if heard(channel, message):
                    enough.callback(None)
            except Exception:  # noqa: BLE001 - the bus would log it, but it is for who listens
                enough.errback()

        def lost(reason: str) -> None:
            nonlocal away
            if not enough.called:  # otherwise it is us who have closed it
                away = True
                told(f"{self._bus.state.name}: {reason}; what is sent meanwhile is missed")

        def back() -> None:
            nonlocal away
            if away and not enough.called:  # not for the first connection, of which this may hear still
                away = False
                told(f"{self._bus.state.name} is connected again")

        for channel in channels:  # before it begins: then it is connected only once all are subscribed to
            await self._bus.subscribe(checked_channel(channel), receive)
        await self._begin()
        self._bus.watch(lost)
        self._bus.when_connected(back)
        await enough

    async def close(self) -> None:
        """As `Client.close`."""
        self._messenger.close()
        await self._bus.close()

    async def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._link.open(self._messenger, self._reactor.callFromThread)
            await self._bus.start()
        state = self._bus.state
        if not state.connected:
            raise BusUnavailable(f"{state.name}: {state.error}")
