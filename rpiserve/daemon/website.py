"""The wiring of the web side: what listens, what lets requests in, and what answers them."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from rpiserve.core.clocks import Clocks
from rpiserve.core.declared_app import DeclaredApp
from rpiserve.core.handler_status import HandlerStatuses
from rpiserve.core.interfaces import Commands, Messaging, Readiness, Services
from rpiserve.core.metrics import Stats
from rpiserve.core.runner import Runner
from rpiserve.core.tokens import TokenFile
from rpiserve.daemon.config import DEFAULT_HOST, Config
from rpiserve.data import encoding
from rpiserve.logs.lines import JSON
from rpiserve.logs.rotating_file import open_log
from rpiserve.web.access.admission import Admission
from rpiserve.web.access.authorization import Authorizer
from rpiserve.web.access.cross_site import CrossSiteCheck
from rpiserve.web.access.hosts import HostAllowlist
from rpiserve.web.access.proxies import TrustedProxies
from rpiserve.web.app_routes import AppRoutes, RootResource
from rpiserve.web.endpoints.actions import ActionEndpoints
from rpiserve.web.endpoints.broadcasts import BroadcastEndpoints
from rpiserve.web.endpoints.commands import CommandEndpoints
from rpiserve.web.endpoints.dashboard import DashboardEndpoints
from rpiserve.web.endpoints.data import DataEndpoints
from rpiserve.web.endpoints.events import EventEndpoints
from rpiserve.web.endpoints.health import HealthEndpoints
from rpiserve.web.endpoints.login import LoginEndpoints
from rpiserve.web.endpoints.metrics import MetricsEndpoints, package_version
from rpiserve.web.endpoints.openapi import OpenApiEndpoints
from rpiserve.web.endpoints.pages import PageEndpoints
from rpiserve.web.endpoints.router import Router
from rpiserve.web.endpoints.sensors import SensorEndpoints
from rpiserve.web.endpoints.services import ServiceEndpoints
from rpiserve.web.endpoints.table import SUBJECTS, reserved_names
from rpiserve.web.openapi.document import document
from rpiserve.web.server.event_stream import Streams
from rpiserve.web.server.listener import WebServer, endpoint_for
from rpiserve.web.server.request_log import RequestLog
from rpiserve.web.server.site import LimitedSite
from rpiserve.web.server.tls import RenewedCertificate


@attrs.frozen(kw_only=True)
class ServedParts:
    """The parts of the daemon that are served over HTTP.

    Attributes:
        handlers: what knows how the handlers are.
        commands: what calls the commands.
        messaging: what handles messages.
        services: what knows the services on the bus.
        parts: what ``/ready`` asks, by name.
        stats: what ``/metrics`` shows, besides the web's own.
    """

    handlers: HandlerStatuses
    commands: Commands
    messaging: Messaging
    services: Services
    parts: Mapping[str, Readiness]
    stats: Sequence[Stats]


class Website:
    """All that serves HTTP.

    Args:
        app: the app.
        config: the options; `Config.port` is not None.
        clocks: the reactor, whose clock is monotonic, and the wall clock.
        served: the parts that are served.
        routes: what runs the app's routes.

    Raises:
        StartError: the option ``port`` is no endpoint, or a file that an option names is not as it should be.
    """

    def __init__(self, app: DeclaredApp, config: Config, clocks: Clocks, served: ServedParts, routes: Runner) -> None:
        reactor: Any = clocks.reactor
        self._tokens = _tokens(config, reactor)
        self._certificate = _certificate(config, reactor)
        self._requests = _request_log(config, clocks)
        self._streams = Streams(reactor, config.max_streams)
        access = Authorizer(self._tokens, config.open, reactor)
        cors = config.cors or app.cors_policy
        admission = Admission(
            HostAllowlist(socket.gethostname(), config.allowed_host),
            TrustedProxies(config.trusted_proxy),
            cors,
            access,
            CrossSiteCheck(config.open, config.get_commands, cors),
        )
        own = [*served.stats, routes.pool, self._streams, access, *([] if self._requests is None else [self._requests])]
        metrics = MetricsEndpoints(app.name, app.tree, clocks.wall(), own)
        described = document(app.name, package_version(), app.commands, app.actions, app.routes, SUBJECTS)
        subjects = (
            DataEndpoints(app.tree, served.handlers),
            EventEndpoints(app.tree, served.handlers, served.messaging, self._streams, reactor),
            SensorEndpoints(served.handlers),
            CommandEndpoints(served.commands),
            ActionEndpoints(served.messaging, self._streams),
            ServiceEndpoints(served.services),
            BroadcastEndpoints(served.messaging),
            HealthEndpoints(served.parts),
            metrics,
            OpenApiEndpoints(encoding.encode(described)),
            DashboardEndpoints(not config.no_dashboard, access.has_login),
            LoginEndpoints(access),
            PageEndpoints(config.www),
        )
        own_routes = AppRoutes(app.routes, routes, admission)
        front = RootResource(Router(subjects, admission), own_routes.resource(), reserved_names())
        self._site = LimitedSite(front, admission, config.limits, reactor, self._requests)
        metrics.add(self._site)
        host, port = config.host or DEFAULT_HOST, config.port or 0
        self._server = WebServer(
            self._site,
            endpoint_for(reactor, port, host, self._certificate),
            port if isinstance(port, str) else f"{host} port {port}",
            config.open or self._tokens is not None,
            "http" if self._certificate is None else "https",
        )

    @property
    def address(self) -> str:
        """Where it listens, as a person writes it; empty before that."""
        return self._server.address

    def listen(self) -> None:
        """Begin to listen.

        Raises:
            StartError: the port cannot be had, or nobody may be let in by it.
        """
        self._server.listen()

    def reload(self) -> None:
        """Read the tokens and the certificate anew, and go on in a new file of the log of requests."""
        for each in (self._tokens, self._certificate):
            if each is not None:
                each.reload()
        if self._requests is not None:
            self._requests.reopen()

    def stop_listening(self) -> Deferred[Any]:
        """Take no more connections, and end the streams, which would keep theirs from draining."""
        return self._server.stop_listening().addCallback(lambda _: self._streams.close())

    def drain(self) -> Deferred[None]:
        """Close each connection when its answer has been sent; fires when there is none left."""
        return self._site.drain()

    def close(self) -> None:
        """Close what is left."""
        self._site.abort()
        if self._requests is not None:
            self._requests.close()


def _tokens(config: Config, reactor: Any) -> TokenFile | None:
    if config.token_file is None:
        return None
    tokens = TokenFile(config.token_file, reactor.seconds)
    tokens.load()
    return tokens


def _certificate(config: Config, reactor: Any) -> RenewedCertificate | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    return RenewedCertificate(config.tls_cert, config.tls_key, reactor.seconds)


def _request_log(config: Config, clocks: Clocks) -> RequestLog | None:
    if config.request_log is None:
        return None
    file = open_log("--request-log", config.request_log, config.log_size, config.log_keep)
    return RequestLog(file, config.log_format == JSON, clocks.reactor, clocks.wall)
