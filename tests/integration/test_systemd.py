"""A daemon as systemd runs it: what it tells, the sockets it is handed, its signals, and its exit code."""

import contextlib
import os
import re
import select
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from daemon import APP, PATIENCE, PROGRAM, SERVING, TWISTD, Daemon, completed, running, running_daemon, until

PYTHON = (sys.executable, "daemon_app.py")
RUN = "\nif __name__ == '__main__':\n    import sys\n    app.run(argv=sys.argv[1:])\n"


def get(daemon: Daemon, path: str) -> bytes:
    """Return the answer to a request."""
    with socket.create_connection((daemon.host, daemon.port), PATIENCE) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return connection.makefile("rb").read()


@attrs.define
class Systemd:
    """Stands in for systemd's end of the notify socket."""

    socket: socket.socket
    path: Path

    def hear(self) -> str:
        """Return the next message, as soon as it comes."""
        return self.socket.recv(1 << 16).decode()

    def hear_until(self, pattern: str) -> list[str]:
        """Return the messages up to one that matches ``pattern``, that included."""
        messages = [self.hear()]
        while not re.search(pattern, messages[-1], re.MULTILINE):
            messages.append(self.hear())
        return messages

    def drain(self) -> None:
        """Throw away what has come."""
        while select.select([self.socket], [], [], 0)[0]:
            self.hear()

    @property
    def variables(self) -> dict[str, str]:
        """What the daemon finds in its environment."""
        return {"NOTIFY_SOCKET": str(self.path)}


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    """A notify socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = tmp_path / "notify"
        listening.bind(str(path))
        listening.settimeout(PATIENCE)
        yield Systemd(listening, path)


# --- what it tells ---------------------------------------------------------------------------------------------------

BLOCKING = """
import os
from rpiserve import App

app = App("test")

@app.command(reactor=True)
async def block():
    with open("blocked", "w") as blocked:  # opens when the test does
        pass
    with open("go_on") as go_on:
        go_on.read()
"""


def test_ready_and_stopping(systemd: Systemd, tmp_path: Path) -> None:
    """The first that systemd hears is that the daemon is ready, and the port answers then; the last that it stops."""
    source = f"""{APP}
import os

@app.command
def environ():
    return "NOTIFY_SOCKET" in os.environ
"""
    with running_daemon(tmp_path, source, env=systemd.variables, ready="") as daemon:
        ready = systemd.hear()
        match = re.fullmatch(
            r"READY=1\nSTATUS=serving on http://127\.0\.0\.1:(\d+); 0 handlers, 0 failing(; .*)?", ready
        )
        assert match is not None, ready
        daemon.host, daemon.port = "127.0.0.1", int(match[1])
        assert get(daemon, "/health").startswith(b"HTTP/1.1 200")
        assert get(daemon, "/cmd?name=environ").endswith(b"\r\n\r\nfalse")
        assert daemon.stop() == -signal.SIGTERM
        assert systemd.hear_until("^STOPPING=1$")[-1] == "STOPPING=1\nSTATUS=stopping"
        assert not select.select([systemd.socket], [], [], 0)[0]


def test_watchdog(systemd: Systemd, tmp_path: Path) -> None:
    """It says that it is alive again and again, while the reactor is blocked it does not, and then it does again."""
    for name in ("blocked", "go_on"):
        os.mkfifo(tmp_path / name)
    variables = systemd.variables | {"WATCHDOG_USEC": "200000"}
    with running_daemon(tmp_path, BLOCKING, env=variables) as daemon:
        systemd.hear_until("^READY=1$")
        for _ in range(3):
            systemd.hear_until("^WATCHDOG=1$")
        with socket.create_connection((daemon.host, daemon.port), PATIENCE) as connection:
            connection.sendall(b"GET /cmd?name=block HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            (tmp_path / "blocked").read_text()
            systemd.drain()
            assert not select.select([systemd.socket], [], [], 1)[0]  # ten times as long as it takes otherwise
            (tmp_path / "go_on").write_text("")
            systemd.hear_until("^WATCHDOG=1$")
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200")


def test_status(systemd: Systemd, tmp_path: Path) -> None:
    """The status follows what becomes of the daemon: a handler that fails, and a bus that is not there."""
    source = f"""{APP}
import os
@app.sensor("door", every=0.1)
def door():
    if os.path.exists("broken"):
        raise OSError("broken")
    return 1
"""
    variables = systemd.variables | {"RPISERVE_REDIS": "redis://:geheimnis@127.0.0.1:1"}
    with running_daemon(tmp_path, source, env=variables):
        assert re.search("1 handler, 0 failing", systemd.hear_until("^READY=1$")[-1])
        (tmp_path / "broken").touch()
        status = systemd.hear_until("1 handler, 1 failing")[-1]
    assert re.fullmatch(
        r"STATUS=serving on http://[0-9.:]+; Redis at 127.0.0.1:1 is not connected; 1 handler, 1 failing", status
    )


def test_reload(systemd: Systemd, tmp_path: Path) -> None:
    """A reload begins and ends for systemd, too."""
    with running_daemon(tmp_path, env=systemd.variables) as daemon:
        systemd.hear_until("^READY=1$")
        daemon.process.send_signal(signal.SIGHUP)
        assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", systemd.hear_until("^RELOADING=1$")[-1])
        assert systemd.hear_until("^READY=1$")[-1] == "READY=1"
        daemon.wait_for("reloaded")


def test_offline_in_the_foreground(systemd: Systemd, tmp_path: Path) -> None:
    """A daemon that `App.run` runs, and one that does not serve, tell all that as well."""
    with running_daemon(tmp_path, APP + RUN, env=systemd.variables, port="none", program=PYTHON, ready="") as daemon:
        assert systemd.hear().startswith("READY=1\nSTATUS=running; 0 handlers")
        assert daemon.stop() == 0
        assert systemd.hear_until("^STOPPING=1$")


# --- the sockets that it is handed -----------------------------------------------------------------------------------

HAND_OVER = """
import os, sys
descriptor, *program = sys.argv[1:]
os.dup2(int(descriptor), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="web", LISTEN_PID=str(os.getpid()))
os.execv(program[0], program)
"""


@contextlib.contextmanager
def listening_on(address: str) -> Iterator[socket.socket]:
    """A socket that listens, as systemd makes it from a ``.socket`` unit."""
    with socket.socket() as listening:
        listening.bind((address, 0))
        listening.listen()
        yield listening


def handed(listening: socket.socket) -> tuple[str, ...]:
    """Return the program that is handed the socket."""
    return (sys.executable, "-c", HAND_OVER, str(listening.fileno()), *PROGRAM)


@pytest.mark.parametrize("which", ["index=0", "name=web"])
def test_socket_activation(which: str, tmp_path: Path) -> None:
    """It serves on a socket that systemd has made, and answers the connection that was there before it ran."""
    with (
        listening_on("127.0.0.1") as listening,
        socket.create_connection(listening.getsockname(), PATIENCE) as early,
    ):
        early.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        port, program = f"systemd:domain=INET:{which}", handed(listening)
        with running_daemon(tmp_path, port=port, program=program, pass_fds=[listening.fileno()]) as daemon:
            assert daemon.port == listening.getsockname()[1]
            assert early.makefile("rb").read().startswith(b"HTTP/1.1 200")
            assert get(daemon, "/data").startswith(b"HTTP/1.1 200")
            assert daemon.stop() == -signal.SIGTERM


def refused(tmp_path: Path, *program: str, port: str, pass_fds: tuple[int, ...] = ()) -> str:
    """Start a daemon that cannot start, and return the line that says why."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    done = completed([*(program or PROGRAM), "--port", port], cwd=tmp_path, pass_fds=pass_fds)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_socket_beyond_this_machine(tmp_path: Path) -> None:
    """It is the address of the socket that tells who can reach it, whoever has made it."""
    with listening_on("0.0.0.0") as listening:
        port, descriptor = "systemd:domain=INET:index=0", listening.fileno()
        line = refused(tmp_path, *handed(listening), port=port, pass_fds=(descriptor,))
    assert "can be reached from other machines" in line


def test_no_socket(tmp_path: Path) -> None:
    """If there is no such socket it is said so, in one line."""
    port = "systemd:domain=INET:name=web"
    why = "systemd has handed over no socket of that name, which is its FileDescriptorName="
    assert refused(tmp_path, port=port) == f"rpiserve: --port {port}: {why}\n"


# --- signals ---------------------------------------------------------------------------------------------------------


def test_a_hangup_while_it_starts_and_stops(tmp_path: Path) -> None:
    """A SIGHUP that comes while the app is imported, or while it stops, does not end the process."""
    source = f"""{APP}
import os, signal
hang_up = lambda: os.kill(os.getpid(), signal.SIGHUP)
hang_up()
app.on_stop(reactor=True)(hang_up)
app.on_stop(reactor=True)(lambda: print("it has stopped in order"))
"""
    with running_daemon(tmp_path, source, "--stop-timeout", "20") as daemon:
        assert daemon.stop() == -signal.SIGTERM
        assert "it has stopped in order" in daemon.log()
        assert "Traceback" not in daemon.log()


IN_TERMINAL = """
import fcntl, os, signal, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextlib.contextmanager
def in_terminal(tmp_path: Path, *how: str) -> Iterator[tuple[Daemon, int]]:
    """Run a daemon in a terminal; it is gone when the descriptor is closed."""
    terminal, end = os.openpty()
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    command = [sys.executable, "-c", IN_TERMINAL, *how, *PROGRAM, "--port", "0"]
    try:
        with running(command, cwd=tmp_path, stdin=end) as daemon:
            os.close(end)
            daemon.wait_for(SERVING)
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_for("reloaded")  # so it runs, and the terminal is there
            yield daemon, terminal
    finally:
        with contextlib.suppress(OSError):
            os.close(terminal)


def test_a_terminal_that_is_closed(tmp_path: Path) -> None:
    """When its terminal is closed the daemon stops in order: nobody would know of it any more."""
    with in_terminal(tmp_path, "plain") as (daemon, terminal):
        os.close(terminal)
        assert daemon.wait() == -signal.SIGTERM
        assert "Main loop terminated" in daemon.log()


def test_nohup(tmp_path: Path) -> None:
    """One that was started to outlive its terminal does so, and takes SIGHUP as ever."""
    with in_terminal(tmp_path, "nohup") as (daemon, terminal):
        os.close(terminal)
        until(lambda: daemon.log().count("reloaded") == 2)
        assert daemon.process.poll() is None


# --- exit codes ------------------------------------------------------------------------------------------------------

HALF = """
import rpiserve.daemon.hooks
def run(self):
    raise ZeroDivisionError("by a mistake of ours")
rpiserve.daemon.hooks.StartHooks.run = run
"""
CRASH = """
@app.on_start(reactor=True)
def crash():
    from twisted.internet import reactor
    reactor.callWhenRunning(reactor.crash)
"""
AT_EXIT = "\nimport atexit, sys\natexit.register(lambda: print('the end of the app', file=sys.__stdout__))\n"


@pytest.mark.parametrize(
    ("program", "source"), [(PROGRAM, HALF), (PYTHON, HALF), (PROGRAM, CRASH)], ids=["twistd", "run", "crash"]
)
def test_a_fatal_error(program: tuple[str, ...], source: str, tmp_path: Path, systemd: Systemd) -> None:
    """A daemon that cannot go on, or a reactor that ends by itself, ends the process with an error."""
    code = APP + AT_EXIT + source + RUN
    with running_daemon(tmp_path, code, "--stop-timeout", "20", program=program, env=systemd.variables) as daemon:
        assert daemon.wait() == 1
        log = daemon.log()
    assert "the end of the app" in log
    assert "ended by force" not in log
    if source == HALF:
        assert re.search("CRIT.* this cannot go on", log)
        assert "ZeroDivisionError: by a mistake of ours" in log
        assert systemd.hear() == "STOPPING=1\nSTATUS=stopping because of an error"


def test_a_fatal_error_in_the_background(tmp_path: Path) -> None:
    """In the background it leaves no pid file, and its log says why."""
    (tmp_path / "app.py").write_text(APP + HALF, encoding="utf-8")
    command = [TWISTD, "--pidfile=twistd.pid", "--logfile=twistd.log", "rpiserve", "--port", "0"]
    done = completed(command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    log = tmp_path / "twistd.log"
    until(lambda: "Server Shut Down" in log.read_text(encoding="utf-8"))
    assert "this cannot go on" in log.read_text(encoding="utf-8")
    assert not (tmp_path / "twistd.pid").exists()


def test_a_stop_is_no_error(tmp_path: Path) -> None:
    """An app that stops the reactor itself has reached its end: that is no error."""
    with running_daemon(tmp_path, APP + CRASH.replace("reactor.crash", "reactor.stop")) as daemon:
        assert daemon.wait() == 0
