"""The log of requests: one line for each, nothing secret in any, and none that a client could forge."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from http_peer import Peer, make_router, make_site, request
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from rpiserve.core.tokens import CONTROL, TokenFile
from rpiserve.daemon.config import Config
from rpiserve.data.tree import DataTree
from rpiserve.logs.rotating_file import RotatingFile
from rpiserve.web.access.authorization import Authorizer
from rpiserve.web.access.proxies import TrustedProxies
from rpiserve.web.server.request import LimitedRequest
from rpiserve.web.server.request_log import FLUSH_BYTES, FLUSH_SECONDS, RequestLog

MORNING = 1795255575.25
FAR = IPv4Address("TCP", "192.168.1.9", 50000)
LINE = re.compile(
    r'(?P<client>\S+) - (?P<token>\S+) \[(?P<time>[^]]+)\] "(?P<asked>[^"]*)" (?P<status>\d{3}) (?P<bytes>\d+)'
    r' "(?P<referer>[^"]*)" "(?P<agent>[^"]*)" (?P<milliseconds>\d+\.\d)\n'
)


class File:
    """Keeps what is written to it.

    Attributes:
        path: where it is said to be.
        full: whether it takes nothing more.
        lost: how many lines it has not taken.
        writes: each piece.
        reopened: how often it was opened anew.
    """

    path = "requests.log"

    def __init__(self) -> None:
        self.full = False
        self.lost = 0
        self.writes: list[bytes] = []
        self.reopened = 0

    def write(self, data: bytes) -> None:
        if self.full:
            self.lost += data.count(b"\n")
        else:
            self.writes.append(data)

    def reopen(self) -> bool:
        self.reopened += 1
        return True


class House:
    """A site in memory with a log of its requests."""

    def __init__(self, as_json: bool = False, **options: Any) -> None:
        self.clock = Clock()
        self.file = File()
        file: Any = self.file
        tree = DataTree("boot", self.clock.seconds, lambda: MORNING)
        tree.assign(("a",), 21)
        self.site = make_site(self.clock, tree, **options)
        self.log = RequestLog(file, as_json, self.clock, lambda: MORNING)  # type: ignore[arg-type]
        self.site.requests = self.log

    def ask(self, *requests: bytes, address: Any = FAR) -> Peer:
        """Send ``requests`` on a connection of their own."""
        return Peer(self.site, address).send(*requests)

    def lines(self) -> list[dict[str, str]]:
        """Return what has been logged, once it is written."""
        self.clock.advance(FLUSH_SECONDS)
        text = b"".join(self.file.writes).decode("ascii")
        lines = []
        for line in text.splitlines(keepends=True):
            match = LINE.fullmatch(line)
            assert match is not None, line
            lines.append(match.groupdict())
        return lines


def test_a_line() -> None:
    """A line says who has asked for what, when, what came of it, and how long that took."""
    house = House()
    house.ask(request("/data/a", "GET", "User-Agent: curl/8.5", "Referer: http://pi.lan/b"))
    [line] = house.lines()
    assert line == {
        "client": "192.168.1.9",
        "token": "-",
        "time": "21/Nov/2026:10:06:15 +0000",
        "asked": "GET /data/a HTTP/1.1",
        "status": "200",
        "bytes": "2",
        "referer": "http://pi.lan/b",
        "agent": "curl/8.5",
        "milliseconds": "0.0",
    }


def test_as_json() -> None:
    """As JSON a line is one object, without what there is not."""
    house = House(as_json=True)
    house.ask(request("/nothing?path=a", "GET", "User-Agent: é"))
    house.clock.advance(FLUSH_SECONDS)
    [written] = house.file.writes
    assert written.count(b"\n") == 1
    entry = json.loads(written)
    assert entry.pop("bytes") > 0
    assert entry == {
        "time": "2026-11-21T10:06:15.250Z",
        "client": "192.168.1.9",
        "method": "GET",
        "target": "/nothing?path=a",
        "protocol": "HTTP/1.1",
        "status": 404,
        "seconds": 0.0,
        "agent": "\\xe9",
    }


def test_every_answer() -> None:
    """Each request of a connection has its line, whatever became of it; so has what was no request at all."""
    house = House()
    house.ask(*(request(target) for target in ("/data", "/nothing", "/data/a")), request("/data", "HEAD"))
    house.ask(request("/data", host="evil.example"))
    house.ask(request("/data", "DELETE"))
    house.ask(b"nonsense\r\n\r\n")
    house.ask(request("/cmd", "POST", "Content-Length: 99999999999"))
    assert [(line["asked"], line["status"]) for line in house.lines()] == [
        ("GET /data HTTP/1.1", "200"),
        ("GET /nothing HTTP/1.1", "404"),
        ("GET /data/a HTTP/1.1", "200"),
        ("HEAD /data HTTP/1.1", "200"),
        ("GET /data HTTP/1.1", "421"),
        ("DELETE /data HTTP/1.1", "405"),
        ("-", "400"),
        ("-", "413"),
    ]


class Slow(Resource):
    """Answers when it is told to."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[LimitedRequest] = []

    def render(self, request: Any) -> int:
        self.requests.append(request)
        return NOT_DONE_YET


def test_the_time_that_it_took() -> None:
    """The time counts from the complete request to the end of the answer; what a stream has sent is counted."""
    slow = Slow()
    house = House(resource=slow)
    peer = house.ask(request("/slow"))
    house.clock.advance(1.5)
    slow.requests[0].write(b"abc")
    slow.requests[0].finish()
    peer.send(request("/slow"))
    slow.requests[1].write(b"ab")
    house.clock.advance(0.25)
    peer.leave()
    assert [(line["status"], line["bytes"], line["milliseconds"]) for line in house.lines()] == [
        ("200", "3", "1500.0"),
        ("200", "2", "250.0"),
    ]


def test_a_client_that_leaves() -> None:
    """A request whose client leaves before there is an answer has a status of its own, and a line only once."""
    slow = Slow()
    house = House(resource=slow)
    house.ask(request("/slow")).leave()
    house.clock.advance(1)
    house.ask(b"GET /half HTT").leave()
    assert [line["status"] for line in house.lines()] == ["499"]


def test_behind_a_proxy() -> None:
    """The client is the one that a trusted proxy tells of; of a unix socket there is none."""
    house = House(proxies=TrustedProxies(["192.168.1.9"]))
    house.ask(request("/data", "GET", "X-Forwarded-For: 10.0.0.7"))
    house.ask(request("/data"), address=UNIXAddress("/run/app.sock"))
    house.ask(request("/data", "GET", 'X-Forwarded-For: fe80::1%" 200 forged'))
    assert [line["client"] for line in house.lines()] == ["10.0.0.7", "-", "fe80::1"]


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/cmd?name=door.open&code=S3CRET", "/cmd?name=door.open&code=***"),
        ("/data?token=S3CRET", "/data?token=***"),
        ("/data?S3CRET", "/data?***"),
        ("/data?code=", "/data?code=***"),
        ("/data?S3 CRET=1&meta=1", None),
        ("/data?a=1&b=S3CRET&&meta=1", "/data?a=***&b=***&***&meta=1"),
        ("/login?next=%2Fdata%3Ftoken%3DS3CRET", "/login?next=***"),
        ("/data?", "/data?"),
        ("/rpi_" + "S3CRET" * 8, "/rpi_***"),
        ("http://me:S3CRET@localhost/data", "http://me:***@localhost/data"),
        ("/data/rpi%5F" + "S3CRET" * 8, "/data/rpi_***"),
        ("/data/%72p%69_" + "S%33CRE%54" * 8 + "/a", "/data/rpi_***/a"),
        ("/data/rpi%255f" + "S3CRET" * 8 + "?meta=1", "/data/rpi_***?meta=1"),
        ("/data/password%3DS3CRET%20%26a=%e9", "/data/password=***%20&a=%E9"),
        ("/data/a%2eb%20c%e9", "/data/a%2eb%20c%e9"),
    ],
)
def test_targets(target: str, shown: str | None) -> None:
    """Of a query the names are shown, and the values only of fields that are no secrets."""
    house = House()
    house.ask(request(target))
    [line] = house.lines()
    if shown is None:
        assert line["asked"] == "-"
    else:
        assert line["asked"] == f"GET {shown} HTTP/1.1"


def test_headers() -> None:
    """Neither credentials nor the query of a referer are shown, whatever header they are in."""
    house = House()
    token = "rpi_" + "S3CRET" * 8
    house.ask(
        request(
            "/data",
            "GET",
            f"Authorization: Bearer {token}",
            "Cookie: rpiserve-8080=S3CRET",
            f"Referer: http://me:S3CRET@pi.lan/a?b=S3CRET#S3CRET/{token}",
            f"User-Agent: {token} password=S3CRET",
        )
    )
    [line] = house.lines()
    assert "S3CRET" not in str(line)
    assert (line["referer"], line["agent"]) == ("http://me:***@pi.lan/a", "rpi_*** password=***")


def test_an_encoded_referer() -> None:
    """What is secret in a referer is hidden in encoded form as well."""
    house = House()
    house.ask(request("/data", "GET", "Referer: http://pi.lan/http%3a%2f%2fme%3aS3CRET%40pi.lan/b%20c"))
    [line] = house.lines()
    assert line["referer"] == "http://pi.lan/http://me:***@pi.lan/b%20c"


def test_whose_token(tmp_path: Path) -> None:
    """A request that shows a token has its name, which is no secret, even if it may not do what it wants to."""
    clock = Clock()
    clock.advance(1000)
    tokens = TokenFile(tmp_path / "tokens", clock.seconds)
    reader, controller = tokens.add("panel", "read"), tokens.add("boss", CONTROL)
    tokens.load()
    access = Authorizer(tokens, False, clock)  # type: ignore[arg-type]
    house = House()
    house.site.resource = make_router(house.clock, access=access)  # type: ignore[assignment, arg-type]
    for secret in (reader, controller, "rpi_wrong"):
        house.ask(request("/cmd?name=a", "GET", f"Authorization: Bearer {secret}"))
    assert [(line["token"], line["status"]) for line in house.lines()] == [
        ("panel", "403"),
        ("boss", "404"),
        ("-", "401"),
    ]
    text = b"".join(house.file.writes).decode()
    assert not any(secret in text for secret in (reader, controller, "rpi_wrong"))


# --- lines that nobody can forge -------------------------------------------------------------------------------------


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes(target: bytes, agent: bytes) -> None:
    """Whatever bytes a client sends, each of its requests is one line of plain ASCII that can be taken apart."""
    house = House()
    agent = re.sub(rb"[\r\n\0]", b"", agent)
    house.ask(
        b"GET /" + re.sub(rb"[\s]", b"", target) + b" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: " + agent + b"\r\n\r\n"
    )
    assert len(house.lines()) == 1


def test_long_headers() -> None:
    """A line is not as long as a client wants it to be."""
    house = House()
    house.ask(request("/" + "a" * 6000, "GET", "User-Agent: " + "b" * 6000, "Referer: " + '"' * 6000))
    house.lines()
    assert len(b"".join(house.file.writes)) < 6000


# --- writing ---------------------------------------------------------------------------------------------------------


def test_lines_wait_for_each_other() -> None:
    """What comes within a second is written in one piece, and a crowd of lines at once; nothing waits for ever."""
    house = House()
    peer = house.ask(request("/data"))
    peer.send(*[request("/data")] * 2)
    assert house.file.writes == []
    house.clock.advance(FLUSH_SECONDS)
    [piece] = house.file.writes
    assert piece.count(b"\n") == 3
    house.clock.advance(10)
    assert len(house.file.writes) == 1
    for _ in range(FLUSH_BYTES // 80):
        peer.send(request("/data"))
        if len(house.file.writes) > 1:
            break
    assert FLUSH_BYTES <= len(house.file.writes[1]) < FLUSH_BYTES + 1000


def test_close() -> None:
    """At the end what waits is written, and what comes later at once."""
    house = House()
    peer = house.ask(request("/data"))
    house.log.close()
    assert len(house.file.writes) == 1
    peer.send(request("/data"))
    assert len(house.file.writes) == 2
    assert not any(call.func == house.log._time_is_up for call in house.clock.getDelayedCalls())  # type: ignore[attr-defined]


def test_reopen() -> None:
    """What waits is written before the file is opened anew: it belongs to the old one."""
    house = House()
    house.ask(request("/data"))
    house.log.reopen()
    assert (len(house.file.writes), house.file.reopened) == (1, 1)


def test_old_files_are_deleted(tmp_path: Path) -> None:
    """The log never takes more room than its files may, all together."""
    house = House()
    file = RotatingFile(tmp_path / "requests.log", 1000, 2)
    house.site.requests = RequestLog(file, False, house.clock, lambda: MORNING)  # type: ignore[arg-type]
    peer = house.ask()
    for _ in range(100):
        peer.send(request("/data"))
        house.clock.advance(FLUSH_SECONDS)
    file.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["requests.log", "requests.log.1", "requests.log.2"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000


def test_lines_that_are_lost() -> None:
    """What the file does not take is counted, and when it takes something again the log tells how much that was."""
    house = House()

    def ask(times: int) -> list[str]:
        with capturedLogs() as logged:
            for _ in range(times):
                house.ask(request("/data"))
            house.clock.advance(FLUSH_SECONDS)
        return [formatEvent(event) for event in logged if event["log_namespace"] == "rpiserve.web.server.request_log"]

    def lost() -> list[tuple[tuple[str, ...], float]]:
        return [(sample.labels, sample.value) for sample in house.log.samples()]

    assert ask(1) == []
    house.file.full = True
    assert ask(2) == ask(1) == []
    assert lost() == [(("requests",), 3)]
    house.file.full = False
    assert ask(1) == ["3 lines of the log of requests were lost"]
    assert ask(1) == []
    assert lost() == [(("requests",), 3)]


def test_off_by_default() -> None:
    """Without a file there is no log of requests."""
    assert Config().request_log is None
    assert make_site(Clock()).requests is None
