"""How long a call takes, from caller to service and back, over one Redis server on loopback.

    python -m benchmarks.rpc [ROUNDS]

The same echo by rpiserve (an ``async def``, and a ``def`` in a thread), by Daebus 0.0.31 (its own caller), and by
txredisapi alone, which sends bytes there and back and does nothing else. They take turns, round by round, so that what
else the machine does hits all of them. What counts are the ratios.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from shutil import which
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.task import react

from benchmarks.apps import echo_bare
from benchmarks.peers import end_on_sigterm, free_port, peers_python, running, twistd
from rpiserve import BusUnavailable, Caller, NoResponders

DAEBUS = "daebus==0.0.31"

CALLS = 500
"""How many calls a round has, one after the other."""

DAEBUS_CALLS = 50
"""How many it has with Daebus, which is slow."""

WARM_UP = 100
IN_FLIGHT, MANY = 64, 10_000


class Bare:
    """Calls by txredisapi alone."""

    def __init__(self, port: int) -> None:
        self._waiting: dict[bytes, Deferred[None]] = {}
        self._number = 0
        self._publisher = echo_bare.connect(port)
        self._subscribed: Deferred[None] = Deferred()
        caller = self

        class Replies(echo_bare.txredisapi.SubscriberProtocol):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.subscribe([echo_bare.BACK]).addCallback(lambda _: caller._subscribed.callback(None))

            def messageReceived(self, pattern: object, channel: object, message: bytes) -> None:
                caller._waiting.pop(message).callback(None)

        echo_bare.subscribe(Replies, port)

    async def ready(self) -> None:
        """Wait until the service hears."""
        await self._subscribed
        while not await self._publisher.publish(echo_bare.THERE, b"0"):
            self._waiting[b"0"] = Deferred()
            await _pause()
        self._waiting.setdefault(b"0", Deferred())

    def call(self) -> Deferred[None]:
        """Call once."""
        self._number += 1
        message = b"%d" % self._number
        answer = self._waiting[message] = Deferred()
        self._publisher.publish(echo_bare.THERE, message)
        return answer


def _pause() -> Deferred[None]:
    pause: Deferred[None] = Deferred()
    reactor.callLater(0.05, pause.callback, None)
    return pause


async def _measured(call: Callable[[], Awaitable[Any]], count: int) -> list[float]:
    for _ in range(WARM_UP):
        await call()
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - begin)
    return seconds


async def _rate(call: Callable[[], Deferred[Any]]) -> float:
    """Return the calls per second with many in flight."""
    tokens = DeferredSemaphore(IN_FLIGHT)
    begin = time.perf_counter()
    await gatherResults([tokens.run(call) for _ in range(MANY)])
    return MANY / (time.perf_counter() - begin)


async def _compare(port: int, python: str, rounds: int) -> None:
    bare, caller = Bare(port), Caller("rpc-echo", f"redis://127.0.0.1:{port}")
    await bare.ready()
    while True:
        try:
            await caller.send_request("echo", {})
            break
        except (NoResponders, BusUnavailable):
            await _pause()

    def in_reactor() -> Deferred[Any]:
        return caller.send_request("echo", {"number": 1})

    def in_thread() -> Deferred[Any]:
        return caller.send_request("echo_in_thread", {"number": 1})

    def daebus() -> list[float]:
        script = Path(echo_bare.__file__).with_name("echo_daebus.py")
        command = [python, str(script), str(port), str(DAEBUS_CALLS)]
        return list(json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout))

    seconds: dict[str, list[float]] = {"txredisapi": [], "rpiserve async": [], "rpiserve def": [], "Daebus": []}
    for _ in range(rounds):
        seconds["txredisapi"] += await _measured(bare.call, CALLS)
        seconds["rpiserve async"] += await _measured(in_reactor, CALLS)
        seconds["rpiserve def"] += await _measured(in_thread, CALLS)
        seconds["Daebus"] += daebus()
    base = statistics.median(seconds["txredisapi"])
    slow = statistics.median(seconds["Daebus"])
    print(f"{'':16} {'p50 ms':>8} {'p99 ms':>8} {'x txredisapi':>13} {'Daebus is x':>12}")
    for name, each in seconds.items():
        middle, high = statistics.median(each), statistics.quantiles(each, n=100)[98]
        print(f"{name:16} {middle * 1e3:8.3f} {high * 1e3:8.3f} {middle / base:13.2f} {slow / middle:12.1f}")
    print(f"\n{MANY} calls, {IN_FLIGHT} in flight, per second:")
    for name, call in (("txredisapi", bare.call), ("rpiserve async", in_reactor), ("rpiserve def", in_thread)):
        print(f"{name:16} {await _rate(call):8.0f}")
    await caller.close()


async def _main(_: Any, *arguments: str) -> None:
    rounds = int(arguments[0]) if arguments else 5
    python = peers_python(DAEBUS)
    server = which("redis-server", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if server is None:
        raise SystemExit("there is no redis-server; make test brings one")
    port = free_port()
    with ExitStack() as servers:
        servers.enter_context(running([server, "--port", str(port), "--save", "", "--bind", "127.0.0.1"], port))
        ours = [*twistd("echo_rpiserve", free_port()), "--redis", f"redis://127.0.0.1:{port}"]
        servers.enter_context(running(ours, port))
        servers.enter_context(running([sys.executable, "echo_bare.py", str(port)], port))
        servers.enter_context(running([python, "echo_daebus.py", str(port)], port))
        await _compare(port, python, rounds)


if __name__ == "__main__":
    end_on_sigterm()
    react(_main, sys.argv[1:])
