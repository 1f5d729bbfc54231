"""Declaring routes: functions that answer HTTP requests at paths of the app's own."""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, Final

import attrs
from werkzeug.routing import BaseConverter, FloatConverter, Map, Rule, ValidationError

from rpiserve.declare.base import TIME_LIMIT, AnyFunction, Declarations, checked_seconds, is_text, written
from rpiserve.declare.cors import CorsPolicy
from rpiserve.declare.handler import UserFunction
from rpiserve.declare.payload import Payload, payload_of
from rpiserve.errors import DeclarationError

ROLES: Final = ("public", "read", "control")

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


class _FiniteConverter(FloatConverter):
    def to_python(self, value: str) -> float:
        """Return the number that ``value`` is; one with too many digits would be infinite, which no JSON can say."""
        number = float(super().to_python(value))
        if not math.isfinite(number):
            raise ValidationError
        return number


_TEXTS: Final = (None, "string", "path")

_KINDS: Final = ("string", "int", "float", "path", "uuid", "any")

CONVERTERS: Final[Mapping[str, type[BaseConverter]]] = {
    "default": Map.default_converters["default"],
    **{kind: Map.default_converters[kind] for kind in _KINDS},
    "float": _FiniteConverter,
}
"""What the variables of a path may be, by the names that they have in it."""

MOST_TEXTS: Final = 2
"""How many variables that may be any text can stand between two slashes of a path, and how many of the kind ``path``.

There are about as many ways to divide a long text among them as it has letters, to that power less one; and a client
may have them all tried."""

VARIABLE: Final = re.compile(r"<(?:(?P<converter>[a-zA-Z_]\w*)(?:\((?P<arguments>[^<>]*)\))?:)?(?P<name>[a-zA-Z_]\w*)>")
"""A variable of a path."""

_FIXED = re.compile(r"[^\x00-\x20\x7f%?#\\<>]*")


@attrs.frozen(eq=False)
class Route:
    """A function that answers requests.

    Attributes:
        function: what is called; its name is a method and the path.
        path: the path, with its variables in angle brackets.
        methods: the methods that it answers.
        variables: the converter of each variable by its name.
        taken: the names of the variables that the function takes.
        payload: what else it is given.
        timeout: seconds that it may take.
        role: of `ROLES`, what a client's token must allow; None for ``read`` with GET and else ``control``.
    """

    function: UserFunction
    path: str
    methods: tuple[str, ...]
    variables: Mapping[str, str]
    taken: tuple[str, ...]
    payload: Payload
    timeout: float
    role: str | None = None

    @property
    def rule(self) -> str:
        """The path with its variables called v0, v1 and so on: Klein has arguments of its own by other names."""
        numbers = count()
        return VARIABLE.sub(lambda match: f"{match[0][: -len(match['name']) - 1]}v{next(numbers)}>", self.path)

    @property
    def shape(self) -> str:
        """The path without the names of its variables: two routes of one shape match the same requests."""
        return VARIABLE.sub(lambda match: f"<{match[0][1:-1].removesuffix(match['name']) or 'string:'}>", self.path)


class RouteDeclarations(Declarations):
    """The routes of an app, and who may use it from other origins."""

    def __init__(self) -> None:
        super().__init__()
        self.routes: list[Route] = []
        self.cors_policy: CorsPolicy | None = None

    @written("@app.route('/a/path') above the function")
    def route(
        self,
        path: str,
        methods: Iterable[str] = ("GET",),
        *,
        timeout: float = TIME_LIMIT,
        role: str | None = None,
        reactor: bool = False,
    ) -> Callable[[AnyFunction], AnyFunction]:
        """Declare a function that answers requests for a path.

        The path may have variables, ``/pins/<int:pin>``, with the converters of Flask: ``string`` (the default),
        ``int``, ``float``, ``path``, ``uuid`` and ``any(a,b)``. The function is given the request, unless it takes no
        other argument than variables (``*args`` counts as another), and each variable that it has an argument for by
        its name. An argument for the request that is annotated as a dataclass, Struct or TypedDict gets the payload as
        one, checked.

        What it returns is the answer: a value, which is sent as JSON; a value and a status; or what ``response.send``
        and ``response.error`` make. Calls may overlap.

        Args:
            path: the path. The same one may be declared again with other methods.
            methods: of ``GET``, ``POST``, ``PUT``, ``PATCH`` and ``DELETE``. With ``GET`` it answers ``HEAD``, too.
            timeout: seconds after which the client is answered in any case, from the arrival of the request.
            role: what a client's token must allow, where there is a token file: ``read`` or ``control``, or ``public``
                for a route that needs none. By default ``read`` with GET, and ``control`` with the other methods.
            reactor: run a plain ``def`` on the reactor, where it must not block.

        Returns:
            A decorator that returns the function as it is.

        Raises:
            DeclarationError: an argument is wrong, the path is one of rpiserve's own, or it is declared already.
        """
        path, variables = _checked_path(path)
        wanted = _checked_methods(path, methods)
        timeout = checked_seconds(path, "timeout", timeout)
        if role is not None and role not in ROLES:
            raise DeclarationError(f"{path}: role is {role!r:.80}; it is {', '.join(ROLES)} or None")

        def declare(function: AnyFunction) -> AnyFunction:
            self.check_open()
            name = f"{wanted[0]} {path or '/'}"
            user_function = UserFunction.declare(name, function, reactor=reactor, arguments=None)
            if isinstance(function, type):
                raise DeclarationError(f"{name}: {function.__name__} is a class; a route takes a function or a method")
            payload = payload_of(function, name, given=variables)
            if not payload.wanted and _takes_anything(function):
                payload = attrs.evolve(payload, wanted=True)
            taken = _taken(function, name, variables, payload)
            self.add_route(Route(user_function, path, wanted, variables, taken, payload, timeout, role))
            return function

        return declare

    def add_route(self, route: Route) -> None:
        """Take ``route``.

        Raises:
            DeclarationError: the path is one of rpiserve's own, or another route matches the same requests.
        """
        self.check_path(route.path)
        for other in self.routes:
            if other.shape == route.shape and (both := set(other.methods) & set(route.methods)):
                raise DeclarationError(
                    f"{' and '.join(sorted(both))} {route.path} is declared already, as {other.path}"
                )
        self.routes.append(route)

    def check_path(self, path: str) -> None:
        """Check that ``path`` is the app's to have.

        Raises:
            DeclarationError: it is one of rpiserve's own.
        """
        if path[1:].split("/")[0] in self.reserved_names():
            raise DeclarationError(f"{path or '/'} is a path of rpiserve's own: choose another")

    def reserved_names(self) -> frozenset[str]:
        """Return the first segments of paths that routes here cannot have."""
        return frozenset()

    @written("app.cors(['https://panel.example'])")
    def cors(self, allowed_origins: str | Iterable[str], **options: Any) -> None:
        """Let pages of other origins use the HTTP API; the options ``cors_…`` say the same and come first.

        Args:
            allowed_origins: such as ``["https://panel.example"]``; ``"*"`` for all.
            options: ``allowed_methods``, ``allowed_headers``, ``expose_headers``, ``allow_credentials`` and
                ``max_age``, as in `rpiserve.declare.cors.CorsPolicy.of`.

        Raises:
            DeclarationError: an option is wrong, or this was declared already.
        """
        self.check_open()
        if self.cors_policy is not None:
            raise DeclarationError("cors() is declared already; it names all origins at once")
        try:
            self.cors_policy = CorsPolicy.of(allowed_origins, **options)
        except (TypeError, ValueError) as error:
            raise DeclarationError(f"cors(): {error}") from None


def checked_prefix(prefix: object) -> str:
    """Return ``prefix``, which paths are to begin with, without a slash at its end.

    Raises:
        DeclarationError: it is none.
    """
    path, variables = _checked_path(prefix)
    if variables:
        raise DeclarationError(f"{path}: a prefix has no variables")
    return path


def prefixed(route: Route, prefix: str) -> Route:
    """Return ``route`` with ``prefix`` before its path.

    Raises:
        DeclarationError: both have a variable of the same name.
    """
    path, _ = _checked_path(prefix + route.path)
    name = f"{route.methods[0]} {path or '/'}"
    return attrs.evolve(route, path=path, function=attrs.evolve(route.function, name=name))


def _checked_path(path: object) -> tuple[str, Mapping[str, str]]:
    if not is_text(path) or (path and not path.startswith("/")):
        raise DeclarationError(f"{path!r:.80} is no path; it is a text with a slash first: '/devices/<device_id>'")
    path = path.rstrip("/")
    matches = list(VARIABLE.finditer(path))
    fixed = VARIABLE.sub("", path)
    if not _FIXED.fullmatch(fixed) or "//" in path or {".", ".."} & set(path.split("/")):
        raise DeclarationError(f"{path!r:.80} is no path: beside variables it has letters, digits and the like")
    variables = {match["name"]: match["converter"] or "string" for match in matches}
    if len(variables) < len(matches):
        raise DeclarationError(f"{path}: two variables have the same name")
    texts = [sum(each["converter"] in _TEXTS for each in VARIABLE.finditer(part)) for part in path.split("/")]
    if max(*texts, [*variables.values()].count("path")) > MOST_TEXTS:
        raise DeclarationError(f"{path}: at most {MOST_TEXTS} texts can stand side by side, and {MOST_TEXTS} paths")
    if unknown := sorted(set(variables.values()) - set(_KINDS)):
        raise DeclarationError(f"{path}: there is no converter {unknown[0]!r}; there are {', '.join(_KINDS)}")
    sample = VARIABLE.sub(lambda match: "1.0" if match["converter"] == "float" else "1", path)
    try:
        Map([Rule(path or "/")]).bind("").test(sample)  # which compares a number with limits that may be none
    except (LookupError, ValueError, TypeError) as error:
        raise DeclarationError(f"{path}: this cannot be matched: {error}") from None
    return path, variables


def _checked_methods(path: str, methods: Iterable[str]) -> tuple[str, ...]:
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        raise DeclarationError(f"{path}: methods is {methods!r}; it is a list such as ['GET', 'POST']")
    checked = tuple(dict.fromkeys(str(method).upper() for method in methods))
    for method in checked:
        if method not in METHODS:
            raise DeclarationError(f"{path}: {method!r:.80} is no method for a route; there are {', '.join(METHODS)}")
    if not checked:
        raise DeclarationError(f"{path}: methods is empty; it is a list such as ['GET', 'POST']")
    return checked


def _takes_anything(function: Callable[..., Any]) -> bool:
    """Tell whether ``function`` takes its arguments as ``*args``, as what a decorator makes often does."""
    kinds = [each.kind for each in inspect.signature(function).parameters.values()]
    return inspect.Parameter.VAR_POSITIONAL in kinds and inspect.Parameter.POSITIONAL_OR_KEYWORD not in kinds


def _taken(function: Callable[..., Any], name: str, variables: Mapping[str, str], payload: Payload) -> tuple[str, ...]:
    signature = inspect.signature(function)
    takes_all = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    taken = tuple(variable for variable in variables if takes_all or variable in signature.parameters)
    try:
        signature.bind(*[None] * payload.wanted, **dict.fromkeys(taken))
    except TypeError as error:
        raise DeclarationError(
            f"{name}: it is called with the request, then with variables of the path by their names: {error}"
        ) from None
    return taken
