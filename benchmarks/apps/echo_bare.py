"""An echo with txredisapi and nothing else: bytes to one channel, the same bytes back on another.

``python echo_bare.py PORT`` is the service.
"""

import sys

import txredisapi
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint

THERE, BACK = b"bare", b"bare.back"


class Echo(txredisapi.SubscriberProtocol):
    """Sends back what comes."""

    def connectionMade(self):
        """Subscribe."""
        super().connectionMade()
        self.subscribe([THERE])

    def messageReceived(self, pattern, channel, message):
        """Send it back."""
        publisher.publish(BACK, message)


def subscribe(protocol, port):
    """Connect a subscriber."""
    factory = txredisapi.SubscriberFactory()
    factory.protocol, factory.charset, factory.convertNumbers = protocol, None, False
    factory.startConnecting(TCP4ClientEndpoint(reactor, "127.0.0.1", port))


def connect(port):
    """Return a connection for commands."""
    return txredisapi.lazyConnection("127.0.0.1", port, charset=None, convertNumbers=False)


if __name__ == "__main__":
    publisher = connect(int(sys.argv[1]))
    subscribe(Echo, int(sys.argv[1]))
    reactor.run()
