"""Small files that are replaced as a whole: reading one, telling whether it has changed, and changing it under a lock.

Root may do that in a folder of somebody less trusted, who can put there what he likes, at any moment, and shall gain
nothing by it. So the way to the file is gone once, folder by folder, and all that follows is done in the folder that
was found, whatever its path may lead to by then; and nothing there is opened that is a link.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 1 << 20
"""How large a file may be."""

MOST_LINKS: Final = 40
"""How many symbolic links there may be on the way, as the kernel has it."""

_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS: Final = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def fingerprint_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what of ``status`` changes whenever a file is written, replaced, or given to others."""
    # With the time of chmod and chown, too: it may be what mends a file that could not be read.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def read_file(file: Path | str, folder: int | None = None) -> tuple[bytes, os.stat_result]:
    """Return what is in ``file``, and the status of the very file that this is in. It never waits for anybody.

    Args:
        file: where it is.
        folder: the descriptor of the folder that ``file`` is a name in. A symbolic link is not followed then.

    Raises:
        OSError: it cannot be read, is none that holds data but a pipe, say, or has more than `MOST_BYTES`.
    """
    more = os.O_NONBLOCK | os.O_NOCTTY | (0 if folder is None else os.O_NOFOLLOW)  # or a pipe would be waited for
    with open(file, "rb", opener=lambda name, flags: os.open(name, flags | more, dir_fd=folder)) as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(file))
        content = opened.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES >> 20} MiB", str(file))
    return content, status


class LockedFile:
    """A file that nobody else changes now.

    Args:
        folder: the descriptor of its folder.
        name: its name there. It need not exist.
    """

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self._name = name
        self._status: os.stat_result | None = None

    def read(self) -> tuple[bytes, os.stat_result] | None:
        """Return what is in it, and its status; None if it does not exist.

        Raises:
            OSError: it cannot be read.
        """
        try:
            content, self._status = read_file(self._name, self._folder)
        except FileNotFoundError:
            return None
        return content, self._status

    def replace(self, content: bytes) -> None:
        """Put a file with ``content`` in its place, for good: after a power cut there is the new one or the old one.

        It belongs to whom the one that was read belonged to, who may do the same with it; one that is new is our own
        alone.

        Raises:
            OSError: it cannot be written. The old one is still there, and nothing else; but for an error of the disk at
                the very end, after which there may be either.
        """
        fresh = f".{self._name}.new"
        with suppress(FileNotFoundError):  # what a power cut has left
            os.unlink(fresh, dir_fd=self._folder)
        descriptor = os.open(fresh, _OURS | os.O_EXCL | os.O_WRONLY, 0o600, dir_fd=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                self._hand_over(descriptor)
                file.flush()
                os.fsync(descriptor)
            os.replace(fresh, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh, dir_fd=self._folder)
            raise
        self._sync_folder()

    def _hand_over(self, descriptor: int) -> None:
        old, new = self._status, os.fstat(descriptor)
        if old is None:
            return
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.fchown(descriptor, old.st_uid, old.st_gid)  # or the daemon could not read it any more
        os.fchmod(descriptor, old.st_mode & 0o770)

    def _sync_folder(self) -> None:
        try:
            folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._folder)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EINVAL):  # we may not read it, or its system knows no such thing
                raise


@contextmanager
def locked(path: Path) -> Iterator[LockedFile]:
    """Keep everybody else who uses this from changing the file ``path``, which need not exist.

    Symbolic links are followed, so that the file is changed and no link replaced; but only links that belong to us or
    to root, and are in a folder that does. To follow any other would be to change a file of somebody else's choice.

    Raises:
        OSError: its folder does not exist, may not be used, or is behind a link that is not followed.
    """
    folder, name = _find(path)
    try:
        lock = _open_lock(f".{name}.lock", folder)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield LockedFile(folder, name)
        finally:
            os.close(lock)
    finally:
        os.close(folder)


def _open_lock(name: str, folder: int) -> int:
    # It is a file of its own, since the other one is replaced.
    try:
        lock = os.open(name, _OURS | os.O_RDWR, 0o600, dir_fd=folder)
    except OSError as error:
        raise OSError(error.errno, f"its lock, {name}: {error.strerror}") from None
    owner = os.fstat(folder)
    if os.geteuid() == 0 != owner.st_uid:  # or he could not change the file himself any more
        os.fchown(lock, owner.st_uid, owner.st_gid)
    return lock


def _find(path: Path) -> tuple[int, str]:
    """Return the descriptor of the folder that the file ``path`` is in, and its name there."""
    names = [*reversed(path.parts)]  # "/" is one of them, and leads to the root from everywhere
    links = 0
    folder = os.open(".", _FOLDER)
    try:
        while names:
            name = names.pop()
            try:
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                if names:
                    raise
                return folder, name
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                if not (_is_trusted(status) and _is_trusted(os.fstat(folder))):
                    text = f"the link {name} on the way to it is somebody else's; name the file that it leads to"
                    raise OSError(errno.EPERM, text)
                names += reversed(Path(os.readlink(name, dir_fd=folder)).parts)
            elif names or stat.S_ISDIR(status.st_mode):
                deeper = os.open(name, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = deeper
            else:
                return folder, name
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    except BaseException:
        os.close(folder)
        raise


def _is_trusted(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())
