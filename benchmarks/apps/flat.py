"""The flat that both apps of the comparison serve: a tree, and the commands of one object. No framework is in here."""

import time

TREE = {
    "basement": {"party_room": 17.8, "heating_room": 18},
    "kitchen": 23.5,
    "light": False,
    "note": "naïve",
    "windows": ["north", "south"],
    "wine cellar": {"red": 12.5},
}


class Lamp:
    """A lamp. The annotations are descriptions, as raspend can list them; ``float`` is one that rpiserve takes."""

    def __init__(self):
        self.level = 1.0

    def switch(self, onoff: "on or off"):  # noqa: F821 - a description
        """Switch it."""
        self.level = 1.0 if onoff == "on" else 0.0
        return onoff

    def dim(self, level: "float"):
        """Set how bright it is, and return that."""
        return level

    def state(self):
        """Return how bright it is."""
        return self.level

    def fuse(self):
        """Raise an exception, the text of which is nobody's business."""
        raise OSError("cannot open secret.key")

    def broken(self):
        """Return what JSON has no form for."""
        return object()

    def name_of(self, rooms="none"):
        """Return what it was given."""
        return rooms

    def slowly(self):
        """Take a while."""
        time.sleep(2)
        return "done"


class Typed:
    """An object with a command whose annotation is a type."""

    def dim(self, level: float):
        """Set how bright it is, and return that."""
        return level
