"""The wiring: all the parts of one daemon, and the order in which they start and stop."""

import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from rpiserve.commands.calls import CommandCalls
from rpiserve.core.blocked_reactor import ReactorLag
from rpiserve.core.context import Surroundings
from rpiserve.core.runner import Invoker
from rpiserve.core.thread_bridge import Link
from rpiserve.core.threads import ThreadPool
from rpiserve.daemon.config import Config
from rpiserve.daemon.hooks import StartHooks, run_stop_hooks
from rpiserve.daemon.website import Website
from rpiserve.data.tree import DataTree
from rpiserve.declare.registry import Registry
from rpiserve.logs.observer import LogObserver
from rpiserve.messaging.bus import Bus
from rpiserve.messaging.caller import Broadcast, Cache
from rpiserve.messaging.directory import Directory
from rpiserve.messaging.memory_bus import MemoryBus
from rpiserve.messaging.redis_bus import RedisBus
from rpiserve.messaging.requests import Messenger
from rpiserve.messaging.service import MessagingService
from rpiserve.polling.handlers import HandlerPolling

log = Logger()

GRACE_SHARE = 0.4
"""The share of the stop timeout that what is in flight gets to end by itself."""

HOOKS_SHARE = 0.4
"""The share that the ``on_stop`` functions get at least; they may use what is left of the first one, too."""

LAST_SHARE = 0.1
"""The share that the last answers get to be sent. The rest is for closing what is left."""


class Daemon(Service):
    """One running app.

    Args:
        name: the service's name.
        registry: what the app declares.
        tree: its data.
        link: the way to the bus for the app's own threads; it is opened here.
        config: the options.
        max_workers: how many calls of concurrent commands may run at the same time, and how many actions and listeners.
        reactor: the reactor, whose clock is monotonic.
        on_stopping: called when a stop begins.
        watch: starts a thread with a function, to watch whether the reactor is blocked; by default nobody does.
        wall: the wall clock, in seconds since the epoch.
        observer: what writes the log of a process that runs this; None for Twisted's own.

    Attributes:
        observer: likewise.
        failed: whether it ends because of an error.

    Raises:
        StartError: the option ``port`` is no endpoint, or a file that an option names is not as it should be.
    """

    name = "rpiserve"

    def __init__(
        self,
        name: str,
        registry: Registry,
        tree: DataTree,
        link: Link[Messenger],
        config: Config,
        max_workers: int,
        reactor: Any,
        on_stopping: Callable[[], object] = lambda: None,
        watch: Callable[[Callable[[], None]], object] = lambda work: None,
        wall: Callable[[], float] = time.time,
        observer: LogObserver | None = None,
    ) -> None:
        self.observer = observer
        self.failed = False
        self._reactor = reactor
        self._config = config
        self._on_stopping = on_stopping
        self._watch = watch
        self._stop_functions = registry.stop_hooks
        self._lag = ReactorLag(reactor, registry.on_reactor())
        to_reactor = reactor.callFromThread
        surroundings = Surroundings(Broadcast(link), Cache(link))
        self._link = link
        # Handlers answer, and on_stop functions send, when everybody else is kept from that already.
        self._last_link: Link[Messenger] = Link("the bus")
        self._last_surroundings = Surroundings(Broadcast(self._last_link), Cache(self._last_link))
        # A function never overlaps itself, so with a thread for each no handler ever waits for another's.
        pool = ThreadPool("rpiserve-worker", registry.thread_count())
        self.invoker = Invoker(reactor, to_reactor, pool, surroundings)
        self._commands = CommandCalls(registry.commands, reactor, to_reactor, max_workers, surroundings)
        bus = self._make_bus(wall)
        self._directory = Directory(name, registry.actions, bus, reactor)
        self._messaging = MessagingService(
            name,
            registry.actions,
            registry.listeners,
            bus,
            Invoker(reactor, to_reactor, ThreadPool("rpiserve-message", max_workers), surroundings),
            self._last_link,
        )
        self._polling = HandlerPolling(registry, self.invoker, tree, reactor, wall)
        self._start_hooks = StartHooks(registry.start_hooks, self.invoker)
        routes = Invoker(reactor, to_reactor, ThreadPool("rpiserve-route", max_workers), surroundings)
        self._answering = (self._commands, self._messaging, routes)
        self._website: Website | None = None
        if config.port is not None:
            self._website = Website(
                config,
                reactor,
                service=name,
                registry=registry,
                tree=tree,
                handlers=self._polling,
                commands=self._commands,
                messaging=self._messaging,
                services=self._directory,
                parts={
                    "on_start": self._start_hooks,
                    "sensors": self._polling,
                    "bus": self._messaging,
                    "reactor": self._lag,
                },
                stats=[
                    self._polling,
                    self._commands,
                    self._messaging,
                    pool,
                    self._lag,
                    *([observer] if observer else []),
                ],
                routes=routes,
                wall=wall,
            )

    def _make_bus(self, wall: Callable[[], float]) -> Bus:
        address = self._config.redis_address
        return MemoryBus(self._reactor, wall) if address is None else RedisBus(address, self._reactor, wall)

    def setServiceParent(self, parent: Any) -> None:
        """Become a part of ``parent``; if that is the application of a twistd, have it log as we do."""
        super().setServiceParent(parent)
        if self.observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self.observer)

    def privilegedStartService(self) -> None:
        """Begin to listen, while the process may still bind a low port.

        Raises:
            StartError: the port cannot be had.
        """
        super().privilegedStartService()
        if self._website is not None:
            self._website.listen()

    def startService(self) -> None:
        """Start all that runs by itself."""
        super().startService()
        self._lag.start()
        self._watch(self._lag.watch)
        for link in (self._link, self._last_link):
            link.open(self._messaging.messenger, self._reactor.callFromThread)
        self._messaging.start().addCallback(lambda _: self._start_hooks.run()).addErrback(self.fail)
        self._directory.start()
        self._polling.start()

    @inlineCallbacks
    def stopService(self) -> Any:
        """Stop in order: accept nothing more, let what is in flight end, run ``on_stop``, close what is left.

        Returns:
            A Deferred that fires within the stop timeout, whatever hangs, as long as the reactor runs.
        """
        super().stopService()
        self._on_stopping()
        timeout = self._config.stop_timeout
        begun = self._reactor.seconds()
        self._link.close()
        website = self._website
        if website is not None:
            yield website.stop_listening()
        self._directory.stop()
        stopped = [each.stop() for each in (self._start_hooks, self._polling, *self._answering)]
        drained = succeed(None) if website is None else website.drain()
        if not (yield self._within(timeout * GRACE_SHARE, *stopped, drained)):
            running = ", ".join(self.still_running()) or "connections"
            log.warn("not ended within {seconds:g} s: {running}", seconds=timeout * GRACE_SHARE, running=running)
        for runner in (self.invoker, *self._answering):
            runner.cancel_asynchronous()
        left = max(timeout * HOOKS_SHARE, begun + timeout * (GRACE_SHARE + HOOKS_SHARE) - self._reactor.seconds())
        yield run_stop_hooks(self._stop_functions, self.invoker, left, self._last_surroundings)
        self._last_link.close()
        yield self._messaging.close()
        yield self._within(timeout * LAST_SHARE, drained)  # the answers of what was cancelled
        if website is not None:
            website.close()
        self._lag.stop()

    def fail(self, failure: Failure) -> None:
        """End the process, because of an error that leaves the daemon half done; its exit code will be no 0."""
        log.failure("this cannot go on", failure, LogLevel.critical)
        if not self.failed:
            self.failed = True
            self._reactor.callWhenRunning(self._reactor.stop)

    def reload(self) -> None:
        """Read anew what may have been replaced, the tokens and the certificate; go on in new files of the log."""
        if self._website is not None:
            self._website.reload()
        log.info("reloaded")

    def status(self) -> str:
        """Return what it is at, in a few words for people."""
        parts = ["running" if self._website is None else f"serving on {self._website.address}"]
        bus = self._directory.bus_state
        if self._config.redis is not None:
            parts.append(f"{bus.name} is {'' if bus.connected else 'not '}connected")
        handlers = self._polling.statuses()
        failing = sum(handler.state == "error" for handler in handlers)
        parts.append(f"{len(handlers)} handler{'' if len(handlers) == 1 else 's'}, {failing} failing")
        if hooks := self._start_hooks.reasons():
            parts.append(hooks[0])
        return "; ".join(parts)

    def _within(self, seconds: float, *ends: Deferred[Any]) -> Deferred[bool]:
        """Return what fires when all ``ends`` have fired, or when the time is up, and tells whether they have.

        None of them is cancelled.
        """
        over: Deferred[bool] = Deferred()

        def ended(_: object) -> None:
            if timer.active():
                timer.cancel()
                over.callback(True)

        timer = self._reactor.callLater(seconds, over.callback, False)
        DeferredList(ends).addCallback(ended)
        return over

    def still_running(self) -> list[str]:
        """Return the names of the user's functions that run. Safe to use from any thread."""
        return sorted(name for runner in (self.invoker, *self._answering) for name in runner.running())
