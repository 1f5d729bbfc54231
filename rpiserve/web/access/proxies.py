"""Reverse proxies that we trust: a request that comes by one is seen as its client sent it.

What a proxy says of the client stands in headers, which any client could send as well. So they count only if the
connection comes from an address that the user has named, and are taken out of the request as soon as they are read.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final, Protocol

from twisted.internet.address import UNIXAddress
from twisted.web.http_headers import Headers

from rpiserve.errors import ConfigError

UNIX: Final = "unix"
"""Stands for whoever reaches our unix socket."""

FORWARDED: Final = (b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Real-IP", b"Via")
"""What a reverse proxy puts into a request. It comes to us by loopback, but it came to the proxy from anywhere."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Proxied(Protocol):
    """What a request has to be told of."""

    requestHeaders: Headers
    client_host: str | None
    secure: bool
    proxied: bool


class TrustedProxies:
    """The proxies that are trusted.

    Args:
        names: their addresses, networks such as ``10.0.0.0/8``, and `UNIX`.

    Raises:
        ConfigError: one is none of these.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._unix = False
        self._networks: list[Network] = []
        for name in names:
            if name == UNIX:
                self._unix = True
                continue
            try:
                self._networks.append(ipaddress.ip_network(name))
            except ValueError:
                raise ConfigError(
                    f"--trusted-proxy {name}: it is an address, a network such as 10.0.0.0/8, or {UNIX}"
                ) from None

    def translate(self, request: Proxied, peer: object) -> None:
        """See ``request``, if it has come by a trusted proxy, which ``peer`` is then, as its client sent it."""
        headers = request.requestHeaders
        if not (self._trusts(peer) and is_forwarded(headers)):
            return
        hops = b",".join(headers.getRawHeaders(b"X-Forwarded-For") or []).decode("latin-1").split(",")
        request.client_host = self._client(hops) or request.client_host
        request.secure = _last(headers, b"X-Forwarded-Proto") == b"https"
        host = _last(headers, b"X-Forwarded-Host")
        if host is not None:
            headers.setRawHeaders(b"Host", [host])
        for name in FORWARDED:
            headers.removeHeader(name)
        request.proxied = True

    def _trusts(self, peer: object) -> bool:
        if isinstance(peer, UNIXAddress):
            return self._unix
        address = _address(getattr(peer, "host", ""))
        return address is not None and self._has(address)

    def _has(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def _client(self, hops: list[str]) -> str | None:
        """Return the nearest hop that is no trusted proxy: those before it may be anybody's invention."""
        for hop in reversed(hops):
            address = _address(hop.strip())
            if address is None:
                return None
            if not self._has(address):
                return str(address)
        return None


NO_PROXIES: Final = TrustedProxies(())


def is_forwarded(headers: Headers) -> bool:
    """Tell whether a request with ``headers`` has come by a proxy that is not trusted."""
    return any(headers.hasHeader(name) for name in FORWARDED)


def _last(headers: Headers, name: bytes) -> bytes | None:
    values = headers.getRawHeaders(name) or []
    # In a list the last one is of the proxy that we trust; those before it are of whoever has sent the request to that.
    return values[-1].split(b",")[-1].strip() if values else None


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])  # what is behind it may be any text, and goes into logs
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
