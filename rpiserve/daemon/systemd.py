"""What systemd is told of the daemon: that it is ready, what it is at, that it is alive, that it stops.

This is sd_notify(3) by hand. Without ``NOTIFY_SOCKET`` in the environment nothing is told to anybody.
"""

import os
import socket
from collections.abc import Callable, MutableMapping
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rpiserve.logs.redaction import redact

log = Logger()

STATUS_SECONDS: Final = 3.0
"""How often, at most, a change of the status is told."""

MOST_STATUS: Final = 500

PATIENCE: Final = 1.0
"""Seconds that systemd may take to receive what must not get lost."""


class Notifier:
    """Tells systemd how the daemon is.

    Args:
        environ: the environment. What is meant for this process alone is taken out of it: the processes that an app
            starts are not to speak for us.
        clock: the reactor's clock, in seconds: Linux's CLOCK_MONOTONIC, by which systemd compares times.
        status: returns what the daemon is at, in a few words.
    """

    def __init__(self, environ: MutableMapping[str, str], clock: IReactorTime, status: Callable[[], str]) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        self._watchdog = (environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", ""))
        self._clock = clock
        self._status = status
        self._told = ""
        self._stopping = False
        self._failed = False

    def ready(self) -> None:
        """Tell that it is ready, and from then on that it is alive and what it is at."""
        if not self._address or self._stopping:
            return
        self._told = self._shown_status()
        self._tell(PATIENCE, "READY=1", f"STATUS={self._told}")
        self._clock.callLater(STATUS_SECONDS, self._tell_status)
        interval = self._watchdog_interval()
        if interval is not None:
            self._tell_alive(interval)

    def reloading(self) -> None:
        """Tell that it begins to read files anew."""
        now = int(self._clock.seconds() * 1_000_000)
        self._tell(PATIENCE, "RELOADING=1", f"MONOTONIC_USEC={now}")

    def reloaded(self) -> None:
        """Tell that it has done so."""
        self._tell(PATIENCE, "READY=1")

    def stopping(self, status: str = "stopping") -> None:
        """Tell that the stop has begun."""
        if not self._stopping:
            self._tell(PATIENCE, "STOPPING=1", f"STATUS={_one_line(status)}")
            self._stopping = True

    def _watchdog_interval(self) -> float | None:
        """Return how often systemd wants to hear that we are alive, in seconds: in half the time that it waits."""
        microseconds, pid = self._watchdog
        if pid not in ("", str(os.getpid())) or not microseconds.isdecimal() or int(microseconds) == 0:
            return None
        return int(microseconds) / 2e6

    def _tell_alive(self, interval: float) -> None:
        self._clock.callLater(interval, self._tell_alive, interval)  # even while it stops: it is alive
        self._tell(0, "WATCHDOG=1")

    def _tell_status(self) -> None:
        if self._stopping:
            return
        self._clock.callLater(STATUS_SECONDS, self._tell_status)
        status = self._shown_status()
        if status != self._told and self._tell(0, f"STATUS={status}"):
            self._told = status

    def _shown_status(self) -> str:
        try:
            return _one_line(self._status())
        except Exception:  # noqa: BLE001 - that it cannot be told must neither end the daemon nor leave it unready
            log.failure("the status cannot be told")
            return "running"

    def _tell(self, timeout: float, *lines: str) -> bool:
        """Send ``lines``, and tell whether that went well."""
        if not self._address:
            return False
        # A name that begins with "@" is one in Linux's abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(timeout)
                channel.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not self._failed:  # the first time only: it may go on for years
                log.warn("systemd cannot be told {what}: {error}", what=lines[0], error=error)
            self._failed = True
            return False
        self._failed = False
        return True


def _one_line(text: str) -> str:
    return redact(" ".join(text.split()))[:MOST_STATUS]
