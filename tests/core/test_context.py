"""The proxies, which show each handler its own, and the logger, in which no data can do harm."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest
from fake_pool import Bench
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent

from rpiserve.core import context
from rpiserve.core.context import (
    DaemonScope,
    HandlerLogger,
    RunScope,
    broadcast,
    cache,
    logger,
    request,
    response,
)
from rpiserve.core.runner import Run, Runner
from rpiserve.core.threads import ThreadPool
from rpiserve.declare.handler import UserFunction
from rpiserve.errors import NotRunning

PATIENCE = 30.0


class Sender:
    """Stands in for what sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def send(self, *arguments: Any) -> int:
        """Note what is sent."""
        self.sent.append(arguments)
        return len(self.sent)


class Asked:
    """Stands in for a request."""

    def __init__(self, payload: Any) -> None:
        self.payload = payload


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An runner with fake threads; at its end nothing may be left."""
    bench = Bench()
    bench.runner.daemon_scope = DaemonScope(Sender(), {"kept": "value"})
    yield bench
    assert bench.idle


def run(bench: Bench, function: Callable[[], Any], scope: RunScope | None = None, **options: Any) -> Any:
    """Run ``function`` as a handler, and return what it returns."""
    started: Run = bench.runner.start(UserFunction.declare("it", function, **options), scope=scope)
    found: list[Any] = []
    started.result.addCallback(found.append)
    while bench.pool.jobs:
        bench.pool.end()
    (outcome,) = found
    return outcome


# --- outside of handlers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda: request.payload, "request is there only in a handler that answers a request or a message"),
        (lambda: response.success(), "response is there only in a handler that answers a request or a message"),
        (lambda: broadcast.send("a", {}), "broadcast is there only in a handler that runs; elsewhere, app.broadcast"),
        (lambda: cache.get("a"), "cache is there only in a handler that runs; elsewhere, app.cache does the same"),
    ],
)
def test_outside(use: Callable[[], Any], text: str) -> None:
    """Outside of a handler each proxy says what it is for, and what does the same there."""
    with pytest.raises(NotRunning, match=text):
        use()


@pytest.mark.parametrize("name", ["request", "response", "broadcast", "cache"])
def test_a_proxy_can_be_looked_at_outside(name: str) -> None:
    """Whatever looks through a module, such as a debugger, finds a proxy with nothing behind it, and no error."""
    proxy = getattr(context, name)
    assert repr(proxy) == "<LocalProxy unbound>"
    assert not isinstance(proxy, Sender)
    assert not proxy
    assert dir(proxy) == []


def test_in_a_thread_of_ones_own(bench: Bench) -> None:
    """A thread that a handler starts by itself is outside of it."""
    refused: list[type[BaseException]] = []

    def use() -> None:
        try:
            broadcast.send("a", {})
        except NotRunning as error:
            refused.append(type(error))

    def handler() -> None:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join(PATIENCE)

    run(bench, handler)
    assert len(refused) == 1


def test_a_handler_without_a_request(bench: Bench) -> None:
    """A handler that answers nothing has no request, and in a daemon without a bus there is none to be had."""
    with pytest.raises(NotRunning):
        raise run(bench, lambda: _raised(lambda: request.payload))
    bench.runner.daemon_scope = None
    with pytest.raises(NotRunning):
        raise run(bench, lambda: _raised(lambda: cache["kept"]))


def _raised(use: Callable[[], Any]) -> BaseException:
    with pytest.raises(NotRunning) as caught:
        use()
    return caught.value


# --- in handlers ------------------------------------------------------------------------------------------------------


def test_in_a_worker_thread(bench: Bench) -> None:
    """A handler in a thread sees its request and response, and the daemon's broadcast and cache."""
    sender = Sender()
    scope = RunScope("it", bench.runner.daemon_scope, Asked(7), sender)

    def handler() -> Any:
        broadcast.send("channel", {"a": 1})
        response.send("answer")
        return request.payload, cache["kept"]

    assert run(bench, handler, scope) == (7, "value")
    assert sender.sent == [("answer",)]
    assert bench.runner.daemon_scope is not None
    assert bench.runner.daemon_scope.broadcast.sent == [("channel", {"a": 1})]


def test_on_the_reactor(bench: Bench) -> None:
    """A handler on the reactor sees its own, before and after it has waited; outside of it there is nothing."""
    gates: list[Deferred[None]] = [Deferred(), Deferred()]

    async def asynchronous() -> Any:
        before = request.payload
        await gates[0]
        return before, request.payload

    @inlineCallbacks
    def yielding() -> Any:
        before = request.payload
        yield gates[1]
        return before, request.payload

    for gate, handler in zip(gates, (asynchronous, yielding), strict=True):
        function = UserFunction.declare("it", handler, reactor=True)
        started = bench.runner.start(function, scope=RunScope("it", None, Asked("mine")))
        found: list[Any] = []
        started.result.addCallback(found.append)
        assert not request
        gate.callback(None)
        assert found == [("mine", "mine")]
    assert not request


def test_concurrent_requests_on_the_reactor(bench: Bench) -> None:
    """Handlers that wait at the same time each see their own request whenever they go on."""
    gates: list[Deferred[None]] = [Deferred() for _ in range(3)]
    found: list[Any] = []

    async def handler() -> Any:
        for gate in gates:
            await gate_of(gate)
            found.append(request.payload)

    def gate_of(gate: Deferred[None]) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        gate.addCallback(waiting.callback)
        return waiting

    function = UserFunction.declare("it", handler)
    for number in range(4):
        bench.runner.start(function, scope=RunScope("it", None, Asked(number)))
    for gate in gates:
        gate.callback(None)
    assert sorted(found) == sorted([*range(4)] * 3)


def test_concurrent_requests_in_threads() -> None:
    """Handlers that run at the same time in real threads each see their own request, all the while."""
    arrived: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def to_reactor(function: Callable[..., object], *arguments: Any) -> None:
        arrived.put(partial(function, *arguments))

    count = 4
    runner = Runner(Clock(), to_reactor, ThreadPool("worker", count, idle_seconds=0))
    together = threading.Barrier(count)

    def handler() -> Any:
        seen = [request.payload]
        for _ in range(3):
            together.wait(PATIENCE)
            seen.append(request.payload)
        return seen

    function = UserFunction.declare("it", handler)
    runs = [runner.start(function, scope=RunScope("it", None, Asked(number))) for number in range(count)]
    found: list[Any] = []
    for started in runs:
        started.result.addCallback(found.append)
    for _ in runs:
        arrived.get(timeout=PATIENCE)()
    assert sorted(found) == [[number] * 4 for number in range(count)]


# --- the logger -------------------------------------------------------------------------------------------------------


def logged(log: Callable[[], object]) -> str:
    """Return the one line that ``log`` logs, as it is shown."""
    with capturedLogs() as events:
        log()
    (event,) = events
    return str(formatEvent(event))


class Secretive:
    """What has an attribute that is nobody's business, and a text that says so little."""

    secret = "the password"

    def __str__(self) -> str:
        return "shown"

    __repr__ = __str__


class Broken:
    """What can be neither shown nor formatted."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "text",
    [
        "{log_logger.__init__.__globals__}",
        "{}",
        "{0}",
        "{",
        "}}",
        "{log_time}",
        "{text}",
        "100 %",
        "%s %d",
        "%(a)s",
        "ä ☀",
    ],
)
def test_a_text_is_literal(text: str) -> None:
    """A text alone is logged as it is, whatever it looks like."""
    assert logged(lambda: logger.info(text)) == text


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_any_text_is_literal(text: str) -> None:
    """Any text that can be shown is logged as it is."""
    assert logged(lambda: logger.info(text)) == text


def test_fields() -> None:
    """An argument by name stands for its name in braces; braces in its value stay what they are."""
    assert logged(lambda: logger.info("asked: {id} {id!r} {n:03d}", id="{n}", n=7)) == "asked: {n} '{n}' 007"


@pytest.mark.parametrize(
    "text",
    [
        "{it.secret}",
        "{it.__class__}",
        "{it[0]}",
        "{0}",
        "{}",
        "{other}",
        "{it",
        "{it!x}",
        "{it:{it.secret}}",
        "{it:>5q}",
    ],
)
def test_fields_reach_no_attributes(text: str) -> None:
    """A name that is none of the arguments', an attribute above all, is not looked up: text and values are shown."""
    line = logged(lambda: logger.info(text, it=Secretive()))
    assert line == f"{text} {{'it': shown}}"


@pytest.mark.parametrize(
    ("text", "arguments", "shown"),
    [
        ("%s and %d", ("a", 7), "a and 7"),
        ("%s", ("%s {}",), "%s {}"),
        ("%s", (("a", "b"),), "('a', 'b')"),
        ("%(a)s %(b)d", ({"a": "x", "b": 2},), "x 2"),
        ("%s", ({"a": 1},), "{'a': 1}"),
        ("got", ({"a": 1},), "got ({'a': 1},)"),
        ("%d", ("seven",), "%d ('seven',)"),
        ("%s %s", ("one",), "%s %s ('one',)"),
        ("100 %", (1,), "100 % (1,)"),
        ("%(a)s", ({"b": 1},), "%(a)s ({'b': 1},)"),
    ],
)
def test_arguments(text: str, arguments: tuple[Any, ...], shown: str) -> None:
    """Other arguments are put in as in the standard library; what does not fit is shown behind the text."""
    assert logged(lambda: logger.info(text, *arguments)) == shown


@pytest.mark.parametrize(
    "log",
    [
        lambda: logger.info(Broken()),
        lambda: logger.info("{it}", it=Broken()),
        lambda: logger.info("%s", Broken()),
        lambda: logger.info("{it} {}", it=Broken()),
        lambda: logger.info("%s %s", Broken()),
        lambda: logger.info(None),
        lambda: logger.info(b"\xff"),
        lambda: logger.info("{it}", it="\ud800\x1b"),
    ],
)
def test_logging_never_raises(log: Callable[[], object]) -> None:
    """Whatever is logged, there is a line, which can be written to any terminal."""
    line = logged(log)
    line.encode()
    assert line.isprintable()


@settings(deadline=None)
@given(st.text(), st.lists(st.text() | st.integers() | st.dictionaries(st.text(), st.integers())), st.text())
def test_any_format(text: str, arguments: list[Any], value: str) -> None:
    """No text and no arguments make logging fail, or let a control character through."""
    # Widths of many digits are left out: they would only take memory.
    if not any(character.isdigit() for character in text):
        for log in (lambda: logger.info(text, *arguments), lambda: logger.info(text, value=value)):
            line = logged(log)
            line.encode()
            assert not any(character < " " or "\x7f" <= character <= "\x9f" for character in line)


def test_control_characters_are_escaped() -> None:
    """A terminal that shows the log obeys nothing in it, and no line of data passes for one of ours."""
    assert logged(lambda: logger.info("a\x1b[2J\nb\r\x00\x9b")) == r"a\x1b[2J\x0ab\x0d\x00\x9b"
    assert logged(lambda: logger.info("{it}", it="\n2026 [app#error]")) == r"\x0a2026 [app#error]"


@pytest.mark.parametrize(
    ("method", "level"),
    [
        ("debug", LogLevel.debug),
        ("info", LogLevel.info),
        ("warning", LogLevel.warn),
        ("warn", LogLevel.warn),
        ("error", LogLevel.error),
        ("critical", LogLevel.critical),
        ("exception", LogLevel.error),
    ],
)
def test_levels(method: str, level: Any, logged_failures: list[LogEvent]) -> None:
    """Each method logs on its level."""
    with capturedLogs() as events:
        getattr(logger, method)("text")
    (event,) = events
    assert (event["log_level"], event.get("log_failure")) == (level, None)
    logged_failures.clear()


def test_exceptions(logged_failures: list[LogEvent]) -> None:
    """The exception that is being handled is logged with its traceback."""
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it failed: {it}", it=7)
    (event,) = logged_failures
    assert event["log_failure"].check(ValueError)
    assert formatEvent(event) == "it failed: 7"
    logged_failures.clear()


def test_under_whose_name(bench: Bench) -> None:
    """A line stands under the name of the handler that runs, and elsewhere under the app's."""
    with capturedLogs() as events:
        logger.info("outside")
        run(bench, lambda: logger.info("inside"))
    assert [event["log_namespace"] for event in events] == ["app", "it"]


def test_the_logger_is_one_for_all() -> None:
    """What is imported is a logger itself: it works anywhere."""
    assert isinstance(logger, HandlerLogger)
    assert context.scope.get(None) is None
