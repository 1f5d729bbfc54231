"""What belongs to the handler that runs: its request and response, and the daemon's broadcast, cache and logger.

``from rpiserve import broadcast, cache, logger, request, response`` gives proxies. Each handler sees its own behind
them, in its worker thread as well as on the reactor, because they go by a context variable.
"""

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from string import Formatter
from typing import Any

import attrs
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.python.reflect import safe_repr, safe_str
from werkzeug.local import LocalProxy

from rpiserve.data.encoding import printable
from rpiserve.errors import NotRunning


@attrs.frozen
class DaemonScope:
    """What all handlers of a daemon have in common.

    Attributes:
        broadcast: sends messages to channels.
        cache: keeps small values.
    """

    broadcast: Any
    cache: Any


@attrs.frozen
class RunScope:
    """What one run of a handler sees.

    Attributes:
        name: the handler's name.
        daemon_scope: what it has in common with the others.
        request: what it answers, if it answers something.
        response: how it does so.
    """

    name: str
    daemon_scope: DaemonScope | None = None
    request: Any = None
    response: Any = None


scope: ContextVar[RunScope] = ContextVar("rpiserve_scope")
"""Of the handler that runs. The `Runner` sets it."""


class OutsideHandler(NotRunning, RuntimeError):
    """A proxy was used where nothing is behind it.

    Being a `RuntimeError`, too, it does not escape from ``repr``, ``isinstance`` and the like: a debugger, or a test
    runner, that looks through a module finds a `LocalProxy` there.
    """


def _of_daemon(what: str) -> Any:
    def find() -> Any:
        daemon_scope = getattr(scope.get(None), "daemon_scope", None)
        if daemon_scope is None:
            raise OutsideHandler(f"{what} is there only in a handler that runs; elsewhere, app.{what} does the same")
        return getattr(daemon_scope, what)

    return LocalProxy(find)


def _of_request(what: str) -> Any:
    def find() -> Any:
        found = getattr(scope.get(None), what, None)
        if found is None:
            raise OutsideHandler(f"{what} is there only in a handler that answers a request or a message")
        return found

    return LocalProxy(find)


request: Any = _of_request("request")
response: Any = _of_request("response")
broadcast: Any = _of_daemon("broadcast")
cache: Any = _of_daemon("cache")


class _OnlyNames(Formatter):
    """Formats with the given names and nothing else: no attribute or item of a value can be reached."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        return kwargs[field_name], field_name


_formatter = _OnlyNames()


class HandlerLogger:
    """Logs under the name of the handler that runs. Works anywhere.

    A text alone is logged as it is: nothing in it acts as a format. With arguments by name, ``{name}`` in the text
    stands for each; with others, the text is formatted with ``%`` as in the standard library's logging.
    """

    def debug(self, text: object, /, *arguments: Any, **fields: Any) -> None:
        """Log ``text`` for whoever looks for an error."""
        self._emit(LogLevel.debug, text, arguments, fields)

    def info(self, text: object, /, *arguments: Any, **fields: Any) -> None:
        """Log ``text``, which is good to know."""
        self._emit(LogLevel.info, text, arguments, fields)

    def warning(self, text: object, /, *arguments: Any, **fields: Any) -> None:
        """Log ``text`` as a warning."""
        self._emit(LogLevel.warn, text, arguments, fields)

    warn = warning

    def error(self, text: object, /, *arguments: Any, **fields: Any) -> None:
        """Log ``text`` as an error."""
        self._emit(LogLevel.error, text, arguments, fields)

    def critical(self, text: object, /, *arguments: Any, **fields: Any) -> None:
        """Log ``text`` as an error that must not be overlooked."""
        self._emit(LogLevel.critical, text, arguments, fields)

    def exception(self, text: object, /, *arguments: Any, **fields: Any) -> None:
        """Log ``text`` as an error, with the traceback of the exception that is being handled."""
        self._emit(LogLevel.error, text, arguments, fields, Failure() if sys.exc_info()[0] is not None else None)

    def _emit(
        self,
        level: Any,
        text: object,
        arguments: tuple[Any, ...],
        fields: dict[str, Any],
        failure: Failure | None = None,
    ) -> None:
        name = getattr(scope.get(None), "name", "app")
        event = {} if failure is None else {"log_failure": failure}
        shown = printable(formatted(safe_str(text), arguments, fields))
        Logger(namespace=name).emit(level, "{text}", text=shown, handler=name, **event)


def formatted(text: str, arguments: tuple[Any, ...], fields: dict[str, Any]) -> str:
    """Return ``text`` with its arguments put in. What does not fit together is shown side by side, and never raises."""
    if not arguments and not fields:
        return text
    by_name = len(arguments) == 1 and isinstance(arguments[0], Mapping) and "%(" in text
    try:
        return text % (arguments[0] if by_name else arguments) if arguments else _formatter.vformat(text, (), fields)
    except Exception:  # noqa: BLE001 - a value's own __str__ may raise anything, and to log must never fail
        return f"{text} {safe_repr(arguments or fields):.1000}"


logger = HandlerLogger()
