"""The OpenAPI document of an app: that it is one, and what it says of commands and actions."""

import dataclasses
from typing import Annotated, Any

import msgspec
import openapi_app
from openapi_reader import (
    Reading,
    body,
    fits,
    operations,
    read,
    resolved,
    result,
)

from rpiserve import App, PubSubRequest


def test_an_app_that_declares_nothing() -> None:
    """The document is valid, and tells of all that every daemon has by itself."""
    whole = read(App("test"))
    assert whole["openapi"] == "3.1.0"
    assert (whole["info"]["title"], whole["info"]["version"]) == ("test", "1.2")
    assert {(path, method) for path, method, _ in operations(whole)} == {
        ("/", "get"),
        ("/", "post"),
        ("/broadcasts/{channel}", "post"),
        ("/cmd", "get"),
        ("/cmd", "post"),
        ("/cmds", "get"),
        ("/data", "get"),
        ("/dashboard/{path}", "get"),
        ("/data/{path}", "get"),
        ("/events", "get"),
        ("/health", "get"),
        ("/login", "get"),
        ("/login", "post"),
        ("/logout", "post"),
        ("/metrics", "get"),
        ("/openapi.json", "get"),
        ("/ready", "get"),
        ("/sensors", "get"),
        ("/services", "get"),
        ("/services/{service}/{action}", "post"),
        ("/www", "get"),
        ("/www/{path}", "get"),
    }


def test_an_app_with_something_of_every_kind() -> None:
    """The document is valid; each operation has a summary, a tag that is told of, and the errors as problems."""
    whole = read(openapi_app.app)
    tags = {tag["name"] for tag in whole["tags"]}
    for path, _, operation in operations(whole):
        assert operation["summary"], path
        assert set(operation["tags"]) <= tags
        for status, answer in operation["responses"].items():
            assert status == "default" or int(status) < 400 or resolved(whole, answer)["content"]
    assert {path for path, _, operation in operations(whole) if "app" in operation["tags"]} == {
        "/%7Bodd%7D/gr%C3%B6%C3%9Fe",
        "/convert/{value}/{unit}",
        "/files/{name}",
        "/house/rooms/{room}",
        "/notes",
        "/of/{id}",
        "/pins/{pin}",
        "/read/{page}",
    }


def test_the_envelope_of_each_command() -> None:
    """What calls a command fits the document by its name and arguments; the answer has the arguments as they came."""
    whole = read(openapi_app.app)
    post = whole["paths"]["/cmd"]["post"]
    assert whole["paths"]["/"]["post"]["requestBody"] == post["requestBody"]
    ring: dict[str, Any] = {"Name": "theBell.ring", "Args": {"times": 3, "tone": "dong"}}
    assert fits(whole, body(post), {"Command": ring, "mine": 1})
    assert not fits(whole, body(post), {"Command": {**ring, "Args": {"times": "x"}}})
    assert not fits(whole, body(post), {"Command": {**ring, "Args": {}}})
    assert not fits(whole, body(post), {"Command": {**ring, "Name": "theBell.sing"}})
    assert not fits(whole, body(post), {"Command": {"Name": "theBell.ring"}})
    assert fits(whole, body(post), {"Command": {"Name": "anything"}})
    assert fits(whole, result(post), {"Command": {**ring, "Args": {"times": "3"}, "Result": {"times": 3}}})
    assert not fits(whole, result(post), {"Command": {**ring, "Result": {"times": "3"}}})
    assert not fits(whole, result(post), {"Command": ring})
    [name, arguments] = whole["paths"]["/cmd"]["get"]["parameters"]
    assert name["schema"]["enum"] == ["theBell.ring", "every_kind", "divide", "anything"]
    assert arguments["explode"]


def test_docstrings() -> None:
    """The first paragraph is the summary, in a line; the rest is the description. A command has all of it."""
    app = App("test")

    @app.action("go")
    def go() -> None:
        """Go there,
        at once.

        And stay.

        For long.
        """

    @app.route("/silent")
    def silent() -> None: ...

    @app.command
    def stop() -> None:
        """Stop.

        At last.
        """

    whole = read(app)
    told = whole["paths"]["/actions/go"]["post"]
    assert (told["summary"], told["description"]) == ("Go there, at once.", "And stay.\n\nFor long.")
    quiet = whole["paths"]["/silent"]["get"]
    assert quiet["summary"] == "GET /silent"
    assert "description" not in quiet
    [call] = whole["components"]["schemas"]["Call"]["properties"]["Command"]["oneOf"]
    assert (call["title"], call["description"]) == ("stop", "Stop.\n\nAt last.")


def test_the_payload_of_an_action() -> None:
    """It is the class that the action takes; without one it may be anything."""
    app = App("test")

    @app.action("a.b-c")
    def odd(request: PubSubRequest) -> None: ...

    @app.action("a_b_c")
    async def typed(reading: Reading) -> None: ...

    whole = read(app)
    assert whole["paths"]["/actions/a.b-c"]["post"]["requestBody"]["required"] is False
    assert body(whole["paths"]["/actions/a.b-c"]["post"]) == {}
    assert whole["paths"]["/actions/a_b_c"]["post"]["requestBody"]["required"] is True
    payload = body(whole["paths"]["/actions/a_b_c"]["post"])
    assert fits(whole, payload, {"value": 1.5, "level": 2})
    assert not fits(whole, payload, {"value": None})
    names = {whole["paths"][f"/actions/{name}"]["post"]["operationId"] for name in ("a.b-c", "a_b_c")}
    assert names == {"post_actions_a_b_c", "post_actions_a_b_c_2"}


def test_what_needs_no_token() -> None:
    """A public route says so, as does what tells whether the daemon is alive; a token may be needed for all else."""
    app = App("test")
    app.route("/open", role="public")(lambda: 1)
    app.route("/shut")(lambda: 1)
    whole = read(app)
    assert whole["security"] == [{}, {"token": []}]
    public = {path for path, _, operation in operations(whole) if operation.get("security") == []}
    assert public == {"/dashboard/{path}", "/health", "/login", "/logout", "/open"}


def test_whatever_is_in_a_text_can_be_sent() -> None:
    """Lone surrogates, control characters and objects that are no JSON, wherever users may have put them."""
    odd = "\ud800 \0 \x7f\u2028 é"
    app = App("test")

    def command(a: Any, b: Any = 1) -> None: ...

    command.__doc__ = odd
    command.__annotations__ |= {
        "a": odd,
        "b": Annotated[int, msgspec.Meta(description=odd)],
    }
    app.add_command(command, name="odd")

    long = dataclasses.make_dataclass("Long", [("number", int, 10**5000), ("other", float, float("nan"))])

    @app.action("odd")
    def action(payload: long) -> None: ...  # type: ignore[valid-type]

    action.__doc__ = odd

    whole = read(app)
    [call] = whole["components"]["schemas"]["Call"]["properties"]["Command"]["oneOf"]
    assert call["description"] == "\\ud800 \0 \x7f\u2028 é"
    assert {each["description"] for each in call["properties"]["Args"]["properties"].values()} == {call["description"]}
    assert "default" not in whole["components"]["schemas"]["Long"]["properties"]["number"]
