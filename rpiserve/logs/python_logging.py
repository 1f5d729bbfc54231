"""Python's own `logging`: what a library, or the app, hands to that stands in our log.

What comes by `warnings` needs nothing of ours: Twisted has it in the log by itself.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Any, Final

from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.python.reflect import safe_repr, safe_str

from rpiserve.core.context import scope
from rpiserve.logs.observer import LogObserver

NUMBERS: Final[dict[Any, int]] = {
    LogLevel.critical: logging.CRITICAL,
    LogLevel.error: logging.ERROR,
    LogLevel.warn: logging.WARNING,
    LogLevel.info: logging.INFO,
    LogLevel.debug: logging.DEBUG,
}
"""The levels, from the top, as `logging` has them."""


class PythonLogging(logging.Handler):
    """Has the records of `logging` written to our log.

    Not by way of Twisted's publisher: an app may have what comes by that handed to `logging`, and it would go round for
    ever.

    Args:
        observer: what writes the log.
        root_level: the level of the root logger as it was.
        replaced: the handlers of the root logger that this one stands in for.

    Attributes:
        root_level: likewise.
        replaced: likewise.
    """

    def __init__(self, observer: LogObserver, root_level: int, replaced: Sequence[logging.Handler]) -> None:
        super().__init__()
        self.root_level = root_level
        self.replaced = replaced
        self._observer = observer

    def emit(self, record: logging.LogRecord) -> None:
        """Log ``record``, with the nearest level that is not above its own."""
        event = {
            "log_time": record.created,
            "log_level": next((level for level, least in NUMBERS.items() if record.levelno >= least), LogLevel.debug),
            "log_namespace": record.name,
            "log_format": "{text}",  # what is in the text acts as no format
            "text": _text_of(record),
            "handler": getattr(scope.get(None), "name", None),
        }
        if record.exc_info and record.exc_info[1] is not None:
            kind, error, trace = record.exc_info
            event["log_failure"] = Failure(error, kind, trace)
        self._observer(event)


def _text_of(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - text and values may not fit together, and to log must never fail
        text = f"{safe_str(record.msg)} {safe_repr(record.args):.1000}"
    return f"{text}\n{record.stack_info}" if record.stack_info else text


def connect(observer: LogObserver) -> None:
    """Have ``observer`` write what `logging` is given, until `disconnect`.

    Of the root logger, the level gives way to those of ``observer``, for else nobody would ever see what has the level
    ``info``; only a lower one stays. What it writes to standard output or standard error gives way, too: there it would
    be a second time, between our lines and with all secrets.
    """
    disconnect()
    root = logging.getLogger()
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    shown = [each for each in root.handlers if isinstance(each, logging.StreamHandler) and each.stream in streams]
    for handler in shown:
        root.removeHandler(handler)
    root.addHandler(PythonLogging(observer, root.level, shown))
    root.setLevel(min(root.level, NUMBERS[observer.levels.lowest]))


def disconnect() -> None:
    """Leave `logging` as it was before `connect`, if that was called."""
    root = logging.getLogger()
    for ours in [each for each in root.handlers if isinstance(each, PythonLogging)]:
        root.removeHandler(ours)
        root.setLevel(ours.root_level)
        for handler in ours.replaced:
            root.addHandler(handler)
