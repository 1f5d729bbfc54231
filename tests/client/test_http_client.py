"""The client by HTTP. The daemon that it asks is a stand-in here, which answers as each test wants."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from deferreds import brought
from ears import Ears
from OpenSSL import SSL
from service_identity import VerificationError
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, ConnectionLost, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from rpiserve.client.http_client import ANSWER_SECONDS, GRACE_SECONDS, RETRY_SECONDS, HttpClient, error_from
from rpiserve.errors import (
    BusError,
    BusUnavailable,
    CallTimeout,
    MessageError,
    NoResponders,
    NotAllowed,
    RemoteError,
    RemoteTimeout,
)

URL = "http://127.0.0.1:8080"
SECRET = "never-shown-9b1f"
Answer = Callable[[Request], bytes | int]


class FakeDaemon(Resource):
    """Answers as it is told.

    Attributes:
        requests: what it was asked: methods, URIs and bodies.
        open: the requests that have no end yet.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.answer: Answer = lambda request: NOT_DONE_YET
        self.requests: list[tuple[str, str, bytes]] = []
        self.open: list[Request] = []

    def render(self, request: Request) -> bytes | int:
        """Keep the request and answer it."""
        assert request.content is not None
        self.requests.append((request.method.decode(), request.uri.decode(), request.content.read()))
        self.open.append(request)
        return self.answer(request)


def answer(body: bytes, kind: str = "application/json", code: int = 200) -> Answer:
    """Return an answer with this body."""

    def render(request: Request) -> int:
        request.setResponseCode(code)
        request.setHeader("Content-Type", kind)
        request.write(body)
        request.finish()
        return NOT_DONE_YET

    return render


def problem(status: int, detail: str, **members: Any) -> bytes:
    """Return the body of an error."""
    return json.dumps({"type": "about:blank", "title": "T", "status": status, "detail": detail, **members}).encode()


def stream(*events: tuple[str, Any], end: bool = True) -> Answer:
    """Return an answer that is a stream of events, with their data in JSON, each in a piece of its own."""

    def render(request: Request) -> int:
        request.setHeader("Content-Type", "text/event-stream; charset=utf-8")
        request.write(b": welcome\n")
        for name, data in events:
            request.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        if end:
            request.finish()
        return NOT_DONE_YET

    return render


class Setting:
    """A client and its daemon, in one process and with a clock in the test's hand."""

    def __init__(self, token: str | None = None) -> None:
        self.daemon = FakeDaemon()
        self.clock = Clock()
        self.agent = RequestTraversalAgent(self.daemon)
        self.client = HttpClient(f"{URL}/", self.agent, self.clock, token)

    def start(self, work: Coroutine[Any, Any, Any]) -> "Deferred[Any]":
        """Begin something, and let it go as far as it can."""
        begun = Deferred.fromCoroutine(work)
        self.agent.flush()
        return begun

    def call(self, progress: Callable[[Any], object] | None = None) -> "Deferred[Any]":
        """Call an action."""
        return self.start(self.client.call("porter", "carry", {"n": 1}, 2.5, progress))


@pytest.fixture
def setting() -> Setting:
    """A client and its daemon."""
    return Setting()


class TestHttpCall:
    def test_plain(self, setting: Setting) -> None:
        """Without progress the answer is the body."""
        setting.daemon.answer = answer(b'{"b": 2}')
        assert brought(setting.call()) == {"b": 2}
        assert setting.daemon.requests == [("POST", "/services/porter/carry?timeout=2.5", b'{"n":1}')]

    def test_progress(self, setting: Setting) -> None:
        """With progress it is a stream, whose result is the answer, whether it ends or not."""
        for end in (True, False):
            seen: list[Any] = []
            setting.daemon.answer = stream(("progress", {"at": 1}), ("hello", 0), ("result", [2]), end=end)
            assert brought(setting.call(seen.append)) == [2]
            assert seen == [{"at": 1}]

    def test_token(self) -> None:
        """The token goes with each request."""
        setting = Setting(SECRET)
        setting.daemon.answer = answer(b"null")
        assert brought(setting.call()) is None
        assert setting.daemon.open[0].getHeader("Authorization") == f"Bearer {SECRET}"

    @pytest.mark.parametrize("progress", [None, lambda _: None], ids=["plain", "progress"])
    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (422, "remote_error", RemoteError),
            (502, "remote_error", RemoteError),
            (503, "no_responders", NoResponders),
            (503, "bus_unavailable", BusUnavailable),
            (503, "busy", BusUnavailable),
            (503, "shutting_down", BusUnavailable),
            (504, "timeout", CallTimeout),
            (401, "unauthorized", NotAllowed),
            (403, "forbidden", NotAllowed),
        ],
    )
    def test_problem(self, status: int, code: str, kind: type[BusError], progress: Any, setting: Setting) -> None:
        """A problem is the error that the bus would have given, by its code and not by its text."""
        body = problem(status, "nobody listens", code=code)
        setting.daemon.answer = answer(body, "application/problem+json", status)
        with pytest.raises(kind, match="nobody listens") as caught:
            brought(setting.call(progress))
        assert caught.type is kind

    def test_problem_in_stream(self, setting: Setting) -> None:
        """So is one that comes after the stream has begun, with what else it has."""
        told = json.loads(problem(502, "it raised", code="remote_error", remote_code="handler_error", incident="a1"))
        setting.daemon.answer = stream(("progress", 1), ("error", told))
        with pytest.raises(RemoteError, match="it raised") as caught:
            brought(setting.call(lambda _: None))
        assert (caught.value.code, caught.value.incident) == ("handler_error", "a1")

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            (answer(b"<html>", "text/html", 502), "HTTP 502 and no problem object"),
            (answer(b"\xff", "text/html", 404), "HTTP 404 and no problem object"),
            (answer(b"[]", "application/json", 400), "HTTP 400 and no problem object"),
            (answer(b"", "text/html", 302), "HTTP 302 and no problem object"),
            (answer(b"<html>", "text/html"), "its answer is no JSON"),
            (stream(("error", "x")), "an error is no problem object"),
            (answer(b"event: result\ndata: x\n\n", "text/event-stream"), "its answer is no JSON"),
            (stream(("progress", 1)), "the connection was lost; whether it was done is not known"),
            (answer(b"data: " + b"x" * 5_000_000, "text/event-stream"), "an event has more than"),
        ],
    )
    def test_stranger(self, given: Answer, text: str, setting: Setting) -> None:
        """What answers in another way is no daemon."""
        setting.daemon.answer = given
        with pytest.raises(BusUnavailable, match=text):
            brought(setting.call(lambda _: None))

    def test_progress_raises(self, setting: Setting) -> None:
        """What the caller's own function raises is the caller's, and ends the request."""
        setting.daemon.answer = stream(("progress", 1), ("progress", 2), end=False)
        seen: list[Any] = []

        def show(payload: Any) -> None:
            seen.append(payload)
            raise KeyError("own")

        with pytest.raises(KeyError, match="own"):
            brought(setting.call(show))
        assert seen == [1]

    def test_late(self, setting: Setting) -> None:
        """A daemon that says nothing is given some time more than the call."""
        begun = setting.call()
        setting.clock.advance(2.5 + GRACE_SECONDS - 0.1)
        assert not begun.called
        setting.clock.advance(0.1)
        with pytest.raises(CallTimeout, match=r"has not answered within 2\.5 s"):
            brought(begun)

    def test_late_in_stream(self, setting: Setting) -> None:
        """So is one that has begun to answer."""
        setting.daemon.answer = stream(("progress", 1), end=False)
        begun = setting.call(lambda _: None)
        setting.clock.advance(2.5 + GRACE_SECONDS)
        with pytest.raises(CallTimeout):
            brought(begun)

    def test_names(self, setting: Setting) -> None:
        """Nothing is asked for by a name that is none."""
        with pytest.raises(MessageError):
            brought(setting.start(setting.client.call("a/b", "c", {}, 1, None)))
        assert not setting.daemon.requests


def untrusted(reason: str) -> ResponseFailed:
    """Return what a request fails with if TLS does."""
    return ResponseFailed([Failure(SSL.Error([("SSL routines", "", reason)]))])


class Unreachable:
    """An agent whose every request fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def request(self, *_: object) -> "Deferred[Any]":
        """Fail."""
        return fail(self.error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError("no"), "no"),
        (ResponseFailed([Failure(ConnectionLost("cut"))]), "cut"),
        (ConnectionDone(""), "Connection was closed cleanly"),
        (untrusted("certificate verify failed"), "its certificate is not trusted, or out of date; .* SSL_CERT_FILE"),
        (untrusted("wrong version number"), "TLS has failed: wrong version number$"),
        (ResponseFailed([Failure(SSL.Error())]), "TLS has failed: no reason is given$"),
        (ResponseFailed([Failure(VerificationError([]))]), "is for other hosts than the one of the URL"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unreachable(error: Exception, text: str) -> None:
    """If there is no answer, the reason is told."""
    client = HttpClient(URL, Unreachable(error), Clock())  # type: ignore[arg-type]  # of zope's kind
    with pytest.raises(BusUnavailable, match=text):
        brought(Deferred.fromCoroutine(client.publish("a", {})))


@pytest.mark.parametrize("error", [ResponseFailed([Failure(CancelledError())]), ConnectingCancelledError(None)])
def test_cancelled(error: Exception) -> None:
    """A request that was cancelled is no daemon that cannot be reached."""
    client = HttpClient(URL, Unreachable(error), Clock())  # type: ignore[arg-type]  # of zope's kind
    with pytest.raises(CancelledError):
        brought(Deferred.fromCoroutine(client.publish("a", {})))


class CutOff:
    """An answer whose body is cut off."""

    request = None
    length = 1000

    def __init__(self, kind: str = "text/plain", code: int = 502) -> None:
        self.code = code
        self.headers = Headers({"Content-Type": [kind]})

    def deliverBody(self, protocol: Any) -> None:
        """Cut it off."""
        protocol.connectionLost(Failure(ResponseFailed([Failure(ConnectionLost("cut"))])))


class CuttingAgent:
    """An agent whose answers are all cut off."""

    def __init__(self, response: CutOff) -> None:
        self.response = response

    def request(self, *_: object) -> "Deferred[Any]":
        """Answer."""
        answered: Deferred[Any] = Deferred()
        answered.callback(self.response)
        return answered


def test_body_is_cut_off() -> None:
    """A connection that is lost in the middle of an answer is as good as none."""
    for response, progress in ((CutOff(), None), (CutOff("text/event-stream", 200), print)):
        client = HttpClient(URL, CuttingAgent(response), Clock())  # type: ignore[arg-type]  # of zope's kind
        with pytest.raises(BusUnavailable, match=f"{URL}.*cut"):
            brought(Deferred.fromCoroutine(client.call("a", "b", {}, 1, progress)))


@pytest.mark.parametrize("remote_code", ["no_responders", "My Code!", None])
def test_code_of_a_service(remote_code: str | None) -> None:
    """A service's own code comes through as it is, and is never taken for one of the daemon's."""
    error = error_from({"status": 502, "detail": "x", "code": "remote_error", "remote_code": remote_code})
    assert type(error) is RemoteError
    assert error.code == remote_code


@pytest.mark.parametrize("code", ["not_found", "too_large", "a_new_one", 7, None])
def test_code_of_the_daemon(code: object) -> None:
    """A refusal of the daemon's has no code of a service."""
    error = error_from({"status": 404, "detail": "x", "code": code})
    assert type(error) is RemoteError
    assert error.code is None


def test_error_from() -> None:
    """A problem without a detail has its title; what is no problem is no error."""
    assert str(error_from({"status": 500, "title": "Oh"})) == "Oh"
    assert str(error_from({"status": 500})) == "an error without a text"
    assert type(error_from({"status": 503, "code": "remote_error", "remote_code": "busy"})) is RemoteError
    assert type(error_from({"status": 504, "code": "remote_error", "remote_code": "timeout"})) is RemoteTimeout
    assert type(error_from({"status": 503})) is BusUnavailable
    assert type(error_from({"status": 504})) is CallTimeout
    assert error_from({"status": "500"}) is None
    assert error_from(None) is None


class TestHttpPublish:
    def test_receivers(self, setting: Setting) -> None:
        """The number of receivers comes back, and any channel gets there as it is."""
        setting.daemon.answer = answer(b'{"receivers": 3}')
        assert brought(setting.start(setting.client.publish("a/b ü?", {"n": 1}))) == 3
        assert setting.daemon.requests == [("POST", "/broadcasts/a%2Fb%20%C3%BC%3F", b'{"n":1}')]
        brought(setting.start(setting.client.close()))

    @pytest.mark.parametrize("body", [b"3", b'{"receivers": "3"}'])
    def test_stranger(self, body: bytes, setting: Setting) -> None:
        """An answer without that number is not a daemon's."""
        setting.daemon.answer = answer(body)
        with pytest.raises(BusUnavailable, match="no number of receivers"):
            brought(setting.start(setting.client.publish("a", {})))

    def test_no_object(self, setting: Setting) -> None:
        """Only objects are sent."""
        with pytest.raises(MessageError, match="there is a list"):
            brought(setting.start(setting.client.publish("a", [])))

    def test_late(self, setting: Setting) -> None:
        """A daemon that says nothing is given up."""
        begun = setting.start(setting.client.publish("a", {}))
        setting.clock.advance(ANSWER_SECONDS)
        with pytest.raises(BusUnavailable, match="has not answered within"):
            brought(begun)


def sent(channel: str, payload: Any) -> tuple[str, Any]:
    """Return the event of a message."""
    return "broadcast", {"channel": channel, "payload": payload}


class TestHttpListen:
    def test_enough(self, setting: Setting) -> None:
        """Messages come until it is enough, and what else is in the stream is none of them."""
        setting.daemon.answer = stream(
            ("hello", 1), sent("a", {"n": 1}), sent("b 1", {}), sent("a", {"n": 2}), end=False
        )
        ears = Ears(2)
        brought(setting.start(setting.client.listen(["a", "b*&"], ears.hear, ears.told.append)))
        assert ears.heard == [("a", b'{"n": 1}'), ("b 1", b"{}")]
        assert ears.told == []
        assert setting.daemon.requests == [("GET", "/events?types=broadcast&channel=a&channel=b%2A%26", b"")]

    def test_goes_on(self, setting: Setting) -> None:
        """If the connection is lost, that is told, and it is made again as soon as that can be."""
        setting.daemon.answer = stream(sent("a", {}), end=False)
        ears = Ears(2)
        begun = setting.start(setting.client.listen(["a"], ears.hear, ears.told.append))
        setting.daemon.open[0].finish()
        setting.agent.flush()
        assert ears.told == [f"{URL}: the connection was lost; what is sent meanwhile is missed"]
        setting.daemon.answer = answer(b"busy", "text/plain", 503)
        setting.clock.advance(RETRY_SECONDS)
        setting.agent.flush()
        setting.daemon.answer = stream(sent("a", {}), end=False)
        setting.clock.advance(RETRY_SECONDS)
        setting.agent.flush()
        brought(begun)
        assert ears.told[1:] == [f"{URL} is connected again"]
        assert len(setting.daemon.requests) == 3

    @pytest.mark.parametrize(
        ("given", "kind", "text"),
        [
            (answer(problem(404, "nothing here"), "application/problem+json", 404), RemoteError, "nothing here"),
            (answer(problem(503, "too many"), "application/problem+json", 503), BusUnavailable, "too many"),
            (answer(b"{}"), BusUnavailable, "no stream of events"),
            (stream(("broadcast", 1)), BusUnavailable, "an event is no broadcast"),
        ],
    )
    def test_refused(self, given: Answer, kind: type[BusError], text: str, setting: Setting) -> None:
        """At the beginning, and whatever a daemon would not do, ends it."""
        setting.daemon.answer = given
        ears = Ears()
        with pytest.raises(kind, match=text):
            brought(setting.start(setting.client.listen(["a"], ears.hear, ears.told.append)))

    def test_cancel(self, setting: Setting) -> None:
        """To cancel it drops the connection, without a word."""
        setting.daemon.answer = stream(end=False)
        ears = Ears()
        begun = setting.start(setting.client.listen(["a"], ears.hear, ears.told.append))
        begun.cancel()
        setting.agent.flush()
        with pytest.raises(CancelledError):
            brought(begun)
        assert ears.told == []
