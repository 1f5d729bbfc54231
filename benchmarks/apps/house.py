"""What every app of the benchmarks serves: 50 readings in five rooms, and a doorbell. No framework is in here."""

import time

ROOMS = ("attic", "basement", "garage", "kitchen", "study")
READINGS = (
    "temperature",
    "humidity",
    "pressure",
    "light",
    "noise",
    "co2",
    "voltage",
    "current",
    "power",
    "energy",
)


def read_room(room: str) -> dict[str, float]:
    """Return the readings of a room, which change once a second."""
    second = int(time.time()) % 1000
    return {name: round(20 + len(room) + number + second / 1000, 3) for number, name in enumerate(READINGS)}


def read_house() -> dict[str, dict[str, float]]:
    """Return the readings of all rooms."""
    return {room: read_room(room) for room in ROOMS}


class DoorBell:
    """A doorbell that can be switched off."""

    def __init__(self) -> None:
        self.state = "on"

    # No annotation: raspend cannot list a command that has a type for one.
    def switch(self, onoff):
        """Switch it."""
        self.state = "on" if onoff == "on" else "off"
        return self.state
