"""Services that talk to each other, as processes: much at once, nonsense, slow handlers, circles, and sudden ends."""

import json
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import pytest_twisted
from daemon import PATIENCE, PROGRAM, Daemon, running_daemon
from redis_server import RedisServer, shared_redis_server  # noqa: F401 - the fixture redis_server
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from rpiserve.core import wire
from rpiserve.core.log_limit import AGES, MOST_TEXTS
from rpiserve.core.runner import Runner
from rpiserve.core.thread_bridge import Link
from rpiserve.core.threads import ThreadPool
from rpiserve.declare.registry import Registry
from rpiserve.errors import CallTimeout
from rpiserve.messaging.address import RedisAddress
from rpiserve.messaging.bus import Bus
from rpiserve.messaging.memory_bus import MemoryBus
from rpiserve.messaging.messenger import Messenger
from rpiserve.messaging.redis_bus import RedisBus
from rpiserve.messaging.service import MessagingService

REQUESTS = 10_000
IN_FLIGHT = 64
AT_THE_END = 1_000
FUZZED = 10_000
SEED = 4

PYTHON = (sys.executable, "daemon_app.py")
IMPORTS = """
import sys, threading
from twisted.internet.defer import Deferred, DeferredList
from rpiserve import App, broadcast, logger, request, response

app = App("test", max_workers=10)
me = app.caller("test", timeout=30)

def say(*words):
    sys.__stderr__.write(" ".join(["said:", *map(str, words)]) + "\\n")  # at once, as several threads speak
"""
RUN = "\nif __name__ == '__main__':\n    app.run(argv=sys.argv[1:])\n"


@pytest.fixture(params=["embedded", "redis"])
def bus_options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The options for a daemon with one bus, and with the other."""
    if request.param == "embedded":
        return ()
    return ("--redis", request.getfixturevalue("redis_server").url)


@pytest.fixture
def reactor() -> Any:
    """The real reactor, which pytest-twisted runs."""
    from twisted.internet import reactor

    return reactor


def in_time(deferred: Deferred[Any]) -> Deferred[Any]:
    """Return ``deferred``, which is cancelled if it takes too long."""
    from twisted.internet import reactor

    return deferred.addTimeout(PATIENCE, cast(Any, reactor))


@pytest.fixture
def redis_buses(redis_server: RedisServer, reactor: Any) -> Iterator[list[RedisBus]]:
    """Two buses on Redis, which are closed at the end of the test; the first is connected."""
    buses = [RedisBus(RedisAddress.parse(redis_server.url), reactor, time.time) for _ in range(2)]
    pytest_twisted.blockon(buses[0].start())
    assert buses[0].state.connected
    yield buses
    for bus in buses:
        pytest_twisted.blockon(bus.close())


@pytest.fixture(params=["embedded", "redis"])
def two_buses(request: pytest.FixtureRequest, reactor: Any) -> tuple[Bus, Bus]:
    """The bus of a caller, and that of its service, which is the same one if that is in memory."""
    if request.param == "embedded":
        bus = MemoryBus(reactor, time.time)
        return bus, bus
    caller_bus, service_bus = request.getfixturevalue("redis_buses")
    return caller_bus, service_bus


def get(daemon: Daemon, path: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer."""
    try:
        with urlopen(f"{daemon.url}{path}", timeout=PATIENCE) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)


# --- much at once ----------------------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_ten_thousand_requests(two_buses: tuple[Bus, Bus], reactor: Any) -> None:
    """Of 10,000 requests with 64 in flight each is answered with its own answer, in their order; none is left."""
    caller_bus, service_bus = two_buses
    registry = Registry()

    @registry.action("echo")
    async def echo(request: Any) -> Any:
        return request.payload

    link: Link[Messenger] = Link("the bus")
    runner = Runner(reactor, reactor.callFromThread, ThreadPool("none", 1))
    messaging = MessagingService("echoes", registry.actions, [], service_bus, runner, link)
    link.open(messaging.messenger, reactor.callFromThread)
    await in_time(messaging.start())
    messenger = Messenger("caller", caller_bus, reactor)
    order: list[int] = []
    most = 0
    numbers = iter(range(REQUESTS))

    async def ask_in_turn() -> None:
        nonlocal most
        for number in numbers:
            asking = messenger.request("echoes", "echo", b"%d" % number, PATIENCE)
            most = max(most, messenger.pending)
            order.append(await asking)

    await in_time(DeferredList([Deferred.fromCoroutine(ask_in_turn()) for _ in range(IN_FLIGHT)]))
    assert order == list(range(REQUESTS))
    assert most == IN_FLIGHT
    assert messenger.pending == 0
    assert messenger.counts == {"sent": REQUESTS}
    assert messaging.counts == {"received": REQUESTS, "answered": REQUESTS, "success": REQUESTS}
    assert runner.active == set()
    messenger.close()
    await in_time(messaging.stop())
    await in_time(messaging.close())


NEVER = f"""{IMPORTS}
@app.action("never")
async def never():
    await response.progress("begun")
    await Deferred()

@app.action("echo")
async def echo(request):
    return request.payload
"""


@pytest_twisted.ensureDeferred
async def test_a_service_that_is_killed(
    tmp_path: Path, redis_server: RedisServer, redis_buses: list[RedisBus], reactor: Any
) -> None:
    """1,000 requests in flight when their service is killed all end with a typed error, and nothing is left of them."""
    messenger = Messenger("caller", redis_buses[0], reactor)
    begun: Deferred[None] = Deferred()
    begins: list[Any] = []
    outcomes: list[Any] = []

    def note(payload: Any) -> None:
        begins.append(payload)
        if len(begins) == AT_THE_END:
            begun.callback(None)

    with running_daemon(tmp_path, NEVER, "--redis", redis_server.url) as daemon:
        daemon.wait_for("is connected")
        asking = [messenger.request("test", "never", b"{}", 5, progress=note) for _ in range(AT_THE_END)]
        for each in asking:
            each.addBoth(outcomes.append)
        await in_time(begun)
        assert messenger.pending == AT_THE_END
        daemon.process.kill()
        await in_time(DeferredList(asking))
        daemon.wait()
    kinds = Counter(cast(Failure, outcome).type for outcome in outcomes)
    assert kinds == {CallTimeout: AT_THE_END}
    assert (messenger.pending, messenger.counts["late"]) == (0, 0)
    messenger.close()


# --- nonsense --------------------------------------------------------------------------------------------------------

FUZZ = f"""{IMPORTS}
from dataclasses import dataclass

@dataclass
class Water:
    zone: int
    seconds: float = 10

@app.action("echo")
async def echo(request):
    return request.payload

@app.action("thread")
def in_thread(request):
    return [request.payload, request.raw]

@app.action("water")
async def water(water: Water):
    return water
"""
ODD = [
    *(None, True, 0, -1, 1.5, 2**64, 10**400, 1e300, "", "x", "\0", "é\u2028😀", "x" * 300, "{}", "%s", "__class__"),
    *([], {}, [[]], {"a": None}, [1, "2"], {"payload": 1}, {"zone": 1}, {"zone": "x"}, {"zone": []}, {"": {"": {}}}),
    *("echo", "thread", "water", "Echo", "echo ", "fuzz.replies"),
]
MEMBERS = ["action", "payload", "request_id", "reply_to", "timeout", "sender", "service", "final", "status", "", "zone"]


class Fuzzer:
    """Makes up messages.

    Args:
        seed: what they come from.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._makers = [self._mutated, self._mutated, self._damaged, self._noise]

    def messages(self, count: int) -> Iterator[bytes]:
        """Make up ``count`` messages."""
        return (self._random.choice(self._makers)() for _ in range(count))

    def _mutated(self) -> bytes:
        """Return a request with some members missing, and some odd."""
        pick = self._random
        message: dict[str, Any] = {
            "action": pick.choice(["echo", "thread", "water"]),
            "payload": {"zone": 1},
            "request_id": str(pick.random()),
            "reply_to": "fuzz.replies",
            "timeout": 20,
        }
        for _ in range(pick.randrange(4)):
            member = pick.choice(MEMBERS)
            if pick.random() < 0.4:
                message.pop(member, None)
            else:
                message[member] = pick.choice(ODD)
        return json.dumps(message, ensure_ascii=pick.random() < 0.5).encode()

    def _damaged(self) -> bytes:
        """Return such a request with some bytes changed, removed or doubled."""
        pick, message = self._random, bytearray(self._mutated())
        for _ in range(pick.randint(1, 5)):
            at = pick.randrange(len(message))
            message[at : at + pick.randrange(3)] = pick.randbytes(pick.randrange(4))
            message = message or bytearray(b" ")
        return bytes(message)

    def _noise(self) -> bytes:
        """Return bytes that mean nothing, or brackets."""
        pick = self._random
        if pick.random() < 0.3:
            return pick.choice([b"[", b'{"a":', b"{", b'"']) * pick.randrange(200)
        return pick.randbytes(pick.randrange(100))


def wants_answer(message: bytes) -> bool:
    """Tell whether ``message`` is a request that has to be answered where the test hears it."""
    try:
        request = wire.parse_request(message)
    except wire.BrokenMessage:
        return False
    return request.request_id is not None and request.reply_to in (None, "fuzz.replies")


@pytest_twisted.ensureDeferred
async def test_fuzzed_messages(
    tmp_path: Path, redis_server: RedisServer, redis_buses: list[RedisBus], reactor: Any
) -> None:
    """Of 10,000 fuzzed messages each that is a request is answered once, and the next good one after them is, too."""
    bus = redis_buses[0]
    messenger = Messenger("caller", bus, reactor)
    messages = list(Fuzzer(SEED).messages(FUZZED))
    wanted = sum(map(wants_answer, messages))
    assert FUZZED / 4 < wanted < FUZZED
    answers: list[dict[str, Any]] = []
    answered: Deferred[None] = Deferred()

    def heard(_: str, message: bytes) -> None:
        answers.append(wire.parse(message))
        if len(answers) == wanted:
            answered.callback(None)

    for channel in ("fuzz.replies", "test.responses"):
        await in_time(bus.subscribe(channel, heard))
    with running_daemon(tmp_path, FUZZ, "--redis", redis_server.url) as daemon:
        daemon.wait_for("is connected")
        sent = [bus.publish("test", message) for message in messages]
        good = messenger.request("test", "echo", b'{"good":1}', PATIENCE)
        await in_time(DeferredList(sent, fireOnOneErrback=True))
        assert await in_time(good) == {"good": 1}
        await in_time(answered)
        good = messenger.request("test", "water", b'{"zone":"3"}', PATIENCE)
        assert await in_time(good) == {"zone": 3, "seconds": 10}
        log = daemon.log()
    assert len(answers) == wanted
    assert all(answer["final"] is True for answer in answers)
    codes = Counter(answer["payload"]["code"] for answer in answers if answer["status"] == "error")
    assert codes.keys() <= {wire.UNKNOWN_ACTION, wire.INVALID_PAYLOAD, wire.BUSY, wire.HANDLER_ERROR}
    assert (codes[wire.UNKNOWN_ACTION] > 0, codes[wire.INVALID_PAYLOAD] > 0) == (True, True)
    assert "Traceback" not in log
    assert "Unhandled" not in log
    assert log.count("a message on 'test' was broken") <= MOST_TEXTS + len(AGES)
    messenger.close()


# --- slow handlers, and circles --------------------------------------------------------------------------------------

SLOW = f"""{IMPORTS}
begun, released = threading.Event(), threading.Event()
app.data["a"] = 1

@app.command(name="release")
def release():
    released.set()

@app.action("slow")
def slow():
    begun.set()
    released.wait()
    return "has ended"

@app.action("asynchronous")
async def asynchronous():
    return "has answered"

@app.action("next")
def next_():
    return "has answered"

@app.listen("news")
def heard(message):
    say("the broadcast", message["text"])

@app.thread("asking")
def asking(running):
    threading.Thread(target=lambda: say("slow", me.send_request("slow", timeout=1000)), daemon=True).start()
    begun.wait()
    say("asynchronous", me.send_request("asynchronous"))
    say("next", me.send_request("next"))
    app.broadcast.send("news", {{"text": "has been heard"}})
"""


def test_a_slow_handler(tmp_path: Path, bus_options: tuple[str, ...]) -> None:
    """While a ``def`` action hangs, an ``async def``, another ``def``, a listener and ``/data`` go on."""
    with running_daemon(tmp_path, SLOW, *bus_options) as daemon:
        daemon.wait_for("^said: asynchronous has answered$")
        daemon.wait_for("^said: next has answered$")
        daemon.wait_for("^said: the broadcast has been heard$")
        assert get(daemon, "/data") == (200, {"a": 1})
        assert "said: slow" not in daemon.log()
        assert get(daemon, "/cmd?name=release") == (200, None)
        daemon.wait_for("^said: slow has ended$")


CIRCLES = f"""{IMPORTS}
begun = threading.Semaphore(0)
all_begun = threading.Event()

@app.action("circle")
def circle():
    return app.caller("test", timeout=0.5).send_request("leaf")

@app.action("leaf")
def leaf():
    return "leaf"

@app.on_start(reactor=True)
async def start():
    outcomes = await DeferredList([me.send_request("circle") for _ in range(20)], consumeErrors=True)
    for went_well, outcome in outcomes:
        say("circle", outcome if went_well else f"{{outcome.type.__name__}} {{outcome.value.code}}")
    say("afterwards", await me.send_request("leaf"))
"""


def test_circles(tmp_path: Path, bus_options: tuple[str, ...]) -> None:
    """Twenty actions that call their own service at once, with threads for ten, all end, and the next one works."""
    with running_daemon(tmp_path, CIRCLES, *bus_options) as daemon:
        daemon.wait_for("^said: afterwards leaf$")
        ends = re.findall("^said: circle (.+)$", daemon.log(), re.MULTILINE)
    assert len(ends) == 20
    assert set(ends) <= {"leaf", "RemoteError handler_error", "RemoteError busy", "RemoteTimeout timeout"}
    assert "RemoteError handler_error" in ends


BLOCKED = f"""{IMPORTS}
@app.listen("void")
async def never(message):
    say("waits")

@app.action("blocked")
def blocked():
    try:
        app.caller("void").send_request("never", timeout=1000)
    except Exception as error:
        say("blocked", type(error).__name__)
        return "stopped"

@app.thread("asking")
def asking(running):
    try:
        me.send_request("blocked", timeout=1000)
    except Exception as error:
        say("asking", type(error).__name__)

@app.on_stop
def stop():
    say("on_stop", broadcast.send("farewell", {{"text": "bye"}}))
{RUN}"""


@pytest.mark.parametrize(("program", "code"), [(PYTHON, 0), (PROGRAM, -signal.SIGTERM)], ids=["python", "twistd"])
def test_blocked_at_the_end(program: tuple[str, ...], code: int, tmp_path: Path, bus_options: tuple[str, ...]) -> None:
    """Calls that block in threads when SIGTERM arrives end with `Stopped`, and ``on_stop`` can still broadcast."""
    with running_daemon(tmp_path, BLOCKED, *bus_options, program=program) as daemon:
        daemon.wait_for("^said: waits$")
        assert daemon.stop() == code
        log = daemon.log()
    assert "said: blocked Stopped" in log
    assert "said: asking Stopped" in log
    assert "said: on_stop 0" in log
    assert "Traceback" not in log
    assert "not ended" not in log


@pytest_twisted.ensureDeferred
async def test_the_last_broadcast_arrives(
    tmp_path: Path, redis_server: RedisServer, redis_buses: list[RedisBus], reactor: Any
) -> None:
    """What ``on_stop`` broadcasts reaches others before the daemon lets go of the bus."""
    bus = redis_buses[0]
    farewell: Deferred[bytes] = Deferred()
    await in_time(bus.subscribe("farewell", lambda _, message: farewell.callback(message)))
    with running_daemon(tmp_path, BLOCKED, "--redis", redis_server.url) as daemon:
        daemon.wait_for("^said: waits$")
        daemon.stop()
    assert await in_time(farewell) == b'{"text":"bye"}'


# --- logs ------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "{log_logger.__init__.__globals__}",
    "{}",
    "{text}",
    "{0.__class__}",
    "%s%n%(name)s",
    "{log_source!r:>99999999}",
    "{{}}",
]
LOGGED = f"""{IMPORTS}
@app.action("log")
def log(request):
    logger.info(request.payload)
    logger.warning("as a field: {{it}}", it=request.payload)
    logger.error("as an argument: %s", request.payload)

@app.listen("news")
async def heard(message):
    logger.info(message["text"])

@app.on_start(reactor=True)
async def start():
    for text in {HOSTILE!r}:
        await me.send_request("log", text)
        await broadcast.send("news", {{"text": f"news: {{text}}"}})
    await me.send_request("log", "that is all")
"""


def test_payloads_in_the_log(tmp_path: Path, bus_options: tuple[str, ...]) -> None:
    """What came in a message and is logged appears literally, whatever format it looks like."""
    with running_daemon(tmp_path, LOGGED, *bus_options) as daemon:
        daemon.wait_for("as an argument: that is all$")
        log = daemon.log()
    for text in HOSTILE:
        for line in (text, f"as a field: {text}", f"as an argument: {text}", f"news: {text}"):
            assert re.search(rf": {re.escape(line)}$", log, re.MULTILINE), (line, log)
    assert "__builtins__" not in log
    assert "Traceback" not in log


# --- a bus that comes and goes ---------------------------------------------------------------------------------------

CALLING = f"""{IMPORTS}
runs = 0

@app.sensor("a", every=0.1)
def measure():
    global runs
    runs += 1
    if runs == 2:
        say("has measured")
    return 1

@app.command(name="call")
def call(service: str):
    try:
        return app.caller(service).send_request("echo", "an echo")
    except Exception as error:
        return type(error).__name__

@app.command(name="send")
def send():
    try:
        return app.broadcast.send("news", {{}})
    except Exception as error:
        return type(error).__name__

@app.action("echo")
def echo(request):
    return request.payload
"""


def test_redis_comes_and_goes(tmp_path: Path) -> None:
    """Without Redis all else is served and calls fail with `BusUnavailable`; with it all works, without a restart."""
    with RedisServer() as server:
        server.kill()
        with running_daemon(tmp_path, CALLING, "--redis", server.url) as daemon:

            def state() -> tuple[int, list[Any]]:
                return get(daemon, "/ready")[0], [
                    get(daemon, path)[1] for path in ("/cmd?name=call&service=test", "/cmd?name=send")
                ]

            daemon.wait_for("is not connected: ")
            daemon.wait_for("^said: has measured$")
            assert get(daemon, "/data") == (200, {"a": 1})
            assert state() == (503, ["BusUnavailable", "BusUnavailable"])
            assert re.search(
                rf"Redis at 127\.0\.0\.1:{server.port} is not connected since .*refused", str(get(daemon, "/ready"))
            )
            server.start()
            daemon.wait_for("is connected$")
            assert state() == (200, ["an echo", 0])
            assert get(daemon, "/cmd?name=call&service=nobody") == (200, "NoResponders")
            server.kill()
            daemon.wait_for(r"is connected$[\s\S]*is not connected: ")
            assert state() == (503, ["BusUnavailable", "BusUnavailable"])
            assert get(daemon, "/data") == (200, {"a": 1})
            server.start()
            daemon.wait_for(r"is connected$[\s\S]*is connected$")
            assert state() == (200, ["an echo", 0])
            assert daemon.stop() == -signal.SIGTERM
            assert "Traceback" not in daemon.log()
