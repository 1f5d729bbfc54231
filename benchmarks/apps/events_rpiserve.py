"""Readings that change all the time, with rpiserve: ``twistd -n rpiserve --port PORT --module events_rpiserve``.

The value of each is the time at which it was set, by this machine's monotonic clock: so whoever hears of it knows how
long that took.
"""

import time

from rpiserve import App

LEAVES = 50
PAUSE = 0.01

app = App("clocks")
for number in range(LEAVES):
    app.data.set(f"clock/{number}", 0.0)


@app.command(timeout=600)
def write(seconds: float) -> int:
    """Set one reading after the other for some seconds, and return how often."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        app.data.set(f"clock/{count % LEAVES}", time.monotonic())
        count += 1
        time.sleep(PAUSE)
    return count
