"""The host names that the server answers to."""

import ipaddress
import re
from collections.abc import Iterable

from rpiserve.web.server.addresses import ip_of

_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[\w.-]+)(?::[0-9]{0,5})?", re.ASCII)


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
            return isinstance(ip_of(host[1:-1]), ipaddress.IPv6Address)
        return host.lower().removesuffix(".") in self._names or isinstance(ip_of(host), ipaddress.IPv4Address)
