"""Every error that rpiserve raises on purpose.

The text of each is written for the user: what was wrong, where, and what to do. Programs go by the code.
"""

from collections.abc import Mapping, Sequence
from typing import Final

CODES: Final[Mapping[str, str]] = {
    "bad_request": "the request is malformed: its JSON, its path, its query or a header",
    "bus_unavailable": "the bus cannot be reached",
    "busy": "too much is under way; try again later",
    "forbidden": "the token's role is too small, or a page from another site may not do this",
    "handler_error": "a function of the app has raised; the log has more under the incident",
    "internal_error": "an error in the daemon itself; the log has more under the incident",
    "invalid_arguments": "the arguments of a command do not fit; `errors` names each",
    "invalid_payload": "the payload of an action, a route or a broadcast does not fit; `errors` names the field",
    "method_not_allowed": "the path does not have this method; the header Allow lists those that it has",
    "misdirected_request": "the daemon does not answer to the host name of the request",
    "no_responders": "no service listens; nothing was done",
    "not_found": "there is nothing at this path",
    "remote_error": "another service has answered with an error; `remote_code` is its own code, or null",
    "request_timeout": "the request took too long to arrive",
    "shutting_down": "the daemon is shutting down",
    "timeout": "there was no result within the time limit; whether it was done is not known",
    "too_large": "the request or the message is too large",
    "too_many_requests": "there were too many wrong tokens from this address; Retry-After has the seconds to wait",
    "unauthorized": "a token is needed, or the one that was sent is wrong",
    "unknown_action": "the service has no such action",
    "unknown_command": "there is no such command",
    "unserializable": "a function of the app has returned what cannot be sent as JSON",
    "unsupported_media_type": "the Content-Type is not the one that is needed",
    "uri_too_long": "the path is too long",
}
"""The codes of the errors that rpiserve makes, in HTTP answers and in replies, and what each means.

An app may send others: an action with a code of its own, and a route with a status that is not here.
"""


class RpiserveError(Exception):
    """The base of all errors that rpiserve raises on purpose.

    Attributes:
        code: the word in `CODES` that a program can go by; None for what does not leave the process.
    """

    code: str | None = None


class DeclarationError(RpiserveError, ValueError):
    """A declaration in an app module is wrong. Raised at the line that makes it, or by a run if only that shows it."""


class ConfigError(RpiserveError):
    """An option, an environment variable or a line of the TOML file is wrong."""


class StartError(RpiserveError):
    """The daemon cannot start: its port is taken, say."""


class NotRunning(RpiserveError):
    """Something was used that works only while the daemon runs, or only in a handler of another kind."""


class Stopped(RpiserveError):
    """The daemon is shutting down, or a caller was closed: what was asked for will not be had any more."""

    code = "shutting_down"


class PathError(RpiserveError, ValueError):
    """A path or a key that the data tree cannot have."""


class DataError(RpiserveError, TypeError):
    """A value or a place that the data tree refuses; the text names the path."""


class SensorError(RpiserveError):
    """A reading that failed for a reason the user should see.

    Its text is shown as it is in ``/sensors`` and ``/data?meta=1``. Of any other exception only the class and an
    incident id are shown, because its text may hold what is nobody's business.
    """


class HandlerTimeout(SensorError):
    """A handler did not end within its time limit."""

    code = "timeout"


class ResourceHeld(SensorError):
    """A shared resource is held by a handler that hangs."""

    code = "busy"


class UnknownCommand(RpiserveError):
    """A command was called that there is not."""

    code = "unknown_command"


class HandlerFailed(RpiserveError):
    """A handler raised. What it raised is in the log.

    Attributes:
        incident: the id under which it stands there.
        code: ``handler_error``, or ``unserializable`` if it has returned what cannot be sent.
    """

    code = "handler_error"

    def __init__(self, text: str, incident: str, code: str = code) -> None:
        super().__init__(text)
        self.incident = incident
        self.code = code


class Cancelled(RpiserveError):
    """A run was given up, because the daemon stops."""

    code = "shutting_down"


class BusError(RpiserveError):
    """A message could not be sent, or a call brought no result."""


class BusUnavailable(BusError):
    """The bus cannot be reached. Whether a message that was under way has arrived is not known."""

    code = "bus_unavailable"


class MessageError(BusError, ValueError):
    """A message, a channel or a name that the bus does not take."""


class NoResponders(BusError):
    """Nobody listens for what was sent: the service is not there."""

    code = "no_responders"


class CallTimeout(BusError):
    """A service has not answered in time. Whether it has done what was asked is not known."""

    code = "timeout"


class TooManyPending(BusError):
    """There are too many calls without an answer already."""

    code = "busy"


class RemoteError(BusError):
    """A service has answered with an error.

    Attributes:
        code: what kind of error, as in ``unknown_action``; None if the service gave no code, as Daebus does not.
        incident: the id under which more stands in that service's log, if it gave one.
        errors: what is wrong with the payload, as ``{"argument": field, "message": text}`` each.
    """

    def __init__(
        self,
        text: str,
        code: str | None = None,
        incident: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(text)
        self.code = code
        self.incident = incident
        self.errors = list(errors)


class RemoteTimeout(RemoteError, CallTimeout):
    """A service has answered that its own time limit has passed."""


class NotAllowed(RemoteError):
    """A daemon does not let this in: there is no token, it is wrong, or it may not do what was asked."""


class TokenError(RpiserveError):
    """A token, or the file of tokens, that cannot be used as was asked."""


class HttpError(RpiserveError):
    """A route's answer that is an error: raise it, and the client gets its status and text.

    Args:
        status: the HTTP status code, from 400 to 599.
        detail: what was wrong, for the client's reader.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"the status of an error is {status!r}; it is a number from 400 to 599")
        self.status = status


class AlreadyAnswered(RpiserveError):
    """A request got a second final answer."""
