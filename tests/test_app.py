"""The app: what it declares by itself, and `run`."""

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from rpiserve import App
from rpiserve.app import importing
from rpiserve.daemon import process
from rpiserve.daemon.config import Config
from rpiserve.errors import ConfigError, DeclarationError, MessageError, NotRunning


@pytest.mark.parametrize("name", ["a", "greenhouse", "Green_house-2.0", "x" * 64])
def test_names(name: str) -> None:
    """A name of letters, digits, "_", "." and "-" is one that the bus can have."""
    assert App(name).name == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 65, "a\n", 7, None])
def test_bad_names(name: Any) -> None:
    """Any other name is refused where the app is made."""
    with pytest.raises(DeclarationError, match="a name has 1 to 64 letters"):
        App(name)


def test_max_workers() -> None:
    """The number of workers is a number of at least 1, and 10 unless it is given."""
    assert App("a").max_workers == 10
    assert App("a", max_workers=1).max_workers == 1


@pytest.mark.parametrize("number", [0, -1, 1.5, "3", True, None])
def test_bad_max_workers(number: Any) -> None:
    """Anything else is refused where the app is made."""
    with pytest.raises(DeclarationError, match="max_workers is"):
        App("a", max_workers=number)


def test_data_before_running() -> None:
    """The data tree is there before the daemon runs, and each app has one of its own."""
    one, two = App("one"), App("two")
    one.data["a"] = 1
    assert one.data["a"] == 1
    assert "a" not in two.data


USES: list[Callable[[App], Any]] = [
    lambda app: app.broadcast.send("channel", {"a": 1}),
    lambda app: app.cache.get("key"),
    lambda app: app.cache.set("key", "value", ex=5),
    lambda app: app.cache.delete("key"),
    lambda app: app.cache.incr("key"),
    lambda app: app.caller("other").send_request("status"),
    lambda app: app.caller("other").send_message("channel", {"a": 1}),
    lambda app: app.caller("other").send_to_service({"a": 1}, action="status"),
    lambda app: app.caller("other").send_request("status", on_progress=print),
]


@pytest.mark.parametrize("use", USES)
def test_the_bus_before_running(use: Callable[[App], Any]) -> None:
    """What needs the bus can be made and held before the daemon runs; to use it is refused on any thread."""
    app = App("a")
    with pytest.raises(NotRunning, match="the bus can be used only while the daemon runs"):
        use(app)
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            use(app)
        except NotRunning as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(30)
    assert len(raised) == 1


@pytest.mark.parametrize("service", ["", "a b", "a/b", 7, None])
def test_caller_of_a_bad_name(service: Any) -> None:
    """A name that no service can have is refused where the caller is made."""
    with pytest.raises(MessageError, match="is no name of a service"):
        App("a").caller(service)


@pytest.mark.parametrize("timeout", [0, -1, True, "5", None, float("nan")])
def test_caller_with_a_bad_timeout(timeout: Any) -> None:
    """A time limit that is no number of seconds is refused there, too."""
    with pytest.raises(MessageError, match="timeout"):
        App("a").caller("other", timeout=timeout)


def test_declaring_needs_no_reactor() -> None:
    """Importing rpiserve and declaring an app installs no reactor, which a user may still want to choose."""
    code = (
        "import sys\n"
        "import rpiserve\n"
        "from rpiserve import App\n"
        "app = App('a')\n"
        "app.sensor('a/b', every=1)(lambda: 1)\n"
        "app.action('c')(lambda request: 1)\n"
        "app.listen('d.*')(lambda message: 1)\n"
        "app.caller('other'), rpiserve.Caller('other', 'redis://localhost')\n"
        "rpiserve.logger.info('text')\n"
        "assert not {'twisted.internet.reactor', 'klein', 'txredisapi'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `run` would have run: a list of the daemons, in place of which stand the arguments they are made of."""
    daemons: list[Any] = []
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(process, "make_daemon", lambda *arguments: arguments)
    monkeypatch.setattr(process, "run_foreground", lambda daemon, _: daemons.append(daemon))
    for name in ("RPISERVE_PORT", "RPISERVE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return daemons


def configs(ran: list[Any]) -> list[Config]:
    """Return the options of those daemons."""
    return [config for *_, config, _ in ran]


def test_run_takes_options_from_all_places(ran: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` takes its own arguments, above them the environment, and above that the command line that it is given."""
    app = App("a")
    app.run(port=1, stop_timeout=3)
    monkeypatch.setenv("RPISERVE_PORT", "2")
    app.run(port=1)
    app.run(port=1, argv=["--port", "3"])
    app.run()
    assert [(config.port, config.stop_timeout) for config in configs(ran)] == [
        (1, 3.0),
        (2, 10.0),
        (3, 10.0),
        (2, 10.0),
    ]
    assert all(arguments[0] is app for arguments in ran)


def test_run_offline(ran: list[Any]) -> None:
    """`run(port=None)` is the offline mode."""
    App("a").run(port=None)
    assert configs(ran) == [Config(port=None)]


def test_run_refuses_a_wrong_option(ran: list[Any]) -> None:
    """A wrong argument is an error that shows the call, with a hint."""
    with pytest.raises(ConfigError, match=r"app\.run\(prot=…\) is no option; did you mean app\.run\(port=…\)\?"):
        App("a").run(prot=1)
    with pytest.raises(ConfigError, match=r"app\.run\(port=…\) is -1; it is a number up to 65535"):
        App("a").run(port=-1)
    with pytest.raises(SystemExit, match="option --prot not recognized; did you mean --port"):
        App("a").run(argv=["--prot"])
    assert ran == []


def test_run_shows_errors_as_one_line_unless_debugging(ran: list[Any]) -> None:
    """What ends the process after `run` is shown as one line, or with debug=True as a whole traceback."""
    App("a").run()
    assert sys.excepthook is process.one_line
    App("a").run(debug=True)
    assert sys.excepthook is sys.__excepthook__


def test_run_while_imported(ran: list[Any]) -> None:
    """`run` in a module that the daemon imports is refused: there would be two daemons."""
    token = importing.set(True)
    try:
        with pytest.raises(DeclarationError, match="put it under if __name__ == '__main__'"):
            App("a").run()
    finally:
        importing.reset(token)
    assert ran == []


def test_run_takes_no_module(ran: list[Any]) -> None:
    """The app to run is the one whose `run` it is: another module would be silently left out."""
    with pytest.raises(ConfigError, match="takes no module"):
        App("a").run(module="b")
    assert ran == []
