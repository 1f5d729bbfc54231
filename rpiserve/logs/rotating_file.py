"""A file of a log, which does not grow for ever."""

import os
import re
import stat
import threading
from pathlib import Path

from rpiserve.errors import StartError
from rpiserve.logs.outputs import write_all


class RotatingFile:
    """A file that does not grow for ever.

    When it is full, ``FILE`` becomes ``FILE.1``, that ``FILE.2``, and so on; the oldest is deleted. If that cannot be
    done, because the folder is not ours, the file is emptied: a full disk would be worse.

    Args:
        path: the file.
        limit: how large it may grow, in bytes; 0 for no limit, which leaves that to somebody else.
        keep: how many old ones are kept.

    Attributes:
        lost: how many pieces could not be written.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, limit: int, keep: int) -> None:
        self.path = Path(os.path.abspath(path))  # for a daemon changes its directory
        self.lost = 0
        self._limit = limit
        self._keep = keep
        self._lock = threading.RLock()  # see `Stream`
        self._file, self._size = self._open()
        if self._rotates():
            self._delete_surplus()

    def _open(self) -> tuple[int, int]:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return file, os.fstat(file).st_size

    def _rotates(self) -> bool:
        return bool(self._limit) and stat.S_ISREG(os.fstat(self._file).st_mode)

    def write(self, data: bytes) -> None:
        """Write ``data``, which is whole lines. Never raises: what there is no room for is lost."""
        with self._lock:
            try:
                if self._rotates() and self._size and self._size + len(data) > self._limit:
                    self.rotate()
                self._size += len(data)
                write_all(self._file, data)
            except OSError:
                self.lost += 1

    def rotate(self) -> None:
        """Begin a new file, now."""
        with self._lock:
            if not self._is_still_there():
                self.reopen()
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
            self.reopen()

    def reopen(self) -> bool:
        """Open the file anew, for somebody may have moved it away. If that fails, the old one stays in use.

        Returns:
            Whether it went well.
        """
        with self._lock:
            try:
                file, size = self._open()
            except OSError:
                return False
            old, self._file, self._size = self._file, file, size
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
        self._size = 0

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
