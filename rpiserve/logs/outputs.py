"""Where the lines go: standard output or standard error, perhaps to journald, or syslog. See `RotatingFile`, too."""

import io
import os
import syslog
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol


class Output(Protocol):
    """Where lines go."""

    def write(self, data: bytes) -> None:
        """Write one or more whole lines, from any thread. Never raises."""
        ...


class Stream:
    """Standard output or standard error.

    Args:
        stream: one of them.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        # A signal is logged, too, and it may come while this very thread writes a line. For the same reason no buffer
        # of Python's is written to: those refuse that.
        self._lock = threading.RLock()

    def write(self, data: bytes) -> None:
        """Write ``data``; if nobody can read it any more it is lost."""
        with self._lock:
            try:
                with suppress(RuntimeError):
                    self._stream.flush()  # or what others have written would come behind it
                try:
                    file = self._stream.fileno()
                except io.UnsupportedOperation:  # it stands in for the real one
                    self._stream.write(data.decode())
                else:
                    write_all(file, data)
            except (OSError, ValueError):  # a terminal that is gone, a pipe without a reader, a file that is closed
                pass


def write_all(file: int, data: bytes) -> None:
    """Write ``data``, however many calls of the system it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


class Syslog:
    """The system's own log, which needs lines as journald has them.

    Args:
        name: what we are called there.
    """

    def __init__(self, name: str) -> None:
        syslog.openlog(name, syslog.LOG_PID, syslog.LOG_DAEMON)

    def write(self, data: bytes) -> None:
        """Hand over ``data``, each line with the priority that stands before it."""
        for line in data.decode().splitlines():
            syslog.syslog(int(line[1]), line[3:])


def is_journal(environ: Mapping[str, str], descriptor: int) -> bool:
    """Tell whether a file descriptor is connected to journald, as ``JOURNAL_STREAM`` says (see systemd.exec(5))."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
