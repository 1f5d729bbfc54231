"""The app of the soak: a bit of everything, with what fails, hangs and is slow on purpose, until it is told to settle.

The variable ``SOAK_SEED`` has the seed of its randomness. All that it raises itself is `OnPurpose`.
"""

import gc
import os
import random
import sys
import time

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rpiserve import (
    App,
    BusUnavailable,
    CallTimeout,
    NoResponders,
    Stopped,
    broadcast,
    cache,
    response,
)

app = App("soak", max_workers=6)
chance = random.Random(os.environ.get("SOAK_SEED"))
settled = False
readings = 0


class OnPurpose(Exception):
    """What fails here shall fail."""


def strikes(share: float) -> bool:
    """Tell whether it happens now what happens so often, of all times."""
    return not settled and chance.random() < share


# --- sensors ---------------------------------------------------------------------------------------------------------


@app.sensor("fast", every=0.2, unit="1")
def fast() -> int:
    global readings
    readings += 1
    return readings


@app.sensor("slow", every=2)
def slow() -> float:
    time.sleep(0.8)
    return time.monotonic()


@app.sensor("flaky", every=0.5)
def flaky() -> float:
    if strikes(0.2):
        raise OnPurpose("this sensor fails now and then")
    return time.monotonic()


@app.sensor("hanging", every=1, timeout=1)
def hanging() -> float:
    if strikes(0.1):
        time.sleep(3)
    return time.monotonic()


@app.sensor("wire/one", every=1, timeout=2, bus="wire")
def first_on_the_wire() -> float:
    time.sleep(0.1)
    return time.monotonic()


@app.sensor("wire/two", every=1, timeout=2, bus="wire")
def second_on_the_wire() -> float:
    if strikes(0.05):
        time.sleep(4)
    return time.monotonic()


@app.sensor("blob", every=0.2)
async def blob() -> dict[str, str]:
    return {f"part{number}": f"{time.monotonic()} " + "x" * 2000 for number in range(12)}


@app.sensor("awaited", every=1, timeout=2)
async def awaited() -> float:
    if strikes(0.1):
        await Deferred()  # which nobody fires: it is cancelled at its time limit
    await deferLater(reactor, 0.05)
    return time.monotonic()


# --- commands --------------------------------------------------------------------------------------------------------


@app.command
def double(number: int) -> int:
    return 2 * number


@app.command
def fail() -> None:
    raise OnPurpose("this command fails")


@app.command(timeout=5)
def doze(seconds: float = 0.3) -> float:
    time.sleep(seconds)
    return seconds


@app.command(timeout=0.5)
def oversleep() -> None:
    time.sleep(1.5)


@app.command
def settle(on: bool) -> bool:
    """Let nothing fail or hang any more, or do so again."""
    global settled
    settled = on
    return settled


@app.command
def blocks() -> int:
    """Count the blocks of memory that are in use by objects, without those that are garbage."""
    gc.collect()
    return sys.getallocatedblocks()


# --- messages --------------------------------------------------------------------------------------------------------


@app.action("ask")
def ask(request) -> dict[str, object]:
    return {"asked": request.payload}


@app.action("count")
def count() -> None:
    for number in range(5):
        response.progress({"number": number}, percentage=20 * number)
        time.sleep(0.02)


@app.action("break")
def break_down() -> None:
    raise OnPurpose("this action fails")


@app.listen("soak.*")
def heard(message) -> None:
    app.data.set("heard", message)


caller = app.caller("soak")


@app.background("talk", 0.5)
def talk() -> None:
    try:
        caller.send_request("ask", {"time": time.monotonic()}, timeout=2)
        broadcast.send("soak.talk", {"number": cache.incr("talks")})
    except (BusUnavailable, CallTimeout, NoResponders, Stopped):
        pass  # the server is gone just now: who it concerns is told by /ready


# --- routes ----------------------------------------------------------------------------------------------------------


@app.route("/page/<int:number>")
def page(request, number: int) -> dict[str, int]:
    return {"number": number}


@app.route("/large")
def large(request):
    return response.send(b"x" * 300_000, content_type="application/octet-stream")


@app.route("/late")
def late(request) -> str:
    time.sleep(0.4)
    return "late"


@app.route("/broken")
def broken(request) -> None:
    raise OnPurpose("this route fails")
