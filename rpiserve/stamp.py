"""Whether a file is still the one that was read."""

import os
from pathlib import Path


def stamp_of(file: Path) -> tuple[int, ...]:
    """Return what changes whenever ``file`` is written, replaced, or given to others.

    Raises:
        OSError: it cannot be found.
    """
    status = os.stat(file)
    # With the time of chmod and chown, too: it may be what mends a file that could not be read.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
