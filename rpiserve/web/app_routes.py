"""The app's own routes: from an HTTP request to the user's function, and from what that returns to the answer."""

import re
from functools import partial
from typing import Any

import attrs
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.resource import IResource, Resource
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from rpiserve.core.context import RunScope
from rpiserve.core.failures import IncidentLog
from rpiserve.core.runner import Runner
from rpiserve.core.tokens import CONTROL, READ
from rpiserve.core.wire import HANDLER_ERROR, UNSERIALIZABLE
from rpiserve.declare.arguments import BadArguments
from rpiserve.declare.handler import Where
from rpiserve.declare.routes import CONVERTERS, Route
from rpiserve.errors import Cancelled, DataError, HandlerTimeout, HttpError, ResourceHeld
from rpiserve.web.access.admission import Admission
from rpiserve.web.app_request import Answer, HttpRequest, HttpResponse, answer_from
from rpiserve.web.endpoint_declaration import AccessRule, CrossSite
from rpiserve.web.problems import Problem, answer_failure, answer_other_method
from rpiserve.web.server.request import LimitedRequest
from rpiserve.web.server.request_target import decode_segment

MOST_CALLS = 128
"""How many requests may be under way at the same time, those that wait for a thread among them."""

LONGEST_PATH = 2000
"""How many characters a path of the app's own may have, encoded: to find its route may take the square of that."""

READING = (b"GET", b"HEAD")

_UNMATCHABLE = re.compile(r"[%/\x00-\x1f\x7f]")
"""What stays encoded in a segment of a path while a route is looked for."""


class RootResource(Resource):
    """Hands each request to what has its path: the built-in endpoints, or else the app's own routes.

    Args:
        built_in: answers what begins with a reserved name.
        own: answers the rest.
        reserved: the first segments of the built-in paths.
    """

    isLeaf = True

    def __init__(self, built_in: IResource, own: IResource, reserved: frozenset[str]) -> None:
        super().__init__()
        self._built_in = built_in
        self._own = own
        self._reserved = reserved

    def render(self, request: LimitedRequest) -> Any:
        """Answer ``request``.

        Raises:
            Problem: 404, the path has a segment of dots, which no variable shall bring to a handler; 414, it is too
                long.
        """
        segments = [decode_segment(segment) for segment in request.postpath]
        if segments[0] in self._reserved:
            return self._built_in.render(request)
        if sum(map(len, request.postpath)) > LONGEST_PATH:
            raise Problem(414, f"a path may have {LONGEST_PATH} characters here")
        if any({".", ".."} & set(segment.split("/")) for segment in segments):
            raise Problem(404, "a path has no segments of dots here")
        # Else decoded, so that what is not ASCII matches a route as it is written there.
        request.postpath = [_UNMATCHABLE.sub(lambda match: f"%{ord(match[0]):02X}", each).encode() for each in segments]
        return self._own.render(request)


class AppRoutes:
    """Answers the requests for the app's own routes.

    Args:
        routes: the declarations.
        runner: what runs them.
        admission: what a request has to pass before a function runs.
    """

    def __init__(self, routes: list[Route], runner: Runner, admission: Admission) -> None:
        self._admission = admission
        self._runner = runner
        self._incidents = IncidentLog(runner.clock)
        self._klein = Klein()
        self._klein.url_map.merge_slashes = False
        self._klein.url_map.converters = dict(CONVERTERS)
        for number, route in enumerate(routes):
            self._add(str(number), route)
        self._klein.handle_errors(HTTPException)(self._answer_unmatched)
        self._klein.handle_errors(Exception)(answer_failure)

    def _add(self, endpoint: str, route: Route) -> None:
        @self._klein.route(route.rule, methods=list(route.methods), endpoint=endpoint)
        def answer(request: LimitedRequest, **values: Any) -> Deferred[None]:
            variables = {name: values[f"v{number}"] for number, name in enumerate(route.variables)}
            return self._answer(route, request, variables)

    def resource(self) -> IResource:
        """Return the resource to serve."""
        resource: IResource = self._klein.resource()
        return resource

    def _answer_unmatched(self, request: Any, failure: Failure) -> Any:
        """Tell that there is no such route, or no such method; but not to those who may not even read.

        ``OPTIONS`` comes here as well: by it, too, they could try which routes there are.
        """
        self._admission.authorize(request, AccessRule(READ, CrossSite.NONE))
        return (
            answer_other_method(request, failure)
            if failure.check(MethodNotAllowed)
            else answer_failure(request, failure)
        )

    def _answer(self, route: Route, request: LimitedRequest, variables: dict[str, Any]) -> Deferred[None]:
        request.route = route.path or "/"
        self._admission.authorize(request, _rule_of(route, request.method))
        view = _view(request, {name: _decoded(value) for name, value in variables.items()})
        if len(self._runner.active) >= MOST_CALLS:
            raise Problem(503, f"{MOST_CALLS} requests are being answered already; try again later", code="busy")
        if route.function.where is Where.THREAD and self._runner.pool.clogged:
            raise Problem(503, f"{self._runner.pool.stuck} requests hang; try again later", code="busy")
        response = HttpResponse()
        name = route.function.name
        run = self._runner.start(
            attrs.evolve(route.function, call=partial(_called, route, view)),
            timeout=route.timeout,
            from_arrival=True,
            finish=partial(_finished, response),
            scope=RunScope(name, self._runner.daemon_scope, view, response),
        )
        # A Deferred of its own: to cancel it, as Klein does when the client leaves, gives up the answer, not the run.
        answer: Deferred[Answer] = Deferred()
        run.result.addErrback(self._explain, name).addBoth(answer.callback)
        return answer.addCallback(_send, request)

    def _explain(self, failure: Failure, name: str) -> Failure:
        """Return a failure that may be shown to a client: what the run itself came to, or else an incident."""
        if failure.check(HandlerTimeout, ResourceHeld, Cancelled, HttpError, BadArguments):
            return failure
        how, code = "failed", HANDLER_ERROR
        if failure.check(_Unsendable):
            how, code = "returned what cannot be sent", UNSERIALIZABLE
        incident = self._incidents.note(name, failure)
        text = f"{name} {how}; the log has more under this incident"
        return Failure(Problem(500, text, code=code, incident=incident))


def _rule_of(route: Route, method: bytes) -> AccessRule:
    """Return what a request for ``route`` has to pass: whatever is not read changes state."""
    if method in READING:
        return AccessRule(route.role or READ, CrossSite.NONE)
    return AccessRule(route.role or CONTROL, CrossSite.CHECK)


class _Unsendable(Exception):
    """What a handler has returned is no answer."""


def _called(route: Route, view: HttpRequest) -> Any:
    """Call the function of ``route``; this runs where it runs, for to take a body apart may take long."""
    arguments = {name: view.path_params[name] for name in route.taken}
    payload = route.payload
    if not payload.wanted:
        return route.function.call(**arguments)
    return route.function.call(view if payload.parameter is None else payload.convert(view.payload), **arguments)


def _finished(response: HttpResponse, outcome: Any) -> Answer:
    """Return the answer: what the handler has given through ``response``, or else returned. This runs where it ran."""
    if response.answer is not None and not _has_answer(outcome):
        return response.answer
    try:
        return answer_from(outcome)
    except DataError as error:
        raise _Unsendable(str(error)) from error


def _has_answer(outcome: Any) -> bool:
    """Tell whether ``outcome`` is an answer with, perhaps, a status of its own: ``return response.send(…), 201``."""
    return isinstance(outcome, Answer) or (isinstance(outcome, tuple) and any(isinstance(x, Answer) for x in outcome))


def _view(request: LimitedRequest, variables: dict[str, Any]) -> HttpRequest:
    headers = Headers()
    for name, values in request.requestHeaders.getAllRawHeaders():
        for value in values:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
    query = request.uri.partition(b"?")[2]
    path = request.path
    if not path.startswith(b"/"):  # it is behind a scheme and an authority
        path = b"/" + path.split(b"/", 3)[-1]
    decoded = "/".join(map(decode_segment, path.split(b"/")))
    return HttpRequest(request.method.decode(), decoded, query, headers, request.content.read(), variables)


def _decoded(value: Any) -> Any:
    """Return the ``value`` of a variable, which Klein got with each segment encoded, as the client meant it."""
    return decode_segment(value.encode()) if isinstance(value, str) else value


def _send(answer: Answer, request: LimitedRequest) -> Deferred[None]:
    headers = {"Cache-Control": "no-store", **answer.headers}
    sent = {name.lower().encode(): value.encode() for name, value in headers.items()}
    if b"vary" in sent:  # what the policy for other origins says has to stay
        sent[b"vary"] = b", ".join([*request.responseHeaders.getRawHeaders(b"Vary", []), sent[b"vary"]])
    return request.answer(answer.status, answer.content_type.encode(), answer.body, sent)
