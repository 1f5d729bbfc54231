"""The client by the bus, on the embedded one."""

from collections.abc import Callable
from typing import Any

import pytest
from deferreds import brought
from ears import Ears
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from rpiserve.client.bus_client import BusClient
from rpiserve.core import wire
from rpiserve.errors import (
    BusUnavailable,
)
from rpiserve.messaging.bus import BusState
from rpiserve.messaging.memory_bus import MemoryBus


class ShakyBus(MemoryBus):
    """The embedded bus, whose connection can be lost.

    Attributes:
        connected: whether there is one.
        lost: what is called when it was lost.
        back: what is called when it is there again.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, lambda: 0.0)
        self.connected = True
        self.lost: list[Callable[[str], object]] = []
        self.back: list[Callable[[], object]] = []

    @property
    def state(self) -> BusState:
        """How it is."""
        return BusState("memory", "the shaky bus", self.connected, 0.0, None if self.connected else "it is not there")

    def watch(self, lost: Callable[[str], object]) -> None:
        """Keep what to call."""
        self.lost.append(lost)

    def when_connected(self, connected: Callable[[], object]) -> None:
        """Keep what to call."""
        self.back.append(connected)

    def regain(self) -> None:
        """Have the connection again."""
        self.connected = True
        for back in self.back:
            back()

    def lose(self) -> None:
        """Lose the connection."""
        self.connected = False
        for lost in self.lost:
            lost("it went")


class BusSetting:
    """A client on the shaky bus, with a clock in the test's hand."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.clock.callFromThread = lambda function, *arguments: function(*arguments)
        self.bus = ShakyBus(self.clock)
        self.client = BusClient(self.bus, "test", self.clock)

    def publish(self, channel: str, payload: Any) -> Any:
        """Publish by the client, and let it arrive."""
        receivers = brought(Deferred.fromCoroutine(self.client.publish(channel, payload)))
        self.clock.advance(0)
        return receivers


class TestBusClient:
    def test_call(self) -> None:
        """A call is answered by whoever listens, with its progress."""
        setting = BusSetting()
        seen: list[Any] = []

        def serve(_: str, message: bytes) -> None:
            asked = wire.parse_request(message)
            assert asked.reply_to is not None
            assert asked.request_id is not None
            setting.bus.publish(asked.reply_to, wire.reply(asked.request_id, "progress", 1, final=False))
            setting.bus.publish(asked.reply_to, wire.reply(asked.request_id, "success", asked.payload, final=True))

        setting.bus.subscribe("porter", serve)
        begun = Deferred.fromCoroutine(setting.client.call("porter", "carry", {"n": 1}, 5, seen.append))
        setting.clock.pump([0] * 5)
        assert brought(begun) == {"n": 1}
        assert seen == [1]
        brought(Deferred.fromCoroutine(setting.client.close()))
        assert not setting.clock.getDelayedCalls()

    def test_listen(self) -> None:
        """Messages come until it is enough, from names and from patterns, and none after that."""
        setting = BusSetting()
        ears = Ears(2)
        begun = Deferred.fromCoroutine(setting.client.listen(["a", "b*"], ears.hear, ears.told.append))
        assert setting.publish("a", {"n": 1}) == 1
        assert setting.publish("c", {}) == 0
        assert setting.publish("bb", {}) == 1
        brought(begun)
        assert ears.heard == [("a", b'{"n":1}'), ("bb", b"{}")]
        setting.publish("a", {})
        setting.bus.lose()
        assert len(ears.heard) == 2
        assert ears.told == []

    def test_lost_and_back(self) -> None:
        """A loss and the return are told at once; a loss before that was seen is told, too."""
        setting = BusSetting()
        ears = Ears()
        begun = Deferred.fromCoroutine(setting.client.listen(["a"], ears.hear, ears.told.append))
        setting.bus.lose()
        setting.bus.lose()
        setting.bus.regain()
        lost, back = "the shaky bus: it went; what is sent meanwhile is missed", "the shaky bus is connected again"
        assert ears.told == [lost, lost, back]
        begun.cancel()
        setting.bus.lose()
        setting.bus.regain()
        assert ears.told == [lost, lost, back]
        with pytest.raises(CancelledError):
            brought(begun)
        assert not setting.clock.getDelayedCalls()

    def test_hearing_raises(self) -> None:
        """What the listener raises ends the listening."""
        setting = BusSetting()

        def hear(channel: str, message: bytes) -> None:
            raise KeyError("own")

        begun = Deferred.fromCoroutine(setting.client.listen(["a"], hear, print))
        setting.publish("a", {})
        with pytest.raises(KeyError, match="own"):
            brought(begun)

    def test_not_connected(self) -> None:
        """If there is no connection at the beginning, it fails with the reason."""
        setting = BusSetting()
        setting.bus.connected = False
        with pytest.raises(BusUnavailable, match="the shaky bus: it is not there"):
            setting.publish("a", {})
