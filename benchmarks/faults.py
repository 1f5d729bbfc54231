"""How soon all is heard again after a fault of the Redis server: random ones, on a bus with many channels.

    python -m benchmarks.faults [--seconds 180] [--faults 50] [--channels 1000]

A fault is one of: kill -9 and a new start, SIGTERM and a new start, SIGSTOP for long enough to be noticed, SIGSTOP for
a moment, and CLIENT KILL of either of our connections. A server that goes stays away for up to two seconds. The time of
recovery is counted from when the server can be reached again, or from CLIENT KILL, until a message on each channel has
arrived, and one more by a pattern for each of them. Exits with 1 if the worst one misses its target.
"""

import argparse
import gc
import os
import random
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from twisted.internet import reactor
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.task import deferLater, react

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "integration"))

from redis_server import RedisServer

from rpiserve.errors import BusUnavailable
from rpiserve.messaging.address import RedisAddress
from rpiserve.messaging.redis_bus import RedisBus

TARGET = 3.0
LOOK_AGAIN = 0.01
NOTICED = 6.0
"""Seconds within which a frozen server is noticed."""

GIVE_UP = 30.0
KINDS = ["kill -9", "SIGTERM", "SIGSTOP, long", "SIGSTOP, short", "CLIENT KILL normal", "CLIENT KILL pubsub"]


class Ears:
    """Counts what arrives of one round."""

    def __init__(self) -> None:
        self.round = b""
        self.heard: set[str] = set()
        self.twice = 0

    def __call__(self, channel: str, message: bytes) -> None:
        if message == self.round:
            self.twice += channel in self.heard
            self.heard.add(channel)


def pause(seconds: float) -> Deferred[None]:
    """Fire after so many ``seconds``."""
    return deferLater(reactor, seconds)


async def make_fault(kind: str, server: RedisServer, bus: RedisBus) -> float:
    """Let something happen, and return when the server could be reached again."""
    away = random.uniform(0.0, 2.0)
    if kind in ("kill -9", "SIGTERM"):
        server.kill() if kind == "kill -9" else server.stop()
        await pause(away)
        server.start()
    elif kind.startswith("SIGSTOP"):
        server.freeze()
        if kind == "SIGSTOP, long":
            end = time.monotonic() + NOTICED
            while bus.state.connected and time.monotonic() < end:
                await pause(LOOK_AGAIN)
        await pause(away)
        server.thaw()
    else:
        server.command("CLIENT", "KILL", "TYPE", kind.rpartition(" ")[2])
    return time.monotonic()


async def recovered(bus: RedisBus, channels: Sequence[str], each: Ears, all_: Ears, name: bytes) -> bool:
    """Publish to all channels until a round of that has arrived on each, and return whether it has."""
    end = time.monotonic() + GIVE_UP
    attempt = 0
    while time.monotonic() < end:
        attempt += 1
        for ears in (each, all_):
            ears.round, ears.heard = b"%b.%d" % (name, attempt), set()
        try:
            counts = await gatherResults([bus.publish(channel, each.round) for channel in channels], consumeErrors=True)
        except FirstError as error:
            error.subFailure.trap(BusUnavailable)
            await pause(LOOK_AGAIN)
            continue
        if sum(counts) < 2 * len(channels):
            await pause(LOOK_AGAIN)
            continue
        arrived = time.monotonic() + 1.0
        while time.monotonic() < arrived:
            if len(each.heard) == len(all_.heard) == len(channels):
                return True
            await pause(LOOK_AGAIN / 10)
    return False


def figures() -> str:
    """Return how much this process has of what it may leak."""
    gc.collect()
    memory = psutil.Process().memory_info().rss / 2**20
    return f"{threading.active_count()} threads, {len(os.listdir('/proc/self/fd'))} descriptors, {memory:.1f} MiB"


async def measure(server: RedisServer, options: argparse.Namespace) -> int:
    """Make the faults, print the figures, and return the exit code."""
    bus = RedisBus(RedisAddress.parse(server.url), reactor, time.time)
    each, all_ = Ears(), Ears()
    channels = [f"house.{number}" for number in range(options.channels)]
    await gatherResults([bus.subscribe(channel, each) for channel in channels])
    await bus.subscribe("house.*", all_)
    await bus.start()
    await recovered(bus, channels, each, all_, b"first")
    print(f"before: {figures()}", flush=True)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    lost = 0
    begun = time.monotonic()
    for number in range(options.faults):
        # Spread over the time there is; what a fault takes longer than its share, those after it have less to wait.
        await pause(max(random.uniform(0.0, 0.1), begun + options.seconds * number / options.faults - time.monotonic()))
        kind = KINDS[number] if number < len(KINDS) else random.choice(KINDS)
        back = await make_fault(kind, server, bus)
        if await recovered(bus, channels, each, all_, b"%d" % number):
            times[kind].append(time.monotonic() - back)
        else:
            lost += 1
    took = time.monotonic() - begun
    print(f"after:  {figures()}")
    await bus.close()
    print(f"closed: {figures()}\n")
    print(f"{options.faults} faults in {took:.0f} s on {options.channels} channels; recovery in seconds:")
    for kind, found in times.items():
        if found:
            print(f"  {kind:20} {len(found):3} times   median {median(found):5.2f}   worst {max(found):5.2f}")
    worst = max((value for found in times.values() for value in found), default=GIVE_UP)
    print(
        f"  worst of all {worst:.2f} (target {TARGET:.0f}); never recovered: {lost}; twice: {each.twice + all_.twice}"
    )
    return int(worst > TARGET or lost > 0 or each.twice + all_.twice > 0)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--channels", type=int, default=1000)
    options = parser.parse_args()

    async def run(_: Any) -> None:
        with RedisServer() as server:
            code = await measure(server, options)
        if code:
            raise SystemExit(code)

    react(lambda r: Deferred.fromCoroutine(run(r)), [])


if __name__ == "__main__":
    main()
