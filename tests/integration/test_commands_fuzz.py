"""Ten thousand requests that nobody should send: each is answered, and only the commands they name have run."""

import json
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest
from command_peer import make_command_site
from daemon import PATIENCE, running_daemon
from http_peer import Peer, parse_answers
from twisted.internet.task import Clock

from rpiserve import App

IN_MEMORY = 9_500
BY_SOCKET = 500
SEED = 3

ARGUMENTS = {
    "bell.switch": ["onoff"],
    "echo": ["it"],
    "many": ["flags", "at", "it"],
    "numbers": ["n", "at"],
    "open": ["it", "n", "others"],
}
NAMES = [*ARGUMENTS]
GOOD = {"onoff": "on", "it": "[1]", "flags": '["on",0]', "at": '{"a":1}', "n": "3", "others": "x"}
NO_NAMES = [
    *("", "bell", "bell.", ".switch", "bell.switch.__call__", "bell.__class__", "bell.__init__", "bell.secret", "Echo"),
    *(
        "echo ",
        "ECHO",
        "echo\0",
        "os.system",
        "__import__('os').system('touch x')",
        "../echo",
        "never",
        "x" * 3000,
        "é",
    ),
]
TEXTS = [
    *(
        "on",
        "off",
        "1",
        "-1",
        "1.5",
        "nan",
        "inf",
        "1e400",
        "null",
        "true",
        "",
        " ",
        "[1,2]",
        '{"a":1}',
        "[" * 100,
        "x" * 999,
    ),
    *(
        "\0",
        "\u2028",
        "é",
        "😀",
        "'; drop",
        "<script>",
        "%s%n",
        "{0}",
        "${x}",
        "__class__",
        "9" * 400,
        '["on"]',
        '{"x":',
    ),
]
NUMBERS = ["0", "-1", "1.5", "1e400", "-1e-400", "9" * 400, "1E5", "-0", "01", "+1", "NaN", "Infinity", "0x1", "1."]
KEYS = ["onoff", "it", "flags", "at", "n", "name", "Name", "self", "", "__class__", "kwargs", "others", "x", "é", "a.b"]


class Fuzzer:
    """Makes up requests.

    Args:
        seed: what they come from.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._makers: list[Callable[[], bytes]] = [self._post, self._post, self._get]

    def requests(self, count: int) -> Iterator[bytes]:
        """Make up ``count`` requests."""
        for _ in range(count):
            yield self._random.choice(self._makers)()

    def _chance(self, part: float) -> bool:
        return self._random.random() < part

    def _name(self) -> str:
        return self._random.choice(NAMES if self._chance(0.7) else NO_NAMES)

    def _value(self, depth: int = 0) -> str:
        """Return JSON, or nearly."""
        pick = self._random.random()
        if depth < 5 and pick < 0.3:
            items = [self._value(depth + 1) for _ in range(self._random.randrange(4))]
            if pick < 0.15:
                return f"[{','.join(items)}]"
            return "{" + ",".join(f"{self._text(KEYS)}:{item}" for item in items) + "}"
        if pick < 0.6:
            return self._text(TEXTS)
        if pick < 0.8:
            return self._random.choice(NUMBERS)
        return self._random.choice(
            ["true", "false", "null", '"\\ud800"', '"\\u0000"', '"\\q"', "", "[" * 40 + "]" * 40]
        )

    def _text(self, choices: list[str]) -> str:
        return json.dumps(self._random.choice(choices), ensure_ascii=self._chance(0.5))

    def _members(self, *known: str) -> str:
        members = [member for member in known if self._chance(0.95)]
        if self._chance(0.2):
            members += [f"{self._text(KEYS)}:{self._value()}" for _ in range(self._random.randrange(3))]
        self._random.shuffle(members)
        return "{" + ",".join(members) + "}"

    def _envelope(self) -> bytes:
        name = self._name()
        given = [f'"{key}":{self._argument(key)}' for key in ARGUMENTS.get(name, [])]
        arguments = self._members(*given) if self._chance(0.9) else self._value()
        named = json.dumps(name) if self._chance(0.95) else self._value()
        command = self._members(f'"Name":{named}', f'"Args":{arguments}') if self._chance(0.95) else self._value()
        return self._members(f'"Command":{command}').encode("utf-8", "surrogatepass")

    def _argument(self, key: str) -> str:
        if self._chance(0.3):
            return self._value()
        return GOOD[key] if GOOD[key][0] in "[{" and self._chance(0.7) else json.dumps(GOOD[key])

    def _post(self) -> bytes:
        body = bytearray(self._envelope())
        while body and self._chance(0.2):
            place = self._random.randrange(len(body))
            match self._random.randrange(4):
                case 0:
                    body[place] = self._random.randrange(256)
                case 1:
                    del body[place:]
                case 2:
                    del body[place : place + self._random.randrange(9)]
                case 3:
                    body[place:place] = self._random.choice([b'"', b"\\", b"{", b"]", b",", b"\xff", b"[" * 40, b"\0"])
        kind = self._random.choice(["application/json"] * 9 + ["text/plain"])
        return self._request("POST", self._random.choice(["/", "/cmd"]), [f"Content-Type: {kind}"], bytes(body))

    def _get(self) -> bytes:
        name = self._name()
        fields = [f"name={self._quoted(name)}"] if self._chance(0.95) else []
        fields += [f"{key}={self._quoted(GOOD[key])}" for key in ARGUMENTS.get(name, []) if self._chance(0.8)]
        for _ in range(self._random.randrange(3) if self._chance(0.4) else 0):
            value = self._quoted(self._random.choice(TEXTS))
            fields.append(f"{self._quoted(self._random.choice(KEYS))}={value}" if self._chance(0.9) else value)
        self._random.shuffle(fields)
        query = self._random.choice(["&"] * 9 + [";", "&&", "?", "%26", "#"]).join(fields)
        method = self._random.choice(["GET"] * 8 + ["HEAD", "OPTIONS", "PUT", "DELETE"])
        return self._request(method, f"/cmd?{query}", [], b"")

    def _quoted(self, text: str) -> str:
        if self._chance(0.05):
            return self._random.choice(["%", "%zz", "%ff", "%ed%a0%80", "%00", "+", "%2B", "%u1234"])
        return quote(text, safe=self._random.choice(["", "[]{}:,'\"<>;$"]).replace('"', "").replace("<", ""))

    def _request(self, method: str, path: str, headers: list[str], body: bytes) -> bytes:
        if self._chance(0.05):
            headers.append(
                self._random.choice(["Origin: null", "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"])
            )
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Bell:
    """Something with a method that is a command, and others that are none."""

    def __init__(self, ran: Counter[str]) -> None:
        self._ran = ran

    async def switch(self, onoff: Literal["on", "off"]) -> str:
        self._ran["bell.switch"] += 1
        assert onoff in ("on", "off")
        return onoff

    async def secret(self) -> None:
        self._ran["secret"] += 1


@pytest.fixture
def ran() -> Counter[str]:
    """How often what has run."""
    return Counter()


@pytest.fixture
def app(ran: Counter[str]) -> App:
    """An app with commands of many kinds."""
    app = App("fuzz")
    app.add_command(Bell(ran).switch, name="bell.switch")

    @app.command
    async def echo(it=None) -> Any:  # type: ignore[no-untyped-def]
        ran["echo"] += 1
        return it

    @app.command
    async def many(flags: list[bool], at: dict[str, float] | None = None, it: list[Any] | str = "") -> Any:
        ran["many"] += 1
        assert all(type(flag) is bool for flag in flags)
        return [flags, at, it]

    @app.command
    async def numbers(n: int | float, at: dict[str, float] | None = None) -> Any:
        ran["numbers"] += 1
        assert -float("inf") < n < float("inf")
        return [n, at]

    @app.command(name="open")
    async def open_(**others: Any) -> Any:
        ran["open"] += 1
        return others

    async def never() -> None:
        ran["never"] += 1

    assert never
    return app


def test_in_memory(app: App, ran: Counter[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is answered by a 5xx, and as many commands have run as answers say that one has."""
    monkeypatch.chdir(tmp_path)
    site = make_command_site(app, Clock())
    statuses: Counter[int] = Counter()
    for data in Fuzzer(SEED).requests(IN_MEMORY):
        before = ran.total()
        peer = Peer(site).send(data)
        (answer,) = peer.answers(data.split(b" ", 1)[0].decode())
        assert answer.status < 500, data
        assert ran.total() == before + (answer.status == 200), data
        statuses[answer.status] += 1
        peer.leave()
    assert statuses.total() == IN_MEMORY
    assert {200, 204, 400, 403, 404, 405, 415, 422} <= statuses.keys()
    assert min(statuses[status] for status in (200, 400, 404, 422)) > IN_MEMORY // 20
    assert ran.keys() == {*NAMES}
    assert min(ran.values()) > IN_MEMORY // 50
    assert list(tmp_path.iterdir()) == []


APP = """
from typing import Any, Literal

from rpiserve import App

app = App("fuzz")


class Bell:
    def switch(self, onoff: Literal["on", "off"]) -> str:
        return onoff

    def secret(self):
        print("SECRET")


bell = Bell()
app.add_command(bell.switch)


@app.command
def echo(it=None):
    return it


@app.command
async def many(flags: list[bool], at: dict[str, float] | None = None, it: list[Any] | str = ""):
    return [flags, at, it]


@app.command(concurrent=True)
def numbers(n: int | float, at: dict[str, float] | None = None):
    return [n, at]


@app.command
def open(**others):
    return others


def never():
    print("SECRET")
"""


def test_by_socket(tmp_path: Path) -> None:
    """The same goes for a daemon with threads behind a socket: it answers all, and goes on to answer."""
    with running_daemon(tmp_path, APP) as daemon:
        statuses: Counter[int] = Counter()
        files = {path.name for path in tmp_path.iterdir()}
        with socket.create_connection((daemon.host, daemon.port), PATIENCE) as connection:
            stream = connection.makefile("rb")
            for data in Fuzzer(SEED + 1).requests(BY_SOCKET):
                connection.sendall(data)
                statuses[read_status(stream, data.startswith(b"HEAD"))] += 1
            stream.close()
        assert statuses.total() == BY_SOCKET
        assert max(statuses) < 500
        assert {200, 400, 404, 422} <= statuses.keys()
        assert {path.name for path in tmp_path.iterdir()} <= files | {"__pycache__"}
        daemon.stop()
        assert "Traceback" not in daemon.log()
        assert "SECRET" not in daemon.log()


def read_status(stream: Any, is_head: bool) -> int:
    """Read an answer, and return its status."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        assert line, f"the connection was closed after {head!r}"
        head += line
    length = next(
        (int(line.split()[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    body = b"" if is_head else stream.read(length)
    (answer,) = parse_answers(head + body, ["HEAD" if is_head else "GET"])
    return answer.status
