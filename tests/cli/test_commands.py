"""The command ``rpiserve`` and its two clients, without processes: what they show, where they go, and what they raise.

The daemon that `HttpClient` asks is a stand-in here, which answers as each test wants; the bus is the embedded one.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from deferreds import brought
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

from rpiserve import cli
from rpiserve.cli import messages
from rpiserve.cli.messages import progress_line, shown
from rpiserve.cli.output import describe, exit_code
from rpiserve.cli.target import Target, find_target
from rpiserve.client.clients import (
    ANSWER_SECONDS,
    GRACE_SECONDS,
    RETRY_SECONDS,
    BrokenStream,
    BusClient,
    Event,
    EventParser,
    HttpClient,
    error_from,
)
from rpiserve.core import wire
from rpiserve.errors import (
    BusError,
    BusUnavailable,
    CallTimeout,
    ConfigError,
    DataError,
    MessageError,
    NoResponders,
    RemoteError,
    RemoteTimeout,
    StartError,
    Stopped,
)
from rpiserve.messaging.bus import BusState
from rpiserve.messaging.memory_bus import MemoryBus

URL = "http://127.0.0.1:8080"
SECRET = "never-shown-9b1f"


def test_import_installs_no_reactor() -> None:
    """Importing the command installs no reactor, nor does importing what any of its commands is made of."""
    modules = ", ".join(f"rpiserve.cli.{module}" for module in sorted(set(cli.COMMANDS.values())))
    source = f"import sys, {modules}; print('twisted.internet.reactor' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- the parser of events --------------------------------------------------------------------------------------------

STREAM = (
    "\ufeffevent: progress\n"
    ": a comment\n"
    'data: {"n":1}\n'
    "\n"
    "data:first\n"
    "data:  second ü\n"
    "id: 7\n"
    "\n"
    "event: nothing\n"
    "\n"
    "event: result\n"
    "data\n"
    "retry: 10\n"
    "\n"
    "data: not complete\n"
)
EVENTS = [Event("progress", '{"n":1}'), Event("message", "first\n second ü"), Event("result", "")]


class TestEventParser:
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    def test_chunks(self, end: str, size: int) -> None:
        """The events are the same whatever ends the lines, and wherever the stream is cut."""
        data = STREAM.replace("\n", end).encode()
        parser = EventParser()
        chunks = (data[begin : begin + size] for begin in range(0, len(data), size))
        assert [event for chunk in chunks for event in parser.feed(chunk)] == EVENTS

    def test_event_is_complete_before_the_next(self) -> None:
        """An event is there with its empty line, even if that ends in a return after which more could come."""
        parser = EventParser()
        assert parser.feed(b"data: a\r\n\r") == [Event("message", "a")]
        assert parser.feed(b"") == []
        assert parser.feed(b"\n") == []
        assert parser.feed(b"\ndata: b\n\n") == [Event("message", "b")]

    @pytest.mark.parametrize("data", [b"data: 123456789", b"data: 1234\ndata: 5678\n"])
    def test_too_large(self, data: bytes) -> None:
        """An event that grows beyond the limit is refused, be it one line or many."""
        parser = EventParser(12)
        assert parser.feed(b"data: 1234\n\n" * 3) == [Event("message", "1234")] * 3
        with pytest.raises(BrokenStream, match="12 bytes"):
            parser.feed(data)


# --- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RemoteError("x"), 1),
        (Stopped("x"), 1),
        (RuntimeError("x"), 1),
        (MessageError("x"), 2),
        (DataError("x"), 2),
        (ConfigError("x"), 2),
        (StartError("x"), 2),
        (NoResponders("x"), 3),
        (CallTimeout("x"), 4),
        (RemoteTimeout("x"), 4),
        (BusUnavailable("x"), 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_exit_code(error: Exception, code: int) -> None:
    """Each error has its exit code."""
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RemoteError("two\nlines  and \x1b[2J"), "two lines and \\x1b[2J"),
        (RemoteError("no", "busy"), "no (busy)"),
        (RemoteError("no", None, "a1"), "no (incident a1)"),
        (RemoteError("no", "handler_error", "a1"), "no (handler_error, incident a1)"),
        (BusUnavailable("gone"), "gone"),
        (OSError("standard output: full"), "standard output: full"),
        (KeyError("x"), "an error of its own: KeyError: 'x'"),
        (StartError("it says http://me:never-shown@host/"), "it says http://me:***@host/"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_describe(error: Exception, text: str) -> None:
    """An error is one line that a terminal can be shown, with its code and incident."""
    assert describe(error) == text


def test_shown() -> None:
    """JSON is shown as it is, on one line or indented, but for what a terminal would obey; big numbers stay whole."""
    value = '{"a": "ü\x7f\x9b2J",\n "n": 123456789012345678901234567890}'.encode()
    assert shown(value).decode() == '{"a":"ü\\u007f\\u009b2J","n":123456789012345678901234567890}'
    assert json.loads(shown(value)) == json.loads(value)
    assert shown(b'{"a":1}', indent=True) == b'{\n  "a": 1\n}'


@pytest.mark.parametrize(
    ("payload", "line"),
    [
        ({"progress_percentage": 42}, " 42 %"),
        ({"progress_percentage": 99.6, "at": "x"}, '100 %  {"at":"x"}'),
        ({"progress_percentage": True}, '{"progress_percentage":true}'),
        ({"progress_percentage": "half"}, '{"progress_percentage":"half"}'),
        (["a"], '["a"]'),
    ],
)
def test_progress_line(payload: Any, line: str) -> None:
    """Progress is a percentage, if there is one, and what else was told."""
    assert progress_line(payload) == line


# --- where to --------------------------------------------------------------------------------------------------------


class TestFindTarget:
    def test_order(self) -> None:
        """The command line comes before the variables, and of these the URL of a daemon before Redis."""
        both = {"RPISERVE_URL": URL, "RPISERVE_REDIS": "redis://there"}
        assert find_target({"url": "https://here/base"}, both) == Target(url="https://here/base")
        assert find_target({}, both) == Target(url=URL)
        for target, host in (
            (find_target({"redis": "redis://here"}, both), "here"),
            (find_target({"url": None}, {"RPISERVE_REDIS": "redis://:pw@there", "RPISERVE_URL": ""}), "there"),
        ):
            assert target.redis is not None
            assert target.redis.host == host

    def test_redis(self, tmp_path: Path) -> None:
        """The files for Redis are named on the command line or in variables."""
        file = tmp_path / "password"
        file.write_text(f"{SECRET}\n")
        by_option = find_target({"redis": "rediss://here", "redis_password_file": str(file), "redis_ca": "ca.pem"}, {})
        variables = {"RPISERVE_REDIS_PASSWORD_FILE": str(file), "RPISERVE_REDIS_CA": "ca.pem"}
        assert by_option == find_target({}, {"RPISERVE_REDIS": "rediss://here", **variables})
        assert by_option.redis is not None
        assert by_option.redis.current_password() == SECRET
        assert by_option.redis.ca_file == Path("ca.pem")

    def test_token(self, tmp_path: Path) -> None:
        """The token is in a file or in a variable, and the object does not show it."""
        file = tmp_path / "token"
        file.write_text(f"{SECRET}\n")
        target = find_target({"url": URL, "token_file": str(file)}, {"RPISERVE_TOKEN": "other"})
        assert target == find_target({"url": URL}, {"RPISERVE_TOKEN": SECRET})
        assert target.token == SECRET
        assert SECRET not in repr(target)
        assert find_target({"url": URL}, {"RPISERVE_TOKEN": ""}).token is None

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ({}, "say where to"),
            ({"redis": "redis://a", "url": URL}, "two ways"),
            ({"redis": "http://a"}, "--redis is wrong; it is redis://"),
            ({"redis": f"redis://:{SECRET}@a"}, "ps shows it"),
            ({"redis": "redis://a", "token_file": "f"}, "--token-file is for --url"),
            ({"redis": "redis://a", "redis_password_file": "/no/such/file"}, "No such file"),
            ({"redis": "redis://a", "redis_password_file": sys.executable}, "no text in UTF-8"),
            ({"url": URL, "redis_ca": "f"}, "of no use without --redis"),
            ({"url": "redis://a"}, "--url is wrong; it is http://"),
            ({"url": "http://"}, "it is http://"),
            ({"url": "http://a:0"}, "it is http://"),
            ({"url": "http://a:x"}, "it is http://"),
            ({"url": "http://a/?b"}, "it is http://"),
            ({"url": f"http://u:{SECRET}@a"}, "RPISERVE_TOKEN"),
            ({"url": "http://a/b c"}, "characters"),
            ({"url": URL, "token_file": "/no/such/file"}, "No such file"),
        ],
    )
    def test_wrong(self, given: dict[str, str | None], text: str) -> None:
        """What is wrong is said, without what is secret."""
        with pytest.raises(ConfigError, match=text) as caught:
            find_target(given, {})
        assert SECRET not in str(caught.value)

    def test_wrong_token(self) -> None:
        """A token that would end the header is refused, and not shown."""
        with pytest.raises(ConfigError, match="token holds characters") as caught:
            find_target({"url": URL}, {"RPISERVE_TOKEN": f"{SECRET}\r\nHost: x"})
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "Missing command"),
        (["dance"], "No such command 'dance'"),
        (["call", "a b", "c"], "'a b' is no name of a service"),
        (["call", "a", "c/d"], "'c/d' is no name of an action"),
        (["call", "a", "b", "{x}"], """it is no JSON such as '{"zone": 1}': """),
        (["call", "a", "b", "[" * 40 + "]" * 40], "nests deeper than"),
        (["call", "a", "b", "--timeout", "0"], "no number of seconds above 0"),
        (["call", "a", "b", "--timeout", "nan"], "no number of seconds above 0"),
        (["call", "a", "b", "--timeout", "soon"], "no number of seconds above 0"),
        (["publish", "", "{}"], "is no channel"),
        (["publish", "a", "1"], "a message is a JSON object"),
        (["listen"], "Missing argument"),
        (["listen", "a", "--count", "0"], "'0' is no whole number of at least 1"),
        (["listen", "a", "--count", "many"], "'many' is no whole number of at least 1"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_usage(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong command line is exit code 2 and one line."""
    monkeypatch.setenv("RPISERVE_URL", URL)
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    output, errors = capsys.readouterr()
    assert (ended.value.code, output) == (2, "")
    assert errors.startswith("rpiserve: ")
    assert errors.count("\n") == 1
    assert text in errors


@pytest.mark.parametrize("arguments", [["--help"], ["token", "--help"]])
def test_lists_of_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Of each command there is a whole sentence in the list."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    commands = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert not ended.value.code
    assert commands
    assert all(line.endswith(".") and not line.endswith("...") for line in commands)


def test_usage_shows_no_token(capsys: pytest.CaptureFixture[str]) -> None:
    """A token in a wrong place of the command line is not shown."""
    with pytest.raises(SystemExit):
        cli.main(["call", "a", "b", "{}", "rpi_never-shown-never-shown"])
    errors = capsys.readouterr().err
    assert "unexpected extra argument" in errors
    assert "never-shown" not in errors


def test_unexpected(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody has thought of is shown with where it comes from, without the secrets in it."""

    def raising(*_: object, **__: object) -> None:
        raise RuntimeError("it was http://me:never-shown@host/")

    monkeypatch.setattr(messages, "find_target", raising)
    with pytest.raises(SystemExit) as ended:
        cli.main(["listen", "a"])
    assert ended.value.code == 1
    errors = capsys.readouterr().err
    assert errors.startswith("Traceback")
    assert errors.endswith("RuntimeError: it was http://me:***@host/\n")


def test_interrupted_early(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before there is a reactor is exit code 130, too, without a word."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(messages, "find_target", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main(["listen", "a"])
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == ""


# --- by HTTP ---------------------------------------------------------------------------------------------------------

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
        ("status", "detail", "kind"),
        [
            (422, "weight: no number", RemoteError),
            (502, "it raised", RemoteError),
            (503, "a.b: nobody listens for a", NoResponders),
            (503, "the bus is down", BusUnavailable),
            (504, "no answer", CallTimeout),
        ],
    )
    def test_problem(self, status: int, detail: str, kind: type[BusError], progress: Any, setting: Setting) -> None:
        """A problem is the error that the bus would have given."""
        setting.daemon.answer = answer(problem(status, detail), "application/problem+json", status)
        with pytest.raises(kind, match=detail):
            brought(setting.call(progress))

    def test_problem_in_stream(self, setting: Setting) -> None:
        """So is one that comes after the stream has begun, with what else it has."""
        told = json.loads(problem(502, "it raised", code="handler_error", incident="a1"))
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


def test_error_from() -> None:
    """A problem without a detail has its title; what is no problem is no error."""
    assert str(error_from({"status": 500, "title": "Oh"})) == "Oh"
    assert str(error_from({"status": 500})) == "an error without a text"
    assert type(error_from({"status": 503, "detail": "x", "code": "busy"})) is RemoteError
    assert type(error_from({"status": 504, "detail": "x", "code": "timeout"})) is RemoteTimeout
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


class Ears:
    """Hears messages, and what is told meanwhile.

    Attributes:
        heard: the messages.
        told: the lines.
        enough: after how many it is enough.
    """

    def __init__(self, enough: int = 1000) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.told: list[str] = []
        self.enough = enough

    def hear(self, channel: str, message: bytes) -> bool:
        """Keep a message."""
        self.heard.append((channel, message))
        return len(self.heard) == self.enough


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


# --- by the bus ------------------------------------------------------------------------------------------------------


class ShakyBus(MemoryBus):
    """The embedded bus, whose connection can be lost.

    Attributes:
        connected: whether there is one.
        lost: what is called when it was lost.
        back: what is called when it is there again.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, lambda: 0.0)
        self.connected = True
        self.lost: list[Callable[[str], object]] = []
        self.back: list[Callable[[], object]] = []

    @property
    def state(self) -> BusState:
        """How it is."""
        return BusState("memory", "the shaky bus", self.connected, 0.0, None if self.connected else "it is not there")

    def watch(self, lost: Callable[[str], object]) -> None:
        """Keep what to call."""
        self.lost.append(lost)

    def when_connected(self, connected: Callable[[], object]) -> None:
        """Keep what to call."""
        self.back.append(connected)

    def regain(self) -> None:
        """Have the connection again."""
        self.connected = True
        for back in self.back:
            back()

    def lose(self) -> None:
        """Lose the connection."""
        self.connected = False
        for lost in self.lost:
            lost("it went")


class BusSetting:
    """A client on the shaky bus, with a clock in the test's hand."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.clock.callFromThread = lambda function, *arguments: function(*arguments)
        self.bus = ShakyBus(self.clock)
        self.client = BusClient(self.bus, "test", self.clock)

    def publish(self, channel: str, payload: Any) -> Any:
        """Publish by the client, and let it arrive."""
        receivers = brought(Deferred.fromCoroutine(self.client.publish(channel, payload)))
        self.clock.advance(0)
        return receivers


class TestBusClient:
    def test_call(self) -> None:
        """A call is answered by whoever listens, with its progress."""
        setting = BusSetting()
        seen: list[Any] = []

        def serve(_: str, message: bytes) -> None:
            asked = wire.parse_request(message)
            assert asked.reply_to is not None
            assert asked.request_id is not None
            setting.bus.publish(asked.reply_to, wire.reply(asked.request_id, "progress", 1, final=False))
            setting.bus.publish(asked.reply_to, wire.reply(asked.request_id, "success", asked.payload, final=True))

        setting.bus.subscribe("porter", serve)
        begun = Deferred.fromCoroutine(setting.client.call("porter", "carry", {"n": 1}, 5, seen.append))
        setting.clock.pump([0] * 5)
        assert brought(begun) == {"n": 1}
        assert seen == [1]
        brought(Deferred.fromCoroutine(setting.client.close()))
        assert not setting.clock.getDelayedCalls()

    def test_listen(self) -> None:
        """Messages come until it is enough, from names and from patterns, and none after that."""
        setting = BusSetting()
        ears = Ears(2)
        begun = Deferred.fromCoroutine(setting.client.listen(["a", "b*"], ears.hear, ears.told.append))
        assert setting.publish("a", {"n": 1}) == 1
        assert setting.publish("c", {}) == 0
        assert setting.publish("bb", {}) == 1
        brought(begun)
        assert ears.heard == [("a", b'{"n":1}'), ("bb", b"{}")]
        setting.publish("a", {})
        setting.bus.lose()
        assert len(ears.heard) == 2
        assert ears.told == []

    def test_lost_and_back(self) -> None:
        """A loss and the return are told at once; a loss before that was seen is told, too."""
        setting = BusSetting()
        ears = Ears()
        begun = Deferred.fromCoroutine(setting.client.listen(["a"], ears.hear, ears.told.append))
        setting.bus.lose()
        setting.bus.lose()
        setting.bus.regain()
        lost, back = "the shaky bus: it went; what is sent meanwhile is missed", "the shaky bus is connected again"
        assert ears.told == [lost, lost, back]
        begun.cancel()
        setting.bus.lose()
        setting.bus.regain()
        assert ears.told == [lost, lost, back]
        with pytest.raises(CancelledError):
            brought(begun)
        assert not setting.clock.getDelayedCalls()

    def test_hearing_raises(self) -> None:
        """What the listener raises ends the listening."""
        setting = BusSetting()

        def hear(channel: str, message: bytes) -> None:
            raise KeyError("own")

        begun = Deferred.fromCoroutine(setting.client.listen(["a"], hear, print))
        setting.publish("a", {})
        with pytest.raises(KeyError, match="own"):
            brought(begun)

    def test_not_connected(self) -> None:
        """If there is no connection at the beginning, it fails with the reason."""
        setting = BusSetting()
        setting.bus.connected = False
        with pytest.raises(BusUnavailable, match="the shaky bus: it is not there"):
            setting.publish("a", {})
