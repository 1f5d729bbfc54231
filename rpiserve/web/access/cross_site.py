"""Whether a request that changes something was sent by who it seems to be sent by.

Any page on the web can make its reader's browser send us a ``GET``, or a ``POST`` with a plain body. It cannot keep the
browser from saying so, in ``Origin`` or ``Sec-Fetch-Site`` (W3C Fetch Metadata). But browsers say neither with an image
that a page loads from a plain-HTTP address other than loopback. So beyond loopback a ``GET`` may change nothing unless
it carries a trustworthy ``Sec-Fetch-Site``, or the user has allowed it. Loopback is what the browser takes for it: by
the names ``0.0.0.0`` and ``pi`` a page may well reach 127.0.0.1, and nothing is said.
"""

import re
from urllib.parse import urlsplit

from twisted.internet.address import UNIXAddress

from rpiserve.declare.cors import CorsPolicy
from rpiserve.web.access.proxies import is_forwarded
from rpiserve.web.problems import Problem
from rpiserve.web.server.addresses import is_loopback
from rpiserve.web.server.request import LimitedRequest

TRUSTED_SITES = ("same-origin", "none")
"""The values of ``Sec-Fetch-Site`` of our own pages, and of what a person typed into the address bar."""

# Of the W3C's Secure Contexts, section 3.1. That it is an address if it looks like one has been checked before.
_LOOPBACK_HOST = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]*)?", re.IGNORECASE)


class CrossSiteCheck:
    """The rules for requests that change something.

    Args:
        open: whether anybody is let in who can reach us.
        get_commands: whether the user allows a ``GET`` beyond loopback to run commands.
        cors: which pages of other origins may do what, if any may.
    """

    def __init__(self, open: bool, get_commands: bool, cors: CorsPolicy | None = None) -> None:
        self._open = open
        self._get_commands = get_commands
        self._cors = cors

    def check(self, request: LimitedRequest, method: str | None = None) -> None:
        """Check a request by a method that a page can use only in full view of its browser.

        Args:
            request: the request.
            method: the method that a page of another origin needs to be allowed; the request's own by default.

        Raises:
            Problem: 403, it comes from a page of another origin that may not use that method.
        """
        origin, host = request.header(b"Origin"), request.header(b"Host")
        if origin is not None and not _is_own(origin, host or ""):
            if self._cors is not None and self._cors.allows(origin, method or request.method.decode("latin-1")):
                return
            known = self._cors is not None and self._cors.knows(origin)
            hint = "--cors-method names what they may" if known else "--cors-origin names those that may"
            raise Problem(403, f"a page from {origin[:100]} may not do that; {hint}")
        if _site(request) not in (None, *TRUSTED_SITES):
            raise Problem(403, "a page from another site may not do that")

    def check_get(self, request: LimitedRequest) -> None:
        """Check a ``GET`` that changes something.

        Raises:
            Problem: 403, it comes from a page of another origin, or may well do so.
        """
        self.check(request, "POST")
        # A page cannot add a token to an image, and no browser sends the cookie of a session for another site's page.
        if self._get_commands or request.is_authenticated or _is_by_loopback(request):
            return
        if self._open or _site(request) is None:
            raise Problem(403, "use POST; beyond this machine GET runs commands only with --get-commands")


def _is_by_loopback(request: LimitedRequest) -> bool:
    if request.proxied or is_forwarded(request.requestHeaders):
        return False
    if isinstance(request.host, UNIXAddress):  # where no browser goes
        return True
    return is_loopback(request.host) and _LOOPBACK_HOST.fullmatch(request.header(b"Host") or "") is not None


def _site(request: LimitedRequest) -> str | None:
    site = request.header(b"Sec-Fetch-Site")
    return None if site is None else site.strip().lower()


def _is_own(origin: str, host: str) -> bool:
    """Tell whether ``origin`` is a page of ours. The scheme does not count: a proxy may have put TLS before us."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.strip().lower()
