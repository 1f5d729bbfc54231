"""A real daemon for the tests: `twistd` as a process of its own, ended by its process id in bounded time.

with running_daemon(tmp_path, APP, "--header-timeout", "0.3", env={"RPISERVE_DEBUG": "1"}) as daemon:
    socket.create_connection((daemon.host, daemon.port))
    daemon.wait_for("a line of its log")
    assert daemon.stop() == 0                   # SIGTERM; the end of the block does it, too
    assert "Traceback" not in daemon.log()
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
from contextlib import contextmanager
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
    process = subprocess.Popen(
        [*program, "--port", port, "--module", "daemon_app", *options],
        cwd=tmp_path,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=pass_fds,
        encoding="utf-8",
        errors="replace",
    )
    daemon = Daemon(process)
    try:
        match = daemon.wait_for(ready)
        daemon.url = match[1] if match.re.groups else ""
        if address := re.fullmatch(r"http://\[?(.+?)\]?:(\d+)", daemon.url):
            daemon.host, daemon.port = address[1], int(address[2])
        yield daemon
    finally:
        daemon.stop()
        assert process.stdout is not None
        process.stdout.close()
