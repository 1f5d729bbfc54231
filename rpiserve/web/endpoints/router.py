"""From a request for a built-in path to the method that answers it: routes, roles and checks from the declarations."""

from collections.abc import Sequence
from typing import Any

from klein import Klein
from twisted.web.resource import Resource
from werkzeug.exceptions import MethodNotAllowed

from rpiserve.web.access.admission import Admission
from rpiserve.web.endpoint_declaration import AccessRules, endpoints_of
from rpiserve.web.problems import answer_failure, answer_other_method
from rpiserve.web.server.request import LimitedRequest
from rpiserve.web.server.request_target import decode_segment


class Router(Resource):
    """Answers the requests for built-in paths.

    Args:
        subjects: the objects whose methods answer the endpoints.
        admission: what a request has to pass before it is routed.
    """

    isLeaf = True

    def __init__(self, subjects: Sequence[object], admission: Admission) -> None:
        super().__init__()
        self._admission = admission
        self._rules = AccessRules(each for subject in subjects for each in endpoints_of(subject))
        klein = Klein()
        # Otherwise a path with // in it is redirected to wherever the Host header says.
        klein.url_map.merge_slashes = False
        for subject in subjects:
            for number, each in enumerate(endpoints_of(subject)):
                name = f"{type(subject).__name__}.{each.answer}.{number}"
                route = klein.route(each.path, methods=each.methods, endpoint=name, branch=each.below is not None)
                route(getattr(subject, each.answer))
                if not each.head:  # Werkzeug adds HEAD to GET
                    for rule in klein.url_map.iter_rules(name):
                        rule.methods = {each.method}
        klein.handle_errors(MethodNotAllowed)(answer_other_method)
        klein.handle_errors(Exception)(answer_failure)
        self._klein = klein.resource()

    def render(self, request: LimitedRequest) -> Any:
        """Answer ``request``.

        Raises:
            Problem: it may not do what it asks for.
        """
        segment = decode_segment(request.postpath[0])
        request.route = f"/{segment}"
        self._admission.authorize(request, self._rules.rule(segment, request.method.decode("latin-1")))
        return self._klein.render(request)
