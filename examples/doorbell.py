"""A doorbell that can be switched off for the night, through a relay on a GPIO pin.

    twistd -n rpiserve --port 8080 --module doorbell --www www

Then open http://localhost:8080/www/, or use curl:

    curl -s localhost:8080/cmds
    curl -s 'localhost:8080/cmd?name=theDoorBell.switchDoorBell&onoff=off'

On a Raspberry Pi with gpiozero it switches the pin. Elsewhere gpiozero's own mock pins stand in for it; without
gpiozero (``pip install gpiozero``) the state is kept, and nothing is switched. ``/data/doorbell/pins`` says which.
"""

from typing import Literal, Protocol

from rpiserve import App

PIN = 17

app = App("doorbell")


class Relay(Protocol):
    """What the doorbell needs of a pin; gpiozero's ``OutputDevice`` has it."""

    value: float

    def on(self) -> None: ...

    def off(self) -> None: ...


class NoRelay:
    """Keeps the state, where there is no gpiozero."""

    value = 0.0

    def on(self) -> None:
        self.value = 1.0

    def off(self) -> None:
        self.value = 0.0


def find_relay() -> tuple[Relay, str]:
    """Return the relay, and what it is."""
    try:
        from gpiozero import BadPinFactory, Device, OutputDevice
        from gpiozero.pins.mock import MockFactory
    except ImportError:
        return NoRelay(), "none: gpiozero is not installed"
    try:
        relay = OutputDevice(PIN)
    except BadPinFactory:
        Device.pin_factory = MockFactory()
        relay = OutputDevice(PIN)
    return relay, "gpiozero's mock pins" if isinstance(Device.pin_factory, MockFactory) else "GPIO"


class DoorBell:
    """A doorbell behind a relay."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._relay.on()

    def switchDoorBell(self, onoff: Literal["on", "off"]) -> str:
        """Switch the doorbell on or off, and return its state."""
        if onoff == "on":
            self._relay.on()
        else:
            self._relay.off()
        return self.getCurrentState()

    def getCurrentState(self) -> str:
        """Return whether the doorbell is on or off."""
        return "on" if self._relay.value else "off"


relay, pins = find_relay()
theDoorBell = DoorBell(relay)

app.add_command(theDoorBell.switchDoorBell)
app.add_command(theDoorBell.getCurrentState)

app.data["doorbell"] = {"pins": pins}


@app.sensor("doorbell/state", every=1)
def state() -> str:
    return theDoorBell.getCurrentState()


if __name__ == "__main__":
    app.run(port=8080)
