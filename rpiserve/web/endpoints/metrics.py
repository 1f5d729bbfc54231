"""``GET /metrics``: what there is to be watched from outside, as Prometheus reads it.

Nothing is kept here: each request asks the parts of the daemon, and takes the values out of the tree as they are.
"""

import math
import platform
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from twisted import __version__ as twisted_version
from twisted.internet.defer import Deferred

from rpiserve.core.metrics import Metric, Sample, Stats
from rpiserve.core.tokens import READ
from rpiserve.data.nodes import ERROR, OK, STALE, Leaf, leaves
from rpiserve.data.paths import format_path
from rpiserve.data.tree import DataTree
from rpiserve.web.endpoint_declaration import endpoint
from rpiserve.web.openapi.parts import TEXT, ok, operation, problems
from rpiserve.web.server.request import LimitedRequest

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

INFO: Final = Metric(
    "rpiserve_info", "1; the labels tell what runs.", "gauge", ("service", "version", "python", "twisted")
)
STARTED: Final = Metric("rpiserve_start_time_seconds", "When the daemon started, since the epoch.", "gauge")
VALUE: Final = Metric(
    "rpiserve_value", "A number or truth value in the data tree, if it is up to date.", "gauge", ("path", "unit")
)
VALUES: Final = Metric("rpiserve_values", "Values of any type in the data tree, by their state.", "gauge", ("state",))


class MetricsEndpoints:
    """Answers ``/metrics``.

    Args:
        name: the service's name.
        tree: whose values are shown.
        started: when the daemon started, in seconds since the epoch.
        stats: the parts that are asked.
    """

    def __init__(self, name: str, tree: DataTree, started: float, stats: Iterable[Stats]) -> None:
        self._name = name
        self._tree = tree
        self._started = started
        self._stats = list(stats)
        # One of our own: what the app registers at the library's has an owner, and two daemons may share a process.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def add(self, stats: Stats) -> None:
        """Ask one more part."""
        self._stats.append(stats)

    @endpoint(
        "GET",
        "/metrics",
        role=READ,
        operation=operation(
            "status",
            "What Prometheus asks for",
            responses={**ok("Its text format.", TEXT, "text/plain"), **problems()},
        ),
    )
    def get(self, request: LimitedRequest) -> Deferred[None]:
        """Answer with all there is."""
        return request.answer(200, CONTENT_TYPE, generate_latest(self._registry), {b"Cache-Control": b"no-store"})

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """Return all there is but for the process, for the library."""
        families: dict[Metric, CounterMetricFamily | GaugeMetricFamily] = {}
        for metric, labels, value in self._samples():
            family = families.get(metric)
            if family is None:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = families[metric] = kind(metric.name, metric.help, labels=metric.labels)
            family.add_metric(labels, value)
        return families.values()

    def _samples(self) -> Iterator[Sample]:
        yield INFO.sample(1, self._name, package_version(), platform.python_version(), twisted_version)
        yield STARTED.sample(self._started)
        for stats in self._stats:
            yield from stats.samples()
        yield from self._values()

    def _values(self) -> Iterator[Sample]:
        states = dict.fromkeys((OK, STALE, ERROR), 0)
        for path, leaf in leaves(self._tree.root):
            if not isinstance(leaf, Leaf):
                continue
            states[leaf.state] += 1
            number = number_of(leaf.json) if leaf.state == OK else None
            if number is not None:
                yield VALUE.sample(number, format_path(path), leaf.unit or "")
        for state, count in states.items():
            yield VALUES.sample(count, state)


def package_version() -> str:
    """Return the version of rpiserve that is installed."""
    try:
        return version("rpiserve")
    except PackageNotFoundError:  # it runs from a folder, uninstalled
        return "unknown"


def number_of(json: bytes) -> float | None:
    """Return the number that a leaf's ``json`` is, 1 and 0 for true and false; None if it is none, or too large."""
    if json in (b"true", b"false"):
        return float(json == b"true")
    if json[:1] not in b"-0123456789":
        return None
    number = float(json)
    return number if math.isfinite(number) else None
