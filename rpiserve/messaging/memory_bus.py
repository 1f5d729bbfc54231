"""The bus within one process, which needs no server."""

import heapq
from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rpiserve.core.wire import checked_size
from rpiserve.errors import BusUnavailable, DataError
from rpiserve.messaging.bus import ANNOUNCEMENT, BusState, Receiver, Subscriptions, deliver

NAME = "the embedded bus"

WHOLE = range(-(2**63), 2**63)
"""The whole numbers of 64 bits."""

MOST_OLD_ENDS = 1000
"""How many ends of values that have been set anew since may be left lying about."""


class MemoryBus:
    """A bus within this process.

    A message is delivered in a later turn of the reactor, in the order in which the messages were sent.

    Args:
        clock: the reactor's clock, in seconds.
        wall: the wall clock, in seconds since the epoch.
    """

    def __init__(self, clock: IReactorTime, wall: Callable[[], float]) -> None:
        self._clock = clock
        self._since = wall()
        self._closed = False
        self._subscriptions = Subscriptions()
        self._under_way: deque[tuple[list[Receiver], str, bytes]] = deque()
        self._turn: IDelayedCall | None = None  # in which what is under way is delivered
        self._values: dict[str, tuple[bytes, float | None]] = {}
        self._ends: list[tuple[float, str]] = []  # a heap of when a value may have come to its end

    @property
    def state(self) -> BusState:
        """How it is."""
        return BusState("memory", NAME, not self._closed, self._since)

    def start(self) -> Deferred[None]:
        """Begin."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """Deliver nothing more."""
        self._closed = True
        self._under_way.clear()
        if self._turn is not None and self._turn.active():
            self._turn.cancel()
        return succeed(None)

    def watch(self, lost: Callable[[str], object]) -> None:
        """Do nothing: there is no connection to be lost."""

    def when_connected(self, connected: Callable[[], object]) -> None:
        """Do nothing: there is none to be made, either."""

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        """Send ``message``; fires with how many receivers it has."""
        checked_size(message)
        if self._closed:
            return fail(BusUnavailable(f"{NAME} is closed"))
        receivers = self._subscriptions.receivers(channel)
        if receivers:
            if self._turn is None:
                self._turn = self._clock.callLater(0, self._deliver)
            self._under_way.append((receivers, channel, message))
        return succeed(len(receivers))

    def _deliver(self) -> None:
        # Only what is there now: what that leads to waits for a turn of its own, and lets others have theirs.
        for _ in range(len(self._under_way)):
            if self._under_way:  # a receiver may have closed the bus
                receivers, channel, message = self._under_way.popleft()
                wanted = set(self._subscriptions.receivers(channel))  # who has unsubscribed since is not to hear it
                deliver([receiver for receiver in receivers if receiver in wanted], channel, message)
        self._turn = self._clock.callLater(0, self._deliver) if self._under_way else None

    def subscribe(self, channel: str, receiver: Receiver) -> Deferred[None]:
        """Have ``receiver`` called with each message on ``channel``, a name or a pattern."""
        self._subscriptions.add(channel, receiver)
        return succeed(None)

    def unsubscribe(self, channel: str, receiver: Receiver) -> None:
        """Take that back."""
        self._subscriptions.remove(channel, receiver)

    def get(self, key: str) -> Deferred[bytes | None]:
        """Return the value at ``key``, or None."""
        self._expire()
        value = self._values.get(key)
        return succeed(None if value is None else value[0])

    def set(self, key: str, value: bytes, seconds: float | None) -> Deferred[None]:
        """Set the value at ``key``."""
        self._expire()
        end = None if seconds is None else self._clock.seconds() + seconds
        self._values[key] = (value, end)
        if end is not None:
            heapq.heappush(self._ends, (end, key))
            if len(self._ends) > 2 * len(self._values) + MOST_OLD_ENDS:
                self._ends = sorted((end, key) for key, (_, end) in self._values.items() if end is not None)
        return succeed(None)

    def delete(self, keys: list[str]) -> Deferred[int]:
        """Remove ``keys``, and return how many there were."""
        self._expire()
        return succeed(sum(self._values.pop(key, None) is not None for key in keys))

    def incr(self, key: str, amount: int) -> Deferred[int]:
        """Add ``amount`` to the number at ``key``."""
        self._expire()
        value, end = self._values.get(key, (b"0", None))
        total = _whole(value)
        if total is None or amount not in WHOLE or total + amount not in WHOLE:
            return fail(DataError(f"the cache: the value at {key!r} is no whole number of 64 bits, or would be none"))
        self._values[key] = (b"%d" % (total + amount), end)
        return succeed(total + amount)

    def announce(self, name: str, value: bytes, seconds: float) -> Deferred[None]:
        """Let all on the bus know ``value`` by ``name``."""
        return self.set(ANNOUNCEMENT + name, value, seconds)

    def withdraw(self, name: str) -> Deferred[None]:
        """Take that back."""
        return self.delete([ANNOUNCEMENT + name]).addCallback(lambda _: None)

    def announced(self) -> Deferred[dict[str, bytes]]:
        """Return what is announced now, by name."""
        self._expire()
        ours = (key for key in self._values if key.startswith(ANNOUNCEMENT))
        return succeed({key.removeprefix(ANNOUNCEMENT): self._values[key][0] for key in ours})

    def _expire(self) -> None:
        now = self._clock.seconds()
        while self._ends and self._ends[0][0] <= now:
            end, key = heapq.heappop(self._ends)
            if self._values.get(key, (b"", None))[1] == end:  # or it was set anew since
                del self._values[key]


def _whole(value: bytes) -> int | None:
    """Return ``value`` as the number that Redis takes it for, which is stricter than Python."""
    try:
        number = int(value[:24])
    except ValueError:
        return None
    return number if b"%d" % number == value and number in WHOLE else None
