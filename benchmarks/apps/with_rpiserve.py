"""The house with rpiserve: ``twistd -n rpiserve --port PORT --module with_rpiserve``."""

from house import ROOMS, DoorBell, read_room

from rpiserve import App

app = App("house")
theDoorBell = DoorBell()
app.add_command(theDoorBell.switch)

for room in ROOMS:

    @app.sensor(room, every=1)
    def read(room: str = room) -> dict[str, float]:
        return read_room(room)
