"""The app's own routes in a real daemon: threads that block, the reactor beside them, and clients that leave."""

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from daemon import PATIENCE, Daemon, running_daemon, until

APP = """
import os
import threading

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater

from rpiserve import App, Blueprint, HttpError, logger, request, response

app = App("routes", max_workers=2)
app.data["it"] = "served"


class Gate:
    def __init__(self):
        self.entered, self.left = threading.Semaphore(0), threading.Semaphore(0)
        self.open = threading.Event()
        self.seen = 0


gates = {}


def gate_of(name):
    return gates.setdefault(name, Gate())


def in_thread():
    return threading.current_thread() is not threading.main_thread()


@app.route("/block/<name>", timeout=20)
def block(req, name):
    gate = gate_of(name)
    gate.seen += 1
    assert gate.open.wait(30)
    gate.left.release()
    return {"name": name, "in_thread": in_thread()}, 201


@app.route("/hang/<name>", timeout=0.3)
def hang(name):
    gate = gate_of(name)
    gate.seen += 1
    assert gate.open.wait(30)
    return "late"


@app.route("/seen/<name>")
async def seen(req, name):
    return gate_of(name).seen


@app.route("/open/<name>", methods=["POST"])
async def open_gate(req, name):
    gate_of(name).open.set()


@app.route("/left/<name>")
def left(name):
    return gate_of(name).left.acquire(timeout=30)


@app.route("/where/async")
async def where_async(req):
    return in_thread()


@app.route("/where/inline", reactor=True)
@inlineCallbacks
def where_inline(req):
    from twisted.internet import reactor

    yield deferLater(reactor, 0)
    return in_thread(), 202


@app.route("/echo", methods=["POST"])
def echo(req):
    return response.send({"payload": request.payload, "in_thread": in_thread()})


@app.route("/large")
def large(req):
    return b"x" * 8_000_000


@app.route("/broken")
def broken(req):
    raise RuntimeError("the password is 12345")


@app.route("/fifo")
def fifo(req):
    logger.info("the route runs")
    with open("fifo") as stream:
        return stream.read()


@app.route("/waits")
async def waits(req):
    logger.info("the route waits")
    try:
        await Deferred()
    finally:
        logger.info("the route cleans up")


pages = Blueprint("pages", "/pages")


@pages.route("/<path:rest>")
def page(req, rest):
    return response.send(f"<p>{len(rest)}</p>", content_type="text/html")


app.register_blueprint(pages)
"""


@attrs.frozen
class Answer:
    """An answer as it was read."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return what the body says."""
        return json.loads(self.body)


def read(response: http.client.HTTPResponse) -> Answer:
    """Read an answer to its end."""
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


@contextmanager
def asking(daemon: Daemon, path: str, method: str = "GET", body: Any = None) -> Iterator[http.client.HTTPConnection]:
    """Send a request, and close the connection at the end of the block."""
    connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        yield connection
    finally:
        connection.close()


def ask(daemon: Daemon, path: str, method: str = "GET", body: Any = None) -> Answer:
    """Send a request, and return its answer."""
    with asking(daemon, path, method, body) as connection:
        return read(connection.getresponse())


def until_entered(daemon: Daemon, gate: str, count: int = 1) -> None:
    """Wait until so many handlers stand before a gate."""
    until(lambda: ask(daemon, f"/seen/{gate}").json() == count)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with routes, two of which may block at a time."""
    with running_daemon(tmp_path_factory.mktemp("routes"), APP) as daemon:
        yield daemon
        daemon.stop()


def test_where_they_run(daemon: Daemon) -> None:
    """A ``def`` runs in a thread; an ``async def``, and what is declared with ``reactor=True``, on the reactor."""
    echoed = ask(daemon, "/echo?q=1", "POST", {"a": [1, "é"]})
    assert (echoed.status, echoed.json()) == (200, {"payload": {"a": [1, "é"]}, "in_thread": True})
    assert ask(daemon, "/where/async").json() is False
    inline = ask(daemon, "/where/inline")
    assert (inline.status, inline.json()) == (202, False)


def test_methods(daemon: Daemon) -> None:
    """HEAD is answered as GET is, without the body; other methods are named in ``Allow``."""
    get, head = ask(daemon, "/pages/a/b"), ask(daemon, "/pages/a/b", "HEAD")
    assert (get.status, get.body, get.headers["content-type"]) == (200, b"<p>3</p>", "text/html; charset=utf-8")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "8")
    other = ask(daemon, "/echo", "DELETE")
    assert (other.status, other.headers["allow"]) == (405, "OPTIONS, POST")
    assert ask(daemon, "/nothing").status == 404


def test_incident(daemon: Daemon) -> None:
    """What nobody foresaw is a 500 with an id that stands in the log beside the traceback; the text stays there."""
    answer = ask(daemon, "/broken")
    assert (answer.status, answer.headers["content-type"]) == (500, "application/problem+json")
    assert b"12345" not in answer.body
    daemon.wait_for(rf"GET /broken failed, incident {answer.json()['incident']}")
    daemon.wait_for("RuntimeError: the password is 12345")


def test_slow_routes_delay_nobody(daemon: Daemon) -> None:
    """While all threads block, what runs on the reactor and what rpiserve has itself is answered; the rest waits."""
    with asking(daemon, "/block/slow") as first, asking(daemon, "/block/slow") as second:
        until_entered(daemon, "slow", 2)
        with asking(daemon, "/echo", "POST", {"a": 1}) as waiting:
            assert ask(daemon, "/where/async").json() is False
            assert ask(daemon, "/data").json() == {"it": "served"}
            assert ask(daemon, "/open/slow", "POST").status == 200
            for connection in (first, second):
                answer = read(connection.getresponse())
                assert (answer.status, answer.json()) == (201, {"name": "slow", "in_thread": True})
            assert read(waiting.getresponse()).json()["payload"] == {"a": 1}


def test_a_client_that_leaves(daemon: Daemon) -> None:
    """A handler whose client has closed its connection runs to its end, and nobody else is the worse for it."""
    with asking(daemon, "/block/left"):
        until_entered(daemon, "left")
    ask(daemon, "/open/left", "POST")
    assert ask(daemon, "/left/left").json() is True
    assert ask(daemon, "/block/left").status == 201
    assert "Unhandled" not in daemon.log()


def test_a_client_that_leaves_an_answer(daemon: Daemon) -> None:
    """A client that reads only the beginning of a large answer does no harm; one that reads it all gets it whole."""
    with socket.create_connection((daemon.host, daemon.port), PATIENCE) as leaving:
        leaving.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert leaving.recv(1000).startswith(b"HTTP/1.1 200")
    assert ask(daemon, "/large").body == b"x" * 8_000_000
    assert "Unhandled" not in daemon.log()


def test_hanging_routes(daemon: Daemon) -> None:
    """What hangs is answered for in time; when as many hang as there are threads, more are refused until one ends."""
    for number in range(2):
        late = ask(daemon, f"/hang/{number}")
        assert (late.status, late.json()["detail"]) == (504, "it took too long: no end within 0.3 s")
    refused = ask(daemon, "/echo", "POST", {"a": 1})
    assert (refused.status, refused.json()["detail"]) == (503, "2 requests hang; try again later")
    assert ask(daemon, "/where/async").json() is False
    assert ask(daemon, "/data").json() == {"it": "served"}
    assert ask(daemon, "/open/0", "POST").status == 200
    until(lambda: ask(daemon, "/echo", "POST", {"a": 1}).status == 200)
    daemon.wait_for("GET /hang/<name> has ended at last; its result came too late")
    assert ask(daemon, "/open/1", "POST").status == 200


def test_many_at_once(daemon: Daemon) -> None:
    """A hundred clients of two threads get an answer each."""
    clients = [socket.create_connection((daemon.host, daemon.port), PATIENCE) for _ in range(100)]
    for number, client in enumerate(clients):
        client.sendall(f"GET /pages/{'x' * number}y HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    for number, client in enumerate(clients):
        with client, client.makefile("rb") as stream:
            assert stream.read().endswith(f"\r\n\r\n<p>{number + 1}</p>".encode())


def is_closed(daemon: Daemon) -> bool:
    """Tell whether the daemon takes no more connections."""
    try:
        socket.create_connection((daemon.host, daemon.port), PATIENCE).close()
    except ConnectionError:
        return True
    return False


def test_end_while_a_route_runs(tmp_path: Path) -> None:
    """At SIGTERM a route that runs ends in peace, and its client gets the answer; new ones are not let in."""
    os.mkfifo(tmp_path / "fifo")
    with running_daemon(tmp_path, APP, "--stop-timeout", "60") as daemon, asking(daemon, "/fifo") as connection:
        daemon.wait_for("the route runs")
        daemon.process.terminate()
        until(lambda: is_closed(daemon))
        (tmp_path / "fifo").write_text("in time", encoding="utf-8")
        assert read(connection.getresponse()).json() == "in time"
        assert daemon.wait() == -signal.SIGTERM
        assert "not ended within" not in daemon.log()
        assert "Traceback" not in daemon.log()


def test_end_while_routes_hang(tmp_path: Path) -> None:
    """When the time for it is up, what waits on the reactor may clean up, no client waits on, and the process ends."""
    os.mkfifo(tmp_path / "fifo")
    with (
        running_daemon(tmp_path, APP, "--stop-timeout", "2") as daemon,
        asking(daemon, "/waits") as waits,
        asking(daemon, "/fifo"),
    ):
        daemon.wait_for("the route waits")
        daemon.wait_for("the route runs")
        daemon.process.terminate()
        assert waits.sock.makefile("rb").read().startswith(b"HTTP/1.1 503")
        daemon.wait()
        log = daemon.log()
    assert "the route cleans up" in log
    assert "GET /fifo" in log
    assert "Traceback" not in log
