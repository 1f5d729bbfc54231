"""What the command shows, and the exit code that it ends with."""

import os
import sys
import traceback
from contextlib import suppress
from typing import Final

import click

from rpiserve.data import encoding
from rpiserve.errors import (
    BusUnavailable,
    CallTimeout,
    ConfigError,
    DataError,
    MessageError,
    NoResponders,
    NotAllowed,
    RemoteError,
    RpiserveError,
    StartError,
)
from rpiserve.logs.redaction import redact

ANSWERED, FAILED, USAGE, NOBODY, TIMEOUT, UNREACHABLE, REFUSED = range(7)

EXIT_CODES: Final = """
\b
Exit codes:
  0    it was done, or answered
  1    it has failed, or the service has answered with an error
  2    the command line is wrong
  3    nobody listens
  4    there was no answer in time
  5    the bus or the daemon cannot be reached
  6    the daemon refuses: no token, a wrong one, or one that may not do this
  130  Ctrl-C
"""


def exit_code(error: Exception) -> int:
    """Return the exit code that tells of ``error``."""
    match error:
        case NoResponders():
            return NOBODY
        case CallTimeout():  # before the next: it may have been the service's own time limit
            return TIMEOUT
        case NotAllowed():
            return REFUSED
        case RemoteError():
            return FAILED
        case BusUnavailable():
            return UNREACHABLE
        case ConfigError() | StartError() | MessageError() | DataError():
            return USAGE
    return FAILED


def describe(error: Exception) -> str:
    """Return ``error`` as one line, without the secrets in it."""
    text = one_line(redact(str(error)))
    if isinstance(error, RemoteError):
        more = [error.code, error.incident and f"incident {error.incident}"]
        text += f" ({', '.join(filter(None, more))})" if any(more) else ""
    elif not isinstance(error, RpiserveError | OSError):
        text = f"an error of its own: {type(error).__name__}: {text}"
    return text


def describe_fully(error: BaseException) -> str:
    """Return ``error`` as Python shows it, without the secrets in it."""
    return redact("".join(traceback.format_exception(error))).rstrip("\n")


def one_line(text: str) -> str:
    """Return ``text`` on one line, with nothing in it that a terminal would obey."""
    return " ".join(encoding.printable(text.replace("\n", " ")).split())


def complain(text: str) -> None:
    """Write a line to standard error, if anybody can be told."""
    with suppress(OSError, ValueError):  # it may be closed
        click.echo(text, err=True)


class OutputClosed(Exception):
    """Nobody reads standard output any more."""


def put(line: bytes) -> None:
    """Write a line to standard output at once.

    Raises:
        OutputClosed: nobody reads it any more.
        OSError: it cannot be written.
    """
    output = getattr(sys.stdout, "buffer", None)  # an app may have put anything into its place
    if output is None or output.closed:
        raise OSError("standard output: it is closed, or replaced")
    try:
        output.write(line + b"\n")
        output.flush()
    except BrokenPipeError:
        _discard(output.fileno())
        raise OutputClosed from None
    except OSError as error:
        _discard(output.fileno())
        raise OSError(f"standard output: {error.strerror}") from error


def _discard(descriptor: int) -> None:
    """Have whatever is still written to ``descriptor`` go nowhere: Python writes what is left at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
