"""Readings of this machine, and a file that keeps them: a line every quarter of an hour.

    twistd -n rpiserve --port 8080 --module csv_log

The lines go to ``readings.csv`` in the current folder, or to the file that the variable ``CSV_LOG`` names. The header
is written when the file is new.
"""

import csv
import os
from datetime import UTC, datetime
from pathlib import Path

from rpiserve import App, Handler, Repeat
from rpiserve.sensors import host

app = App("csv-log")

app.sensor("cpu/load", every=5)(host.load)
app.sensor("cpu/use", every=5, unit=host.CPU_USE_UNIT)(host.CpuUse())
app.sensor("memory", every=5, unit=host.MEMORY_UNITS)(host.memory)


class WriteCsv(Handler):
    """Appends the latest readings to a file."""

    columns = ("cpu/load/1min", "cpu/use", "memory/percent")

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        if not self.path.exists():
            self._append(["time", *self.columns])

    def invoke(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._append([now, *(self._value(column) for column in self.columns)])

    def _value(self, path: str) -> object:
        try:
            return self.data.at(path)
        except KeyError:
            return ""  # there is no reading yet

    def _append(self, row: list[object]) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(row)


# On the quarters of the hour: the grid begins at midnight of a day long past.
app.schedule(
    WriteCsv(Path(os.environ.get("CSV_LOG", "readings.csv"))),
    start_time=datetime.min.time(),
    start_date=datetime(2026, 1, 1).date(),
    repeat=Repeat.MINUTELY,
    factor=15,
)

if __name__ == "__main__":
    app.run(port=8080)
