"""A site in memory that serves an app's commands, and a client that talks to it."""

from collections.abc import Iterable
from typing import Any

import msgspec
from http_peer import Answer, Peer, make_admission, make_router, make_site, parse_answers, request
from twisted.internet.task import Clock

from rpiserve import App
from rpiserve.commands.calls import CommandCalls
from rpiserve.web.server.request import Limits
from rpiserve.web.server.site import LimitedSite

JSON = "Content-Type: application/json"


def make_command_site(
    app: App,
    clock: Clock,
    *,
    open: bool = False,
    get_commands: bool = False,
    hosts: Iterable[str] = (),
    limits: Limits | None = None,
    www: str | None = None,
    access: Any = None,
) -> LimitedSite:
    """Return a site with ``app``'s commands, which are expected to run on the reactor."""
    room = CommandCalls(app.commands, clock, lambda function, *arguments: function(*arguments), app.max_workers)
    admission = make_admission(clock, hosts=hosts, access=access, open=open, get_commands=get_commands)
    resource = make_router(clock, commands=room, www=www, admission=admission)
    return make_site(clock, resource=resource, admission=admission, limits=limits)


class Client:
    """Sends requests to a site, each on a connection of its own.

    Args:
        site: the site.
    """

    def __init__(self, site: LimitedSite) -> None:
        self._site = site

    def ask(
        self, target: str | bytes, method: str = "GET", *headers: str, body: bytes = b"", host: str = "localhost"
    ) -> Answer:
        """Send a request and return the answer, which must be there at once."""
        peer = self.send(target, method, *headers, body=body, host=host)
        return peer.answer(method)

    def send(
        self, target: str | bytes, method: str = "GET", *headers: str, body: bytes = b"", host: str = "localhost"
    ) -> Peer:
        """Send a request and return the connection."""
        return Peer(self._site).send(request(target, method, *headers, body=body, host=host))

    def post(
        self, body: bytes | dict[str, Any], *headers: str, target: str = "/cmd", host: str = "localhost"
    ) -> Answer:
        """Send an envelope, and return the answer."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.ask(target, "POST", JSON, *headers, body=data, host=host)


def envelope(name: str, **arguments: Any) -> dict[str, Any]:
    """Return the body that calls a command."""
    return {"Command": {"Name": name, "Args": arguments}}


__all__ = ["JSON", "Answer", "Client", "Peer", "envelope", "make_command_site", "parse_answers"]
