"""The two clocks, which travel together: a testing kit hands in fake ones."""

from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime


@attrs.frozen
class Clocks:
    """The clocks of one daemon.

    Attributes:
        reactor: the reactor's clock, in seconds that only grow; it calls later, too.
        wall: returns the time of day, in seconds since the epoch. It may jump.
    """

    reactor: IReactorTime
    wall: Callable[[], float]
