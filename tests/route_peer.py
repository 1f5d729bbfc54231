"""A site in memory that serves an app's own routes beside the built-in ones, and a client that talks to it."""

import http.client
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, cast

import http_peer
import msgspec
from fake_pool import FakePool
from http_peer import Peer, make_admission, make_router, make_site, request
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.web.resource import IResource

from rpiserve import App
from rpiserve.core.context import DaemonScope
from rpiserve.core.runner import Runner
from rpiserve.core.threads import Job, ThreadPool
from rpiserve.core.tokens import TokenFile
from rpiserve.declare.cors import CorsPolicy
from rpiserve.web.access.authorization import Authorizer
from rpiserve.web.app_routes import AppRoutes, RootResource
from rpiserve.web.endpoints.table import reserved_names
from rpiserve.web.server.request import Limits
from rpiserve.web.server.site import LimitedSite

JSON = "Content-Type: application/json"
FORM = "Content-Type: application/x-www-form-urlencoded"
PROBLEM = "application/problem+json"


class AtOnce(FakePool):
    """Threads that do their work at once, so that an answer is there when the request has been sent."""

    def submit(self, work: Any) -> Job:
        """Do the job."""
        job = super().submit(work)
        self.end()
        return job


class RouteSite:
    """A site that serves ``app``'s routes.

    Args:
        app: the app.
        pool: the threads; by default they do their work at once.
        cors: which pages of other origins may do what.
        hosts: further names that it answers to.
        limits: what a client may ask of it.
        tokens: those that let clients in; None to let everybody in.

    Attributes:
        clock: the reactor's clock.
        pool: the threads.
        runner: what runs the handlers.
        site: the site.
    """

    def __init__(
        self,
        app: App,
        *,
        pool: FakePool | None = None,
        cors: CorsPolicy | None = None,
        hosts: Iterable[str] = (),
        limits: Limits | None = None,
        tokens: TokenFile | None = None,
    ) -> None:
        self.clock = Clock()
        self.pool = pool or AtOnce()
        daemon_scope = DaemonScope("the broadcast", "the cache")
        self.runner = Runner(self.clock, _at_once, cast(ThreadPool, self.pool), daemon_scope)
        access = Authorizer(tokens, False, self.clock)
        admission = make_admission(self.clock, hosts=hosts, cors=cors, access=access)
        routes = AppRoutes(app.routes, self.runner, admission)
        router = make_router(self.clock, admission=admission, access=access)
        front = cast(IResource, RootResource(router, routes.resource(), reserved_names()))
        self.site: LimitedSite = make_site(self.clock, resource=front, limits=limits, admission=admission)

    def send(
        self, target: str | bytes, method: str = "GET", *headers: str, body: bytes = b"", host: str = "localhost"
    ) -> Peer:
        """Send a request on a connection of its own, and return that."""
        return Peer(self.site).send(request(target, method, *headers, body=body, host=host))

    def ask(
        self, target: str | bytes, method: str = "GET", *headers: str, body: bytes = b"", host: str = "localhost"
    ) -> "Answer":
        """Send a request and return the answer, which must be there at once."""
        return read_answer(self.send(target, method, *headers, body=body, host=host).received, method)

    def post(self, target: str, value: Any, *headers: str, method: str = "POST") -> "Answer":
        """Send ``value`` as JSON, and return the answer."""
        return self.ask(target, method, JSON, *headers, body=msgspec.json.encode(value))


def _at_once(function: Any, *arguments: Any) -> None:
    function(*arguments)


class Answer(http_peer.Answer):
    """An answer as it was read. Of each header there is one."""

    @property
    def kind(self) -> str:
        """The type of the body."""
        return self.headers.get("content-type", "")

    def problem(self, status: int) -> str:
        """Check that it is a problem of this ``status`` all through, and return its detail."""
        assert (self.status, self.kind) == (status, PROBLEM), self
        problem = self.json()
        assert (problem["status"], problem["type"], problem["title"]) == (status, "about:blank", self.reason)
        if "date" in self.headers:  # else the whole connection is refused
            assert self.headers["cache-control"] == "no-store"
        assert isinstance(problem["detail"], str)
        assert isinstance(problem["code"], str)
        return str(problem["detail"])


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._data)


def read_answer(data: bytes, method: str = "GET") -> Answer:
    """Return the only answer in ``data``, which is checked for what all answers have in common."""
    head = data.partition(b"\r\n\r\n")[0]
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert b"\r" not in head.replace(b"\r\n", b"")
    response = http.client.HTTPResponse(cast(Any, _Socket(data)), method=method)
    response.begin()
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        assert name.lower() not in headers, f"the header {name} stands twice"
        headers[name.lower()] = value
    body = response.read()
    assert data == head + b"\r\n\r\n" + body, f"there is more, or less, than one answer: {data[:500]!r}"
    assert headers["x-content-type-options"] == "nosniff"
    assert "transfer-encoding" not in headers
    assert ("content-length" in headers) == (response.status not in (204, 304))
    return Answer(response.status, response.reason, headers, body)


@contextmanager
def incident_of(logged: list[LogEvent]) -> Iterator[dict[str, Any]]:
    """Take the one incident that the block provokes out of the log, and put it into what this brings."""
    found: dict[str, Any] = {}
    before = len(logged)
    yield found
    (event,) = logged[before:]
    found.update(event)
    del logged[before:]
