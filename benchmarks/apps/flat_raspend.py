"""The flat with raspend: ``SCENE=… python flat_raspend.py PORT``."""

import os
import sys
import time

from flat import TREE, Lamp, Typed
from raspend import RaspendApplication, ThreadHandlerBase

scene = os.environ["SCENE"]
app = RaspendApplication(int(sys.argv[1]))
app.updateSharedDict(TREE)
lamp, typed = Lamp(), Typed()
for method in (lamp.switch, lamp.dim, lamp.state, lamp.fuse, lamp.broken, lamp.name_of, lamp.slowly):
    if scene != "no commands":
        app.addCommand(method)


class Ready(ThreadHandlerBase):
    """Has nothing to prepare."""

    def prepare(self):
        pass


class Hanging(Ready):
    """A sensor that does not come back."""

    def invoke(self):
        while not self.aborted():
            time.sleep(0.1)


class Unplugged(Ready):
    """A sensor that raises."""

    def invoke(self):
        raise OSError("unplugged")


class Odd(Ready):
    """Writes what JSON has no form for."""

    def invoke(self):
        self.sharedDict["odd"] = object()


class NotANumber(Ready):
    """Writes what JSON has no number for."""

    def invoke(self):
        self.sharedDict["odd"] = float("nan")


handlers = {"hanging": Hanging, "unplugged": Unplugged, "odd": Odd, "not a number": NotANumber}
if scene in handlers:
    app.createWorkerThread(handlers[scene](), 1)
if scene == "typed":
    app.addCommand(typed.dim)
app.run()
