"""``rpiserve check``: what it shows, and what it refuses; nothing is started and nothing is opened."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from rpiserve import cli
from rpiserve.cli.summary import check_reach
from rpiserve.daemon.config import load
from rpiserve.errors import StartError

APP = """
import datetime
from rpiserve import App, Handler, Repeat

app = App("house")

@app.sensor("attic/air", every=60, unit="°C")
def air():
    raise AssertionError("nothing is read")

@app.cron("0 6 * * mon-fri", timezone="Europe/Berlin")
def blinds(): ...

@app.background("health", 30)
def health(): ...

@app.command
def water(zone: int, seconds: float = 10) -> None: ...

@app.action("status")
def status(): ...

@app.listen("weather")
@app.listen("alarm.*")
def told(message): ...

@app.thread("serial")
def serial(running):
    raise AssertionError("nothing is started")

@app.route("/pins/<int:pin>", methods=["GET", "POST"])
def pin(pin: int): ...

@app.route("/open", role="public")
def opened(): ...

@app.on_start()
def begin():
    raise AssertionError("nothing is started")

@app.on_stop()
def end(): ...
"""

Check = Callable[..., tuple[int, str, str]]
_numbers = count()


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Return what checks an app, given its source and options, and returns the exit code, the output and the errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in list(os.environ):
        if name.startswith("RPISERVE_"):
            monkeypatch.delenv(name)

    def run(source: str, *options: str) -> tuple[int, str, str]:
        file = tmp_path / f"checked_app_{next(_numbers)}.py"  # a name that no other test has imported
        file.write_text(textwrap.dedent(source), encoding="utf-8")
        with pytest.raises(SystemExit) as ended:
            cli.main(["check", file.name, *options])
        output, errors = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, output, errors

    return run


GOOD = "from rpiserve import App\napp = App('good')\n"


def test_summary(check: Check) -> None:
    """All that is declared is there, each kind with what matters of it."""
    code, output, errors = check(APP, "--host", "::1", "--port", "8081")
    assert (code, errors) == (0, "")
    lines = [line.split(None, 1) if line[2] != " " else ["", line.strip()] for line in output.splitlines()]
    text = "\n".join(" ".join(" ".join(words).split()) for words in lines)
    assert text.startswith("house: nothing is wrong with it\n")
    for line in (
        "sensors attic/air every 60 s",
        "health every 30 s",
        "commands water(zone: int, seconds: float = 10)",
        "actions status",
        "listens to alarm.*, weather told",
        "threads serial",
        "routes GET /pins/<int:pin> read",
        "POST /pins/<int:pin> control",
        "GET /open public",
        "at the start begin",
        "at the end end",
        "serves on http://[::1]:8081",
    ):
        assert line in text
    assert " blinds 0 6 * * mon-fri, next 20" in text
    assert "06:00:00+0" in text


@pytest.mark.parametrize(
    ("options", "place"),
    [
        (("--port", "none"), "nothing: it is offline"),
        (("--port", "unix:/tmp/x.sock"), "unix:/tmp/x.sock"),
        (("--open", "--host", "0.0.0.0"), "http://0.0.0.0:8080"),
    ],
)
def test_place(options: tuple[str, ...], place: str, check: Check) -> None:
    """It says where the daemon would serve."""
    code, output, _ = check(GOOD, *options)
    assert (code, output.splitlines()[-1].split(None, 2)[2]) == (0, place)


def test_nothing_is_opened(check: Check) -> None:
    """A port that is in use is no matter, as it is not touched; and there are no more threads than before."""
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        logs = ("--log-file", "log", "--request-log", "requests")
        code, _, errors = check(APP, "--port", port, "--redis", "redis://127.0.0.1:1", *logs)
    assert not Path("log").exists()
    assert not Path("requests").exists()
    assert (code, errors) == (0, "")
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    ("source", "options", "text"),
    [
        ("x = 1", (), "there is no App in the module"),
        ("import gone", (), "ModuleNotFoundError: No module named 'gone'"),
        ("def f(:", (), "SyntaxError"),
        (f"{GOOD}app.sensor('a', every=0)(lambda: 1)", (), "interval is 0"),
        (f"{GOOD}app.run()", (), "run() is called when the module is imported"),
        (GOOD, ("--prot", "1"), "did you mean --port?"),
        (GOOD, ("--reload",), "option --reload not recognized; twistd rpiserve --help lists the options"),
        (GOOD, ("8080",), "'8080' is no option of the daemon; twistd rpiserve --help lists the options"),
        (GOOD, ("redis://me:pw@host",), "a URL alone is no option"),
        (GOOD, ("--port", "http"), "--port is 'http'"),
        (GOOD, ("--port", "foo:1"), "this is no endpoint"),
        (GOOD, ("--www", "gone"), "there is no such folder"),
        (GOOD, ("--token-file", "gone"), "the token file gone cannot be read"),
        (GOOD, ("--tls-cert", "a", "--tls-key", "b"), "cannot read a"),
        (GOOD, ("--config", "gone"), "cannot read the configuration file gone"),
        (GOOD, ("--log-file", "gone/log"), "--log-file: cannot write to gone/log"),
        (GOOD, ("--request-log", "gone/log"), "--request-log: cannot write to gone/log"),
        (GOOD, ("--host", "0.0.0.0"), "can be reached from other machines"),
        (GOOD, ("--module", "x"), "--module is of no use here"),
    ],
)
def test_refused(source: str, options: tuple[str, ...], text: str, check: Check) -> None:
    """What a start would refuse is refused, in one line, with exit code 1."""
    code, output, errors = check(source, *options)
    assert (code, output) == (1, "")
    assert errors.startswith("rpiserve: ")
    assert errors.count("\n") == 1
    assert text in errors


def test_debug(check: Check) -> None:
    """With --debug there is all of the traceback."""
    code, _, errors = check("import gone", "--debug")
    assert code == 1
    assert "Traceback (most recent call last)" in errors


SECRET = "rpi_never-shown-never-shown"


@pytest.mark.parametrize("options", [(), ("--debug",)])
def test_secrets_of_the_app(options: tuple[str, ...], check: Check) -> None:
    """Secrets in what the app's own code raises are not shown, nor in the lines of a traceback."""
    code, _, errors = check(f"raise ValueError('token={SECRET} http://me:never-shown@host/')", *options)
    assert code == 1
    assert "http://me:***@host/" in errors
    assert "never-shown" not in errors


def test_summary_fails(check: Check) -> None:
    """What the app's own code raises when it is shown is told with where it comes from."""
    source = f"""
    from rpiserve import App
    app = App("house")
    class Zone:
        def __repr__(self):
            raise ValueError("{SECRET}")
    @app.command
    def water(zone=Zone()): ...
    """
    code, _, errors = check(source)
    assert code == 1
    assert errors.startswith("Traceback")
    assert errors.endswith("ValueError: rpi_***\n")


def test_misplaced_token(check: Check) -> None:
    """A token in the place of the file is not shown either."""
    code, _, errors = check(GOOD, "--token-file", SECRET)
    assert (code, errors) == (1, "rpiserve: the token file rpi_*** cannot be read: No such file or directory\n")


@pytest.mark.parametrize("source", ["class Own(BaseException): ...\nraise Own('x')", "raise GeneratorExit"])
def test_no_exception(source: str, check: Check) -> None:
    """What an app raises is one line, even if it is no `Exception`."""
    code, _, errors = check(source)
    assert code == 1
    assert errors.startswith("rpiserve: the module ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("spoil", ["sys.stdout.close()", "sys.stdout = None", "sys.stdout = io.StringIO()"])
@pytest.mark.parametrize("more", ["", "threading.Thread(target=threading.Event().wait).start()"])
def test_no_output(spoil: str, more: str, tmp_path: Path) -> None:
    """Where the app has closed or replaced the standard output, that is said in one line."""
    (tmp_path / "app.py").write_text(f"import io, sys, threading\n{GOOD}{spoil}\n{more}\n", encoding="utf-8")
    command = [sys.executable, "-m", "rpiserve.cli", "check", "app.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "rpiserve: standard output: it is closed, or replaced\n"


def test_app_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    """An option in the place of the app is told from one."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", "--port", "80", "app.py"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "rpiserve: APP comes before the options of the daemon: --port is none\n"


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({}, False),
        ({"host": "localhost"}, False),
        ({"host": "192.168.1.2"}, True),
        ({"host": "pi.local"}, True),
        ({"port": "tcp:80"}, True),
        ({"port": "tcp:80:interface=127.0.0.1"}, False),
        ({"port": r"tcp6:80:interface=\:\:1"}, False),
        ({"port": r"tcp6:80:interface=\:\:"}, True),
        ({"port": "unix:/tmp/x"}, False),
        ({"port": "tcp:80", "open": True}, False),
        ({"port": "tcp:80", "token_file": "t"}, False),
        ({"port": "none"}, False),
    ],
)
def test_reach(options: dict[str, object], refused: bool) -> None:
    """Nobody from elsewhere may reach what has no tokens, unless that is meant."""
    config = load(options, {})
    if not refused:
        check_reach(config)
        return
    with pytest.raises(StartError, match="--token-file"):
        check_reach(config)
