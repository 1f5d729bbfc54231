"""Who may reach us: which addresses count as this machine, and which values of Host are for us."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress

from rpiserve.web.access.hosts import HostAllowlist
from rpiserve.web.server.addresses import is_loopback, is_loopback_ip

LOOPBACK = ["127.0.0.1", "127.0.0.53", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1"]
BEYOND = [
    "0.0.0.0",
    "::",
    "192.168.1.2",
    "8.8.8.8",
    "fe80::1%eth0",
    "::ffff:192.168.1.2",
    "::ffff:0.0.0.0",
    "::127.0.0.1",
    "128.0.0.1",
    "localhost",
    "127.1",
    "0x7f000001",
    "127.0.0.1 ",
    "127.0.0.01",
    "",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback(host: str) -> None:
    """The whole of 127.0.0.0/8 is this machine, and so is ::1; IPv4 inside IPv6 is judged as what it is."""
    assert is_loopback_ip(host)
    assert is_loopback((IPv6Address if ":" in host else IPv4Address)("TCP", host, 80))


@pytest.mark.parametrize("host", BEYOND)
def test_beyond_loopback(host: str) -> None:
    """All other addresses, those that stand for all of the machine's, and what is no address, are not."""
    assert not is_loopback_ip(host)
    assert not is_loopback((IPv6Address if ":" in host else IPv4Address)("TCP", host, 80))


def test_unix_sockets() -> None:
    """A unix socket is this machine, with a name, an abstract one, or none."""
    assert is_loopback(UNIXAddress(b"/run/app.sock"))
    assert is_loopback(UNIXAddress(b"\0abstract"))
    assert is_loopback(UNIXAddress(None))


@pytest.mark.parametrize("address", [None, object(), HostnameAddress(b"localhost", 80), "127.0.0.1"])
def test_unknown_addresses(address: object) -> None:
    """What is no address that we know is not taken for this machine."""
    assert not is_loopback(address)


ALLOWED = [
    "localhost",
    "LocalHost",
    "localhost.",
    "localhost:8080",
    "localhost:",
    "greenhouse",
    "greenhouse.example.org",
    "GREENHOUSE.Example.Org.:80",
    "greenhouse.local",
    "greenhouse.local.:8080",
    "extra.example",
    "UPPER.example:1",
    "127.0.0.1",
    "127.0.0.1:80",
    "192.168.1.2:8080",
    "0.0.0.0",
    "8.8.8.8",
    "[::1]",
    "[::1]:8080",
    "[fe80::1]",
    "[FE80::ABCD]:80",
    "[fe80::1%eth0]:80",
    "[::ffff:127.0.0.1]",
]
FOREIGN = [
    "",
    " ",
    ":80",
    "evil.example",
    "localhost.evil.example",
    "evil.localhost",
    "greenhouse.local.evil.example",
    "greenhouse.evil",
    "example.org",
    "localhost..",
    ".localhost",
    "a..b",
    "..",
    "x" * 64,
    "x" * 300 + ".example",
    "localhost:80:80",
    "localhost:123456",
    "localhost:http",
    "localhost:-1",
    "localhost:٣",
    "localhost evil.example",
    "localhost,evil.example",
    "localhost/",
    "localhost/@evil.example",
    "localhost#evil.example",
    "localhost?",
    "localhost\t",
    "localhost\n",
    "localhost\x85",
    "localhost\xa0",
    "localhost\0",
    "user@localhost",
    "user:password@localhost",
    "localhost@evil.example",
    "evil.example@127.0.0.1",
    "http://localhost",
    "\uff4cocalhost",
    "localho\u017ft",
    "bücher.example",
    "127.1",
    "127.0.0.1.",
    "127.0.0.1.evil.example",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "2130706433",
    "256.0.0.1",
    "١٢٧.0.0.1",
    "::1",
    "::1:80",
    "[::1",
    "::1]",
    "[]",
    "[[::1]]",
    "[::1]evil.example",
    "[::1]]:80",
    "[::g]",
    "[localhost]",
    "[127.0.0.1]",
    "[::1%]",
    "[::1%a%b]",
    "[v1.a:b]",
    "*",
    "%6cocalhost",
]


@pytest.fixture
def hosts() -> HostAllowlist:
    """The names of a machine that knows its domain, and two more."""
    return HostAllowlist("greenhouse.example.org", ["extra.example", "upper.EXAMPLE"])


@pytest.mark.parametrize("header", ALLOWED)
def test_allowed(hosts: HostAllowlist, header: str) -> None:
    """IP addresses, localhost, the machine's name in its forms, and added names: in any case, with a port or a dot."""
    assert hosts.permits(header)


@pytest.mark.parametrize("header", FOREIGN)
def test_foreign(hosts: HostAllowlist, header: str) -> None:
    """All else is foreign, however much it looks like one of them."""
    assert not hosts.permits(header)


def test_bare_machine_name() -> None:
    """A machine that knows no domain has two names; one whose name is empty has none, and takes nobody else's."""
    hosts = HostAllowlist("pi")
    assert hosts.permits("pi")
    assert hosts.permits("pi.local")
    assert not hosts.permits("pi.lan")
    nameless = HostAllowlist("")
    assert nameless.permits("localhost")
    assert not nameless.permits("")
    assert not nameless.permits("local")


@given(st.text(st.characters(max_codepoint=255)))
def test_any_header(header: str) -> None:
    """Whatever a header holds, the answer is yes or no; and a yes is for a name of ours or an address."""
    hosts = HostAllowlist("pi")
    if hosts.permits(header):
        host = header.rpartition(":")[0] or header
        assert host.lower().removesuffix(".") in ("localhost", "pi", "pi.local") or any(c.isdigit() for c in host)


@given(st.ip_addresses(), st.none() | st.integers(0, 65535))
def test_any_address(address: object, port: int | None) -> None:
    """Every IP address is allowed, with and without a port."""
    host = f"[{address}]" if ":" in str(address) else str(address)
    assert HostAllowlist("pi").permits(host if port is None else f"{host}:{port}")
