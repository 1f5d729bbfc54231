"""The greenhouse, as ``make demo`` runs it: its sensors, commands, action, route and events, over real sockets."""

import http.client
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from daemon import PATIENCE, SITE, Daemon, running_daemon, until
from redis_server import free_port

from examples.greenhouse import Simulation

CHECKOUT = Path(__file__).resolve().parents[2]
MODULE = ("--module", "examples.greenhouse")
IMPORTABLE = {"PYTHONPATH": os.pathsep.join(map(str, (SITE, CHECKOUT)))}
PARTS = {"mode", "target", "air", "beds", "light", "tank", "fan", "co2", "outside"}
JSON = {"Content-Type": "application/json"}


def ask(daemon: Daemon, path: str, body: object = None) -> tuple[int, Any]:
    """Get ``path``, or post ``body`` to it; return the status and the value of the answer."""
    connection = http.client.HTTPConnection(daemon.host, daemon.port, timeout=PATIENCE)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), JSON)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def call(daemon: Daemon, name: str, **arguments: object) -> tuple[int, Any]:
    """Call a command; return the status and what it returns, or what is wrong."""
    status, answer = ask(daemon, "/cmd", {"Command": {"Name": name, "Args": arguments}})
    return status, answer["Command"]["Result"] if status == 200 else answer


@pytest.fixture(scope="module")
def greenhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The example, with all that it measures read once."""
    with running_daemon(tmp_path_factory.mktemp("greenhouse"), "", *MODULE, env=IMPORTABLE) as daemon:
        until(lambda: ask(daemon, "/data")[1].keys() == PARTS)
        yield daemon
        daemon.stop()
        assert "Traceback" not in daemon.log()


class TestGreenhouse:
    def test_readings(self, greenhouse: Daemon) -> None:
        """There is something to see of each kind: numbers with units, a switch, a choice, several beds."""
        _, data = ask(greenhouse, "/data?meta=1")
        units = {path: data[path]["unit"] for path in ("light", "tank", "co2", "target", "fan", "mode")}
        assert units == {"light": "lx", "tank": "l", "co2": "ppm", "target": "°C", "fan": None, "mode": None}
        assert {name: leaf["unit"] for name, leaf in data["air"].items()} == {"temperature": "°C", "humidity": "%"}
        assert {leaf["unit"] for leaf in data["beds"].values()} == {"%"}
        assert data["beds"].keys() == Simulation().moisture.keys()

    def test_water(self, greenhouse: Daemon) -> None:
        """A bed that is watered becomes wetter."""
        before = ask(greenhouse, "/data/beds/herbs")[1]
        assert call(greenhouse, "water", bed="herbs", seconds=3) == (200, "herbs get 3 l")
        until(lambda: ask(greenhouse, "/data/beds/herbs")[1] > before)

    @pytest.mark.parametrize(
        ("command", "arguments", "wrong"),
        [
            ("water", {"bed": "roses"}, "bed"),
            ("water", {"bed": "herbs", "seconds": 61}, "seconds"),
            ("switch_fan", {"on": "maybe"}, "on"),
            ("set_mode", {"mode": "off"}, "mode"),
            ("set_target", {"temperature": "warm"}, "temperature"),
        ],
    )
    def test_wrong_argument(self, greenhouse: Daemon, command: str, arguments: dict[str, object], wrong: str) -> None:
        """What does not fit an annotation is refused, and named."""
        status, problem = call(greenhouse, command, **arguments)
        assert (status, [error["argument"] for error in problem["errors"]]) == (422, [wrong])

    def test_switches(self, greenhouse: Daemon) -> None:
        """The fan stays as it is switched by hand, the mode is one of two, and the target is a number in the tree."""
        assert call(greenhouse, "switch_fan", on=True) == (200, True)
        until(lambda: ask(greenhouse, "/data/fan")[1] is True)
        assert ask(greenhouse, "/data/mode")[1] == "manual"
        assert call(greenhouse, "set_mode", mode="auto") == (200, "auto")
        assert ask(greenhouse, "/data/mode")[1] == "auto"
        assert call(greenhouse, "set_target", temperature=5) == (200, 5.0)
        assert ask(greenhouse, "/data/target")[1] == 5.0

    def test_action(self, greenhouse: Daemon) -> None:
        """The action tells the mode, and which beds are dry."""
        status, answer = ask(greenhouse, "/actions/get_status", {})
        assert (status, answer["mode"]) == (200, ask(greenhouse, "/data/mode")[1])
        assert set(answer["dry"]) <= {"tomatoes", "cucumbers", "herbs"}

    def test_route(self, greenhouse: Daemon) -> None:
        """The route shows a bed, waters it, and knows no others."""
        status, bed = ask(greenhouse, "/beds/tomatoes")
        assert (status, bed.keys()) == (200, {"moisture", "watering"})
        status, bed = ask(greenhouse, "/beds/tomatoes", {"seconds": 2})
        assert (status, bed["watering"]) == (202, True)
        assert ask(greenhouse, "/beds/tomatoes", {"seconds": 0})[0] == 422
        status, problem = ask(greenhouse, "/beds/roses")
        assert (status, problem["detail"]) == (404, "there is no bed roses; there are tomatoes, cucumbers, herbs")
        assert ask(greenhouse, "/beds/roses", {})[0] == 404

    def test_events(self, greenhouse: Daemon) -> None:
        """A stream begins with the beds, and tells that one is watered, and that it becomes wetter."""
        connection = http.client.HTTPConnection(greenhouse.host, greenhouse.port, timeout=PATIENCE)
        connection.request("GET", "/events?types=change,broadcast&path=beds&channel=greenhouse.*")
        with TextIOWrapper(connection.getresponse(), encoding="utf-8") as stream:
            [name, data] = next_event(stream)
            assert (name, data.keys()) == ("snapshot", {"beds/tomatoes", "beds/cucumbers", "beds/herbs"})
            before = data["beds/cucumbers"]
            call(greenhouse, "water", bed="cucumbers", seconds=4)
            seen = set()
            while seen != {"broadcast", "change"}:
                [name, data] = next_event(stream)
                if name == "change" and data["changed"].get("beds/cucumbers", 0) > before:
                    seen.add(name)
                elif name == "broadcast" and data["payload"]["bed"] == "cucumbers":
                    assert data["channel"] == "greenhouse.watered"
                    seen.add(name)
        connection.close()

    def test_troubles(self, greenhouse: Daemon) -> None:
        """One sensor fails for a while, and one grows stale; both keep their last value."""

        def state(path: str) -> tuple[str, str | None]:
            leaf = ask(greenhouse, f"/data/{path}?meta=1")[1]
            assert leaf["value"] is not None
            return leaf["state"], leaf["error"]

        until(lambda: state("co2") == ("error", "the CO2 sensor does not answer"))
        until(lambda: state("outside/temperature") == ("stale", None))


def next_event(stream: TextIOWrapper) -> tuple[str, Any]:
    """Return the name and the data of the next event."""
    name = ""
    for line in stream:
        field, _, value = line.rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            return name, json.loads(value)
    raise AssertionError("the stream has ended")


class TestSimulation:
    def test_days(self) -> None:
        """Over ten days all stays within bounds, each bed dries up, and a second run is the same as the first."""
        one, other = Simulation(), Simulation()
        for _ in range(10 * 288):
            one.step()
            other.step()
            assert 0 <= one.hour < 24
            assert 0 <= one.tank <= 200
            assert 0 < one.temperature < 40
        assert set(one.moisture.values()) == {5.0}
        assert (one.hour, one.tank, one.temperature) == (other.hour, other.tank, other.temperature)

    def test_water(self) -> None:
        """A valve is open for as many steps as it was told, and its water comes out of the tank, which may be empty."""
        garden = Simulation()
        garden.valves["herbs"] = 2
        levels = []
        for _ in range(3):
            garden.step()
            levels.append(garden.moisture["herbs"])
        assert levels[0] < levels[1] > levels[2]
        garden.tank, garden.valves["herbs"] = 0.0, 1
        garden.step()
        assert garden.moisture["herbs"] < levels[2]

    def test_fan(self) -> None:
        """With the fan on it becomes cooler than without."""
        airy, close = Simulation(), Simulation()
        airy.fan = True
        for _ in range(10):
            airy.step()
            close.step()
        assert airy.temperature < close.temperature


class TestDemo:
    @pytest.fixture
    def browser(self, tmp_path: Path) -> Path:
        """What stands for a browser: it writes down the address that it is to show, beside itself."""
        script = tmp_path / "browser"
        script.write_text('#!/bin/sh\necho "$1" > "$0.shown"\n', encoding="utf-8")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return script

    @pytest.mark.parametrize("desktop", ["DISPLAY", "WAYLAND_DISPLAY", None])
    def test_browser(self, desktop: str | None, browser: Path, tmp_path: Path) -> None:
        """The address is printed, and opened in a browser if there is a desktop; if not, nothing else happens."""
        port = str(free_port())
        variables = {"DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": str(browser), "RPISERVE_PORT": port, **IMPORTABLE}
        if desktop is not None:
            variables[desktop] = ":0"
        options = ("--module", "examples.demo")
        shown = browser.with_suffix(".shown")
        with running_daemon(tmp_path, "", *options, env=variables, port=port) as daemon:
            daemon.wait_for(f"The greenhouse is at http://localhost:{port}. Ctrl-C ends it.")
            until(lambda: ask(daemon, "/ready")[0] == 200)
            assert shown.exists() == (desktop is not None)
            if desktop is not None:
                assert shown.read_text(encoding="utf-8") == f"http://localhost:{port}\n"
        assert "Traceback" not in daemon.log()

    def test_target(self) -> None:
        """``make demo`` starts just that in the foreground, at the port that it is told."""
        done = subprocess.run(
            ["make", "-n", "--no-print-directory", "demo", "PORT=9000"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        last = done.stdout.splitlines()[-1]
        assert last == "RPISERVE_PORT='9000' exec .venv/bin/twistd -n --pidfile= rpiserve --module examples.demo"
