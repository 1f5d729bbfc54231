"""A bounded pool of daemon threads, which keeps its strength when some of its threads hang.

The standard pools will not do: their threads are no daemons, so one that hangs holds up the exit of the process for
ever, and a thread that hangs is lost to them.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Final, Literal

import attrs

from rpiserve.core.metrics import Metric, Sample

THREADS: Final = Metric("rpiserve_threads", "Threads of a pool, those that hang among them.", "gauge", ("pool",))
STUCK: Final = Metric(
    "rpiserve_threads_stuck", "Threads of a pool whose call has passed its time limit and runs on.", "gauge", ("pool",)
)
QUEUED: Final = Metric("rpiserve_threads_queued", "Calls that wait for a thread of a pool.", "gauge", ("pool",))


@attrs.define(eq=False)
class Job:
    """A piece of work that was handed to a `ThreadPool`."""

    work: Callable[[], None]
    state: Literal["queued", "running", "given up", "done"] = "queued"


class ThreadPool:
    """Runs jobs in daemon threads, each started only when no other is idle. Safe to use from any thread.

    Args:
        name: what its threads are called.
        limit: how many threads it may have, apart from those that were given up.
        spawn: starts a thread with a name and a function.
        idle_seconds: how long a thread waits for work before it ends.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        spawn: Callable[[str, Callable[[], None]], None] | None = None,
        idle_seconds: float = 60.0,
    ) -> None:
        self._name = name
        self._limit = limit
        self._spawn = spawn or _spawn_daemon
        self._idle_seconds = idle_seconds
        self._lock = threading.RLock()  # a finalizer may submit, too, and runs at any moment in any thread
        self._jobs: deque[Job] = deque()
        self._strength = 0  # threads that work or wait for work
        # What each idle thread waits for. The one that has idled least gets the next job, so that those come to their
        # end for which there is too little to do.
        self._idle: list[Lock] = []
        self._stuck = 0  # threads whose job was given up

    @property
    def threads(self) -> int:
        """How many threads there are, those that were given up among them."""
        return self._strength + self._stuck

    @property
    def stuck(self) -> int:
        """How many threads still run a job that was given up."""
        return self._stuck

    @property
    def clogged(self) -> bool:
        """Whether as many threads hang as it may have.

        Each of them is one besides those of the pool: there shall not be ever more of them.
        """
        return self._stuck >= self._limit

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of it."""
        yield THREADS.sample(self.threads, self._name)
        yield STUCK.sample(self._stuck, self._name)
        yield QUEUED.sample(len(self._jobs), self._name)

    def submit(self, work: Callable[[], None]) -> Job:
        """Have ``work``, which must not raise, called in a thread, and return the job.

        Raises:
            RuntimeError: the system gives us no thread, and there is none that could do it later.
        """
        job = Job(work)
        with self._lock:
            self._jobs.append(job)
            try:
                self._strengthen()
            except RuntimeError:
                self._jobs.remove(job)
                raise
        return job

    def give_up(self, job: Job) -> bool:
        """Stop counting on ``job`` to end.

        Returns:
            True if it had not begun: it never will. False if it runs: its thread is replaced if there is need, and is
            taken back into the pool, if there is room, when the job ends after all. False, too, if it has ended.
        """
        with self._lock:
            if job.state == "queued":
                self._jobs.remove(job)
                return True
            if job.state == "running":
                job.state = "given up"
                self._strength -= 1
                self._stuck += 1
                if self._jobs:
                    with suppress(RuntimeError):  # then what is queued waits until a thread can be had again
                        self._strengthen()
            return False

    def _strengthen(self) -> None:
        """See to it that a thread takes the next job. Raises `RuntimeError` if none can."""
        if self._idle:
            self._idle.pop().release()
        elif self._strength < self._limit:
            try:
                self._spawn(self._name, self._work)
            except RuntimeError:  # out of threads: another of ours will come to it, if there is another
                if self._strength == 0:
                    raise
            else:
                self._strength += 1

    def _work(self) -> None:
        wake = Lock()
        wake.acquire()
        while (job := self._next_job(wake)) is not None:
            job.work()
            with self._lock:
                if job.state == "given up":
                    self._stuck -= 1
                    if self._strength >= self._limit:
                        return
                    self._strength += 1
                job.state = "done"

    def _next_job(self, wake: Lock) -> Job | None:
        """Return the next job, once there is one; None if the thread is to end. Releasing ``wake`` tells of one."""
        while True:
            with self._lock:
                if self._jobs:
                    job = self._jobs.popleft()
                    job.state = "running"
                    return job
                self._idle.append(wake)
            woken = wake.acquire(timeout=self._idle_seconds)
            with self._lock:
                if wake not in self._idle:
                    if not woken:  # but in between
                        wake.acquire()
                    continue
                self._idle.remove(wake)
                if not self._jobs:
                    self._strength -= 1
                    return None


def _spawn_daemon(name: str, work: Callable[[], None]) -> None:
    threading.Thread(target=work, name=name, daemon=True).start()
