"""The bus: what carries messages from channel to channel, and keeps small values beside.

There are two, `rpiserve.messaging.memory_bus` within one process and `rpiserve.messaging.redis_bus`. Both do what `Bus`
says; everything above knows nothing else of them. All of this lives on the reactor's thread.

The names of channels and their patterns are texts, and messages bytes, which arrive as they were sent. A pattern is a
glob as Redis has it: ``*``, ``?``, ``[a-z]``, ``[^a-z]``, and a backslash before a character that stands for itself.
As there, the characters are the bytes of UTF-8: ``?`` stands for no ``é``, which has two of them.
"""

import re
from collections.abc import Callable
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

log = Logger()

Receiver = Callable[[str, bytes], object]
"""What is called with a channel and a message that has arrived on it. It must not block."""

_MAGIC = re.compile(r"[*?\[\\]")


@attrs.frozen
class BusState:
    """How a bus is.

    Attributes:
        kind: ``memory`` or ``redis``.
        name: what it is called; it holds no password.
        connected: whether messages can be sent and do arrive.
        since: since when that is so, in seconds since the epoch.
        error: what has gone wrong, if it is not connected because of that.
    """

    kind: str
    name: str
    connected: bool
    since: float
    error: str | None = None


class Bus(Protocol):
    """What both buses can do. Whatever needs the server fails with `BusUnavailable` while that is not connected."""

    @property
    def state(self) -> BusState:
        """How it is."""
        ...

    def start(self) -> Deferred[None]:
        """Begin. The Deferred fires when the first attempt to connect has come to an end, whichever."""
        ...

    def close(self) -> Deferred[None]:
        """End: send what is under way, for a moment, and deliver nothing more."""
        ...

    def watch(self, lost: Callable[[str], object]) -> None:
        """Have ``lost`` called with the reason whenever the connection has been lost."""
        ...

    def when_connected(self, connected: Callable[[], object]) -> None:
        """Have ``connected`` called whenever there is a connection, the first one or another, and it can be used."""
        ...

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        """Send ``message``, and return how many receivers it has.

        Returns:
            A Deferred that fires with the number, as far as the server can tell. It fails with `BusUnavailable`.

        Raises:
            MessageError: it is too large.
        """
        ...

    def subscribe(self, channel: str, receiver: Receiver) -> Deferred[None]:
        """Have ``receiver`` called with each message on ``channel``, or on those that it matches if it is a pattern.

        A receiver of several channels and patterns gets a message once. What was subscribed stays so, even if the
        connection is lost in between.

        Returns:
            A Deferred that fires once messages do arrive; at once if there is no connection to wait for.
        """
        ...

    def unsubscribe(self, channel: str, receiver: Receiver) -> None:
        """Take back what `subscribe` did with the same arguments, if it did."""
        ...

    def get(self, key: str) -> Deferred[bytes | None]:
        """Return the value at ``key``, or None."""
        ...

    def set(self, key: str, value: bytes, seconds: float | None) -> Deferred[None]:
        """Set the value at ``key``, to be kept for so many ``seconds``, or for good."""
        ...

    def delete(self, keys: list[str]) -> Deferred[int]:
        """Remove ``keys``, and return how many there were."""
        ...

    def incr(self, key: str, amount: int) -> Deferred[int]:
        """Add ``amount`` to the whole number at ``key``, 0 if there is none, and return the sum.

        Returns:
            A Deferred that fires with the sum. It fails with `DataError` if the value is no whole number of 64 bits, or
            the sum would be none.
        """
        ...

    def announce(self, name: str, value: bytes, seconds: float) -> Deferred[None]:
        """Let all on the bus know ``value`` by ``name``, for so many ``seconds`` unless that is done again."""
        ...

    def withdraw(self, name: str) -> Deferred[None]:
        """Take that back."""
        ...

    def announced(self) -> Deferred[dict[str, bytes]]:
        """Return what is announced now, by name."""
        ...


ANNOUNCEMENT = "rpiserve:service:"
"""What the keys begin with at which the announcements are kept."""


def is_pattern(channel: str) -> bool:
    """Tell whether ``channel`` is a pattern rather than a name."""
    return _MAGIC.search(channel) is not None


def encoded(text: str) -> bytes:
    """Return a channel, a pattern or a key as Redis is to see it."""
    return text.encode("utf-8", "surrogateescape")


def decoded(name: bytes) -> str:
    """Return the channel or pattern that Redis sees as ``name``."""
    return name.decode("utf-8", "surrogateescape")


def compile_pattern(pattern: str) -> re.Pattern[bytes]:
    """Return an expression that fully matches the names, `encoded`, which the glob ``pattern`` stands for."""
    pattern = encoded(pattern).decode("latin-1")  # a character for each byte
    pieces, position = [""], 0
    while position < len(pattern):
        token, position = _token(pattern, position)
        if token == "*":
            pieces.append("")
        else:
            pieces[-1] += token
    # Atomic groups: each piece is looked for once, from the left, so that no name takes longer than its length allows.
    expression, *others = pieces
    if others:
        expression += "".join(f"(?>.*?{piece})" for piece in others[:-1] if piece) + f".*{others[-1]}"
    return re.compile(expression.encode("latin-1"), re.DOTALL)


def _token(pattern: str, position: int) -> tuple[str, int]:
    """Return the expression for the next token of ``pattern``, ``*`` for a star, and where the one after it begins."""
    character, rest = pattern[position], pattern[position + 1 :]
    if character == "*":
        return "*", position + 1
    if character == "?":
        return ".", position + 1
    if character == "\\" and rest:
        return re.escape(rest[0]), position + 2
    if character == "[":
        return _set_of_characters(pattern, position + 1)
    return re.escape(character), position + 1


def _set_of_characters(pattern: str, position: int) -> tuple[str, int]:
    """As `_token`, for what follows a bracket. As in Redis, the closing one may be missing at the end."""
    negated = pattern.startswith("^", position)
    position += negated
    members = []
    while position < len(pattern) and pattern[position] != "]":
        if pattern[position] == "\\" and position + 1 < len(pattern):
            members.append(re.escape(pattern[position + 1]))
            position += 2
        elif pattern.startswith("-", position + 1) and position + 2 < len(pattern):
            low, high = sorted((pattern[position], pattern[position + 2]))
            members.append(f"{re.escape(low)}-{re.escape(high)}")
            position += 3
        else:
            members.append(re.escape(pattern[position]))
            position += 1
    if not members:
        return ("." if negated else "(?!)"), position + 1
    return f"[{'^' if negated else ''}{''.join(members)}]", position + 1


class Subscriptions:
    """Who wants to hear what."""

    def __init__(self) -> None:
        self._receivers: dict[str, dict[Receiver, None]] = {}
        self._patterns: dict[str, re.Pattern[bytes]] = {}

    def channels(self) -> list[str]:
        """Return the names and patterns that have receivers."""
        return list(self._receivers)

    def add(self, channel: str, receiver: Receiver) -> bool:
        """Add a receiver, and return whether it is the first of ``channel``, a name or a pattern."""
        receivers = self._receivers.setdefault(channel, {})
        receivers[receiver] = None
        if is_pattern(channel) and channel not in self._patterns:
            self._patterns[channel] = compile_pattern(channel)
        return len(receivers) == 1

    def remove(self, channel: str, receiver: Receiver) -> bool:
        """Remove a receiver, and return whether ``channel`` has lost its last one by that."""
        receivers = self._receivers.get(channel, {})
        if receiver not in receivers:
            return False
        del receivers[receiver]
        if receivers:
            return False
        del self._receivers[channel]
        self._patterns.pop(channel, None)
        return True

    def patterns(self, channel: str) -> list[str]:
        """Return the patterns that the name ``channel`` matches."""
        name = encoded(channel)
        return [pattern for pattern, expression in self._patterns.items() if expression.fullmatch(name)]

    def receivers(self, channel: str) -> list[Receiver]:
        """Return who wants to hear what is sent to the name ``channel``, each once."""
        found = dict(self._receivers.get(channel, ()) if channel not in self._patterns else ())
        for pattern in self.patterns(channel):
            found |= self._receivers[pattern]
        return list(found)


def deliver(receivers: list[Receiver], channel: str, message: bytes) -> None:
    """Give a message to each of ``receivers``; one that raises keeps no other from getting it."""
    for receiver in receivers:
        try:
            receiver(channel, message)
        except Exception:  # noqa: BLE001 - whatever it is, it is logged, and the others go on
            log.failure("while receiving a message on {channel!r}", Failure(), channel=channel)
