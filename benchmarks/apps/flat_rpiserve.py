"""The flat with rpiserve: ``SCENE=… twistd -n rpiserve --port PORT --module flat_rpiserve``."""

import os
import time

from flat import TREE, Lamp, Typed

from rpiserve import App, Handler

scene = os.environ["SCENE"]
app = App("flat")
app.data.update(TREE)
lamp, typed = Lamp(), Typed()
for method in (lamp.switch, lamp.dim, lamp.state, lamp.fuse, lamp.broken, lamp.name_of, lamp.slowly):
    if scene != "no commands":
        app.add_command(method)


class Hanging(Handler):
    """A sensor that does not come back."""

    def invoke(self):
        while not self.stopping:
            time.sleep(0.1)


class Unplugged(Handler):
    """A sensor that raises."""

    def invoke(self):
        raise OSError("unplugged")


class Odd(Handler):
    """Writes what JSON has no form for."""

    def invoke(self):
        self.data["odd"] = object()


class NotANumber(Handler):
    """Writes what JSON has no number for."""

    def invoke(self):
        self.data["odd"] = float("nan")


handlers = {"hanging": Hanging, "unplugged": Unplugged, "odd": Odd, "not a number": NotANumber}
if scene in handlers:
    app.every(1, handlers[scene]())
if scene == "typed":
    app.add_command(typed.dim)
