"""A file of a log, which does not grow for ever."""

import errno
import os
import re
import stat
import threading
from pathlib import Path

from rpiserve.errors import StartError
from rpiserve.logs.outputs import write_lines


class RotatingFile:
    """A file that does not grow for ever.

    When it is full, ``FILE`` becomes ``FILE.1``, that ``FILE.2``, and so on; the oldest is deleted. If that cannot be
    done, because the folder is not ours, the file is emptied: a full disk would be worse.

    A line of which the disk has taken a part only is cut off again; where that cannot be done, the next one begins on a
    line of its own.

    Args:
        path: the file, or a link to it, which stays in its place. A device will do, or a FIFO that has a reader. A FIFO
            that is full, because nobody reads, is not waited for: what does not fit in is lost.
        limit: how large it may grow, in bytes; 0 for no limit, which leaves that to somebody else.
        keep: how many old ones are kept.

    Attributes:
        path: where the file is.
        lost: how many lines could not be written.

    Raises:
        OSError: it cannot be opened, or is nothing that lines can be written to.
    """

    def __init__(self, path: Path, limit: int, keep: int) -> None:
        self._named = self.path = Path(os.path.abspath(path))  # for a daemon changes its directory
        self.lost = 0
        self._limit = limit
        self._keep = keep
        self._lock = threading.RLock()  # see `Stream`
        self._torn = False  # whether the last line has no end
        self._file = self._open(self._named)
        self._follow()
        if self._limit and self._is_regular():
            self._delete_surplus()

    def _follow(self) -> None:
        """Find where the file is: a link to one is not put aside in its place, above all not /dev/stdout."""
        target = Path(os.path.realpath(self._named))
        self.path = target if self._named.is_symlink() and target.exists() else self._named

    def _open(self, path: Path) -> int:
        # Without O_NONBLOCK it would wait for the reader of a FIFO.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            file = os.open(path, flags, 0o640)
        except OSError as error:
            if error.errno == errno.ENXIO and path.is_fifo():
                raise OSError(error.errno, "it is a FIFO, and nobody reads from it") from error
            raise
        mode = os.fstat(file).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):
            os.close(file)
            raise OSError(errno.EINVAL, "it is neither a file nor a FIFO, nor something like a terminal")
        os.set_blocking(file, not stat.S_ISFIFO(mode))
        return file

    def _is_regular(self) -> bool:
        return stat.S_ISREG(os.fstat(self._file).st_mode)

    def write(self, data: bytes) -> None:
        """Write ``data``, which is whole lines. Never raises: what there is no room for is lost."""
        with self._lock:
            try:
                size = self._size()
                if self._limit and size and size + len(data) > self._limit:
                    self.rotate()
                    size = self._size()
            except OSError:  # it is closed, or could not be put aside
                size = 0
            done = write_lines(self._file, data, self._torn)
            self.lost += done.lost
            self._torn = done.torn and not self._cut_off(size + done.size, done.part)

    def _size(self) -> int:
        """Return its size; 0 if it is no regular file."""
        status = os.fstat(self._file)
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    def _cut_off(self, end: int, part: int) -> bool:
        """Cut off the last ``part`` bytes before ``end``, unless somebody else has written behind them.

        Returns:
            Whether it could be done.
        """
        try:
            if not part or self._size() != end:
                return False
            os.ftruncate(self._file, end - part)
        except OSError:
            return False
        return True

    def rotate(self) -> None:
        """Begin a new file, now. What is no regular file stays where it is."""
        with self._lock:
            if not self._is_regular():
                return
            if not self._is_still_there():
                self.reopen()
                return
            if self.path.is_symlink():  # as /proc has for a file that is deleted
                self._empty()
                return
            try:
                for number in range(self._keep, 0, -1):
                    if (older := self._old(number - 1)).exists():
                        older.rename(self._old(number))
                if not self._keep:
                    self._empty()
                self._delete_surplus()
            except OSError:
                self._empty()
            self._replace(self.path)

    def reopen(self) -> bool:
        """Open the file anew, for somebody may have moved it away. If that fails, the old one stays in use.

        Returns:
            Whether it went well.
        """
        with self._lock:
            if not self._replace(self._named):
                return False
            self._follow()
            return True

    def _replace(self, path: Path) -> bool:
        try:
            file = self._open(path)
        except OSError:
            return False
        old, self._file = self._file, file
        self._torn = self._torn and os.path.samestat(os.fstat(old), os.fstat(file))
        os.close(old)
        return True

    def close(self) -> None:
        """Close it, for good."""
        with self._lock:
            os.close(self._file)

    def _is_still_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self.path))
        except OSError:
            return False

    def _empty(self) -> None:
        os.ftruncate(self._file, 0)
        self._torn = False

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path

    def _delete_surplus(self) -> None:
        try:
            names = os.listdir(self.path.parent)
        except OSError:
            return
        for name in names:
            number = name.removeprefix(f"{self.path.name}.")
            if number != name and re.fullmatch("[1-9][0-9]{0,5}", number) and int(number) > self._keep:
                self.path.with_name(name).unlink(missing_ok=True)


def open_log(option: str, path: Path, limit: int, keep: int) -> RotatingFile:
    """Return a file for a log.

    Args:
        option: the option that names it, for the error.
        path: where it is.
        limit: how large it may grow, in bytes; 0 for no limit.
        keep: how many old ones are kept.

    Raises:
        StartError: it cannot be opened.
    """
    try:
        return RotatingFile(path, limit, keep)
    except OSError as error:
        raise StartError(f"{option}: cannot write to {path}: {error.strerror}") from error
