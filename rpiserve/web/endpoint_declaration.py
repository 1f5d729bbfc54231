"""How a built-in endpoint is declared: once, at the method that answers it.

::

    class HealthEndpoints:
        @endpoint("GET", "/health", role=PUBLIC, operation=operation("status", "Whether it is alive", …))
        def health(self, request: LimitedRequest) -> Deferred[None]: ...

Klein's routes, the roles, the names that an app's routes cannot take, the cross-site checks and the OpenAPI document
are derived from these declarations.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Final, TypeVar

import attrs

from rpiserve.core.tokens import CONTROL, READ

PUBLIC: Final = "public"
"""The role of what anybody may do."""

GENERATED: Final[Mapping[str, Any]] = {}
"""The operation of an endpoint whose operations are made from what the app declares."""

METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
"""The methods that an endpoint may have. ``HEAD`` comes with ``GET``, and ``OPTIONS`` is answered for all paths."""

_ATTRIBUTE: Final = "__rpiserve_endpoints__"

Answering = TypeVar("Answering", bound=Callable[..., Any])


class CrossSite(Enum):
    """Which check a request has to pass that a page of another site may have sent."""

    NONE = "none"
    CHECK = "check"
    CHECK_GET = "check a GET that changes state"


@attrs.frozen
class AccessRule:
    """What a request has to pass.

    Attributes:
        role: the role that it needs; `PUBLIC` for none.
        cross_site: the check.
    """

    role: str
    cross_site: CrossSite


@attrs.frozen
class Endpoint:
    """One method of one built-in path.

    Attributes:
        method: the HTTP method. ``GET`` includes ``HEAD`` unless it changes state or does not end.
        path: the path, with variables such as ``<service>``.
        rule: what a request has to pass.
        operation: the OpenAPI operation; `GENERATED` if it is made from what the app declares.
        below: the operation of all paths below; None if there are none.
        head: whether ``HEAD`` works, too.
        reason: why the declaration departs from the usual rules.
        answer: the name of the method that answers.
    """

    method: str
    path: str
    rule: AccessRule
    operation: Mapping[str, Any]
    below: Mapping[str, Any] | None
    head: bool
    reason: str
    answer: str

    @property
    def segment(self) -> str:
        """The first segment of the path, which belongs to the built-in endpoints alone."""
        return self.path[1:].split("/")[0]

    @property
    def methods(self) -> list[str]:
        """The HTTP methods that this answers."""
        return [self.method, "HEAD"] if self.head else [self.method]

    def operations(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield each path, as OpenAPI writes it, and its operation; none of a `GENERATED` one."""
        path = re.sub(r"<(\w+)>", r"{\1}", self.path)
        if self.operation is not GENERATED:
            yield path, self.operation
        if self.below is not None:
            yield f"{path}/{{path}}", self.below


def endpoint(
    method: str,
    path: str,
    *,
    role: str,
    operation: Mapping[str, Any],
    below: Mapping[str, Any] | None = None,
    changes: bool | None = None,
    checked: bool = False,
    endless: bool = False,
    reason: str = "",
) -> Callable[[Answering], Answering]:
    """Declare that the decorated method answers an endpoint.

    Args:
        method: the HTTP method.
        path: the path, with variables such as ``<service>``, which the method gets by name.
        role: the role that a request needs: `PUBLIC`, ``read`` or ``control``.
        operation: the OpenAPI operation, or `GENERATED`.
        below: the OpenAPI operation of all paths below, which the method answers, too.
        changes: whether a request changes state. Only ``GET`` may say so: all other methods do.
        checked: whether a ``GET`` that changes nothing is refused to scripts of other sites, as a ``POST`` is.
        endless: whether the answer does not end by itself: then there is no ``HEAD``.
        reason: needed if a ``GET`` changes state or is checked, or if anybody may change state.

    Raises:
        TypeError: a declaration contradicts itself, or lacks its reason.
    """
    if method not in METHODS:
        raise TypeError(f"{method} {path}: the methods of endpoints are {', '.join(sorted(METHODS))}")
    if not re.match(r"/(?!<)", path):
        raise TypeError(f"{method} {path}: a path begins with a slash and a name, which the rule is found by")
    reads = method == "GET"
    if not reads and (changes is False or checked):
        raise TypeError(f"{method} {path}: every method but GET changes state and is checked")
    acts = not reads or bool(changes)
    if not reason and ((reads and (acts or checked)) or (acts and role == PUBLIC)):
        raise TypeError(f"{method} {path}: the reason for this exception is missing")
    if role not in (PUBLIC, READ, CONTROL):
        raise TypeError(f"{method} {path}: {role!r} is not a role")
    cross_site = CrossSite.NONE
    if acts or checked:
        cross_site = CrossSite.CHECK_GET if reads and acts else CrossSite.CHECK

    def declare(function: Answering) -> Answering:
        rule = AccessRule(role, cross_site)
        head = reads and not (acts or endless)
        made = Endpoint(method, path, rule, operation, below, head, reason, function.__name__)
        vars(function).setdefault(_ATTRIBUTE, []).insert(0, made)
        return function

    return declare


def endpoints_of(subject: object) -> list[Endpoint]:
    """Return the endpoints that the methods of ``subject``, a class or an object, answer; in order of declaration."""
    kind = subject if isinstance(subject, type) else type(subject)
    members = [member for base in reversed(kind.__mro__) for member in vars(base).values()]
    return [each for member in members for each in getattr(member, _ATTRIBUTE, ())]


class AccessRules:
    """Which rule a request has to pass, by the first segment of its path and its method.

    Args:
        endpoints: the endpoints.

    Raises:
        TypeError: two endpoints that share segment and method have different rules.
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._rules: dict[str, dict[str, AccessRule]] = {}
        for each in endpoints:
            known = self._rules.setdefault(each.segment, {}).setdefault(each.method, each.rule)
            if known != each.rule:
                raise TypeError(f"{each.method} {each.path}: its rule differs from that of a neighbour: {known}")

    def rule(self, segment: str, method: str) -> AccessRule:
        """Return the rule for ``method`` on the paths below ``segment``.

        ``HEAD`` needs what ``GET`` does. ``OPTIONS`` never acts, and lists nothing but the methods. A method that the
        path does not have needs ``control``, and a reserved name without endpoints ``read``: 405 and 404 come after.
        """
        rules = self._rules.get(segment)
        if rules is None:
            return AccessRule(READ, CrossSite.NONE)
        if method == "OPTIONS":
            return AccessRule(PUBLIC, CrossSite.NONE)
        rule = rules.get("GET" if method == "HEAD" else method)
        return rule or AccessRule(CONTROL, CrossSite.NONE)

    def table(self) -> dict[str, dict[str, str]]:
        """Return the role of each method, by first segments."""
        return {
            segment: {method: rule.role for method, rule in rules.items()} for segment, rules in self._rules.items()
        }
