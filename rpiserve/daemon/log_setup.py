"""Where the log goes: from the options, and from those of twistd, to the observer that writes it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rpiserve.daemon.config import Config
from rpiserve.errors import StartError
from rpiserve.logs.levels import Levels
from rpiserve.logs.lines import JOURNAL, JSON, TEXT
from rpiserve.logs.observer import LogObserver
from rpiserve.logs.outputs import Stream, Syslog, is_journal
from rpiserve.logs.rotating_file import RotatingFile, open_log


def make_log(config: Config, twistd: Mapping[str, Any] | None) -> tuple[LogObserver | None, RotatingFile | None]:
    """Return what writes the log, and its file if it is one.

    Args:
        config: the options. ``--log-file`` goes before twistd's own ``--logfile``, which gets the same lines.
        twistd: the options of twistd. With a ``--logger`` of the user's own there is nothing to write.

    Raises:
        StartError: the file cannot be opened, or a twistd that goes to the background is to log to standard output.
    """
    levels = Levels(config.log_level)
    known = _passwords(config)
    if config.log_file is not None:
        option, path = "--log-file", config.log_file
    elif twistd is None or twistd.get("syslog") or twistd.get("logger"):
        option, path = "", None
    else:
        option, path = "--logfile", _twistd_file(twistd)
    if twistd is not None and twistd.get("logger"):
        return None, None
    if path is not None:
        file = open_log(option, path, config.log_size, config.log_keep)
        return LogObserver(JSON if config.log_format == JSON else TEXT, file, levels, known), file
    if twistd is not None and twistd.get("syslog"):
        return LogObserver(JOURNAL, Syslog(twistd.get("prefix") or "rpiserve"), levels, known), None
    default = JOURNAL if is_journal(os.environ, sys.__stderr__.fileno() if sys.__stderr__ else 2) else TEXT
    format = config.log_format or default
    return LogObserver(format, Stream(sys.stderr if format == JOURNAL else sys.stdout), levels, known), None


def _twistd_file(twistd: Mapping[str, Any]) -> Path | None:
    """Return the file that twistd would log to; None for standard output."""
    name = twistd.get("logfile")
    if twistd.get("nodaemon"):
        return Path(name) if name and name != "-" else None
    if name == "-":
        raise StartError("twistd --logfile=-: what goes to the background cannot log to standard output; -n stays here")
    return Path(name or "twistd.log")


def _passwords(config: Config) -> list[str]:
    """Return the secrets that we know, and that would be nothing but a word to whoever looks for them in a text."""
    address = config.redis_address
    if address is None:
        return []
    try:
        passwords = (address.password, address.current_password())
    except (OSError, ValueError):  # it is told where it is needed
        passwords = (address.password, None)
    return [password for password in passwords if password]
