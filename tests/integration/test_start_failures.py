"""Every failure to start, as a process: it ends with an error and one clear line on standard error.

The processes run side by side, while the tests wait for theirs.
"""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from daemon import PATIENCE, PROGRAM, TWISTD, completed, until

IMPORT = "from rpiserve import App\n"
GOOD = f"{IMPORT}app = App('good')\napp.sensor('a/b', every=1)(lambda: 1)\n"
RUN = f"{GOOD}if __name__ == '__main__':\n    app.run"
PYTHON = (sys.executable, "app.py")


@attrs.frozen
class Case:
    """A start that fails.

    Attributes:
        line: a pattern of the line on standard error, after ``rpiserve: ``. ``{port}`` stands for a port in use.
        source: the source of ``app.py``; ``{port}`` as above.
        arguments: the options; ``{port}`` as above.
        toml: the content of ``options.toml``.
        variables: what is added to the environment.
        program: what is started.
    """

    line: str
    source: str = GOOD
    arguments: tuple[str, ...] = ()
    toml: str = ""
    variables: dict[str, str] = attrs.field(factory=dict)
    program: tuple[str, ...] = PROGRAM


CANNOT = "the module app cannot be imported: .*/app.py"
TAKEN = "cannot listen on 127.0.0.1 port {port}: it is in use; stop what uses it, or choose another with --port"

REACHABLE = r"http://0\.0\.0\.0:[0-9]+ can be reached from other machines, .*"

CASES = {
    "port taken": Case(TAKEN, arguments=("-p", "{port}")),
    "module missing": Case("there is no module gone in .* or on Python's path; see --module", arguments=("-m", "gone")),
    "import error": Case(f"{CANNOT}:1: ModuleNotFoundError: No module named 'gone'", "import gone\n"),
    "syntax error": Case(f"{CANNOT}:1: SyntaxError: .*", "def f(:\n"),
    "exception": Case(
        f"{CANNOT}:3: JSONDecodeError: Expecting value: .*".replace("JSON", r"json\.decoder\.JSON"),
        "import json\ndef f():\n    json.loads('x')\n\nf()\n",
    ),
    "no app": Case("there is no App in the module app; it needs a line such as app = App.'app'.", "x = 1\n"),
    "several apps": Case(
        "there are 2 Apps in the module app; say which with --module app:NAME", f"{IMPORT}a, b = App('a'), App('b')\n"
    ),
    "wrong attribute": Case("no ap in app", arguments=("-m", "app:ap")),
    "file for a module": Case("'app.py' is no name of a module; it is --module app", arguments=("-m", "app.py")),
    "sys.exit": Case(f"{CANNOT}:2: SystemExit: 0", "import sys\nsys.exit(0)\n"),
    "run without the guard": Case(
        f"{CANNOT}:4: run.. is called when the module is imported: put it under if __name__ == '__main__'",
        f"{GOOD}app.run()\n",
    ),
    "overlapping sensors": Case(
        f"{CANNOT}:4: the sensor 'a' overlaps the sensor 'a/b'; each has a place of its own",
        f"{GOOD}app.sensor('a')(lambda: 2)\n",
    ),
    "no interval": Case(
        f"{CANNOT}:4: c: interval is 0; it is a number of seconds.*", f"{GOOD}app.sensor('c', every=0)(lambda: 2)\n"
    ),
    "bad option": Case("--port is 'http'; it is a number up to 65535, an endpoint .*", arguments=("-p", "http")),
    "unknown option": Case("option --prot not recognized; did you mean --port.", arguments=("--prot", "80")),
    "extra argument": Case("'app' is no option; an app module is named with --module app; .*", arguments=("app",)),
    "unknown TOML key": Case(
        "prot in options.toml is no option; did you mean port in options.toml.",
        arguments=("-c", "options.toml"),
        toml="prot = 1",
    ),
    "no TOML": Case(
        "the configuration file options.toml is not TOML: .*", arguments=("-c", "options.toml"), toml="port="
    ),
    "TOML file missing": Case(
        "cannot read the configuration file gone.toml: No such file or directory", arguments=("-c", "gone.toml")
    ),
    "unknown variable": Case(
        "RPISERVE_PROT is no option; did you mean RPISERVE_PORT.", variables={"RPISERVE_PROT": "80"}
    ),
    "bad variable": Case("RPISERVE_PORT is 'http'; it is .*", variables={"RPISERVE_PORT": "http"}),
    "host with an endpoint": Case(
        "host '::1' does not go with the endpoint 'tcp:0', which has its own",
        arguments=("-p", "tcp:0", "--host", "::1"),
    ),
    "beyond this machine": Case(
        rf"{REACHABLE}: use --host 127.0.0.1, or --token-file .*, or --open if you mean it",
        arguments=("--host", "0.0.0.0", "-p", "0"),
    ),
    "unknown endpoint": Case(
        "--port foo:80: this is no endpoint: Unknown endpoint type: 'foo'", arguments=("-p", "foo:80")
    ),
    "address of another machine": Case(
        r"cannot listen on 192\.0\.2\.1 port 0: Cannot assign requested address",
        arguments=("--host", "192.0.2.1", "-p", "0"),
    ),
    "run: port taken": Case(TAKEN, f"{RUN}(port={{port}})\n", program=PYTHON),
    "command: port taken": Case(
        TAKEN,
        arguments=("-p", "{port}", "--log-format", "json"),
        program=(*PYTHON[:1], "-m", "rpiserve.cli", "run", "app.py"),
    ),
    "run: bad option in code": Case(
        r"app\.run\(prot=…\) is no option; did you mean app\.run\(port=…\).", f"{RUN}(prot=1)\n", program=PYTHON
    ),
    "run: bad variable": Case(
        "RPISERVE_PORT is 'http'; it is .*", f"{RUN}()\n", variables={"RPISERVE_PORT": "http"}, program=PYTHON
    ),
    "run: bad TOML": Case(
        "port in options.toml is 'x'; it is .*", f"{RUN}(config='options.toml')\n", toml="port = 'x'", program=PYTHON
    ),
    "run: beyond this machine": Case(
        REACHABLE,
        f"{RUN}(host='0.0.0.0', port=0)\n",
        program=PYTHON,
    ),
}

Start = Callable[[str, Case], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    """A port that is in use."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, taken_port: int) -> Start:
    """Return what starts a case, in a directory of its own, and waits for its end."""

    def start_case(name: str, case: Case) -> "subprocess.CompletedProcess[str]":
        directory = tmp_path_factory.mktemp("start")
        (directory / "app.py").write_text(case.source.replace("{port}", str(taken_port)), encoding="utf-8")
        (directory / "options.toml").write_text(case.toml, encoding="utf-8")
        arguments = (argument.replace("{port}", str(taken_port)) for argument in case.arguments)
        return completed([*case.program, *arguments], cwd=directory, env=case.variables, timeout=2 * PATIENCE)

    return start_case


@pytest.fixture(scope="module")
def outcomes(start: Start) -> Iterator[dict[str, "Future[subprocess.CompletedProcess[str]]"]]:
    """How each of `CASES` has ended, as soon as it has."""
    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(start, name, case) for name, case in CASES.items()}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", CASES)
def test_one_line(name: str, outcomes: dict[str, "Future[subprocess.CompletedProcess[str]]"], taken_port: int) -> None:
    """The process ends by itself, with an error, and says in one line on standard error what is wrong."""
    done = outcomes[name].result(20 * PATIENCE)
    line = CASES[name].line.replace("{port}", str(taken_port))
    assert done.returncode == 1
    assert re.fullmatch(f"rpiserve: {line}\n", done.stderr), done.stderr
    assert "Traceback" not in done.stdout


def test_nothing_listens_beyond_this_machine(start: Start, taken_port: int) -> None:
    """A daemon that was refused a port beyond this machine has let go of it: the very same can be had at once."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = start("beyond", Case("", arguments=("--host", "0.0.0.0", "-p", str(port))))
    assert f"http://0.0.0.0:{port} can be reached from other machines" in done.stderr
    with socket.socket() as mine:
        mine.bind(("0.0.0.0", port))


@pytest.mark.parametrize("program", [PROGRAM, PYTHON])
def test_debug_shows_the_traceback(program: tuple[str, ...], start: Start) -> None:
    """With --debug the whole traceback is shown, wherever standard error goes to by then."""
    source = f"{RUN}(argv=__import__('sys').argv[1:])\n"
    done = start("debug", Case("", source, ("--debug", "-p", "{port}"), program=program))
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in done.stdout + done.stderr
    assert "rpiserve.errors.StartError: cannot listen on" in done.stdout + done.stderr


def test_debug_shows_the_modules_own_traceback(start: Start) -> None:
    """With --debug an error of the app module's shows with all that led to it."""
    done = start("debug", Case("", "def f():\n    1 / 0\n\nf()\n", variables={"RPISERVE_DEBUG": "1"}))
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert re.search(r'app\.py", line 2, in f$', done.stderr, re.MULTILINE)
    assert "ZeroDivisionError: division by zero" in done.stderr


@pytest.mark.parametrize("program", [PROGRAM, PYTHON])
def test_a_thread_of_the_modules_own(program: tuple[str, ...], start: Start) -> None:
    """A thread that the app module has started at import, and that never ends, does not keep a failed start alive."""
    thread = "import threading\nthreading.Thread(target=threading.Event().wait, name='mine').start()\n"
    source = f"{thread}{RUN}(argv=__import__('sys').argv[1:])\n"
    done = start("thread", Case("", source, ("-p", "{port}"), program=program))
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert "it is in use" in first
    assert second == "rpiserve: not ended in time, so ended by force; still running: the thread mine"


def test_daemonised(tmp_path: Path, taken_port: int) -> None:
    """A twistd that goes to the background fails in the foreground; its line is in the log and its pid file gone."""
    (tmp_path / "app.py").write_text(GOOD, encoding="utf-8")
    command = [TWISTD, "--pidfile=twistd.pid", "--logfile=twistd.log", "rpiserve", "--port", str(taken_port)]
    done = completed(command, cwd=tmp_path)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {taken_port}" in done.stderr
    assert "Traceback" not in done.stderr
    log = tmp_path / "twistd.log"
    line = f"port {taken_port}: it is in use; stop what uses it, or choose another"
    until(lambda: line in log.read_text(encoding="utf-8"))  # the child may be a little later
    assert "Traceback" not in log.read_text(encoding="utf-8")
    assert not (tmp_path / "twistd.pid").exists()
