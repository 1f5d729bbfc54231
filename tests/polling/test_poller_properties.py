"""A poller against an oracle that knows nothing of Deferreds: whatever runs, fails or hangs, and for however long.

All times are whole seconds, so that both reckon exactly. The oracle goes through time second by second.
"""

from typing import Any

from fake_pool import Bench
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import LogEvent

from rpiserve.core.clocks import Clocks
from rpiserve.core.runner import Resource
from rpiserve.data.tree import DataTree
from rpiserve.declare.handler import UserFunction
from rpiserve.declare.registry import Registry
from rpiserve.errors import SensorError
from rpiserve.polling.poller import Poller
from rpiserve.polling.scheduler import trigger_for


class Oracle:
    """What a poller should have done, by the rules at the head of its module.

    Attributes:
        runs, failures, missed: its counters.
        begun: when the function was called, each time.
        state: ``idle``, ``waiting`` for the bus, ``running`` or ``stuck``.
        bus: ``free``, ``taken`` by another handler, or ``hanging`` with it.
    """

    def __init__(self, interval: int, timeout: int, fixed_delay: bool) -> None:
        self.interval = interval
        self.timeout = timeout
        self.fixed_delay = fixed_delay
        self.now = 0
        self.runs = self.failures = self.missed = 0
        self.begun: list[int] = []
        self.state = "idle"
        self.bus = "free"
        self.stopped = False
        self.in_a_row = 0
        self.last_slot = 0
        self.rest_until: float = 0  # for the fixed rate: no run before this
        self.next = 0  # for the fixed delay

    def start(self) -> None:
        """The first run is at the start."""
        self.run()

    def second(self) -> None:
        """One second passes."""
        self.now += 1
        if self.state == "running" and self.now - self.begun[-1] == self.timeout:
            self.state = "stuck"
            self.fail()
        elif self.state == "idle" and not self.stopped:
            if self.fixed_delay:
                if self.now == self.next:
                    self.run()
            elif self.now % self.interval == 0:
                self.missed += (self.now - self.last_slot) // self.interval - 1
                self.last_slot = self.now
                if self.now >= self.rest_until:
                    self.run()

    def run(self) -> None:
        """A run is due."""
        self.runs += 1
        if self.bus == "free":
            self.begin()
        elif self.bus == "taken":
            self.state = "waiting"
        else:
            self.fail()
            self.rest()

    def begin(self) -> None:
        """The function is called."""
        self.state = "running"
        self.begun.append(self.now)

    def fail(self) -> None:
        """A run has failed."""
        self.failures += 1
        self.in_a_row += 1

    def end(self, good: bool) -> None:
        """The function returns, or raises."""
        if self.state == "running":
            if good:
                self.in_a_row = 0
            else:
                self.fail()
        self.state = "idle"
        self.rest()

    def rest(self) -> None:
        """A run has ended: decide when the next may be."""
        pause = self.interval
        for _ in range(self.in_a_row - 1):
            pause = min(2 * pause, max(self.interval, 60))
        self.next = self.now + pause
        self.rest_until = self.now + pause - self.interval / 2 if self.in_a_row else 0

    def take_bus(self) -> None:
        """Another handler takes the bus."""
        self.bus = "taken"

    def hang_on_bus(self) -> None:
        """It hangs."""
        self.bus = "hanging"
        if self.state == "waiting":
            self.state = "idle"
            self.fail()
            self.rest()

    def free_bus(self) -> None:
        """It ends."""
        self.bus = "free"
        if self.state == "waiting":
            self.begin()

    def stop(self) -> None:
        """Nothing more begins."""
        self.stopped = True
        if self.state == "waiting":
            self.state = "idle"


class PollerMachine(RuleBasedStateMachine):
    """Does the same to a poller and to the oracle, and compares them after each step."""

    @initialize(interval=st.integers(1, 40), timeout=st.integers(1, 50), fixed_delay=st.booleans(), taken=st.booleans())
    def begin(self, interval: int, timeout: int, fixed_delay: bool, taken: bool) -> None:
        """Start a poller, perhaps on a bus that is taken already."""
        self.bench = Bench()
        self.oracle = Oracle(interval, timeout, fixed_delay)
        self.begun: list[int] = []
        self.good: list[bool] = []
        self.resource = Resource("the bus")
        self.ends: tuple[Deferred[None], Deferred[None]]
        self.bench.pool.begun = lambda: self.begun.append(int(self.bench.clock.seconds()))
        registry = Registry()
        registry.sensor("a", every=interval, timeout=timeout, fixed_delay=fixed_delay, bus="bus")(self.function)
        clock = self.bench.clock
        self.tree = DataTree("boot", clock.seconds, clock.seconds)
        [polled] = registry.polled
        trigger = trigger_for(polled, clock, clock.seconds)
        self.poller = Poller(polled, trigger, self.bench.runner, self.tree, Clocks(clock, clock.seconds), self.resource)
        if taken:
            self.take_bus()
        self.oracle.start()
        self.poller.start()

    def function(self) -> int:
        """Be the sensor: its reading is the time at which it ends."""
        if self.good.pop():
            return int(self.bench.clock.seconds())
        raise SensorError("the wire is cut")

    @rule(seconds=st.one_of(st.integers(1, 10), st.integers(1, 150)))
    def let_time_pass(self, seconds: int) -> None:
        """Some seconds pass."""
        for _ in range(seconds):
            self.bench.clock.advance(1)
            self.oracle.second()

    @precondition(lambda self: self.oracle.state in ("running", "stuck"))
    @rule(good=st.booleans())
    def end(self, good: bool) -> None:
        """The function returns, in time or late."""
        in_time = self.oracle.state == "running"
        self.good.append(good)
        self.bench.pool.end()
        self.oracle.end(good)
        if good and in_time:
            assert self.reading().value == self.oracle.now
            assert self.reading().state == "ok"

    @precondition(lambda self: self.oracle.state in ("running", "stuck"))
    @rule()
    def fail(self) -> None:
        """The function raises: failures in a row shall be frequent."""
        self.end(False)

    @precondition(lambda self: self.oracle.bus == "free" and self.oracle.state == "idle")
    @rule()
    def take_bus(self) -> None:
        """Another handler takes the bus."""
        ends = self.ends = (Deferred(), Deferred())  # in time, and after it hung

        async def hold() -> None:
            try:
                await ends[0]
            except CancelledError:
                await ends[1]

        run = self.bench.runner.start(UserFunction.declare("other", hold), resource=self.resource)
        run.result.addErrback(lambda _: None)
        self.other = run
        self.oracle.take_bus()

    @precondition(lambda self: self.oracle.bus == "taken")
    @rule()
    def hang_on_bus(self) -> None:
        """The other handler hangs."""
        self.other.cancel()
        self.oracle.hang_on_bus()

    @precondition(lambda self: self.oracle.bus != "free")
    @rule()
    def free_bus(self) -> None:
        """The other handler ends, in time or after all."""
        self.ends[self.oracle.bus == "hanging"].callback(None)
        self.oracle.free_bus()

    @precondition(lambda self: not self.oracle.stopped)
    @rule(sure=st.integers(0, 4))
    def stop(self, sure: int) -> None:
        """Now and then the poller is stopped: what runs is waited for, what is stuck is not."""
        if sure:
            return
        done = self.poller.stop()
        assert done.called is (self.oracle.state != "running")
        self.oracle.stop()

    @invariant()
    def agree(self) -> None:
        """The poller has done what the oracle says."""
        status, oracle = self.poller.status(), self.oracle
        assert (status.runs, status.failures, status.missed) == (oracle.runs, oracle.failures, oracle.missed)
        assert status.stuck is (oracle.state == "stuck")
        assert self.begun == oracle.begun
        assert len(self.bench.pool.jobs) == (oracle.state in ("running", "stuck"))

    def reading(self) -> Any:
        """Return the leaf of the sensor."""
        return self.tree.find(("a",))

    def teardown(self) -> None:
        """Stop, and see that nothing is left."""
        if not hasattr(self, "poller"):
            return
        self.poller.stop()
        if self.oracle.bus != "free":
            self.free_bus()
        while self.bench.pool.jobs:
            self.good.append(True)
            self.bench.pool.end()
        assert self.bench.idle


def test_poller_and_oracle(logged_failures: list[LogEvent]) -> None:
    """Start times, runs, failures, missed slots and stuck threads are what the oracle says; no run overlaps another."""
    run_state_machine_as_test(PollerMachine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None))
    logged_failures.clear()
