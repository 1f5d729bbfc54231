"""Where the server listens, where it refuses to, and what it says when it cannot."""

import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from http_peer import make_site, request
from twisted.internet import reactor as global_reactor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from rpiserve.errors import StartError
from rpiserve.web.server.listener import WebServer, describe, endpoint_for

reactor: Any = global_reactor


class Port:
    """A listening port in memory."""

    def __init__(self, address: Any) -> None:
        self.address = address
        self.listens = True

    def getHost(self) -> Any:
        return self.address

    def stopListening(self) -> Deferred[None]:
        self.listens = False
        return succeed(None)


class Endpoint:
    """An endpoint that answers with ``outcome``."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome

    def listen(self, factory: Any) -> Any:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def make_server(endpoint: Any, name: str = "the endpoint", open: bool = False) -> WebServer:
    """Return a server that listens at ``endpoint``."""
    return WebServer(make_site(Clock()), endpoint, name, open)


def on(host: str) -> Port:
    """Return a port that listens on the address ``host``."""
    return Port((IPv6Address if ":" in host else IPv4Address)("TCP", host, 8080))


Listen = Callable[..., WebServer]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Make servers listen, for real, and close them at the end."""
    servers: list[WebServer] = []

    def listen(port: int | str, host: str = "127.0.0.1", open: bool = False) -> WebServer:
        server = WebServer(make_site(Clock()), endpoint_for(reactor, port, host), f"{host} port {port}", open)
        server.listen()
        servers.append(server)
        return server

    yield listen
    for server in servers:
        pytest_twisted.blockon(server.stop_listening())


def port_of(server: WebServer) -> Any:
    """Return the listening port of ``server``."""
    assert server._port is not None
    return server._port


# --- where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "kind"), [("127.0.0.1", TCP4ServerEndpoint), ("::1", TCP6ServerEndpoint)])
def test_ports(host: str, kind: type) -> None:
    """A number is a TCP port on the host, which may be an IPv6 address."""
    assert isinstance(endpoint_for(MemoryReactorClock(), 8080, host), kind)


def test_descriptions() -> None:
    """A text is a description of an endpoint, as Twisted has it."""
    memory = MemoryReactorClock()
    endpoint_for(memory, "tcp:8081:interface=127.0.0.2", "").listen(make_site(Clock()))
    assert memory.tcpServers[0][0] == 8081
    assert memory.tcpServers[0][3] == "127.0.0.2"


@pytest.mark.parametrize("port", ["nonsense:1", "tcp:", "tcp:http", "tcp:1:2:3:4", ":", "unix:a:mode=worldwide"])
def test_no_endpoint(port: str) -> None:
    """What is no endpoint is an error that names the option and what was given."""
    with pytest.raises(StartError, match=r"^--port .*no endpoint"):
        endpoint_for(MemoryReactorClock(), port, "")


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (IPv4Address("TCP", "127.0.0.1", 80), "http://127.0.0.1:80"),
        (IPv6Address("TCP", "::1", 80), "http://[::1]:80"),
        (UNIXAddress(b"/run/app.sock"), "unix:/run/app.sock"),
        (UNIXAddress(None), "unix:None"),
    ],
)
def test_addresses_as_text(address: Any, text: str) -> None:
    """An address is shown as a person would write it."""
    assert describe(address) == text


# --- beyond this machine ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
def test_beyond_this_machine(host: str) -> None:
    """An address that others can reach is refused, with what to do about it, and is not left open; --open takes it."""
    port = on(host)
    with pytest.raises(StartError, match=r"can be reached from other machines.*--open if you mean it") as caught:
        make_server(Endpoint(succeed(port))).listen()
    assert host in str(caught.value)
    assert not port.listens
    opened = on(host)
    make_server(Endpoint(succeed(opened)), open=True).listen()
    assert opened.listens


@pytest.mark.parametrize("port", [on("127.0.0.1"), on("127.0.0.9"), on("::1"), Port(UNIXAddress(b"x"))])
def test_on_this_machine(port: Port) -> None:
    """Loopback addresses and unix sockets are fine."""
    make_server(Endpoint(succeed(port))).listen()
    assert port.listens


def test_judged_by_what_is_bound(listen: Listen) -> None:
    """A real port on all addresses is refused, however it was asked for."""
    for port in ("tcp:0", "tcp:0:interface=0.0.0.0", r"tcp6:0:interface=\:\:"):
        with pytest.raises(StartError, match="can be reached from other machines"):
            listen(port)
    with pytest.raises(StartError, match=r"http://0\.0\.0\.0:"):
        listen(0, "0.0.0.0")
    assert port_of(listen(0, "localhost")).getHost().host == "127.0.0.1"
    assert port_of(listen(0, "0.0.0.0", open=True)).getHost().host == "0.0.0.0"


# --- what can go wrong -----------------------------------------------------------------------------------------------


def test_port_is_taken(listen: Listen) -> None:
    """A port that is taken is an error that says so, and what to do."""
    taken = port_of(listen(0)).getHost().port
    with pytest.raises(StartError, match=f"^cannot listen on 127.0.0.1 port {taken}: it is in use; .*--port"):
        listen(taken)


def test_address_is_not_ours(listen: Listen) -> None:
    """So is an address that the machine has not; it says what the system says."""
    with pytest.raises(StartError, match=r"^cannot listen on 192\.0\.2\.1 port 0: Cannot assign requested address$"):
        listen(0, "192.0.2.1")


def test_no_such_host(listen: Listen) -> None:
    """So is a host that is no address."""
    with pytest.raises(StartError, match=r"^cannot listen on no\.such\.host\.invalid port 0: "):
        listen(0, "no.such.host.invalid")


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (fail(CannotListenError("x", 1, OSError(13, "Permission denied"))), "Permission denied"),
        (fail(CannotListenError("x", 1, OSError("odd"))), "odd"),
        (fail(CannotListenError("x", 1, "Cannot acquire lock")), "Cannot acquire lock"),
        (fail(ValueError("odd")), "odd"),
        (ValueError("odd"), "odd"),
        (Deferred(), "the endpoint takes its time"),
    ],
)
def test_reasons(outcome: Any, reason: str) -> None:
    """Whatever an endpoint answers, if anything, becomes one line."""
    with pytest.raises(StartError, match=f"^cannot listen on the endpoint: {reason}$"):
        make_server(Endpoint(outcome)).listen()


def test_stopping_what_never_listened() -> None:
    """A server that does not listen can be told to stop."""
    assert make_server(Endpoint(None)).stop_listening().called


# --- unix sockets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rest", "mode"), [("", 0o600), (":mode=660", 0o660), (":lockfile=0", 0o600)])
def test_mode_of_a_unix_socket(listen: Listen, tmp_path: Path, rest: str, mode: int) -> None:
    """A unix socket is for its owner alone, unless the description says otherwise."""
    path = tmp_path / "socket"
    listen(f"unix:{path}{rest}")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_ISSOCK(path.stat().st_mode)


def test_unix_socket_that_was_left(listen: Listen, tmp_path: Path) -> None:
    """A socket that a killed daemon left behind is replaced; one that is in use is an error."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    os.symlink("999999999", f"{path}.lock")
    listen(f"unix:{path}")
    with pytest.raises(StartError, match=r"cannot listen on .*socket"):
        listen(f"unix:{path}")


@pytest_twisted.inlineCallbacks
def test_request_over_a_unix_socket(listen: Listen, tmp_path: Path) -> Any:
    """A request over a unix socket is answered as any other."""
    from twisted.internet.endpoints import UNIXClientEndpoint
    from twisted.internet.protocol import Factory, Protocol

    class Reader(Protocol):
        def connectionMade(self) -> None:
            self.data, self.done = b"", Deferred[bytes]()
            assert self.transport is not None
            self.transport.write(request("/health", "GET", "Connection: close"))

        def dataReceived(self, data: bytes) -> None:
            self.data += data

        def connectionLost(self, reason: Any = None) -> None:
            self.done.callback(self.data)

    path = tmp_path / "socket"
    listen(f"unix:{path}")
    reader = yield UNIXClientEndpoint(reactor, str(path)).connect(Factory.forProtocol(Reader))
    data = yield reader.done.addTimeout(30, reactor)
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.endswith(b'{"status":"ok"}')
