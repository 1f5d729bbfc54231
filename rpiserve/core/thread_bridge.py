"""The way from code in any thread to what lives on the reactor's thread.

On the reactor's thread a call through a `Link` returns a Deferred. On any other it blocks, and returns or raises what
the Deferred fires with. Who blocks is set free as soon as the link is closed: nobody shall wait for a reactor that has
stopped.
"""

import inspect
import threading
from collections.abc import Callable
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python.failure import Failure

from rpiserve.errors import NotRunning, Stopped

Far = TypeVar("Far")

Progress = Callable[[Any], object]
"""What is called with each payload that comes before the result."""


class Link(Generic[Far]):
    """The way to one object on the reactor's thread, the *far end*.

    Args:
        what: what it leads to, for errors.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._far: Far | None = None
        self._to_reactor: Callable[..., object] | None = None
        self._thread: int | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._blocked: set[_Blocked] = set()

    def open(self, far: Far, to_reactor: Callable[..., object]) -> None:
        """Let calls through, from now on. To be called on the reactor's thread.

        Args:
            far: the far end.
            to_reactor: calls a function on the reactor's thread; may itself be called on any thread.
        """
        self._far, self._to_reactor, self._thread = far, to_reactor, threading.get_ident()

    def close(self) -> None:
        """Let all who block in a call raise `Stopped`, and all who would. To be called on the reactor's thread.

        What is called there goes on to the far end, which nobody blocks for.
        """
        with self._lock:
            self._closed = True
            blocked, self._blocked = self._blocked, set()
        for each in blocked:
            each.release(Failure(self._stopped()))

    def call(self, start: Callable[..., Deferred[Any]], *arguments: Any, progress: Progress | None = None) -> Any:
        """Have ``start`` called with the far end and ``arguments`` on the reactor's thread.

        Args:
            start: what is called; it returns a Deferred.
            arguments: what it is called with, besides.
            progress: if given, ``start`` is called with ``progress=…``, too, and what it calls that with arrives here,
                in the thread that calls and in its context.

        Returns:
            The Deferred, on the reactor's thread; what it fires with, on any other.

        Raises:
            NotRunning: the link is not open yet.
            Stopped: it is closed, or was while this blocked.
        """
        if self._far is None or self._to_reactor is None:
            raise NotRunning(f"{self._what} can be used only while the daemon runs")
        if threading.get_ident() == self._thread:
            options = {} if progress is None else {"progress": _in_this_context(progress)}
            return maybeDeferred(start, self._far, *arguments, **options)
        blocked = _Blocked(start, (self._far, *arguments), progress)
        with self._lock:
            if self._closed:
                raise self._stopped()
            self._blocked.add(blocked)
        try:
            self._to_reactor(blocked.begin)
            return blocked.wait(self._to_reactor)
        finally:
            with self._lock:
                self._blocked.discard(blocked)

    def _stopped(self) -> Stopped:
        return Stopped(f"{self._what} cannot be used any more: the daemon is shutting down")


def _in_this_context(progress: Progress) -> Progress:
    """Return what calls ``progress`` so that the proxies are those of whoever has asked for it."""
    context = copy_context()

    def call(payload: Any) -> object:
        run = context.copy().run
        outcome = run(progress, payload)
        return _end_of(run(Deferred.fromCoroutine, outcome)) if inspect.iscoroutine(outcome) else outcome

    return call


async def _end_of(deferred: Deferred[Any]) -> None:
    await deferred


class _Blocked:
    """A call for which a thread waits."""

    def __init__(
        self, start: Callable[..., Deferred[Any]], arguments: tuple[Any, ...], progress: Progress | None
    ) -> None:
        self._start = start
        self._arguments = arguments
        self._progress = progress
        self._deferred: Deferred[Any] | None = None
        self._over = False
        self._events: SimpleQueue[tuple[bool, Any]] = SimpleQueue()  # of (is it the end, value)

    # --- on the reactor's thread -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make the call, unless nobody waits for it any more."""
        if self._over:
            return
        options = {} if self._progress is None else {"progress": self._pass_on}
        self._deferred = maybeDeferred(self._start, *self._arguments, **options)
        self._deferred.addBoth(self._end)

    def _pass_on(self, payload: Any) -> None:
        self._events.put((False, payload))

    def _end(self, outcome: Any) -> None:
        self._over = True
        self._events.put((True, outcome))

    def release(self, failure: Failure) -> None:
        """Let the thread go on with ``failure``, and cancel the call."""
        if not self._over:
            self._over = True
            self._events.put((True, failure))
            self.cancel()

    def cancel(self) -> None:
        """Give the call up."""
        self._over = True
        if self._deferred is not None:
            self._deferred.cancel()

    # --- on the thread that waits ------------------------------------------------------------------------------------

    def wait(self, to_reactor: Callable[..., object]) -> Any:
        """Return what the call brings, or raise that."""
        while True:
            is_end, value = self._events.get()
            if is_end:
                break
            assert self._progress is not None
            try:
                self._progress(value)
            except BaseException:
                to_reactor(self.cancel)
                raise
        if isinstance(value, Failure):
            value.raiseException()
        return value
