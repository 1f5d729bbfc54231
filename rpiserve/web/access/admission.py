"""What each request has to pass, before anything acts on it, in this order.

1. **Trusted proxies**: the request is seen as its client sent it. First of all, since a body of more than 64 KiB is
   taken only from clients that have shown a token, if there are tokens; a smaller one has arrived before step 2.
2. **CORS headers**: on errors as well, or a page could not read why it was refused.
3. **Framing**: one of each header that says who sends a request from where, and a method in capital letters. What is
   not HTTP at all was refused by the connection before.
4. **Host**: a name that this server answers to.
5. **Preflight**: answered here; it reaches no route.
6. **Path**: decoded and checked, not looked up.
7. **Role**, with the limit for wrong tokens. That there is no such path or method is said after it, so that strangers
   learn no routes of the app.
8. **Cross-site check**, of whatever changes state.
9. **Body**: checked and read by the endpoint.

`Admission.admit` does 2 to 6; the router then finds the rule and has `Admission.authorize` do 7 and 8.
"""

from collections.abc import Mapping
from typing import Final

from rpiserve.declare.cors import CorsPolicy
from rpiserve.web.access.authorization import Authorizer
from rpiserve.web.access.cross_site import CrossSiteCheck
from rpiserve.web.access.hosts import HostAllowlist
from rpiserve.web.access.proxies import TrustedProxies
from rpiserve.web.endpoint_declaration import AccessRule, CrossSite
from rpiserve.web.problems import Problem
from rpiserve.web.server.request import JSON, LimitedRequest
from rpiserve.web.server.request_target import segments_of, split_absolute

SINGLE: Final = (b"Authorization", b"Origin", b"Sec-Fetch-Site")
"""Headers that say who sends a request from where: of two, a proxy may have looked at the other one."""


class Admission:
    """The pipeline in front of every endpoint and every route of the app.

    Args:
        hosts: the names that the server answers to.
        proxies: the proxies that are trusted to say who a client is.
        cors: which pages of other origins may see answers; None for no page.
        access: who may do what.
        cross_site: the check of requests that change state.
    """

    def __init__(
        self,
        hosts: HostAllowlist,
        proxies: TrustedProxies,
        cors: CorsPolicy | None,
        access: Authorizer,
        cross_site: CrossSiteCheck,
    ) -> None:
        self._hosts = hosts
        self._proxies = proxies
        self._cors = cors
        self._access = access
        self._cross_site = cross_site

    def translate(self, request: LimitedRequest, peer: object) -> None:
        """See ``request``, whose head has arrived from ``peer``, as its client sent it to a trusted proxy."""
        self._proxies.translate(request, peer)

    def check_sender(self, request: LimitedRequest) -> None:
        """Let ``request``, whose head has arrived, go on with a large body.

        Raises:
            Problem: 401 or 429, it has to show a token first.
        """
        self._access.check_token(request)

    def headers(self, request: LimitedRequest | None) -> Mapping[str, str]:
        """Return the headers that an answer gets whatever it is; None if there is no request to answer."""
        if self._cors is None:
            return {}
        return self._cors.headers(None if request is None else request.header(b"Origin"))

    def admit(self, request: LimitedRequest) -> bool:
        """Admit ``request``, and set its `postpath` to the canonical segments of its path.

        Returns:
            False if it was a preflight, which is answered.

        Raises:
            Problem: 400 for a malformed request, 404 for a path with an empty segment, 421 for a foreign host name.
        """
        request.set_headers(self.headers(request))
        hosts = request.requestHeaders.getRawHeaders(b"Host") or []
        if len(hosts) != 1:
            raise Problem(400, "a request has one Host header")
        for name in SINGLE:
            if len(request.requestHeaders.getRawHeaders(name) or ()) > 1:
                raise Problem(400, f"a request has one {name.decode()} header")
        if request.method != request.method.upper():  # Klein takes "get" for "GET"
            raise Problem(400, "a method is written in capital letters")
        path = request.path
        if not path.startswith(b"/"):  # RFC 9112, section 3.2.2: its authority stands in place of Host
            authority, path = split_absolute(path)
            self._check_host(authority)
        self._check_host(hosts[0])
        if self._answer_preflight(request):
            return False
        request.prepath, request.postpath = [], segments_of(path)
        return True

    def authorize(self, request: LimitedRequest, rule: AccessRule) -> None:
        """Let ``request`` do what ``rule`` is for.

        Raises:
            Problem: 401, 403 or 429; for a page that a person has asked for, 303 to the login form.
        """
        self._access.require(request, rule.role)
        if rule.cross_site is CrossSite.CHECK:
            self._cross_site.check(request)
        elif rule.cross_site is CrossSite.CHECK_GET:
            self._cross_site.check_get(request)

    def _check_host(self, host: bytes) -> None:
        if not self._hosts.permits(host.decode("latin-1")):
            raise Problem(421, "this server does not answer to that name; --allowed-host NAME adds one, if it is yours")

    def _answer_preflight(self, request: LimitedRequest) -> bool:
        """Answer ``request`` if a browser asks by it what a page of another origin may do; return whether it does."""
        origin, method = request.header(b"Origin"), request.header(b"Access-Control-Request-Method")
        if self._cors is None or request.method != b"OPTIONS" or origin is None or method is None:
            return False
        asked = request.header(b"Access-Control-Request-Headers") or ""
        request.set_headers(self._cors.preflight(origin, method, asked))
        request.end_with(request.answer(204, JSON, b"", {}))
        return True
