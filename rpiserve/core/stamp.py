"""Files that are replaced while the daemon runs: reading one, and whether it is still the one that was read."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

MOST_BYTES: Final = 1 << 20
"""How large a file may be."""


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
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
