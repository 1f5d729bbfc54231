"""Starting the daemon again when its sources change.

The *supervisor* is a process that imports nothing of the app's: it starts the daemon as its child, looks at the files,
and starts another one when they have changed. A socket is between the two. By it the child tells which files it is made
of, as JSON objects of paths and fingerprints, a line each; and by its end the child learns that the supervisor is gone.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import rpiserve
from rpiserve.cli.output import complain

LOOK_SECONDS: Final = 0.5
"""How often the files are looked at."""

REPORT_SECONDS: Final = 1.0
"""How often the child looks whether it has loaded more modules."""

GROUP_SECONDS: Final = 0.3
"""How long a SIGTERM to all of a group takes to show in the child. A second one from here would be impatience."""

MARGIN_SECONDS: Final = 1.0
"""How much longer than its stop timeout the child may take to end, before it is killed."""

Fingerprint: TypeAlias = list[int] | None
"""When a file was changed, and its size; None if there is none."""

_OURS: Final = os.path.join(os.path.dirname(rpiserve.__file__), "")
_STANDARD: Final = os.path.join(sysconfig.get_path("stdlib"), "")
_INSTALLED: Final = frozenset(("site-packages", "dist-packages"))


def fingerprint_of(file: str) -> Fingerprint:
    """Return the fingerprint of ``file``."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return [status.st_mtime_ns, status.st_size]


# --- the child -------------------------------------------------------------------------------------------------------


class Reporter:
    """The child's end.

    Args:
        descriptor: the socket.

    Attributes:
        stopping: to be set when the daemon begins to stop.
    """

    def __init__(self, descriptor: int) -> None:
        self.stopping = threading.Event()
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)  # or what the app starts would hold it open
        self._told: set[str] = set()
        self._telling = threading.Lock()
        # Ctrl-C goes to all processes of a terminal, and a daemon takes a second signal for impatience: so it comes by
        # way of the supervisor alone. It is not ignored, which the processes that the app starts would inherit.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        threading.Thread(target=self._watch, name="rpiserve-reload", daemon=True).start()

    def report(self, error: BaseException | None = None) -> None:
        """Tell the files that are new.

        Args:
            error: why the app could not be imported; the files that it is about are among them.
        """
        files = {file for file in _module_files() if _is_users(file)}
        if error is not None:
            files.update(_files_of(error))
        with self._telling:
            fresh = {os.path.abspath(file) for file in files} - self._told
            self._told |= fresh
            if fresh:
                with suppress(OSError):  # the supervisor has gone: that is seen elsewhere
                    self._socket.sendall(json.dumps({file: fingerprint_of(file) for file in fresh}).encode() + b"\n")

    def _watch(self) -> None:
        while True:
            readable, _, _ = select.select([self._socket], [], [], REPORT_SECONDS)
            if readable:  # it never writes: this is the end
                if not self.stopping.wait(GROUP_SECONDS):
                    os.kill(os.getpid(), signal.SIGTERM)
                return
            self.report()


def _module_files() -> Iterator[str]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")  # some make more of themselves when they are asked
        if isinstance(file, str) and file.endswith(".py"):
            yield file


def _is_users(file: str) -> bool:
    return not (
        file.startswith((_OURS, _STANDARD, "<")) or _INSTALLED.intersection(Path(file).parts) or not os.path.isabs(file)
    )


def _files_of(error: BaseException) -> Iterator[str]:
    """Return the files that ``error`` has to do with, those included that there are not yet."""
    cause: BaseException | None = error
    while cause is not None:
        yield from (frame.filename for frame in traceback.extract_tb(cause.__traceback__) if _is_users(frame.filename))
        if isinstance(cause, SyntaxError | OSError) and isinstance(cause.filename, str):
            yield cause.filename
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            inner = Path(*cause.name.split("."))
            for folder in sys.path:
                if _is_users(os.path.join(os.path.abspath(folder), "")):
                    yield os.path.join(folder, inner.with_suffix(".py"))
                    yield os.path.join(folder, inner, "__init__.py")
        cause = cause.__cause__ or cause.__context__


# --- the supervisor --------------------------------------------------------------------------------------------------


class Supervisor:
    """The parent's end.

    Args:
        command: what starts the child, given the number of its end of the socket.
        files: the files that are looked at from the beginning.
        stop_seconds: how long the child may take to end.
        say: called with lines for people.
    """

    def __init__(
        self,
        command: Callable[[int], Sequence[str]],
        files: Sequence[str],
        stop_seconds: float,
        say: Callable[[str], object] = complain,
    ) -> None:
        self._command = command
        self._files = files
        self._stop_seconds = stop_seconds
        self._say = say
        self._fingerprints: dict[str, Fingerprint] = {}
        self._buffer = b""
        self._interrupts: list[int] = []
        self._woken: socket.socket

    def run(self) -> int:
        """Run until a signal, or until the daemon ends by itself without an error; return the exit code."""
        with self._signals():
            while True:
                child, reports = self._start()
                try:
                    changed = self._watch(child, reports)
                    if changed is not None:
                        self._say(f"rpiserve: {os.path.relpath(changed)} has changed: starting again")
                    self._end(child, reports)
                finally:
                    reports.close()
                    child.kill()  # if it has not ended: it is not to be left behind
                    child.wait()
                if self._interrupts:
                    return 128 + self._interrupts[0] if child.returncode else 0
                if changed is None:
                    return 0

    def _start(self) -> tuple["subprocess.Popen[bytes]", socket.socket]:
        self._fingerprints = {file: fingerprint_of(file) for file in self._files}
        self._buffer = b""
        ours, theirs = socket.socketpair()
        with theirs:
            child = subprocess.Popen(self._command(theirs.fileno()), pass_fds=[theirs.fileno()])
        ours.setblocking(False)
        return child, ours

    def _watch(self, child: "subprocess.Popen[bytes]", reports: socket.socket) -> str | None:
        """Wait for a change, and return the file; None if it is time to end."""
        failed = False
        while not self._interrupts:
            self._wait()
            self._read(reports)
            for file, fingerprint in self._fingerprints.items():
                now = fingerprint_of(file)
                if now is not None and now != fingerprint:  # one that has gone may be about to be written
                    return file
            if child.poll() == 0:
                return None
            if child.poll() is not None and not failed:
                failed = True
                self._say("rpiserve: waiting for a change")
        return None

    def _end(self, child: "subprocess.Popen[bytes]", reports: socket.socket) -> None:
        if signal.SIGTERM in self._interrupts:  # which the child may have got, too
            reports.shutdown(socket.SHUT_WR)
        elif child.poll() is None:
            child.terminate()
        deadline = time.monotonic() + self._stop_seconds + MARGIN_SECONDS
        asked = len(self._interrupts)
        while child.poll() is None:
            self._wait()
            if len(self._interrupts) > asked:
                asked = len(self._interrupts)
                child.terminate()  # a second time, which ends it at once
            if time.monotonic() > deadline:
                child.kill()

    def _read(self, reports: socket.socket) -> None:
        with suppress(OSError):  # BlockingIOError among them
            while piece := reports.recv(1 << 16):
                self._buffer += piece
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            for file, fingerprint in json.loads(line).items():
                self._fingerprints.setdefault(file, fingerprint)

    def _wait(self) -> None:
        """Wait until it is time to look, or a signal has come."""
        select.select([self._woken], [], [], LOOK_SECONDS)
        with suppress(BlockingIOError):
            self._interrupts += [number for number in self._woken.recv(100) if number != signal.SIGCHLD]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Take the signals: of a child that has ended, and those that end all of this."""
        self._woken, waking = socket.socketpair()
        taken = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
        with self._woken, waking:
            for end in (self._woken, waking):
                end.setblocking(False)
            before: dict[int, Any] = {
                number: signal.signal(number, lambda number, frame: None) for number in (signal.SIGCHLD, *taken)
            }
            signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(-1)
                for number, handler in before.items():
                    signal.signal(number, handler)
