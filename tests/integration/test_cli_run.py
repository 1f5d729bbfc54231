"""``rpiserve new``, ``check``, ``run`` and ``token`` as processes: from an app's first line to a daemon with tokens."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.request import urlopen

import pytest
from daemon import APP, PATIENCE, SERVING, Daemon, completed, ended, running, running_daemon, until

RPISERVE = str(Path(sys.executable).with_name("rpiserve"))
AGAIN = r"^rpiserve: \S+ has changed: starting again$"
WAITING = r"^rpiserve: waiting for a change$"


def run(
    *arguments: str, cwd: Path, program: str = RPISERVE, variables: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return completed([program, *arguments], cwd=cwd, env=variables)


def started(*arguments: str, cwd: Path, group: bool = False) -> AbstractContextManager[Daemon]:
    """Run the command until the end of the block, with its errors among its output.

    Args:
        arguments: its arguments.
        cwd: where it runs.
        group: give it a process group of its own.
    """
    return running([RPISERVE, *arguments], cwd=cwd, process_group=0 if group else None)


def times(daemon: Daemon, pattern: str, number: int) -> str:
    """Wait until the log matches ``pattern`` so many times, and return the last match's group, or all of it."""
    daemon.wait_for(f"(?:{pattern}(?s:.*?)){{{number}}}")
    match = list(re.finditer(pattern, daemon.log(), re.MULTILINE))[number - 1]
    return match[1] if match.re.groups else match[0]


def fetch(url: str) -> str:
    """Return what is served at ``url``."""
    with urlopen(url, timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


def child_of(daemon: Daemon) -> int:
    """Return the process id of the one child of ``daemon``."""
    pid = daemon.process.pid
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def test_from_new_to_served(tmp_path: Path) -> None:
    """What ``new`` makes passes its check and its own test, serves from wherever it is started, and ends by Ctrl-C."""
    made = run("new", "house", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    checked = run("check", "app.py", "--config", "rpiserve.toml", cwd=tmp_path / "house")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.startswith("house: nothing is wrong with it\n")
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path / "house", program=sys.executable)
    assert tested.returncode == 0, tested.stdout
    assert "4 passed" in tested.stdout
    with started("run", "house/app.py", "--config", "house/rpiserve.toml", "--port", "0", cwd=tmp_path) as daemon:
        url = daemon.wait_for(SERVING)[1]
        assert fetch(f"{url}/hello/you") == '{"hello":"you"}'
        until(lambda: '"load"' in fetch(f"{url}/data"))
        called = run("call", "house", "get_load", "--url", url, cwd=tmp_path)
        assert (called.returncode, called.stderr) == (0, "")
        assert daemon.stop(signal.SIGINT) == 0
    assert "Traceback" not in daemon.log()


@pytest.mark.parametrize(
    ("source", "options", "line"),
    [
        ("import gone\n", (), "rpiserve: the module app cannot be imported: .*: No module named 'gone'"),
        (
            "import threading\nthreading.Thread(target=threading.Event().wait).start()\n1 / 0\n",
            (),
            "rpiserve: the module app cannot be imported: .*/app.py:3: ZeroDivisionError: division by zero",
        ),
        (APP, ("--port", "-1"), "rpiserve: --port is '-1'; .*"),
        (APP, ("--host", "0.0.0.0", "--port", "0"), "rpiserve: http://0.0.0.0:.* can be reached from other machines.*"),
        (APP, ("--reload", "--prot", "1"), "rpiserve: .*did you mean --port.*"),
        ("import os\nos._exit(7)\n", (), None),
    ],
    ids=["import", "thread", "option", "reach", "supervised option", "own code"],
)
def test_failed_start(source: str, options: tuple[str, ...], line: str | None, tmp_path: Path) -> None:
    """A start that fails is one line and exit code 1; what ends the process by itself has the code that it wants."""
    (tmp_path / "app.py").write_text(source, encoding="utf-8")
    done = run("run", "app.py", *options, cwd=tmp_path)
    assert done.returncode == (7 if line is None else 1)
    if line is not None:
        assert re.fullmatch(f"{line}\n", done.stderr), done.stderr


RELOADED = """
from rpiserve import App
import helper
app = App("house")
print("value", helper.VALUE)
"""


class TestReload:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """A folder with an app that has a helper."""
        (tmp_path / "app.py").write_text(RELOADED, encoding="utf-8")
        (tmp_path / "helper.py").write_text("VALUE = 1\n", encoding="utf-8")
        (tmp_path / "options.toml").write_text("port = 0\n", encoding="utf-8")
        return tmp_path

    def test_changes(self, folder: Path) -> None:
        """A change of the module, of what it imports, or of the options starts it again; an error waits for the next.

        A module that was missing is noticed when it appears.
        """
        with started("run", "app.py", "--reload", "--config", "options.toml", cwd=folder) as daemon:
            daemon.wait_for(r"^value 1$")
            times(daemon, SERVING, 1)
            (folder / "helper.py").write_text("VALUE = 2\n", encoding="utf-8")
            daemon.wait_for(r"^rpiserve: helper.py has changed: starting again$")
            daemon.wait_for(r"^value 2$")
            times(daemon, SERVING, 2)
            (folder / "helper.py").write_text("VALUE = = 3\n", encoding="utf-8")
            daemon.wait_for(r"^rpiserve: the module app cannot be imported: .*/helper.py:1: SyntaxError")
            times(daemon, WAITING, 1)
            (folder / "helper.py").write_text("from missing import VALUE\n", encoding="utf-8")
            times(daemon, WAITING, 2)
            (folder / "missing.py").write_text("VALUE = 4\n", encoding="utf-8")
            daemon.wait_for(r"^rpiserve: missing.py has changed: starting again$")
            daemon.wait_for(r"^value 4$")
            times(daemon, SERVING, 3)
            (folder / "options.toml").write_text("port = 'no'\n", encoding="utf-8")
            daemon.wait_for(r"^rpiserve: port in options.toml is 'no'")
            times(daemon, WAITING, 3)
            (folder / "options.toml").write_text("port = 0\n\n", encoding="utf-8")
            url = times(daemon, SERVING, 4)
            assert fetch(f"{url}/health")
            with ended(child_of(daemon)):
                assert daemon.stop(signal.SIGINT) == 0
            assert "Traceback" not in daemon.log()
            assert "not ended in time" not in daemon.log()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signal_to_all(self, number: int, folder: Path) -> None:
        """A signal to the whole group, as from a terminal or timeout(1), is one request to end and not two."""
        (folder / "app.py").write_text(
            f"{RELOADED}@app.on_stop()\ndef end():\n    print('ended in order')\n", encoding="utf-8"
        )
        with started("run", "app.py", "--reload", "--port", "0", cwd=folder, group=True) as daemon:
            daemon.wait_for(SERVING)
            with ended(child_of(daemon)):
                os.killpg(daemon.process.pid, number)
            assert daemon.wait() == 0
            assert "ended in order" in daemon.log()

    def test_waiting_ends(self, folder: Path) -> None:
        """Ctrl-C ends it while it waits for a change, too."""
        (folder / "app.py").write_text("import gone\n", encoding="utf-8")
        with started("run", "app.py", "--reload", cwd=folder) as daemon:
            daemon.wait_for(WAITING)
            assert daemon.stop(signal.SIGINT) == 130

    def test_no_orphan(self, folder: Path) -> None:
        """If the process that sees to the changes is killed, the daemon does not stay behind."""
        with started("run", "app.py", "--reload", "--port", "0", cwd=folder) as daemon:
            daemon.wait_for(SERVING)
            with ended(child_of(daemon)):
                daemon.process.kill()
            assert daemon.wait() == -signal.SIGKILL

    def test_hanging(self, folder: Path) -> None:
        """A daemon that does not end is ended by force, and its successor is started."""
        frozen = "import os, signal\nprint('frozen', flush=True)\nos.kill(os.getpid(), signal.SIGSTOP)\n"
        (folder / "app.py").write_text(frozen, encoding="utf-8")
        with started("run", "app.py", "--reload", "--port", "0", "--stop-timeout", "0.1", cwd=folder) as daemon:
            daemon.wait_for("frozen")
            with ended(child_of(daemon)):
                (folder / "app.py").write_text(RELOADED, encoding="utf-8")
            daemon.wait_for(SERVING)


def test_tokens(tmp_path: Path) -> None:
    """A token that is added lets in at once, as far as its role goes, and one that is revoked does not any more."""

    def token(*arguments: str) -> str:
        done = run("token", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def publish(secret: str | None) -> tuple[int, str]:
        variables = {} if secret is None else {"RPISERVE_TOKEN": secret}
        done = run("publish", "a", "--url", daemon.url, cwd=tmp_path, variables=variables)
        assert secret is None or secret not in done.stdout + done.stderr
        return done.returncode, done.stderr

    first = token("add", "first", "--role", "control")
    with running_daemon(tmp_path, APP, "--token-file", "rpiserve.tokens") as daemon:
        assert publish(first)[0] == 0
        code, text = publish(None)
        assert code == 6
        assert "put it into RPISERVE_TOKEN" in text
        assert publish("wrong")[0] == 6
        second, reading = token("add", "second", "--role", "control"), token("add", "screen")
        until(lambda: publish(second)[0] == 0)
        code, text = publish(reading)
        assert code == 6
        assert "control" in text
        token("revoke", "second")
        until(lambda: publish(second)[0] == 6)
        assert publish(first)[0] == 0
        assert not any(secret in daemon.log() for secret in (first, second, reading))
