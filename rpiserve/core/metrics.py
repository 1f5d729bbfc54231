"""What a part of the daemon counts or measures, as ``/metrics`` shows it."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol

import attrs


@attrs.frozen
class Metric:
    """Something that is counted or measured.

    Attributes:
        name: its name, in the manner of Prometheus: with the unit, and ``_total`` at the end of a counter's.
        help: what it is.
        kind: ``counter`` for what only grows, else ``gauge``.
        labels: the names of its labels.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    labels: tuple[str, ...] = ()

    def sample(self, value: float, *labels: str) -> "Sample":
        """Return what it is at this moment, for the values of its labels."""
        return Sample(self, labels, value)


class Sample(NamedTuple):
    """What a metric is at one moment.

    Attributes:
        metric: the metric.
        labels: the values of its labels.
        value: how much it is.
    """

    metric: Metric
    labels: tuple[str, ...]
    value: float


class Stats(Protocol):
    """A part of the daemon that counts or measures something."""

    def samples(self) -> Iterable[Sample]:
        """Return what ``/metrics`` shows of it. The values of labels have to be few: none is what a client sent."""
        ...
