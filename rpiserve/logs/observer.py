"""What writes the log."""

import threading
import time
from collections.abc import Iterable, Iterator

from twisted.logger import ILogObserver, LogEvent, LogLevel
from zope.interface import implementer

from rpiserve.core.metrics import Sample
from rpiserve.logs.levels import Levels
from rpiserve.logs.lines import LINES, TEXT, Entry
from rpiserve.logs.outputs import LOST, Output, Stream


@implementer(ILogObserver)
class LogObserver:
    """Writes the log. When it can be written again after lines were lost, it says how many.

    Args:
        format: one of `FORMATS`.
        output: where the lines go.
        levels: which there are.
        known: secrets that never appear, whatever they look like.

    Attributes:
        levels: likewise.
        takes_prints: whether what the app prints has to be logged, or it would stand among lines for a program.
    """

    def __init__(self, format: str, output: Output, levels: Levels, known: Iterable[str] = ()) -> None:
        self.takes_prints = isinstance(output, Stream) and format != TEXT
        self._line = LINES[format]
        self._output = output
        self.levels = levels
        self._known = tuple(known)
        self._told = 0  # how many lost lines the log tells of
        self._lock = threading.RLock()  # see `Stream`

    def __call__(self, event: LogEvent) -> None:
        """Write ``event``, if it is one to be logged."""
        if not self.levels.let_pass(event):
            return
        line = self._line(Entry.of(event, self._known)).encode()
        with self._lock:
            if self._write(line) and self._told < self._output.lost:
                told, self._told = self._told, self._output.lost
                if not self._write(self._note_of(self._told - told)):
                    self._told = told

    def _write(self, data: bytes) -> bool:
        lost = self._output.lost
        self._output.write(data)
        return self._output.lost == lost

    def _note_of(self, lost: int) -> bytes:
        event = {
            "log_time": time.time(),
            "log_level": LogLevel.warn,
            "log_namespace": "rpiserve.logs",
            "log_format": "{lost} lines of the log before the one above were lost: they could not be written",
            "lost": lost,
        }
        return self._line(Entry.of(event)).encode()

    def samples(self) -> Iterator[Sample]:
        """Yield what ``/metrics`` shows of it."""
        yield LOST.sample(self._output.lost, "daemon")
