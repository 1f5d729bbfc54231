"""The end of a daemon, as a process: orderly where that can be, by force where it cannot, and always in time."""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from daemon import PATIENCE, PROGRAM, TWISTD, Daemon, environment, in_background, running_daemon, until

STOPPED = "on_stop has run"
FORCED = r"^rpiserve: not ended in time, so ended by force; still running: (.+)$"
IMPORTS = """
import sys, threading, time
from rpiserve import App

app = App("shutdown")
forever = threading.Event()

def say(text):
    print(text, file=sys.__stderr__, flush=True)

app.on_stop()(lambda: say("on_stop has run"))
"""
RUN = "\nif __name__ == '__main__':\n    app.run(argv=sys.argv[1:])\n"
IDLE = f"{IMPORTS}\napp.sensor('a', every=0.1)(lambda: 1){RUN}"
PYTHON = (sys.executable, "daemon_app.py")
SOON = ("--stop-timeout", "2")
ENOUGH = ("--stop-timeout", "20")


def stop_in_time(daemon: Daemon, number: int = signal.SIGTERM) -> int:
    """Send the signal and return the exit code. It is for the watchdog that there is one before patience ends."""
    return daemon.stop(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle(number: int, tmp_path: Path) -> None:
    """A daemon with nothing under way ends by the signal, well before the stop timeout, once ``on_stop`` has run.

    The pid file that twistd has written is gone then.
    """
    program = (str(TWISTD), "-n", "--pidfile=twistd.pid", "rpiserve")
    with running_daemon(tmp_path, IDLE, *ENOUGH, program=program) as daemon:
        assert (tmp_path / "twistd.pid").read_text() == str(daemon.process.pid)
        assert stop_in_time(daemon, number) == -number
        log = daemon.log()
    assert STOPPED in log
    assert not re.search(FORCED, log, re.MULTILINE)
    assert "Traceback" not in log
    assert "not ended within" not in log
    assert not (tmp_path / "twistd.pid").exists()


def test_idle_in_the_foreground(tmp_path: Path) -> None:
    """`App.run` returns after the signal, and the program goes on behind it to its own end."""
    with running_daemon(tmp_path, f"{IDLE}    say('the program ends')\n", *ENOUGH, program=PYTHON) as daemon:
        assert stop_in_time(daemon, signal.SIGINT) == 0
        log = daemon.log()
    assert log.index(STOPPED) < log.index("the program ends")
    assert "Traceback" not in log


def test_in_the_background(tmp_path: Path) -> None:
    """A twistd that has gone to the background serves there, and ends as one in the foreground does."""
    with in_background(tmp_path, app_source=IDLE, twistd=["--logfile=twistd.log"]):
        serving = re.search(r"serving on http://127\.0\.0\.1:(\d+)", (tmp_path / "twistd.log").read_text())
        assert serving is not None
        assert request(int(serving[1]), "/data/a").endswith(b"\r\n\r\n1")  # once there is a first reading
    assert not (tmp_path / "twistd.pid").exists()
    assert "Server Shut Down" in (tmp_path / "twistd.log").read_text()


def request(port: int, path: str) -> bytes:
    """Return the answer to a request, as soon as there is one that is no error."""
    end = time.monotonic() + PATIENCE
    while True:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = connection.makefile("rb").read()
        if answer.startswith(b"HTTP/1.1 200"):
            return answer
        assert time.monotonic() < end, answer


HUNG_SENSOR = """
@app.sensor("hung", every=1)
def hung():
    say("hangs")
    forever.wait()
"""
HUNG_STOP = """
@app.on_stop()
def hung_stop():
    say("hangs")
    forever.wait()
"""
HEEDLESS_LOOP = """
@app.thread("heedless")
def loop(running):
    say("hangs")
    forever.wait()
"""
HEEDFUL_LOOP = """
@app.thread("heedful")
def loop(running):
    say("hangs")
    while running():
        forever.wait(0.02)
    say("the loop has ended")
"""


@pytest.mark.parametrize(("source", "name"), [(HUNG_SENSOR, "hung"), (HEEDLESS_LOOP, "heedless")])
def test_hung_threads(source: str, name: str, tmp_path: Path) -> None:
    """A handler that hangs is named in the log and left behind: ``on_stop`` runs, and the end needs no force."""
    with running_daemon(tmp_path, IMPORTS + source, *SOON) as daemon:
        daemon.wait_for("^hangs")
        assert stop_in_time(daemon) == -signal.SIGTERM
        log = daemon.log()
    assert re.search(rf"not ended within 0\.8 s: {name}$", log, re.MULTILINE)
    assert log.index("not ended within") < log.index(STOPPED)
    assert not re.search(FORCED, log, re.MULTILINE)
    assert "Unhandled" not in log


def test_a_loop_that_heeds_running(tmp_path: Path) -> None:
    """A loop of its own thread ends when ``running()`` has turned false, before ``on_stop``, and is waited for."""
    with running_daemon(tmp_path, IMPORTS + HEEDFUL_LOOP, *ENOUGH) as daemon:
        daemon.wait_for("^hangs")
        assert stop_in_time(daemon) == -signal.SIGTERM
        log = daemon.log()
    assert log.index("the loop has ended") < log.index(STOPPED)
    assert "not ended within" not in log


def test_a_hung_on_stop(tmp_path: Path) -> None:
    """An ``on_stop`` that hangs is named in the log and left behind, and the end needs no force."""
    with running_daemon(tmp_path, IMPORTS + HUNG_STOP, *SOON) as daemon:
        assert stop_in_time(daemon) == -signal.SIGTERM
        log = daemon.log()
    assert log.index(STOPPED) < log.index("on_stop hung_stop failed")
    assert not re.search(FORCED, log, re.MULTILINE)


LASTING_THREAD = f"{IMPORTS}\nthreading.Thread(target=forever.wait, name='mine').start()\n{RUN}"


def test_a_thread_that_is_no_daemon(tmp_path: Path) -> None:
    """A thread of the user's own that never ends does not keep twistd, which ends itself by the signal."""
    with running_daemon(tmp_path, LASTING_THREAD, *SOON) as daemon:
        assert stop_in_time(daemon) == -signal.SIGTERM
        assert STOPPED in daemon.log()


def test_a_thread_that_is_no_daemon_in_the_foreground(tmp_path: Path) -> None:
    """Python itself would wait for such a thread: after `App.run` the process is ended by force, the thread named."""
    with running_daemon(tmp_path, LASTING_THREAD, *SOON, program=PYTHON) as daemon:
        assert stop_in_time(daemon) == 1
        log = daemon.log()
    assert STOPPED in log
    assert re.findall(FORCED, log, re.MULTILINE) == ["the thread mine"]


# What measures the coverage writes its file while this goes on, and has to ask for the interpreter thousands of times.
BUSY = "__import__('sys').setswitchinterval(1e-5)\n    while True: pass"


@pytest.mark.parametrize(
    ("program", "blocking"),
    [(PROGRAM, BUSY), (PROGRAM, "time.sleep(1000)"), (PYTHON, "time.sleep(1000)")],
)
def test_a_blocked_reactor(program: tuple[str, ...], blocking: str, tmp_path: Path) -> None:
    """An ``async def`` that blocks the reactor, be it busy or asleep, is named when the process is ended by force."""
    source = f"""{IMPORTS}
@app.sensor("blocking", every=1)
async def blocking():
    say("blocks")
    {blocking}
{RUN}"""
    with running_daemon(tmp_path, source, *SOON, program=program) as daemon:
        daemon.wait_for("^blocks")
        assert stop_in_time(daemon) == 1
        log = daemon.log()
    assert re.findall(FORCED, log, re.MULTILINE) == ["blocking"]
    assert "Traceback" not in log


def test_an_end_by_force_in_the_background(tmp_path: Path) -> None:
    """Where there is no terminal, the log says why the process was ended by force."""
    source = f"{IMPORTS}\n@app.on_stop(reactor=True)\ndef blocking():\n    forever.wait()\n"
    log = tmp_path / "twistd.log"
    with in_background(tmp_path, *SOON, app_source=source, twistd=["--logfile=twistd.log"]):
        until(lambda: "serving on" in log.read_text(encoding="utf-8"))
    found = re.findall(
        r"^.* daemon\.signals: not ended in time, so ended by force; still running: (.+)$", log.read_text(), re.M
    )
    assert [line.split(", ")[-1] for line in found] == ["on_stop blocking"]


def test_a_second_signal(tmp_path: Path) -> None:
    """A second signal ends the process at once, long before the stop timeout, whatever hangs."""
    with running_daemon(tmp_path, IMPORTS + HUNG_STOP, "--stop-timeout", "1000") as daemon:
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_for("^hangs")
        assert stop_in_time(daemon, signal.SIGINT) == 128 + signal.SIGINT


def test_a_signal_at_once(tmp_path: Path) -> None:
    """A signal that comes while the daemon starts is not lost, and leaves nothing half done."""
    source = f"""{IMPORTS}
import os, signal
@app.on_start(reactor=True)
def early():
    os.kill(os.getpid(), signal.SIGINT)
"""
    with running_daemon(tmp_path, source, *ENOUGH) as daemon:
        assert daemon.wait() == -signal.SIGINT
        log = daemon.log()
    assert STOPPED in log
    assert "Traceback" not in log


def wait_until_refused(daemon: Daemon) -> None:
    """Wait until the daemon takes no more connections."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            socket.create_connection((daemon.host, daemon.port), PATIENCE).close()
        except ConnectionRefusedError:
            return
        except ConnectionResetError:  # it was closing at that moment
            continue
    raise AssertionError("it goes on taking connections")


def test_a_download_in_flight(tmp_path: Path) -> None:
    """An answer that is on its way when the signal comes arrives whole; a new connection is refused meanwhile."""
    source = f"{IMPORTS}\napp.data['big'] = 'x' * 10_000_000\n"
    with running_daemon(tmp_path, source, *ENOUGH, "--write-timeout", "60") as daemon:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            connection.settimeout(PATIENCE)
            connection.connect((daemon.host, daemon.port))
            connection.sendall(b"GET /data/big HTTP/1.1\r\nHost: localhost\r\n\r\n")
            begun = connection.recv(100)
            daemon.process.send_signal(signal.SIGTERM)
            wait_until_refused(daemon)
            assert daemon.process.poll() is None
            body = (begun + connection.makefile("rb").read()).partition(b"\r\n\r\n")[2]
        assert daemon.wait() == -signal.SIGTERM
        log = daemon.log()
    assert body == b'"' + b"x" * 10_000_000 + b'"'
    assert STOPPED in log
    assert "not ended within" not in log


def test_a_download_that_nobody_reads(tmp_path: Path) -> None:
    """An answer that is not read does not hold up the end for longer than its share of the time."""
    source = f"{IMPORTS}\napp.data['big'] = 'x' * 10_000_000\n"
    with running_daemon(tmp_path, source, *SOON) as daemon, socket.socket() as connection:
        connection.settimeout(PATIENCE)
        connection.connect((daemon.host, daemon.port))
        connection.sendall(b"GET /data/big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(100)
        assert stop_in_time(daemon) == -signal.SIGTERM
        log = daemon.log()
    assert re.search(r"not ended within 0\.8 s: connections$", log, re.MULTILINE)
    assert STOPPED in log


def test_standard_error_that_nobody_reads(tmp_path: Path) -> None:
    """A pipe that is full, because nobody reads the log, blocks the reactor; the process ends in time all the same.

    What fills it are short lines: there is no room left for that of the watchdog.
    """
    reached, reaching = os.pipe()
    reading, writing = os.pipe()
    source = f"""{IMPORTS}
import os
@app.sensor("chatty", every=1)
async def chatty():
    os.write({reaching}, b"!")
    while True:
        print("-")
"""
    (tmp_path / "app.py").write_text(source, encoding="utf-8")
    process = subprocess.Popen(
        [*PROGRAM, "--port", "none", *SOON],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=writing,
        stderr=writing,
        pass_fds=[reaching],
    )
    try:
        assert select.select([reached], [], [], PATIENCE)[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 1
    finally:
        process.kill()
        process.wait(PATIENCE)
        for pipe in (reached, reaching, reading, writing):
            os.close(pipe)


def test_a_unix_socket_that_is_gone(tmp_path: Path) -> None:
    """Somebody has deleted the file of the socket: the stop goes on all the same, and ``on_stop`` runs."""
    path = tmp_path / "socket"
    ready = "serving on unix:"
    with running_daemon(tmp_path, IDLE, *ENOUGH, port=f"unix:{path}", ready=ready) as daemon:
        path.unlink()
        assert stop_in_time(daemon) == -signal.SIGTERM
        log = daemon.log()
    assert STOPPED in log
    assert "could not be left" in log
    assert "Traceback" not in log
