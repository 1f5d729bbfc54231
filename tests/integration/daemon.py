"""A real daemon for the tests: `twistd` as a process of its own, ended by its process id in bounded time.

with running_daemon(tmp_path, APP, "--header-timeout", "0.3", env={"RPISERVE_DEBUG": "1"}) as daemon:
    socket.create_connection((daemon.host, daemon.port))
    daemon.wait_for("a line of its log")
    assert daemon.stop() == 0                   # SIGTERM; the end of the block does it, too
    assert "Traceback" not in daemon.log()

`in_background` runs one that goes to the background, `running` any other command that is ended so, and `completed` one
that ends by itself.
"""

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

TWISTD = Path(sys.executable).with_name("twistd")
PROGRAM = (str(TWISTD), "-n", "--pidfile=", "rpiserve")
SITE = Path(__file__).with_name("site")
PATIENCE = 30.0
"""Seconds after which what has not happened will not happen, on however slow a machine."""

SERVING = r"serving on (\S+)"
APP = "from rpiserve import App\n\napp = App('test')\n"


class Daemon:
    """A process that runs a daemon.

    Attributes:
        process: the process.
        url: where it serves, such as ``http://127.0.0.1:40123``; empty if it was started not to serve.
        host: the address in `url`.
        port: the port in `url`; 0 for a unix socket.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.url, self.host, self.port = "", "", 0
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def log(self) -> str:
        """Return all that it has written so far, to standard output and standard error."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Wait until its log matches ``pattern``, and return the match."""

        def found() -> re.Match[str] | None:
            return re.search(pattern, "".join(self._lines), re.MULTILINE)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, timeout)
            match = found()
        assert match is not None, f"no {pattern!r} in the log of the daemon:\n{self.log()}"
        return match

    def stop(self, number: int = signal.SIGTERM, timeout: float = PATIENCE) -> int:
        """Send it a signal unless it has ended, wait for its end, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(timeout)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end, by force if it takes longer than ``timeout``, and return its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE)
            raise
        finally:
            self._reader.join(PATIENCE)

    def close(self) -> None:
        """Close what its log was read from, once it has ended."""
        assert self.process.stdout is not None
        self.process.stdout.close()


def until(condition: Callable[[], object]) -> None:
    """Wait for something that comes about in another process, as long as there is hope."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "that does not come about"
        select.select([], [], [], 0.01)


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a daemon, ``variables`` included: this process's own, and what `SITE` does to it."""
    paths = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {name: value for name, value in os.environ.items() if not name.startswith("RPISERVE_")}
    return {**own, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(paths), **(variables or {})}


def completed(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str = "",
    pass_fds: Sequence[int] = (),
    timeout: float = PATIENCE,
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, and return how it has ended and what it has written.

    Args:
        command: the program and its arguments.
        cwd: its working directory.
        env: variables to add to the environment.
        input: what it reads from standard input.
        pass_fds: the files that it inherits.
        timeout: the seconds that it may take.
    """
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(env),
        input=input,
        capture_output=True,
        encoding="utf-8",
        pass_fds=pass_fds,
        timeout=timeout,
        check=False,
    )


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    process_group: int | None = None,
) -> Iterator[Daemon]:
    """Run a command, its errors among its output, and end it at the end of the block.

    Args:
        command: the program and its arguments.
        cwd: its working directory.
        env: variables to add to the environment.
        stdin: the file that is its standard input.
        pass_fds: the files that it inherits.
        process_group: the group that it is put into, 0 for one of its own; None for that of this process.
    """
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(env),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        process_group=process_group,
        encoding="utf-8",
        errors="replace",
    )
    daemon = Daemon(process)
    try:
        yield daemon
    finally:
        daemon.stop()
        daemon.close()


@contextmanager
def running_daemon(
    tmp_path: Path,
    app_source: str = APP,
    *options: str,
    env: Mapping[str, str] | None = None,
    port: str = "0",
    ready: str = SERVING,
    program: Sequence[str] = PROGRAM,
    pass_fds: Sequence[int] = (),
) -> Iterator[Daemon]:
    """Run a daemon, and end it at the end of the block.

    Args:
        tmp_path: its working directory.
        app_source: the source of its app module, which is written there.
        options: further options of ``twistd rpiserve``.
        env: variables to add to the environment.
        port: the option ``--port``.
        ready: a pattern of the line in its log to wait for; its first group, if it has one, is the URL.
        program: what is run with the options.
        pass_fds: the files that it inherits.
    """
    (tmp_path / "daemon_app.py").write_text(app_source, encoding="utf-8")
    command = [*program, "--port", port, "--module", "daemon_app", *options]
    with running(command, cwd=tmp_path, env=env, pass_fds=pass_fds) as daemon:
        match = daemon.wait_for(ready)
        daemon.url = match[1] if match.re.groups else ""
        if address := re.fullmatch(r"http://\[?(.+?)\]?:(\d+)", daemon.url):
            daemon.host, daemon.port = address[1], int(address[2])
        yield daemon


@contextmanager
def ended(pid: int) -> Iterator[None]:
    """Wait at the end of the block until a process has ended that is no child of this one; by force if it does not."""
    process = os.pidfd_open(pid)
    try:
        yield
        assert select.select([process], [], [], PATIENCE)[0], f"the process {pid} does not end"
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        os.close(process)


@contextmanager
def in_background(tmp_path: Path, *options: str, app_source: str = APP, twistd: Sequence[str] = ()) -> Iterator[int]:
    """Run a daemon that goes to the background, and end it at the end of the block; yields its process id.

    Args:
        tmp_path: its working directory, where its ``twistd.pid`` is, and its log unless the options say otherwise.
        options: further options of ``twistd rpiserve``.
        app_source: the source of its app module, which is written there.
        twistd: further options of ``twistd``.
    """
    (tmp_path / "app.py").write_text(app_source, encoding="utf-8")
    command = [TWISTD, "--pidfile=twistd.pid", *twistd, "rpiserve", "--port", "0", *options]
    done = completed(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pid = int((tmp_path / "twistd.pid").read_text())
    with ended(pid):
        yield pid
        os.kill(pid, signal.SIGTERM)
