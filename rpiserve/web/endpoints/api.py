"""The HTTP API: every route that a daemon has by itself."""

from collections.abc import Mapping
from typing import Any, Final

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from werkzeug.exceptions import MethodNotAllowed

from rpiserve.core.handler_status import HandlerStatuses
from rpiserve.core.interfaces import Readiness, Services
from rpiserve.data import encoding
from rpiserve.data.paths import format_path
from rpiserve.data.tree import DataTree
from rpiserve.web.endpoints.actions import ActionRoutes
from rpiserve.web.endpoints.broadcasts import BroadcastRoutes
from rpiserve.web.endpoints.commands import CommandRoutes
from rpiserve.web.endpoints.dashboard import Dashboard
from rpiserve.web.endpoints.events import EventRoutes
from rpiserve.web.endpoints.handler_status import status_object
from rpiserve.web.endpoints.login import LoginRoutes
from rpiserve.web.endpoints.metrics import Metrics
from rpiserve.web.endpoints.pages import Pages
from rpiserve.web.problems import Problem, answer_failure, answer_other_method
from rpiserve.web.server.channel import JSON, LimitedRequest
from rpiserve.web.server.etags import answer_tagged
from rpiserve.web.server.site import decode_segment

READ: Final = ["GET", "HEAD"]


class Api:
    """The routes that every daemon has.

    Args:
        tree: what `/data` serves.
        handlers: what knows how the handlers are.
        parts: the parts that `/ready` asks, by name.
        commands: what `/cmds` and `/cmd` do.
        actions: what `/actions` and `/services` do.
        broadcasts: what `/broadcasts` does.
        events: what `/events` does.
        services: who tells of the services.
        dashboard: what `/` serves, if anything.
        login: what `/login` and `/logout` do.
        metrics: what `/metrics` does.
        openapi: what `/openapi.json` serves.
        pages: what `/www` serves, if anything.
    """

    app = Klein()
    # Otherwise a path with // in it is redirected to wherever the Host header says.
    app.url_map.merge_slashes = False

    def __init__(
        self,
        *,
        tree: DataTree,
        handlers: HandlerStatuses,
        parts: Mapping[str, Readiness],
        commands: CommandRoutes,
        actions: ActionRoutes,
        broadcasts: BroadcastRoutes,
        events: EventRoutes,
        services: Services,
        dashboard: Dashboard | None,
        login: LoginRoutes,
        metrics: Metrics,
        openapi: bytes,
        pages: Pages | None,
    ) -> None:
        self._tree = tree
        self._handlers = handlers
        self._parts = parts
        self._commands = commands
        self._actions = actions
        self._broadcasts = broadcasts
        self._events = events
        self._services = services
        self._dashboard = dashboard
        self._login = login
        self._metrics = metrics
        self._openapi = openapi
        self._pages = pages

    def resource(self) -> IResource:
        """Return the resource to serve."""
        resource: IResource = self.app.resource()
        return resource

    @app.route("/data", methods=READ, branch=True)
    def data(self, request: LimitedRequest) -> Deferred[None]:
        """Serve the tree, or the part at a path."""
        path = tuple(decode_segment(segment) for segment in request.postpath)
        try:
            part = self._tree.find(path)
        except KeyError:
            raise Problem(404, self._why_missing(format_path(path))) from None
        if _flag(request, b"meta"):
            return request.answer_json(encoding.encode(part.meta(self._tree.now())))
        return answer_tagged(request, f'"{self._tree.revision(part)}"'.encode(), JSON, part.json)

    def _why_missing(self, path: str) -> str:
        for handler in self._handlers.statuses():  # that of a sensor has the name of its path
            if f"{handler.name}/".startswith(f"{path}/"):
                why = f": {handler.error}" if handler.error else ""
                return f"{handler.name} has not brought a value yet{why}; /sensors tells more"
        return f"there is nothing at {path!r}; /data shows all there is"

    @app.route("/sensors", methods=READ)
    def sensors(self, request: LimitedRequest) -> Deferred[None]:
        """List the handlers."""
        return request.answer_json(encoding.encode([status_object(status) for status in self._handlers.statuses()]))

    @app.route("/health", methods=READ)
    def health(self, request: LimitedRequest) -> Deferred[None]:
        """Say that the reactor answers."""
        return request.answer_json(encoding.encode({"status": "ok"}))

    @app.route("/ready", methods=READ)
    def ready(self, request: LimitedRequest) -> Deferred[None]:
        """Say whether all parts are ready, and if not, why."""
        reasons = {name: part.reasons() for name, part in self._parts.items()}
        parts = {name: {"ready": not why, "reasons": why} for name, why in reasons.items()}
        every = [reason for why in reasons.values() for reason in why]
        answer = {"ready": not every, "reasons": every, "parts": parts}
        return request.answer_json(encoding.encode(answer), 503 if every else 200)

    @app.route("/metrics", methods=READ)
    def metrics(self, request: LimitedRequest) -> Deferred[None]:
        """Tell what Prometheus asks for."""
        return self._metrics.get(request)

    @app.route("/openapi.json", methods=READ)
    def openapi(self, request: LimitedRequest) -> Deferred[None]:
        """Serve the OpenAPI document."""
        return request.answer(200, JSON, self._openapi, {b"Cache-Control": b"no-cache"})

    @app.route("/cmds", methods=READ)
    def cmds(self, request: LimitedRequest) -> Deferred[None]:
        """List the commands."""
        return self._commands.list(request)

    @app.route("/cmd", methods=["GET"])
    def get_cmd(self, request: LimitedRequest) -> Deferred[None]:
        """Call a command."""
        return self._commands.get(request)

    @app.route("/", methods=["POST"])
    @app.route("/cmd", methods=["POST"])
    def post_cmd(self, request: LimitedRequest) -> Deferred[None]:
        """Call a command."""
        return self._commands.post(request)

    @app.route("/actions/<action>", methods=["POST"])
    def post_action(self, request: LimitedRequest, action: str) -> Deferred[None]:
        """Have an action of this service answer."""
        return self._actions.own(request, action)

    @app.route("/services/<service>/<action>", methods=["POST"])
    def post_service(self, request: LimitedRequest, service: str, action: str) -> Deferred[None]:
        """Have an action of any service answer."""
        return self._actions.remote(request, service, action)

    @app.route("/services", methods=READ)
    def services(self, request: LimitedRequest) -> Deferred[None]:
        """Tell of the bus, and of the services on it."""
        return self._services.describe().addCallback(encoding.encode).addCallback(request.answer_json)

    @app.route("/broadcasts/<channel>", methods=["POST"])
    def post_broadcast(self, request: LimitedRequest, channel: str) -> Deferred[None]:
        """Send a broadcast."""
        return self._broadcasts.publish(request, channel)

    @app.route("/events", methods=["GET"])
    def events(self, request: LimitedRequest) -> Deferred[None]:
        """Stream what happens."""
        return self._events.listen(request)

    @app.route("/", methods=READ)
    def page(self, request: LimitedRequest) -> Deferred[None]:
        """Serve the dashboard."""
        return self._shown_dashboard().page(request)

    @app.route("/dashboard", methods=READ, branch=True)
    def dashboard_part(self, request: LimitedRequest) -> Deferred[None]:
        """Serve what the dashboard loads."""
        return self._shown_dashboard().part(request)

    def _shown_dashboard(self) -> Dashboard:
        if self._dashboard is None:
            raise Problem(404, "there is no dashboard, because of --no-dashboard; /data has the values")
        return self._dashboard

    @app.route("/login", methods=READ)
    def login_page(self, request: LimitedRequest) -> Deferred[None]:
        """Serve the form to log in with."""
        return self._login.page(request)

    @app.route("/login", methods=["POST"])
    def log_in(self, request: LimitedRequest) -> Deferred[None]:
        """Begin a session."""
        return self._login.log_in(request)

    @app.route("/logout", methods=["POST"])
    def log_out(self, request: LimitedRequest) -> Deferred[None]:
        """End a session."""
        return self._login.log_out(request)

    @app.route("/www", methods=READ, branch=True)
    def www(self, request: LimitedRequest) -> IResource | Deferred[None]:
        """Serve the user's own pages."""
        if self._pages is None:
            raise Problem(404, "no pages are served; --www DIR serves those in a folder")
        return self._pages.get(request)

    # Werkzeug adds HEAD to GET, but the one GET acts, and the other never ends.
    for name in ("get_cmd", "events"):
        for rule in app.url_map.iter_rules(name):
            rule.methods = {"GET"}

    @app.handle_errors(MethodNotAllowed)
    def options(self, request: Any, failure: Failure) -> Any:
        """Answer OPTIONS, and refuse other methods that the route has not."""
        return answer_other_method(request, failure)

    @app.handle_errors(Exception)
    def error(self, request: Any, failure: Failure) -> Any:
        """Answer with the problem that ``failure`` is."""
        return answer_failure(request, failure)


def _flag(request: LimitedRequest, name: bytes) -> bool:
    value = request.args.get(name, [b"0"])[-1]
    if value not in (b"0", b"1"):
        raise Problem(400, f"{name.decode()} is 0 or 1")
    return bool(value == b"1")
