"""The HTTP API in memory: what is answered, with which headers, and how errors look."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from http_peer import Answer, NoHandlers, Peer, make_router, make_site, make_tree, request
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from rpiserve.core.handler_status import HandlerStatus
from rpiserve.data.nodes import Source
from rpiserve.data.tree import DataTree
from rpiserve.web.server.request import CHUNK, LimitedRequest
from rpiserve.web.server.site import LimitedSite

SECRET = "the password is 12345"


class Part:
    """A part of the daemon that may not be ready."""

    def __init__(self, *reasons: str) -> None:
        self.why = list(reasons)

    def reasons(self) -> list[str]:
        return self.why


class Handlers(NoHandlers):
    """What tells of one handler, or fails to."""

    error: Exception | None = None

    def statuses(self) -> list[HandlerStatus]:
        if self.error is not None:
            raise self.error
        return [
            HandlerStatus(name="°C", kind="sensor", state="pending", runs=3),
            HandlerStatus(name="garden/pump", kind="sensor", state="error", runs=3, error="no answer"),
        ]


class Client:
    """Sends one request after the other over one connection."""

    def __init__(self, site: LimitedSite) -> None:
        self._site = site

    def ask(self, target: str, method: str = "GET", *headers: str, body: bytes = b"") -> Answer:
        """Return the answer to a request."""
        return Peer(self._site).send(request(target, method, *headers, body=body)).answer(method)

    def get(self, target: str, *headers: str) -> Any:
        """Return the JSON that a GET is answered with."""
        answer = self.ask(target, "GET", *headers)
        assert answer.status == 200, answer
        return json.loads(answer.body)


@pytest.fixture
def clock() -> Clock:
    """The reactor's clock."""
    return Clock()


@pytest.fixture
def tree(clock: Clock) -> DataTree:
    """A tree with two rooms, in one of which stands a sensor."""
    tree = make_tree(clock)
    tree.assign(("basement", "party_room"), 20.5, units="°C")
    tree.assign(("basement", "stairs"), None)
    tree.assign(("attic",), [1, "two", {"three": 3}])
    return tree


@pytest.fixture
def handlers() -> Handlers:
    """Who tells of the handlers."""
    return Handlers()


@pytest.fixture
def part() -> Part:
    """One of the parts that `/ready` asks."""
    return Part()


@pytest.fixture
def client(clock: Clock, tree: DataTree, handlers: Handlers, part: Part) -> Client:
    """A client of a server with all of them."""
    return Client(make_site(clock, resource=make_router(clock, tree, handlers=handlers, parts=[Part(), part])))


# --- /data -----------------------------------------------------------------------------------------------------------


def test_tree(client: Client) -> None:
    """The whole tree is one object, with and without a slash at the end."""
    whole = {"basement": {"party_room": 20.5, "stairs": None}, "attic": [1, "two", {"three": 3}]}
    assert client.get("/data") == whole
    assert client.get("/data/") == whole
    assert client.get("/data?") == whole


def test_parts(client: Client) -> None:
    """A part is its bare value, not wrapped in its key."""
    assert client.get("/data/basement") == {"party_room": 20.5, "stairs": None}
    assert client.get("/data/basement/") == {"party_room": 20.5, "stairs": None}
    assert client.get("/data/basement/party_room") == 20.5
    assert client.get("/data/basement/party_room/") == 20.5
    assert client.get("/data/basement/stairs") is None
    assert client.get("/data/attic") == [1, "two", {"three": 3}]


@pytest.mark.parametrize(
    "target",
    [
        "/data/nowhere",
        "/data/basement/nowhere",
        "/data/basement/party_room/below",
        "/data/basement/stairs/below",
        "/data/attic/0",
        "/data/attic/2/three",
        "/data/basement%2Fparty_room",
        "/data/Basement",
        "/data/basement%20",
        "/data//basement",
        "/data/basement//",
        "/data/.",
        "/data/..",
        "/data/../data/attic",
        "/data/basement/../attic",
        "/data/%2e%2e/attic",
        "/data/" + "a/" * 500,
        "/data/" + "%2F" * 500,
    ],
)
def test_unknown_paths(client: Client, target: str) -> None:
    """Where nothing stands, below a leaf, inside a list, above the root, it is 404."""
    answer = client.ask(target)
    assert answer.status == 404
    assert "etag" not in answer.headers


def test_unknown_path_is_named(client: Client) -> None:
    """The error names the path as paths are written."""
    detail = client.ask("/data/a%2Fb/c%25").json()["detail"]
    assert "'a%2Fb/c%25'" in detail


@pytest.mark.parametrize("target", ["/data/%00", "/data/a%00", "/data/%FF", "/data/%C3%28"])
def test_what_is_no_text(client: Client, target: str) -> None:
    """A path with a NUL, or that is not UTF-8, is 400."""
    assert client.ask(target).status == 400


KEYS = [
    "a/b",
    "a b",
    "a+b",
    "line\nbreak",
    "\r\nX-Header: 1",
    "\t",
    "what?",
    "#1",
    "100%",
    "%2F",
    "a;b=c",
    "a&b",
    "...",
    ". .",
    "°C",
    "温度",
    "🌡",
    "e\u0301",
    "\u202e",
    "\x7f",
    '"',
    "\\",
    "<b>",
    "{x}",
    "<path:x>",
    "data",
    "x" * 2000,
]


@pytest.mark.parametrize("key", KEYS)
def test_keys(client: Client, tree: DataTree, key: str) -> None:
    """Whatever a key is made of, it is found by its percent-encoded form, at any depth."""
    tree.assign(("keys",), {key: {key: 1}})
    encoded = quote(key, safe="")
    assert client.get(f"/data/keys/{encoded}") == {key: 1}
    assert client.get(f"/data/keys/{encoded}/{encoded}/") == 1
    tree.assign((key,), 2)
    assert client.get(f"/data/{encoded}") == 2
    assert client.get("/data")[key] == 2


def test_slash_in_a_key(client: Client, tree: DataTree) -> None:
    """A slash in a key is another path than a key below a key."""
    tree.assign(("a/b",), 1)
    tree.assign(("a", "b"), 2)
    assert client.get("/data/a%2Fb") == 1
    assert client.get("/data/a/b") == 2


def test_query_is_no_part_of_the_path(client: Client) -> None:
    """What stands behind a question mark is ignored if nobody knows it."""
    assert client.get("/data/basement/party_room?x=/../y&&=;%00%ff") == 20.5


def test_headers_of_data(client: Client) -> None:
    """The tree is JSON, whose length is known, and which is to be asked for again."""
    answer = client.ask("/data/basement")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["etag"].startswith('"boot-')
    assert "date" in answer.headers


# --- ?meta=1 ---------------------------------------------------------------------------------------------------------


def test_meta(client: Client, tree: DataTree, clock: Clock) -> None:
    """With meta=1 each leaf comes with its metadata; since its age grows there is no ETag."""
    clock.advance(1.5)
    leaf = {"value": 20.5, "unit": "°C", "time": "2001-09-09T01:46:40.250Z", "age": 1.5, "state": "ok", "error": None}
    assert client.get("/data/basement/party_room?meta=1") == leaf
    assert client.get("/data/basement?meta=1") == {"party_room": leaf, "stairs": {**leaf, "value": None, "unit": None}}
    answer = client.ask("/data?meta=1", "GET", "If-None-Match: *")
    assert (answer.status, "etag" in answer.headers, answer.headers["cache-control"]) == (200, False, "no-store")
    assert answer.json()["attic"]["value"] == [1, "two", {"three": 3}]


def test_meta_of_what_failed(client: Client, tree: DataTree) -> None:
    """A leaf whose sensor failed keeps its value and says why."""
    source = Source("heater", 10)
    tree.assign(("heater",), 60, source=source)
    tree.fail(source, "no answer")
    meta = client.get("/data/heater?meta=1")
    assert (meta["value"], meta["state"], meta["error"]) == (60, "error", "no answer")
    assert client.get("/data/heater") == 60


@pytest.mark.parametrize("query", ["meta=x", "meta=", "meta=01", "meta=true", "meta=1&meta=2", "meta=%31%00"])
def test_meta_is_0_or_1(client: Client, query: str) -> None:
    """Any other value is 400, and the error says what it may be."""
    answer = client.ask(f"/data?{query}")
    assert (answer.status, answer.json()["detail"]) == (400, "meta is 0 or 1")


@pytest.mark.parametrize("query", ["meta=0", "meta=1&meta=0", "Meta=1", "x=meta", "%6Deta=0"])
def test_without_meta(client: Client, query: str) -> None:
    """meta=0 is as if it was not there; of several the last counts."""
    assert client.get(f"/data/basement/party_room?{query}") == 20.5


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("garden/pump", "garden/pump has not brought a value yet: no answer; /sensors tells more"),
        ("garden", "garden/pump has not brought a value yet: no answer; /sensors tells more"),
        ("%C2%B0C", "°C has not brought a value yet; /sensors tells more"),
        ("gard", "there is nothing at 'gard'; /data shows all there is"),
        ("garden/pump/below", "there is nothing at 'garden/pump/below'; /data shows all there is"),
    ],
)
def test_what_is_not_there_yet(client: Client, path: str, detail: str) -> None:
    """Where a sensor has brought nothing so far, the error says that, and why."""
    answer = client.ask(f"/data/{path}")
    assert (answer.status, answer.json()["detail"]) == (404, detail)


# --- ETag ------------------------------------------------------------------------------------------------------------


def test_not_modified(client: Client) -> None:
    """Whoever has the current version is told so, without a body; it is told the tag again."""
    tag = client.ask("/data/basement").headers["etag"]
    for header in (
        tag,
        f"W/{tag}",
        f'"other", {tag}',
        f'"a,b",W/"c" ,\t{tag},',
        "*",
        " * ",
    ):
        answer = client.ask("/data/basement", "GET", f"If-None-Match: {header}")
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
        assert client.ask("/data/basement", "HEAD", f"If-None-Match: {header}").status == 304


def test_modified(client: Client) -> None:
    """Any other tag, and what is no tag, gets the current version."""
    tag = client.ask("/data/basement").headers["etag"]
    for header in ('"other"', tag.strip('"'), tag.upper(), f'"x{tag[1:]}', "", "**", '"*"', "W/", '"', "\xff"):
        assert client.ask("/data/basement", "GET", f"If-None-Match: {header}").status == 200


def test_tags_follow_the_parts(client: Client, tree: DataTree) -> None:
    """A part that changes, and all above it, get new tags; its siblings keep theirs. No change, no new tag."""

    def tags() -> list[str]:
        targets = ("/data", "/data/basement", "/data/basement/party_room", "/data/basement/stairs", "/data/attic")
        return [client.ask(target).headers["etag"] for target in targets]

    before = tags()
    tree.assign(("basement", "party_room"), 20.5)
    assert tags() == before
    tree.assign(("basement", "party_room"), 21)
    after = tags()
    assert [new == old for new, old in zip(after, before, strict=True)] == [False, False, False, True, True]
    tree.assign(("basement", "party_room"), 20.5)
    assert not set(tags()[:3]) & set(before + after[:3]), "a tag never comes back, for what it stood for might not"


def test_tags_differ_between_runs(clock: Clock) -> None:
    """A daemon that was started anew has other tags, though its tree may have changed as often."""
    tags = set()
    for boot in ("first", "second"):
        tree = DataTree(boot, clock.seconds, clock.seconds)
        tree.assign(("a",), 1)
        tags.add(Client(make_site(clock, tree)).ask("/data").headers["etag"])
    assert len(tags) == 2


def test_no_tag_for_what_is_gone(client: Client, tree: DataTree) -> None:
    """A part that is gone is 404, whichever version the client has."""
    tree.remove(("attic",))
    assert client.ask("/data/attic", "GET", "If-None-Match: *").status == 404


# --- the other routes ------------------------------------------------------------------------------------------------


def test_sensors(client: Client) -> None:
    """The handlers are listed, and nobody keeps the list."""
    assert [handler["name"] for handler in client.get("/sensors")] == ["°C", "garden/pump"]
    assert client.ask("/sensors/").headers["cache-control"] == "no-store"


def test_health(client: Client) -> None:
    """As long as the reactor answers it is healthy."""
    assert client.get("/health") == {"status": "ok"}


def test_ready(client: Client, part: Part) -> None:
    """It is ready if all parts are; otherwise it is 503, with the reasons of all of them."""
    good, why = {"ready": True, "reasons": []}, ["no bus", "°"]
    assert client.get("/ready") == {**good, "parts": {"part 1": good, "part 2": good}}
    part.why = why
    answer = client.ask("/ready")
    bad = {"ready": False, "reasons": why}
    assert (answer.status, answer.json()) == (503, {**bad, "parts": {"part 1": good, "part 2": bad}})
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "target",
    [
        "/nowhere",
        "/Data",
        "/datax",
        "/sensors/x",
        "/health/x",
        "/ready/x",
        "//health",
        "/%2Fhealth",
        "/health%0A",
    ],
)
def test_no_route(client: Client, target: str) -> None:
    """Where there is no route it is 404, for any method."""
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        answer = client.ask(target, method)
        assert answer.status == 404
    assert set(answer.json()) == {"type", "title", "status", "detail", "code"}


@pytest.mark.parametrize(
    ("host", "status"), [("[fe80::1%" + "x" * 70 + "]", 200), ("[fe80::1%a..b]", 200), ("a..b", 400), ("x" * 64, 400)]
)
def test_names_that_the_router_cannot_take(clock: Clock, tree: DataTree, host: str, status: int) -> None:
    """A name that is no name, even one that the user allows, is no error on our side, and nothing of it is logged."""
    site = make_site(clock, tree, hosts=["a..b", "x" * 64])
    assert Peer(site).send(request("/data", host=host)).answer().status == status


# --- methods ---------------------------------------------------------------------------------------------------------

ROUTES = [
    "/data",
    "/data/basement",
    "/data/nowhere",
    "/data?meta=1",
    "/sensors",
    "/health",
    "/ready",
    "/nowhere",
    "/data/%FF",
]


@pytest.mark.parametrize("target", ROUTES)
def test_head(client: Client, target: str) -> None:
    """HEAD is GET without the body: the same status and headers, errors included."""
    get, head = client.ask(target), client.ask(target, "HEAD")
    assert head.body == b""
    assert (head.status, head.headers) == (get.status, {**get.headers, "date": head.headers.get("date")})
    assert head.headers["content-length"] == str(len(get.body))


def test_head_of_something_large(client: Client, tree: DataTree) -> None:
    """HEAD says how large a large part is, too, and the connection goes on."""
    tree.assign(("large",), "x" * CHUNK * 3)
    head = request("/data/large", "HEAD")
    peer = Peer(make_site(Clock(), tree)).send(head + head + request("/health"))
    answers = peer.answers("HEAD", "HEAD", "GET")
    assert [answer.headers["content-length"] for answer in answers] == [str(CHUNK * 3 + 2)] * 2 + ["15"]


@pytest.mark.parametrize(
    "target", ["/data", "/data/", "/data/basement", "/data/nowhere", "/sensors", "/health", "/ready"]
)
def test_options(client: Client, target: str) -> None:
    """OPTIONS names the methods, and has no body."""
    answer = client.ask(target, "OPTIONS")
    assert (answer.status, answer.headers["allow"], answer.body) == (204, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize("target", ["/data", "/data/basement", "/sensors", "/health", "/ready"])
@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "FOO", "M-SEARCH", "PROPFIND", "QUERY"]
)
def test_other_methods(client: Client, target: str, method: str) -> None:
    """Any other method is 405, which names those that there are; a body is read, and ignored."""
    for body in (b"", b'{"a": 1}'):
        answer = client.ask(target, method, body=body)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_body_of_a_get(client: Client) -> None:
    """A body that nobody asked for changes nothing."""
    assert client.ask("/health", body=b"GET /data HTTP/1.1\r\nHost: localhost\r\n\r\n").json() == {"status": "ok"}


def test_forms_are_not_parsed(client: Client) -> None:
    """The fields of a form are no arguments: a page of somebody else's can send a form."""
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data"):
        assert client.ask("/data", "POST", f"Content-Type: {kind}", body=b"meta=x").status == 405


# --- what goes wrong on our side -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError(SECRET), KeyError(SECRET), CancelledError(), TimeoutError(SECRET)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_error_in_a_handler(
    client: Client, handlers: Handlers, logged_failures: list[LogEvent], error: Exception, method: str
) -> None:
    """An exception in a handler is 500 with an incident id that stands in the log, and with nothing of its text."""
    handlers.error = error
    answer = client.ask("/sensors", method)
    assert answer.status == 500
    (event,) = logged_failures
    assert event["log_failure"].value is error
    if method == "GET":
        assert SECRET not in answer.body.decode()
        assert answer.json()["incident"] == event["incident"]
    logged_failures.clear()
    handlers.error = None
    assert client.get("/sensors")


def test_error_before_a_handler(clock: Clock, logged_failures: list[LogEvent]) -> None:
    """So is one in what comes before the handlers, and the connection goes on."""

    class Broken:
        isLeaf = True

        def render(self, request: LimitedRequest) -> bytes:
            raise RuntimeError(SECRET)

    peer = Peer(make_site(clock, resource=Broken())).send(request("/data") * 2)
    assert [answer.status for answer in peer.answers()] == [500, 500]
    assert SECRET not in peer.received.decode()
    assert len(logged_failures) == 2
    logged_failures.clear()
