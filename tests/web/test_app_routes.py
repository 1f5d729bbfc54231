"""The app's own routes over HTTP: what a handler gets, what its client gets, and how what is wrong is answered."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_pool import FakePool
from hypothesis import given, settings
from hypothesis import strategies as st
from route_peer import FORM, JSON, RouteSite, incident_of, read_answer
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.logger import LogEvent

from rpiserve import (
    App,
    HttpError,
    HttpRequest,
    HttpResponse,
    broadcast,
    cache,
    request,
    response,
)
from rpiserve.core.tokens import TokenFile
from rpiserve.declare.cors import CorsPolicy
from rpiserve.web.app_routes import MOST_CALLS

Handler = Callable[[HttpRequest], Any]
SECRET = "the password is 12345"


def site_of(
    handler: Handler, path: str = "/it", methods: tuple[str, ...] = ("GET", "POST"), **options: Any
) -> RouteSite:
    """Return a site with one route."""
    app = App("test")
    app.route(path, methods=methods)(handler)
    return RouteSite(app, **options)


def both(handler: Handler) -> list[RouteSite]:
    """Return two sites: one runs ``handler`` in a thread, the other on the reactor."""

    async def asynchronous(req: HttpRequest) -> Any:
        return handler(req)

    return [site_of(handler), site_of(asynchronous)]


def seen(req: HttpRequest) -> dict[str, Any]:
    """Answer with what the request has."""
    body = req.payload.decode("latin-1") if isinstance(req.payload, bytes) else req.payload
    return {"method": req.method, "path": req.path, "query": req.query, "params": req.params, "payload": body}


# --- which handler answers --------------------------------------------------------------------------------------------


def test_methods() -> None:
    """Each method of a path has the handler that was declared for it; any other is 405 with those that there are."""
    app = App("test")
    app.route("/two", methods=["GET"])(lambda req: "read")
    app.route("/two", methods=["POST", "PUT"])(lambda req: f"written by {req.method}")
    site = RouteSite(app)
    assert site.ask("/two").json() == "read"
    assert site.post("/two", 1).json() == "written by POST"
    assert site.post("/two", 1, method="PUT").json() == "written by PUT"
    for method in ("DELETE", "PATCH", "TRACE", "BREW", "PROPFIND"):
        answer = site.ask("/two", method)
        assert "the methods here are GET, HEAD, OPTIONS, POST, PUT" in answer.problem(405)
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST, PUT"
    options = site.ask("/two", "OPTIONS")
    assert (options.status, options.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST, PUT")
    site.ask("/two", "get").problem(400)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "BREW"])
def test_without_a_token_no_route_is_known(method: str, tmp_path: Path) -> None:
    """Who has no token cannot tell by any method which routes there are."""
    app = App("test")
    app.route("/pins/<int:pin>", methods=["GET", "POST"])(lambda pin: pin)
    tokens = TokenFile(tmp_path / "tokens", lambda: 0.0)
    bearer = f"Authorization: Bearer {tokens.add('me', 'control')}"
    tokens.load()
    site = RouteSite(app, tokens=tokens)
    answers = [site.ask(path, method) for path in ("/pins/5", "/pins/none", "/nothing")]
    assert [answer.status for answer in answers] == [401] * 3
    assert len({(answer.body, *answer.headers) for answer in answers}) == 1
    statuses = [site.ask(path, method, bearer).status for path in ("/pins/5", "/pins/none", "/nothing")]
    assert statuses[0] < 404 or (statuses[0] == 405 and method in ("DELETE", "BREW"))
    assert statuses[1:] == [404, 404]


def test_head() -> None:
    """HEAD is answered as GET is, without the body; a route without GET has none."""
    site = site_of(lambda req: req.method.lower(), methods=("GET",))
    answer = site.ask("/it", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", str(len('"head"')))
    assert site_of(seen, methods=("POST",)).ask("/it", "HEAD").headers["allow"] == "OPTIONS, POST"


def test_nothing_there() -> None:
    """A path without a route is 404, and what rpiserve has by itself is still there."""
    site = site_of(seen, "/<path:everything>")
    assert site.ask("/health").json() == {"status": "ok"}
    assert site.ask("/%68ealth").json() == {"status": "ok"}
    assert site.ask("/data", "DELETE").status == 405
    assert site.ask("/healthy").json()["path"] == "/healthy"
    site_of(seen).ask("/other").problem(404)
    site_of(seen).ask("/IT").problem(404)


@pytest.mark.parametrize(
    ("path", "target", "value"),
    [
        ("/<x>", "/a%2Fb", "a/b"),
        ("/<x>", "/a%252Fb", "a%2Fb"),
        ("/<x>", "/%C3%A9", "é"),
        ("/<x>", "/%0D%0AX-Evil:%201", "\r\nX-Evil: 1"),
        ("/<x>", "/a;b=c", "a;b=c"),
        ("/<x>", "/...", "..."),
        ("/<x>", "/a/", "a"),
        ("/<x>", "/" + "a" * 2000, "a" * 2000),
        ("/<path:x>", "/a/b%2Fc/d.e/..f", "a/b/c/d.e/..f"),
        ("/größe/<x>", "/gr%C3%B6%C3%9Fe/1", "1"),
        ("/a|b/<x>", "/a%7Cb/1", "1"),
        ("/<int:x>", "/007", 7),
        ("/<int:x>", "/" + "9" * 2000, int("9" * 2000)),
        ("/<int(signed=True):x>", "/-5", -5),
        ("/<float:x>", "/1.5", 1.5),
        ("/<float(signed=True):x>", "/-0.0", -0.0),
        ("/<any(on,off):x>", "/off", "off"),
        ("/<uuid:x>", "/61D97191-F3F2-47AB-BE27-D8E49C9D286A", "61d97191-f3f2-47ab-be27-d8e49c9d286a"),
        ("/<x>", "http://localhost/a", "a"),
    ],
)
def test_variables(path: str, target: str, value: Any) -> None:
    """A variable has the value that the client meant, in the type of its converter, and the path is decoded."""
    app = App("test")
    app.route(path)(lambda req, x: {"x": x, "same": req.path_params == {"x": x} == req.params})
    assert RouteSite(app).ask(target).json() == {"x": value, "same": True}


@pytest.mark.parametrize(
    ("path", "target", "status"),
    [
        ("/<path:x>", "/..", 404),
        ("/<path:x>", "/a/%2e%2e/b", 404),
        ("/<path:x>", "/a%2F..%2Fb", 404),
        ("/<path:x>", "/./a", 404),
        ("/<path:x>", "//a", 404),
        ("/<path:x>", "/a//b", 404),
        ("/<path:x>", "/a//", 404),
        ("/<x>", "/%00", 400),
        ("/<x>", "/%ff", 400),
        ("/<x>", "/a/b", 404),
        ("/<x>", "/" + "a" * 2001, 414),
        ("/<x>/<y>", "/" + "a" * 1000 + "/" + "a" * 1001, 414),
        ("/<x>", "/" + "a" * 20_000, 400),
        ("/<int:x>", "/" + "9" * 5000, 414),
        ("/<int(signed=True):x>", "/-" + "9" * 5000, 414),
        ("/<int:x>", "/-5", 404),
        ("/<int:x>", "/+5", 404),
        ("/<int:x>", "/5.0", 404),
        ("/<int:x>", "/1_0", 404),
        ("/<int:x>", "/0x5", 404),
        ("/<float:x>", "/nan", 404),
        ("/<float:x>", "/inf", 404),
        ("/<float:x>", "/1e5", 404),
        ("/<float:x>", "/" + "9" * 400 + ".0", 404),
        ("/<float(signed=True):x>", "/-" + "9" * 400 + ".0", 404),
        ("/<uuid:x>", "/61d97191", 404),
        ("/<any(on,off):x>", "/maybe", 404),
    ],
)
def test_hostile_paths(path: str, target: str, status: int) -> None:
    """A path that does not match, be it made to break a converter or to climb, never reaches the handler."""
    site_of(lambda req, **variables: 1 / 0, path, ("GET",)).ask(target).problem(status)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=60))
def test_any_path(path: bytes) -> None:
    """Whatever stands in a path, the handler gets what it is decoded, or the client an error of its own."""
    site = site_of(seen, "/p/<path:x>", ("GET",))
    answer = site.ask("/p/" + "".join(f"%{byte:02x}" for byte in path))
    assert answer.status in (200, 400, 404)
    if answer.status == 200:
        assert answer.json()["params"] == {"x": path.decode()}


@pytest.mark.parametrize(
    "name", ["request", "endpoint", "instance", "self", "args", "route", "response", "v1", "class"]
)
def test_names_of_variables(name: str) -> None:
    """A variable may have any name, those that the machinery uses itself included."""
    app = App("test")
    app.route(f"/<{name}>/<int:other>")(lambda _, **variables: variables)
    assert RouteSite(app).ask("/a/5").json() == {name: "a", "other": 5}


def test_the_narrower_route() -> None:
    """Of several routes that match, the one with the narrower converter answers, if it has the method."""
    app = App("test")
    app.route("/<x>")(lambda x: f"text {x}")
    app.route("/<int:x>")(lambda x: f"number {x}")
    app.route("/five")(lambda: "five")
    app.route("/<x>", methods=["PUT"])(lambda x: f"put {x}")
    site = RouteSite(app)
    assert [site.ask(f"/{x}").json() for x in ("a", "5", "five")] == ["text a", "number 5", "five"]
    assert site.ask("/5", "PUT").json() == "put 5"
    assert site.ask("/5", "DELETE").headers["allow"] == "GET, HEAD, OPTIONS, PUT"


# --- what a handler gets ----------------------------------------------------------------------------------------------


def test_request() -> None:
    """A handler gets the method, the path, the query, the headers in any case, and the body."""

    def handler(req: HttpRequest) -> Any:
        assert isinstance(req, HttpRequest)
        return {**seen(req), "x": req.headers["x-a"], "json": req.json, "length": len(req.body)}

    answer = site_of(handler).ask("/it/?a=1&a=2", "POST", JSON, "X-A: é", body=b'{"b": 3}')
    assert answer.json() == {
        "method": "POST",
        "path": "/it/",
        "query": {"a": ["1", "2"]},
        "params": {"a": ["1", "2"]},
        "payload": {"b": 3},
        "x": "é",
        "json": {"b": 3},
        "length": 8,
    }


def test_whole_uris() -> None:
    """A request for a whole URI, as a proxy is sent, has the same path and query as any other."""
    for uri in ("http://localhost/it?a=1", "https://localhost:8080/it?a=1"):
        asked = site_of(seen).ask(uri).json()
        assert (asked["path"], asked["query"]) == ("/it", {"a": "1"})


def test_payloads() -> None:
    """The payload is the body, as JSON or as a form; another body as it is; and without one the query."""
    site = site_of(seen)
    assert site.post("/it?q=1", [1]).json()["payload"] == [1]
    assert site.ask("/it", "POST", FORM, body=b"a=1&a=2").json()["payload"] == {"a": ["1", "2"]}
    assert site.ask("/it", "POST", "Content-Type: text/plain", body=b"x").json()["payload"] == "x"
    assert site.ask("/it?q=1", "POST").json()["payload"] == {"q": "1"}
    multipart = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--B--\r\n'
    kind = "Content-Type: multipart/form-data; boundary=B"
    assert site.ask("/it", "POST", kind, body=multipart).json()["payload"] == {"a": "1"}


@pytest.mark.parametrize(
    ("target", "header", "body"),
    [
        ("/it", JSON, b"{"),
        ("/it", JSON, b"[" * 10_000),
        ("/it", JSON, b"1" * 5000),
        ("/it", FORM, b"a=%ff"),
        ("/it", FORM, b"&".join([b"a=1"] * 100_000)),
        ("/it", "Content-Type: multipart/form-data", b"x"),
        ("/it", "Content-Type: multipart/form-data; boundary=B", b"--B\r\n" * 10_000),
        ("/it?a=%ff", JSON, b"1"),
    ],
)
def test_payloads_that_are_broken(target: str, header: str, body: bytes) -> None:
    """What is not what it is said to be is a 400 for the client, wherever the handler runs, and no line in the log."""
    for site in both(seen):
        site.ask(target, "POST", header, body=body).problem(400)


@dataclass
class Setting:
    """What a client may send."""

    level: int
    name: str = "lamp"

    def __post_init__(self) -> None:
        if self.level > 9:
            raise ValueError("too bright")


def test_checked_payloads() -> None:
    """A payload that is annotated with a class is one, converted; what does not fit is a 422 that names the field."""

    def handler(setting: Setting, pin: int) -> Any:
        return [type(setting).__name__, setting.level, setting.name, pin]

    app = App("test")
    app.route("/<int:pin>", methods=["GET", "POST"])(handler)
    site = RouteSite(app)
    assert site.post("/5", {"level": 3}).json() == ["Setting", 3, "lamp", 5]
    assert site.ask("/5", "POST", FORM, body=b"level=3&name=x").json() == ["Setting", 3, "x", 5]
    assert site.ask("/5?level=3").json() == ["Setting", 3, "lamp", 5]
    for value, argument in [({"level": "a"}, "level"), ({}, "level"), ([1], "payload"), ({"level": 10}, "payload")]:
        answer = site.post("/5", value)
        answer.problem(422)
        assert [error["argument"] for error in answer.json()["errors"]] == [argument]
    site.ask("/5", "POST", JSON, body=b"{").problem(400)


def test_proxies() -> None:
    """The proxies are those of this request, as are the daemon's, in a thread and on the reactor."""

    def handler(req: HttpRequest) -> Any:
        assert request == req
        assert isinstance(response._get_current_object(), HttpResponse)
        assert (broadcast, cache) == ("the broadcast", "the cache")
        return response.send({"path": request.path}, 201)

    for site in both(handler):
        answer = site.ask("/it")
        assert (answer.status, answer.json()) == (201, {"path": "/it"})


# --- what a client gets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "status", "kind", "body"),
    [
        (lambda: {"a": 1}, 200, "application/json", b'{"a":1}'),
        (lambda: None, 200, "application/json", b"null"),
        (lambda: ({"a": 1}, 201), 201, "application/json", b'{"a":1}'),
        (lambda: ({"a": 1}, 600), 200, "application/json", b'[{"a":1},600]'),
        (lambda: ({"a": 1}, True), 200, "application/json", b'[{"a":1},true]'),
        (lambda: [1, 201], 200, "application/json", b"[1,201]"),
        (lambda: b"\x00", 200, "application/octet-stream", b"\x00"),
        (lambda: memoryview(b"\x00"), 200, "application/octet-stream", b"\x00"),
        (lambda: response.send([1]), 200, "application/json", b"[1]"),
        (lambda: response.send([1], 202), 202, "application/json", b"[1]"),
        (lambda: (response.send([1]), 202), 202, "application/json", b"[1]"),
        (lambda: HttpResponse().send([1], 202), 202, "application/json", b"[1]"),
        (lambda: response.send("<é>", content_type="text/html"), 200, "text/html; charset=utf-8", "<é>".encode()),
        (lambda: response.send(b"a,b", 203, content_type="text/csv"), 203, "text/csv", b"a,b"),
        (lambda: response.send(None, 204), 204, "", b""),
        (lambda: ({"a": 1}, 204), 204, "", b""),
        (lambda: (None, 304), 304, "", b""),
        (lambda: response.send(1, 299), 299, "application/json", b"1"),
        (lambda: b"x" * 5_000_000, 200, "application/octet-stream", b"x" * 5_000_000),
    ],
)
def test_answers(make: Callable[[], Any], status: int, kind: str, body: bytes) -> None:
    """What a handler returns is the answer, wherever it ran, and is kept by no cache."""
    for site in both(lambda req: make()):
        answer = site.ask("/it")
        assert (answer.status, answer.kind, answer.body) == (status, kind, body)
        assert answer.headers["cache-control"] == "no-store"
        assert not site.runner.active


def test_send_without_return() -> None:
    """What was sent is the answer, whatever is returned beside it."""

    def handler(req: HttpRequest) -> Any:
        response.send("sent")
        return {"another": "value"}

    for site in both(handler):
        assert site.ask("/it").json() == "sent"


def test_deferreds() -> None:
    """A function on the reactor may return a Deferred, and an ``async def`` one that it has not awaited."""
    waiting: Deferred[Any] = Deferred()

    @inlineCallbacks
    def fetched(req: HttpRequest) -> Any:
        found = yield waiting
        return found, 201

    async def forgetful(req: HttpRequest) -> Any:
        return succeed("brought")

    app = App("test")
    app.route("/fetched", reactor=True)(fetched)
    app.route("/forgetful")(forgetful)
    site = RouteSite(app)
    assert site.ask("/forgetful").json() == "brought"
    peer = site.send("/fetched")
    assert peer.received == b""
    waiting.callback("found")
    answer = read_answer(peer.received)
    assert (answer.status, answer.json()) == (201, "found")


def test_headers() -> None:
    """A handler may set headers; what it says of caching goes, and what is of no effect is not lost on it."""
    headers = {"X-A": "é", "cache-control": "max-age=5", "Location": "/there"}
    answer = site_of(lambda req: response.send(1, 303, headers=headers)).ask("/it")
    assert (answer.status, answer.headers["location"]) == (303, "/there")
    assert answer.headers["cache-control"] == "max-age=5"
    assert answer.headers["x-a"].encode("latin-1").decode() == "é"


def test_errors_of_handlers() -> None:
    """``response.error`` and `HttpError` are problems for the client, and nothing in the log."""

    def raises(req: HttpRequest) -> Any:
        raise HttpError(418, "I am\na \ud800 teapot")

    for site in both(lambda req: response.error("no such pin", 404)):
        assert site.ask("/it").problem(404) == "no such pin"
    for site in both(raises):
        assert site.ask("/it").problem(418) == "I am\\x0aa \\ud800 teapot"


def fails(text: str) -> Any:
    """Raise what nobody foresaw."""
    raise ValueError(text)


def sends_and_raises() -> Any:
    """Raise after an answer."""
    response.send("fine")
    raise ValueError(SECRET)


def sends_twice() -> Any:
    """Answer twice."""
    response.send(SECRET)
    response.send(SECRET)


@pytest.mark.parametrize(
    "make",
    [
        lambda: fails(SECRET),
        sends_and_raises,
        sends_twice,
        lambda: sys.exit(SECRET),
        lambda: next(iter([])),
        lambda: HttpError(200, SECRET),
        lambda: HttpError(404.0, SECRET),  # type: ignore[arg-type]
        lambda: object(),
        lambda: (number for number in [1]),
        lambda: "\ud800",
        lambda: {1: 2},
        lambda: 10**5000,
        lambda: (SECRET, 101),
        lambda: response.send(SECRET, 999),
        lambda: response.send(SECRET, True),
        lambda: (HttpResponse().send(SECRET), 100),
        lambda: response.error(SECRET, 200),
        lambda: response.send(1, headers={"X-A": "b\r\nX-Evil: 1"}),
        lambda: response.send(1, headers={"X-A: b": "1"}),
        lambda: response.send(1, headers={"X-A": "\udc80"}),
        lambda: response.send(1, headers={"Content-Type": "text/html"}),
        lambda: response.send(SECRET, content_type="text/html\r\nX-Evil: 1"),
        lambda: response.send(SECRET, content_type="text/\ud800"),
    ],
)
def test_incidents(make: Callable[[], Any], logged_failures: list[LogEvent]) -> None:
    """What nobody foresaw, or cannot be sent, is a 500 with an incident id, and nothing of what it was about."""
    for site in both(lambda req: make()):
        with incident_of(logged_failures) as incident:
            answer = site.ask("/it")
        detail = answer.problem(500)
        assert answer.json()["incident"] == incident["incident"]
        assert detail.startswith("GET /it ")
        assert SECRET not in str(answer)
        assert not {"x-evil", "x-a"} & set(answer.headers)
        assert not site.runner.active


def test_coroutines_of_plain_functions(logged_failures: list[LogEvent]) -> None:
    """A plain function that returns a coroutine or a Deferred is told in the log what to declare it as."""

    async def brought() -> None:
        pass

    for make in (brought, lambda: succeed(1)):
        with incident_of(logged_failures) as incident:
            site_of(lambda req, make=make: make()).ask("/it").problem(500)
        assert "reactor=True" in str(incident["log_failure"].value)


# --- who may ask ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        ["Origin: http://evil.example"],
        ["Origin: null"],
        ["Origin: http://localhost:1"],
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: same-site"],
    ],
)
def test_foreign_pages(method: str, headers: list[str]) -> None:
    """A form on a page of another origin changes nothing; ours does, and so does who is no browser."""
    calls: list[str] = []

    def handler(req: HttpRequest) -> None:
        calls.append(req.method)

    site = site_of(handler, methods=("GET", method))
    site.ask("/it", method, FORM, *headers, body=b"a=1").problem(403)
    assert calls == []
    assert site.ask("/it", method, "Origin: http://localhost", "Sec-Fetch-Site: same-origin").status == 200
    assert site.ask("/it", method, FORM, body=b"a=1").status == 200
    assert calls == [method, method]
    assert site.ask("/it", "GET", *headers).status == 200


def test_cors() -> None:
    """A page that is named may do what the policy says, and sees the answers, errors among them; others may not."""
    cors = CorsPolicy.of(["https://panel.example"], allowed_methods=["GET", "POST"])
    site = site_of(lambda req: response.error("no", 409), methods=("GET", "POST", "DELETE"), cors=cors)
    named, other = "Origin: https://panel.example", "Origin: https://evil.example"
    answer = site.ask("/it", "POST", named)
    answer.problem(409)
    assert answer.headers["access-control-allow-origin"] == "https://panel.example"
    site.ask("/it", "DELETE", named).problem(403)
    refused = site.ask("/it", "POST", other)
    refused.problem(403)
    assert "access-control-allow-origin" not in refused.headers
    preflight = site.ask("/it", "OPTIONS", named, "Access-Control-Request-Method: POST")
    assert (preflight.status, preflight.headers["access-control-allow-methods"]) == (204, "GET, POST")


def test_vary() -> None:
    """What a handler says its answer varies by comes beside what the policy for other origins says."""
    cors = CorsPolicy.of(["https://panel.example"])
    headers = {"Vary": "Accept"}
    assert (
        site_of(lambda req: response.send(1, headers=headers), cors=cors).ask("/it").headers["vary"] == "Origin, Accept"
    )
    assert site_of(lambda req: response.send(1, headers=headers)).ask("/it").headers["vary"] == "Accept"


def test_foreign_hosts() -> None:
    """A request that is meant for somebody else reaches no handler."""
    site_of(lambda req: 1 / 0).ask("/it", host="evil.example").problem(421)


# --- many, slow and gone ----------------------------------------------------------------------------------------------


def test_time_limit() -> None:
    """A handler that takes longer than its time limit is answered for, and its own answer comes too late."""
    app, pool = App("test"), FakePool()
    app.route("/slow", timeout=2)(lambda: "late")
    app.route("/other")(lambda: "fine")
    site = RouteSite(app, pool=pool)
    peer = site.send("/slow")
    site.clock.advance(1.9)
    assert peer.received == b""
    site.clock.advance(0.1)
    assert read_answer(peer.received).problem(504) == "it took too long: no end within 2 s"
    assert (pool.stuck, len(site.runner.active)) == (1, 1)
    pool.end()
    assert not site.runner.active
    assert len(peer.received.split(b"HTTP/1.1")) == 2


def test_time_limit_on_the_reactor() -> None:
    """What runs on the reactor is cancelled when its time is up."""
    cancelled: list[bool] = []
    waiting: Deferred[None] = Deferred(lambda _: cancelled.append(True))

    async def slow(req: HttpRequest) -> None:
        await waiting

    site = site_of(slow)
    peer = site.send("/it")
    site.clock.advance(30)
    read_answer(peer.received).problem(504)
    assert cancelled == [True]
    assert not site.runner.active


def test_too_many() -> None:
    """So many requests may be under way, and one more is refused at once; when one ends there is room again."""
    pool = FakePool()
    pool.full = True
    site = site_of(lambda req: "done", pool=pool)
    peers = [site.send("/it") for _ in range(MOST_CALLS)]
    assert f"{MOST_CALLS} requests" in site.ask("/it").problem(503)
    assert site.ask("/health").status == 200
    pool.end()
    assert read_answer(peers[0].received).json() == "done"
    last = site.send("/it")
    assert last.received == b""
    while pool.jobs:
        pool.end()
    assert all(read_answer(peer.received).json() == "done" for peer in [*peers, last])


def test_too_many_stuck() -> None:
    """When as many hang as there may be threads, no more are begun in one until one returns; others need none."""
    app, pool = App("test", max_workers=2), FakePool()
    app.route("/it", timeout=1)(lambda: "done")
    app.route("/reactor", reactor=True)(lambda: "done")
    site = RouteSite(app, pool=pool)
    for _ in range(2):
        site.send("/it")
    site.clock.advance(1)
    assert "2 requests hang" in site.ask("/it").problem(503)
    assert site.ask("/reactor").json() == "done"
    pool.stuck = 0
    peer = site.send("/it")
    while pool.jobs:
        pool.end()
    assert read_answer(peer.received).json() == "done"


def test_no_threads(logged_failures: list[LogEvent]) -> None:
    """If the system gives us no thread, the client is told that it is our fault."""
    pool = FakePool()
    pool.error = RuntimeError("can't start new thread")
    with incident_of(logged_failures):
        site_of(seen, pool=pool).ask("/it").problem(500)


def test_a_client_that_leaves() -> None:
    """A handler whose client has left runs to its end, and answers nobody; the next client is answered."""
    done: list[str] = []
    pool = FakePool()
    site = site_of(lambda req: done.append(req.query["n"]) or "done", pool=pool)
    left, stays = site.send("/it?n=1"), site.send("/it?n=2")
    left.leave()
    pool.end()
    pool.end()
    assert done == ["1", "2"]
    assert left.received == b""
    assert read_answer(stays.received).json() == "done"
    assert not site.runner.active


def test_a_client_that_leaves_early(logged_failures: list[LogEvent]) -> None:
    """What fails after the client has left stands in the log all the same; a large answer is thrown away."""
    waiting: Deferred[None] = Deferred()

    async def fails_later(req: HttpRequest) -> Any:
        await waiting
        if "fail" in req.query:
            raise ValueError(SECRET)
        return b"x" * 1_000_000

    site = site_of(fails_later)
    for target in ("/it?fail", "/it"):
        site.send(target).leave()
    with incident_of(logged_failures) as incident:
        waiting.callback(None)
    assert str(incident["log_failure"].value) == SECRET
    assert not site.runner.active


def test_pipelined() -> None:
    """Requests on one connection are answered one after the other, in their order."""
    pool = FakePool()
    site = site_of(lambda req: f"number {req.query['n']}", pool=pool)
    peer = site.send("/it?n=0").send(b"GET /it?n=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert len(pool.jobs) == 1
    pool.end()
    first = peer.received
    assert read_answer(first).json() == "number 0"
    pool.end()
    assert read_answer(peer.received.removeprefix(first)).json() == "number 1"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/<x>-<y>.json", "/" + "-" * 2000),
        ("/<path:x>/<path:y>/end", "/x" * 1000),
        ("/<int:x><int:y>.json", "/" + "1" * 2000),
    ],
)
def test_paths_that_are_hard_to_match(path: str, target: str) -> None:
    """A path that could be divided in very many ways is looked at for no longer than any other that is too long."""
    site = site_of(lambda req, **variables: 1 / 0, path, ("GET",))
    site.ask(target).problem(404)
    site.ask(target * 8).problem(414)
