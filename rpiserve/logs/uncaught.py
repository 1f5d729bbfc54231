"""Exceptions that nobody catches, in the app's own threads and finalizers: each is one entry of the log.

By itself Python writes them to standard error, where each of their lines would become an entry of its own.
"""

import sys
import threading
from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.python.reflect import safe_repr

log = Logger()


def connect() -> None:
    """Have them logged, until `disconnect`. Hooks that are somebody else's stay."""
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _in_a_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _in_a_finalizer


def disconnect() -> None:
    """Leave the hooks as they were before `connect`."""
    if threading.excepthook is _in_a_thread:
        threading.excepthook = threading.__excepthook__
    if sys.unraisablehook is _in_a_finalizer:
        sys.unraisablehook = sys.__unraisablehook__


def _in_a_thread(found: Any) -> None:
    if found.exc_type is SystemExit:  # which ends a thread as it should
        return
    thread = "a thread" if found.thread is None else f"the thread {found.thread.name}"
    log.failure("{thread} has ended", _failure(found), LogLevel.error, thread=thread)


def _in_a_finalizer(found: Any) -> None:
    what = f"{found.err_msg or 'exception ignored in'}: {safe_repr(found.object):.200}"
    log.failure("{what}", _failure(found), LogLevel.error, what=what)


def _failure(found: Any) -> Failure:
    error = found.exc_type() if found.exc_value is None else found.exc_value  # None if there was no memory for it
    return Failure(error, found.exc_type, found.exc_traceback)
