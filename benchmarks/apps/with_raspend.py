"""The house with raspend: ``python with_raspend.py PORT``."""

import sys

from house import ROOMS, DoorBell, read_room
from raspend import RaspendApplication, ThreadHandlerBase


class Room(ThreadHandlerBase):
    """Reads one room."""

    def __init__(self, room):
        self.room = room

    def prepare(self):
        self.sharedDict[self.room] = {}

    def invoke(self):
        self.sharedDict[self.room].update(read_room(self.room))


app = RaspendApplication(int(sys.argv[1]))
theDoorBell = DoorBell()
app.addCommand(theDoorBell.switch)
for room in ROOMS:
    app.createWorkerThread(Room(room), 1)
app.run()
