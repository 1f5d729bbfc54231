"""Threads and time that a test holds in its hand: nothing runs before it says so."""

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.task import Clock

from rpiserve.core.runner import Runner
from rpiserve.core.threads import Job, ThreadPool


class FakePool:
    """Stands in for a `ThreadPool`. A job that is submitted counts as begun; its work is done when the test ends it.

    Attributes:
        jobs: those that have not ended, the oldest first.
        stuck: how many of them were given up.
        limit: how many may be.
        full: whether jobs have to wait for a thread, so that they can still be given up without having begun.
        error: what submitting raises, if anything.
        begun: called whenever a job begins.
    """

    def __init__(self) -> None:
        self.jobs: deque[Job] = deque()
        self.stuck = 0
        self.limit = 2
        self.full = False
        self.error: Exception | None = None
        self.begun: Callable[[], object] = lambda: None

    @property
    def clogged(self) -> bool:
        """Whether as many were given up as may be."""
        return self.stuck >= self.limit

    def submit(self, work: Callable[[], None]) -> Job:
        """Take a job."""
        if self.error is not None:
            raise self.error
        job = Job(work, "queued" if self.full else "running")
        self.begun()
        self.jobs.append(job)
        return job

    def give_up(self, job: Job) -> bool:
        """Give a job up, as the real pool does."""
        if job.state == "queued":
            self.jobs.remove(job)
            return True
        self.stuck += 1
        job.state = "given up"
        return False

    def end(self) -> None:
        """Do the oldest job: call what it calls, and hand over the outcome."""
        self.jobs.popleft().work()


class Bench:
    """A `Runner` on a `FakePool` and a `Clock`. What ends in a thread arrives on the reactor at once."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.pool = FakePool()
        self.runner = Runner(self.clock, self._to_reactor, cast(ThreadPool, self.pool))

    @staticmethod
    def _to_reactor(function: Callable[..., object], *arguments: Any) -> None:
        function(*arguments)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing is going to happen."""
        return not (self.clock.getDelayedCalls() or self.pool.jobs or self.runner.active)
