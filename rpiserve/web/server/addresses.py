"""IP addresses: which are this machine's own, and which count as one client."""

import ipaddress
from functools import lru_cache

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress


def is_loopback(address: object) -> bool:
    """Tell whether ``address``, as a listening port or a transport has it, can only be reached from this machine."""
    if isinstance(address, UNIXAddress):
        return True
    if isinstance(address, IPv4Address | IPv6Address):
        return is_loopback_ip(address.host)
    return False


def is_loopback_ip(host: str) -> bool:
    """Tell whether ``host`` is a loopback IP address; an IPv4 address inside IPv6 counts as what it is."""
    ip = ip_of(host)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip is not None and ip.is_loopback


def network_of(host: str) -> str:
    """Return what stands for whoever has the address ``host``: itself, or the /64 that an IPv6 address is in.

    Each customer of a provider has at least a /64, and may use as many addresses of it as there are.
    """
    ip = ip_of(host.partition("%")[0])
    if not isinstance(ip, ipaddress.IPv6Address):
        return host
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, 64), strict=False))


@lru_cache(maxsize=256)  # each request brings the same few
def ip_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the IP address that ``text`` is; None if it is not one."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
