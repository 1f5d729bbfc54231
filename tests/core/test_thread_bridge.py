"""The way from any thread to the reactor's: Deferreds there, waiting elsewhere, and nobody waits for ever."""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from itertools import count
from queue import SimpleQueue
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure

from rpiserve.core.thread_bridge import Link
from rpiserve.errors import NotRunning, Stopped

PATIENCE = 30.0

who: ContextVar[str] = ContextVar("who", default="nobody")


class FarEnd:
    """What a link leads to. It answers when the test says so.

    Attributes:
        asked: the calls that have arrived: their arguments, their Deferreds and what to call with progress.
        cancelled: how many of them were cancelled.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[tuple[Any, ...], Deferred[Any], Any]] = []
        self.cancelled = 0

    def ask(self, *arguments: Any, progress: Any = None) -> Deferred[Any]:
        """Take a call."""
        answer: Deferred[Any] = Deferred(self._cancelled)
        self.asked.append((arguments, answer, progress))
        return answer

    def _cancelled(self, _: object) -> None:
        self.cancelled += 1


class Side:
    """A link that is open on this thread, to which others' calls come when the test takes them."""

    def __init__(self) -> None:
        self.far = FarEnd()
        self.link: Link[FarEnd] = Link("the bus")
        self.link.open(self.far, lambda function, *arguments: self._arrived.put(partial(function, *arguments)))
        self._arrived: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def deliver(self) -> None:
        """Do the next thing that another thread has for this one."""
        self._arrived.get(timeout=PATIENCE)()


class Elsewhere:
    """Runs a function in another thread.

    Attributes:
        thread: that thread.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._outcome: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._function = function
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._outcome.put((self._function(), None))
        except BaseException as error:  # noqa: BLE001 - the test raises it again
            self._outcome.put((None, error))

    def outcome(self) -> Any:
        """Wait for what it returns or raises."""
        value, error = self._outcome.get(timeout=PATIENCE)
        self.thread.join(PATIENCE)
        if error is not None:
            raise error
        return value


@pytest.fixture
def side() -> Side:
    """An open link."""
    return Side()


def results(deferred: Deferred[Any]) -> list[Any]:
    """Return the list in which the outcome of ``deferred`` will stand."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found


# --- before it is open ------------------------------------------------------------------------------------------------


def test_not_running() -> None:
    """Before it is open, calls are refused on any thread, with the name of what is not there."""
    link: Link[FarEnd] = Link("the bus")
    call = partial(link.call, FarEnd.ask)
    for function in (call, lambda: Elsewhere(call).outcome()):
        with pytest.raises(NotRunning, match="the bus can be used only while the daemon runs"):
            function()


# --- on the reactor's thread ------------------------------------------------------------------------------------------


def test_a_deferred_on_the_reactors_thread(side: Side) -> None:
    """On the reactor's thread a call returns a Deferred, and is made at once."""
    found = results(side.link.call(FarEnd.ask, 1, "two"))
    ((arguments, answer, progress),) = side.far.asked
    assert (arguments, progress, found) == ((1, "two"), None, [])
    answer.callback("done")
    assert found == ["done"]


def test_a_call_that_raises_on_the_reactors_thread(side: Side) -> None:
    """What the far end raises at once comes by the Deferred, too."""

    def start(_: FarEnd) -> Deferred[Any]:
        raise ValueError("no")

    (failure,) = results(side.link.call(start))
    assert failure.check(ValueError)


def test_cancelling_on_the_reactors_thread(side: Side) -> None:
    """To cancel the Deferred cancels the call."""
    deferred = side.link.call(FarEnd.ask)
    found = results(deferred)
    deferred.cancel()
    assert side.far.cancelled == 1
    assert found[0].check(CancelledError)


def test_progress_on_the_reactors_thread(side: Side) -> None:
    """What comes before the result arrives in the context of the call, so that the proxies work there."""
    heard: list[tuple[str, Any]] = []

    def progress(payload: Any) -> str:
        heard.append((who.get(), payload))
        return "heard"

    token = who.set("me")
    found = results(side.link.call(FarEnd.ask, progress=progress))
    who.reset(token)
    ((_, answer, pass_on),) = side.far.asked
    assert [pass_on(1), pass_on(2)] == ["heard", "heard"]
    answer.callback(None)
    assert heard == [("me", 1), ("me", 2)]
    assert found == [None]


def test_progress_within_progress(side: Side) -> None:
    """What is told of progress may lead to more of it at once."""
    heard: list[int] = []

    def progress(payload: int) -> None:
        heard.append(payload)
        if payload < 3:
            side.far.asked[0][2](payload + 1)

    results(side.link.call(FarEnd.ask, progress=progress))
    side.far.asked[0][2](1)
    assert heard == [1, 2, 3]


def test_asynchronous_progress_on_the_reactors_thread(side: Side) -> None:
    """An ``async def`` is told of progress in the context of the call as well; what it raises is the far end's."""
    heard: list[tuple[str, Any]] = []
    gate: Deferred[None] = Deferred()

    async def progress(payload: Any) -> None:
        await gate
        heard.append((who.get(), payload))
        raise ValueError("no")

    token = who.set("me")
    results(side.link.call(FarEnd.ask, progress=progress))
    who.reset(token)
    found = results(Deferred.fromCoroutine(side.far.asked[0][2]("half")))
    assert heard == []
    gate.callback(None)
    assert heard == [("me", "half")]
    assert found[0].check(ValueError)


def test_progress_that_raises_on_the_reactors_thread(side: Side) -> None:
    """What is raised where progress is told goes to the far end, which ends the call."""

    def progress(payload: Any) -> None:
        raise ValueError(payload)

    results(side.link.call(FarEnd.ask, progress=progress))
    with pytest.raises(ValueError, match="half"):
        side.far.asked[0][2]("half")


# --- on other threads -------------------------------------------------------------------------------------------------


def test_waiting_elsewhere(side: Side) -> None:
    """On any other thread a call is made on the reactor's, and returns what that brings, late or at once."""
    here = threading.get_ident()
    made_on: list[int] = []

    def start(far: FarEnd, number: int) -> Deferred[Any]:
        made_on.append(threading.get_ident())
        return far.ask(number)

    late = Elsewhere(partial(side.link.call, start, 7))
    side.deliver()
    ((arguments, answer, _),) = side.far.asked
    assert (arguments, made_on) == ((7,), [here])
    answer.callback("done")
    assert late.outcome() == "done"

    at_once = Elsewhere(partial(side.link.call, lambda _: succeed("soon")))
    side.deliver()
    assert at_once.outcome() == "soon"


@pytest.mark.parametrize("late", [True, False])
def test_errors_elsewhere(side: Side, late: bool) -> None:
    """What the call fails with is raised where somebody waits for it."""
    call = partial(side.link.call, FarEnd.ask if late else lambda _: fail(ValueError("no")))
    thread = Elsewhere(call)
    side.deliver()
    if late:
        side.far.asked[0][1].errback(Failure(ValueError("no")))
    with pytest.raises(ValueError, match="no"):
        thread.outcome()


def test_a_call_that_raises_elsewhere(side: Side) -> None:
    """What the far end raises at once is raised there, too."""

    def start(_: FarEnd) -> Deferred[Any]:
        raise ValueError("no")

    thread = Elsewhere(partial(side.link.call, start))
    side.deliver()
    with pytest.raises(ValueError, match="no"):
        thread.outcome()


def test_progress_elsewhere(side: Side) -> None:
    """What comes before the result is told in the thread that waits, in its context and in order."""
    heard: list[tuple[int, str, Any]] = []

    def call() -> Any:
        who.set("the thread")
        return side.link.call(
            FarEnd.ask, progress=lambda payload: heard.append((threading.get_ident(), who.get(), payload))
        )

    thread = Elsewhere(call)
    side.deliver()
    _, answer, pass_on = side.far.asked[0]
    pass_on(1)
    pass_on(2)
    answer.callback("done")
    assert thread.outcome() == "done"
    assert heard == [(thread.thread.ident, "the thread", 1), (thread.thread.ident, "the thread", 2)]


def test_progress_that_raises_elsewhere(side: Side) -> None:
    """What is raised where progress is told ends the call: it is cancelled, and the thread raises it."""

    def progress(payload: Any) -> None:
        raise ValueError(payload)

    thread = Elsewhere(partial(side.link.call, FarEnd.ask, progress=progress))
    side.deliver()
    side.far.asked[0][2]("half")
    with pytest.raises(ValueError, match="half"):
        thread.outcome()
    assert side.far.cancelled == 0
    side.deliver()
    assert side.far.cancelled == 1
    side.link.close()
    assert side.far.cancelled == 1


# --- when it is closed ------------------------------------------------------------------------------------------------


def test_who_waits_is_set_free(side: Side) -> None:
    """Closing it sets all free who wait, and cancels their calls."""
    threads = [Elsewhere(partial(side.link.call, FarEnd.ask)) for _ in range(3)]
    for _ in threads:
        side.deliver()
    side.link.close()
    for thread in threads:
        with pytest.raises(Stopped, match="the bus cannot be used any more: the daemon is shutting down"):
            thread.outcome()
    assert side.far.cancelled == 3


def test_who_waits_for_the_reactor_is_set_free(side: Side) -> None:
    """A call that the reactor has not come to yet is not made any more."""
    begun = threading.Event()

    def to_reactor(function: Callable[[], object]) -> None:
        waiting.append(function)
        begun.set()

    waiting: list[Callable[[], object]] = []
    link: Link[FarEnd] = Link("the bus")
    link.open(side.far, to_reactor)
    thread = Elsewhere(partial(link.call, FarEnd.ask))
    assert begun.wait(PATIENCE)
    link.close()
    with pytest.raises(Stopped):
        thread.outcome()
    waiting[0]()
    assert side.far.asked == []


def test_result_and_close_at_once(side: Side) -> None:
    """A result that is there before the end is not lost by it."""
    thread = Elsewhere(partial(side.link.call, FarEnd.ask))
    side.deliver()
    side.far.asked[0][1].callback("done")
    side.link.close()
    assert thread.outcome() == "done"
    assert side.far.cancelled == 0


def test_result_just_before_the_close(side: Side) -> None:
    """A thread that has its result already, but has not gone on yet, returns it although the link is closed."""
    told, go_on = threading.Event(), threading.Event()

    def progress(_: Any) -> None:
        told.set()
        assert go_on.wait(PATIENCE)

    thread = Elsewhere(partial(side.link.call, FarEnd.ask, progress=progress))
    side.deliver()
    _, answer, pass_on = side.far.asked[0]
    pass_on("half")
    assert told.wait(PATIENCE)
    answer.callback("done")
    side.link.close()
    go_on.set()
    assert thread.outcome() == "done"


def test_closing_among_many_calls() -> None:
    """Whenever it is closed, each of many threads' calls ends: with its own result, or `Stopped`."""
    threads = 8
    for number in range(20):
        side = Side()
        outcomes: SimpleQueue[list[Any]] = SimpleQueue()
        calls = partial(_call_until_stopped, side.link, outcomes)
        for _ in range(threads):
            threading.Thread(target=calls, daemon=True).start()
        for _ in range(number * 5):
            side.deliver()
        side.link.close()
        for _ in range(threads):
            *results, last = outcomes.get(timeout=PATIENCE)
            assert results == [*range(len(results))]
            assert last is Stopped


def _call_until_stopped(link: Link[FarEnd], outcomes: "SimpleQueue[list[Any]]") -> None:
    found: list[Any] = []
    try:
        for number in count():
            found.append(link.call(lambda _, number: succeed(number), number))
    except Stopped as error:
        outcomes.put([*found, type(error)])


def test_after_the_close(side: Side) -> None:
    """Whoever comes later does not wait at all; on the reactor's thread it is for the far end to say."""
    side.link.close()
    with pytest.raises(Stopped, match="the daemon is shutting down"):
        Elsewhere(partial(side.link.call, FarEnd.ask)).outcome()
    found = results(side.link.call(FarEnd.ask))
    side.far.asked[0][1].callback("still")
    assert found == ["still"]
    side.link.close()
