"""What users send messages with, from any thread: `Broadcast`, `Cache` and `Caller`.

On the reactor's thread each method returns a Deferred. On any other it blocks, and returns or raises.
"""

from typing import Any

from twisted.internet.defer import Deferred, succeed

from rpiserve.core import wire
from rpiserve.core.thread_bridge import Link, Progress
from rpiserve.data import encoding
from rpiserve.declare.names import LONGEST_CHANNEL, checked_bus_name, checked_channel
from rpiserve.errors import DataError, MessageError, Stopped
from rpiserve.messaging.messenger import Messenger

CALL_SECONDS = 5.0
"""How long a caller waits for a reply by default."""


class Broadcast:
    """Sends messages to channels.

    Args:
        link: the way to the bus.
    """

    def __init__(self, link: Link[Messenger]) -> None:
        self._link = link

    def send(self, channel: str, payload: Any) -> Any:
        """Send ``payload`` to all who listen to ``channel``.

        Args:
            channel: the name of the channel.
            payload: a mapping, or a dataclass, in types that JSON can have.

        Returns:
            How many receivers it has, as far as the bus can tell.

        Raises:
            MessageError: the channel is none, or the payload is no object, or too large.
            DataError: the payload cannot be sent as JSON.
            BusUnavailable: the bus is not connected.
            Stopped: the daemon is shutting down.
        """
        return _publish(self._link, channel, payload)


def _publish(link: Link[Messenger], channel: str, payload: Any, **members: Any) -> Any:
    checked_channel(channel)
    plain = encoding.to_wire(payload, f"the message for {channel!r}")
    if not isinstance(plain, dict):
        raise MessageError(
            f"a message is an object such as a dict; for {channel!r} there is a {type(payload).__name__}"
        )
    message = wire.encode({**plain, **members})
    return link.call(lambda messenger: messenger.bus.publish(channel, message))


class Cache:
    """Keeps small values by their keys: on Redis if that is the bus, else in memory.

    Args:
        link: the way to the bus.
    """

    def __init__(self, link: Link[Messenger]) -> None:
        self._link = link

    def get(self, key: str) -> Any:
        """Return the value at ``key`` as text; None if there is none.

        Raises:
            DataError: the value, which somebody else has put there, is no text.
            BusUnavailable: the bus is not connected.
            Stopped: the daemon is shutting down.
        """
        key = _key(key)
        return self._link.call(lambda messenger: messenger.bus.get(key).addCallback(_text, key))

    def set(self, key: str, value: str | bytes | int | float, ex: float | None = None) -> Any:
        """Set the value at ``key``.

        Args:
            key: the key.
            value: a text, or bytes that are text in UTF-8, or a number.
            ex: seconds until it is forgotten; None for never.

        Returns:
            True.

        Raises:
            DataError: the value is none of these.
            BusUnavailable: the bus is not connected.
            Stopped: the daemon is shutting down.
        """
        key, data = _key(key), _data(key, value)
        if ex is not None and (isinstance(ex, bool) or not isinstance(ex, int | float) or not 0 < ex <= 1e9):
            raise DataError(f"the cache: ex for {key!r} is {ex!r:.80}; it is a number of seconds up to 1e9")
        return self._link.call(lambda messenger: messenger.bus.set(key, data, ex).addCallback(lambda _: True))

    def delete(self, *keys: str) -> Any:
        """Remove ``keys``, and return how many there were.

        Raises:
            BusUnavailable: the bus is not connected.
            Stopped: the daemon is shutting down.
        """
        names = [_key(key) for key in dict.fromkeys(keys)]
        return self._link.call(lambda messenger: messenger.bus.delete(names))

    def incr(self, key: str, amount: int = 1) -> Any:
        """Add ``amount`` to the whole number at ``key``, 0 if there is none, and return the sum.

        Raises:
            DataError: the value is no whole number of 64 bits, or the sum would be none.
            BusUnavailable: the bus is not connected.
            Stopped: the daemon is shutting down.
        """
        key = _key(key)
        if isinstance(amount, bool) or not isinstance(amount, int) or not -(2**63) <= amount < 2**63:
            raise DataError(f"the cache: amount for {key!r} is {amount!r:.80}; it is a whole number")
        return self._link.call(lambda messenger: messenger.bus.incr(key, amount))


def _key(key: object) -> str:
    if not isinstance(key, str) or not key or len(key) > LONGEST_CHANNEL:
        raise DataError(f"the cache: {key!r:.80} is no key; it is a text of 1 to {LONGEST_CHANNEL} characters")
    return encoding.plain_text(key, "a key of the cache")


def _data(key: str, value: object) -> bytes:
    if isinstance(value, str):
        return encoding.plain_text(value, f"the cache: {key!r}").encode()
    if isinstance(value, bytes | bytearray):
        _text(bytes(value), key)
        return bytes(value)
    number = encoding.to_wire(value, f"the cache: {key!r}") if isinstance(value, int | float) else None
    if number is None or isinstance(number, bool):
        raise DataError(f"the cache: the value for {key!r} is {value!r:.80}; it is a text, bytes or a number")
    return repr(number).encode()


def _text(value: bytes | None, key: str) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        raise DataError(f"the cache: the value at {key!r} is no text in UTF-8") from None


class Caller:
    """Calls the actions of one service.

    Args:
        service: the name of the service.
        link: the way to the bus.
        timeout: seconds to wait for a reply by default.

    Raises:
        MessageError: the name is none.
    """

    def __init__(self, service: str, link: Link[Messenger], timeout: float = CALL_SECONDS) -> None:
        self._service = checked_bus_name(service, "a service")
        self._link = link
        self._timeout = _checked_timeout(timeout)
        self._closed = False

    def send_request(
        self,
        action: str,
        payload: Any = None,
        timeout: float | None = None,
        on_progress: Progress | None = None,
    ) -> Any:
        """Ask for an action, and wait for the reply.

        Args:
            action: the action.
            payload: what goes with it, in types that JSON can have; an empty object by default.
            timeout: seconds to wait for the reply.
            on_progress: called with the payload of each reply that is not final. If it raises, that ends the request.

        Returns:
            The reply's payload. To cancel the Deferred ends the request.

        Raises:
            NoResponders: nobody listens.
            RemoteError: the service has answered with an error.
            CallTimeout: it has not answered in time.
            BusUnavailable: the bus is not connected, or was lost meanwhile.
            TooManyPending: too many requests wait already.
            MessageError: the action is none, or the payload is too large.
            DataError: the payload cannot be sent as JSON.
            Stopped: the daemon is shutting down, or this caller was closed.
        """
        self._check_open()
        checked_bus_name(action, "an action")
        json = encoding.encode(encoding.to_wire({} if payload is None else payload, f"the payload for {action}"))
        seconds = self._timeout if timeout is None else _checked_timeout(timeout)

        def start(messenger: Messenger, progress: Progress | None = None) -> Deferred[Any]:
            return messenger.request(self._service, action, json, seconds, self, progress)

        return self._link.call(start, progress=on_progress)

    def send_message(self, channel: str, payload: Any) -> Any:
        """Send ``payload`` to all who listen to ``channel``, any channel. As `Broadcast.send`."""
        self._check_open()
        return _publish(self._link, channel, payload)

    def send_to_service(self, payload: Any = None, action: str | None = None) -> Any:
        """Send a message to the service, which it does not answer.

        Args:
            payload: a mapping, or a dataclass; its members become the message's own.
            action: the action; by default the ``action`` in ``payload``.

        Returns:
            How many receivers it has, as far as the bus can tell.

        Raises:
            MessageError: the action is none, or the payload is no object, or too large.
            DataError: the payload cannot be sent as JSON.
            BusUnavailable: the bus is not connected.
            Stopped: the daemon is shutting down, or this caller was closed.
        """
        self._check_open()
        members = {} if action is None else {"action": checked_bus_name(action, "an action")}
        return _publish(self._link, self._service, {} if payload is None else payload, **members)

    def close(self) -> Any:
        """End all requests of this caller that are under way: they fail with `Stopped`."""
        self._closed = True

        def end(messenger: Messenger) -> Deferred[None]:
            messenger.give_up(self)
            return succeed(None)

        try:
            return self._link.call(end)
        except Stopped:  # there is nothing left to end
            return None

    def _check_open(self) -> None:
        if self._closed:
            raise Stopped(f"this caller of {self._service} was closed")


def _checked_timeout(timeout: object) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 1e9:
        raise MessageError(f"timeout is {timeout!r:.80}; it is a number of seconds above 0")
    return float(timeout)
