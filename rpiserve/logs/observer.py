"""What writes the log."""

from collections.abc import Iterable

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from rpiserve.logs.levels import Levels
from rpiserve.logs.lines import LINES, TEXT, Entry
from rpiserve.logs.outputs import Output, Stream


@implementer(ILogObserver)
class LogObserver:
    """Writes the log.

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

    def __call__(self, event: LogEvent) -> None:
        """Write ``event``, if it is one to be logged."""
        if self.levels.let_pass(event):
            self._output.write(self._line(Entry.of(event, self._known)).encode())
