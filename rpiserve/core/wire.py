"""The messages that services exchange, as bytes.

JSON objects in UTF-8 over a bus of named channels, compatible with Daebus 0.0.31 in both directions:

=============  ====================  ================================================================================
Message        Channel               Members
=============  ====================  ================================================================================
request        the service's name    ``action``, ``payload``, ``reply_to``, ``request_id``, ``service`` (the target),
                                     ``sender`` and ``timeout`` (seconds from arrival, so that no two clocks need agree)
reply          ``reply_to``, else    ``status`` (``success``, ``error``, ``progress``), ``payload``, ``request_id``,
               ``NAME.responses``    ``final``
direct         the service's name    the message's own members and ``action``; no ``request_id``, so never answered
broadcast      any channel           any object
=============  ====================  ================================================================================

``final`` alone says whether a request is complete, and if it is missing it is. The payload of an error is ``{"error":
text, "code": code, "incident": id}``.

No I/O, no clock: these are functions from bytes to values and back.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import msgspec

from rpiserve.data import encoding
from rpiserve.declare.names import LONGEST_CHANNEL
from rpiserve.errors import MessageError, RemoteError, RemoteTimeout

LARGEST: Final = 1 << 20
"""In bytes. One that is larger is refused where it is made: a server drops the subscribers that cannot take it."""

UNKNOWN_ACTION: Final = "unknown_action"
INVALID_PAYLOAD: Final = "invalid_payload"
HANDLER_ERROR: Final = "handler_error"
TIMEOUT: Final = "timeout"
BUSY: Final = "busy"
UNSERIALIZABLE: Final = "unserializable"


class BrokenMessage(Exception):
    """What arrived is no message; its text says why."""


@attrs.frozen
class Request:
    """A request or a direct message, as it arrived.

    Attributes:
        action: what is asked for; any JSON value, since anybody may send anything.
        payload: its ``payload``; of a message without one, all of it but ``action``.
        request_id: what its answer is to carry; None if it shall have none.
        reply_to: the channel for the answer; None if it names none.
        timeout: seconds from its arrival after which nobody waits for the answer any more; None if it does not say.
        sender: who sent it, by its own account.
        raw: all of it.
    """

    action: Any
    payload: Any
    request_id: str | int | None
    reply_to: str | None
    timeout: float | None
    sender: str | None
    raw: dict[str, Any]


@attrs.frozen
class Reply:
    """An answer, or a part of one.

    Attributes:
        request_id: which request it belongs to.
        status: ``success``, ``error`` or ``progress``.
        payload: what it says.
        final: whether it completes the request.
    """

    request_id: str
    status: str
    payload: Any
    final: bool


def parse(message: bytes) -> dict[str, Any]:
    """Return the object that ``message`` is.

    Raises:
        BrokenMessage: it is none.
    """
    if len(message) > LARGEST:
        raise BrokenMessage(f"it has {len(message)} bytes, more than {LARGEST}")
    if encoding.is_too_deep(message):
        raise BrokenMessage(f"it nests deeper than {encoding.JSON_DEPTH} levels")
    try:
        return _decode_object(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BrokenMessage(f"it is no JSON object: {error}") from None


def is_between_two(message: Mapping[str, Any]) -> bool:
    """Tell whether ``message`` is a request or a reply, which are nobody's business but of those two."""
    return "request_id" in message and ("action" in message or "status" in message)


_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def parse_request(message: bytes) -> Request:
    """Return the request or direct message that ``message`` is.

    Raises:
        BrokenMessage: it is none, or could not be answered.
    """
    raw = parse(message)
    if "action" not in raw:
        raise BrokenMessage("it has no action")
    request_id, reply_to, sender = raw.get("request_id"), raw.get("reply_to"), raw.get("sender")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | None):
        raise BrokenMessage("its request_id is neither a text nor a whole number")
    if isinstance(request_id, str) and len(request_id) > LONGEST_CHANNEL:
        raise BrokenMessage(f"its request_id has more than {LONGEST_CHANNEL} characters")
    if reply_to is not None and not (isinstance(reply_to, str) and 0 < len(reply_to) <= LONGEST_CHANNEL):
        raise BrokenMessage("its reply_to is no name of a channel")
    return Request(
        action=raw["action"],
        payload=payload_of(raw),
        request_id=request_id,
        reply_to=reply_to,
        timeout=_seconds(raw.get("timeout")),
        sender=sender if isinstance(sender, str) else None,
        raw=raw,
    )


def payload_of(raw: dict[str, Any]) -> Any:
    """Return the payload of the message ``raw``: its member of that name or, without one, all of it but the action."""
    return raw["payload"] if "payload" in raw else {key: raw[key] for key in raw if key != "action"}


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        return None
    return float(value)


def parse_reply(message: bytes) -> Reply:
    """Return the reply that ``message`` is.

    Raises:
        BrokenMessage: it is none.
    """
    raw = parse(message)
    request_id, status = raw.get("request_id"), raw.get("status")
    if not isinstance(request_id, str) or not isinstance(status, str):
        raise BrokenMessage("a reply has a request_id and a status, both of them texts")
    return Reply(request_id, status, raw.get("payload"), raw.get("final", True) is not False)


def request(
    service: str, action: str, payload: Any, *, reply_to: str, request_id: str, sender: str, timeout: float
) -> bytes:
    """Return a request. ``payload`` is in the types of JSON, or `encoding.raw` JSON; ``timeout`` is in seconds.

    Raises:
        MessageError: it is too large.
    """
    return encode(
        {
            "action": action,
            "payload": payload,
            "reply_to": reply_to,
            "request_id": request_id,
            "service": service,
            "sender": sender,
            "timeout": timeout,
        }
    )


def reply(request_id: str | int, status: str, payload: Any, *, final: bool) -> bytes:
    """Return a reply. ``payload`` is in the types of JSON, or `encoding.raw` JSON.

    Raises:
        MessageError: it is too large.
    """
    return encode({"status": status, "payload": payload, "request_id": request_id, "final": final})


def error(
    text: str, code: str | None, incident: str | None = None, errors: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """Return the payload of an error reply. ``errors`` are those in a request's payload, field by field."""
    members = {"error": text, "code": code, "incident": incident, "errors": list(errors) or None}
    return {name: value for name, value in members.items() if value is not None}


def parse_error(payload: Any) -> RemoteError:
    """Return the error that the ``payload`` of an error reply tells of, whoever has written it."""
    if not isinstance(payload, dict):
        return RemoteError(encoding.printable(f"{payload!s:.1000}"))
    text, code, incident = (payload.get(member) for member in ("error", "code", "incident"))
    errors = payload.get("errors")
    kind = RemoteTimeout if code == TIMEOUT else RemoteError
    return kind(
        encoding.printable(f"{'an error without a text' if text is None else text!s:.1000}"),
        code if isinstance(code, str) else None,
        incident if isinstance(incident, str) else None,
        [each for each in errors if _is_field_error(each)] if isinstance(errors, list) else (),
    )


def _is_field_error(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"argument", "message"} and all(map(_is_text, value.values()))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def encode(message: Mapping[str, Any]) -> bytes:
    """Return ``message``, which is in the types of JSON, as bytes.

    Raises:
        MessageError: it is too large.
    """
    return checked_size(encoding.encode(message))


def checked_size(message: bytes) -> bytes:
    """Return ``message``.

    Raises:
        MessageError: it is too large.
    """
    if len(message) > LARGEST:
        raise MessageError(f"a message may have {LARGEST} bytes, and this one has {len(message)}")
    return message
