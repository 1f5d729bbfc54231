"""Declarations of built-in endpoints: what follows from one, and what is refused."""

from typing import Any

import pytest
from http_peer import Peer, make_admission, make_site, request
from openapi_spec_validator import validate
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rpiserve.core.tokens import CONTROL, READ, TokenFile
from rpiserve.data import encoding
from rpiserve.web.access.authorization import Authorizer
from rpiserve.web.endpoint_declaration import PUBLIC, AccessRules, CrossSite, endpoint, endpoints_of
from rpiserve.web.endpoints.router import Router
from rpiserve.web.endpoints.table import reserved_names
from rpiserve.web.openapi.document import document
from rpiserve.web.openapi.parts import name_in_path, ok, operation, problems
from rpiserve.web.server.request import LimitedRequest

LIGHTS = operation("app", "The lights", responses={**ok("They are.", {}), **problems()})
LIGHT = operation(
    "app",
    "Switch a light",
    responses={**ok("It is.", {}), **problems(404)},
    parameters=(name_in_path("light", "The light.", "hall"),),
)
FOREIGN = "Origin: https://evil.example"


class LightEndpoints:
    """A subject of its own, in one place."""

    def __init__(self) -> None:
        self.switched: list[str] = []

    @endpoint("GET", "/lights", role=READ, operation=LIGHTS)
    def list(self, request: LimitedRequest) -> Deferred[None]:
        return request.answer_json(encoding.encode(self.switched))

    @endpoint("POST", "/lights/<light>", role=CONTROL, operation=LIGHT)
    def switch(self, request: LimitedRequest, light: str) -> Deferred[None]:
        self.switched.append(light)
        return request.answer_json(b"true")


@pytest.fixture
def lights() -> LightEndpoints:
    """The endpoints."""
    return LightEndpoints()


def test_one_declaration_is_closed_checked_documented_and_reserved(lights: LightEndpoints, tmp_path: Any) -> None:
    """Nothing else has to be changed for a new endpoint, and none of it can be forgotten."""
    clock = Clock()
    tokens = TokenFile(tmp_path / "tokens", clock.seconds)
    reader, controller = (f"Authorization: Bearer {tokens.add(role, role)}" for role in (READ, CONTROL))
    tokens.load()
    access = Authorizer(tokens, False, clock)  # type: ignore[arg-type]
    admission = make_admission(clock, access=access)
    site = make_site(clock, resource=Router([lights], admission), admission=admission)

    def status(method: str, path: str, *headers: str) -> int:
        return Peer(site).send(request(path, method, *headers)).answer(method).status

    assert status("GET", "/lights") == status("POST", "/lights/hall") == 401
    assert status("POST", "/lights/hall", reader) == 403
    assert status("POST", "/lights/hall", controller, FOREIGN) == 403
    assert lights.switched == []
    assert status("POST", "/lights/hall", controller) == status("GET", "/lights", reader) == 200
    assert status("HEAD", "/lights", reader) == 200
    assert status("DELETE", "/lights", controller) == 405
    assert lights.switched == ["hall"]

    whole = document("test", "1", {}, {}, [], [lights])
    validate(whole)
    assert {path: set(item) for path, item in whole["paths"].items() if path.startswith("/lights")} == {
        "/lights": {"get"},
        "/lights/{light}": {"post"},
    }
    assert "lights" in reserved_names([lights])


def test_strangers_learn_no_routes(lights: LightEndpoints, tmp_path: Any) -> None:
    """Without a token, a path that is there and one that is not are answered alike."""
    clock = Clock()
    tokens = TokenFile(tmp_path / "tokens", clock.seconds)
    tokens.add("reader", READ)
    tokens.load()
    admission = make_admission(clock, access=Authorizer(tokens, False, clock))  # type: ignore[arg-type]
    site = make_site(clock, resource=Router([lights], admission), admission=admission)
    answers = [
        Peer(site).send(request(path, method)).answer()
        for method, path in (("GET", "/lights"), ("GET", "/lights/a/b"), ("GET", "/log"), ("DELETE", "/lights"))
    ]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1


@pytest.mark.parametrize(
    ("method", "options", "text"),
    [
        ("POST", {"role": CONTROL, "changes": False}, "is checked"),
        ("POST", {"role": CONTROL, "checked": True}, "is checked"),
        ("POST", {"role": PUBLIC}, "the reason"),
        ("GET", {"role": CONTROL, "changes": True}, "the reason"),
        ("GET", {"role": READ, "checked": True}, "the reason"),
        ("GET", {"role": "admin"}, "not a role"),
        ("OPTIONS", {"role": CONTROL}, "the methods of endpoints"),
        ("HEAD", {"role": READ}, "the methods of endpoints"),
    ],
)
def test_what_cannot_be_declared(method: str, options: dict[str, Any], text: str) -> None:
    """No endpoint that changes state goes without the check, and each exception has a reason."""
    with pytest.raises(TypeError, match=text):
        endpoint(method, "/lights", operation=LIGHTS, **options)


@pytest.mark.parametrize("path", ["/<light>", "lights", ""])
def test_a_path_without_a_name(path: str) -> None:
    """The rule of a request is found by the first segment, so that is a name."""
    with pytest.raises(TypeError, match="begins with a slash and a name"):
        endpoint("GET", path, role=READ, operation=LIGHTS)


def test_a_get_that_changes_state() -> None:
    """It is checked as what an image in a page may send, and HEAD does not run it."""

    class Subject:
        @endpoint("GET", "/go", role=CONTROL, operation=LIGHTS, changes=True, reason="it is a test")
        def go(self, request: LimitedRequest) -> None: ...

    [made] = endpoints_of(Subject)
    assert made.rule.cross_site is CrossSite.CHECK_GET
    assert made.methods == ["GET"]


def test_neighbours_with_different_rules() -> None:
    """Endpoints with one first segment and method have one rule, as it is applied before a route is looked for."""

    class Subject:
        @endpoint("GET", "/a", role=READ, operation=LIGHTS)
        def one(self, request: LimitedRequest) -> None: ...

        @endpoint("GET", "/a/b", role=CONTROL, operation=LIGHTS)
        def other(self, request: LimitedRequest) -> None: ...

    with pytest.raises(TypeError, match="differs"):
        AccessRules(endpoints_of(Subject))
