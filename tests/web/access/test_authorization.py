"""Who is let in: roles, tokens, sessions, the limit of wrong tokens, and proxies that are trusted."""

import re
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
from http_peer import Answer, Peer, make_site, request
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from rpiserve.core.tokens import LOOK_SECONDS, TokenFile
from rpiserve.errors import ConfigError
from rpiserve.web.access.authorization import QUIET_SECONDS, Authorizer
from rpiserve.web.access.proxies import TrustedProxies
from rpiserve.web.access.sessions import IDLE_SECONDS, MOST_OF_A_TOKEN, MOST_SESSIONS, RENEWAL_SECONDS, Sessions
from rpiserve.web.access.throttle import FREE, MOST_ADDRESSES, SECONDS_EACH, Throttle
from rpiserve.web.endpoint_declaration import PUBLIC, AccessRules, endpoints_of
from rpiserve.web.endpoints.table import SUBJECTS, TO_COME
from rpiserve.web.server.addresses import network_of
from rpiserve.web.server.request import FREE_BODY, LimitedRequest

JSON = "Content-Type: application/json"
FORM = "Content-Type: application/x-www-form-urlencoded"
LAN = IPv4Address("TCP", "192.168.1.9", 50000)


class House:
    """A site in memory whose built-in routes need tokens.

    Args:
        folder: where the token file is.
        proxies: the proxies that are trusted.
        tokens: whether there is a token file.
        open: whether anybody is let in.
    """

    def __init__(self, folder: Path, proxies: tuple[str, ...] = (), tokens: bool = True, open: bool = False) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.file = TokenFile(folder / "tokens", self.clock.seconds)
        self.reader, self.controller = self.file.add("reader", "read"), self.file.add("controller", "control")
        self.file.load()
        self.access = Authorizer(self.file if tokens else None, open, self.clock)  # type: ignore[arg-type]
        self.site = make_site(self.clock, proxies=TrustedProxies(proxies), access=self.access)

    def ask(
        self, target: str, method: str = "GET", *headers: str, body: bytes = b"", peer: Any = None, **more: Any
    ) -> Answer:
        """Return the answer to a request."""
        address = {} if peer is None else {"address": peer}
        connection = Peer(self.site, **address).send(request(target, method, *headers, body=body, **more))
        return connection.answer(method)

    def log_in(self, secret: str, *headers: str, peer: Any = None) -> Answer:
        """Return the answer to the form of ``/login``."""
        return self.ask("/login", "POST", FORM, *headers, body=f"token={secret}&next=/data".encode(), peer=peer)


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A site with tokens."""
    return House(tmp_path)


def bearer(secret: str) -> str:
    """Return the header that shows a token."""
    return f"Authorization: Bearer {secret}"


def cookie_of(answer: Answer) -> str:
    """Return the header by which a browser sends the cookie that ``answer`` sets."""
    return f"Cookie: {answer.headers['set-cookie'].partition(';')[0]}"


# --- the table ------------------------------------------------------------------------------------------------------


RULES = AccessRules(each for subject in SUBJECTS for each in endpoints_of(subject))


@pytest.mark.parametrize("name", sorted(TO_COME))
def test_names_that_are_reserved(house: House, name: str) -> None:
    """A path of an endpoint that is yet to come is 404 to who may read, and 401 to strangers as any other path."""
    assert house.ask(f"/{name}", "GET", bearer(house.reader)).status == 404
    assert house.ask(f"/{name}").status == 401


def test_methods() -> None:
    """HEAD needs what GET does, OPTIONS nothing, and a method that a path does not have the most."""
    assert RULES.rule("data", "HEAD") == RULES.rule("data", "GET")
    assert RULES.rule("data", "GET").role == "read"
    assert RULES.rule("cmd", "OPTIONS").role == PUBLIC
    assert RULES.rule("data", "DELETE").role == "control"


def test_the_table_in_the_documentation() -> None:
    """The documentation has the same table."""
    text = (Path(__file__).parents[3] / "docs" / "access.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `/([^`/]*)(?:/…)?` \| (\w*) ?\| (\w*) ?\|$", text, re.MULTILINE)
    said = {
        segment: {method: role for method, role in (("GET", get), ("POST", post)) if role}
        for segment, get, post in rows
    }
    assert said == RULES.table()


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_without_a_token(house: House) -> None:
    """Who shows no token is told what is needed, in the header of RFC 6750 as well, and learns nothing else."""
    answer = house.ask("/data")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="rpiserve"')
    assert house.access.counts["refused"] >= 1


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_with_a_token(house: House, scheme: str) -> None:
    """A token is shown as RFC 6750 has it; the scheme may be in any case."""
    assert house.ask("/data", "GET", f"Authorization: {scheme} {house.reader}").status == 200


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer x", "bearer  x", "Bearer \xff"])
def test_with_a_wrong_token(house: House, value: str) -> None:
    """What is no token is told apart from none."""
    answer = house.ask("/data", "GET", f"Authorization: {value}")
    assert (answer.status, answer.headers["www-authenticate"]) == (
        401,
        'Bearer realm="rpiserve", error="invalid_token"',
    )


@pytest.mark.parametrize("value", ["Basic cnBpOnJwaQ==", "Digest", "", "Bear er", "BearerX"])
def test_another_scheme(house: House, value: str) -> None:
    """What a proxy before us asks for is no wrong token: it counts as none, and a session holds beside it."""
    answer = house.ask("/data", "GET", f"Authorization: {value}")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="rpiserve"')
    cookie = cookie_of(house.log_in(house.reader))
    assert house.ask("/data", "GET", cookie, f"Authorization: {value}").status == 200
    peer = Peer(house.site).send(request("/events", "GET", cookie, f"Authorization: {value}"))
    house.clock.advance(10)
    assert peer.end is None
    house.ask("/logout", "POST", cookie)
    house.clock.advance(10)
    assert peer.end is not None
    assert house.access.counts["wrong"] == 0


def test_a_wrong_token_beside_a_session(house: House) -> None:
    """Who shows a wrong token is not let in by a cookie."""
    cookie = cookie_of(house.log_in(house.controller))
    assert house.ask("/data", "GET", cookie, bearer("x")).status == 401


def test_a_token_that_may_only_read(house: House) -> None:
    """With the role ``read`` what changes something is refused, by RFC 6750's error."""
    answer = house.ask("/cmd", "POST", bearer(house.reader), JSON, body=b"{}")
    assert answer.status == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert house.ask("/cmd", "POST", bearer(house.controller), JSON, body=b"{}").status == 400


def test_who_shows_a_token_is_told_its_role(house: House, tmp_path: Path) -> None:
    """Each answer to who is let in by a token, or a session, has its role; where there are no tokens there is none."""
    for secret, role in ((house.reader, "read"), (house.controller, "control")):
        for credentials in (bearer(secret), cookie_of(house.log_in(secret))):
            for target in ("/cmds", "/data", "/data/nowhere"):
                assert house.ask(target, "GET", credentials).headers["rpiserve-role"] == role
    assert house.ask("/cmd", "POST", bearer(house.reader), JSON, body=b"{}").headers["rpiserve-role"] == "read"
    for answer in (house.ask("/cmds"), house.ask("/health", "GET", bearer(house.reader))):
        assert "rpiserve-role" not in answer.headers
    (tmp_path / "open").mkdir()
    assert "rpiserve-role" not in House(tmp_path / "open", tokens=False).ask("/cmds").headers


def test_a_token_is_not_shown_in_a_query(house: House) -> None:
    """A token in a URL, which logs and histories keep, is none."""
    for name in ("token", "access_token"):
        assert house.ask(f"/data?{name}={house.controller}").status == 401


def test_get_cmd_with_a_token_from_the_lan(house: House) -> None:
    """A page cannot have its browser send a token, so that with one ``GET`` may run commands from anywhere."""
    answer = house.ask("/cmd?name=x", "GET", bearer(house.controller), host="192.168.1.2")
    assert answer.status == 404
    assert "x" in answer.json()["detail"]


# --- sessions -------------------------------------------------------------------------------------------------------


def test_logging_in(house: House) -> None:
    """A right token begins a session, by a cookie that no script, no other site and nobody later can use."""
    answer = house.log_in(house.reader)
    assert (answer.status, answer.headers["location"]) == (303, "/data")
    attributes = {part.strip() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert attributes == {"HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={IDLE_SECONDS:.0f}"}
    assert house.reader not in answer.headers["set-cookie"]
    cookie = cookie_of(answer)
    assert house.ask("/data", "GET", cookie).status == 200
    assert house.ask("/cmd", "POST", cookie, JSON, body=b"{}").status == 403


def test_a_page_that_needs_a_session(house: House) -> None:
    """A browser that a person uses is sent to the form, and from there to where it wanted to go."""
    answer = house.ask("/?a=b&c", "GET", "Accept: text/html,*/*")
    assert (answer.status, answer.headers["location"]) == (303, "/login?next=%2F%3Fa%3Db%26c")
    page = house.ask("/login?next=%2F%3Fa%3Db%26c").body.decode()
    assert 'value="/?a=b&amp;c"' in page


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\r\nSet-Cookie: x=y", '/"><script>', "/ü"],
)
def test_where_the_form_leads(house: House, target: str) -> None:
    """After logging in nobody is led to another site, and nothing gets into the page or a header."""
    body = f"token={house.reader}&next={quote(target, safe='')}".encode()
    answer = house.ask("/login", "POST", FORM, body=body)
    location = answer.headers["location"]
    assert location == "/" or (location.startswith("/") and not location.startswith(("//", "/\\")))
    assert "x=y" not in answer.headers["set-cookie"]
    page = house.ask(f"/login?next={quote(target, safe='')}")
    assert b"<script" not in page.body


def test_a_wrong_token_in_the_form(house: House) -> None:
    """The form comes again with what was wrong, and there is no session."""
    answer = house.log_in("<b>wrong</b>")
    assert answer.status == 401
    assert "set-cookie" not in answer.headers
    assert b"there is no such token" in answer.body
    assert b"<b>" not in answer.body


def test_logging_in_once_more(house: House) -> None:
    """Who logs in again has one session, the new one: logging out would leave the other open."""
    first = cookie_of(house.log_in(house.reader))
    second = cookie_of(house.log_in(house.controller, first))
    assert house.ask("/data", "GET", first).status == 401
    assert house.ask("/data", "GET", second).status == 200


def test_a_wrong_token_ends_no_session(house: House) -> None:
    """Who mistypes is logged in as before."""
    cookie = cookie_of(house.log_in(house.reader))
    assert house.log_in("x", cookie).status == 401
    assert house.ask("/data", "GET", cookie).status == 200


def test_a_session_in_use_is_renewed(house: House) -> None:
    """A browser is told once a day that its session goes on, or it would drop the cookie while it is in use."""
    login = house.log_in(house.reader)
    cookie = cookie_of(login)
    house.clock.advance(RENEWAL_SECONDS - 1)
    assert "set-cookie" not in house.ask("/data", "GET", cookie).headers
    house.clock.advance(1)
    assert house.ask("/data", "GET", cookie).headers["set-cookie"] == login.headers["set-cookie"]
    assert "set-cookie" not in house.ask("/data", "GET", cookie).headers
    house.clock.advance(RENEWAL_SECONDS)
    assert "set-cookie" in house.ask("/data", "GET", cookie).headers


def test_only_a_session_is_renewed(house: House) -> None:
    """Neither a made-up cookie nor a token gets a cookie."""
    house.clock.advance(2 * RENEWAL_SECONDS)
    assert "set-cookie" not in house.ask("/data", "GET", "Cookie: rpiserve-80=x").headers
    assert "set-cookie" not in house.ask("/data", "GET", bearer(house.reader)).headers


def test_logging_out(house: House) -> None:
    """After logging out the cookie is of no use, on whatever browser a copy of it may be."""
    cookie = cookie_of(house.log_in(house.controller))
    answer = house.ask("/logout", "POST", cookie)
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert house.ask("/data", "GET", cookie).status == 401


def test_a_session_ends_with_its_token(house: House) -> None:
    """When a token is revoked the sessions that were begun with it end."""
    cookie = cookie_of(house.log_in(house.controller))
    house.file.revoke("controller")
    house.clock.advance(LOOK_SECONDS)
    assert house.ask("/data", "GET", cookie).status == 401


def test_an_expired_session(house: House) -> None:
    """A session lasts for as long as it is used, and ends when it is not used for long."""
    cookie = cookie_of(house.log_in(house.controller))
    for _ in range(3):
        house.clock.advance(IDLE_SECONDS - 1)
        assert house.ask("/data", "GET", cookie).status == 200
    house.clock.advance(IDLE_SECONDS + 1)
    assert house.ask("/data", "GET", cookie).status == 401


@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_foreign_pages_log_nobody_in_or_out(house: House, path: str) -> None:
    """A page of another origin can neither end a session nor have a browser log in with a token of its own."""
    body = f"token={house.reader}".encode()
    assert house.ask(path, "POST", FORM, "Origin: http://evil.example", body=body).status == 403


def test_the_form_is_a_form(house: House) -> None:
    """Nothing but a form logs in."""
    assert house.ask("/login", "POST", "Content-Type: text/plain", body=b"token=x").status == 415
    assert house.ask("/login", "POST").status == 415


def test_the_form_is_small(house: House) -> None:
    """A form that nobody would send is refused before it is looked at, which would take long."""
    assert house.log_in("%41" * 20_000).status == 413


def test_a_stream_ends_with_its_token(house: House) -> None:
    """A stream of events that is open when its token is revoked ends soon."""
    peer = Peer(house.site).send(request("/events", "GET", bearer(house.reader)))
    house.clock.advance(10)
    assert peer.end is None
    house.file.revoke("reader")
    house.clock.advance(10)
    assert peer.end is not None


def test_a_stream_ends_with_its_session(house: House) -> None:
    """A stream that is open in one tab ends soon when somebody logs out in another."""
    cookie = cookie_of(house.log_in(house.reader))
    peer = Peer(house.site).send(request("/events", "GET", cookie))
    for _ in range(3):
        house.clock.advance(10)
    assert peer.end is None
    house.ask("/logout", "POST", cookie)
    house.clock.advance(10)
    assert peer.end is not None


def test_no_tokens_no_login(tmp_path: Path) -> None:
    """Where there are no tokens everybody is let in who can reach us, and there is nothing to log in with."""
    house = House(tmp_path, tokens=False)
    assert house.ask("/data").status == 200
    assert house.ask("/login").status == 404
    assert house.log_in("x").status == 404


def test_sessions_are_bounded() -> None:
    """There are so many sessions and no more: the one that has been idle longest goes."""
    clock = Clock()
    sessions = Sessions(clock)  # type: ignore[arg-type]
    tokens = [cast(Any, object()) for _ in range(MOST_SESSIONS)]
    secrets = [sessions.begin(token) for token in tokens]
    assert sessions.find(secrets[0]) is tokens[0]
    sessions.begin(tokens[-1])
    assert sessions.find(secrets[1]) is None
    assert sessions.find(secrets[0]) is tokens[0]


def test_nobody_ends_the_sessions_of_others(house: House) -> None:
    """However often one token logs in, the sessions of another stay, and its own latest ones."""
    cookie = cookie_of(house.log_in(house.controller))
    own = [cookie_of(house.log_in(house.reader)) for _ in range(MOST_OF_A_TOKEN + 1)]
    statuses = [house.ask("/data", "GET", each).status for each in (cookie, own[0], own[1], own[-1])]
    assert statuses == [200, 401, 200, 200]


# --- guessing -------------------------------------------------------------------------------------------------------


def test_guessing_is_throttled(house: House) -> None:
    """After some wrong tokens an address has to wait, by form or header, even with a right one in the form."""
    for _ in range(FREE):
        assert house.log_in("x", peer=LAN).status == 401
    answer = house.log_in(house.controller, peer=LAN)
    assert (answer.status, answer.headers["retry-after"]) == (429, f"{SECONDS_EACH + 1:.0f}")
    assert house.ask("/data", "GET", bearer("x"), peer=LAN).status == 429
    house.clock.advance(SECONDS_EACH)
    assert house.log_in(house.controller, peer=LAN).status == 303


def test_others_are_not_throttled(house: House) -> None:
    """A thousand wrong tokens are nothing to other addresses, nor to who has a right one at the same address."""
    cookie = cookie_of(house.log_in(house.controller, peer=LAN))
    statuses = [house.log_in("x", peer=LAN).status for _ in range(1000)]
    assert statuses.count(401) == FREE
    assert house.ask("/data", "GET", bearer(house.reader), peer=LAN).status == 200
    assert house.ask("/data", "GET", cookie, peer=LAN).status == 200
    assert house.log_in(house.reader, peer=IPv4Address("TCP", "192.168.1.10", 1)).status == 303
    assert house.access.counts["throttled"] == 1000 - FREE


def test_many_addresses_are_one_network(house: House) -> None:
    """Who has a whole IPv6 network to send from is taken for one."""
    for number in range(FREE):
        house.log_in("x", peer=IPv6Address("TCP", f"2001:db8::{number:x}", 1))
    assert house.log_in("x", peer=IPv6Address("TCP", "2001:db8::ffff", 1)).status == 429
    assert house.log_in("x", peer=IPv6Address("TCP", "2001:db8:0:1::1", 1)).status == 401


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.168.1.2", "192.168.1.2"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
    ],
)
def test_networks(host: str, network: str) -> None:
    """An IPv4 address stands for itself, in IPv6 as well, and an IPv6 address for its /64."""
    assert network_of(host) == network


def test_throttle_is_bounded() -> None:
    """However many addresses guess, what is remembered of them is bounded."""
    clock = Clock()
    throttle = Throttle(clock)  # type: ignore[arg-type]
    for number in range(MOST_ADDRESSES + 100):
        throttle.note(str(number))
    assert throttle.wait(str(MOST_ADDRESSES + 99)) == 0
    assert len(vars(throttle)["_empty_at"]) <= MOST_ADDRESSES


def test_guessing_is_in_the_log(house: House) -> None:
    """The log says who guesses, but not as often as the guesser likes; a mistake or two it does not mention."""
    with capturedLogs() as events:
        for _ in range(FREE - 1):
            house.ask("/data", "GET", bearer("x"), peer=LAN)
        assert events == []
        for _ in range(1000):
            house.ask("/data", "GET", bearer("x"), peer=LAN)
            house.clock.advance(0.5)
        assert len(events) == 1
        house.clock.advance(QUIET_SECONDS)
        for _ in range(2 * FREE):
            house.ask("/data", "GET", bearer("x"), peer=LAN)
    texts = [formatEvent(event) for event in events]
    assert [text.partition(" has sent too many wrong tokens")[0] for text in texts] == [LAN.host] * 2
    assert "proxy" not in texts[0]


# --- large bodies ---------------------------------------------------------------------------------------------------


def head_of(length: int | None, *headers: str) -> bytes:
    """Return the head of a request with a body of ``length``, in chunks if that is None."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return request("/broadcasts/x", "POST", JSON, framing, *headers)


LARGE = b"%x\r\n" % (FREE_BODY + 1) + b"x" * (FREE_BODY + 1) + b"\r\n"


def test_a_large_body_of_a_stranger(house: House) -> None:
    """Who shows no token is refused as soon as a body is known to be large: by its head, before it is asked for."""
    peer = Peer(house.site).send(head_of(FREE_BODY + 1, "Expect: 100-continue"))
    answer = peer.answer("POST")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="rpiserve"')
    assert answer.json()["detail"].startswith("a body of more than 64 KiB needs a token")
    assert answer.headers["connection"] == "close"
    assert house.access.counts == {"refused": 1}


def test_large_chunks_of_a_stranger(house: House) -> None:
    """A body in chunks is refused once, at the chunk by which it is large, however many more come along with it."""
    peer = Peer(house.site).send(head_of(None) + b"1\r\nx\r\n" + LARGE * 3)
    assert peer.answer("POST").status == 401
    assert house.access.counts == {"refused": 1}


def test_a_large_body_with_a_wrong_token(house: House) -> None:
    """A wrong token counts as a guess, or guesses could be made by the length of a body."""
    for _ in range(FREE):
        assert Peer(house.site, LAN).send(head_of(FREE_BODY + 1, bearer("wrong"))).answer("POST").status == 401
    answer = Peer(house.site, LAN).send(head_of(FREE_BODY + 1, bearer("wrong"))).answer("POST")
    assert (answer.status, answer.headers["retry-after"]) == (429, f"{SECONDS_EACH + 1:.0f}")
    assert house.access.counts == {"wrong": FREE, "throttled": 1}


def test_a_small_body_of_a_stranger(house: House) -> None:
    """What is not large is read from everybody, since it may be the form, or for a route that is open to all."""
    peer = Peer(house.site).send(head_of(FREE_BODY, "Expect: 100-continue"))
    assert peer.received.startswith(b"HTTP/1.1 100 ")
    answer = house.ask("/login", "POST", FORM, body=b"x" * FREE_BODY)
    assert answer.status == 413  # of the form itself


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_large_body_with_a_token(house: House, framing: str) -> None:
    """Who shows a token, or the cookie of a session, may send a body as large as any."""
    body = b"[" + b" " * FREE_BODY + b"]"
    for shown in (bearer(house.controller), cookie_of(house.log_in(house.controller))):
        if framing == "length":
            answer = house.ask("/broadcasts/x", "POST", JSON, shown, body=body)
        else:
            sent = head_of(None, shown) + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
            answer = Peer(house.site).send(sent).answer("POST")
        assert (answer.status, answer.json()["detail"]) == (422, "a broadcast is a JSON object")


def test_a_large_body_without_tokens(tmp_path: Path) -> None:
    """Where there are no tokens, none is asked for."""
    house = House(tmp_path, tokens=False)
    assert house.ask("/broadcasts/x", "POST", JSON, body=b"[" + b" " * FREE_BODY + b"]").status == 422


# --- proxies --------------------------------------------------------------------------------------------------------

FORWARDED = ("X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: machine.local")


def test_a_proxy_that_nobody_has_named(tmp_path: Path) -> None:
    """Without tokens a request that came by a proxy is refused: it may have come from anywhere."""
    house = House(tmp_path, tokens=False)
    for header in (*FORWARDED, "Forwarded: for=203.0.113.7", "Via: 1.1 x", "X-Real-IP: 203.0.113.7"):
        assert house.ask("/data", "GET", header).status == 403
    (tmp_path / "open").mkdir()
    assert House(tmp_path / "open", tokens=False, open=True).ask("/data", "GET", *FORWARDED).status == 200


def test_a_proxy_and_tokens(house: House) -> None:
    """With tokens a request may come by any proxy."""
    assert house.ask("/data", "GET", *FORWARDED, bearer(house.reader)).status == 200
    assert house.ask("/data", "GET", *FORWARDED).status == 401


def test_wrong_tokens_by_a_proxy(house: House) -> None:
    """When the clients of a proxy that nobody has named hold each other up, the log says what to do."""
    with capturedLogs() as events:
        for _ in range(FREE):
            house.log_in("x", *FORWARDED)
    [event] = events
    assert "--trusted-proxy" in formatEvent(event)


def test_a_proxy_that_is_trusted(tmp_path: Path) -> None:
    """By a trusted proxy a request counts as its client sent it: its address, its scheme, its host."""
    house = House(tmp_path, ("127.0.0.1",))
    answer = house.log_in(house.reader, *FORWARDED)
    assert answer.status == 303
    assert "Secure" in answer.headers["set-cookie"]
    for _ in range(FREE):
        house.log_in("x", *FORWARDED)
    assert house.log_in("x", *FORWARDED).status == 429
    assert house.log_in("x", "X-Forwarded-For: 203.0.113.8").status == 401


def test_the_host_that_a_proxy_tells(tmp_path: Path) -> None:
    """The name that a client used must be one of ours, by way of a proxy, too; and only a trusted one can tell it."""
    house = House(tmp_path, ("127.0.0.1",), tokens=False)
    assert house.ask("/data", "GET", "X-Forwarded-Host: evil.example").status == 421
    assert house.ask("/data", "GET", "X-Forwarded-Host: machine.local", host="backend").status == 200
    assert house.ask("/data", "GET", "X-Forwarded-Host: machine.local", host="backend", peer=LAN).status == 421


@pytest.mark.parametrize(
    "made_up",
    [("X-Forwarded-Host: localhost, evil.example",), ("X-Forwarded-Host: localhost", "X-Forwarded-Host: evil.example")],
)
def test_a_host_that_a_client_has_made_up(tmp_path: Path, made_up: tuple[str, ...]) -> None:
    """Where a proxy appends to what it was sent, what it has appended counts."""
    house = House(tmp_path, ("127.0.0.1",), tokens=False)
    assert house.ask("/data", "GET", *made_up).status == 421


def test_hops_that_a_client_has_made_up(tmp_path: Path) -> None:
    """Of a chain the last hop counts that is no trusted proxy: what stands before it anybody may have written."""
    house = House(tmp_path, ("127.0.0.1", "10.0.0.0/8"))
    for number in range(FREE):
        house.log_in("x", f"X-Forwarded-For: 1.2.3.{number}, 203.0.113.7, 10.1.1.1")
    assert house.log_in("x", "X-Forwarded-For: 9.9.9.9, 203.0.113.7, 10.2.2.2").status == 429
    assert house.log_in("x", "X-Forwarded-For: 203.0.113.9, nonsense").status == 401


def test_get_cmd_by_a_trusted_proxy(tmp_path: Path) -> None:
    """What comes by a trusted proxy comes from elsewhere, so that ``GET`` runs no command by way of it."""
    house = House(tmp_path, ("127.0.0.1",), tokens=False)
    assert house.ask("/cmd?name=x").status == 404
    assert house.ask("/cmd?name=x", "GET", *FORWARDED).status == 403


def test_a_proxy_by_a_unix_socket(tmp_path: Path) -> None:
    """Whoever reaches the unix socket can be trusted as a proxy by a name of its own."""
    peer = UNIXAddress(b"/run/app.sock")
    assert House(tmp_path, ("unix",), tokens=False).ask("/data", "GET", *FORWARDED, peer=peer).status == 200
    (tmp_path / "other").mkdir()
    assert (
        House(tmp_path / "other", ("127.0.0.1",), tokens=False).ask("/data", "GET", *FORWARDED, peer=peer).status == 403
    )


@pytest.mark.parametrize("name", ["proxy.lan", "10.0.0.1/8", "300.0.0.1", ""])
def test_what_is_no_proxy(name: str) -> None:
    """A proxy is named by an address or a network."""
    with pytest.raises(ConfigError, match="--trusted-proxy"):
        TrustedProxies([name])


def test_requests_know_nothing_of_it_by_default() -> None:
    """A request that nobody has let in counts as let in by nobody."""
    assert (LimitedRequest.is_authenticated, LimitedRequest.proxied, LimitedRequest.still_allowed) == (
        False,
        False,
        None,
    )
