"""Who may reach us: the addresses that we listen on, and the names that we answer to."""

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[\w.-]+)(?::[0-9]{0,5})?", re.ASCII)


def is_loopback(address: object) -> bool:
    """Tell whether ``address``, as a listening port or a transport has it, can only be reached from this machine."""
    if isinstance(address, UNIXAddress):
        return True
    if isinstance(address, IPv4Address | IPv6Address):
        return is_loopback_ip(address.host)
    return False


def is_loopback_ip(host: str) -> bool:
    """Tell whether ``host`` is a loopback IP address; an IPv4 address inside IPv6 counts as what it is."""
    ip = _ip(host)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip is not None and ip.is_loopback


def network_of(host: str) -> str:
    """Return what stands for whoever has the address ``host``: itself, or the /64 that an IPv6 address is in.

    Each customer of a provider has at least a /64, and may use as many addresses of it as there are.
    """
    ip = _ip(host.partition("%")[0])
    if not isinstance(ip, ipaddress.IPv6Address):
        return host
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, 64), strict=False))


class HostAllowlist:
    """The values of ``Host`` that we answer to.

    A page on the web can have its own name resolve to our address (DNS rebinding), and a browser then takes us for the
    page's own server. It cannot make the browser send another ``Host`` than that name. So IP addresses are allowed,
    ``localhost``, the machine's own name, and what the user adds; nothing else is.

    Args:
        machine: the machine's host name, with or without its domain.
        extra: further names.
    """

    def __init__(self, machine: str, extra: Iterable[str] = ()) -> None:
        short = machine.split(".")[0]
        self._names = {name.lower() for name in ("localhost", machine, short, f"{short}.local", *extra) if name}

    def permits(self, header: str) -> bool:
        """Tell whether a request with this value of ``Host`` (a name or an address, perhaps with a port) is for us."""
        match = _HOST.fullmatch(header)
        if match is None:
            return False
        host = match["host"]
        if host.startswith("["):
            return isinstance(_ip(host[1:-1]), ipaddress.IPv6Address)
        return host.lower().removesuffix(".") in self._names or isinstance(_ip(host), ipaddress.IPv4Address)


@lru_cache(maxsize=256)  # each request brings the same few
def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
