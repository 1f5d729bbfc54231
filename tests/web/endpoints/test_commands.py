"""The commands over HTTP: how they are listed and called, and how what is wrong with a request is answered."""

from typing import Any, Literal
from urllib.parse import urlencode

import pytest
from command_peer import JSON, Client, Peer, envelope, make_command_site
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent

from rpiserve import App
from rpiserve.data.encoding import JSON_DEPTH, is_too_deep
from rpiserve.web.endpoints.commands import parse_query
from rpiserve.web.server.request import Limits

FORM = "application/x-www-form-urlencoded"


class DoorBell:
    """A doorbell."""

    def __init__(self) -> None:
        self.state = "on"
        self.calls: list[Any] = []

    async def switch(self, onoff: Literal["on", "off"]) -> str:
        """Switch it."""
        self.calls.append(onoff)
        self.state = onoff
        return onoff

    async def echo(self, it) -> Any:  # type: ignore[no-untyped-def]
        self.calls.append(it)
        return it


@pytest.fixture
def clock() -> Clock:
    """The reactor's clock."""
    return Clock()


@pytest.fixture
def bell() -> DoorBell:
    """The object of the commands."""
    return DoorBell()


@pytest.fixture
def app(bell: DoorBell) -> App:
    """An app with commands."""
    app = App("test")
    app.add_command(bell.switch, name="theDoorBell.switch")
    app.add_command(bell.echo, name="theDoorBell.echo")
    return app


@pytest.fixture
def client(app: App, clock: Clock) -> Client:
    """A client of the app."""
    return Client(make_command_site(app, clock))


# --- what works -------------------------------------------------------------------------------------------------------


def test_list(client: Client) -> None:
    """The list has what a client needs to call each command, and a URL to fill in."""
    answer = client.ask("/cmds")
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    switch, echo = (entry["Command"] for entry in answer.json()["Commands"])
    assert switch == {
        "Name": "theDoorBell.switch",
        "Args": {"onoff": "Literal['on', 'off']"},
        "URL": "/cmd?name=theDoorBell.switch&onoff=",
        "Doc": "Switch it.",
        "Schema": {
            "type": "object",
            "properties": {"onoff": {"enum": ["off", "on"]}},
            "required": ["onoff"],
            "additionalProperties": False,
        },
    }
    assert echo["Args"] == {"it": ""}
    assert client.ask("/cmds", "HEAD").headers["content-length"] == str(len(answer.body))


def test_urls_are_encoded(clock: Clock) -> None:
    """In the URL of a command its name and its arguments' names are encoded, so that it can be followed as it is."""
    app = App("test")

    async def water(größe: int = 1) -> int:
        return größe

    app.add_command(water, name="a b&c=d#é")
    client = Client(make_command_site(app, clock))
    (entry,) = client.ask("/cmds").json()["Commands"]
    assert entry["Command"]["URL"] == "/cmd?name=a+b%26c%3Dd%23%C3%A9&gr%C3%B6%C3%9Fe="
    assert client.ask(entry["Command"]["URL"] + "5").json() == 5


def test_no_commands(clock: Clock) -> None:
    """An app without commands has an empty list."""
    assert Client(make_command_site(App("test"), clock)).ask("/cmds").body == b'{"Commands":[]}'


@pytest.mark.parametrize("target", ["/", "/cmd", "/cmd/", "/cmd?name=theDoorBell.echo&it=5"])
def test_post(client: Client, bell: DoorBell, target: str) -> None:
    """A POST is answered with what was sent, and the result in it. The query does not count."""
    answer = client.post(b'{"Command":{"Name":"theDoorBell.switch","Args":{"onoff":"off"}}}', target=target)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body == b'{"Command":{"Name":"theDoorBell.switch","Args":{"onoff":"off"},"Result":"off"}}'
    assert bell.calls == ["off"]


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON", "application/json; charset=utf-8", " application/json ;x"]
)
def test_post_content_types(client: Client, kind: str) -> None:
    """The type is compared as types are, without its parameters."""
    body = b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1}}}'
    assert client.ask("/cmd", "POST", f"Content-Type: {kind}", body=body).status == 200


SAME = [
    b"1.10",
    b"1e400",
    b"-0.0",
    b"123456789012345678901234567890123456789012345678901234567890",
    b'"\\u00e9\\/\\ud83d\\ude00"',
    '"é😀"'.encode(),
    b'{"a":1,"a":2}',
    b"[ 1,\t2 ,\n3 ]",
    b"null",
    b'{"Command":{"Name":"other","Result":1}}',
    b"1E+2",
]


@pytest.mark.parametrize("value", SAME, ids=repr)
def test_all_else_is_untouched(client: Client, value: bytes) -> None:
    """Members that are not ours come back byte for byte, wherever they stand."""
    answer = client.post(
        b'{"before":%b,"Command":{"x":%b,"Args":{"it":1},"Name":"theDoorBell.echo","y":%b},"after":%b}' % ((value,) * 4)
    )
    assert answer.body == (
        b'{"before":%b,"Command":{"x":%b,"Args":{"it":1},"Name":"theDoorBell.echo","y":%b,"Result":1},"after":%b}'
        % ((value,) * 4)
    )


@pytest.mark.parametrize("value", [each for each in SAME if b"400" not in each], ids=repr)
def test_arguments_are_untouched(client: Client, value: bytes) -> None:
    """So do the arguments, as they were sent rather than as they were understood."""
    answer = client.post(b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":%b,"it":%b}}}' % (value, value))
    assert answer.body.startswith(
        b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":%b,"it":%b},"Re' % (value, value)
    )


def test_result_is_replaced(client: Client) -> None:
    """A Result that was sent is replaced where it stands; one outside the command is the client's own."""
    answer = client.post(b'{"Result":1,"Command":{"Result":{"a":[2]},"Name":"theDoorBell.echo","Args":{"it":[3]}}}')
    assert answer.body == b'{"Result":1,"Command":{"Result":[3],"Name":"theDoorBell.echo","Args":{"it":[3]}}}'


def test_duplicate_members(client: Client, bell: DoorBell) -> None:
    """Of members with the same name the last one counts, and comes back."""
    answer = client.post(
        b'{"Command":{"Name":"y"},"Command":{"Name":"x","Name":"theDoorBell.echo","Args":{"it":1},"Args":{"it":2}},"x":1,"x":2}'
    )
    assert answer.body == b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":2},"Result":2},"x":2}'
    assert bell.calls == [2]


def test_post_without_arguments(clock: Clock) -> None:
    """Args may be left out, and is not put in."""
    app = App("test")

    @app.command
    async def ring(times: int = 1) -> int:
        return times

    client = Client(make_command_site(app, clock))
    assert client.post(b'{"Command":{"Name":"ring"}}').body == b'{"Command":{"Name":"ring","Result":1}}'
    assert client.post(b'{"Command":{"Name":"ring","Args":{}}}').json()["Command"]["Result"] == 1


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("it=on", "on"),
        ("it=", ""),
        ("it", ""),
        ("it=a&it=b", ["a", "b"]),
        ("it=a+b%20c%2Bd", "a b c+d"),
        ("it=%C3%A9", "é"),
        ("it=a;b", "a;b"),
        ("it=1=2", "1=2"),
        ("it=%zz%", "%zz%"),
        ("&it=1&&", "1"),
        ("it=%00", "\0"),
        ("it=[1,2]", "[1,2]"),
    ],
)
def test_get(client: Client, bell: DoorBell, query: str, result: object) -> None:
    """A GET is answered with the result alone. What is given twice is a list; a semicolon separates nothing."""
    answer = client.ask(f"/cmd?name=theDoorBell.echo&{query}".encode())
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == result
    assert bell.calls == [result]


def test_get_switches(client: Client, bell: DoorBell) -> None:
    """Arguments of a GET are converted by the same rule as those of a POST; the name may stand anywhere."""
    assert client.ask("/cmd?onoff=off&name=theDoorBell.switch").body == b'"off"'
    assert client.ask("/cmd/?%6eame=theDoorBell.switch&onoff=on").body == b'"on"'
    assert bell.calls == ["off", "on"]


# --- what does not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["", "text/plain", FORM, "multipart/form-data", "application/jsonp", "application/"])
def test_other_content_types(client: Client, bell: DoorBell, kind: str) -> None:
    """A body of another type, as a form in a page can send it without asking, is refused, whatever is in it."""
    body = b'{"Command":{"Name":"theDoorBell.switch","Args":{"onoff":"off"}}}'
    for headers in ([f"Content-Type: {kind}"], []):
        answer = client.ask("/cmd", "POST", *headers, body=body)
        assert answer.status == 415
        assert "application/json" in answer.json()["detail"]
    assert bell.calls == []


MALFORMED = [
    (b"", "truncated"),
    (b" ", "truncated"),
    (b"{", "truncated"),
    (b"null", "Expected `object`, got `null`"),
    (b"[]", "Expected `object`, got `array`"),
    (b'"Command"', "Expected `object`, got `str`"),
    (b"{}", "missing required field `Command`"),
    (b'{"command":{"Name":"x"}}', "missing required field `Command`"),
    (b'{"Command":null}', "Expected `object`, got `null` - at `$.Command`"),
    (b'{"Command":[]}', "Expected `object`, got `array` - at `$.Command`"),
    (b'{"Command":{}}', "missing required field `Name` - at `$.Command`"),
    (b'{"Command":{"Args":{}}}', "missing required field `Name` - at `$.Command`"),
    (b'{"Command":{"Name":1}}', "Expected `str`, got `int` - at `$.Command.Name`"),
    (b'{"Command":{"Name":null}}', "Expected `str`, got `null` - at `$.Command.Name`"),
    (b'{"Command":{"Name":["theDoorBell.echo"]}}', "Expected `str`, got `array` - at `$.Command.Name`"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":null}}', "Expected `object`, got `null` - at `$.Command.Args`"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":[1]}}', "Expected `object`, got `array` - at `$.Command.Args`"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1e400}}}', "Number out of range"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":NaN}}}', "malformed"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":"\\ud800"}}}', "truncated"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1,}}}', "malformed"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1}},"x":01}', "malformed"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1}},"x":"\x01"}', "malformed"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1}}} x', "malformed"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1}}}{}', "malformed"),
    (b'\xef\xbb\xbf{"Command":{"Name":"theDoorBell.echo","Args":{"it":1}}}', "malformed"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":"\xff"}}}', "not UTF-8"),
    (b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1}},"x":"\xed\xa0\x80"}', "not UTF-8"),
    ('{"Command":{"Name":"theDoorBell.echo","Args":{"it":1}}}'.encode("utf-16"), "not UTF-8"),
    (b"name=theDoorBell.echo&it=1", "malformed"),
]


@pytest.mark.parametrize(("body", "text"), MALFORMED, ids=repr)
def test_malformed_envelopes(client: Client, bell: DoorBell, body: bytes, text: str) -> None:
    """What is no envelope is refused with what is wrong with it, and nothing runs."""
    answer = client.post(body)
    assert answer.status == 400
    detail = answer.json()["detail"]
    assert text in detail
    assert "UTF-8" in detail or 'it is {"Command": {"Name": "…", "Args": {…}}}' in detail
    assert bell.calls == []


@pytest.mark.parametrize("query", ["", "?", "?it=1", "?Name=theDoorBell.echo", "?name=a&name=a", "?theDoorBell.echo"])
def test_queries_without_one_name(client: Client, query: str) -> None:
    """A query names one command."""
    answer = client.ask(f"/cmd{query}")
    assert answer.status == 400
    assert answer.json()["detail"] == "the query names one command: /cmd?name=object.method&argument=value"


@pytest.mark.parametrize("query", [b"it=%ff", b"it=%C3", b"%ff=1", b"it=%ED%A0%80"])
def test_queries_that_are_not_utf8(client: Client, bell: DoorBell, query: bytes) -> None:
    """A query is UTF-8, percent-encoded."""
    answer = client.ask(b"/cmd?name=theDoorBell.echo&" + query)
    assert answer.status == 400
    assert answer.json()["detail"] == "the query is not UTF-8"
    assert bell.calls == []


@pytest.mark.parametrize(
    "name",
    ["", "nothing", "theDoorBell.state", "theDoorBell.calls.append", "theDoorBell", "THEDOORBELL.ECHO", "x" * 5000],
)
def test_unknown_commands(client: Client, bell: DoorBell, name: str) -> None:
    """A name that was not declared is no command, whatever it is in Python."""
    for answer in (client.ask(f"/cmd?name={name}&it=1"), client.post(envelope(name, it=1))):
        assert answer.status == 404
        assert answer.json()["detail"] == f"there is no command {name[:100]!r}; /cmds lists them"
    assert bell.calls == []


@pytest.mark.parametrize(
    ("arguments", "errors"),
    [
        ({}, [{"argument": "onoff", "message": "it is missing"}]),
        ({"onoff": "maybe"}, [{"argument": "onoff", "message": "expected one of 'off', 'on', got \"maybe\""}]),
        ({"onoff": "on", "x": "1"}, [{"argument": "x", "message": "there is no such argument; there are: onoff"}]),
    ],
)
def test_wrong_arguments(
    client: Client, bell: DoorBell, arguments: dict[str, str], errors: list[dict[str, str]]
) -> None:
    """Arguments that do not fit are named, the same by GET and by POST."""
    query = "".join(f"&{name}={value}" for name, value in arguments.items())
    posted = client.post(envelope("theDoorBell.switch", **arguments))
    assert posted.status == 422
    assert posted.json()["errors"] == errors
    assert posted.json()["detail"] == f"{errors[0]['argument']}: {errors[0]['message']}"
    assert client.ask(f"/cmd?name=theDoorBell.switch{query}").body == posted.body
    assert bell.calls == []


def test_argument_called_name(client: Client) -> None:
    """In an envelope, too, there is no argument called ``name``."""
    answer = client.post(b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1,"name":"x"}}}')
    assert answer.status == 422
    assert answer.json()["errors"][0]["argument"] == "name"


CMD = "GET, OPTIONS, POST"


@pytest.mark.parametrize(
    ("target", "allowed"),
    [("/cmd", CMD), ("/", "GET, HEAD, OPTIONS, POST"), ("/cmds", "GET, HEAD, OPTIONS"), ("/cmd/", CMD)],
)
def test_other_methods(client: Client, bell: DoorBell, target: str, allowed: str) -> None:
    """Other methods are refused with those that there are. HEAD, which must not act, is none where GET acts."""
    query = "?name=theDoorBell.echo&it=1"
    for method in {"HEAD", "PUT", "DELETE", "PATCH", "TRACE", "FOO", "GET", "POST"} - {*allowed.split(", ")}:
        answer = client.ask(target + query, method, JSON)
        assert answer.status == 405
        assert answer.headers["allow"] == allowed
    options = client.ask(target + query, "OPTIONS")
    assert (options.status, options.headers["allow"], options.body) == (204, allowed, b"")
    assert bell.calls == []


@pytest.mark.parametrize("target", ["/cmd/x", "/cmdx", "/CMD", "/cmd//", "/cmds/theDoorBell.echo"])
def test_other_paths(client: Client, target: str) -> None:
    """There is nothing beside these paths."""
    assert client.ask(f"{target}?name=theDoorBell.echo&it=1").status == 404


def test_body_limit(app: App, clock: Clock, bell: DoorBell) -> None:
    """A body at the limit is taken, one beyond it is refused."""
    body = b'{"Command":{"Name":"theDoorBell.echo","Args":{"it":1}}}'
    client = Client(make_command_site(app, clock, limits=Limits(body=len(body))))
    assert client.post(body).status == 200
    peer = client.send("/cmd", "POST", JSON, body=body + b" ")
    assert peer.answer().status == 413
    clock.advance(100)
    assert bell.calls == [1]


# --- the answers of commands that go wrong ----------------------------------------------------------------------------


class Slow:
    """Answers when told to, and not before: to cancel it is of no use."""

    def __init__(self) -> None:
        self.fires: list[Deferred[Any]] = []
        self.ended: list[Any] = []

    async def work(self) -> Any:
        self.fires.append(Deferred())
        try:
            result = await self.fires[-1]
        except CancelledError:
            self.fires.append(Deferred())
            result = await self.fires[-1]
        self.ended.append(result)
        return result


@pytest.fixture
def slow() -> Slow:
    """The object of slow commands."""
    return Slow()


@pytest.fixture
def slow_client(slow: Slow, clock: Clock) -> Client:
    """A client of an app with slow commands."""
    app = App("test")
    app.add_command(slow.work, name="work", timeout=5)
    return Client(make_command_site(app, clock))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_time_limit(slow_client: Client, slow: Slow, clock: Clock, method: str) -> None:
    """A command that takes too long is answered so, and so are those that wait for it; afterwards all is well."""

    def send() -> Peer:
        body = b'{"Command":{"Name":"work"}}' if method == "POST" else b""
        return slow_client.send("/cmd?name=work", method, JSON, body=body)

    peers = [send(), send()]
    clock.advance(4.9)
    assert [peer.received for peer in peers] == [b"", b""]
    clock.advance(0.1)
    late, held = (peer.answer(method) for peer in peers)
    assert (late.status, late.json()["detail"]) == (504, "it took too long: no end within 5 s")
    assert (held.status, held.json()["detail"]) == (503, "work is held by 'work', which hangs")
    slow.fires[-1].callback("too late")
    peer = send()
    slow.fires[-1].callback("done")
    assert peer.answer(method).status == 200


def test_failures(clock: Clock, logged_failures: list[LogEvent]) -> None:
    """A command that raises, or returns what JSON cannot express, is answered with an incident of the log only."""
    app = App("test")

    @app.command
    async def fails() -> None:
        raise ValueError("a secret")

    @app.command
    async def returns_an_object() -> object:
        return object()

    client = Client(make_command_site(app, clock))
    for name, what in (("fails", "failed"), ("returns_an_object", "returned what cannot be served as JSON")):
        incidents = []
        for method, body in (("GET", b""), ("POST", b'{"Command":{"Name":"%b"}}' % name.encode())):
            answer = client.ask(f"/cmd?name={name}", method, JSON, body=body)
            assert answer.status == 500
            problem = answer.json()
            assert problem["detail"] == f"the command {name} {what}; the log has more under this incident"
            assert b"secret" not in answer.body
            incidents.append(problem["incident"])
        assert incidents[0] == incidents[1]
        [event] = logged_failures
        assert formatEvent(event) == f"{name} failed, incident {incidents[0]}"
        logged_failures.clear()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_client_that_leaves(slow_client: Client, slow: Slow, method: str) -> None:
    """A command runs to its end though its client has left, and so does one whose turn only comes then."""
    body = b'{"Command":{"Name":"work"}}' if method == "POST" else b""
    for _ in range(2):
        slow_client.send("/cmd?name=work", method, JSON, body=body).leave()
    slow.fires[0].callback("first")
    slow.fires[1].callback("second")
    assert slow.ended == ["first", "second"]


def test_large_results(clock: Clock) -> None:
    """A result of some megabytes arrives whole, in an envelope as well."""
    app = App("test")

    @app.command
    async def much() -> str:
        return "x" * 3_000_000

    client = Client(make_command_site(app, clock))
    assert len(client.ask("/cmd?name=much").json()) == 3_000_000
    assert len(client.post(envelope("much")).json()["Command"]["Result"]) == 3_000_000


# --- the depth of JSON ------------------------------------------------------------------------------------------------


def nested(depth: int, opening: str = "[", closing: str = "]", core: str = "") -> str:
    """Return JSON that nests ``depth`` deep."""
    return opening * depth + core + closing * depth


@pytest.mark.parametrize("depth", [JSON_DEPTH, JSON_DEPTH + 1])
@pytest.mark.parametrize(
    ("opening", "closing", "core"),
    [
        ("[", "]", ""),
        ('{"a":', "}", "1"),
        (' [ "]]]" , ', "]", "{}"[:0] + "1"),
        ('["\\"]]",', "]", "1"),
        ('["\\\\",', "]", "1"),
    ],
)
def test_depth(client: Client, depth: int, opening: str, closing: str, core: str) -> None:
    """Bodies may nest 32 levels deep, the envelope included, whatever brackets their texts hold."""
    inside = nested(depth - 3, opening, closing, core)
    argument = client.post(f'{{"Command":{{"Name":"theDoorBell.echo","Args":{{"it":{inside}}}}}}}'.encode())
    inside = nested(depth - 1, opening, closing, core)
    member = client.post(f'{{"x":{inside},"Command":{{"Name":"theDoorBell.echo","Args":{{"it":1}}}}}}'.encode())
    for answer in (argument, member):
        assert answer.status == (200 if depth == JSON_DEPTH else 400)
        if answer.status == 400:
            assert answer.json()["detail"] == "the body nests deeper than 32 levels"


MIB = 1 << 20
ADVERSARIAL = [
    b"[" * MIB,
    b"[]" * (MIB // 2),
    b'{"a":' * (MIB // 5),
    b'"' * MIB,
    b"[" * 40 + b'"' + b"a" * MIB,
    b'"' + b"[" * MIB,
    b'"' + b"\\" * MIB + b"[" * 40,
    b'"\\' * (MIB // 2) + b"[" * 40,
    b'"' + b'\\"' * (MIB // 2) + b"[" * 40,
    b'""' * (MIB // 2) + b"[" * 33,
    b"\\" * MIB + b"[" * 33,
    b"]" * MIB + b"[" * 40,
]


@pytest.mark.parametrize("body", ADVERSARIAL, ids=lambda body: repr(body[:12]))
def test_depth_of_adversarial_bodies(client: Client, bell: DoorBell, body: bytes) -> None:
    """No body of 1 MiB keeps the check busy: it ends, whatever is wrong with the body, and the next is answered."""
    assert client.post(body[:MIB]).status == 400
    assert client.post(envelope("theDoorBell.echo", it=1)).status == 200
    assert bell.calls == [1]


def test_depth_is_found_in_linear_time() -> None:
    """The check looks at each byte of a text that never ends but once: none of its regular expression is retried."""
    for length in (1000, 2000, 4000):
        for tail in (b"a" * length, b'\\"' * length, b"\\" * length, b'"' * length):
            assert is_too_deep(b"[" * 33 + b'"' + tail)


def depth_of(body: str) -> int:
    """Return how deep ``body`` nests, found one character at a time."""
    deepest = depth = 0
    inside = escaped = False
    for character in body:
        if inside:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside = False
        elif character == '"':
            inside = True
        else:
            depth += (character in "[{") - (character in "]}")
            deepest = max(deepest, depth)
    return deepest


@given(st.text(st.sampled_from('[[[[{]}"\\a'), max_size=200))
def test_depth_of_anything(body: str) -> None:
    """The check agrees with a reading character by character, JSON or not."""
    assert is_too_deep(body.encode()) == (depth_of(body) > JSON_DEPTH)


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text(), min_size=2), max_size=4))
def test_queries(arguments: dict[str, Any]) -> None:
    """What a client encodes is what the command gets."""
    arguments.pop("name", None)
    query = urlencode({"name": "x", **arguments}, doseq=True).encode()
    assert parse_query(query) == ("x", arguments)
