"""The HTTP API: every route that a daemon has by itself."""

import re
from typing import Any, Final

from klein import Klein
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from werkzeug.exceptions import MethodNotAllowed

from rpiserve import codec
from rpiserve.data import DataTree
from rpiserve.paths import format_path
from rpiserve.ports import HandlerReports, Readiness
from rpiserve.web.actions import ActionRoutes
from rpiserve.web.broadcasts import BroadcastRoutes
from rpiserve.web.channel import JSON, LimitedRequest
from rpiserve.web.commands import CommandRoutes
from rpiserve.web.problems import Problem, problem_from
from rpiserve.web.site import decode_segment
from rpiserve.web.static import Pages

READ: Final = ["GET", "HEAD"]

_ENTITY_TAG = re.compile(rb'(?:W/)?("[^"]*")')


class Api:
    """The routes that every daemon has.

    Args:
        tree: what `/data` serves.
        handlers: who tells of the handlers.
        parts: the parts that `/ready` asks.
        commands: what `/cmds` and `/cmd` do.
        actions: what `/actions` and `/services` do.
        broadcasts: what `/broadcasts` and `/events` do.
        pages: what `/www` serves, if anything.
    """

    app = Klein()
    # Otherwise a path with // in it is redirected to wherever the Host header says.
    app.url_map.merge_slashes = False

    def __init__(
        self,
        tree: DataTree,
        handlers: HandlerReports,
        parts: list[Readiness],
        commands: CommandRoutes,
        actions: ActionRoutes,
        broadcasts: BroadcastRoutes,
        pages: Pages | None,
    ) -> None:
        self._tree = tree
        self._handlers = handlers
        self._parts = parts
        self._commands = commands
        self._actions = actions
        self._broadcasts = broadcasts
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
            raise Problem(404, f"there is nothing at {format_path(path)!r}; /data shows all there is") from None
        if _flag(request, b"meta"):
            return request.answer_json(codec.encode(part.meta(self._tree.now())))
        tag = f'"{self._tree.revision(part)}"'.encode()
        headers = {b"ETag": tag, b"Cache-Control": b"no-cache"}
        if _matches(request.getHeader(b"If-None-Match"), tag):
            return request.answer(304, JSON, b"", headers)
        return request.answer(200, JSON, part.json, headers)

    @app.route("/sensors", methods=READ)
    def sensors(self, request: LimitedRequest) -> Deferred[None]:
        """List the handlers."""
        return request.answer_json(codec.encode(self._handlers.report()))

    @app.route("/health", methods=READ)
    def health(self, request: LimitedRequest) -> Deferred[None]:
        """Say that the reactor answers."""
        return request.answer_json(codec.encode({"status": "ok"}))

    @app.route("/ready", methods=READ)
    def ready(self, request: LimitedRequest) -> Deferred[None]:
        """Say whether all parts are ready, and if not, why."""
        reasons = [reason for part in self._parts for reason in part.reasons()]
        return request.answer_json(codec.encode({"ready": not reasons, "reasons": reasons}), 503 if reasons else 200)

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

    @app.route("/broadcasts/<channel>", methods=["POST"])
    def post_broadcast(self, request: LimitedRequest, channel: str) -> Deferred[None]:
        """Send a broadcast."""
        return self._broadcasts.publish(request, channel)

    @app.route("/events", methods=["GET"])
    def events(self, request: LimitedRequest) -> Deferred[None]:
        """Stream what happens."""
        return self._broadcasts.listen(request)

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
        """Answer OPTIONS, which no route has, with the methods of the route; refuse other methods."""
        problem = problem_from(failure)
        if request.method == b"OPTIONS":
            return request.answer(204, JSON, b"", problem.headers)
        return request.answer_problem(problem)

    @app.handle_errors(Exception)
    def error(self, request: Any, failure: Failure) -> Any:
        """Answer with the problem that ``failure`` is."""
        return request.answer_problem(problem_from(failure))


def _flag(request: LimitedRequest, name: bytes) -> bool:
    value = request.args.get(name, [b"0"])[-1]
    if value not in (b"0", b"1"):
        raise Problem(400, f"{name.decode()} is 0 or 1")
    return bool(value == b"1")


def _matches(header: bytes | None, tag: bytes) -> bool:
    """Tell whether the value of ``If-None-Match`` names ``tag``, by the weak comparison of RFC 9110, section 13.1.2."""
    return header is not None and (header.strip() == b"*" or tag in _ENTITY_TAG.findall(header))
