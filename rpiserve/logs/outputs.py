"""Where the lines go: standard output or standard error, perhaps to journald, or syslog. See `RotatingFile`, too."""

import io
import os
import syslog
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol

from rpiserve.core.metrics import Metric

LOST: Final = Metric("rpiserve_log_lost_total", "Lines that could not be written.", "counter", ("log",))


class Output(Protocol):
    """Where lines go.

    Attributes:
        lost: how many lines could not be written.
    """

    lost: int

    def write(self, data: bytes) -> None:
        """Write one or more whole lines, from any thread. Never raises."""
        ...


class Stream:
    """Standard output or standard error.

    Args:
        stream: one of them.

    Attributes:
        lost: how many lines nobody could read any more.
    """

    def __init__(self, stream: Any) -> None:
        self.lost = 0
        self._torn = False
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
                    done = write_lines(file, data, self._torn)
                    self._torn = done.torn
                    self.lost += done.lost
            except (OSError, ValueError):  # a terminal that is gone, a file that is closed
                self.lost += data.count(b"\n")


class Written(NamedTuple):
    """What has become of lines.

    Attributes:
        size: how many bytes were written.
        part: how many of them are of a line that is not whole.
        torn: whether the last line in the file is not whole.
        lost: how many lines are not in the file.
    """

    size: int
    part: int
    torn: bool
    lost: int


def write_lines(file: int, data: bytes, torn: bool) -> Written:
    """Write lines, however many calls of the system it takes, unless the disk is full or there is nobody to read them.

    Args:
        file: a file descriptor.
        data: the lines.
        torn: whether the line before them is not whole, so that they have to begin on a new one.
    """
    if torn:
        data = b"\n" + data
    rest = memoryview(data)
    with suppress(OSError):
        while rest:
            rest = rest[os.write(file, rest) :]
    size = len(data) - len(rest)
    whole = data.rfind(b"\n", 0, size) + 1
    return Written(size, size - whole, size > whole if size else torn, data.count(b"\n", max(whole, torn)))


class Syslog:
    """The system's own log, which needs lines as journald has them.

    Args:
        name: what we are called there.

    Attributes:
        lost: 0, for it does not tell.
    """

    def __init__(self, name: str) -> None:
        self.lost = 0
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
