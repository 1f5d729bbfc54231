"""A real daemon against floods: of connections, of requests whose answers nobody reads, and of wrong tokens.

Each time those who mean well are served meanwhile, and ``/metrics`` tells what was refused. How long it takes is
measured by ``benchmarks/attacks.py``.
"""

import http.client
import re
import resource
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import attrs
import psutil
import pytest
from daemon import PATIENCE, Daemon, running_daemon, until
from http_peer import request

from rpiserve.core.tokens import READ, TokenFile

BIG = 20_000_000
SOURCE = f"""
from rpiserve import App, response

app = App("attacked")
size = {BIG}


@app.route("/small", role="public")
def small():
    return "small"


@app.route("/big")
def big():
    return response.send(b"x" * size, content_type="application/octet-stream")
"""
"""An app that makes a large answer anew for each request."""

CONNECTIONS = 1500
CAP = 256
"""How many connections there may be if nobody says otherwise."""

PIPELINED = 30
WRONG = 1000
FREE = 10
"""How many wrong tokens an address may send at once."""

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
GOOD, BAD = "127.0.0.1", "127.0.0.2"


@attrs.frozen
class Victim:
    """A daemon with tokens, and one of them."""

    daemon: Daemon
    secret: str

    @property
    def bearer(self) -> dict[str, str]:
        """The header that shows the token."""
        return {"Authorization": f"Bearer {self.secret}"}

    def connection(self, source: str = GOOD) -> http.client.HTTPConnection:
        """Return a client at the address ``source``, which is not connected yet."""
        return http.client.HTTPConnection(self.daemon.host, self.daemon.port, PATIENCE, source_address=(source, 0))

    def socket(self, source: str) -> socket.socket:
        """Return a connection from ``source``."""
        return socket.create_connection((self.daemon.host, self.daemon.port), PATIENCE, source_address=(source, 0))

    def get(self, path: str, source: str = GOOD) -> bytes:
        """Return what is answered to a good client, who comes by a connection of its own."""
        with closing(self.connection(source)) as client:
            client.request("GET", path, headers=self.bearer)
            answer = client.getresponse()
            assert answer.status == 200
            return answer.read()

    def metric(self, name: str) -> int:
        """Return a figure from ``/metrics``, by its name and labels."""
        match = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").decode(), re.MULTILINE)
        assert match is not None, name
        return int(float(match[1]))

    def memory(self) -> int:
        """Return how much memory it has, in bytes."""
        status = Path(f"/proc/{self.daemon.process.pid}/status").read_text(encoding="utf-8")
        match = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        assert match is not None
        return 1024 * int(match[1])


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Victim]:
    """A daemon with the limits that it has by default, but for the patience with who reads nothing.

    In the end it must have logged nothing of what its clients did.
    """
    secret = TokenFile(tmp_path / "tokens", lambda: 0.0).add("reader", READ)
    with running_daemon(tmp_path, SOURCE, "--token-file", "tokens", "--write-timeout", "2") as daemon:
        yield Victim(daemon, secret)
        assert daemon.stop() == -signal.SIGTERM
        for word in ("Traceback", "Unhandled", "ERROR", "CRITI"):
            assert word not in daemon.log(), daemon.log()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process have as many connections as the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = CONNECTIONS + 500
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_1500_connections(victim: Victim) -> None:
    """The cap holds: who comes with a request is served all along, and when the others have gone there is room.

    A client that keeps its connection and goes on asking is not the one who has to go.
    """
    process = psutil.Process(victim.daemon.process.pid)
    assert victim.metric("rpiserve_http_connections_refused_total") == 0
    files = process.num_fds()
    keeper = victim.connection()
    with closing(keeper):
        with ExitStack() as stack:
            for number in range(CONNECTIONS):
                client = stack.enter_context(victim.socket(BAD))
                client.sendall((b"", b"GET /small HTTP/1.1\r\nHost: local")[number % 2])
                if number % 100 == 0:
                    keeper.request("GET", "/small")
                    assert keeper.getresponse().read() == b'"small"'
                    assert victim.get("/small") == b'"small"'
                    assert process.num_fds() <= files + CAP
            assert victim.metric("rpiserve_http_connections") == CAP
            assert victim.metric("rpiserve_http_connections_refused_total") >= CONNECTIONS - CAP
        until(lambda: victim.metric("rpiserve_http_connections") == 2)  # the keeper's, and the one that asks
        assert process.num_fds() <= files + 2


def test_unread_pipeline(victim: Victim) -> None:
    """Of 30 large answers that nobody reads there is one at a time, until the client is cut off; others are served."""
    assert len(victim.get("/big")) == BIG
    before = most = victim.memory()
    with victim.socket(BAD) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(request("/big", "GET", f"Authorization: Bearer {victim.secret}") * PIPELINED)
        until(lambda: victim.metric("rpiserve_http_connections") == 2)
        while victim.metric("rpiserve_http_connections") >= 2:  # until it is cut off
            assert victim.get("/small") == b'"small"'
            most = max(most, victim.memory())
    assert most - before < 2 * BIG
    assert victim.metric('rpiserve_http_requests_total{method="GET",route="/big",status="200"}') <= 3
    assert len(victim.get("/big")) == BIG


def test_1000_wrong_logins(victim: Victim) -> None:
    """An address that guesses is throttled, with the right token as well; others log in, and work."""
    statuses: Counter[int] = Counter()
    for number in range(WRONG):
        if number % 50 == 0:
            client = victim.connection(BAD)
        statuses[log_in(client, f"rpi_{number}").status] += 1
        if number % 50 == 49:
            client.close()
        if number % 100 == 99:
            with closing(victim.connection()) as good:
                answer = log_in(good, victim.secret)
                assert answer.status == 303
                cookie = answer.headers["Set-Cookie"].partition(";")[0]
                good.request("GET", "/data", headers={"Cookie": cookie})
                assert good.getresponse().status == 200
    with closing(victim.connection(BAD)) as client:
        statuses[log_in(client, victim.secret).status] += 1
    assert set(statuses) == {401, 429}
    # As many more as are forgotten meanwhile.
    assert FREE <= statuses[401] < WRONG // 10
    assert victim.metric('rpiserve_http_denied_total{reason="wrong"}') == statuses[401]
    assert victim.metric('rpiserve_http_denied_total{reason="throttled"}') == statuses[429]
    assert victim.metric('rpiserve_http_requests_total{method="POST",route="/login",status="429"}') == statuses[429]


def test_1000_wrong_tokens(victim: Victim) -> None:
    """So are requests with a wrong token; who has a right one is served, even from the address that guesses."""
    statuses: Counter[int] = Counter()
    with closing(victim.connection(BAD)) as client:
        for number in range(WRONG):
            client.request("GET", "/data", headers={"Authorization": f"Bearer rpi_{number}"})
            answer = client.getresponse()
            answer.read()
            statuses[answer.status] += 1
            if number % 100 == 99:
                assert victim.get("/data") == b"{}"
                assert victim.get("/data", BAD) == b"{}"
    assert set(statuses) == {401, 429}
    assert FREE <= statuses[401] < WRONG // 10
    assert victim.metric('rpiserve_http_denied_total{reason="wrong"}') == statuses[401]
    assert victim.metric('rpiserve_http_denied_total{reason="throttled"}') == statuses[429]


def log_in(client: http.client.HTTPConnection, secret: str) -> http.client.HTTPResponse:
    """Return the answer, which has been read, to who logs in as a browser does."""
    client.request("POST", "/login", f"token={secret}", FORM)
    answer = client.getresponse()
    answer.read()
    return answer
