"""The log of a daemon, as a process: its formats, its files, and that no secret is in anything that leaves it."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from daemon import APP, PATIENCE, PROGRAM, SERVING, TWISTD, Daemon, completed, in_background, running_daemon, until

from rpiserve.core.tokens import CONTROL, READ, TokenFile

PYTHON = (sys.executable, "daemon_app.py")
RUN = "\nif __name__ == '__main__':\n    import sys\n    app.run(argv=sys.argv[1:])\n"
TALKATIVE = f"""{APP}
from rpiserve import logger

@app.sensor("a/b", every=0.1)
def talk():
    logger.debug("a detail")
    logger.warning("two\\nlines: é %s {{0}}")
    print("printed")
    raise ValueError("no\\nnumber")
{RUN}"""
TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (DEBUG|INFO |WARN |ERROR|CRITI) \S+: .*|    .*")


def text_of(path: Path) -> str:
    """Return what is in a file, or nothing if there is none yet."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


# --- formats ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [PROGRAM, PYTHON], ids=["twistd", "run"])
def test_text(program: tuple[str, ...], tmp_path: Path) -> None:
    """For people each line says when, how bad, where and what, or belongs to the one above it."""
    with running_daemon(tmp_path, TALKATIVE, program=program) as daemon:
        daemon.wait_for(r"^    builtins.ValueError: no\n    number$")
        assert daemon.stop() in (0, -signal.SIGTERM)
        lines = daemon.log().splitlines()
    ours = [line for line in lines if line != "printed"]  # App.run leaves what an app prints as it is
    assert [line for line in ours if not TEXT_LINE.fullmatch(line)] == []
    assert any(re.search(r" WARN  a/b: two\\x0alines: é %s \{0\}$", line) for line in lines)
    assert any(re.search(r" ERROR core\.failures: a/b failed, incident \w{8}$", line) for line in lines)
    assert not any("a detail" in line for line in lines)


@pytest.mark.parametrize("program", [PROGRAM, PYTHON], ids=["twistd", "run"])
def test_json(program: tuple[str, ...], tmp_path: Path) -> None:
    """As JSON each line is an object, whatever it is of: what the app prints, too."""
    options = ("--log-format", "json", "--log-level", "a/b=debug")
    with running_daemon(tmp_path, TALKATIVE, *options, program=program, ready=r"(http://[\d.:]+)") as daemon:
        daemon.wait_for("failed, incident")
        assert daemon.stop() in (0, -signal.SIGTERM)
        entries = [json.loads(line) for line in daemon.log().splitlines()]
    assert all({"time", "level", "namespace", "message"} <= entry.keys() for entry in entries)
    failed = next(entry for entry in entries if "incident" in entry)
    assert (failed["level"], failed["handler"], failed["namespace"]) == ("error", "a/b", "rpiserve.core.failures")
    assert failed["traceback"].endswith("ValueError: no\nnumber")
    detail = next(entry for entry in entries if entry["message"] == "a detail")
    assert (detail["level"], detail["handler"]) == ("debug", "a/b")
    assert next(entry for entry in entries if entry["message"] == "printed")["namespace"] == "stdout"


PYTHON_LOGGING = f"""{APP}
import logging
import sys
import warnings

logging.basicConfig(level=logging.ERROR)  # as in many a module that was written for something else
TOKEN = "rpi_" + "x" * 43
log = logging.getLogger("garden.pump")

@app.sensor("a/b", every=0.1)
def talk():
    log.debug("a detail")
    log.info("{{}} %s at %s", "{{text}}", "redis://me:geheim@pi.lan")
    log.warning("%d", "no number")
    logging.getLogger("noisy").info("noise")
    warnings.warn("it is old")
    try:
        raise ValueError("no\\nnumber in " + TOKEN)
    except ValueError:
        log.exception("with %s", TOKEN)
    log.critical("that is all")
    return 1

@app.on_stop()
def bye():
    log.info("good bye")
{RUN}"""


@pytest.mark.parametrize("program", [PROGRAM, PYTHON], ids=["twistd", "run"])
def test_python_logging(program: tuple[str, ...], tmp_path: Path) -> None:
    """What an app hands to Python's `logging` is in the log with all that belongs to it, and nowhere else."""
    options = ("--log-format", "json", "--log-level", "noisy=warn")
    with running_daemon(tmp_path, PYTHON_LOGGING, *options, program=program, ready=r"(http://[\d.:]+)") as daemon:
        daemon.wait_for("that is all")
        assert daemon.stop() in (0, -signal.SIGTERM)
        log = daemon.log()
    assert "x" * 30 not in log
    assert "geheim" not in log
    entries = [json.loads(line) for line in log.splitlines()]
    ours = [entry for entry in entries if entry["namespace"] == "garden.pump"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"]) for entry in ours)
    assert [(entry["level"], entry["message"], entry["handler"]) for entry in ours[:4]] == [
        ("info", "{} {text} at redis://me:***@pi.lan", "a/b"),
        ("warn", "%d ('no number',)", "a/b"),
        ("error", "with rpi_***", "a/b"),
        ("critical", "that is all", "a/b"),
    ]
    assert ours[2]["traceback"].startswith("Traceback (most recent call last):\n")
    assert ours[2]["traceback"].endswith("builtins.ValueError: no\nnumber in rpi_***")
    assert (ours[-1]["message"], ours[-1]["level"]) == ("good bye", "info")
    assert any("it is old" in entry["message"] and entry["level"] == "warn" for entry in entries)
    assert not any(entry["namespace"] in ("stderr", "noisy") or entry["message"] == "a detail" for entry in entries)


AT_JOURNAL = """
import os, sys
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_journal(tmp_path: Path) -> None:
    """If standard error is journald's each line has the priority that journald takes from it."""
    with running_daemon(tmp_path, TALKATIVE, program=(sys.executable, "-c", AT_JOURNAL, *PROGRAM)) as daemon:
        daemon.wait_for("failed, incident")
        daemon.stop()
        lines = daemon.log().splitlines()
    assert [line for line in lines if not re.match("<[2-7]>", line)] == []
    assert "<3>    builtins.ValueError: no" in lines
    assert r"<4>a/b: two\x0alines: é %s {0}" in lines


def test_levels(tmp_path: Path) -> None:
    """Less is logged where less is asked for, and more where more is."""
    levels = ("--log-level", "critical", "--log-level", "rpiserve.core.failures=error")
    with running_daemon(tmp_path, TALKATIVE, *levels, ready="failed, incident") as daemon:
        daemon.stop()
        lines = daemon.log().splitlines()
    assert [line for line in lines if not re.search(r" ERROR core\.failures: |^    ", line)] == []


@pytest.mark.parametrize("option", ["--log-file", "--request-log"])
def test_a_fifo_without_a_reader(option: str, tmp_path: Path) -> None:
    """A FIFO that nobody reads from does not keep the start waiting: it is a failure, in one line."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    done = completed([*PROGRAM, "--port", "0", option, "fifo"], cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"rpiserve: {option}: cannot write to fifo: it is a FIFO, and nobody reads from it\n"


def test_a_fifo_that_nobody_reads(tmp_path: Path) -> None:
    """While a FIFO is full the daemon answers, and counts the lines; when it is read again the log says how many."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    source = f"{APP}\nfrom rpiserve import logger\n"
    source += (
        "\n@app.command\ndef talk(times: int) -> None:\n    for _ in range(times):\n        logger.info('x' * 1000)\n"
    )
    options = ("--log-file", "fifo", "--log-format", "json", "--request-log", "/dev/stdout")
    with running_daemon(tmp_path, source, *options, ready="") as daemon:
        data = b""

        def read() -> bytes:
            nonlocal data
            with contextlib.suppress(BlockingIOError):
                data += os.read(reader, 1 << 20)
            return data

        until(lambda: re.search(SERVING.encode(), read()))
        match = re.search(rb"127\.0\.0\.1:(\d+)", data)
        assert match is not None
        get(int(match[1]), "/cmd?name=talk&times=200")
        get(int(match[1]))
        read()
        get(int(match[1]), "/cmd?name=talk&times=1")
        until(lambda: b"were lost" in read())
        daemon.wait_for('GET /health|"/health"')
    os.close(reader)
    messages = [json.loads(line)["message"] for line in data.splitlines()]
    [note] = [message for message in messages if "were lost" in message]
    assert messages.count("x" * 1000) + int(note.split()[0]) == 201


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--log-level", "loud"), "--log-level is ['loud']; it is a level (debug, info, warn, error, critical), or "),
        (("--log-format", "xml"), "--log-format is 'xml'; it is one of text, json, journal"),
        (("--log-file", "gone/app.log"), "--log-file: cannot write to gone/app.log: No such file or directory"),
        (("--request-log", "gone/r.log"), "--request-log: cannot write to gone/r.log: No such file or directory"),
    ],
)
def test_wrong_options(options: tuple[str, ...], line: str, tmp_path: Path) -> None:
    """A log that cannot be had is a failure to start, in one line."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    done = completed([*PROGRAM, "--port", "0", *options], cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"rpiserve: {line}")
    assert done.stderr.count("\n") == 1


# --- files -----------------------------------------------------------------------------------------------------------


def get(port: int, path: str = "/health") -> None:
    """Ask for something, and wait for the answer."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("program", [PROGRAM, PYTHON], ids=["twistd", "run"])
def test_files_that_are_moved(program: tuple[str, ...], tmp_path: Path) -> None:
    """After SIGHUP both logs go on in new files: that is how logrotate does it, and nothing is lost."""
    log, requests = tmp_path / "app.log", tmp_path / "requests.log"
    options = ("--log-file", str(log), "--request-log", str(requests))
    with running_daemon(tmp_path, APP + RUN, *options, program=program, ready="") as daemon:
        until(lambda: re.search(SERVING, text_of(log)))
        match = re.search(r"127\.0\.0\.1:(\d+)", text_of(log))
        assert match is not None
        port = int(match[1])
        get(port, "/data/before")
        until(lambda: "/data/before" in text_of(requests))
        get(port, "/data/waiting")
        log.rename(tmp_path / "app.old")
        requests.rename(tmp_path / "requests.old")
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: "reloaded" in text_of(log))
        get(port, "/data/after")
        assert daemon.stop() in (0, -signal.SIGTERM)
        assert daemon.log() == ""
    assert re.findall(r"GET /data/(\w+) ", text_of(tmp_path / "requests.old")) == ["before", "waiting"]
    assert re.findall(r"GET /data/(\w+) ", text_of(requests)) == ["after"]
    assert "reloaded" not in text_of(tmp_path / "app.old")
    assert "Main loop terminated" in text_of(log)


def test_old_files_are_deleted(tmp_path: Path) -> None:
    """However much is logged, it takes the room of so many files and no more."""
    source = f"""{APP}
from rpiserve import logger
app.on_start(reactor=True)(lambda: [logger.info("line {{i}}", i=i) for i in range(1000)] and None)
"""
    log = tmp_path / "logs" / "app.log"
    log.parent.mkdir()
    options = ("--log-file", str(log), "--log-size", "5000", "--log-keep", "2")
    with running_daemon(tmp_path, source, *options, ready=""):
        until(lambda: "line 999" in text_of(log))
    assert sorted(path.name for path in log.parent.iterdir()) == ["app.log", "app.log.1", "app.log.2"]
    assert max(path.stat().st_size for path in log.parent.iterdir()) <= 5000


@pytest.mark.parametrize(
    ("twistd", "options", "name"),
    [
        ((), (), "twistd.log"),
        (("--logfile=t.log",), (), "t.log"),
        (("--logfile=t.log",), ("--log-file=o.log",), "o.log"),
    ],
)
def test_in_the_background(twistd: tuple[str, ...], options: tuple[str, ...], name: str, tmp_path: Path) -> None:
    """In the background the log is in twistd's file or ours, in our format; SIGHUP and SIGUSR1 begin new ones."""
    log = tmp_path / name
    with in_background(tmp_path, "--log-format=json", *options, twistd=twistd) as pid:
        until(lambda: re.search(SERVING, text_of(log)))
        log.rename(tmp_path / "moved")
        os.kill(pid, signal.SIGHUP)
        until(lambda: "reloaded" in text_of(log))
        os.kill(pid, signal.SIGUSR1)
        until(lambda: "reloaded" in text_of(tmp_path / f"{name}.1"))
    logs = [path for path in tmp_path.iterdir() if ".log" in path.name or path.name == "moved"]
    assert {path.name for path in logs} == {"moved", name, f"{name}.1"}
    for line in "".join(map(text_of, logs)).splitlines():
        assert json.loads(line)["message"]
    assert "Server Shut Down" in text_of(log)


def test_logfile_in_the_foreground(tmp_path: Path) -> None:
    """With -n, too, twistd's own option names the file."""
    program = (str(TWISTD), "-n", "--pidfile=", "--logfile=t.log", "rpiserve")
    with running_daemon(tmp_path, program=program, ready="") as daemon:
        until(lambda: re.search(SERVING, text_of(tmp_path / "t.log")))
        daemon.stop()
        assert daemon.log() == ""
    assert all(TEXT_LINE.fullmatch(line) for line in text_of(tmp_path / "t.log").splitlines())


def test_the_background_has_no_standard_output(tmp_path: Path) -> None:
    """A daemon in the background that is to log to standard output is refused, as twistd itself does it."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    done = completed([TWISTD, "--pidfile=", "--logfile=-", "rpiserve", "--port", "0"], cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("rpiserve: twistd --logfile=-: what goes to the background cannot log to standard ")


# --- secrets ---------------------------------------------------------------------------------------------------------

LEAKY = """
import itertools
import logging
import os
from rpiserve import App, logger, request, response

app = App("leaky")
URL = "redis://me:%s@127.0.0.1:1/0" % os.environ["URL_PASSWORD"]
TOKEN = os.environ["FOREIGN_TOKEN"]
NUMBERS = itertools.count()

def leak():
    logger.warning("trying " + URL, )
    logger.error("with {token} and %s", token=TOKEN)
    logging.getLogger("leaky").error("trying %s with %s", URL, TOKEN, exc_info=RuntimeError(TOKEN))
    print("printed", TOKEN)
    trial = f"{next(NUMBERS)}: {URL}"
    raise RuntimeError(f"{trial} refuses {TOKEN}; Authorization: Bearer {TOKEN}; password={os.environ['URL_PASSWORD']}")

app.sensor("leaky/sensor", every=0.2)(leak)
app.sensor("leaky/on_reactor", every=0.2, reactor=True)(lambda: leak())
app.on_start()(leak)
app.on_stop()(leak)

@app.command
def leak_command(password: str = ""):
    leak()

@app.action("leak")
def leak_action():
    leak()

@app.route("/leak", methods=["GET", "POST"])
def leak_route():
    logger.info("headers: {headers}", headers=dict(request.headers))
    leak()
"""


class Client:
    """Asks the daemon for things, and keeps all that it answers.

    Attributes:
        answers: all answers, without the cookies that are set.
        cookie: the first cookie that was.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.answers = ""
        self.cookie = ""

    def ask(self, target: str, method: str = "GET", *headers: str, body: str = "") -> str:
        """Return the answer to a request."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        with socket.create_connection((self._daemon.host, self._daemon.port), PATIENCE) as connection:
            connection.sendall(("\r\n".join(lines) + f"\r\n\r\n{body}").encode())
            answer = connection.makefile("rb").read().decode()
        if cookie := re.search(r"^Set-Cookie: ([^;\r\n]+).*\r\n", answer, re.MULTILINE | re.IGNORECASE):
            self.cookie = self.cookie or cookie[1]
            answer = answer.replace(cookie[0], "")
        self.answers += answer
        return answer


def call_everything(client: Client, reader: str, controller: str, wrong: str) -> None:
    """Log in with good and bad tokens, and use all that there is with them and with the cookie."""
    form, as_json = "Content-Type: application/x-www-form-urlencoded", "Content-Type: application/json"
    client.ask("/login", "POST", form, body=f"token={wrong}&next=/")
    assert client.cookie == ""
    client.ask("/login", "POST", form, body=f"token={controller}&next=/data")
    cookie = f"Cookie: {client.cookie}"
    assert "=" in cookie
    targets = ["/", "/data", "/cmds", "/sensors", "/ready", "/health", "/metrics", "/services", "/openapi.json"]
    targets += ["/login", "/leak", "/nothing", f"/data?token={controller}", f"/data/{reader}", "/cmd?name=leak_command"]
    targets += [f"/cmd?name=leak_command&password={wrong}", f"/cmd?name=leak_command&level={controller}", f"/?{wrong}"]
    for target in targets:
        for header in (f"Authorization: Bearer {reader}", f"Authorization: Bearer {controller}", cookie, "X-None: 1"):
            client.ask(target, "GET", header, f"Referer: http://localhost/a?token={controller}")
    for header in (f"Authorization: Bearer {controller}", cookie):
        command = json.dumps({"Command": {"Name": "leak_command", "Args": {}}})
        client.ask("/cmd", "POST", header, as_json, body=command)
        client.ask("/cmd", "POST", header, as_json, body=command[:-3])
        client.ask("/actions/leak", "POST", header, as_json, body=json.dumps({"token": controller}))
        client.ask("/leak", "POST", header, as_json, body="{}")
        client.ask("/services/other/leak", "POST", header, as_json, body="{}")
    client.ask("/data", "GET", f"Authorization: Bearer {wrong}")
    client.ask("/data", "GET", f"Authorization: Basic {wrong}", f"Cookie: rpiserve={wrong}")
    client.ask("/data", "GET", f"Authorization: Bearer {controller}", "Host: again")
    client.ask(f"http://me:{wrong}@localhost/data", "GET")
    client.ask("/logout", "POST", cookie, form, body="a=b")
    client.ask("/data", "GET", cookie)


@pytest.mark.parametrize("format", ["text", "json", "journal"])
def test_no_secret_gets_out(format: str, tmp_path: Path) -> None:
    """No token, password or cookie is in the logs, the answers, the status or the command line, whatever fails."""
    tokens = TokenFile(tmp_path / "tokens", time.monotonic)
    reader, controller = tokens.add("reader", READ), tokens.add("controller", CONTROL)
    wrong = "rpi_" + "wRong0" * 7 + "x"
    variables = {
        "RPISERVE_REDIS": "redis://:geheimnis-des-busses@127.0.0.1:1",
        "URL_PASSWORD": "pass/wort-der-adresse",
        "FOREIGN_TOKEN": "rpi_" + "fReMd1" * 7 + "x",
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
    }
    options = [
        "--token-file",
        "tokens",
        "--request-log",
        "requests.log",
        "--log-format",
        format,
        "--log-level",
        "debug",
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        with running_daemon(tmp_path, LEAKY, *options, env=variables, ready=r"(http://[\d.:]+\d)") as daemon:
            client = Client(daemon)
            call_everything(client, reader, controller, wrong)
            daemon.wait_for("leaky/on_reactor failed again")
            command_line = Path(f"/proc/{daemon.process.pid}/cmdline").read_text()
            daemon.stop()
            log = daemon.log()
        systemd.setblocking(False)
        status = ""
        with contextlib.suppress(BlockingIOError):
            while True:
                status += systemd.recv(1 << 16).decode()
    requests = text_of(tmp_path / "requests.log")
    assert requests.count("\n") > 80
    assert "***" in log
    secrets = {
        "reader": reader,
        "controller": controller,
        "wrong": wrong,
        "cookie": client.cookie.partition("=")[2],
        "bus": "geheimnis-des-busses",
        "URL": variables["URL_PASSWORD"],
        "foreign": variables["FOREIGN_TOKEN"],
    }
    places = {"log": log, "requests": requests, "answers": client.answers, "ps": command_line, "status": status}
    found = [
        f"{name} in {place}: {text[max(0, text.index(part) - 200) :][:300]}"
        for place, text in places.items()
        for name, secret in secrets.items()
        for part in (secret, secret.removeprefix("rpi_")[:25])
        if part and part in text
    ]
    assert not found, "\n".join(found)
    assert (tmp_path / "requests.log").stat().st_mode & 0o007 == 0
