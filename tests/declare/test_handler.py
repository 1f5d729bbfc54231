"""What a user's function is, where it runs, and what a `Handler` offers."""

import functools
import operator
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import inlineCallbacks, succeed

from rpiserve.data.tree import DataTree
from rpiserve.data.view import DataView
from rpiserve.declare.handler import Handler, UserFunction, Where
from rpiserve.errors import DeclarationError, NotRunning


def plain() -> int:
    """Return something."""
    return 1


async def asynchronous() -> int:
    """Return something on the reactor."""
    return 1


@inlineCallbacks
def inline() -> Any:
    """Return something on the reactor, in the older way."""
    yield succeed(None)
    return 1


def generator() -> Iterator[int]:
    """Run nothing when called."""
    yield 1


async def asynchronous_generator() -> AsyncIterator[int]:
    """Run nothing when called."""
    yield 1


def with_argument(value: int) -> int:
    """Return the argument."""
    return value


async def asynchronous_with_argument(value: int) -> int:
    """Return the argument on the reactor."""
    return value


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` in a wrapper that looks like it."""

    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


class Reader:
    """An object that can be called, with methods of each kind."""

    def __call__(self) -> int:
        """Return something."""
        return 1

    def read(self) -> int:
        """Return something."""
        return 1

    async def fetch(self) -> int:
        """Return something on the reactor."""
        return 1

    def stream(self) -> Iterator[int]:
        """Run nothing when called."""
        yield 1

    @classmethod
    def shared(cls) -> int:
        """Return something."""
        return 1

    @staticmethod
    async def static() -> int:
        """Return something on the reactor."""
        return 1


class Fetcher:
    """An object whose call is asynchronous."""

    async def __call__(self) -> int:
        """Return something on the reactor."""
        return 1


class Streamer:
    """An object whose call runs nothing."""

    def __call__(self) -> Iterator[int]:
        """Run nothing."""
        yield 1


@pytest.mark.parametrize(
    "call",
    [
        plain,
        lambda: 1,
        functools.partial(with_argument, 1),
        functools.partial(functools.partial(with_argument), 1),
        functools.partial(with_argument, value=1),
        functools.lru_cache(plain),
        decorated(plain),
        decorated(asynchronous),  # nothing tells what it will return; see test_invoke
        inline,
        Reader(),
        functools.partial(Reader()),
        Reader().read,
        Reader.shared,
        time.monotonic,
        [].copy,
        functools.partial(operator.add, 1, 2),
        dict,  # no signature that could be checked
    ],
)
def test_runs_in_a_thread(call: Callable[[], object]) -> None:
    """A plain function runs in a thread, whatever it is made of: lambda, partial, method, object, or written in C."""
    assert UserFunction.declare("it", call).where is Where.THREAD


@pytest.mark.parametrize(
    "call",
    [
        asynchronous,
        functools.partial(asynchronous_with_argument, 1),
        functools.partial(functools.partial(asynchronous_with_argument), 1),
        Fetcher(),
        functools.partial(Fetcher()),
        Reader().fetch,
        functools.partial(Reader().fetch),
        Reader.static,
    ],
)
def test_runs_on_the_reactor(call: Callable[[], object]) -> None:
    """An ``async def`` runs on the reactor, be it a function, a method, in a partial, or an object's call."""
    assert UserFunction.declare("it", call).where is Where.REACTOR


@pytest.mark.parametrize("call", [plain, inline, Reader().read, Reader(), decorated(asynchronous), time.monotonic])
def test_told_to_run_on_the_reactor(call: Callable[[], object]) -> None:
    """With ``reactor=True`` a plain function runs on the reactor, an ``inlineCallbacks`` function above all."""
    assert UserFunction.declare("it", call, reactor=True).where is Where.REACTOR


def test_is_kept_as_it_is() -> None:
    """The function is called itself, with nothing around it, and known by the name it was given."""
    function = UserFunction.declare("it", plain)
    assert (function.name, function.call) == ("it", plain)


@pytest.mark.parametrize("call", [None, 5, "plain", object()])
def test_not_callable(call: Any) -> None:
    """What cannot be called is refused by name."""
    with pytest.raises(DeclarationError, match=r"^it: .* is no function$"):
        UserFunction.declare("it", call)


@pytest.mark.parametrize(
    "call",
    [
        generator,
        asynchronous_generator,
        functools.partial(generator),
        Reader().stream,
        Streamer(),
        functools.partial(Streamer()),
    ],
)
@pytest.mark.parametrize("reactor", [False, True])
def test_generator(call: Callable[[], object], reactor: bool) -> None:
    """A generator is refused, as calling it would run nothing, on the reactor no less than in a thread."""
    with pytest.raises(DeclarationError, match=r"^it: a function with 'yield' in it"):
        UserFunction.declare("it", call, reactor=reactor)


@pytest.mark.parametrize(
    "call",
    [
        with_argument,
        asynchronous_with_argument,
        Reader.read,  # not bound: self is missing
        decorated(with_argument),
        functools.partial(operator.add, 1),
        lambda *, keyword: keyword,
    ],
)
def test_wrong_arguments(call: Callable[..., object]) -> None:
    """A function that cannot be called without arguments is refused, and told what is wrong."""
    with pytest.raises(DeclarationError, match=r"^it: rpiserve calls it without arguments: "):
        UserFunction.declare("it", call)


def test_optional_arguments() -> None:
    """Arguments that need not be given do no harm."""
    assert UserFunction.declare("it", lambda value=1, *more, keyword=2, **others: value).where is Where.THREAD


def test_given_arguments() -> None:
    """Who is called with arguments has to take them."""
    assert UserFunction.declare("it", with_argument, arguments=("running",)).where is Where.THREAD
    with pytest.raises(DeclarationError, match=r"^it: rpiserve calls it with the argument running: "):
        UserFunction.declare("it", plain, arguments=("running",))


class Lamp(Handler):
    """A handler without ``__init__``."""

    def invoke(self) -> None:
        """Switch it on."""
        self.data.set("lamp", True)


class LampWithoutSuper(Lamp):
    """A handler whose ``__init__`` does not call that of `Handler`."""

    def __init__(self, pin: int) -> None:
        self.pin = pin


@pytest.mark.parametrize("handler", [Lamp(), LampWithoutSuper(4)])
def test_handler_before_the_daemon_runs(handler: Handler) -> None:
    """Before it is bound a handler says what is wrong with using its data, and is not stopping."""
    with pytest.raises(NotRunning, match=f"{type(handler).__name__}.data is there only while the daemon runs"):
        _ = handler.data
    assert handler.stopping is False


def test_bound_handler() -> None:
    """A bound handler has the data and tells whether the daemon stops; binding one leaves others alone."""
    tree = DataTree("boot", lambda: 0.0, lambda: 0.0)
    stopping: list[bool] = []
    handler, other = LampWithoutSuper(4), Lamp()
    handler.bind(DataView(tree), lambda: bool(stopping))
    handler.invoke()
    assert DataView(tree).at("lamp") is True
    assert handler.stopping is False
    stopping.append(True)
    assert handler.stopping is True
    assert other.stopping is False
    with pytest.raises(NotRunning):
        other.invoke()


def test_what_a_bare_handler_does() -> None:
    """There is nothing to prepare unless a subclass says so, and `invoke` is the subclass's to write."""
    handler = Handler()
    assert handler.prepare() is None
    with pytest.raises(NotImplementedError):
        handler.invoke()
