"""The HTTP side of the actions: ``/actions`` and ``/services``.

An action is asked for by a ``POST`` with the payload as JSON, and the answer is the reply's payload. A client that
accepts ``text/event-stream`` gets an event for each progress, and then one with the ``result`` or the ``error``.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from rpiserve.core import wire
from rpiserve.core.interfaces import Messaging
from rpiserve.core.tokens import CONTROL
from rpiserve.data import encoding
from rpiserve.declare.names import NAME
from rpiserve.web.endpoint_declaration import GENERATED, endpoint
from rpiserve.web.openapi.parts import name_in_path, operation, parameter, problems, reply
from rpiserve.web.problems import Problem, problem_from, problem_of_own_reply
from rpiserve.web.server.body import query_of, read_json
from rpiserve.web.server.event_stream import CONTENT_TYPE, EventStream, Streams
from rpiserve.web.server.request import LimitedRequest

CALL_SECONDS = 5.0
"""How long another service may take by default."""

LONGEST_CALL = 3600.0

Tell = Callable[[bytes], None]
Start = Callable[[Tell | None], Deferred[bytes]]
"""Asks for an action and returns what the reply's payload comes by, as JSON; what it is given hears of the progress."""


_TIMEOUT: Final = parameter(
    "timeout",
    "query",
    {"type": "number", "exclusiveMinimum": 0, "maximum": LONGEST_CALL, "default": CALL_SECONDS},
    "How many seconds the answer may take.",
)


class ActionEndpoints:
    """Answers the requests for actions.

    Args:
        messaging: who handles and sends them.
        streams: the streams of events.
    """

    def __init__(self, messaging: Messaging, streams: Streams) -> None:
        self._messaging = messaging
        self._streams = streams

    @endpoint("POST", "/actions/<action>", role=CONTROL, operation=GENERATED)
    def own(self, request: LimitedRequest, action: str) -> Deferred[None]:
        """Have an action of this service answer. A client that leaves does not stop it."""
        body, payload = read_json(request)
        _timeout(request)  # without effect, since the action has a time limit of its own; but a wrong one is told

        def start(tell: Tell | None) -> Deferred[bytes]:
            result: Deferred[bytes] = Deferred()

            def send(status: str, payload: bytes, final: bool) -> Deferred[int]:
                heard = not result.called
                if heard and not final and tell is not None:
                    tell(payload)
                elif heard and final and status == "error":
                    error = wire.parse_error(msgspec.json.decode(payload))
                    result.errback(problem_of_own_reply(error))
                elif heard and final:
                    result.callback(payload)
                return succeed(int(heard))

            self._messaging.call_own(action, payload, len(body), send)
            return result

        return self._answer(request, start)

    @endpoint(
        "POST",
        "/services/<service>/<action>",
        role=CONTROL,
        operation=operation(
            "messages",
            "Have an action of any service answer",
            "The body is the payload; none is an empty object. A client that leaves ends the request.",
            responses={**reply({}), **problems(404, 415, 422, 502, 503, 504)},
            parameters=(
                name_in_path("service", "The name of the service.", "greenhouse"),
                name_in_path("action", "The name of the action.", "get_status"),
                _TIMEOUT,
            ),
            body={},
            required=False,
        ),
    )
    def remote(self, request: LimitedRequest, service: str, action: str) -> Deferred[None]:
        """Have an action of another service answer. A client that leaves ends the request."""
        body, _ = read_json(request)
        for name, what in ((service, "a service"), (action, "an action")):
            if not NAME.fullmatch(name):
                raise Problem(404, f"{name[:100]!r} is no name of {what}")
        seconds = _timeout(request)

        def start(tell: Tell | None) -> Deferred[bytes]:
            def progress(payload: Any) -> None:
                if tell is not None:
                    tell(encoding.encode(payload))

            reply = self._messaging.call(service, action, body, seconds, progress)
            return reply.addCallback(encoding.encode)

        return self._answer(request, start)

    def _answer(self, request: LimitedRequest, start: Start) -> Deferred[None]:
        accepted = request.getHeader(b"Accept") or b""
        if CONTENT_TYPE not in accepted.lower():
            return start(None).addCallback(request.answer_json)
        self._streams.check()  # before anything is done
        stream: EventStream | None = None
        early: list[bytes] = []  # before the stream begins, which it does not if the error is known at once

        def tell(payload: bytes) -> None:
            if stream is None:
                early.append(payload)
            else:
                stream.send("progress", payload)

        result = start(tell)
        if result.called and isinstance(getattr(result, "result", None), Failure):
            return result.addCallback(request.answer_json)
        stream = opened = self._streams.open(request)
        opened.on_end = result.cancel
        for payload in early:
            tell(payload)

        def failed(failure: Failure) -> None:
            if not opened.ended:  # or it fails because the client has left
                opened.send("error", problem_from(failure).body())

        result.addCallbacks(lambda payload: opened.send("result", payload), failed)
        result.addBoth(lambda _: opened.end())
        return opened.done


def _timeout(request: LimitedRequest) -> float:
    text = query_of(request).get("timeout", [str(CALL_SECONDS)])[-1]
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_CALL:
        raise Problem(400, f"timeout is a number of seconds up to {LONGEST_CALL:g}")
    return seconds
