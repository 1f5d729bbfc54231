"""What listens to messages in the tests of the clients."""


class Ears:
    """Hears messages, and what is told meanwhile.

    Attributes:
        heard: the messages.
        told: the lines.
        enough: after how many it is enough.
    """

    def __init__(self, enough: int = 1000) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.told: list[str] = []
        self.enough = enough

    def hear(self, channel: str, message: bytes) -> bool:
        """Keep a message."""
        self.heard.append((channel, message))
        return len(self.heard) == self.enough
