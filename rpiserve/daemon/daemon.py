"""The wiring: all the parts of one daemon, and the order in which they start and stop."""

from collections.abc import Callable
from typing import Any, Final

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, inlineCallbacks, succeed
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.components import Componentized
from twisted.python.failure import Failure

from rpiserve.commands.calls import CommandCalls
from rpiserve.core.blocked_reactor import ReactorLag
from rpiserve.core.clocks import Clocks
from rpiserve.core.context import DaemonScope
from rpiserve.core.declared_app import DeclaredApp
from rpiserve.core.runner import Runner
from rpiserve.core.thread_bridge import Link
from rpiserve.core.threads import ThreadPool
from rpiserve.daemon.config import Config
from rpiserve.daemon.hooks import StartHooks, run_stop_hooks
from rpiserve.daemon.website import ServedParts, Website
from rpiserve.data.journal import Receiver
from rpiserve.logs.observer import LogObserver
from rpiserve.messaging.bus import Bus
from rpiserve.messaging.caller import Broadcast, Cache
from rpiserve.messaging.discovery import ServiceDiscovery
from rpiserve.messaging.memory_bus import MemoryBus
from rpiserve.messaging.messenger import Messenger
from rpiserve.messaging.redis_bus import RedisBus
from rpiserve.messaging.service import MessagingService
from rpiserve.polling.scheduler import Scheduler

log = Logger()

GRACE_SHARE = 0.4
"""The share of the stop timeout that what is in flight gets to end by itself."""

HOOKS_SHARE = 0.4
"""The share that the ``on_stop`` functions get at least; they may use what is left of the first one, too."""

LAST_SHARE = 0.1
"""The share that the last answers get to be sent. The rest is for closing what is left."""


@attrs.frozen
class Process:
    """What a daemon does to the process that it runs in.

    Attributes:
        on_stopping: called when a stop begins.
        watch: starts a thread with a function, to watch whether the reactor is blocked.
        observer: writes the log; None for Twisted's own.
    """

    on_stopping: Callable[[], object]
    watch: Callable[[Callable[[], None]], object]
    observer: LogObserver | None = None


UNWATCHED: Final = Process(lambda: None, lambda work: None)
"""A process that the daemon leaves alone."""


class Daemon(Service):
    """One running app.

    Args:
        app: the app; its link to the bus is opened here.
        config: the options.
        clocks: the reactor, whose clock is monotonic, and the wall clock.
        process: the process that it runs in.

    Attributes:
        observer: what writes the log of a process that runs this; None for Twisted's own.
        failed: whether it ends because of an error.

    Raises:
        StartError: the option ``port`` is no endpoint, or a file that an option names is not as it should be.
    """

    name = "rpiserve"

    def __init__(self, app: DeclaredApp, config: Config, clocks: Clocks, process: Process = UNWATCHED) -> None:
        reactor: Any = clocks.reactor
        self.observer = process.observer
        self.failed = False
        self._reactor = reactor
        self._config = config
        self._process = process
        self._stop_functions = app.stop_hooks
        self._lag = ReactorLag(reactor, app.on_reactor())
        daemon_scope = DaemonScope(Broadcast(app.link), Cache(app.link))
        self._link = app.link
        self._journal = app.tree.journal
        # Handlers answer, and on_stop functions send, when everybody else is kept from that already.
        self._last_link: Link[Messenger] = Link("the bus")
        self._last_daemon_scope = DaemonScope(Broadcast(self._last_link), Cache(self._last_link))

        def runner(pool: ThreadPool) -> Runner:
            return Runner(reactor, reactor.callFromThread, pool, daemon_scope)

        # A function never overlaps itself, so with a thread for each no handler ever waits for another's.
        pool = ThreadPool("rpiserve-worker", app.thread_count())
        self.runner = runner(pool)
        self._commands = CommandCalls(app.commands, reactor, reactor.callFromThread, app.max_workers, daemon_scope)
        bus = _bus_for(config, clocks)
        self._directory = ServiceDiscovery(app.name, app.actions, bus, reactor)
        self._messaging = MessagingService(
            app.name,
            app.actions,
            app.listeners,
            bus,
            runner(ThreadPool("rpiserve-message", app.max_workers)),
            self._last_link,
        )
        self._polling = Scheduler(app, self.runner, app.tree, clocks)
        self._start_hooks = StartHooks(app.start_hooks, self.runner)
        routes = runner(ThreadPool("rpiserve-route", app.max_workers))
        self._answering = (self._commands, self._messaging, routes)
        self._website: Website | None = None
        if config.port is not None:
            observers = [] if process.observer is None else [process.observer]
            served = ServedParts(
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
                stats=[self._polling, self._commands, self._messaging, pool, self._lag, *observers],
            )
            self._website = Website(app, config, clocks, served, routes)

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
        self._process.watch(self._lag.watch)
        for link in (self._link, self._last_link):
            link.open(self._messaging.messenger, self._reactor.callFromThread)
        self._journal.open(self._reactor.callFromThread, _log_failed_receiver)
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
        self._process.on_stopping()
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
        for runner in (self.runner, *self._answering):
            runner.cancel_asynchronous()
        left = max(timeout * HOOKS_SHARE, begun + timeout * (GRACE_SHARE + HOOKS_SHARE) - self._reactor.seconds())
        yield run_stop_hooks(self._stop_functions, self.runner, left, self._last_daemon_scope)
        self._last_link.close()
        yield self._messaging.close()
        yield self._within(timeout * LAST_SHARE, drained)  # the answers of what was cancelled
        if website is not None:
            website.close()
        self._journal.close()
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
        return sorted(name for runner in (self.runner, *self._answering) for name in runner.running())


def _log_failed_receiver(receiver: Receiver) -> None:
    log.failure("receiving changes failed in {receiver}", receiver=receiver)


def _bus_for(config: Config, clocks: Clocks) -> Bus:
    address = config.redis_address
    if address is None:
        return MemoryBus(clocks.reactor, clocks.wall)
    return RedisBus(address, clocks.reactor, clocks.wall)
