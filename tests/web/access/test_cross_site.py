"""Which pages may change something: whatever is refused has no effect, which a counter in the command shows."""

from typing import Any

import http_peer
import pytest
from command_peer import JSON, Client, make_command_site
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock

from rpiserve import App

LAN = IPv4Address("TCP", "192.168.1.2", 8080)
BODY = b'{"Command":{"Name":"ring"}}'


class Bell:
    """A bell that counts."""

    def __init__(self) -> None:
        self.rung = 0

    async def ring(self) -> int:
        self.rung += 1
        return self.rung


@pytest.fixture
def bell() -> Bell:
    """The bell."""
    return Bell()


class Everybody:
    """Access for everybody, also by a proxy that is not trusted, as a token gives it."""

    def require(self, request: Any, role: str) -> None: ...

    def check_token(self, request: Any) -> None: ...


class Site:
    """What a test rings the bell by.

    Args:
        bell: the bell.
        options: those of the site.
    """

    def __init__(self, bell: Bell, **options: Any) -> None:
        app = App("test")
        app.add_command(bell.ring, name="ring")
        self._bell = bell
        self._client = Client(make_command_site(app, Clock(), **options))

    def get(self, *headers: str, host: str = "localhost:8080") -> int:
        """Ring by GET, and return the status."""
        return self._ring("GET", headers, b"", host)

    def post(self, *headers: str, host: str = "localhost:8080") -> int:
        """Ring by POST, and return the status."""
        return self._ring("POST", (JSON, *headers), BODY, host)

    def _ring(self, method: str, headers: tuple[str, ...], body: bytes, host: str) -> int:
        before = self._bell.rung
        answer = self._client.ask("/cmd?name=ring", method, *headers, body=body, host=host)
        assert answer.status in (200, 403)
        assert self._bell.rung == before + (answer.status == 200)
        return answer.status


def arrive_at(monkeypatch: pytest.MonkeyPatch, address: object) -> None:
    """Have requests arrive at ``address`` of this machine."""
    monkeypatch.setattr(http_peer, "HERE", address)


ORIGINS = [
    ("http://localhost:8080", 200),
    ("https://localhost:8080", 200),
    ("HTTP://LOCALHOST:8080", 200),
    ("http://localhost", 403),
    ("http://localhost:8081", 403),
    ("http://127.0.0.1:8080", 403),
    ("http://evil.example", 403),
    ("http://localhost:8080.evil.example", 403),
    ("http://evil.example/localhost:8080", 403),
    ("http://localhost:8080@evil.example", 403),
    ("http://evil@localhost:8080", 403),
    ("ftp://localhost:8080", 403),
    ("file://", 403),
    ("//localhost:8080", 403),
    ("localhost:8080", 403),
    ("null", 403),
    ("", 403),
    ("http://[", 403),
    ("http://\xff", 403),
    ("x" * 5000, 403),
]


@pytest.mark.parametrize(("origin", "status"), ORIGINS)
def test_origin(bell: Bell, origin: str, status: int) -> None:
    """Only a page of our own, by the very name that it asks us by, may do anything; ``null`` is no page of ours."""
    site = Site(bell, get_commands=True)
    assert site.post(f"Origin: {origin}") == status
    assert site.get(f"Origin: {origin}") == status


SITES = [
    ("same-origin", 200),
    ("none", 200),
    ("None", 200),
    ("same-site", 403),
    ("cross-site", 403),
    ("Cross-Site", 403),
    ("", 403),
    ("new-value", 403),
    ("none, cross-site", 403),
]


@pytest.mark.parametrize(("value", "status"), SITES)
def test_fetch_site_on_loopback(bell: Bell, value: str, status: int) -> None:
    """What a browser says to come from elsewhere is refused, same-site pages and values yet unknown included."""
    site = Site(bell)
    for headers in ([f"Sec-Fetch-Site: {value}"], [f"Sec-Fetch-Site: {value}", "Origin: http://localhost:8080"]):
        assert site.post(*headers) == status
        assert site.get(*headers) == status


def test_plain_clients_on_loopback(bell: Bell) -> None:
    """What is no browser says nothing of the kind, and may do both on this machine."""
    site = Site(bell)
    assert (site.get(), site.post()) == (200, 200)


@pytest.mark.parametrize(("value", "status"), SITES)
@pytest.mark.parametrize("address", [LAN, IPv6Address("TCP", "fe80::1", 8080), IPv4Address("TCP", "8.8.8.8", 80)])
def test_fetch_site_beyond_loopback(
    bell: Bell, monkeypatch: pytest.MonkeyPatch, address: object, value: str, status: int
) -> None:
    """Beyond this machine the same values are trusted; without any, a GET is refused and a POST is not."""
    arrive_at(monkeypatch, address)
    site = Site(bell)
    assert site.get(f"Sec-Fetch-Site: {value}", host="192.168.1.2:8080") == status
    assert site.post(f"Sec-Fetch-Site: {value}", host="192.168.1.2:8080") == status
    assert site.get(host="192.168.1.2:8080") == 403
    assert site.get("Origin: http://192.168.1.2:8080", host="192.168.1.2:8080") == 403
    assert site.post(host="192.168.1.2:8080") == 200
    assert site.post("Origin: http://192.168.1.2:8080", host="192.168.1.2:8080") == 200
    assert site.post("Origin: http://evil.example", host="192.168.1.2:8080") == 403


@pytest.mark.parametrize("value", ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none", "X-Nothing: 1"])
def test_open_beyond_loopback(bell: Bell, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Where anybody is let in, GET runs no commands from other machines at all; it does on this one."""
    on_this_machine = Site(bell, open=True)
    assert on_this_machine.get(value) == 200
    arrive_at(monkeypatch, LAN)
    site = Site(bell, open=True)
    assert site.get(value) == 403
    assert site.post(value) == 200


@pytest.mark.parametrize("open", [False, True])
def test_get_commands(bell: Bell, monkeypatch: pytest.MonkeyPatch, open: bool) -> None:
    """The user may allow it, but not to the pages of others."""
    arrive_at(monkeypatch, LAN)
    site = Site(bell, open=open, get_commands=True)
    assert site.get() == 200
    assert site.get("Sec-Fetch-Site: same-origin") == 200
    assert site.get("Sec-Fetch-Site: cross-site") == 403
    assert site.get("Sec-Fetch-Site: same-site") == 403
    assert site.get("Origin: http://evil.example") == 403
    assert site.get("Origin: null") == 403


def test_refusals_tell_the_way_out(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is refused is told what to do instead."""
    arrive_at(monkeypatch, LAN)
    app = App("test")
    app.add_command(bell.ring, name="ring")
    client = Client(make_command_site(app, Clock()))
    answer = client.ask("/cmd?name=ring")
    assert answer.json()["detail"] == "use POST; beyond this machine GET runs commands only with --get-commands"
    answer = client.ask("/cmd?name=ring", "GET", f"Origin: http://{'x' * 500}")
    assert answer.json()["detail"] == (
        f"a page from http://{'x' * 93} may not do that; --cors-origin names those that may"
    )


@pytest.mark.parametrize("host", ["localhost", "LocalHost:80", "127.0.0.1", "127.0.0.53:8080", "[::1]", "[::1]:8080"])
@pytest.mark.parametrize("address", [IPv4Address("TCP", "127.0.0.1", 1), IPv6Address("TCP", "::1", 1)], ids=str)
def test_names_of_loopback(bell: Bell, monkeypatch: pytest.MonkeyPatch, address: object, host: str) -> None:
    """By these names a browser always says where a request comes from, so that one without comes from no browser."""
    arrive_at(monkeypatch, address)
    assert Site(bell).get(host=host) == 200


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0:8080", "[::]:8080", "[::ffff:127.0.0.1]", "machine", "machine.local:8080", "192.168.1.2", "pi.example"],
)
def test_other_names_for_loopback(bell: Bell, host: str) -> None:
    """By other names a page may reach this machine, too, and its browser does not say so: these are not loopback.

    On Linux 0.0.0.0 leads here, and so does the machine's own name if the hosts file says so.
    """
    site = Site(bell, hosts=["pi.example"])
    assert site.get(host=host) == 403
    assert site.get("Sec-Fetch-Site: same-origin", host=host) == 200
    assert site.post(host=host) == 200


def test_unix_socket(bell: Bell, monkeypatch: pytest.MonkeyPatch) -> None:
    """No browser comes through a unix socket, whatever name it is asked by."""
    arrive_at(monkeypatch, UNIXAddress("/run/app.sock"))
    site = Site(bell)
    assert site.get(host="machine") == 200
    assert site.get("Sec-Fetch-Site: cross-site") == 403


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
def test_methods_that_never_act(bell: Bell, method: str) -> None:
    """No other method runs a command, with the most trustworthy headers there are."""
    app = App("test")
    app.add_command(bell.ring, name="ring")
    client = Client(make_command_site(app, Clock(), get_commands=True))
    for target in ("/cmd?name=ring", "/?name=ring", "/cmds?name=ring"):
        client.ask(target, method, JSON, "Sec-Fetch-Site: same-origin", "Origin: http://localhost", body=BODY)
    assert bell.rung == 0


@pytest.mark.parametrize("header", ["Forwarded: for=203.0.113.9", "X-Forwarded-For: 203.0.113.9", "Via: 1.1 proxy"])
def test_forwarded_requests_are_not_by_loopback(bell: Bell, header: str) -> None:
    """What a reverse proxy passes on comes by loopback, but from anywhere: GET rings nothing, POST is fine."""
    site = Site(bell, access=Everybody())
    assert site.get(header) == 403
    assert site.get(header, "Sec-Fetch-Site: same-origin") == 200
    assert site.post(header) == 200
