"""Blueprints: what a module declares for itself becomes the app's, with nothing lost and nothing there twice."""

from collections.abc import Callable
from typing import Any

import pytest
from route_peer import RouteSite

from rpiserve import App, Blueprint, Handler
from rpiserve.declare.registry import Registry
from rpiserve.errors import DeclarationError


class Meter(Handler):
    """A handler."""

    def prepare(self) -> None:
        """Prepare nothing."""

    def invoke(self) -> None:
        """Do nothing."""


def work() -> float:
    """Do nothing."""
    return 1.0


def loop(running: Callable[[], bool]) -> None:
    """Run for long."""


def answer(req: Any) -> str:
    """Answer."""
    return str(req.path)


def heard(payload: Any) -> None:
    """Listen."""


@pytest.fixture
def app() -> App:
    """An app without declarations."""
    return App("test")


@pytest.fixture
def lights() -> Blueprint:
    """A blueprint without declarations."""
    return Blueprint("lights", "/lights")


def declare_all(registry: Registry) -> None:
    """Declare one of each kind."""
    registry.sensor("lights/level", every=5)(work)
    registry.every(5, Meter())
    registry.schedule(work)
    registry.cron("0 6 * * *")(work)
    registry.background("check", 30)(work)
    registry.thread("serial")(loop)
    registry.on_start()(work)
    registry.on_stop()(work)
    registry.add_command(work, name="lights.work")
    registry.action("get_level")(work)
    registry.listen("notifications")(heard)
    registry.route("/level")(answer)
    registry.cors(["https://panel.example"])


def refused(declare: Callable[[], object], *texts: str) -> None:
    """Assert that ``declare`` is refused with all of ``texts`` in one line."""
    with pytest.raises(DeclarationError) as caught:
        declare()
    for text in texts:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def names(registry: Registry) -> list[str]:
    """Return the names of the polled handlers."""
    return [polled.function.name for polled in registry.polled]


# --- what is taken over -----------------------------------------------------------------------------------------------


def test_everything(app: App, lights: Blueprint) -> None:
    """An app that registers a blueprint has all of it, as if it had declared it itself; only its routes have moved."""
    declare_all(lights)
    app.register_blueprint(lights)
    alone = App("test")
    declare_all(alone)
    assert names(app) == names(alone)
    assert [polled.kind for polled in app.polled] == [polled.kind for polled in alone.polled]
    assert app.polled[0].path == ("lights", "level")
    for kind in ("threads", "start_hooks", "stop_hooks"):
        assert [each.name for each in getattr(app, kind)] == [each.name for each in getattr(alone, kind)]
        assert len(getattr(app, kind)) == 1
    assert app.commands.keys() == alone.commands.keys() == {"lights.work"}
    assert app.actions.keys() == alone.actions.keys() == {"get_level"}
    assert len(app.listeners) == len(alone.listeners) == 1
    assert app.cors_policy == alone.cors_policy
    assert app.thread_count() == alone.thread_count()
    assert [(route.path, route.function.name) for route in app.routes] == [("/lights/level", "GET /lights/level")]


def test_declaring_order(app: App, lights: Blueprint) -> None:
    """A blueprint declares what it likes before it is known where it goes; the app may declare after that."""
    lights.route("/level")(answer)
    app.register_blueprint(lights)
    app.route("/level")(answer)
    app.route("/lights/other")(answer)
    site = RouteSite(app)
    for path in ("/lights/level", "/level", "/lights/other"):
        assert site.ask(path).json() == path
    site.ask("/lights").problem(404)


@pytest.mark.parametrize(
    ("own", "given", "path"),
    [
        ("", None, "/level"),
        ("/lights", None, "/lights/level"),
        ("/lights/", None, "/lights/level"),
        ("/lights", "/house/ground", "/house/ground/level"),
        ("/lights", "/house/", "/house/level"),
        ("/lights", "", "/level"),
        ("/lights", "/", "/level"),
        ("//", None, "/level"),
        ("", "/größe", "/größe/level"),
    ],
)
def test_prefixes(app: App, own: str, given: str | None, path: str) -> None:
    """The prefix is the blueprint's own unless another is given where it is registered; a slash at its end is none."""
    blueprint = Blueprint("lights", own)
    blueprint.route("/level")(answer)
    app.register_blueprint(blueprint, given)
    assert [route.path for route in app.routes] == [path]


def test_root_of_a_prefix(app: App, lights: Blueprint) -> None:
    """A blueprint's route may be at its prefix itself, with or without a slash, and may have variables."""
    lights.route("/")(lambda req: "all")
    lights.route("", methods=["POST"])(lambda req: "new")
    lights.route("/<int:number>")(lambda number: number)
    app.register_blueprint(lights)
    site = RouteSite(app)
    assert site.ask("/lights").json() == "all"
    assert site.ask("/lights/").json() == "all"
    assert site.post("/lights", 1).json() == "new"
    assert site.ask("/lights/7").json() == 7


def test_nested(app: App, lights: Blueprint) -> None:
    """A blueprint may register others: their prefixes add up, and all of it is the app's in the end."""
    lamp = Blueprint("lamp", "/lamp")
    declare_all(lamp)
    lights.register_blueprint(lamp)
    app.register_blueprint(lights)
    assert [route.path for route in app.routes] == ["/lights/lamp/level"]
    assert (len(app.polled), set(app.commands), set(app.actions)) == (5, {"lights.work"}, {"get_level"})


def test_names_of_handlers(app: App, lights: Blueprint) -> None:
    """Handlers with the same name get a number behind it, as does what prepares them, so that logs tell them apart."""
    for registry in (app, lights):
        registry.background("check", 30)(work)
        registry.every(5, Meter())
        registry.thread("serial")(loop)
    app.register_blueprint(lights)
    assert names(app) == ["check", "Meter", "check-2", "Meter-2"]
    assert [polled.prepare.name for polled in app.polled if polled.prepare] == ["Meter.prepare", "Meter-2.prepare"]
    assert [function.name for function in app.threads] == ["serial", "serial-2"]


def test_listeners_of_one_channel(app: App, lights: Blueprint) -> None:
    """Two modules may listen to the same channel: each of them hears."""
    for registry in (app, lights):
        registry.listen("notifications")(heard)
    app.register_blueprint(lights)
    assert len(app.listeners) == 2
    assert len({listener.function.name for listener in app.listeners}) == 2


def test_same_path_with_other_methods(app: App, lights: Blueprint) -> None:
    """The app and a blueprint may share a path, each with its own methods."""
    app.route("/lights/level")(lambda: "read")
    lights.route("/level", methods=["PUT"])(lambda: "set")
    app.register_blueprint(lights)
    site = RouteSite(app)
    assert site.ask("/lights/level").json() == "read"
    assert site.ask("/lights/level", "PUT").json() == "set"
    assert site.ask("/lights/level", "POST").headers["allow"] == "GET, HEAD, OPTIONS, PUT"


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "", "  ", 5, "a\ud800"])
def test_wrong_names(name: Any) -> None:
    """A blueprint has a name."""
    refused(lambda: Blueprint(name), "is no name")


@pytest.mark.parametrize("prefix", [None, 5, "lights", __name__, "lights/", b"/lights"])
def test_no_prefixes(prefix: Any) -> None:
    """A prefix that is no path is refused where the blueprint is made."""
    refused(lambda: Blueprint("lights", prefix), "is no path")


@pytest.mark.parametrize("prefix", ["/a//b", "/a b", "/..", "/a?b", "/a%2f"])
def test_wrong_prefixes(app: App, lights: Blueprint, prefix: str) -> None:
    """A prefix that no path can begin with is refused, wherever it is given."""
    refused(lambda: Blueprint("lights", prefix), "is no path")
    refused(lambda: app.register_blueprint(lights, prefix), "is no path")


def test_prefix_with_variables(app: App, lights: Blueprint) -> None:
    """A prefix has no variables."""
    refused(lambda: Blueprint("lights", "/<room>"), "/<room>", "a prefix has no variables")
    refused(lambda: app.register_blueprint(lights, "/<room>"), "a prefix has no variables")


@pytest.mark.parametrize("thing", [None, "lights", Blueprint, Registry(), App("other")])
def test_no_blueprints(app: App, thing: Any) -> None:
    """Only a blueprint can be registered: not its class, and not another app."""
    refused(lambda: app.register_blueprint(thing), "is no Blueprint")


def test_itself(lights: Blueprint) -> None:
    """A blueprint cannot be registered on itself, nor on what is registered on it."""
    refused(lambda: lights.register_blueprint(lights), "is no Blueprint")
    lamp = Blueprint("lamp")
    lights.register_blueprint(lamp)
    refused(lambda: lamp.register_blueprint(lights), "has been registered already")


def test_twice(app: App, lights: Blueprint) -> None:
    """A blueprint can be registered once, here or anywhere."""
    app.register_blueprint(lights)
    for registry in (app, App("other"), Blueprint("house")):
        refused(
            lambda registry=registry: registry.register_blueprint(lights, "/other"), "'lights' is registered already"
        )


DECLARATIONS: dict[str, Callable[[Registry], object]] = {
    "sensor": lambda registry: registry.sensor("a")(work),
    "every": lambda registry: registry.every(5, Meter()),
    "schedule": lambda registry: registry.schedule(work),
    "cron": lambda registry: registry.cron("0 6 * * *")(work),
    "background": lambda registry: registry.background("a", 30)(work),
    "thread": lambda registry: registry.thread("a")(loop),
    "on_start": lambda registry: registry.on_start()(work),
    "on_stop": lambda registry: registry.on_stop()(work),
    "command": lambda registry: registry.command(work),
    "add_command": lambda registry: registry.add_command(work, name="a"),
    "action": lambda registry: registry.action("a")(work),
    "listen": lambda registry: registry.listen("a")(heard),
    "route": lambda registry: registry.route("/a")(answer),
    "cors": lambda registry: registry.cors("*"),
    "register_blueprint": lambda registry: registry.register_blueprint(Blueprint("other")),
}


@pytest.mark.parametrize("kind", DECLARATIONS)
def test_too_late(app: App, lights: Blueprint, kind: str) -> None:
    """What a blueprint declares after it was registered would be lost, so it is refused."""
    app.register_blueprint(lights)
    refused(lambda: DECLARATIONS[kind](lights), "has been registered already")
    DECLARATIONS[kind](app)


@pytest.mark.parametrize(
    ("declare", "texts"),
    [
        (lambda registry: registry.add_command(work, name="lights.on"), ["command", "'lights.on'"]),
        (lambda registry: registry.action("get_level")(work), ["action", "'get_level'"]),
        (lambda registry: registry.sensor("house/level", every=5)(work), ["house/level"]),
        (lambda registry: registry.cors("*"), ["cors()"]),
    ],
)
def test_conflicts(app: App, lights: Blueprint, declare: Callable[[Registry], object], texts: list[str]) -> None:
    """A command, an action, a sensor's place or the policy for other origins cannot be had twice."""
    declare(app)
    declare(lights)
    refused(lambda: app.register_blueprint(lights), *texts)
    second = Blueprint("second")
    declare(second)
    other = App("other")
    first = Blueprint("first")
    declare(first)
    other.register_blueprint(first)
    refused(lambda: other.register_blueprint(second), *texts)


def test_sensors_that_overlap(app: App, lights: Blueprint) -> None:
    """A sensor of a blueprint cannot stand above or below one of the app's."""
    app.sensor("house/level", every=5)(work)
    lights.sensor("house", every=5)(work)
    refused(lambda: app.register_blueprint(lights), "house")


def test_same_handler(app: App, lights: Blueprint) -> None:
    """One handler cannot be polled twice, in two modules either."""
    meter = Meter()
    app.every(5, meter)
    lights.every(5, meter)
    refused(lambda: app.register_blueprint(lights), "Meter", "is declared already; make a second one")


def test_routes_that_conflict(app: App, lights: Blueprint) -> None:
    """A blueprint's route cannot match what another route does."""
    app.route("/lights/<name>")(answer)
    lights.route("/<number>")(answer)
    refused(lambda: app.register_blueprint(lights), "GET /lights/<number> is declared already, as /lights/<name>")


@pytest.mark.parametrize(
    ("prefix", "path"), [("", "/data"), ("/data", "/x"), ("/www", "/<path:x>"), ("", "/"), ("/cmd", "")]
)
def test_shadowing(app: App, prefix: str, path: str) -> None:
    """A blueprint's route cannot stand where rpiserve's own are; it is told when it is known where it goes."""
    blueprint = Blueprint("lights", prefix)
    blueprint.route(path)(answer)
    refused(lambda: app.register_blueprint(blueprint), "is a path of rpiserve's own")


def test_refused_prefix_can_be_mended(app: App) -> None:
    """A built-in name is no trouble behind a prefix."""
    blueprint = Blueprint("lights")
    blueprint.route("/data")(answer)
    app.register_blueprint(blueprint, "/lights")
    assert RouteSite(app).ask("/lights/data").json() == "/lights/data"
