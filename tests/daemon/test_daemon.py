"""The wiring of the daemon: what starts, in what order all of it stops, and that nothing can hold that up."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from fake_pool import FakePool
from twisted.application.service import Application, IServiceCollection
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogEvent, capturedLogs, textFileLogObserver
from twisted.python.failure import Failure

from rpiserve import App, Handler, broadcast, cache
from rpiserve.core.clocks import Clocks
from rpiserve.core.threads import ThreadPool
from rpiserve.daemon.config import Config
from rpiserve.daemon.daemon import UNWATCHED, Daemon, Process
from rpiserve.errors import BusUnavailable, NotRunning, StartError, Stopped
from rpiserve.web.server.site import LimitedSite


class Reactor(MemoryReactorClock):
    """A reactor in memory, whose other threads reach it at once, and which listens where it is told to."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        listening = super().listenTCP(port, factory, backlog, interface)
        listening.getHost = lambda: IPv4Address("TCP", interface, port)
        return listening

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        function(*arguments)


class Connection(StringTransport):
    """A connection in memory that can be cut."""

    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class Running:
    """A daemon in memory, started.

    Attributes:
        stops: how often it said that a stop has begun.
        pool: its worker threads, which do what the test lets them do.
    """

    def __init__(self, app: App, start: bool = True, **options: Any) -> None:
        self.reactor = Reactor()
        self.stops = 0
        config = Config(**{"port": 0, "stop_timeout": 10, **options})
        self.daemon = Daemon(app, config, Clocks(self.reactor, time.time), Process(self._stopping, lambda work: None))
        self.limit = cast(Any, self.daemon.runner.pool)._limit
        self.pool = FakePool()
        self.daemon.runner.pool = cast(ThreadPool, self.pool)
        self._stopped: Deferred[None] | None = None
        if start:
            self.daemon.privilegedStartService()
            self.daemon.startService()

    def _stopping(self) -> None:
        self.stops += 1

    def stop(self) -> None:
        """Begin to stop."""
        self._stopped = self.daemon.stopService()

    @property
    def stopped(self) -> bool:
        """Whether it has stopped."""
        return self._stopped is not None and self._stopped.called

    @property
    def site(self) -> LimitedSite:
        """What answers HTTP requests."""
        return cast(LimitedSite, self.reactor.tcpServers[0][1])

    def connect(self, request: bytes = b"") -> Connection:
        """Connect to it and send ``request``."""
        transport = Connection(
            hostAddress=IPv4Address("TCP", "127.0.0.1", 80), peerAddress=IPv4Address("TCP", "127.0.0.1", 5)
        )
        channel = self.site.buildProtocol(transport.getPeer())
        assert channel is not None
        channel.makeConnection(transport)
        if request:
            channel.dataReceived(request)
        return transport


@pytest.fixture
def app() -> App:
    """An app that declares nothing yet."""
    return App("test")


def test_listens_before_it_starts(app: App) -> None:
    """It listens, while it may still bind a low port, before anything of the app's runs."""
    ran: list[str] = []
    app.every(1, lambda: ran.append("handler"), reactor=True)
    app.on_start(reactor=True)(lambda: ran.append("on_start"))
    running = Running(app, start=False)
    running.daemon.privilegedStartService()
    assert (len(running.reactor.tcpServers), ran) == (1, [])
    running.daemon.startService()
    assert ran == ["on_start", "handler"]
    running.stop()
    assert running.stopped


def test_where_it_listens(app: App) -> None:
    """Port and host are those of the options; without a host it is this machine alone."""
    for options, where in (({"port": 81}, (81, "127.0.0.1")), ({"port": 82, "host": "127.0.0.2"}, (82, "127.0.0.2"))):
        port, _, _, interface = Running(app, **options).reactor.tcpServers[0]
        assert (port, interface) == where


def test_offline(app: App) -> None:
    """Without a port nothing listens, and all else runs and stops."""
    ran: list[str] = []
    app.every(1, lambda: ran.append("handler"), reactor=True)
    app.on_stop(reactor=True)(lambda: ran.append("on_stop"))
    running = Running(app, port=None)
    running.stop()
    assert running.reactor.tcpServers == []
    assert (running.stopped, ran) == (True, ["handler", "on_stop"])


def test_not_open_beyond_this_machine(app: App) -> None:
    """An address that other machines can reach is refused, unless it is meant."""
    with pytest.raises(StartError, match=r"can be reached from other machines.*--open if you mean it"):
        Running(app, host="0.0.0.0")
    Running(app, host="0.0.0.0", open=True)


def test_a_port_that_one_may_not_have(app: App) -> None:
    """A low port for which the process lacks the right is an error that names it and says so."""
    running = Running(app, start=False, port=80)

    def refuse(port: int, factory: object, backlog: int, interface: str) -> None:
        raise CannotListenError(interface, port, PermissionError(13, "Permission denied"))

    running.reactor.listenTCP = refuse
    with pytest.raises(StartError, match=r"^cannot listen on 127\.0\.0\.1 port 80: Permission denied$"):
        running.daemon.privilegedStartService()


def test_wrong_endpoint(app: App) -> None:
    """A description that is no endpoint is refused when the daemon is made."""
    with pytest.raises(StartError, match="this is no endpoint"):
        Running(app, port="nonsense:80")


def test_threads_for_all(app: App) -> None:
    """There may be a thread for each function that needs one, so that no handler ever waits for another's.

    Among them is the `prepare` of a handler whose `invoke` needs none: it would wait for ever.
    """

    class Asynchronous(Handler):
        async def invoke(self) -> None:
            pass

    assert Running(app, start=False).limit == 0
    app.every(1, Asynchronous())
    assert Running(app, start=False).limit == 1
    app.sensor("a")(lambda: 1)
    app.thread("b")(lambda running: None)
    app.on_start()(lambda: None)
    app.on_stop()(lambda: None)
    app.every(1, lambda: None, reactor=True)
    assert Running(app, start=False).limit == 5


def test_the_order_of_stopping(app: App) -> None:
    """First the handlers end, then ``on_stop`` runs, one function after the other, and then the daemon has stopped."""
    ran: list[str] = []
    app.every(5, lambda: ran.append("handler"))
    app.on_stop()(lambda: ran.append("first"))
    app.on_stop()(lambda: ran.append("second"))
    running = Running(app)
    running.stop()
    assert (running.stops, len(running.pool.jobs)) == (1, 1)
    assert running.daemon.still_running() == [app.polled[0].function.name]
    for end in (["handler"], ["handler", "first"], ["handler", "first", "second"]):
        assert not running.stopped
        running.pool.end()
        assert ran == end
    assert running.stopped
    assert running.daemon.still_running() == []
    running.reactor.advance(100)
    assert ran == ["handler", "first", "second"]


def test_a_hanging_handler_has_its_share_of_the_time(app: App) -> None:
    """A handler that hangs is named in the log after a part of the time, and the stop goes on without it."""
    ran: list[str] = []
    app.sensor("garden/pump", every=60)(lambda: 1)
    app.on_stop(reactor=True)(lambda: ran.append("on_stop"))
    running = Running(app)
    with capturedLogs() as logs:
        running.stop()
        running.reactor.advance(3.9)
        assert ran == []
        running.reactor.advance(0.2)
    assert (ran, running.stopped) == (["on_stop"], True)
    assert [(event["seconds"], event["running"]) for event in logs if "running" in event] == [(4.0, "garden/pump")]


def test_a_hanging_on_stop_has_its_share_of_the_time(app: App, logged_failures: list[LogEvent]) -> None:
    """An ``on_stop`` that hangs is left behind after a part of the time; the next one is still tried."""
    app.on_stop()(lambda: None)
    app.on_stop()(lambda: None)
    running = Running(app)
    running.stop()
    running.reactor.advance(7.9)
    assert not running.stopped
    running.reactor.advance(0.2)
    assert running.stopped
    assert len(logged_failures) == 2
    logged_failures.clear()


def test_an_on_stop_after_a_hanging_handler(app: App, logged_failures: list[LogEvent]) -> None:
    """When something else has used its part of the time, ``on_stop`` has its own part still."""
    app.sensor("garden/pump", every=60)(lambda: 1)
    app.on_stop()(lambda: None)
    running = Running(app)
    running.stop()
    running.reactor.advance(4)
    running.reactor.advance(3.9)
    assert not running.stopped
    running.reactor.advance(0.2)
    assert running.stopped
    logged_failures.clear()


def test_an_on_stop_that_raises(app: App, logged_failures: list[LogEvent]) -> None:
    """An ``on_stop`` that raises is logged by name; the next one runs."""
    ran: list[str] = []

    @app.on_stop(reactor=True)
    def bad() -> None:
        raise ZeroDivisionError

    app.on_stop(reactor=True)(lambda: ran.append("next"))
    running = Running(app)
    running.stop()
    assert (ran, running.stopped) == (["next"], True)
    [event] = logged_failures
    assert "bad" in event["name"]
    logged_failures.clear()


def test_on_start_in_order(app: App) -> None:
    """The ``on_start`` functions run one after the other, while `/ready` names those that have not ended."""
    app.on_start()(lambda: None)
    app.on_start()(lambda: None)
    running = Running(app)
    hooks = running.daemon._start_hooks
    for left in (2, 1):
        assert (len(running.pool.jobs), len(hooks.reasons())) == (1, left)
        assert hooks.reasons()[0].endswith("has not ended yet")
        running.pool.end()
    assert hooks.reasons() == []
    running.stop()


def test_an_on_start_that_raises(app: App, logged_failures: list[LogEvent]) -> None:
    """An ``on_start`` that raises is logged and shown by `/ready`; the daemon runs on, and the next one runs."""
    ran: list[str] = []

    @app.on_start(reactor=True)
    def bad() -> None:
        raise ZeroDivisionError

    app.on_start(reactor=True)(lambda: ran.append("next"))
    running = Running(app)
    assert ran == ["next"]
    [reason] = running.daemon._start_hooks.reasons()
    assert "bad failed: ZeroDivisionError (incident " in reason
    logged_failures.clear()
    running.stop()


def test_an_on_start_that_hangs_does_not_hold_up_the_stop(app: App) -> None:
    """An ``on_start`` that hangs does not keep the handlers from running, and the stop only for the time of grace."""
    ran: list[str] = []
    app.on_start()(lambda: None)
    app.every(1, lambda: ran.append("handler"), reactor=True)
    running = Running(app)
    assert ran == ["handler"]
    running.stop()
    assert not running.stopped
    with capturedLogs():
        running.reactor.advance(4)
    assert running.stopped
    assert running.daemon.still_running() == [app.start_hooks[0].name]


def test_idle_connections_are_closed(app: App) -> None:
    """A connection that waits for a request is closed at once, and does not hold up the stop."""
    running = Running(app)
    transport = running.connect()
    running.stop()
    assert transport.disconnecting


def test_connections_are_cut_in_the_end(app: App) -> None:
    """A connection that does not end is cut when its share of the time is over, and named in the log."""
    running = Running(app)
    transport = running.connect()
    with capturedLogs() as logs:
        running.stop()
        running.reactor.advance(3.9)
        assert not transport.aborted
        running.reactor.advance(0.2)
        running.reactor.advance(1.0)  # for the last answers
    assert (transport.aborted, running.stopped) == (True, True)
    assert [event["running"] for event in logs if "running" in event] == ["connections"]


def test_what_runs_on_the_reactor_is_cancelled_at_last(app: App) -> None:
    """After the time of grace an ``async def`` is cancelled, so that what it has to put right is put right."""
    cleaned: list[str] = []

    @app.sensor("garden/pump", every=60)
    async def pump() -> float:
        try:
            await Deferred()
        finally:
            cleaned.append("pump")
        return 1.0

    running = Running(app)
    running.stop()
    assert cleaned == []
    with capturedLogs():
        running.reactor.advance(4)
    assert (cleaned, running.stopped) == (["pump"], True)


# --- the bus ----------------------------------------------------------------------------------------------------------


def elsewhere(call: Callable[[], Any]) -> Any:
    """Return what ``call`` returns or raises in another thread, in which nothing that it waits for can come."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(call())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(30)
    (found,) = outcome
    return found


def test_the_bus_while_it_runs(app: App) -> None:
    """The app's own code can use the bus from when the daemon has started until it stops; then it is told so."""
    heard: list[Any] = []
    app.listen("news", reactor=True)(heard.append)
    running = Running(app, start=False)
    with pytest.raises(NotRunning):
        app.broadcast.send("news", {"a": 1})
    running.daemon.privilegedStartService()
    running.daemon.startService()
    assert elsewhere(lambda: app.broadcast.send("news", {"a": 1})) == 1
    assert app.broadcast.send("news", {"a": 2}).result == 1
    running.reactor.advance(0)
    assert heard == [{"a": 1}, {"a": 2}]
    running.stop()
    assert isinstance(elsewhere(lambda: app.broadcast.send("news", {"a": 3})), Stopped)
    app.broadcast.send("news", {"a": 3}).addErrback(lambda failure: failure.trap(BusUnavailable))
    running.reactor.advance(0)
    assert heard == [{"a": 1}, {"a": 2}]


def test_actions_through_the_daemon(app: App) -> None:
    """What one of the app's functions asks another of its actions is answered by that, within the daemon."""
    app.action("double", reactor=True)(lambda request: request.payload["it"] * 2)
    running = Running(app)
    answer = app.caller("test").send_request("double", {"it": 21})
    running.reactor.pump([0, 0, 0])
    assert answer.result == 42
    running.stop()
    assert running.stopped


def test_the_bus_in_on_start_and_on_stop(app: App) -> None:
    """``on_start`` and ``on_stop`` functions in threads send by the proxies, until the very end."""
    sent: list[Any] = []
    for declare in (app.on_start, app.on_stop):
        declare()(lambda: sent.append(broadcast.send("news", {"a": 1})))
    running = Running(app)
    for begin in (lambda: None, running.stop):
        begin()
        (job,) = running.pool.jobs
        assert elsewhere(job.work) is None
        running.pool.jobs.clear()
    assert sent == [0, 0]
    assert running.stopped


def test_the_bus_in_asynchronous_on_start_and_on_stop(app: App) -> None:
    """``on_start`` and ``on_stop`` functions on the reactor use the bus likewise."""
    sent: list[Any] = []

    @app.on_stop()
    @app.on_start()
    async def send() -> None:
        sent.append(await cache.incr("key"))

    running = Running(app)
    running.stop()
    assert (sent, running.stopped) == ([1, 2], True)


def test_who_waits_for_the_bus_as_it_stops(app: App) -> None:
    """A thread of the app's own that waits for an answer is set free as soon as the stop begins."""
    asked = threading.Event()

    @app.action("never", reactor=True)
    async def never() -> None:
        asked.set()
        await Deferred()

    running = Running(app)
    outcome: list[type[Exception]] = []

    def ask() -> None:
        try:
            app.caller("test").send_request("never", timeout=1000)
        except Stopped as error:
            outcome.append(type(error))

    begun = threading.Event()
    call_from_thread = running.reactor.callFromThread
    arrived: list[Callable[[], object]] = []

    def to_test(function: Callable[..., object], *arguments: Any) -> None:
        arrived.append(lambda: call_from_thread(function, *arguments))
        begun.set()

    running.daemon._link.open(running.daemon._messaging.messenger, to_test)
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert begun.wait(30)
    arrived[0]()
    running.reactor.pump([0, 0, 0])
    assert asked.is_set()
    running.stop()
    thread.join(30)
    assert outcome == [Stopped]
    with capturedLogs():
        running.reactor.advance(4)
    assert running.stopped


def test_status(app: App) -> None:
    """What it is at is told in a few words: where it serves, its bus if there is one, and how the handlers do."""

    def fail() -> None:
        raise OSError("broken")

    running = Running(app)
    assert running.daemon.status() == "serving on http://127.0.0.1:0; 0 handlers, 0 failing"
    assert Running(App("offline"), port=None).daemon.status() == "running; 0 handlers, 0 failing"
    app.every(1, fail, reactor=True)

    def slow() -> None: ...

    slow.__qualname__ = "slow"
    app.on_start(reactor=True)(slow)
    waiting = Running(app, start=False)
    waiting.daemon.privilegedStartService()
    assert waiting.daemon.status() == (
        "serving on http://127.0.0.1:0; 1 handler, 0 failing; on_start slow has not ended yet"
    )


def test_a_handler_that_fails_shows_in_the_status(app: App, logged_failures: list[LogEvent]) -> None:
    """A handler that fails is counted."""

    def fail() -> None:
        raise OSError("broken")

    app.every(1, fail, reactor=True)
    assert Running(app).daemon.status().endswith("; 1 handler, 1 failing")
    logged_failures.clear()


def test_a_fatal_error(app: App, logged_failures: list[LogEvent]) -> None:
    """What leaves the daemon half done stops the reactor, once, and is remembered for the exit code."""
    running, stops = Running(app), []
    running.reactor.stop = lambda: stops.append("stop")  # type: ignore[method-assign]
    assert not running.daemon.failed
    for _ in range(2):
        running.daemon.fail(Failure(ZeroDivisionError("by a mistake")))
    for function, arguments, keywords in running.reactor.whenRunningHooks:
        if function is running.reactor.stop:
            function(*arguments, **keywords)
    assert (running.daemon.failed, stops) == (True, ["stop"])
    assert [event["log_level"].name for event in logged_failures] == ["critical", "critical"]
    logged_failures.clear()


def test_the_log_of_requests(app: App, tmp_path: Path) -> None:
    """The log of requests is opened, goes on in a new file after a reload, and has all when the daemon has stopped."""
    file = tmp_path / "requests.log"
    running = Running(app, request_log=file)
    running.connect(b"GET /data/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
    file.rename(tmp_path / "moved")
    running.daemon.reload()
    running.connect(b"GET /data/b HTTP/1.1\r\nHost: localhost\r\n\r\n")
    running.stop()
    running.reactor.pump([1] * 20)
    assert "GET /data/a " in (tmp_path / "moved").read_text()
    assert "GET /data/b " in file.read_text()
    with pytest.raises(StartError, match=r"--request-log: cannot write to .*/gone/requests\.log: No such file"):
        Running(app, request_log=tmp_path / "gone" / "requests.log")


def test_the_log_of_a_twistd(app: App) -> None:
    """Twistd's application gets our observer, before it begins to log; without one it keeps its own."""
    for observer in (None, textFileLogObserver(io.StringIO())):
        daemon = Daemon(
            app, Config(port=None), Clocks(Reactor(), time.time), attrs.evolve(UNWATCHED, observer=observer)
        )
        application = Application("test")
        daemon.setServiceParent(application)
        assert application.getComponent(ILogObserver, None) is observer
        assert list(IServiceCollection(application)) == [daemon]
