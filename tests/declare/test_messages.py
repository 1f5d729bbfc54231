"""Declaring actions and listeners: what they are called, what they are given, and what is refused where it stands."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import inlineCallbacks

from rpiserve import App
from rpiserve.declare.handler import Where
from rpiserve.declare.messages import TIME_LIMIT
from rpiserve.errors import DeclarationError


@dataclass
class Lamp:
    """A payload."""

    room: str


@pytest.fixture
def app() -> App:
    """An app without messages."""
    return App("test")


def refused(declare: Callable[[], object]) -> str:
    """Return why a declaration is refused."""
    with pytest.raises(DeclarationError) as caught:
        declare()
    return str(caught.value)


# --- both -------------------------------------------------------------------------------------------------------------

Declare = Callable[..., Callable[[Any], Any]]

either = pytest.mark.parametrize("verb", ["action", "listen"])


@pytest.fixture
def declare(app: App, verb: str) -> Declare:
    """The method of that name."""
    return getattr(app, verb)  # type: ignore[no-any-return]


def declared(app: App) -> list[Any]:
    """Return what is declared."""
    return [*app.actions.values(), *app.listeners]


@either
def test_a_decorator_leaves_the_function_as_it_is(app: App, declare: Declare) -> None:
    """The function that is declared can be called by the user as before."""

    def status() -> int:
        return 7

    assert declare("status")(status) is status
    (one,) = declared(app)
    assert (one.function.call, one.timeout) == (status, TIME_LIMIT)


@either
def test_where_it_runs(app: App, declare: Declare) -> None:
    """A ``def`` runs in a thread, an ``async def`` and what is declared so on the reactor."""

    async def asynchronous() -> None: ...
    def plain() -> None: ...

    declare("a")(plain)
    declare("b")(asynchronous)
    declare("c", reactor=True)(inlineCallbacks(lambda: iter(())))
    assert [one.function.where for one in declared(app)] == [Where.THREAD, Where.REACTOR, Where.REACTOR]


@either
def test_what_it_is_given(app: App, declare: Declare) -> None:
    """A function takes nothing, or one argument, which is the payload if its annotation is a class with fields."""

    def nothing() -> None: ...
    def message(message: Any) -> None: ...
    def lamp(lamp: Lamp) -> None: ...

    for number, function in enumerate((nothing, message, lamp)):
        declare(f"number-{number}")(function)
    payloads = [one.payload for one in declared(app)]
    assert [payload.wanted for payload in payloads] == [False, True, True]
    assert [payload.parameter is not None for payload in payloads] == [False, False, True]


@either
@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda one, two: None, "it is given one argument at most, and needs one, two"),
        (lambda *, one: None, "it is given one argument at most, and needs one"),
        (7, "7 is no function"),
    ],
)
def test_a_function_that_cannot_be_called(app: App, declare: Declare, function: Any, reason: str) -> None:
    """A function that wants more than it is given is refused, and leaves nothing behind."""
    assert reason in refused(lambda: declare("status")(function))
    assert declared(app) == []
    declare("status")(lambda one: None)


@either
def test_a_generator(declare: Declare) -> None:
    """A function with a yield would not run when it is called."""

    def generator() -> Any:
        yield

    assert "use return" in refused(lambda: declare("status")(generator))


@either
def test_a_payload_that_no_message_can_have(declare: Declare) -> None:
    """A payload's class with a field that JSON cannot be converted to is refused."""

    @dataclass
    class Odd:
        what: Callable[[], None]

    def handler(it: Odd) -> None: ...

    handler.__annotations__["it"] = Odd
    assert "no client can send a" in refused(lambda: declare("status")(handler))


@either
@pytest.mark.parametrize("timeout", [0, -1, True, "5", None, float("nan"), float("inf"), 1e10])
def test_bad_timeouts(declare: Declare, timeout: Any) -> None:
    """A time limit is a number of seconds."""
    assert "timeout is" in refused(lambda: declare("status", timeout=timeout))


@either
def test_timeout(app: App, declare: Declare) -> None:
    """The time limit is the one that was given."""
    declare("status", timeout=2)(lambda: None)
    assert [one.timeout for one in declared(app)] == [2.0]


@either
def test_without_parentheses(declare: Declare) -> None:
    """A decorator that was not called, and so has the function for a name, is an error that says what a name is."""
    assert "is no " in refused(lambda: declare(lambda: None))


# --- actions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 65, "a\n", 7, None])
def test_bad_names_of_actions(app: App, name: Any) -> None:
    """The name of an action is one that the bus and a URL can have."""
    assert "is no name of an action: it has 1 to 64 letters" in refused(lambda: app.action(name))


def test_the_same_action_twice(app: App) -> None:
    """Two actions of the same name are refused."""
    app.action("status")(lambda: None)
    again = app.action("status")
    assert refused(lambda: again(lambda: None)) == "the action 'status' is declared already; give this one another name"


def test_a_function_with_several_names(app: App) -> None:
    """The same function may be several actions."""

    def status() -> None: ...

    app.action("status")(app.action("health")(status))
    assert list(app.actions) == ["health", "status"]


def test_the_name_of_an_action_is_no_handlers(app: App) -> None:
    """An action, a listener, a command and a background function may share a name: they are asked for elsewhere."""

    def status() -> None: ...

    app.background("status", 30)(status)
    app.action("status")(status)
    app.command(status)
    app.listen("status")(status)
    assert app.actions["status"].function.name == "status"


def test_docs_of_actions(app: App) -> None:
    """An action's docstring is the function's, beneath a partial too; without one it is empty."""

    def status(machine: str) -> None:
        """Tell how it is."""

    app.action("a")(partial(status, "pi"))
    app.action("b")(lambda: None)
    assert [action.function.doc for action in app.actions.values()] == ["Tell how it is.", ""]


# --- listeners --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["", "x" * 257, "a\0b", 7, None, "\ud800"])
def test_bad_channels(app: App, channel: Any) -> None:
    """A channel is a text of a bearable length."""
    assert "is no channel" in refused(lambda: app.listen(channel))


def test_a_listener_of_several_channels(app: App) -> None:
    """A function that is declared for several channels is one listener of all of them."""

    def heard() -> None: ...

    app.listen("a")(app.listen("b.*")(app.listen("c")(heard)))
    (listener,) = app.listeners
    assert listener.channels == ["c", "b.*", "a"]
    assert refused(lambda: app.listen("a")(heard)).endswith("heard listens to 'a' already")
    assert listener.channels == ["c", "b.*", "a"]


@pytest.mark.parametrize("options", [{"ordered": True}, {"timeout": 5}, {"reactor": True}])
def test_a_listener_of_several_minds(app: App, options: dict[str, Any]) -> None:
    """Other options for a second channel are refused, since there is one listener: they would have no effect."""

    def heard() -> None: ...

    app.listen("a")(heard)
    assert "have to be the same for all its channels" in refused(lambda: app.listen("b", **options)(heard))
    assert [listener.channels for listener in app.listeners] == [["a"]]


def test_several_listeners_of_a_channel(app: App) -> None:
    """Several functions may listen to the same channel; those of the same name get numbers."""

    def make() -> Callable[[], None]:
        def heard() -> None: ...

        return heard

    app.listen("a")(make())
    app.listen("a")(make())
    first, second = app.listeners
    assert (first.channels, second.channels) == (["a"], ["a"])
    assert second.function.name == f"{first.function.name}-2"


def test_a_method_listens(app: App) -> None:
    """A bound method, which is another object each time, is known again, and that of another object is another."""

    class Ear:
        def heard(self, message: Any) -> None: ...

    one, other = Ear(), Ear()
    app.listen("a")(one.heard)
    app.listen("b")(one.heard)
    app.listen("b")(other.heard)
    assert [listener.channels for listener in app.listeners] == [["a", "b"], ["b"]]


def test_ordered(app: App) -> None:
    """A listener takes its messages in turn if it says so."""
    app.listen("a")(lambda: None)
    app.listen("a", ordered=True)(lambda: None)
    assert [listener.ordered for listener in app.listeners] == [False, True]


def test_a_refused_listener_takes_no_name(app: App) -> None:
    """A function that was refused leaves its name to the one that is put right."""

    def make(function: Any) -> Any:
        function.__qualname__ = "heard"
        return function

    refused(lambda: app.listen("a")(make(lambda one, two: None)))
    app.listen("a")(make(lambda: None))
    assert [listener.function.name for listener in app.listeners] == ["heard"]
