"""What README.md and the pages in docs/ say is so: apps run, commands answer as shown, tables are those of the code.

The unit and the init script that it points to are tried here, too.
"""

from __future__ import annotations

import argparse
import configparser
import http.client
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import attrs
import click
import pytest
from daemon import PATIENCE, PROGRAM, TWISTD, Daemon, completed, ended, running, running_daemon, until
from init_systems import SHELLS, Action, check_by_systemd, init_script, lsb_header
from redis_server import RedisServer
from werkzeug.datastructures import Headers

import rpiserve
from rpiserve import App, HttpRequest, cli
from rpiserve.cli import output
from rpiserve.core import wire
from rpiserve.daemon.config import DEFAULT_HOST, OPTIONS, load
from rpiserve.daemon.options import Options
from rpiserve.declare.cors import HEADERS, METHODS, READING, CorsPolicy
from rpiserve.declare.routes import METHODS as ROUTE_METHODS
from rpiserve.messaging.caller import CALL_SECONDS
from rpiserve.messaging.messenger import MOST_PENDING
from rpiserve.web.app_routes import MOST_CALLS
from rpiserve.web.endpoints.events import BROADCAST, CHANGE, SENSOR

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("sensors", "commands", "web", "messages", "running"))]
README = "\n".join((CHECKOUT / page).read_text(encoding="utf-8") for page in PAGES)
UNIT = CHECKOUT / "examples" / "rpiserve.service"
INIT = CHECKOUT / "examples" / "rpiserve.init"

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def blocks(language: str) -> list[str]:
    """Return the code blocks in ``language``, of all pages."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block_with(language: str, text: str) -> str:
    """Return the one code block in ``language`` that holds ``text``."""
    [block] = [block for block in blocks(language) if text in block]
    return block


def table(header: str, page: str = "") -> list[list[str]]:
    """Return the rows of the table whose first row begins with ``header``, on any page or on ``page``."""
    lines = iter((CHECKOUT / page).read_text(encoding="utf-8").splitlines() if page else README.splitlines())
    for line in lines:
        if line.startswith(f"| {header} |"):
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    assert rows, f"no table with {header!r} at its head"
    return rows


APP = block_with("python", "# app.py")


def get(daemon: Daemon, target: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str], str]:
    """Request ``target`` and return the status, the headers and the body of the answer."""
    return request(daemon.host, daemon.port, target, headers)


def request(
    host: str, port: int, target: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], str]:
    """Do the same at an address."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("GET", target, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, dict(reply.getheaders()), reply.read().decode()
    finally:
        connection.close()


@contextmanager
def events(daemon: Daemon, target: str) -> Iterator[TextIO]:
    """Open a stream of events, and give its lines."""
    connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
    try:
        connection.request("GET", target)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        with TextIOWrapper(reply, encoding="utf-8") as stream:
            yield stream
    finally:
        connection.close()


def without_values(text: str) -> str:
    """Return events without their revision and their numbers."""
    return re.sub(r"(?<=:)\d+\.\d+", "0.5", re.sub(r"^id: [0-9a-f]+-\d+$", "id: 1-1", text, flags=re.MULTILINE))


def wait_until_read(daemon: Daemon) -> None:
    """Wait until each handler has run well once."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        handlers = json.loads(get(daemon, "/sensors")[2])
        if all(handler["state"] == "ok" for handler in handlers):
            return
    raise AssertionError(f"not read in time: {handlers}")


def run_python(folder: Path, script: str) -> str:
    """Run a script that has nothing to complain about, and return what it prints."""
    done = completed([sys.executable, script], cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def shape(value: Any) -> Any:
    """Return ``value`` with what differs from run to run, its numbers and times, made the same."""
    match value:
        case dict():
            return {key: shape(item) for key, item in sorted(value.items())}
        case list():
            return [shape(item) for item in value]
        case float() if math.isfinite(value):
            return 0.5
        case str() if TIME.fullmatch(value):
            return "a time"
    return value


def curl(daemon: Daemon, command: str) -> str:
    """Do what a line with curl does, but against ``daemon``; return the body of the answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("curl")
    parser.add_argument("url")
    parser.add_argument("-H", dest="header", default="Accept: */*")
    parser.add_argument("-d", dest="body")
    arguments = parser.parse_args(shlex.split(command))
    connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
    try:
        method = "GET" if arguments.body is None else "POST"
        target = arguments.url.removeprefix("http://localhost:8080")
        connection.request(method, target, arguments.body, dict([arguments.header.split(": ")]))
        return connection.getresponse().read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The README's app, running."""
    with running_daemon(tmp_path_factory.mktemp("readme"), APP) as daemon:
        wait_until_read(daemon)
        yield daemon


def curl_examples(text: str) -> list[tuple[str, str]]:
    """Return each curl command in the block that holds ``text``, with the answer that it shows."""
    _, *examples = re.split(r"^\$ ", block_with("console", text), flags=re.MULTILINE)
    pairs = [example.partition("\n") for example in examples]
    return [(command, answer.removesuffix("\n")) for command, _, answer in pairs]


class TestApp:
    def test_it_is_short(self) -> None:
        """The first app has at most 20 lines with something on them, so that it can be typed in."""
        assert len([line for line in APP.splitlines() if line.strip()]) <= 20

    @pytest.mark.parametrize(("command", "shown"), curl_examples("8080/data\n"))
    def test_curl(self, daemon: Daemon, command: str, shown: str) -> None:
        """Each request with curl gets the answer that the README shows, but for the numbers and times in it."""
        [curl, url] = shlex.split(command)
        assert curl == "curl"
        target = url.removeprefix("http://localhost:8080")
        status, _, body = get(daemon, target)
        assert shape(json.loads(body)) == shape(json.loads(shown))
        expected = json.loads(shown)
        assert status == (expected.get("status", 200) if isinstance(expected, dict) and "title" in expected else 200)

    def test_background_function(self, daemon: Daemon) -> None:
        """What the background function prints is in the log."""
        daemon.wait_for(r"now: \{")

    def test_entity_tag(self, daemon: Daemon) -> None:
        """An ETag of /data, sent back in If-None-Match, makes the answer a 304 without a body."""
        headers = get(daemon, "/data/cpu/load")[1]
        current = {"If-None-Match": headers["ETag"]}
        status, _, body = get(daemon, "/data/cpu/load", current)
        if status == 200:  # the load has changed in between; once more, then, as it is read each 5 s only
            headers = get(daemon, "/data/cpu/load")[1]
            status, _, body = get(daemon, "/data/cpu/load", {"If-None-Match": headers["ETag"]})
        assert (status, body) == (304, "")
        assert "ETag" not in get(daemon, "/data/cpu/load?meta=1")[1]

    def test_fields_of_sensors(self, daemon: Daemon) -> None:
        """The table names exactly the fields that /sensors has."""
        [row] = [row for row in table("Request") if "/sensors" in row[0]]
        for handler in json.loads(get(daemon, "/sensors")[2]):
            assert re.findall(r"`(\w+)`", row[1]) == list(handler)

    @pytest.mark.parametrize("row", table("Request"), ids=lambda row: row[0])
    def test_paths(self, daemon: Daemon, row: list[str]) -> None:
        """Each path in the table of requests is answered with 200."""
        elsewhere = ("/cmd?", "/www/", "/events?")  # this app has no commands and no pages; a stream has no end
        for target in re.findall(r"`GET (\S+)`", row[0]):
            target = target.replace("/dashboard/…", "/dashboard/style.css")
            assert target.startswith(elsewhere) or get(daemon, target)[0] == 200

    def test_services(self, daemon: Daemon) -> None:
        """What the table shows of /services is what is there."""
        services = json.loads(get(daemon, "/services")[2])
        assert services.keys() == {"bus", "services"}
        assert services["services"] == [{"name": "greenhouse", "actions": [], "instances": 1}]

    def test_events(self, daemon: Daemon) -> None:
        """The stream begins as the page shows it, but for the values and the revision."""
        lines = block_with("console", "curl -N").splitlines()
        target = shlex.split(lines[0].removeprefix("$ "))[-1].removeprefix("http://localhost:8080")
        shown = "\n".join(lines[1:])
        with events(daemon, target) as stream:
            began = "".join(stream.readline() for _ in range(5))
        assert without_values(began) == without_values(shown[: shown.index("\n\nid", 20)] + "\n")
        assert re.findall(r"^event: (\w+)", shown, re.MULTILINE) == ["snapshot", "change"]

    def test_parameters_of_events(self, daemon: Daemon) -> None:
        """Each example of a parameter in the table is taken, all of them together; the events are those of the code."""
        [path, types, channel, meta] = [row[0].strip("`") for row in table("Parameter")]
        with events(daemon, f"/events?{path}&{types}&{channel}&{meta}") as stream:
            assert stream.readline().startswith("retry: ")
        names = [row[0].strip("`") for row in table("Event")]
        assert names == ["snapshot", CHANGE, SENSOR, BROADCAST]
        assert f"`types={CHANGE},{SENSOR},{BROADCAST}`" in table("Parameter")[1][0]

    def test_page_that_follows(self, daemon: Daemon) -> None:
        """The example for browsers listens to the events that its stream has, and takes what is in them."""
        script = block_with("js", "EventSource")
        [target] = re.findall(r'EventSource\("(.+?)"\)', script)
        with events(daemon, target) as stream:
            first = "".join(stream.readline() for _ in range(5))
        assert "event: snapshot\n" in first
        assert re.findall(r'addEventListener\("(\w+)"', script) == ["snapshot", "change"]
        assert "const { changed, removed } =" in script
        assert len(script.splitlines()) <= 13

    def test_fetch(self, daemon: Daemon) -> None:
        """The path that the browser example fetches is JSON, and no CORS header lets other origins read it."""
        [target] = re.findall(r'fetch\("(.+?)"\)', block_with("js", "fetch"))
        status, headers, body = get(daemon, target, {"Origin": "http://evil.test"})
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert math.isfinite(json.loads(body))
        assert not [name for name in headers if name.lower().startswith("access-control-")]

    def test_treq_client(self, daemon: Daemon, tmp_path: Path) -> None:
        """The Twisted client prints the reading."""
        source = block_with("python", "react(main)").replace("http://localhost:8080", daemon.url)
        assert daemon.url in source
        (tmp_path / "client.py").write_text(source, encoding="utf-8")
        assert math.isfinite(float(run_python(tmp_path, "client.py")))

    def test_run(self, tmp_path: Path) -> None:
        """With the two lines for app.run at its end, the module serves when Python runs it."""
        [run] = [block for block in blocks("python") if block.startswith("if __name__")]
        run = run.replace("8080", "0")
        (tmp_path / "app.py").write_text(APP + run, encoding="utf-8")
        with running([sys.executable, "app.py"], cwd=tmp_path) as daemon:
            address = daemon.wait_for(r"serving on http://([\d.]+):(\d+)")
            daemon.host, daemon.port = address[1], int(address[2])
            assert get(daemon, "/health")[0] == 200
            daemon.stop(signal.SIGINT)
        assert "Traceback" not in daemon.log()


@contextmanager
def inverter() -> Iterator[str]:
    """A thing on the network that tells its power; gives its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"watts": 4200}')

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestSnippets:
    def test_async_sensor(self, tmp_path: Path) -> None:
        """The async sensor reads another machine with treq, and its value has the unit."""
        with inverter() as url:
            snippet = block_with("python", "async def power").replace("http://192.168.1.20", url)
            with running_daemon(tmp_path, "from rpiserve import App\napp = App('x')\n" + snippet) as daemon:
                wait_until_read(daemon)
                value = json.loads(get(daemon, "/data/inverter/power?meta=1")[2])
        assert (value["value"], value["unit"], value["state"]) == (4200, "W", "ok")

    def test_dict_and_bus(self, tmp_path: Path) -> None:
        """A sensor that returns a dict becomes a part of the tree, each value with its unit; /sensors names the bus."""
        source = "from rpiserve import App\napp = App('x')\n" + block_with("python", "i2c-1")
        with running_daemon(tmp_path, source) as daemon:
            wait_until_read(daemon)
            values = json.loads(get(daemon, "/data/meter?meta=1")[2])
            [handler] = json.loads(get(daemon, "/sensors")[2])
        assert {key: (value["value"], value["unit"]) for key, value in values.items()} == {
            "voltage": (230.1, "V"),
            "current": (0.42, "A"),
        }
        assert handler["bus"] == "i2c-1"

    def test_schedules(self) -> None:
        """The lines about schedules declare two, with the words that /sensors has for them."""
        app = App("x")
        exec(block_with("python", "app.schedule("), {"app": app})
        plans = [(polled.kind, polled.trigger.plan.describe()) for polled in app.polled]
        assert plans == [("schedule", "daily × 1"), ("cron", "*/15 8-18 * * mon-fri")]

    def test_doorbell(self, tmp_path: Path) -> None:
        """The doorbell answers each request with curl as the README shows."""
        source = "from rpiserve import App\napp = App('x')\n" + block_with("python", "class DoorBell")
        with running_daemon(tmp_path, source) as daemon:
            for command, shown in curl_examples("/cmd?name=theDoorBell"):
                assert curl(daemon, command) == shown

    @pytest.mark.parametrize(("source", "console"), [("def lamp(", "name=lamp&"), ("def show_pin", "/pins/")])
    def test_short_example(self, source: str, console: str, tmp_path: Path) -> None:
        """A command and a route in the README answer as it shows."""
        with running_daemon(
            tmp_path, "from rpiserve import App\napp = App('x')\n" + block_with("python", source)
        ) as it:
            for command, shown in curl_examples(console):
                assert curl(it, command) == shown

    def test_messages_in_short(self, tmp_path: Path) -> None:
        """The action and the listener in the README work."""
        source = "from rpiserve import App\napp = App('x')\n" + block_with("python", "open_window")
        with running_daemon(tmp_path, source) as daemon:
            head = "curl -H 'Content-Type: application/json' http://localhost:8080"
            assert curl(daemon, f"{head}/actions/open_window -d '{{}}'") == '{"state":"open"}'
            assert curl(daemon, f"{head}/broadcasts/weather.sun -d '{{\"lux\": 5}}'") == '{"receivers":1}'
            until(lambda: get(daemon, "/data")[2] == '{"weather":{"lux":5}}')

    def test_data_tree(self) -> None:
        """The lines about the data tree do what is said beside them."""
        app = App("x")
        exec(block_with("python", "app.data.at"), {"app": app})
        assert app.data.snapshot() == {"tank": {"level": 71.9}, "door": "shut", "lamp": {"on": True}}

    def test_ready_made_readings(self) -> None:
        """The lines about ready-made readings declare three sensors, and the names in the text are there."""
        app = App("x")
        names: dict[str, Any] = {"app": app}
        exec(block_with("python", "one_wire.read"), names)
        assert [polled.function.name for polled in app.polled] == ["memory", "disk", "cellar"]
        for module in ("host", "one_wire"):
            [sentence] = re.findall(rf"`rpiserve\.sensors\.{module}` [^.]*\.", README)
            for name in re.findall(r"`(\w+)(?:\(\))?`", sentence):
                assert callable(getattr(names[module], name))

    def test_commands_of_the_shell(self) -> None:
        """The lines with the command rpiserve are ones that it takes."""
        lines = re.findall(r"^rpiserve (\w+) (.+)$", block_with("sh", "rpiserve call"), re.MULTILINE)
        assert [name for name, _ in lines] == ["call", "publish", "listen"]
        for name, rest in lines:
            command = cli.commands.get_command(click.Context(cli.commands), name)
            assert command is not None
            command.make_context(name, shlex.split(rest))

    def test_exit_codes(self) -> None:
        """The table of exit codes has each that the command has."""
        codes = [int(code.strip("`")) for code, _ in table("Exit code")]
        told = (output.ANSWERED, output.FAILED, output.USAGE, output.NOBODY, output.TIMEOUT, output.UNREACHABLE)
        assert codes == [*told, output.REFUSED]

    def test_make_targets(self) -> None:
        """Each target of make that the README names is in the Makefile, with a line of help."""
        makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
        targets = set(re.findall(r"^(?:`|.*`)?make ([\w-]+)", README, re.MULTILINE))
        assert {"run", "test"} <= targets
        for target in targets:
            assert re.search(rf"^{target}:.*## \w", makefile, re.MULTILINE), target

    def test_files_exist(self) -> None:
        """Each file or folder of the checkout that a page names is there."""
        named = set(re.findall(r"`((?:docs|examples)/[\w./-]*|[A-Z]+\.md|LICENSE)`", README))
        assert {"examples/greenhouse.py", "examples/", "LICENSE"} <= named
        for name in named:
            assert (CHECKOUT / name).exists(), name

    @pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (CHECKOUT / "docs").glob("*.md"))])
    def test_links(self, page: str) -> None:
        """Each link from one page to another leads to a page, and to a heading if it names one."""
        text = (CHECKOUT / page).read_text(encoding="utf-8")
        for name, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
            target = (CHECKOUT / page).parent / name if name else CHECKOUT / page
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading).replace(" ", "-").lower() for heading in headings}
            assert not anchor or anchor in anchors, f"{name}#{anchor}"


MESSAGES = "from rpiserve import App\napp = App('greenhouse')\n" + block_with("python", '@app.action("pour")')


class TestMessages:
    def test_actions(self, tmp_path: Path) -> None:
        """The actions answer each request with curl as the README shows, and the listener hears the broadcast."""
        with running_daemon(tmp_path, MESSAGES) as daemon:
            for command, shown in curl_examples("/actions/"):
                assert curl(daemon, command) == shown
            until(lambda: get(daemon, "/data")[2] == '{"last_message":{"litres":5.0}}')

    def test_caller(self, tmp_path: Path) -> None:
        """The Twisted program gets its answer by Redis, and says so if nobody is there."""
        with RedisServer() as redis:
            source = block_with("python", "react(ask)").replace("redis://127.0.0.1", redis.url)
            assert redis.url in source
            (tmp_path / "client.py").write_text(source, encoding="utf-8")
            assert run_python(tmp_path, "client.py") == "nobody is there\n"
            with running_daemon(tmp_path, MESSAGES, "--redis", redis.url) as daemon:
                daemon.wait_for("is connected")
                assert run_python(tmp_path, "client.py") == "{'status': 'healthy'}\n"

    def test_caller_of_an_app(self) -> None:
        """The lines about ``app.caller`` declare a background function."""
        app = App("x")
        exec(block_with("python", "app.caller("), {"app": app})
        assert [polled.function.name for polled in app.polled] == ["fill"]

    def test_errors(self) -> None:
        """Each exception in the table is in the package, and two of its bounds are those of the code."""
        rows = {name.strip("`"): meaning for name, meaning in table("Exception")}
        assert all(issubclass(getattr(rpiserve, name), rpiserve.RpiserveError) for name in rows)
        assert f"{CALL_SECONDS:g} s" in rows["CallTimeout"]
        assert str(MOST_PENDING) in rows["TooManyPending"]

    def test_codes(self) -> None:
        """The text has each code that an error can have."""
        [text] = re.findall(r"^- \*\*Every request is answered once.*?(?=^- )", README, re.MULTILINE | re.DOTALL)
        codes = [wire.UNKNOWN_ACTION, wire.INVALID_PAYLOAD, wire.HANDLER_ERROR, wire.UNSERIALIZABLE]
        assert set(re.findall(r"`(\w+)`", text)) == {*codes, wire.TIMEOUT, wire.BUSY}

    def test_addresses(self) -> None:
        """Each address of Redis in the table is one that the option takes."""
        for _, option in table("Redis is at"):
            name, url = option.strip("`").split()
            assert name == "--redis"
            assert load({"redis": url}, {}).redis_address is not None


class TestWeb:
    """docs/web.md."""

    def test_routes(self, tmp_path: Path) -> None:
        """The routes answer each request with curl as the page shows."""
        source = "from rpiserve import App\napp = App('x')\n" + block_with("python", "def set_lamp")
        with running_daemon(tmp_path, source) as daemon:
            for command, shown in curl_examples("/lamps/"):
                assert curl(daemon, command) == shown
            headers = get(daemon, "/lamps.csv")[1]
        assert (headers["Content-Type"], headers["Cache-Control"]) == ("text/csv; charset=utf-8", "max-age=5")

    def test_request(self) -> None:
        """The table names exactly what a request has, and the text each method and the bound on requests."""
        [named] = [re.findall(r"`(\w+)`", "".join(row[0] for row in table("Of the request")))]
        request = HttpRequest("GET", "/", b"", Headers(), b"", {})
        assert sorted(named) == sorted(name for name in dir(request) if not name.startswith("_"))
        [methods] = re.findall(r"^- \*\*The methods\*\* are (.+?);", README, re.MULTILINE)
        assert re.findall(r"`(\w+)`", methods) == list(ROUTE_METHODS)
        assert f"at most {MOST_CALLS} are under way" in README

    def test_blueprint(self, tmp_path: Path) -> None:
        """The app in two modules has the route and the sensor of its blueprint."""
        (tmp_path / "lights.py").write_text(block_with("python", "# lights.py"), encoding="utf-8")
        with running_daemon(tmp_path, block_with("python", "# house.py")) as daemon:
            assert json.loads(get(daemon, "/lights/hall")[2]) == {"light": "hall"}
            wait_until_read(daemon)
            assert json.loads(get(daemon, "/data/lights/hall")[2]) is True

    def test_cors(self) -> None:
        """The table has each option with its default, and the same arguments as the code; both examples are one."""
        rows = table("Option", page="docs/web.md")
        options = [name.removeprefix("`--").removesuffix("`").replace("-", "_") for name, *_ in rows]
        assert options == [name for name in OPTIONS if name.startswith("cors_")]
        fields = [re.findall(r"\w+", argument)[0] for _, argument, *_ in rows]
        assert fields == [field.name for field in attrs.fields(CorsPolicy)]
        defaults = {name: re.findall(r"[\w-]+", default) for name, (_, _, default, _) in zip(fields, rows, strict=True)}
        assert defaults["allowed_methods"] == [*METHODS, "with", "as", "origin", *READING]
        assert defaults["allowed_headers"] == list(HEADERS)
        assert defaults["max_age"] == [str(OPTIONS["cors_max_age"].default)]
        app = App("x")
        exec(block_with("python", "app.cors("), {"app": app})
        [line] = re.findall(r"^twistd .* rpiserve (.*--cors-origin.*)$", README, re.MULTILINE)
        by_options = Options.parse(shlex.split(line), {}, {}).cors
        assert app.cors_policy is not None
        assert by_options is not None
        assert app.cors_policy == attrs.evolve(by_options, allow_credentials=True)

    def test_any_origin(self) -> None:
        """All origins together may read, may not write, and do not go with credentials."""
        policy = CorsPolicy.of("*")
        assert policy.allows("https://any.example", "GET")
        assert not policy.allows("https://any.example", "POST")
        with pytest.raises(ValueError, match="does not go with"):
            CorsPolicy.of("*", allow_credentials=True)


class TestOptions:
    def test_table(self) -> None:
        """The table has each option once, with its default."""
        rows = {
            re.findall(r"--([\w-]+)", option)[0].replace("-", "_"): default for option, default, _ in table("Option")
        }
        assert rows.keys() == {*OPTIONS, "config"}
        words = {False: "off", (): "none", None: "none"}
        for name, field in OPTIONS.items():
            default = DEFAULT_HOST if name == "host" else words.get(field.default, field.default)
            shown = rows[name].strip("`").removesuffix(" bytes")
            assert shown == (f"{default:g} s" if isinstance(default, float) else str(default)), name

    def test_short_forms(self) -> None:
        """The short forms in the table are those of the command line."""
        rows = dict(re.findall(r"^\| `--([\w-]+)`, `-(\w)`", README, re.MULTILINE))
        assert rows == {row[0]: row[1] for row in Options.optParameters if row[1]}

    def test_toml(self, tmp_path: Path) -> None:
        """The example of a TOML file is taken, and the environment wins over it."""
        file = tmp_path / "rpiserve.toml"
        file.write_text(block_with("toml", "port"), encoding="utf-8")
        config = load({"config": str(file)}, {"RPISERVE_STOP_TIMEOUT": "7"})
        assert (config.port, config.allowed_host, config.stop_timeout) == (8081, ("pi.example.org", "pi"), 7)

    def test_environment(self) -> None:
        """The variable in the text is an option."""
        [(name, value)] = set(re.findall(r"(RPISERVE_PORT)=(\d+)", README))
        assert load({}, {name: value}).port == 8081

    @pytest.mark.parametrize(
        "text", [*PAGES, "examples/rpiserve.service", "examples/host_monitor.py", "examples/greenhouse.py"]
    )
    def test_command_lines(self, text: str) -> None:
        """Each command line with ``twistd … rpiserve …`` is one that rpiserve takes."""
        lines = re.findall(
            r"^[^|\n]*twistd\b[^|\n]* rpiserve( --[^|\n]*)$",
            (CHECKOUT / text).read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        assert lines or text.startswith("docs/")
        for line in lines:
            assert Options.parse(shlex.split(line), {}, {}).port == 8080


def _no_module(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    (folder / "app.py").unlink()
    return [], {}


def _missing_import(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    (folder / "app.py").write_text("\n\nimport smbus2\n", encoding="utf-8")
    return [], {}


def _taken_port(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    return ["--port", str(port)], {}


def _open_port(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    return ["--port", "0", "--host", "0.0.0.0"], {}


def _unknown_variable(folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    return [], {"RPISERVE_PROT": "8080"}


TROUBLES = [_no_module, _missing_import, _taken_port, _open_port, _unknown_variable]


class TestTroubleshooting:
    @pytest.mark.parametrize(
        ("row", "cause"), list(zip(table("It says"), TROUBLES, strict=True)), ids=lambda value: str(value)[:24]
    )
    def test_start_error(self, row: list[str], cause: Callable[..., Any], daemon: Daemon, tmp_path: Path) -> None:
        """Each error in the table is all that rpiserve says on standard error in that case, and the start fails."""
        (tmp_path / "app.py").write_text(APP, encoding="utf-8")
        options, variables = cause(tmp_path, daemon.port)
        done = completed([*PROGRAM, "--module", "app", *options], cwd=tmp_path, env=variables)
        said = done.stderr.replace(str(tmp_path), "/home/pi/greenhouse")
        said = re.sub(r"(?<=127\.0\.0\.1 port |http://0\.0\.0\.0:)\d+", "8080", said)
        assert done.returncode == 1
        assert said == f"rpiserve: {row[0].strip('`')}\n"


def lives(pid: int) -> bool:
    """Tell whether the process runs. One that has ended, but whose parent does not know yet, has no command."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_daemon_mode(tmp_path: Path) -> None:
    """Without -n, twistd serves in the background, and the kill command beside it ends it."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    change, start, stop = block_with("sh", "greenhouse.pid").splitlines()
    assert change == "cd ~/greenhouse"
    start = start.replace(".venv/bin/twistd", str(TWISTD)).replace("8080", "0")
    subprocess.run(start, shell=True, cwd=tmp_path, timeout=PATIENCE, check=True)
    with ended(int((tmp_path / "greenhouse.pid").read_text())):
        assert "serving on http://127.0.0.1:" in (tmp_path / "greenhouse.log").read_text(encoding="utf-8")
        subprocess.run(stop, shell=True, cwd=tmp_path, timeout=PATIENCE, check=True)
    assert not (tmp_path / "greenhouse.pid").exists()


class TestInitScript:
    """``examples/rpiserve.init`` with its paths moved to a folder of the test's."""

    @pytest.fixture
    def control(self, tmp_path: Path) -> Iterator[Action]:
        """Return a function that calls the script with an action and returns its status and what it printed."""
        settings = {
            "FOLDER": tmp_path,
            "TWISTD": TWISTD,
            "RUN_AS": subprocess.check_output(["id", "-un"], text=True).strip(),
            "PIDFILE": tmp_path / "run" / "rpiserve.pid",
            "LOG_TO": f"--logfile={tmp_path / 'log'}",
            "RPISERVE_PORT": 0,
        }
        (tmp_path / "app.py").write_text(APP, encoding="utf-8")
        with init_script([INIT], tmp_path / "defaults", settings) as call:
            yield call

    @pytest.mark.parametrize("shell", SHELLS)
    def test_syntax(self, shell: str) -> None:
        """Each shell that is here takes its syntax."""
        subprocess.run([shell, "-n", INIT], timeout=PATIENCE, check=True)

    def test_header(self) -> None:
        """It has the LSB header with what insserv asks for, and may be executed."""
        assert lsb_header(INIT.read_text(encoding="utf-8"))["Provides"] == "rpiserve"
        assert os.access(INIT, os.X_OK)

    def test_cycle(self, tmp_path: Path, control: Action) -> None:
        """It starts the daemon, tells that it runs, does not start a second one, and stops it; LSB's exit codes."""
        assert control("status") == (3, "rpiserve does not run\n")
        assert control("start") == (0, "rpiserve has started\n")
        pid = int((tmp_path / "run" / "rpiserve.pid").read_text())
        [port] = re.findall(r"serving on http://127.0.0.1:(\d+)", (tmp_path / "log").read_text(encoding="utf-8"))
        assert request("127.0.0.1", int(port), "/health")[0] == 200
        assert control("status") == (0, f"rpiserve runs (process {pid})\n")
        assert control("start") == (0, f"rpiserve runs already (process {pid})\n")
        assert control("stop") == (0, "rpiserve has stopped\n")
        assert not lives(pid)
        assert control("stop") == (0, "rpiserve does not run\n")

    def test_restart(self, tmp_path: Path, control: Action) -> None:
        """A restart brings another process, also if none ran before."""
        assert control("restart")[0] == 0
        first = (tmp_path / "run" / "rpiserve.pid").read_text()
        assert control("restart")[0] == 0
        assert (tmp_path / "run" / "rpiserve.pid").read_text() != first
        assert not lives(int(first))

    def test_foreign_process(self, tmp_path: Path, control: Action) -> None:
        """A process that has the number in a file left behind is neither taken for the daemon nor killed."""
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "rpiserve.pid").write_text(str(os.getpid()))
        status, text = control("status")
        assert (status, "has left" in text) == (1, True)
        assert control("stop") == (0, "rpiserve does not run\n")

    def test_failed_start(self, tmp_path: Path, control: Action) -> None:
        """A start that fails says why, and the script fails with it."""
        with (tmp_path / "defaults").open("a", encoding="utf-8") as file:
            file.write(f"FOLDER={shlex.quote(str(tmp_path / 'empty'))}\n")
        (tmp_path / "empty").mkdir()
        status, text = control("start")
        assert (status, "rpiserve: there is no module app" in text) == (1, True)
        assert control("status")[0] == 3

    def test_unknown_action(self, control: Action) -> None:
        """Anything else is answered with what there is."""
        status, text = control("dance")
        assert (status, text.startswith("Usage: ")) == (2, True)


class Unit(configparser.RawConfigParser):
    """A systemd unit, in which no option stands twice."""

    def __init__(self) -> None:
        super().__init__(delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None)
        self.read(UNIT, encoding="utf-8")

    def optionxform(self, optionstr: str) -> str:
        """Keep the case."""
        return optionstr


class TestUnit:
    """``examples/rpiserve.service``."""

    def test_hardening(self) -> None:
        """It runs as a user of its own, who may change nothing but one folder, and gains no rights."""
        service = Unit()["Service"]
        assert service["ProtectSystem"] == "strict"
        assert service["CapabilityBoundingSet"] == ""
        for switch in ("DynamicUser", "ProtectHome", "PrivateTmp", "NoNewPrivileges"):
            assert service[switch] == "yes"

    def test_stop(self) -> None:
        """systemd waits longer than the daemon takes to end by itself, and starts it again if it fails or hangs."""
        service = Unit()["Service"]
        assert float(service["TimeoutStopSec"]) > OPTIONS["stop_timeout"].default
        assert service["Restart"] == "on-failure"
        assert (service["Type"], service["WatchdogSec"]) == ("notify", "30")

    def test_command(self, tmp_path: Path) -> None:
        """Its command serves the app that lies in its working directory."""
        service = Unit()["Service"]
        command = shlex.split(service["ExecStart"].removeprefix(":"))
        assert command[0] == f"{service['WorkingDirectory']}/.venv/bin/twistd"
        command = [str(TWISTD), *command[1:], "--port", "0"]
        (tmp_path / "app.py").write_text(APP, encoding="utf-8")
        with running(command, cwd=tmp_path) as daemon:
            daemon.wait_for("serving on http://127.0.0.1:")
        assert "Traceback" not in daemon.log()
        assert not (tmp_path / "twistd.pid").exists()

    def test_systemd_takes_it(self, tmp_path: Path) -> None:
        """systemd has nothing to say about it, where there is one to ask; elsewhere each line is at least an option."""
        text = UNIT.read_text(encoding="utf-8")
        copy = tmp_path / UNIT.name
        copy.write_text(text.replace("/opt/rpiserve/.venv/bin/twistd", str(TWISTD)), encoding="utf-8")
        check_by_systemd(copy)
        assert Unit().sections() == ["Unit", "Service", "Install"]
        for line in text.splitlines():
            assert re.fullmatch(r"|#.*|\[\w+\]|[A-Z]\w*=.*", line), line
