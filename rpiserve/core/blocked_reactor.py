"""How late the reactor is, and who holds it up.

A heartbeat on the reactor's clock measures how late the reactor comes to what is due. A thread beside it notices when
no heartbeat has come for a second: then it looks at what the reactor's thread does, and logs it at once, for the
reactor may never go on. One blockage is logged once, and once more when it is over. Of those that come again and again
by the same code only some are logged, by the rule of `LogLimit`, but all that last for a minute.

Where the thread itself was held up, too, it has seen nothing: the process was stopped, the machine had no time for it,
or a function in C held the interpreter. Then it begins to count anew, so that nobody is blamed for that.
"""

import gc
import inspect
import sys
import threading
import time
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from types import CodeType, FrameType
from typing import Any, Final

import attrs
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from rpiserve.core.log_limit import LogLimit
from rpiserve.core.metrics import Metric, Sample
from rpiserve.core.runner import name_beneath
from rpiserve.data.encoding import printable
from rpiserve.declare.arguments import called
from rpiserve.declare.handler import UserFunction

log = Logger()

INTERVAL: Final = 0.1
"""Seconds from one heartbeat to the next."""

LIMIT: Final = 1.0
"""Seconds without a heartbeat that count as a blockage."""

WINDOW: Final = 60.0
"""Seconds that the maximum goes back."""

RECENT: Final = 10.0
"""Seconds for which `/ready` tells of a blockage that is over."""

LONG: Final = 60.0
"""Seconds after which a blockage is logged in any case: it may be one that never ends."""

MOST_FRAMES: Final = 30
"""How much of a stack is logged, counted from its innermost end."""

CURRENT_LAG: Final = Metric("rpiserve_reactor_lag_seconds", "How late the reactor's last heartbeat was.", "gauge")
MAX_LAG: Final = Metric(
    "rpiserve_reactor_lag_max_seconds", "How late the latest heartbeat of the last minute was.", "gauge"
)
BLOCKED: Final = Metric(
    "rpiserve_reactor_blocked_total",
    "How often the reactor was blocked for over a second, by whom.",
    "counter",
    ("name",),
)
BLOCKED_SECONDS: Final = Metric(
    "rpiserve_reactor_blocked_seconds_total", "For how long that was, all together.", "counter", ("name",)
)


def blamed(frames: Iterable[FrameType], functions: Sequence[UserFunction]) -> str | None:
    """Tell whose code is on a stack.

    Args:
        frames: the frames of the reactor's thread, the innermost first.
        functions: the user's functions that run there.

    Returns:
        The name of the innermost of ``functions``; where several are made of the same code and the stack does not tell
        which it is, all of their names. None if none is there.
    """
    names: defaultdict[CodeType, list[str]] = defaultdict(list)
    for function in functions:
        code = code_of(function.call)
        if code is not None and function.name not in names[code]:
            names[code].append(function.name)
    candidates: list[str] = []
    for frame in frames:
        if (name := name_beneath(frame)) is not None and (not candidates or name in candidates):
            return name
        candidates = candidates or names.get(frame.f_code, [])
        if len(candidates) == 1:
            return candidates[0]
    return " or ".join(candidates) or None


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """Return the code that somebody wrote for ``function``, beneath partials, a binding and decorators."""
    inner = called(function)
    inner = inspect.unwrap(getattr(inner, "__func__", inner))
    code = getattr(inner, "__code__", None)
    return code if isinstance(code, CodeType) else None


def frames_of(thread: int) -> list[FrameType]:
    """Return the frames of a thread, by its identifier, the innermost first; none if it has ended."""
    # While Python 3.11 makes them, a collection of garbage can block the whole process for ever (gh-106883).
    with _no_collection():
        frame = sys._current_frames().get(thread)
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def cpu_seconds(thread: int) -> float:
    """Return how much time of the processor a thread, by its identifier, has used; it must not have ended.

    Where the system does not tell that, it is what the whole process has used.
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.process_time()
    return time.clock_gettime(time.pthread_getcpuclockid(thread))


@attrs.define
class _Blockage:
    name: str | None
    since: float
    told: bool = False
    ended: float | None = None

    @property
    def seconds(self) -> float:
        return 0.0 if self.ended is None else self.ended - self.since


class ReactorLag:
    """Measures how late the reactor is, and notices when it is blocked.

    Args:
        clock: the reactor's clock, in seconds, which must be monotonic; it is read in another thread as well.
        functions: the user's functions that run on the reactor.
        frames: returns the frames of a thread.
        cpu: returns how much time of the processor a thread has used, in seconds.
    """

    def __init__(
        self,
        clock: Any,
        functions: Iterable[UserFunction],
        frames: Callable[[int], list[FrameType]] = frames_of,
        cpu: Callable[[int], float] = cpu_seconds,
    ) -> None:
        self._clock = clock
        self._functions = list(functions)
        self._frames = frames
        self._cpu = cpu
        self._thread = 0
        self._stopped = threading.Event()
        self._call: IDelayedCall | None = None
        # Of the heartbeat.
        self._due = 0.0
        self._lag = 0.0
        self._highest: deque[tuple[float, float]] = deque()  # when and how much: each less than those before it
        # All of them from the start: who asks by how much a counter has grown does not see that it is a new one.
        self._blocked = Counter(dict.fromkeys(["", *(function.name for function in self._functions)], 0))
        self._blocked_seconds: defaultdict[str, float] = defaultdict(float)
        self._last: _Blockage | None = None
        self._unseen = LogLimit()
        # Of both threads.
        self._lock = threading.Lock()
        self._beaten = 0.0
        self._blockage: _Blockage | None = None
        # Of the thread that watches.
        self._seen: defaultdict[str | None, LogLimit] = defaultdict(LogLimit)
        self._patient_since = 0.0
        self._look_due = 0.0
        self._cpu_before = 0.0

    # --- the heartbeat, on the reactor's thread ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin, on the reactor's thread; the reactor may begin to run a little later."""
        self._thread = threading.get_ident()
        now = self._clock.seconds()
        self._due = self._patient_since = now
        self._look_due = now + LIMIT
        self._cpu_before = self._cpu(self._thread)
        self._beat()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _beat(self) -> None:
        now = self._clock.seconds()
        self._lag = max(0.0, now - self._due)
        self._note(now)
        self._due = now + INTERVAL
        self._call = self._clock.callLater(INTERVAL, self._beat)
        with self._lock:
            blockage, self._blockage = self._blockage, None
            self._beaten = now
            told = blockage is not None and blockage.told
            if blockage is not None:
                blockage.ended = now
        if blockage is not None:
            self._count(blockage.name, blockage.seconds)
            self._last = blockage
            if told:
                _tell_end(blockage)
        elif self._lag >= LIMIT:
            self._over_unseen(now)

    def _note(self, now: float) -> None:
        while self._highest and (self._highest[-1][1] <= self._lag):
            self._highest.pop()
        self._highest.append((now, self._lag))
        while self._highest[0][0] < now - WINDOW:
            self._highest.popleft()

    def _over_unseen(self, now: float) -> None:
        self._count(None, self._lag)
        unseen = self._unseen.take(now)
        if unseen.is_due:
            log.warn(
                "the reactor was held up for {seconds:.1f} s, and nobody was seen doing it{more}: the process was "
                "stopped, the machine had no time for it, or a function in C held the interpreter",
                seconds=self._lag,
                more=unseen.more,
            )

    def _count(self, name: str | None, seconds: float) -> None:
        self._blocked[name or ""] += 1
        self._blocked_seconds[name or ""] += seconds

    def reasons(self) -> list[str]:
        """Return why it is not ready: the reactor was blocked a moment ago."""
        last = self._last
        if last is None or last.ended is None or self._clock.seconds() - last.ended > RECENT:
            return []
        return [f"the reactor was blocked for {last.seconds:.1f} s a moment ago, by {_shown(last.name)}"]

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of it."""
        now = self._clock.seconds()
        lag = max(self._lag, now - self._due) if self._call is not None else 0.0
        yield CURRENT_LAG.sample(lag)
        yield MAX_LAG.sample(max([lag, *(each for since, each in self._highest if since >= now - WINDOW)]))
        for name, count in self._blocked.items():
            yield BLOCKED.sample(count, name)
            yield BLOCKED_SECONDS.sample(self._blocked_seconds[name], name)

    # --- the thread that watches -------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look again and again, in a thread of its own, until `stop`."""
        pause = LIMIT
        try:
            while not self._stopped.wait(pause):
                pause = self.look()
        except Exception:  # noqa: BLE001 - whatever it is, it would come again each second
            log.failure("nobody watches any more whether the reactor is blocked")

    def look(self) -> float:
        """Look whether the reactor is blocked, and log it if it is.

        Returns:
            The seconds after which to look again.
        """
        now = self._clock.seconds()
        pause = self._look(now)
        self._look_due = now + pause
        return pause

    def _look(self, now: float) -> float:
        with self._lock:
            beaten, noticed = self._beaten, self._blockage
        late, busy = now - self._look_due, self._cpu_since_last_look()
        if noticed is not None:
            if not noticed.told and now - noticed.since >= LONG:
                frames = self._frames(self._thread)
                with self._lock:
                    goes_on = self._beaten == beaten
                if goes_on:
                    self._tell(noticed, _beginning(noticed, now, frames))
            return LIMIT
        if late > LIMIT / 2 and busy < late / 2:
            self._patient_since = now
        silent = now - max(beaten, self._patient_since)
        if silent < LIMIT:
            return LIMIT - silent
        frames = self._frames(self._thread)
        name = blamed(frames, self._functions)
        with self._lock:
            if self._beaten != beaten:  # it has just gone on; whoever blocked it may not be on the stack any more
                return LIMIT
            self._blockage = blockage = _Blockage(name, beaten)
        seen = self._seen[name].take(now)
        if seen.is_first:
            self._tell(blockage, _beginning(blockage, now, frames))
        elif seen.is_due:
            text = f"the reactor is blocked again{seen.more}, for {now - beaten:.1f} s so far, by {_shown(name)}"
            self._tell(blockage, f"{text}; its stack is in the log already")
        return LIMIT

    def _cpu_since_last_look(self) -> float:
        before, self._cpu_before = self._cpu_before, self._cpu(self._thread)
        return self._cpu_before - before

    def _tell(self, blockage: _Blockage, text: str) -> None:
        log.warn("{text}", text=text)
        with self._lock:
            blockage.told = True
            is_over = blockage.ended is not None
        if is_over:  # while it was told of, so that the end comes second
            _tell_end(blockage)


def _beginning(blockage: _Blockage, now: float, frames: list[FrameType]) -> str:
    """Return what there is to tell of a blockage that goes on."""
    theirs = takewhile(lambda frame: name_beneath(frame) is None, frames[:MOST_FRAMES])
    stack = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in theirs)
    stack.reverse()
    return (
        f"the reactor is blocked, for {now - blockage.since:.1f} s so far, by {_shown(blockage.name)}; nothing else "
        "can run meanwhile. What may block is to be a plain def, which runs in a thread. It is here:\n"
        + "".join(stack.format()).rstrip()
    )


def _tell_end(blockage: _Blockage) -> None:
    log.warn(
        "the reactor goes on, after {seconds:.1f} s; it was blocked by {who}",
        seconds=blockage.seconds,
        who=_shown(blockage.name),
    )


def _shown(name: str | None) -> str:
    return "none of the app's handlers" if name is None else printable(name)
