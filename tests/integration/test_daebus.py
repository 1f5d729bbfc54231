"""Daebus 0.0.31 as the other side: its callers and services with ours, over one Redis server."""

import http.client
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from daemon import PATIENCE, Daemon, completed, running, running_daemon
from redis_server import RedisServer

from rpiserve import Caller, CallTimeout, RemoteError

PEERS = Path(__file__).with_name("daebus_peers")
THEIRS, OURS = "daebus-service", "our-service"

APP = """
import json
from typing import TypedDict

from rpiserve import App, RemoteError, broadcast, logger, request, response

app = App("our-service")
daebus = app.caller("daebus-service", timeout=30)


class Lamp(TypedDict):
    level: float


def told(kind, message):
    logger.info("told " + json.dumps([kind, message]))


@app.action("greet")
def greet():
    return {"message": f"Hello, {request.payload['name']}!"}


@app.action("fail")
def fail():
    response.error(ValueError("the lamp is broken"))


@app.action("crash")
def crash():
    raise ValueError("nobody's business")


@app.action("count")
def count():
    for number in (1, 2, 3):
        response.progress({"number": number}, number * 25)
    return {"sum": 6}


@app.action("dim")
def dim(lamp: Lamp):
    return lamp


@app.action("note")
def note():
    told("note", request.raw)


@app.listen("our-news")
def our_news(message):
    told("our-news", message)


@app.command(concurrent=True)
def ask(action: str, payload: dict) -> dict:
    progress = []
    try:
        result = daebus.send_request(action, payload, on_progress=progress.append)
    except RemoteError as error:
        return {"error": str(error), "code": error.code}
    return {"result": result, "progress": progress}


@app.command(concurrent=True)
def announce(channel: str, message: dict) -> int:
    return broadcast.send(channel, message)


@app.command(concurrent=True)
def tell(action: str, message: dict) -> int:
    return daebus.send_to_service(message, action)
"""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """The Redis server between them."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def theirs(redis: RedisServer) -> Iterator[Daemon]:
    """A Daebus service, a process of its own."""
    with running([sys.executable, PEERS / "service.py", str(redis.port)]) as service:
        service.wait_for("^ready$")
        yield service


@pytest.fixture(scope="module")
def ours(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A service of rpiserve's."""
    with running_daemon(tmp_path_factory.mktemp("ours"), APP, "--redis", redis.url) as daemon:
        daemon.wait_for("is connected")
        yield daemon


def daebus_calls(redis: RedisServer, service: str, method: str, *arguments: Any) -> Any:
    """Have a DaebusCaller call a method, and return what it says of that."""
    done = completed([sys.executable, PEERS / "caller.py", str(redis.port), service, method, json.dumps(arguments)])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def command(daemon: Daemon, name: str, **arguments: Any) -> Any:
    """Call a command of ours, and return its result."""
    connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
    try:
        body = json.dumps({"Command": {"Name": name, "Args": arguments}})
        connection.request("POST", "/cmd", body, {"Content-Type": "application/json"})
        return json.loads(connection.getresponse().read())["Command"]["Result"]
    finally:
        connection.close()


def line(kind: str, message: Any) -> str:
    """Return a pattern for the line by which a peer says that it has got a message."""
    return re.escape(json.dumps([kind, message]))


PROGRESS = [{"number": number, "progress_percentage": number * 25} for number in (1, 2, 3)]


class TestTheirCaller:
    """A DaebusCaller, with our service."""

    def test_success(self, redis: RedisServer, ours: Daemon) -> None:
        """It gets what our action returns."""
        told = daebus_calls(redis, OURS, "send_request", "greet", {"name": "Ada"})
        assert told == {"result": {"message": "Hello, Ada!"}, "progress": []}

    def test_error(self, redis: RedisServer, ours: Daemon) -> None:
        """It raises the text of the error that our action gives."""
        told = daebus_calls(redis, OURS, "send_request", "fail", {})
        assert told == {"error": "the lamp is broken", "kind": "Exception", "progress": []}

    def test_exception(self, redis: RedisServer, ours: Daemon) -> None:
        """It raises at once what our action has raised, by its class and not by its text."""
        told = daebus_calls(redis, OURS, "send_request", "crash", {})
        assert told == {"error": "crash raised ValueError", "kind": "Exception", "progress": []}

    def test_progress(self, redis: RedisServer, ours: Daemon) -> None:
        """It gets each progress with its percentage, and then the result."""
        told = daebus_calls(redis, OURS, "send_request", "count", {})
        assert told == {"result": {"sum": 6}, "progress": PROGRESS}

    def test_unknown_action(self, redis: RedisServer, ours: Daemon) -> None:
        """It is told that there is no such action, and does not wait in vain."""
        told = daebus_calls(redis, OURS, "send_request", "nothing", {})
        assert told == {"error": "our-service has no action 'nothing'", "kind": "Exception", "progress": []}

    def test_invalid_payload(self, redis: RedisServer, ours: Daemon) -> None:
        """It is told which member of its payload does not fit."""
        told = daebus_calls(redis, OURS, "send_request", "dim", {"level": "bright"})
        assert told["error"].startswith("level: ")
        assert daebus_calls(redis, OURS, "send_request", "dim", {"level": 0.5})["result"] == {"level": 0.5}

    def test_direct_message(self, redis: RedisServer, ours: Daemon) -> None:
        """What it sends to our service without a request reaches the action, and has one receiver."""
        told = daebus_calls(redis, OURS, "send_to_service", {"text": "hello"}, "note")
        assert told["result"] == 1
        ours.wait_for(line("note", {"text": "hello", "action": "note"}))

    def test_message(self, redis: RedisServer, ours: Daemon) -> None:
        """What it sends to a channel reaches our listener."""
        told = daebus_calls(redis, OURS, "send_message", "our-news", {"from": "a caller"})
        assert told["result"] == 1
        ours.wait_for(line("our-news", {"from": "a caller"}))


class TestTheirService:
    """A Daebus service, with our service as the other side."""

    def test_call(self, redis: RedisServer, ours: Daemon, theirs: Daemon) -> None:
        """It calls our action from within its own, and the answer comes back through both."""
        payload = {"service": OURS, "action": "greet", "payload": {"name": "Ada"}}
        assert command(ours, "ask", action="forward", payload=payload) == {
            "result": {"said": {"message": "Hello, Ada!"}},
            "progress": [],
        }

    def test_broadcast(self, ours: Daemon, theirs: Daemon) -> None:
        """What it broadcasts reaches our listener."""
        payload = {"channel": "our-news", "message": {"from": "a service"}}
        assert command(ours, "ask", action="announce", payload=payload)["result"] == {"receivers": 1}
        ours.wait_for(line("our-news", {"from": "a service"}))

    def test_our_broadcast(self, ours: Daemon, theirs: Daemon) -> None:
        """What we broadcast reaches its listener."""
        assert command(ours, "announce", channel="news", message={"from": "a daemon"}) == 1
        theirs.wait_for(line("news", {"from": "a daemon"}))

    def test_our_direct_message(self, ours: Daemon, theirs: Daemon) -> None:
        """What we send to it without a request reaches its action."""
        assert command(ours, "tell", action="note", message={"from": "a daemon"}) == 1
        theirs.wait_for(line("note", {"from": "a daemon", "action": "note"}))


class TestCallerOfDaemon:
    """``app.caller``, in a thread of our daemon, with a Daebus service."""

    def test_success_and_progress(self, ours: Daemon, theirs: Daemon) -> None:
        """It returns the result, and gets each progress on the way."""
        assert command(ours, "ask", action="count", payload={}) == {"result": {"sum": 6}, "progress": PROGRESS}

    def test_error(self, ours: Daemon, theirs: Daemon) -> None:
        """It raises a RemoteError with the text of the error, and no code, since Daebus has none."""
        assert command(ours, "ask", action="fail", payload={}) == {"error": "the pump is dry", "code": None}


@pytest.fixture
def caller(redis: RedisServer, theirs: Daemon) -> Iterator[Caller]:
    """A caller in a program that is no daemon."""
    caller = Caller(THEIRS, redis.url, timeout=PATIENCE)
    yield caller
    pytest_twisted.blockon(caller.close())


class TestOurCaller:
    """A Caller on the reactor, with a Daebus service."""

    @pytest_twisted.ensureDeferred
    async def test_success(self, caller: Caller) -> None:
        """It gets what the Daebus action answers."""
        assert await caller.send_request("greet", {"name": "Ada"}) == {"message": "Hello, Ada!"}

    @pytest_twisted.ensureDeferred
    async def test_error(self, caller: Caller) -> None:
        """An error is a RemoteError with its text, and no code, since Daebus has none."""
        with pytest.raises(RemoteError) as caught:
            await caller.send_request("fail")
        assert (str(caught.value), caught.value.code, caught.value.incident) == ("the pump is dry", None, None)

    @pytest_twisted.ensureDeferred
    async def test_progress(self, caller: Caller) -> None:
        """Each progress arrives with its percentage, and then the result."""
        progress: list[Any] = []
        assert await caller.send_request("count", on_progress=progress.append) == {"sum": 6}
        assert progress == PROGRESS

    @pytest.mark.parametrize("action", ["nothing", "crash"])
    @pytest_twisted.ensureDeferred
    async def test_no_answer(self, caller: Caller, action: str) -> None:
        """What Daebus never answers, an unknown action or one that raises, is given up when its time is up."""
        with pytest.raises(CallTimeout):
            await caller.send_request(action, timeout=0.1)
        assert await caller.send_request("greet", {"name": "Ada"}) == {"message": "Hello, Ada!"}

    @pytest_twisted.ensureDeferred
    async def test_many(self, caller: Caller) -> None:
        """A hundred requests at once get the answer that belongs to each."""
        waiting = [caller.send_request("greet", {"name": number}) for number in range(100)]
        answers = [(await each)["message"] for each in waiting]
        assert answers == [f"Hello, {number}!" for number in range(100)]

    @pytest_twisted.ensureDeferred
    async def test_messages(self, caller: Caller, theirs: Daemon) -> None:
        """A direct message reaches its action, and a message to a channel its listener; each has one receiver."""
        assert await caller.send_to_service({"from": "a caller"}, action="note") == 1
        theirs.wait_for(line("note", {"from": "a caller", "action": "note"}))
        assert await caller.send_message("news", {"from": "a caller"}) == 1
        theirs.wait_for(line("news", {"from": "a caller"}))
