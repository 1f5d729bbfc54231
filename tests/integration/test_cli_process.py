"""The command ``rpiserve`` as a process, against real daemons and a real Redis server."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from daemon import PATIENCE, Daemon, completed, environment, running, running_daemon, until
from redis_server import HOST, RedisServer, free_port, shared_redis_server

__all__ = ["shared_redis_server"]

RPISERVE = Path(sys.executable).with_name("rpiserve")
PASSWORD = "never-shown-9b1f"

SERVICE = """
from dataclasses import dataclass
from twisted.internet.defer import Deferred
from rpiserve import App, request, response

app = App("porter")

@dataclass
class Bag:
    weight: float

@app.action("echo")
def echo(asked):
    return asked.payload

@app.action("steps")
def steps():
    response.progress({"at": "door"}, 5)
    response.progress({"at": "stairs"})
    return "arrived"

@app.action("carry")
def carry(bag: Bag):
    return bag.weight

@app.action("break")
def broken():
    raise RuntimeError("not for the caller")

@app.action("wait")
async def wait():
    print("waiting", flush=True)
    await Deferred()
"""


def run(*arguments: str, input: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    return completed([RPISERVE, *arguments], env=variables, input=input)


def outcome(*arguments: str, **options: str) -> tuple[int, str, str]:
    """Run the command, and return its exit code, its output and its errors. No error is more than one line."""
    done = run(*arguments, **options)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def failure(*arguments: str, **options: str) -> tuple[int, str]:
    """Run the command, which fails, and return its exit code and its one line."""
    code, output, errors = outcome(*arguments, **options)
    assert output == ""
    assert errors.startswith("rpiserve: ")
    assert errors.count("\n") == 1
    return code, errors.removeprefix("rpiserve: ").rstrip("\n")


def started(*arguments: str, **variables: str) -> AbstractContextManager[Daemon]:
    """Run the command until the end of the block, with its errors among its output."""
    return running([RPISERVE, *arguments], env=variables)


class Way:
    """A way to the service, and how a message is sent by it without the command.

    Attributes:
        options: those of the command.
        service: the daemon.
    """

    def __init__(self, service: Daemon, *options: str) -> None:
        self.service = service
        self.options: Sequence[str] = options

    def call(self, *arguments: str) -> tuple[int, str, str]:
        """Call an action."""
        return outcome("call", *arguments, *self.options)

    def failure(self, *arguments: str) -> tuple[int, str]:
        """Call an action, which fails."""
        return failure("call", *arguments, *self.options)

    def publish(self, channel: str, message: str) -> int:
        """Publish a message, and return how many receivers it has."""
        code, output, errors = outcome("publish", channel, message, *self.options)
        assert (code, errors) == (0, "")
        return int(output)


@pytest.fixture(scope="module")
def by_redis(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """The service on Redis, and the way there by it."""
    folder = tmp_path_factory.mktemp("redis")
    with running_daemon(folder, SERVICE, "--redis", redis_server.url) as service:
        yield Way(service, "--redis", redis_server.url)


@pytest.fixture(scope="module")
def by_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """The service on the embedded bus, and the way there by its HTTP API."""
    with running_daemon(tmp_path_factory.mktemp("http"), SERVICE) as service:
        yield Way(service, "--url", service.url)


@pytest.fixture(params=["redis", "http"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each of the two ways."""
    found: Way = request.getfixturevalue(f"by_{request.param}")
    return found


class TestCall:
    def test_reply(self, way: Way) -> None:
        """The reply is one line of JSON, and nothing else is shown."""
        assert way.call("porter", "echo", '{"a": [1, "ü"], "b": null}') == (0, '{"a":[1,"ü"],"b":null}\n', "")

    def test_no_payload(self, way: Way) -> None:
        """Without JSON an empty object is sent."""
        assert way.call("porter", "echo") == (0, "{}\n", "")

    def test_standard_input(self, way: Way) -> None:
        """A dash is for what standard input has."""
        assert outcome("call", "porter", "echo", "-", *way.options, input='{"n": 1}') == (0, '{"n":1}\n', "")

    def test_progress(self, way: Way) -> None:
        """Each reply before the last is a line on standard error, with its percentage."""
        code, output, errors = way.call("porter", "steps", "--progress")
        assert (code, output) == (0, '"arrived"\n')
        assert errors.splitlines() == ['  5 %  {"at":"door"}', '{"at":"stairs"}']

    def test_progress_is_not_shown_to_files(self, way: Way) -> None:
        """Without a terminal progress is not shown."""
        assert way.call("porter", "steps") == (0, '"arrived"\n', "")

    def test_wrong_payload(self, way: Way) -> None:
        """A payload that the service refuses is exit code 1, with its text and its code."""
        code, text = way.failure("porter", "carry", '{"weight": "much"}')
        assert code == 1
        assert "weight" in text
        assert "invalid_payload" in text

    def test_handler_raises(self, way: Way) -> None:
        """A service that fails is exit code 1, with the incident and nothing of its own text."""
        code, text = way.failure("porter", "break")
        assert code == 1
        assert "incident" in text
        assert "not for the caller" not in text

    def test_unknown_action(self, way: Way) -> None:
        """An action that there is not is exit code 1."""
        code, text = way.failure("porter", "dance")
        assert code == 1
        assert "dance" in text

    def test_nobody(self, way: Way) -> None:
        """A service that there is not is exit code 3, at once."""
        code, text = way.failure("nobody-at-all", "echo", "--timeout", "1000")
        assert code == 3
        assert "nobody listens" in text

    def test_timeout(self, way: Way) -> None:
        """A service that does not answer in time is exit code 4."""
        assert way.failure("porter", "wait", "--timeout", "0.3")[0] == 4

    def test_terminal(self, way: Way) -> None:
        """On a terminal the reply is indented, and progress is shown."""
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            process = subprocess.Popen(
                [RPISERVE, "call", "porter", "steps", *way.options],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
            )
            os.close(theirs)
            seen = b""
            try:
                while piece := terminal.read(1000):
                    seen += piece
            except OSError:  # so Linux tells that nobody has the other end any more
                pass
            assert process.wait(PATIENCE) == 0
        assert seen.decode().split("\r\n") == ['  5 %  {"at":"door"}', '{"at":"stairs"}', '"arrived"', ""]

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_signal(self, number: int, code: int, way: Way) -> None:
        """Ctrl-C ends it without a word."""
        begun = way.service.log().count("waiting")
        with started("call", "porter", "wait", "--timeout", "1000", *way.options) as command:
            until(lambda: way.service.log().count("waiting") > begun)
            assert command.stop(number) == code
            assert command.log() == ""

    def test_ignored_signal(self, by_redis: Way) -> None:
        """A SIGINT that is ignored, as in a shell's background, stays so."""
        begun = by_redis.service.log().count("waiting")
        words = [str(RPISERVE), "call", "porter", "wait", "--timeout", "1000", *by_redis.options]
        process = subprocess.Popen(["sh", "-c", "trap '' INT; exec \"$@\"", "sh", *words], env=environment())
        until(lambda: by_redis.service.log().count("waiting") > begun)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 143


class TestUnreachable:
    @pytest.mark.parametrize("command", [("call", "a", "b"), ("publish", "a"), ("listen", "a")], ids=lambda it: it[0])
    @pytest.mark.parametrize(("option", "scheme"), [("--redis", "redis"), ("--url", "http")])
    def test_nothing_there(self, option: str, scheme: str, command: tuple[str, ...]) -> None:
        """Where nothing listens, it is exit code 5 and a line with the address."""
        port = free_port()
        code, text = failure(*command, option, f"{scheme}://{HOST}:{port}")
        assert code == 5
        assert f"{HOST}:{port}" in text
        assert "refused" in text

    def test_lost_meanwhile(self, tmp_path: Path) -> None:
        """If Redis goes while a reply is waited for, it is exit code 5."""
        with (
            RedisServer() as server,
            running_daemon(tmp_path, SERVICE, "--redis", server.url) as service,
            started("call", "porter", "wait", "--timeout", "1000", "--redis", server.url) as command,
        ):
            service.wait_for("waiting")
            server.kill()
            assert command.wait() == 5
            assert "whether it was done is not known" in command.log()

    def test_daemon_without_redis(self, tmp_path: Path) -> None:
        """A daemon that has lost its bus is exit code 5, too."""
        with running_daemon(tmp_path, SERVICE, "--redis", f"redis://{HOST}:{free_port()}") as service:
            assert failure("call", "porter", "echo", "--url", service.url)[0] == 5
            assert failure("publish", "a", "--url", service.url)[0] == 5


class TestPublishAndListen:
    def test_names_and_patterns(self, way: Way) -> None:
        """What is published to a name or a pattern is shown, with its channel, and counted."""
        with started("listen", "cli.one", "cli.more.*", *way.options) as listener:
            until(lambda: way.publish("cli.one", '{"n": 1}'))
            assert way.publish("cli.more.a", '{"n": 2}') == 1
            assert way.publish("cli.other", "{}") == 0
            listener.wait_for(r'^cli\.one {"n":1}\n(.*\n)*cli\.more\.a {"n":2}$')
            assert listener.stop(signal.SIGINT) == 130
            assert "rpiserve:" not in listener.log()

    def test_count(self, way: Way) -> None:
        """After so many messages as --count says, it ends by itself."""
        with started("listen", "cli.count", "--count", "2", *way.options) as listener:
            until(lambda: way.publish("cli.count", '{"n": 1}'))
            way.publish("cli.count", '{"n": 2}')
            assert listener.wait() == 0
            assert listener.log() == 'cli.count {"n":1}\ncli.count {"n":2}\n'

    def test_nobody_reads(self, way: Way) -> None:
        """If nobody reads its output any more, it ends without a word."""
        reading, writing = os.pipe()
        with open(writing, "wb") as output:
            listener = subprocess.Popen(
                [RPISERVE, "listen", "cli.pipe", *way.options],
                env=environment(),
                stdout=output,
                stderr=subprocess.PIPE,
                encoding="utf-8",
            )
        os.close(reading)
        with listener:
            until(lambda: way.publish("cli.pipe", "{}") == 0 and listener.poll() is not None)
            assert listener.stderr is not None
            assert (listener.returncode, listener.stderr.read()) == (0, "")

    def test_no_object(self, redis_server: RedisServer) -> None:
        """What is no JSON object is left out, with a line that says so."""
        with started("listen", "cli.broken", "--count", "1", "--redis", redis_server.url) as listener:
            until(lambda: redis_server.command("PUBLISH", "cli.broken", "\x1b[2J"))
            redis_server.command("PUBLISH", "cli.broken", '{"ok": "\x9b2J"}'.encode())
            assert listener.wait() == 0
            log = listener.log()
        assert "rpiserve: a message on cli.broken is left out: it is no JSON object" in log
        assert log.endswith('cli.broken {"ok":"\\u009b2J"}\n')
        assert "\x1b" not in log

    def test_redis_comes_back(self) -> None:
        """A loss of Redis is said, and so is its return, from which on messages are shown again."""
        with RedisServer() as server, started("listen", "a", "b*", "--redis", server.url) as listener:
            until(lambda: server.command("PUBLISH", "a", "{}"))
            server.kill()
            listener.wait_for(r"^rpiserve: Redis at \S+: the connection was lost; what is sent meanwhile is missed$")
            server.start()
            listener.wait_for(r"^rpiserve: Redis at \S+ is connected again$")
            assert server.command("PUBLISH", "bb", '{"n":2}') == 1
            listener.wait_for(r'^bb {"n":2}$')

    def test_daemon_comes_back(self, tmp_path: Path) -> None:
        """A loss of the daemon is said, and so is its return, from which on messages are shown again."""
        port = str(free_port())
        with running_daemon(tmp_path, SERVICE, port=port) as service:
            url = service.url
            process = started("listen", "cli.back", "--url", url)
            listener = process.__enter__()
            until(lambda: Way(service, "--url", url).publish("cli.back", "{}"))
        try:
            listener.wait_for(rf"^rpiserve: {url}: the connection was lost.*; what is sent meanwhile is missed$")
            with running_daemon(tmp_path, SERVICE, port=port) as service:
                listener.wait_for(rf"^rpiserve: {url} is connected again$")
                assert Way(service, "--url", url).publish("cli.back", '{"n":2}') == 1
                listener.wait_for(r'^cli.back {"n":2}$')
        finally:
            process.__exit__(None, None, None)


class TestSecrets:
    def test_password(self, tmp_path: Path) -> None:
        """A password opens Redis by the variable or by a file, and is never shown, nor is a wrong one."""
        good, wrong = tmp_path / "good", tmp_path / "wrong"
        good.write_text(f"{PASSWORD}\n")
        wrong.write_text(f"{PASSWORD}-not\n")
        with RedisServer(password=PASSWORD) as server:
            secret = server.url.replace("://", f"://:{PASSWORD}@")
            assert outcome("publish", "a", RPISERVE_REDIS=secret) == (0, "0\n", "")
            by_file = ("publish", "a", "--redis", server.url, "--redis-password-file")
            assert outcome(*by_file, str(good)) == (0, "0\n", "")
            for code, text in (
                failure(*by_file, str(wrong)),
                failure("publish", "a", "--redis", server.url),
                failure("publish", "a", RPISERVE_REDIS=secret.replace("@", "-not@")),
            ):
                assert code == 5
                assert PASSWORD not in text
            code, text = failure("publish", "a", "--redis", secret)
            assert code == 2
            assert "ps shows it" in text
            assert PASSWORD not in text

    def test_certificates(self, tmp_path: Path) -> None:
        """A file of certificates that is none is exit code 2."""
        (tmp_path / "ca.pem").write_text("none")
        options = ("--redis", f"rediss://{HOST}", "--redis-ca", str(tmp_path / "ca.pem"))
        code, text = failure("publish", "a", *options)
        assert code == 2
        assert "there is no certificate in it" in text

    def test_token(self) -> None:
        """The token goes with the request, and is not shown when it is refused."""
        with socket.create_server((HOST, 0)) as server:
            url = f"http://{HOST}:{server.getsockname()[1]}"
            asked: list[bytes] = []

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    asked.append(connection.recv(10_000))
                    body = json.dumps({"status": 401, "title": "Unauthorized", "detail": "who are you?"}).encode()
                    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/problem+json\r\n")
                    connection.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

            thread = threading.Thread(target=answer)
            thread.start()
            try:
                assert failure("publish", "a", "--url", url, RPISERVE_TOKEN=PASSWORD) == (6, "who are you?")
            finally:
                thread.join(PATIENCE)
        assert f"\r\nAuthorization: Bearer {PASSWORD}\r\n".encode() in asked[0]


class TestUsage:
    def test_help(self) -> None:
        """The help tells the commands, where to, and the exit codes."""
        code, output, errors = outcome("--help")
        assert (code, errors) == (0, "")
        assert all(word in output for word in ("call", "publish", "listen", "RPISERVE_URL", "RPISERVE_REDIS"))
        assert all(f"\n    {number} " in output for number in (0, 1, 2, 3, 4, 5, 6, 130))

    def test_no_target(self) -> None:
        """Without an address it is exit code 2, and the line says what to give."""
        code, text = failure("call", "a", "b")
        assert code == 2
        assert "--redis redis://" in text
        assert "--url http://" in text

    def test_variables(self, way: Way) -> None:
        """The address may stand in a variable."""
        option, url = way.options
        code, output, errors = outcome("call", "porter", "echo", **{f"RPISERVE_{option[2:].upper()}": url})
        assert (code, output, errors) == (0, "{}\n", "")

    def test_full_disk(self, way: Way) -> None:
        """Output that cannot be written is one line, and no success."""
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [RPISERVE, "call", "porter", "echo", *way.options],
                env=environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                timeout=PATIENCE,
                check=False,
            )
        assert done.returncode == 1
        assert done.stderr == "rpiserve: standard output: No space left on device\n"
