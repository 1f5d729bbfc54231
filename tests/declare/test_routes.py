"""Declaring routes: what is right is kept as it was said, and what is wrong is refused at its line."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import inlineCallbacks

from rpiserve import App, HttpRequest
from rpiserve.declare.handler import Where
from rpiserve.declare.routes import METHODS, Route
from rpiserve.errors import DeclarationError
from rpiserve.web.endpoints.table import reserved_names

ANY = Callable[..., Any]
PIN = "/pins/<int:pin>"


@pytest.fixture
def app() -> App:
    """An app without routes."""
    return App("test")


def declared(app: App, path: str, function: ANY, *arguments: Any, **options: Any) -> Route:
    """Declare a route, and return it; the function is returned as it is."""
    assert app.route(path, *arguments, **options)(function) is function
    return app.routes[-1]


def refused(app: App, path: Any, function: ANY, *texts: str, methods: Any = ("GET",), **options: Any) -> None:
    """Assert that a route is refused with all of ``texts`` in one line, and that nothing of it is left."""
    before = list(app.routes)
    with pytest.raises(DeclarationError) as caught:
        app.route(path, methods, **options)(function)
    assert app.routes == before
    for text in texts:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def takes_all(req: HttpRequest, **variables: Any) -> None:
    """Take any variables."""


# --- what is right ----------------------------------------------------------------------------------------------------


def test_defaults(app: App) -> None:
    """A route answers GET in a thread, within half a minute, and is called by its method and path."""
    route = declared(app, "/a/b", takes_all)
    assert (route.path, route.methods, route.timeout) == ("/a/b", ("GET",), 30)
    assert (route.function.name, route.function.where) == ("GET /a/b", Where.THREAD)


def test_options(app: App) -> None:
    """The methods may be in any kind of list and in any case, once each; a plain function may run on the reactor."""
    route = declared(app, "/a/", takes_all, methods=iter(["post", "PUT", "POST"]), timeout=5, reactor=True)
    assert (route.path, route.methods, route.timeout) == ("/a", ("POST", "PUT"), 5)
    assert (route.function.name, route.function.where) == ("POST /a", Where.REACTOR)
    assert declared(app, "/b", takes_all, METHODS).methods == METHODS


def test_where(app: App) -> None:
    """What is written as an ``async def`` runs on the reactor, be it a function, a method or an object."""

    async def function(req: HttpRequest) -> None:
        pass

    class Thing:
        async def __call__(self, req: HttpRequest) -> None:
            pass

        async def method(self, req: HttpRequest) -> None:
            pass

    thing = Thing()
    for number, each in enumerate((function, thing, thing.method, functools.partial(function))):
        assert declared(app, f"/{number}", each).function.where is Where.REACTOR


def test_inline_callbacks(app: App) -> None:
    """A generator beneath ``inlineCallbacks`` is a function like any other."""

    @inlineCallbacks
    def fetched(req: HttpRequest) -> Any:
        yield

    assert declared(app, "/a", fetched, reactor=True).function.where is Where.REACTOR


class Panel:
    """What has handlers of each kind."""

    def with_request(self, req: Any) -> None:
        pass

    def with_both(self, req: Any, pin: Any) -> None:
        pass

    def with_nothing(self) -> None:
        pass

    @classmethod
    def of_class(cls, req: Any, *, pin: Any) -> None:
        pass

    @staticmethod
    def static(pin: Any) -> None:
        pass

    def __call__(self, req: Any, pin: int = 5) -> None:
        pass


def undecorated(req: Any, pin: Any) -> None:
    """Take both."""


@functools.wraps(undecorated)
def well_decorated(*args: Any, **kwargs: Any) -> None:
    """Pass on what comes, with the signature of what it is passed on to."""


def badly_decorated(*args: Any, **kwargs: Any) -> None:
    """Pass on what comes."""


def positional(req: Any, /, pin: Any) -> None:
    """Take the request by its place."""


@pytest.mark.parametrize(
    ("function", "wanted", "taken"),
    [
        (undecorated, True, ("pin",)),
        (well_decorated, True, ("pin",)),
        (badly_decorated, True, ("pin",)),
        (positional, True, ("pin",)),
        (Panel().with_request, True, ()),
        (Panel().with_both, True, ("pin",)),
        (Panel().with_nothing, False, ()),
        (Panel().of_class, True, ("pin",)),
        (Panel.static, False, ("pin",)),
        (Panel(), True, ("pin",)),
        (functools.partial(undecorated, pin=3), True, ("pin",)),
        (functools.partial(undecorated, None), False, ("pin",)),
        (lambda *args: None, True, ()),
        (lambda req, *args: None, True, ()),
        (lambda **kwargs: None, False, ("pin",)),
        (lambda req, **kwargs: None, True, ("pin",)),
        (lambda req, other=1: None, True, ()),
        (lambda other=1: None, False, ()),
        (lambda: None, False, ()),
    ],
)
def test_arguments(app: App, function: ANY, wanted: bool, taken: tuple[str, ...]) -> None:
    """A function is given the request if it has a place for it, and by their names the variables that it wants."""
    route = declared(app, PIN, function)
    assert (route.payload.wanted, route.taken) == (wanted, taken)
    assert route.variables == {"pin": "int"}


@dataclass
class Setting:
    """What a client may send."""

    level: int


def test_payload_classes(app: App) -> None:
    """An argument that is annotated as a class with fields gets the payload; as a request it gets the request."""

    def with_setting(setting: Setting, pin: int) -> None:
        pass

    def with_request(req: HttpRequest, pin: int) -> None:
        pass

    def with_dict(req: dict[str, Any]) -> None:
        pass

    parameter = declared(app, PIN, with_setting).payload.parameter
    assert parameter is not None
    assert parameter.type is Setting
    assert declared(app, PIN, with_request, ["POST"]).payload.parameter is None
    assert declared(app, PIN, with_dict, ["PUT"]).payload.parameter is None


@pytest.mark.parametrize(
    ("path", "variables"),
    [
        ("/a", {}),
        ("/größe/a|b;c:d.e", {}),
        ("/(a)/[b]/{c}/d$^*+", {}),
        ("/Data", {}),
        ("/datax", {}),
        ("/data<x>", {"x": "string"}),
        ("/<x>", {"x": "string"}),
        ("/<string(length=2):x>/<int(min=1, max=9):y>", {"x": "string", "y": "int"}),
        ("/<any(on,off):x>.<float:y>", {"x": "any", "y": "float"}),
        ("/<uuid:x>/<path:rest>", {"x": "uuid", "rest": "path"}),
        ("/<name>-<int:w>x<int:h>.<any(png,jpg):kind>", {"name": "string", "w": "int", "h": "int", "kind": "any"}),
        ("/<path:a>/<path:b>", {"a": "path", "b": "path"}),
        ("/<a>.<b>/<c>.<d>", {"a": "string", "b": "string", "c": "string", "d": "string"}),
        ("/<class>/<self>/<request>", {"class": "string", "self": "string", "request": "string"}),
    ],
)
def test_paths(app: App, path: str, variables: dict[str, str]) -> None:
    """A path may have any letters and signs that need no escape, and variables of each kind."""
    assert declared(app, path, takes_all).variables == variables


def test_same_path(app: App) -> None:
    """The same path with other methods is another handler, as is another shape that may match the same request."""
    for path, methods in [("/a/<x>", ["GET"]), ("/a/<y>", ["POST", "PUT"]), ("/a/<int:x>", ["GET"]), ("/a", ["GET"])]:
        declared(app, path, takes_all, methods)
    assert len(app.routes) == 4


# --- what is wrong ----------------------------------------------------------------------------------------------------


def generator(req: Any) -> Iterator[int]:
    """Run nothing when called."""
    yield 1


async def asynchronous_generator(req: Any) -> AsyncIterator[int]:
    """Run nothing when called."""
    yield 1


def by_place(req: Any, pin: Any, /) -> None:
    """Take the variable by its place."""


@pytest.mark.parametrize(
    ("function", "texts"),
    [
        (lambda req, pim: None, ["req, pim"]),
        (lambda req, other, pin: None, ["req, other"]),
        (lambda pin, req: None, ["called with the request, then with variables", "pin"]),
        (lambda *, req: None, ["req"]),
        (by_place, ["positional"]),
        (lambda pin, *args, other: None, ["other"]),
        (Panel.with_request, ["self, req"]),
        (Panel, ["Panel is a class"]),
        (dict, ["dict is a class"]),
        (generator, ["yield"]),
        (asynchronous_generator, ["yield"]),
        (functools.partial(generator), ["yield"]),
        (None, ["None is no function"]),
        ("abc", ["'abc' is no function"]),
        (lambda req, /, *args, pin, other: None, ["other"]),
    ],
)
def test_wrong_functions(app: App, function: Any, texts: list[str]) -> None:
    """A function that cannot be called with the request and the variables is refused, by the name of its route."""
    refused(app, PIN, function, f"GET {PIN}", *texts)


def test_payload_that_nobody_can_send(app: App) -> None:
    """A payload of a class with a field that JSON cannot express is refused."""

    @dataclass
    class Unsendable:
        it: Path

    def handler(payload: Unsendable) -> None:
        pass

    refused(app, "/a", handler, "GET /a", "no client can send")


@pytest.mark.parametrize("path", [None, 5, b"/x", "x", "x/y", "/a\ud800", ["/x"]])
def test_no_paths(app: App, path: Any) -> None:
    """What is no path is refused with an example of one; so is the decorator without its parentheses."""
    refused(app, path, takes_all, "is no path", "/devices/<device_id>")
    with pytest.raises(DeclarationError, match=r"a function is no path; write @app\.route"):
        app.route(takes_all)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    [
        "/a//b",
        "//a",
        "/a b",
        "/a%20b",
        "/a?b=c",
        "/a#b",
        "/a\\b",
        "/a\nb",
        "/a\0",
        "/a/./b",
        "/a/../b",
        "/..",
        "/<>",
        "/<x",
        "/x>",
        "/<1x>",
        "/<x y>",
        "/<int:>",
        "/<int(:x>",
        "/<<x>>",
    ],
)
def test_wrong_paths(app: App, path: str) -> None:
    """A path that no request can have, or that is not well-formed, is refused."""
    refused(app, path, takes_all, "is no path: beside variables it has letters")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/<x>/<x>", "two variables have the same name"),
        ("/<int:x>/<float:x>", "two variables have the same name"),
        ("/<a>-<string:b>.<c>", "at most 2 texts"),
        ("/<path:a>/<path:b>/<path:c>", "at most 2 texts"),
        ("/<number:x>", "there is no converter 'number'; there are string, int, float, path, uuid, any"),
        ("/<regex('.*'):x>", "there is no converter 'regex'"),
        ("/<default:x>", "there is no converter 'default'"),
        ("/<int(foo=5):x>", "cannot be matched"),
        ("/<int(max=-1):x>", "cannot be matched"),
        ("/<int(max='a'):x>", "cannot be matched"),
        ("/a/<float(min='a'):x>/b", "cannot be matched"),
        ("/<string(length=-1):x>", "cannot be matched"),
        ("/<string(minlength='x'):x>", "cannot be matched"),
    ],
)
def test_wrong_variables(app: App, path: str, text: str) -> None:
    """A variable of an unknown kind, with wrong arguments, or with the name of another, is refused."""
    refused(app, path, takes_all, path, text)


@pytest.mark.parametrize("methods", ["GET", None, 5, [], ()])
def test_no_methods(app: App, methods: Any) -> None:
    """Methods that are no list, or none at all, are refused with an example."""
    refused(app, "/a", takes_all, "/a: methods is", "['GET', 'POST']", methods=methods)


@pytest.mark.parametrize(
    "method", ["HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "", "GET POST", None, 5, b"GET", "ß", "GÉT"]
)
def test_wrong_methods(app: App, method: Any) -> None:
    """A method that a route cannot have is refused: HEAD and OPTIONS are answered by themselves."""
    refused(app, "/a", takes_all, "/a: ", "is no method for a route", "GET, POST, PUT, PATCH, DELETE", methods=[method])


@pytest.mark.parametrize("timeout", [0, -1, True, None, "5", float("inf"), float("nan"), 1e12])
def test_wrong_timeouts(app: App, timeout: Any) -> None:
    """A time limit that is none is refused."""
    refused(app, "/a", takes_all, "/a: timeout is", timeout=timeout)


@pytest.mark.parametrize("role", ["admin", "", "READ", 5, True, ["read"]])
def test_wrong_roles(app: App, role: Any) -> None:
    """A role that there is not is refused, with those that there are."""
    refused(app, "/a", takes_all, "/a: role is", "public, read, control", role=role)


@pytest.mark.parametrize(
    "path", ["/a/<x>", "/a/<y>", "/a/<string:y>", "/a/<y>/"], ids=["same", "name", "converter", "slash"]
)
def test_twice(app: App, path: str) -> None:
    """A path of the same shape with a method that it has already is refused, whatever its variables are called."""
    declared(app, "/a/<x>", takes_all, ["GET", "PUT"])
    refused(app, path, takes_all, "is declared already, as /a/<x>", "PUT", methods=["POST", "PUT"])
    declared(app, path, takes_all, ["POST"])


# --- the paths of rpiserve's own --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(reserved_names()))
def test_shadowing(app: App, name: str) -> None:
    """A route cannot stand where rpiserve's own are, with whatever method and however deep."""
    paths = [f"/{name}", f"/{name}/"] + ([f"/{name}/deeper", f"/{name}/<x>"] if name else ["", "/"])
    for path in paths:
        for method in ("GET", "DELETE"):
            refused(app, path, takes_all, f"/{name}", "is a path of rpiserve's own", methods=[method])
