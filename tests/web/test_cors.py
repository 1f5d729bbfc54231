"""Which pages of other origins may use us, and that their browsers are told so: the policy, and what is on the wire."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from http_peer import Answer, Peer, make_admission, make_router, make_site, parse_answers, request
from twisted.internet.task import Clock

from rpiserve import App
from rpiserve.commands.calls import CommandCalls
from rpiserve.daemon.config import load
from rpiserve.declare.cors import HEADERS, MAX_AGE, METHODS, READING, CorsPolicy
from rpiserve.errors import ConfigError, DeclarationError
from rpiserve.web.server.request import LimitedRequest

PANEL, OTHER = "https://panel.example", "https://other.example"
JSON = "Content-Type: application/json"
CALL = b'{"Command":{"Name":"ring"}}'
ASKED = "Access-Control-Request-Method"
VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"

# --- the policy -------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    """Named origins may do all by default, any origin may read; cookies stay at home."""
    named, any_ = CorsPolicy.of([PANEL, "http://localhost:3000"]), CorsPolicy.of("*")
    assert (named.allowed_methods, any_.allowed_methods) == (METHODS, READING)
    for policy in (named, any_):
        assert policy.allowed_headers == HEADERS
        assert policy.expose_headers == ()
        assert not policy.allow_credentials
        assert policy.max_age == MAX_AGE


@pytest.mark.parametrize(
    ("written", "origin"),
    [
        ("https://panel.example", "https://panel.example"),
        ("HTTPS://Panel.Example", "https://panel.example"),
        ("https://panel.example/", "https://panel.example"),
        ("https://panel.example:443", "https://panel.example"),
        ("http://panel.example:80/", "http://panel.example"),
        ("https://panel.example:", "https://panel.example"),
        ("https://panel.example:80", "https://panel.example:80"),
        ("http://panel.example:443", "http://panel.example:443"),
        ("http://localhost:03000", "http://localhost:3000"),
        ("http://192.168.1.2:8080", "http://192.168.1.2:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[FE80::1]", "http://[fe80::1]"),
        ("http://raspberry_pi.local", "http://raspberry_pi.local"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_origins_are_as_a_browser_writes_them(written: str, origin: str) -> None:
    """Whichever way an origin is written, it is known by what a browser sends, and by nothing else."""
    policy = CorsPolicy.of(written)
    assert policy.allowed_origins == (origin,)
    assert policy.knows(origin)
    for other in (f"{origin}.evil.example", f"{origin}1", origin[:-1], f"{origin}/", origin.upper(), "null", ""):
        assert not policy.knows(other)


def test_same_origin_twice() -> None:
    """An origin that is named twice counts once."""
    assert CorsPolicy.of([PANEL, "https://PANEL.example:443/"]).allowed_origins == (PANEL,)


WRONG: list[tuple[dict[str, Any], str]] = [
    *(
        ({"allowed_origins": origin}, "scheme://host")
        for origin in (
            *("panel.example", "//panel.example", "ftp://panel.example", "file://", "null", "https://", "https://:80"),
            *(
                "https://panel.example/page",
                "https://panel.example?a",
                "https://panel.example#a",
                "https://a@b.example",
            ),
            *("https://*.example", "https://*", "https://bücher.example", "https://a b.example", "https://a,b.example"),
            *("https://panel.example:99999", "https://panel.example:x", "https://[::1", "https://a..b", "https://a\\b"),
            *("https://panel.example\r\nX: 1/", " ", "x" * 5000),
        )
    ),
    ({"allowed_origins": []}, "names no origin"),
    ({"allowed_origins": ""}, "list of texts"),
    ({"allowed_origins": ["*", PANEL]}, "stands alone"),
    ({"allowed_origins": "*", "allow_credentials": True}, "does not go with"),
    ({"allowed_methods": "GET POST"}, "list of names"),
    ({"allowed_methods": ["GET", "*"]}, "stands alone"),
    ({"allowed_methods": ["GET\r\n"]}, "list of names"),
    ({"allowed_headers": ["X-A: 1"]}, "list of names"),
    ({"allowed_headers": ["*", "X-A"]}, "stands alone"),
    ({"expose_headers": ["X-ü"]}, "list of names"),
    ({"expose_headers": "*", "allow_credentials": True}, "does not go with"),
]
"""What is wrong wherever it stands, by Daebus's names, and what the text has to say."""

WRONG_IN_CODE: list[tuple[dict[str, Any], str]] = [
    ({"allowed_origins": None}, "list of texts"),
    ({"allowed_origins": 5}, "list of texts"),
    ({"allowed_origins": [PANEL, 5]}, "list of texts"),
    ({"allowed_origins": PANEL.encode()}, "list of texts"),
    ({"allowed_headers": [None]}, "list of texts"),
    ({"allow_credentials": "yes"}, "true or false"),
    ({"allow_credentials": None}, "true or false"),
    ({"max_age": -1}, "whole number"),
    ({"max_age": 1.5}, "whole number"),
    ({"max_age": True}, "whole number"),
    ({"max_age": "600"}, "whole number"),
]


@pytest.mark.parametrize(("options", "text"), WRONG + WRONG_IN_CODE, ids=str)
def test_refused(options: dict[str, Any], text: str) -> None:
    """A policy that cannot be meant is refused with the name of what is wrong and what it should be."""
    with pytest.raises(ValueError, match=next(name for name in reversed(options))) as caught:
        CorsPolicy.of(**{"allowed_origins": PANEL, **options})
    assert text in str(caught.value)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


# --- by option, TOML and code -----------------------------------------------------------------------------------------

OPTIONS = {
    "allowed_origins": "cors_origin",
    "allowed_methods": "cors_method",
    "allowed_headers": "cors_header",
    "expose_headers": "cors_expose_header",
    "allow_credentials": "cors_credentials",
    "max_age": "cors_max_age",
}
"""What Daebus's names are as options."""

ALL: dict[str, Any] = {
    "allowed_origins": [PANEL, "http://localhost:3000"],
    "allowed_methods": ["GET", "POST"],
    "allowed_headers": ["Content-Type", "X-Panel"],
    "expose_headers": ["ETag", "X-Count"],
    "allow_credentials": True,
    "max_age": 7,
}


def by_option(policy: dict[str, Any], _: Path) -> CorsPolicy | None:
    """Return the policy that options of the command line make."""
    texts = {OPTIONS[name]: [value] if isinstance(value, str) else value for name, value in policy.items()}
    return load(texts, {}).cors


def by_environment(policy: dict[str, Any], _: Path) -> CorsPolicy | None:
    """Return the policy that environment variables make."""
    values = {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in policy.items()}
    return load({}, {f"RPISERVE_{OPTIONS[name].upper()}": value for name, value in values.items()}).cors


def by_toml(policy: dict[str, Any], tmp_path: Path) -> CorsPolicy | None:
    """Return the policy that a file makes."""
    file = tmp_path / "rpiserve.toml"
    shown = {OPTIONS[name]: value for name, value in policy.items()}
    lines = (
        f"{name} = {str(value).lower() if isinstance(value, bool) else toml(value)}" for name, value in shown.items()
    )
    file.write_text("\n".join(lines), encoding="utf-8")
    return load({"config": str(file)}, {}).cors


def toml(value: Any) -> str:
    """Return a value as TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if not isinstance(value, str):
        return str(value)
    return '"' + "".join(f"\\U{ord(character):08x}" for character in value) + '"'


def by_run(policy: dict[str, Any], _: Path) -> CorsPolicy | None:
    """Return the policy that the arguments of ``app.run`` make."""
    return load({}, {}, {OPTIONS[name]: value for name, value in policy.items()}).cors


def by_code(policy: dict[str, Any], _: Path) -> CorsPolicy | None:
    """Return the policy that ``app.cors`` makes."""
    app = App("test")
    app.cors(**policy)
    return app.cors_policy


@pytest.mark.parametrize("make", [by_option, by_environment, by_toml, by_run, by_code])
def test_all_options(make: Callable[[dict[str, Any], Path], CorsPolicy | None], tmp_path: Path) -> None:
    """Every option of Daebus's can be had in every way."""
    assert make(ALL, tmp_path) == CorsPolicy.of(**ALL)


@pytest.mark.parametrize("make", [by_option, by_toml, by_run, by_code])
@pytest.mark.parametrize(("options", "text"), WRONG, ids=str)
def test_refused_wherever(
    make: Callable[[dict[str, Any], Path], CorsPolicy | None], options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    """What cannot be meant is refused at the start, in each way, with one clear text."""
    if options.get("allowed_origins") == [] and make is not by_code:
        assert make(options, tmp_path) is None  # which is how CORS is turned off
        return
    with pytest.raises((ConfigError, DeclarationError)) as caught:
        make({"allowed_origins": PANEL, **options}, tmp_path)
    assert "\n" not in str(caught.value)
    assert make is not by_code or text in str(caught.value)


@pytest.mark.parametrize("name", sorted(set(OPTIONS) - {"allowed_origins"}))
def test_nothing_without_origins(name: str) -> None:
    """An option without an origin, which could have no effect, is an error."""
    with pytest.raises(ConfigError, match="--cors-origin"):
        load({OPTIONS[name]: ALL[name]}, {})


def test_unknown_option_in_code() -> None:
    """An option that there is not, and a second declaration, are errors of the app's."""
    app = App("test")
    with pytest.raises(DeclarationError, match="allowed_origin"):
        app.cors(PANEL, allowed_origin="x")
    app.cors(PANEL)
    with pytest.raises(DeclarationError, match="declared already"):
        app.cors(OTHER)


def test_off_by_default() -> None:
    """Without a word about it there is no CORS: not in the options, not in the app, not on the wire."""
    assert load({}, {}).cors is None
    assert App("test").cors_policy is None
    house = House()
    assert not cors_of(house.ask("/data", origin=PANEL))
    answer = house.ask("/data", "OPTIONS", f"{ASKED}: GET", origin=PANEL)
    assert answer.status == 204
    assert not cors_of(answer)
    assert "vary" not in answer.headers


# --- on the wire ------------------------------------------------------------------------------------------------------


class House:
    """A daemon with a bell, which counts.

    Args:
        policy: the arguments of `CorsPolicy.of`; none for no policy.
    """

    def __init__(self, *origins: str, get_commands: bool = False, **policy: Any) -> None:
        self.rung = 0
        self.clock = Clock()
        cors = CorsPolicy.of(origins, **policy) if origins else None
        app = App("test")

        @app.command
        async def ring() -> int:
            self.rung += 1
            return self.rung

        room = CommandCalls(app.commands, self.clock, lambda function, *arguments: function(*arguments), 1)
        admission = make_admission(self.clock, cors=cors, get_commands=get_commands)
        self.site = make_site(
            self.clock, resource=make_router(self.clock, commands=room, admission=admission), admission=admission
        )

    def send(self, data: bytes) -> Peer:
        """Send bytes on a connection of their own."""
        return Peer(self.site).send(data)

    def ask(
        self,
        target: str,
        method: str = "GET",
        *headers: str,
        origin: str | None = None,
        body: bytes = b"",
        host: str = "localhost",
    ) -> Answer:
        """Send a request from a page of ``origin``, and return the answer."""
        own = [] if origin is None else [f"Origin: {origin}"]
        return self.send(request(target, method, *own, *headers, body=body, host=host)).answer(method)

    def preflight(self, origin: str, method: str, *headers: str, target: str = "/cmd") -> dict[str, str]:
        """Ask as a browser does before a page of ``origin`` may use ``method``, and return the headers about it."""
        wanted = [f"Access-Control-Request-Headers: {','.join(headers)}"] if headers else []
        answer = self.ask(target, "OPTIONS", f"{ASKED}: {method}", *wanted, origin=origin)
        assert answer.status == 204
        assert not self.rung
        assert answer.headers["vary"] == VARY
        return cors_of(answer)


def cors_of(answer: Answer) -> dict[str, str]:
    """Return the headers about CORS, without what they all begin with."""
    prefix = "access-control-"
    return {name.removeprefix(prefix): text for name, text in answer.headers.items() if name.startswith(prefix)}


def test_simple_request() -> None:
    """An answer to a page that is allowed says so; to any other, and to what is no page, only that it depends."""
    house = House(PANEL, "http://localhost:3000")
    for origin in (PANEL, "http://localhost:3000"):
        answer = house.ask("/data", origin=origin)
        assert (answer.status, answer.json()) == (200, {})
        assert cors_of(answer) == {"allow-origin": origin}
        assert answer.headers["vary"] == "Origin"
    for other in (
        OTHER,
        "null",
        "",
        "https://panel.example.evil.example",
        "https://panel.example:8443",
        "x" * 5000,
        None,
    ):
        answer = house.ask("/data", origin=other)
        assert (answer.status, cors_of(answer), answer.headers["vary"]) == (200, {}, "Origin")


@pytest.mark.parametrize(
    "origin", ["https://panel.example\xff", "HTTPS://PANEL.EXAMPLE", f"{PANEL} {PANEL}", f"{PANEL}, *"]
)
def test_no_origin_of_ours(origin: str) -> None:
    """What is no origin as a browser writes it is known by nobody, and nothing of it comes back."""
    answer = House(PANEL).ask("/data", origin=origin)
    assert (answer.status, cors_of(answer)) == (200, {})


def test_not_modified_and_head() -> None:
    """A 304 and the answer to HEAD say it, too, or the browser would keep them from the page."""
    house = House(PANEL)
    tag = house.ask("/data", origin=PANEL).headers["etag"]
    for answer in (
        house.ask("/data", "GET", f"If-None-Match: {tag}", origin=PANEL),
        house.ask("/data", "HEAD", origin=PANEL),
    ):
        assert cors_of(answer) == {"allow-origin": PANEL}
        assert answer.headers["vary"] == "Origin"


def test_credentials_and_exposed_headers() -> None:
    """If the policy says so, cookies may be sent along, and the page sees more headers of answers."""
    house = House(PANEL, allow_credentials=True, expose_headers=["ETag", "X-Count"])
    assert cors_of(house.ask("/data", origin=PANEL)) == {
        "allow-origin": PANEL,
        "allow-credentials": "true",
        "expose-headers": "ETag, X-Count",
    }
    assert not cors_of(house.ask("/data", origin=OTHER))
    assert house.preflight(PANEL, "POST")["allow-credentials"] == "true"


def test_any_origin() -> None:
    """With ``*`` each answer is for all, whoever asks, so that it depends on nothing."""
    house = House("*")
    for origin in (PANEL, "null", None):
        answer = house.ask("/data", origin=origin)
        assert cors_of(answer) == {"allow-origin": "*"}
        assert "vary" not in answer.headers


@pytest.mark.parametrize("credentials", [False, True])
def test_preflight(credentials: bool) -> None:
    """A preflight of a page that is allowed is told the methods, the headers, and for how long that holds."""
    house = House(PANEL, allowed_headers=["Content-Type", "X-A"], max_age=5, allow_credentials=credentials)
    told = house.preflight(PANEL, "POST", "content-type", "x-a")
    assert told.pop("allow-credentials", None) == ("true" if credentials else None)
    assert told == {
        "allow-origin": PANEL,
        "allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
        "allow-headers": "Content-Type, X-A",
        "max-age": "5",
    }


def test_preflight_of_what_is_not_allowed() -> None:
    """Another origin is told nothing; a method or a header that is not allowed is not among those that are."""
    house = House(PANEL, allowed_methods=["get", "POST"], allowed_headers=["X-A"])
    assert house.preflight(OTHER, "POST", "x-a") == {}
    assert house.preflight("null", "POST", "x-a") == {}
    told = house.preflight(PANEL, "DELETE", "x-b")
    assert (told["allow-methods"], told["allow-headers"]) == ("GET, POST", "X-A")


def test_preflight_by_star() -> None:
    """Where any method or header is allowed, those that were asked for are named; nothing else gets back."""
    house = House(PANEL, allowed_methods="*", allowed_headers="*", allow_credentials=True)
    told = house.preflight(PANEL, "PURGE", "Authorization", " x-b ", "", "b ad", "x:y")
    assert (told["allow-methods"], told["allow-headers"]) == ("PURGE", "Authorization, x-b")
    told = house.preflight(PANEL, "P(URGE")
    assert (told["allow-methods"], told["allow-headers"]) == ("*", "")


def test_plain_options() -> None:
    """An OPTIONS that is no preflight tells what the route has, as ever."""
    house = House(PANEL)
    answer = house.ask("/data", "OPTIONS", origin=PANEL)
    assert (answer.status, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")
    assert cors_of(answer) == {"allow-origin": PANEL}
    answer = house.ask("/data", "OPTIONS", f"{ASKED}: GET")
    assert (answer.status, answer.headers["allow"], cors_of(answer)) == (204, "GET, HEAD, OPTIONS", {})


LATE = f"POST /cmd HTTP/1.1\r\nHost: localhost\r\nOrigin: {PANEL}\r\nContent-Length: 9\r\n\r\n"
LONG = f"POST /cmd HTTP/1.1\r\nHost: localhost\r\nOrigin: {PANEL}\r\nContent-Length: 9999999\r\n\r\n"
ABSURD = f"POST /cmd HTTP/1.1\r\nHost: localhost\r\nOrigin: {PANEL}\r\nContent-Length: {'9' * 50}\r\n\r\n"
ENDLESS = f"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: {PANEL}\r\nAccept: */*\r\nX: {'x' * 100_000}\r\n\r\n"
ERRORS = {
    "404": (404, request("/nothing", "GET", f"Origin: {PANEL}")),
    "404 of a path": (404, request("/data/nothing", "GET", f"Origin: {PANEL}")),
    "405": (405, request("/data", "POST", f"Origin: {PANEL}")),
    "400 of a body": (400, request("/cmd", "POST", f"Origin: {PANEL}", JSON, body=b"{")),
    "400 of a path": (400, request("/%ff", "GET", f"Origin: {PANEL}")),
    "415": (415, request("/cmd", "POST", f"Origin: {PANEL}", body=b"{}")),
    "421": (421, request("/data", "GET", f"Origin: {PANEL}", host="evil.example")),
    "413": (413, LONG.encode()),
    "413 at once": (413, ABSURD.encode()),
    "400 of a line": (400, ENDLESS.encode()),
    "408": (408, LATE.encode()),
}


@pytest.mark.parametrize(("status", "data"), ERRORS.values(), ids=ERRORS)
def test_errors(status: int, data: bytes) -> None:
    """A page can read what went wrong: errors carry the same headers, even those before the request is complete."""
    house = House(PANEL, expose_headers=["ETag"])
    peer = house.send(data)
    house.clock.advance(11)
    (answer,) = parse_answers(peer.received)
    assert (answer.status, answer.headers["vary"]) == (status, "Origin")
    assert cors_of(answer) == {"allow-origin": PANEL, "expose-headers": "ETag"}
    peer.leave()


@pytest.mark.parametrize("data", [b"GET /\r\n\r\n", b"\x16\x03\x01\r\n\r\n"])
def test_errors_of_nobody(data: bytes) -> None:
    """What has no origin is refused without one."""
    house = House(PANEL)
    peer = house.send(data)
    (answer,) = parse_answers(peer.received)
    assert (answer.status, cors_of(answer)) == (400, {})
    peer.leave()


# --- what a page may do -----------------------------------------------------------------------------------------------


@attrs.frozen
class Deed:
    """What a page tries, and what comes of it."""

    origin: str
    status: int
    policy: dict[str, Any] = attrs.field(factory=dict)
    origins: tuple[str, ...] = (PANEL,)


DEEDS = [
    Deed(PANEL, 200),
    Deed(OTHER, 403),
    Deed("null", 403),
    Deed("http://panel.example", 403),
    Deed("https://panel.example:8443", 403),
    Deed("https://PANEL.example", 403),
    Deed(PANEL, 200, {"allowed_methods": ["POST"]}),
    Deed(PANEL, 200, {"allowed_methods": "*"}),
    Deed(PANEL, 403, {"allowed_methods": ["GET", "HEAD"]}),
    Deed(PANEL, 403, origins=("*",)),
    Deed("null", 403, origins=("*",)),
    Deed(PANEL, 200, {"allowed_methods": ["GET", "POST"]}, ("*",)),
    Deed(PANEL, 200, {"allowed_methods": "*"}, ("*",)),
    Deed(PANEL, 200, origins=("HTTPS://panel.EXAMPLE:443/",)),
    Deed("http://localhost", 200, {"allowed_methods": ["GET"]}),  # our own page
]


@pytest.mark.parametrize("deed", DEEDS, ids=str)
@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
def test_post(deed: Deed, site: str | None) -> None:
    """Only a page that is allowed to POST runs a command by it, and whoever is refused has no effect."""
    house = House(*deed.origins, **deed.policy)
    own = deed.origin == "http://localhost"
    fetch = [] if site is None or own else [f"Sec-Fetch-Site: {site}"]
    answer = house.ask("/cmd", "POST", JSON, *fetch, origin=deed.origin, body=CALL)
    assert (answer.status, house.rung) == (deed.status, int(deed.status == 200))
    if deed.status == 403:
        known = CorsPolicy.of(deed.origins, **deed.policy).knows(deed.origin)
        assert ("--cors-method" if known else "--cors-origin") in answer.json()["detail"]


@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_get_that_acts(deed: Deed) -> None:
    """A GET that runs a command is for those who may POST: to be allowed to read is not enough."""
    house = House(*deed.origins, **deed.policy)
    answer = house.ask("/cmd?name=ring", "GET", origin=deed.origin)
    assert (answer.status, house.rung) == (deed.status, int(deed.status == 200))


@pytest.mark.parametrize("origins", [(PANEL,), ("*",)])
def test_image(origins: tuple[str, ...]) -> None:
    """A request of another site's page that names no origin, as for an image, runs nothing, whatever is allowed."""
    house = House(*origins, allowed_methods="*")
    assert house.ask("/cmd?name=ring", "GET", "Sec-Fetch-Site: cross-site").status == 403
    assert house.rung == 0


def test_refusal_can_be_read() -> None:
    """A page that may read but not act is told why."""
    answer = House("*").ask("/cmd", "POST", JSON, origin=PANEL, body=CALL)
    assert (answer.status, cors_of(answer)) == (403, {"allow-origin": "*"})


def test_preflight_reaches_no_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """A preflight runs nothing of the route that it asks for, even if the route would answer OPTIONS."""
    house = House(PANEL)

    def render(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(LimitedRequest, "render", render)
    assert house.preflight(PANEL, "POST", target="/cmd?name=ring")
