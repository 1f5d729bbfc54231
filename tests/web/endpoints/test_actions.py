"""Actions and broadcasts over HTTP: how they are asked for, and how each outcome is answered."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from command_peer import JSON, Client
from http_peer import Peer, make_router, make_site, request
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from rpiserve.errors import (
    BusUnavailable,
    CallTimeout,
    MessageError,
    NoResponders,
    RemoteError,
    RemoteTimeout,
    Stopped,
    TooManyPending,
)
from rpiserve.web.server.event_stream import Streams

STREAM = "Accept: text/event-stream"


class Messages:
    """Messaging whose answers the test gives.

    Attributes:
        own: what the next own action does with the function that sends its answers.
        sends: those functions.
        calls: the requests by the bus, and the Deferreds of their answers.
        failure: what the next request or broadcast raises.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, int]] = []
        self.own: Callable[[Any], object] = lambda send: None
        self.sends: list[Any] = []
        self.calls: list[tuple[str, str, bytes, float]] = []
        self.results: list[Deferred[Any]] = []
        self.progress: Any = None
        self.cancelled = 0
        self.failure: Exception | None = None
        self.published: list[tuple[str, bytes]] = []
        self.heard: list[str] = []
        self.receiver: Any = None

    @property
    def untouched(self) -> bool:
        """Whether nothing has been asked for or sent."""
        return not (self.asked or self.calls or self.published)

    def call_own(self, action: str, payload: Any, size: int, send: Any) -> None:
        """Note it, and do what `own` does."""
        self.asked.append((action, payload, size))
        self.sends.append(send)
        self.own(send)

    def call(self, service: str, action: str, payload: bytes, timeout: float, progress: Any) -> Deferred[Any]:
        """Note it."""
        if self.failure is not None:
            raise self.failure
        self.calls.append((service, action, payload, timeout))
        self.progress = progress
        self.results.append(Deferred(self.count))
        return self.results[-1]

    def count(self, _: Deferred[Any]) -> None:
        """Count what is cancelled."""
        self.cancelled += 1

    def publish(self, channel: str, message: bytes) -> Deferred[int]:
        """Note it."""
        if self.failure is not None:
            raise self.failure
        self.published.append((channel, message))
        return succeed(3)

    def hear(self, channels: Sequence[str], receiver: Any) -> Callable[[], None]:
        """Note it."""
        self.heard, self.receiver = [*channels], receiver
        return self.heard.clear


@pytest.fixture
def clock() -> Clock:
    """The reactor's clock."""
    return Clock()


@pytest.fixture
def messages() -> Messages:
    """What is behind the routes."""
    return Messages()


@pytest.fixture
def client(clock: Clock, messages: Messages) -> Client:
    """A client of the routes, which have one stream at most."""
    streams = Streams(clock, most=1)  # type: ignore[arg-type]
    return Client(make_site(clock, resource=make_router(clock, messaging=messages, streams=streams)))


def send(client: Client, target: str, *headers: str, body: bytes = b"{}") -> Peer:
    """Send a ``POST`` and return its connection."""
    return client.send(target, "POST", JSON, *headers, body=body)


def events(peer: Peer) -> list[tuple[str, Any]]:
    """Return the types and the data of the events so far."""
    body = peer.received.partition(b"\r\n\r\n")[2]
    texts = []
    while body and not body.startswith(b"0\r\n"):
        size, _, body = body.partition(b"\r\n")
        texts.append(body[: int(size, 16)].decode())
        body = body[int(size, 16) + 2 :]
    lines = [text.splitlines() for text in texts if text.startswith("event: ")]
    return [
        (kind.removeprefix("event: "), msgspec.json.decode(data.removeprefix("data: "))) for kind, data, *_ in lines
    ]


def is_over(peer: Peer) -> bool:
    """Tell whether the stream has come to its end."""
    return peer.received.endswith(b"\r\n0\r\n\r\n")


# --- own actions ------------------------------------------------------------------------------------------------------


def test_own(client: Client, messages: Messages) -> None:
    """The body is the payload, and the reply's payload is the answer."""
    messages.own = lambda send: send("success", b'{"a":1}', True)
    answer = client.ask("/actions/get", "POST", JSON, body=b' {"zone": 7}')
    assert (answer.status, answer.body) == (200, b'{"a":1}')
    assert answer.headers["cache-control"] == "no-store"
    assert messages.asked == [("get", {"zone": 7}, 12)]


def test_no_body(client: Client, messages: Messages) -> None:
    """No body is an empty object."""
    messages.own = lambda send: send("success", b"null", True)
    assert client.ask("/actions/get", "POST", JSON).body == b"null"
    assert messages.asked[0][1] == {}


def test_answer_later(client: Client, messages: Messages) -> None:
    """The answer may take its time; what comes before it is not for a client that did not ask for it."""
    peer = send(client, "/actions/get")
    assert not peer.received
    assert messages.sends[0]("progress", b"1", False).called
    assert messages.sends[0]("success", b"2", True).called
    assert peer.answer().body == b"2"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("unknown_action", 404),
        ("invalid_payload", 422),
        ("handler_error", 500),
        ("unserializable", 500),
        ("timeout", 504),
        ("busy", 503),
        ("custom", 500),
    ],
)
def test_own_errors(client: Client, messages: Messages, code: str, status: int) -> None:
    """An error reply has the status of its code, its text, and the code itself."""
    reply = msgspec.json.encode({"error": "why", "code": code, "incident": "1234"})
    messages.own = lambda send: send("error", reply, True)
    answer = client.ask("/actions/get", "POST", JSON)
    problem = answer.json()
    assert (answer.status, problem["code"], problem["detail"]) == (status, code, "why")
    assert problem["incident"] == "1234"
    assert "errors" not in problem


def test_own_field_errors(client: Client, messages: Messages) -> None:
    """What is wrong with the payload is told field by field."""
    errors = [{"argument": "zone", "message": "no number"}]
    reply = msgspec.json.encode({"error": "why", "code": "invalid_payload", "errors": errors})
    messages.own = lambda send: send("error", reply, True)
    problem = client.ask("/actions/get", "POST", JSON).json()
    assert problem["errors"] == errors
    assert "incident" not in problem


@pytest.mark.parametrize("headers", [(), (STREAM,)])
def test_own_goes_on_without_client(client: Client, messages: Messages, headers: tuple[str, ...]) -> None:
    """An action whose client has left goes on, and what it answers has no receiver."""
    peer = send(client, "/actions/get", *headers)
    peer.leave()
    counts: list[int] = []
    for status, final in (("progress", False), ("error", True)):
        messages.sends[0](status, b'{"error":"why"}', final).addCallback(counts.append)
    assert counts == [0, 0]


# --- what is wrong with a request ------------------------------------------------------------------------------------

ROUTES = ["/actions/get", "/services/other/get", "/broadcasts/a"]


@pytest.mark.parametrize("target", ROUTES)
@pytest.mark.parametrize(
    ("header", "body", "status"),
    [
        ("Content-Type: text/plain", b"{}", 415),
        (JSON, b"{", 400),
        (JSON, b'"\xff"', 400),
        (JSON, b"[" * 33 + b"]" * 33, 400),
    ],
)
def test_bad_bodies(client: Client, messages: Messages, target: str, header: str, body: bytes, status: int) -> None:
    """A body that is no JSON, or not said to be, is refused, and nothing is done."""
    assert client.ask(target, "POST", header, body=body).status == status
    assert messages.untouched


@pytest.mark.parametrize("target", ROUTES)
def test_foreign_pages(client: Client, messages: Messages, target: str) -> None:
    """A page of another origin may do nothing."""
    assert client.ask(target, "POST", JSON, "Origin: http://evil.example").status == 403
    assert messages.untouched


@pytest.mark.parametrize("target", ROUTES)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_other_methods(client: Client, target: str, method: str) -> None:
    """Whatever acts is a ``POST``, and a refusal says so."""
    answer = client.ask(target, method)
    assert answer.status == 405
    assert answer.headers["allow"] == "OPTIONS, POST"


@pytest.mark.parametrize("target", ["/services/a%20b/get", "/services/a/g%2Ft", "/broadcasts/a*", "/broadcasts/%C3%A9"])
def test_bad_names(client: Client, messages: Messages, target: str) -> None:
    """A name that none can have is not found, and not sent anywhere."""
    assert client.ask(target, "POST", JSON).status == 404
    assert messages.untouched


@pytest.mark.parametrize("target", ["/actions/get", "/services/other/get"])
@pytest.mark.parametrize(
    "query", ["timeout=0", "timeout=-1", "timeout=x", "timeout=nan", "timeout=3601", "timeout=%FF"]
)
def test_bad_timeouts(client: Client, messages: Messages, target: str, query: str) -> None:
    """A timeout that is none is refused, and nothing is done."""
    assert client.ask(f"{target}?{query}", "POST", JSON).status == 400
    assert messages.untouched


# --- actions of other services ----------------------------------------------------------------------------------------


def test_remote(client: Client, messages: Messages) -> None:
    """The body goes as it came, with the timeout that the query has, and the reply's payload is the answer."""
    peer = send(client, "/services/other/get?timeout=0.5", body=b'{"zone":7}')
    assert messages.calls == [("other", "get", b'{"zone":7}', 0.5)]
    messages.results[0].callback({"a": [1, None]})
    assert peer.answer().body == b'{"a":[1,null]}'


def test_default_timeout(client: Client, messages: Messages) -> None:
    """Without a timeout a service has five seconds."""
    peer = send(client, "/services/other/get")
    assert messages.calls[0][3] == 5.0
    if messages.progress is not None:
        messages.progress(50)  # of which a client that did not ask for it hears nothing
    messages.results[0].callback(1)
    assert peer.answer().body == b"1"


@pytest.mark.parametrize("code", ["My Code!", "x" * 41, "", "no-responders", 7, None])
def test_own_errors_with_a_code_that_is_none(client: Client, messages: Messages, code: object) -> None:
    """Of an own action's codes only words get to clients; any other stands for an error of the handler's."""
    messages.own = lambda send: send("error", msgspec.json.encode({"error": "why", "code": code}), True)
    answer = client.ask("/actions/get", "POST", JSON)
    assert (answer.status, answer.json()["code"]) == (500, "handler_error")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RemoteError("why", "unknown_action"), 404),
        (RemoteError("why", "invalid_payload"), 422),
        (RemoteError("why", "busy"), 503),
        (RemoteTimeout("why", "timeout"), 504),
        (RemoteError("why", "handler_error", "1234"), 502),
        (RemoteError("why", "My Code!"), 502),
        (RemoteError("why", "no_responders"), 502),
        (RemoteError("why"), 502),
    ],
)
def test_errors_of_other_services(client: Client, messages: Messages, error: RemoteError, status: int) -> None:
    """What another service says went wrong has one code, so that none of its own can pass for one of the daemon's."""
    peer = send(client, "/services/other/get")
    messages.results[0].errback(error)
    problem = peer.answer().json()
    assert (problem["status"], problem["detail"]) == (status, "why")
    assert (problem["code"], problem["remote_code"]) == ("remote_error", error.code)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NoResponders("why"), 503, "no_responders"),
        (BusUnavailable("why"), 503, "bus_unavailable"),
        (TooManyPending("why"), 503, "busy"),
        (Stopped("why"), 503, "shutting_down"),
        (CallTimeout("why"), 504, "timeout"),
        (MessageError("why"), 413, "too_large"),
    ],
)
def test_errors_on_the_way(client: Client, messages: Messages, error: Exception, status: int, code: str) -> None:
    """Each way in which a service is not reached has its status, its text and its code."""
    peer = send(client, "/services/other/get")
    messages.results[0].errback(error)
    problem = peer.answer().json()
    assert (problem["status"], problem["detail"], problem["code"]) == (status, "why", code)
    assert "remote_code" not in problem


@pytest.mark.parametrize("headers", [(), (STREAM,)])
def test_remote_ends_with_client(client: Client, messages: Messages, headers: tuple[str, ...]) -> None:
    """Nobody waits for an answer any more whose client has left, and nothing of that is an error."""
    send(client, "/services/other/get", *headers).leave()
    assert messages.cancelled == 1
    outcome: list[Any] = []
    messages.results[0].addBoth(outcome.append)
    assert not any(isinstance(each, CancelledError) for each in outcome)


# --- progress ---------------------------------------------------------------------------------------------------------


def test_own_progress(client: Client, messages: Messages) -> None:
    """Each progress is an event, and the result is the last one."""
    messages.own = lambda send: send("progress", b"1", False)
    peer = send(client, "/actions/get", STREAM)
    assert events(peer) == [("progress", 1)]
    messages.sends[0]("success", b"2", False)
    messages.sends[0]("success", b'{"a":3}', True)
    assert events(peer) == [("progress", 1), ("progress", 2), ("result", {"a": 3})]
    assert is_over(peer)
    peer.leave()


def test_remote_progress(client: Client, messages: Messages) -> None:
    """So it is with other services, and with an error, which is the problem that it would be without a stream."""
    peer = send(client, "/services/other/get", STREAM)
    messages.progress({"done": 1})
    messages.results[0].errback(RemoteError("why", "custom"))
    (first, last) = events(peer)
    assert first == ("progress", {"done": 1})
    assert last[0] == "error"
    assert (last[1]["status"], last[1]["remote_code"], last[1]["detail"]) == (502, "custom", "why")
    assert is_over(peer)
    peer.leave()


def test_error_at_once(client: Client, messages: Messages) -> None:
    """An error that is known at once has its own status, stream or not."""
    messages.own = lambda send: send("error", b'{"error":"why","code":"unknown_action"}', True)
    assert send(client, "/actions/get", STREAM).answer().status == 404
    messages.failure = MessageError("too large")
    assert send(client, "/services/other/get", STREAM).answer().status == 413


def test_result_at_once(client: Client, messages: Messages) -> None:
    """A result that is there at once is an event, as any."""
    messages.own = lambda send: send("success", b"1", True)
    peer = send(client, "/actions/get", STREAM)
    assert events(peer) == [("result", 1)]
    assert is_over(peer)
    peer.leave()


def test_no_stream_left(client: Client, messages: Messages) -> None:
    """Without room for a stream the action is refused before it has begun."""
    first = send(client, "/actions/get", STREAM)
    assert send(client, "/actions/get", STREAM).answer().status == 503
    assert len(messages.asked) == 1
    first.leave()


# --- broadcasts -------------------------------------------------------------------------------------------------------


def test_publish(client: Client, messages: Messages) -> None:
    """The object in the body is sent as it came, and the answer is how many receivers it has."""
    answer = client.ask("/broadcasts/sensors.a-1", "POST", JSON, body=b'{"a": 1}')
    assert (answer.status, answer.json()) == (200, {"receivers": 3})
    assert messages.published == [("sensors.a-1", b'{"a": 1}')]


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"a"'])
def test_publish_no_object(client: Client, messages: Messages, body: bytes) -> None:
    """Only an object is a broadcast."""
    assert client.ask("/broadcasts/a", "POST", JSON, body=body).status == 422
    assert not messages.published


def test_publish_fails(client: Client, messages: Messages) -> None:
    """Without a bus there is no broadcast."""
    messages.failure = BusUnavailable("why")
    assert client.ask("/broadcasts/a", "POST", JSON).status == 503


def test_listen(client: Client, messages: Messages) -> None:
    """What is sent to the channels is an event on one line, unless it is no object, until the client leaves."""
    peer = client.send("/events?types=broadcast&channel=a&channel=sensors.*&channel=a")
    assert messages.heard == ["a", "sensors.*"]
    messages.receiver("a", b'{"x":\n 1}')
    messages.receiver("a", b"[1]")
    messages.receiver("sensors.b", b"{}")
    assert events(peer) == [
        ("broadcast", {"channel": "a", "payload": {"x": 1}}),
        ("broadcast", {"channel": "sensors.b", "payload": {}}),
    ]
    peer.leave()
    assert messages.heard == []


@pytest.mark.parametrize(
    "query",
    [
        "?types=data&channel=a",
        "?types=change&channel=a",
        "?types=broadcast",
        "?types=broadcast" + "".join(f"&channel={number}" for number in range(17)),
        "?types=broadcast&channel=",
        "?types=broadcast&channel=%00",
        "?types=broadcast&channel=%FF",
    ],
)
def test_bad_listening(client: Client, messages: Messages, query: str) -> None:
    """What there is no stream of is refused."""
    assert client.ask(f"/events{query}").status == 400
    assert messages.receiver is None


@pytest.mark.parametrize("method", ["HEAD", "POST"])
def test_other_methods_of_events(client: Client, method: str) -> None:
    """A stream is a ``GET``: its head alone tells nothing."""
    answer = client.ask("/events?types=broadcast&channel=a", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, OPTIONS")


def test_foreign_page_takes_no_stream(client: Client) -> None:
    """A page of another origin could not read a stream; nor can it use them up."""
    assert client.ask("/events?types=broadcast&channel=a", "GET", "Origin: http://evil.example").status == 403


def test_no_bus(clock: Clock) -> None:
    """A daemon without a bus answers all that needs one with 503."""
    peer = Peer(make_site(clock)).send(request("/services/other/get", "POST", JSON, body=b"{}"))
    assert peer.answer().status == 503
