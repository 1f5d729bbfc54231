"""The pool of daemon threads: bounded, grown on demand, and as strong as before when some of its threads hang.

Most of these tests have no threads: `spawn` collects what a thread would do, and the test does it. A job that asks the
pool something does so while it runs.
"""

import queue
import threading
from collections.abc import Callable

import pytest

from rpiserve.core.threads import Job, ThreadPool

PATIENCE = 10.0
"""Seconds after which a test with real threads gives up; none of them takes any."""


class Threads:
    """Collects the threads that a pool starts, or refuses to start them."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []
        self.names: list[str] = []
        self.refusing = False

    def spawn(self, name: str, work: Callable[[], None]) -> None:
        """Take a thread."""
        if self.refusing:
            raise RuntimeError("can't start new thread")
        self.names.append(name)
        self.waiting.append(work)

    def run(self) -> None:
        """Be the oldest thread until it ends, which is when there is no more to do."""
        self.waiting.pop(0)()


def fake_pool(limit: int) -> tuple[ThreadPool, Threads]:
    """Return a pool whose threads end at once when idle, and its threads."""
    threads = Threads()
    return ThreadPool("worker", limit, threads.spawn, idle_seconds=0), threads


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """What is released whenever a thread begins to wait for work."""
    waits = threading.Semaphore(0)

    class Observed:
        def __init__(self) -> None:
            self._lock = threading.Lock()

        def acquire(self, timeout: float = -1) -> bool:
            if timeout >= 0:
                waits.release()
            return self._lock.acquire(timeout=timeout)

        def release(self) -> None:
            self._lock.release()

    monkeypatch.setattr("rpiserve.core.threads.Lock", Observed)
    return waits


def nothing() -> None:
    """Do nothing, as a job."""


def test_starts_nothing() -> None:
    """A pool that was given nothing to do has no thread."""
    pool, threads = fake_pool(3)
    assert (pool.threads, pool.stuck, threads.names) == (0, 0, [])


def test_grows_on_demand_and_is_bounded() -> None:
    """Each job gets a thread of its own up to the limit; those beyond it wait, and are done in their order."""
    pool, threads = fake_pool(2)
    done: list[int] = []
    for number in range(4):
        pool.submit(lambda number=number: done.append(number))
    assert threads.names == ["worker", "worker"]
    assert pool.threads == 2
    threads.run()
    assert done == [0, 1, 2, 3]
    threads.run()
    assert pool.threads == 0


def test_idle_thread_is_used_again(idle: threading.Semaphore) -> None:
    """A thread that waits for work gets the next job, though the limit would allow another thread."""
    pool = ThreadPool("worker", 2, idle_seconds=PATIENCE)
    seen: list[threading.Thread] = []
    for _ in range(3):
        pool.submit(lambda: seen.append(threading.current_thread()))
        assert idle.acquire(timeout=PATIENCE)
    assert len(seen) == 3
    assert len(set(seen)) == pool.threads == 1


def test_second_job_does_not_count_on_an_idle_thread_that_is_spoken_for(idle: threading.Semaphore) -> None:
    """Two jobs that come while one thread is idle get two threads, even before the idle one has taken the first."""
    pool = ThreadPool("worker", 2, idle_seconds=PATIENCE)
    pool.submit(nothing)
    assert idle.acquire(timeout=PATIENCE)
    meeting = threading.Barrier(2)
    with pool._lock:  # the idle thread cannot move yet
        pool.submit(lambda: meeting.wait(PATIENCE))
        pool.submit(lambda: meeting.wait(PATIENCE))
    assert idle.acquire(timeout=PATIENCE)
    assert idle.acquire(timeout=PATIENCE)
    assert pool.threads == 2
    assert not meeting.broken


def test_the_last_to_become_idle_is_the_first_to_work(idle: threading.Semaphore) -> None:
    """Of several idle threads the last one gets the next job, time and again, so that the others come to their end."""
    pool = ThreadPool("worker", 3, idle_seconds=PATIENCE)
    meeting = threading.Barrier(3)
    for _ in range(3):
        pool.submit(lambda: meeting.wait(PATIENCE))
    for _ in range(3):
        assert idle.acquire(timeout=PATIENCE)
    seen: set[threading.Thread] = set()
    for _ in range(5):
        pool.submit(lambda: seen.add(threading.current_thread()))
        assert idle.acquire(timeout=PATIENCE)
    assert (len(seen), pool.threads) == (1, 3)


def test_a_thread_that_is_woken_in_vain(idle: threading.Semaphore) -> None:
    """A thread that another has taken the work from in the meantime waits again, and gets the next."""
    pool = ThreadPool("worker", 1, idle_seconds=PATIENCE)
    pool.submit(nothing)
    assert idle.acquire(timeout=PATIENCE)
    with pool._lock:  # it cannot move yet
        assert pool.give_up(pool.submit(nothing))
    assert idle.acquire(timeout=PATIENCE)
    done = threading.Event()
    pool.submit(done.set)
    assert done.wait(PATIENCE)
    assert pool.threads == 1


def test_idle_thread_ends() -> None:
    """A thread that has waited long enough ends, and the next job gets a new one."""
    pool = ThreadPool("worker", 1, idle_seconds=0)
    seen: list[threading.Thread] = []
    for _ in range(2):
        ran = threading.Event()

        def job(ran: threading.Event = ran) -> None:
            seen.append(threading.current_thread())
            ran.set()

        pool.submit(job)
        assert ran.wait(PATIENCE)
        seen[-1].join(PATIENCE)
        assert not seen[-1].is_alive()
        assert pool.threads == 0
    assert seen[0] is not seen[1]


def test_threads_are_daemons() -> None:
    """The threads hold up no exit, and bear the pool's name."""
    pool = ThreadPool("rpiserve-worker", 1, idle_seconds=0)
    seen: list[threading.Thread] = []
    ran = threading.Event()
    pool.submit(lambda: (seen.append(threading.current_thread()), ran.set()))
    assert ran.wait(PATIENCE)
    assert seen[0].daemon
    assert seen[0].name == "rpiserve-worker"


def test_never_more_at_once_than_the_limit() -> None:
    """However many jobs come from however many sides, no more run at the same time than there may be threads."""
    pool = ThreadPool("worker", 3, idle_seconds=0)
    lock = threading.Lock()
    running = most = done = 0
    all_done = threading.Event()

    def job() -> None:
        nonlocal running, most, done
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1
            done += 1
            if done == 400:
                all_done.set()

    submitters = [threading.Thread(target=lambda: [pool.submit(job) for _ in range(100)]) for _ in range(4)]
    for submitter in submitters:
        submitter.start()
    for submitter in submitters:
        submitter.join(PATIENCE)
    assert all_done.wait(PATIENCE)
    assert 1 <= most <= 3


def test_giving_up_a_queued_job() -> None:
    """A job that has not begun never will once it was given up, and nothing is stuck."""
    pool, threads = fake_pool(1)
    done: list[str] = []
    pool.submit(lambda: done.append("first"))
    second = pool.submit(lambda: done.append("second"))
    assert pool.give_up(second)
    threads.run()
    assert done == ["first"]
    assert pool.stuck == 0


def test_giving_up_a_running_job() -> None:
    """A job that runs cannot be stopped: it counts as stuck, once, until it ends."""
    pool, threads = fake_pool(1)
    seen = []

    def job() -> None:
        seen.append([pool.give_up(jobs[0]), pool.give_up(jobs[0])])
        seen.append([pool.stuck, pool.threads])

    jobs = [pool.submit(job)]
    threads.run()
    assert seen == [[False, False], [1, 1]]
    assert (pool.stuck, pool.threads) == (0, 0)


def test_giving_up_a_job_that_has_ended() -> None:
    """To give up a job that has ended changes nothing, be it that it had been given up before."""
    pool, threads = fake_pool(1)
    done = pool.submit(nothing)
    given_up = pool.submit(lambda: pool.give_up(given_up))
    threads.run()
    assert not pool.give_up(done)
    assert not pool.give_up(given_up)
    assert (pool.stuck, pool.threads) == (0, 0)


def test_stuck_thread_is_replaced_for_what_is_queued() -> None:
    """When a job hangs, what waits behind it gets a new thread in its place."""
    pool, threads = fake_pool(1)
    done: list[str] = []

    def hang() -> None:
        assert len(threads.names) == 1
        pool.give_up(hanging)
        assert len(threads.names) == 2
        threads.run()
        assert done == ["behind it"]

    hanging = pool.submit(hang)
    pool.submit(lambda: done.append("behind it"))
    threads.run()
    assert pool.threads == 0


def test_stuck_thread_is_replaced_for_what_comes_later() -> None:
    """When a job hangs and nothing waits, no thread is started before there is work for it."""
    pool, threads = fake_pool(1)

    def hang() -> None:
        pool.give_up(hanging)
        assert len(threads.names) == 1
        pool.submit(nothing)
        assert len(threads.names) == 2
        assert (pool.threads, pool.stuck) == (2, 1)

    hanging = pool.submit(hang)
    threads.run()
    assert pool.stuck == 0


def test_stuck_thread_is_taken_back() -> None:
    """A stuck thread that comes back goes on with what is queued, where there is room for it."""
    pool, threads = fake_pool(1)
    done: list[str] = []

    def hang() -> None:
        threads.refusing = True
        pool.give_up(hanging)

    hanging = pool.submit(hang)
    pool.submit(lambda: done.append("next"))
    threads.run()
    assert done == ["next"]
    assert (pool.threads, pool.stuck) == (0, 0)


def test_stuck_thread_ends_where_it_was_replaced() -> None:
    """A stuck thread whose place was taken ends when it comes back, so that the limit holds."""
    pool, threads = fake_pool(1)
    done: list[str] = []

    def hang() -> None:
        pool.give_up(hanging)
        pool.submit(lambda: done.append("next"))

    hanging = pool.submit(hang)
    threads.run()
    assert done == []
    assert (pool.threads, pool.stuck) == (1, 0)
    threads.run()
    assert done == ["next"]


def test_no_thread_to_be_had() -> None:
    """When the system gives no thread and there is none, the job is refused, and not done later by surprise."""
    pool, threads = fake_pool(2)
    done: list[str] = []
    threads.refusing = True
    with pytest.raises(RuntimeError, match="can't start"):
        pool.submit(lambda: done.append("refused"))
    assert pool.threads == 0
    threads.refusing = False
    pool.submit(lambda: done.append("accepted"))
    threads.run()
    assert done == ["accepted"]


def test_no_second_thread_to_be_had() -> None:
    """When the system gives no further thread, the job waits for one that there is."""
    pool, threads = fake_pool(2)
    done: list[str] = []
    pool.submit(lambda: done.append("first"))
    threads.refusing = True
    pool.submit(lambda: done.append("second"))
    assert pool.threads == 1
    threads.run()
    assert done == ["first", "second"]


def test_no_thread_to_replace_a_stuck_one() -> None:
    """When the system gives no thread for a stuck one, giving up still works; what is queued waits for the next."""
    pool, threads = fake_pool(1)
    done: list[str] = []

    def hang() -> None:
        threads.refusing = True
        assert not pool.give_up(hanging)
        assert (pool.threads, pool.stuck) == (1, 1)
        threads.refusing = False
        pool.submit(lambda: done.append("later"))
        threads.run()
        assert done == ["queued", "later"]

    hanging = pool.submit(hang)
    pool.submit(lambda: done.append("queued"))
    threads.run()
    assert done == ["queued", "later"]


def test_the_pool_keeps_its_strength() -> None:
    """With real threads: while all of them hang and are given up, others do the work; then the bound holds again."""
    pool = ThreadPool("strong", 2, idle_seconds=0)
    release, begun = threading.Event(), threading.Semaphore(0)
    hung: list[threading.Thread] = []

    def hang() -> None:
        hung.append(threading.current_thread())
        begun.release()
        release.wait(PATIENCE)

    hanging: list[Job] = [pool.submit(hang) for _ in range(2)]
    for _ in hanging:
        assert begun.acquire(timeout=PATIENCE)
    worked: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    pool.submit(lambda: worked.put(threading.current_thread()))
    for job in hanging:
        assert not pool.give_up(job)
    worker = worked.get(timeout=PATIENCE)
    assert worker not in hung
    assert pool.stuck == 2
    release.set()
    # Besides the worker there may be a thread that has come for the same job, and found it taken.
    for thread in threading.enumerate():
        if thread.name == "strong":
            thread.join(PATIENCE)
    assert (pool.threads, pool.stuck) == (0, 0)
