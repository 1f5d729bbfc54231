"""The gateway of a real daemon with the embedded bus: actions, other services, broadcasts and streams over HTTP."""

import http.client
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import PATIENCE, Daemon, running_daemon

APP = """
from rpiserve import App, response

app = App("house")


@app.action("double")
def double(request):
    response.progress({"seen": request.payload["number"]})
    return request.payload["number"] * 2


@app.action("broken")
def broken():
    raise ValueError("the password is 12345")
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon with actions."""
    with running_daemon(tmp_path, APP) as daemon:
        yield daemon


def ask(daemon: Daemon, target: str, method: str = "POST", body: str = "{}", **headers: str) -> Any:
    """Send a request, and return the answer with its connection."""
    connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
    connection.request(
        method, target, body if method == "POST" else None, {"Content-Type": "application/json"} | headers
    )
    answer: Any = connection.getresponse()
    answer.connection = connection
    return answer


def outcome(answer: Any) -> tuple[int, Any]:
    """Return the status and the body, and close the connection."""
    status, body = answer.status, json.loads(answer.read())
    answer.connection.close()
    return status, body


def next_event(answer: Any) -> tuple[str, Any]:
    """Read a stream until its next event, and return that."""
    while not (line := answer.readline()).startswith(b"event: "):
        assert line, "the stream has ended"
    data = answer.readline().removeprefix(b"data: ")
    return line.removeprefix(b"event: ").decode().strip(), json.loads(data)


@pytest.mark.parametrize("base", ["/actions", "/services/house"])
def test_actions(daemon: Daemon, base: str) -> None:
    """The daemon's own actions answer directly and by the bus, with progress as events for who wants it."""
    number = '{"number": 21}'
    assert outcome(ask(daemon, f"{base}/double", body=number)) == (200, 42)
    stream = ask(daemon, f"{base}/double", body=number, Accept="text/event-stream")
    assert stream.getheader("Content-Type") == "text/event-stream"
    assert next_event(stream) == ("progress", {"seen": 21})
    assert next_event(stream) == ("result", 42)
    assert stream.read().strip() == b""
    stream.connection.close()


def test_errors(daemon: Daemon) -> None:
    """What goes wrong has its status and code, and an exception's text stays at home."""
    status, problem = outcome(ask(daemon, "/actions/none"))
    assert (status, problem["code"]) == (404, "unknown_action")
    status, problem = outcome(ask(daemon, "/services/house/none"))
    assert (status, problem["code"], problem["remote_code"]) == (404, "remote_error", "unknown_action")
    status, problem = outcome(ask(daemon, "/services/nobody/get"))
    assert (status, problem["code"]) == (503, "no_responders")
    for target, expected, member in (("/actions/broken", 500, "code"), ("/services/house/broken", 502, "remote_code")):
        status, problem = outcome(ask(daemon, target))
        assert (status, problem[member]) == (expected, "handler_error")
        assert "12345" not in str(problem)
        daemon.wait_for(problem["incident"])


def test_broadcasts(daemon: Daemon) -> None:
    """What is published over HTTP is heard over HTTP, and SIGTERM ends an open stream and the daemon with it."""
    stream = ask(daemon, "/events?types=broadcast&channel=sensors.*", "GET")
    assert outcome(ask(daemon, "/broadcasts/sensors.attic", body='{"t": 21.5}')) == (200, {"receivers": 1})
    assert outcome(ask(daemon, "/broadcasts/other")) == (200, {"receivers": 0})
    assert next_event(stream) == ("broadcast", {"channel": "sensors.attic", "payload": {"t": 21.5}})
    assert daemon.stop() == -signal.SIGTERM  # by which twistd ends itself when all has been closed
    assert b"event" not in stream.read()  # up to its proper end
    stream.connection.close()
    assert "not ended within" not in daemon.log()
