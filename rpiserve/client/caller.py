"""A caller outside a daemon: in any other program that runs on Twisted."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import blockingCallFromThread
from twisted.python import threadable

from rpiserve.core.thread_bridge import Link, Progress
from rpiserve.errors import MessageError, NotRunning, Stopped
from rpiserve.messaging import caller
from rpiserve.messaging.address import RedisAddress
from rpiserve.messaging.messenger import Messenger

if TYPE_CHECKING:
    from rpiserve.messaging.redis_bus import RedisBus


class Caller(caller.Caller):
    """Calls the actions of one service on a Redis server, to which it connects at its first use.

    On the reactor's thread each method returns a Deferred; on any other, while the reactor runs, it blocks. Inside a
    daemon, ``app.caller(name)`` does the same by the connections that the daemon has.

    Args:
        service: the name of the service.
        redis: where Redis is: ``redis://host:port/db``, ``rediss://…`` with TLS, ``unix:///path``.
        timeout: seconds to wait for a reply by default.
        password_file: a file with the password, if that is not in the URL.
        ca_file: a file with the certificates to trust, if not the system's.
        name: who calls, for the service's log.
        reactor: the reactor; by default the one that is installed.

    Raises:
        MessageError: an argument is wrong.
    """

    def __init__(
        self,
        service: str,
        redis: str,
        *,
        timeout: float = caller.CALL_SECONDS,
        password_file: str | None = None,
        ca_file: str | None = None,
        name: str = "caller",
        reactor: Any = None,
    ) -> None:
        try:
            address = attrs.evolve(
                RedisAddress.parse(redis),
                password_file=None if password_file is None else Path(password_file),
                ca_file=None if ca_file is None else Path(ca_file),
            )
        except ValueError as error:
            raise MessageError(f"redis is no address of a Redis server; {error}") from None
        self._own = OwnLink(address, name, reactor)
        super().__init__(service, self._own, timeout)

    def close(self) -> Any:
        """End all requests that are under way, and the connections. They fail with `Stopped`."""
        self._closed = True
        return self._own.end()


class OwnLink(Link[Messenger]):
    """A link that connects to a Redis server of its own accord, at its first use.

    Args:
        address: where that is.
        name: who calls.
        reactor: the reactor; None for the one that is installed.
    """

    def __init__(self, address: RedisAddress, name: str, reactor: Any = None) -> None:
        super().__init__(f"a caller by {address.name}")
        self._address = address
        self._name = name
        self._reactor = reactor
        self._bus: RedisBus | None = None
        self._trigger: Any = None

    def call(self, start: Callable[..., Deferred[Any]], *arguments: Any, progress: Progress | None = None) -> Any:
        """As `Link.call`.

        Raises:
            NotRunning: this is not the main thread, and the reactor does not run.
            StartError: the file with certificates cannot be read.
        """
        self._open_once()
        return super().call(start, *arguments, progress=progress)

    def end(self) -> Any:
        """Give up what is under way, and the connections."""
        if self._bus is not None:
            try:
                return super().call(self._end)
            except Stopped:  # closing sets all free that block, which in a thread this one does itself
                return None
        return succeed(None) if threading.current_thread() is threading.main_thread() else None

    def _open_once(self) -> None:
        if self._bus is not None:
            return
        if self._reactor is None:
            # Not at the top: this installs a reactor, which importing rpiserve must not do.
            from twisted.internet import reactor

            self._reactor = reactor
        if not self._reactor.running and threading.current_thread() is not threading.main_thread():
            raise NotRunning("a Caller needs Twisted's reactor, which does not run")
        if self._reactor.running and not threadable.isInIOThread():
            blockingCallFromThread(self._reactor, self._open)
        else:
            self._open()

    def _open(self) -> None:
        if self._bus is not None:  # by another thread, meanwhile
            return
        from rpiserve.messaging.redis_bus import RedisBus  # as above

        bus = RedisBus(self._address, self._reactor, time.time)
        messenger = Messenger(self._name, bus, self._reactor)
        self.open(messenger, self._reactor.callFromThread)
        self._trigger = self._reactor.addSystemEventTrigger("before", "shutdown", self._shut_down, messenger)
        bus.start()
        self._bus = bus  # last: what another thread finds here is ready

    def _shut_down(self, messenger: Messenger) -> Deferred[None]:
        self._trigger = None
        return self._end(messenger)

    def _end(self, messenger: Messenger) -> Deferred[None]:
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None
        messenger.close()
        self.close()
        return messenger.bus.close()
