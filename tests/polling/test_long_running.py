"""A function that runs for long in a thread of its own: started again when it raises, ever more rarely."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from fake_pool import Bench
from twisted.logger import LogEvent, capturedLogs, formatEvent

from rpiserve.core.handler_status import HandlerStatus
from rpiserve.declare.handler import UserFunction
from rpiserve.polling.long_running import STEADY, LongRunner

NOW = datetime(2026, 5, 17, 12, 0, 0, tzinfo=UTC).timestamp()


class Line(Bench):
    """A long-running function, which notes what ``running()`` told it, and raises what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self.seen: list[bool] = []
        self.starts: list[float] = []
        self.pool.begun = lambda: self.starts.append(self.clock.seconds())
        self.shift = 0.0
        function = UserFunction.declare("serial", self.loop, arguments=("running",))
        self.thread = LongRunner(function, self.runner, self.clock, self.wall)

    def wall(self) -> float:
        """Return the time of the wall clock."""
        return NOW + self.clock.seconds() + self.shift

    def loop(self, running: Callable[[], bool]) -> None:
        """Be the function."""
        self.seen.append(running())
        if self.error is not None:
            raise self.error


@pytest.fixture
def line() -> Iterator[Line]:
    """A line, of which nothing is left once it has stopped and what runs has ended."""
    line = Line()
    yield line
    stopped = line.thread.stop()
    while line.pool.jobs:
        line.pool.end()
    assert stopped.called
    assert line.idle


@pytest.fixture
def failing(logged_failures: list[LogEvent]) -> Iterator[list[LogEvent]]:
    """For tests whose function fails: what is logged of it is expected."""
    yield logged_failures
    logged_failures.clear()


def at(seconds: float) -> Any:
    """Return what equals a time after the start, in seconds since the epoch, to the millisecond."""
    return pytest.approx(NOW + seconds, abs=0.0005)


def test_runs_without_a_time_limit(line: Line) -> None:
    """It is started once, and may run for ever; ``running()`` is true meanwhile."""
    line.thread.start()
    line.clock.advance(1e6)
    assert len(line.pool.jobs) == 1
    line.pool.end()
    assert line.seen == [True]


def test_is_not_started_again_when_it_returns(line: Line) -> None:
    """A function that returns has finished, before the stop as well."""
    line.thread.start()
    line.pool.end()
    assert line.idle
    assert line.thread.status().state == "finished"


@pytest.mark.usefixtures("failing")
def test_is_started_again_when_it_raises(line: Line) -> None:
    """After each failure in a row the pause is twice as long, up to a minute."""
    line.error = ValueError("secret")
    line.thread.start()
    pauses = []
    for _ in range(9):
        ended = line.clock.seconds()
        line.pool.end()
        assert not line.pool.jobs
        line.clock.advance(line.clock.getDelayedCalls()[0].getTime() - ended)
        pauses.append(line.starts[-1] - ended)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("worked", "pause"), [(STEADY, 1), (STEADY - 1, 8)])
@pytest.mark.usefixtures("failing")
def test_has_worked_when_it_was_steady(line: Line, worked: float, pause: float) -> None:
    """A run that has lasted for a minute has worked: the pauses begin anew. A shorter one is one more failure."""
    line.error = ValueError()
    line.thread.start()
    for _ in range(3):
        line.pool.end()
        line.clock.advance(60)
    line.clock.advance(worked - (line.clock.seconds() - line.starts[-1]))
    ended = line.clock.seconds()
    line.pool.end()
    assert line.clock.getDelayedCalls()[0].getTime() - ended == pause


def test_failures_are_logged(line: Line, failing: list[LogEvent]) -> None:
    """The first failure is logged with its traceback, and one of the next in a line; its text is not shown."""
    line.error = ValueError("secret")
    line.thread.start()
    for _ in range(7):
        line.pool.end()
        line.clock.advance(line.clock.getDelayedCalls()[0].getTime() - line.clock.seconds())
    assert ["log_failure" in event for event in failing] == [True, False]
    assert str(formatEvent(failing[0])).startswith("serial failed, incident ")
    assert line.thread.status().error.startswith("ValueError (incident ")


@pytest.mark.usefixtures("failing")
def test_works_again(line: Line) -> None:
    """When it has gone on for a minute after failures it works again, which is logged at once, and once."""
    line.error = ValueError()
    line.thread.start()
    for pause in (1, 2):
        line.pool.end()
        line.clock.advance(pause)
    with capturedLogs() as logs:
        line.clock.advance(STEADY - 1)
        assert line.thread.status().error is not None
        line.clock.advance(1)
        line.clock.advance(10 * STEADY)
    assert [formatEvent(event) for event in logs] == ["serial works again after 2 failures in 63 s"]
    assert (line.thread.status().state, line.thread.status().error) == ("running", None)


@pytest.mark.usefixtures("failing")
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_exit_is_a_failure_like_any_other(line: Line, error: BaseException) -> None:
    """``sys.exit()`` in a thread does not end it for good, nor the daemon."""
    line.error = error
    line.thread.start()
    line.pool.end()
    line.clock.advance(1)
    assert len(line.pool.jobs) == 1


@pytest.mark.usefixtures("failing")
def test_no_thread_to_be_had(line: Line) -> None:
    """When the system gives no thread it is tried again."""
    line.pool.error = RuntimeError("can't start new thread")
    line.thread.start()
    assert line.thread.status().state == "error"
    line.pool.error = None
    line.clock.advance(1)
    assert len(line.pool.jobs) == 1


def test_stop_while_it_runs(line: Line) -> None:
    """A stop turns ``running()`` false and waits for the function to return."""
    line.thread.start()
    stopped = line.thread.stop()
    assert not stopped.called
    line.pool.end()
    assert stopped.called
    assert line.seen == [False]


def test_stop_while_it_runs_and_raises(line: Line, failing: list[LogEvent]) -> None:
    """What it raises on its way out is logged, but it is not started again."""
    line.error = ValueError()
    line.thread.start()
    stopped = line.thread.stop()
    line.pool.end()
    assert stopped.called
    assert line.idle
    assert len(failing) == 1


@pytest.mark.usefixtures("failing")
def test_stop_during_a_pause(line: Line) -> None:
    """Nothing is left of a pause."""
    line.error = ValueError()
    line.thread.start()
    line.pool.end()
    assert line.thread.stop().called
    assert line.idle


def test_stop_before_start_and_after_the_end(line: Line) -> None:
    """Where nothing runs a stop is done at once, as often as one likes."""
    assert line.thread.stop().called
    assert line.thread.stop().called


@pytest.mark.usefixtures("failing")
def test_status(line: Line) -> None:
    """What is shown of it: while it runs, while it rests after a failure, when the clock was set, and at its end."""
    line.thread.start()
    running = HandlerStatus(name="serial", kind="thread", state="running", last_run=at(0), runs=1)
    assert line.thread.status() == running
    line.error = ValueError()
    line.clock.advance(5)
    line.pool.end()
    status = line.thread.status()
    assert status.error is not None
    assert status == attrs.evolve(running, state="error", failures=1, next_run=at(6), error=status.error)
    line.shift = 3600
    assert line.thread.status().next_run == at(3606)
    line.clock.advance(1)
    status = line.thread.status()
    assert status == attrs.evolve(running, runs=2, failures=1, last_run=at(3606), error=status.error)
    line.error = None
    line.pool.end()
    finished = attrs.evolve(running, state="finished", runs=2, failures=1, last_run=at(3606))
    assert line.thread.status() == finished


def test_status_before_the_start(line: Line) -> None:
    """Before it is started there is no last run."""
    assert (line.thread.status().runs, line.thread.status().last_run) == (0, None)
