"""A real Redis server for the tests: a process of its own on loopback, ended by its process id.

with RedisServer() as server:
    connect_to(server.url)                      # redis://127.0.0.1:PORT, no other process uses the port
    server.kill()                               # SIGKILL; `stop` is SIGTERM, `start` brings it back on the same port
    server.freeze()                             # SIGSTOP; `thaw` is SIGCONT
    assert server.command("PING") == "PONG"     # over a connection of its own

The fixture `redis_server` is one that tests share. A test module has it after this::

    from redis_server import shared_redis_server  # noqa: F401 - the fixture redis_server
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import pytest
from daemon import PATIENCE, Daemon

READY = "(?i)ready to accept connections"
HOST = "127.0.0.1"
PORTS = range(10240, 32768)
"""Below those that the system gives to outgoing connections: one of these would keep a server from coming back."""


class RedisError(Exception):
    """The server has answered with an error."""


def redis_binary() -> Path:
    """Return the program ``redis-server``: the one beside Python, or else the one on the path."""
    beside = Path(sys.executable).with_name("redis-server")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("redis-server")
    if found is None:
        raise FileNotFoundError("there is no redis-server, neither beside Python nor on the path: make test gets one")
    return Path(found)


class RedisServer:
    """A process that runs a Redis server, from the beginning of a ``with`` block to its end. It keeps nothing on disk.

    Args:
        unix: whether to listen at a unix socket instead of a port.
        password: the password of its default user.
        options: further ones, such as ``"--maxclients", "10"``.

    Attributes:
        url: where it is, without the password.
        port: its TCP port; 0 for a unix socket.
        path: its unix socket; empty for a port.
        process: the process; a new one after each `start`.
    """

    process: subprocess.Popen[str]

    def __init__(
        self,
        *,
        unix: bool = False,
        password: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.port, self.path = 0, ""
        self.password = password
        self._unix = unix
        self._options = tuple(options)
        self._folder = ""
        self._daemon: Daemon | None = None

    @property
    def url(self) -> str:
        """Where it is, without the password."""
        return f"unix://{self.path}" if self._unix else f"redis://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._folder = tempfile.mkdtemp(prefix="redis-")
        if self._unix:
            self.path = f"{self._folder}/socket"
        else:
            self.port = free_port()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, where it was before, and wait until it can be connected to."""
        self.process = subprocess.Popen(
            [str(redis_binary()), *self._arguments()],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        self._daemon = Daemon(self.process)
        self._daemon.wait_for(READY)

    def _arguments(self) -> list[str]:
        place = ["--unixsocket", self.path, "--port", "0"] if self._unix else ["--port", str(self.port), "--bind", HOST]
        password = [] if self.password is None else ["--requirepass", self.password]
        return [*place, "--save", "", "--appendonly", "no", "--dir", self._folder, *password, *self._options]

    def log(self) -> str:
        """Return all that it has written since it was started last."""
        return "" if self._daemon is None else self._daemon.log()

    def kill(self) -> None:
        """End it at once, as a crash would, and wait for its end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in an orderly way, if it is there, and wait for its end."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._daemon is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.send_signal(signal.SIGCONT)  # a frozen one would not hear of it
        try:
            self._daemon.wait()
        finally:
            self._daemon.close()

    def freeze(self) -> None:
        """Stop it as it is: its connections stay, and nothing is answered. Returns once that is so."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def command(self, *words: str | bytes | int) -> Any:
        """Run a command over a connection of its own, and return the reply: a str, bytes, an int, None or a list.

        Raises:
            RedisError: the server has answered with an error.
        """
        with socket.socket(socket.AF_UNIX if self._unix else socket.AF_INET) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(self.path if self._unix else (HOST, self.port))
            with connection.makefile("rb") as replies:
                if self.password is not None:
                    connection.sendall(_encoded(["AUTH", self.password]))
                    _reply(replies)
                connection.sendall(_encoded(words))
                return _reply(replies)


def free_port() -> int:
    """Return a TCP port of loopback that nobody uses, and that no outgoing connection will be given."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as candidate:
            try:
                candidate.bind((HOST, port))
            except OSError:
                continue
            return port
    raise OSError(f"no port is free among the 100 tried of {PORTS}")


def _encoded(words: Sequence[str | bytes | int]) -> bytes:
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n%b" % (len(parts), b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))


def _reply(replies: BinaryIO) -> Any:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server has closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        raise RedisError(rest.decode())
    if kind == b":":
        return int(rest)
    assert kind in b"$*", line
    length = int(rest)
    if length < 0:
        return None
    if kind == b"*":
        return [_reply(replies) for _ in range(length)]
    return replies.read(length + 2)[:-2]


@pytest.fixture(scope="session", name="redis_server")
def shared_redis_server() -> Iterator[RedisServer]:
    """A server that tests share: each of them uses channels and keys of its own, and leaves it running."""
    with RedisServer() as server:
        yield server
