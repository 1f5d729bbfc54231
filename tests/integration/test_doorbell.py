"""The doorbell as its users have it, and commands in real threads behind real sockets."""

import http.client
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import PATIENCE, Daemon, running_daemon, until

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PAGES = EXAMPLES / "www"
JSON = {"Content-Type": "application/json"}


class Answer:
    """An answer as it was read."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    def json(self) -> Any:
        """Return what the body says."""
        return json.loads(self.body)


def ask(
    daemon: Daemon, path: str, method: str = "GET", body: str | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """Send a request, and return its answer."""
    connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
    try:
        connection.request(method, path, None if body is None else body.encode(), headers or {})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def call(daemon: Daemon, name: str, **arguments: Any) -> Answer:
    """Call a command as a page does."""
    return ask(daemon, "/cmd", "POST", json.dumps({"Command": {"Name": name, "Args": arguments}}), JSON)


# --- the doorbell -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def doorbell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The example, with its pages."""
    source = (EXAMPLES / "doorbell.py").read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("doorbell")
    with running_daemon(folder, source, "--www", str(PAGES), env={"GPIOZERO_PIN_FACTORY": "mock"}) as daemon:
        yield daemon
        daemon.stop()
        assert "Traceback" not in daemon.log()


def test_list(doorbell: Daemon) -> None:
    """The page finds both commands, with what it makes its forms of."""
    switch, state = (entry["Command"] for entry in ask(doorbell, "/cmds").json()["Commands"])
    assert switch["Name"] == "theDoorBell.switchDoorBell"
    assert switch["URL"] == "/cmd?name=theDoorBell.switchDoorBell&onoff="
    assert switch["Schema"]["properties"] == {"onoff": {"enum": ["off", "on"]}}
    assert switch["Schema"]["required"] == ["onoff"]
    assert switch["Doc"] == "Switch the doorbell on or off, and return its state."
    assert (state["Name"], state["Args"]) == ("theDoorBell.getCurrentState", {})


def test_switch_by_post(doorbell: Daemon) -> None:
    """A POST switches it, and returns all that was sent with it as it was."""
    for state in ("off", "on"):
        body = (
            '{"from": "garden", "n": 1.10, "Command": {"Name": "theDoorBell.switchDoorBell", '
            f'"Args": {{"onoff": "{state}"}}, "id": [1e2, "\\u00e9"]}}, "after": null}}'
        )
        for path in ("/", "/cmd"):
            answer = ask(doorbell, path, "POST", body, JSON)
            assert answer.status == 200
            assert answer.body.decode() == (
                '{"from":"garden","n":1.10,"Command":{"Name":"theDoorBell.switchDoorBell",'
                f'"Args":{{"onoff": "{state}"}},"id":[1e2, "\\u00e9"],"Result":"{state}"}},"after":null}}'
            )
        assert call(doorbell, "theDoorBell.getCurrentState").json()["Command"]["Result"] == state


def test_switch_by_get(doorbell: Daemon) -> None:
    """A GET switches it, too, and the sensor notices."""
    for state in ("off", "on"):
        assert ask(doorbell, f"/cmd?name=theDoorBell.switchDoorBell&onoff={state}").json() == state
        assert ask(doorbell, "/cmd?name=theDoorBell.getCurrentState").json() == state
    until(lambda: ask(doorbell, "/data/doorbell/state").body == b'"on"')
    assert ask(doorbell, "/data/doorbell/pins").status == 200


def test_wrong_argument(doorbell: Daemon) -> None:
    """A wrong argument is named, and switches nothing."""
    before = ask(doorbell, "/cmd?name=theDoorBell.getCurrentState").json()
    for answer in (
        call(doorbell, "theDoorBell.switchDoorBell", onoff="maybe"),
        ask(doorbell, "/cmd?name=theDoorBell.switchDoorBell&onoff=maybe"),
    ):
        assert answer.status == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert [error["argument"] for error in answer.json()["errors"]] == ["onoff"]
        assert "onoff: " in answer.json()["detail"]
    assert ask(doorbell, "/cmd?name=theDoorBell.getCurrentState").json() == before


def test_unknown_command(doorbell: Daemon) -> None:
    """A command that there is not is not found."""
    assert call(doorbell, "theDoorBell.ring").status == 404
    answer = ask(doorbell, "/cmd?name=theDoorBell.ring")
    assert answer.status == 404
    assert answer.json()["detail"] == "there is no command 'theDoorBell.ring'; /cmds lists them"


def test_page(doorbell: Daemon) -> None:
    """The page is served with all that it needs, each with a type that a browser takes, from this daemon alone."""
    assert ask(doorbell, "/www").headers["location"] == "./www/"
    page = ask(doorbell, "/www/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.body == (PAGES / "index.html").read_bytes()
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert sorted(wanted) == ["commands.js", "data:,", "style.css"]
    script, style = ask(doorbell, "/www/commands.js"), ask(doorbell, "/www/style.css")
    assert script.body == (PAGES / "commands.js").read_bytes()
    assert script.headers["content-type"] in ("text/javascript; charset=utf-8", "application/javascript")
    assert style.headers["content-type"] == "text/css; charset=utf-8"
    assert re.findall(r'fetch\("([^"]+)"', script.body.decode()) == ["/cmd", "/cmds"]
    assert b"//" not in re.sub(rb"^//.*$", b"", script.body, flags=re.MULTILINE)


def test_requests_of_the_page(doorbell: Daemon) -> None:
    """What a browser sends along for this page is let in, and for a page from elsewhere it is not."""
    own = {"Origin": doorbell.url, "Sec-Fetch-Site": "same-origin", "Referer": f"{doorbell.url}/www/"}
    foreign = {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}
    body = '{"Command":{"Name":"theDoorBell.switchDoorBell","Args":{"onoff":"%s"}}}'
    path = "/cmd?name=theDoorBell.switchDoorBell&onoff=%s"
    assert ask(doorbell, "/cmd", "POST", body % "on", JSON | own).status == 200
    assert ask(doorbell, "/cmd", "POST", body % "off", JSON | foreign).status == 403
    assert ask(doorbell, "/cmd", "POST", body % "off", JSON | {"Origin": "null"}).status == 403
    assert ask(doorbell, path % "off", headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    assert ask(doorbell, path % "off", headers={"Host": f"0.0.0.0:{doorbell.port}"}).status == 403
    assert ask(doorbell, path % "off", "HEAD").status == 405
    assert ask(doorbell, "/cmd?name=theDoorBell.getCurrentState").json() == "on"


def test_large_pages(tmp_path: Path) -> None:
    """A large file arrives whole, and in part; a client that stops reading it does no harm."""
    content = os.urandom(1 << 20) * 8
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "large.bin").write_bytes(content)
    with running_daemon(tmp_path, "from rpiserve import App\napp = App('x')\n", "--www", "www") as daemon:
        with socket.create_connection((daemon.host, daemon.port), PATIENCE) as leaving:
            leaving.sendall(b"GET /www/large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert leaving.recv(1000).startswith(b"HTTP/1.1 200")
        assert ask(daemon, "/www/large.bin").body == content
        part = ask(daemon, "/www/large.bin", headers={"Range": "bytes=5000000-"})
        assert (part.status, part.body) == (206, content[5000000:])
        daemon.stop()
        assert "Traceback" not in daemon.log()


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """A folder that is not there fails the start, in one line."""
    line = r"^.*--www nothing: there is no such folder.*$"
    with running_daemon(
        tmp_path, "from rpiserve import App\napp = App('x')\n", "--www", "nothing", ready=line
    ) as daemon:
        assert daemon.wait() == 1
        assert "Traceback" not in daemon.log()


# --- commands in threads ----------------------------------------------------------------------------------------------

MACHINES = """
import threading

from rpiserve import App

app = App("machines")
app.data["it"] = "served"


class Gate:
    def __init__(self):
        self.entered, self.open, self.left = threading.Event(), threading.Event(), threading.Event()

    def wait(self):
        self.entered.set()
        assert self.open.wait(30)
        self.left.set()


class Machine:
    def __init__(self):
        self.gate = Gate()
        self.inside = self.most = 0
        self.numbers = []

    def hang(self):
        self.gate.wait()

    def work(self):
        self.gate.wait()
        return "done"

    def count(self, number: int):
        self.inside += 1
        self.most = max(self.most, self.inside)
        threading.Event().wait(0.001)
        self.numbers.append(number)
        self.inside -= 1
        return number

    def sum(self) -> list:
        return [len(self.numbers), sum(self.numbers), self.most]


left, hung, counted, other = Machine(), Machine(), Machine(), Machine()
app.add_command(left.work)
app.add_command(hung.hang, timeout=0.3)
app.add_command(hung.sum)
app.add_command(counted.count)
app.add_command(counted.sum)
app.add_command(other.sum)

gates = {"left": left.gate, "hung": hung.gate}


@app.command(concurrent=True)
def entered(gate: str) -> bool:
    return gates[gate].entered.wait(30)


@app.command(concurrent=True)
def release(gate: str) -> bool:
    gates[gate].open.set()
    return gates[gate].left.wait(30)
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with commands that hang until they are told otherwise."""
    with running_daemon(tmp_path_factory.mktemp("machines"), MACHINES) as daemon:
        yield daemon
        daemon.stop()
        assert "Traceback" not in daemon.log()


def test_a_client_that_leaves(machines: Daemon) -> None:
    """A command whose client has closed its connection runs to its end, and answers nobody."""
    with socket.create_connection((machines.host, machines.port), PATIENCE) as client:
        client.sendall(b"GET /cmd?name=left.work HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert call(machines, "entered", gate="left").json()["Command"]["Result"] is True
    assert call(machines, "release", gate="left").json()["Command"]["Result"] is True
    assert ask(machines, "/cmd?name=left.work").json() == "done"


def test_a_hundred_at_once(machines: Daemon) -> None:
    """A hundred clients at once get an answer each, while the commands of the object take their turns."""
    clients = [socket.create_connection((machines.host, machines.port), PATIENCE) for _ in range(100)]
    for number, client in enumerate(clients):
        path = f"/cmd?name=counted.count&number={number}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    for number, client in enumerate(clients):
        with client, client.makefile("rb") as stream:
            assert stream.read().endswith(f"\r\n\r\n{number}".encode())
    assert call(machines, "counted.sum").json()["Command"]["Result"] == [100, 4950, 1]


def test_a_hung_command(machines: Daemon) -> None:
    """One that hangs is answered in time; until its thread returns its object is busy, and all else is served."""
    late = call(machines, "hung.hang")
    assert (late.status, late.json()["detail"]) == (504, "it took too long: no end within 0.3 s")
    held = ask(machines, "/cmd?name=hung.sum")
    assert (held.status, held.json()["detail"]) == (503, "hung is held by 'hung.hang', which hangs")
    assert ask(machines, "/cmd?name=other.sum").json() == [0, 0, 0]
    assert ask(machines, "/data").json() == {"it": "served"}
    assert ask(machines, "/health").status == 200
    assert call(machines, "release", gate="hung").json()["Command"]["Result"] is True
    until(lambda: ask(machines, "/cmd?name=hung.sum").status == 200)
    machines.wait_for("hung.hang has ended at last; its result came too late")
