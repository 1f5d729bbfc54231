"""The app that `stall.py` measures, and what keeps it from ending, named by the variable ``OBSTACLE``."""

import os
import sys
import threading

from stall_sensors import INTERVAL, SENSORS, write_starts

from rpiserve import App

app = App("stall")
obstacle = os.environ.get("OBSTACLE")

if obstacle is None:
    for name, function in SENSORS.items():
        app.sensor(name, every=INTERVAL)(function)
    app.on_stop()(write_starts)
elif obstacle == "thread":
    threading.Thread(target=threading.Event().wait, name="never-ending").start()
elif obstacle == "reactor":

    @app.sensor("blocking", every=INTERVAL)
    async def block() -> None:
        while True:
            pass


if __name__ == "__main__":
    app.run(argv=sys.argv[1:])
