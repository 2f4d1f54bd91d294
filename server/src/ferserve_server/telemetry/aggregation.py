"""Merges the metrics of several processes: counts of calls and pictures are summed over all of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import RestrictedRegistry
from prometheus_client.samples import Exemplar

from ferserve_server.domain.metrics import METRICS, PREFIX, Gauge

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    Row = list[Any]
    Key = tuple[str, tuple[tuple[str, str], ...]]

_SUMMED_GAUGES: Final = frozenset(
    PREFIX + each.name for each in METRICS if isinstance(each, Gauge) and each.summed
)


def write_series(registry: CollectorRegistry) -> list[Row]:
    """Encodes a worker process's counts so far: family, is a gauge, name, labels, value, exemplar.

    Every counter and histogram of this server is part of it, so that none can be forgotten.
    """
    return [
        [
            family.name,
            family.type == "gauge",
            sample.name,
            sample.labels,
            sample.value,
            None if sample.exemplar is None else list(sample.exemplar),
        ]
        for family in registry.collect()
        # The metrics without the prefix concern one process only, such as its processor time.
        if family.name.startswith(PREFIX) and (family.type != "gauge" or family.name in _SUMMED_GAUGES)
        for sample in family.samples
    ]


class MergedRegistry(CollectorRegistry):
    """Merges the metrics of other processes into a registry. Thread-safety: any thread.

    The counts of a process stay in the sums after it has ended, so that no counter goes backwards; its gauges do
    not.
    """

    def __init__(self, base: CollectorRegistry) -> None:
        super().__init__()
        self._base = base
        self._lock = threading.Lock()
        self._live: dict[Hashable, list[Row]] = {}
        self._gone: dict[str, dict[Key, float]] = {}

    def update(self, process: Hashable, series: list[Row]) -> None:
        """Updates a process's counts, as `write_series` encodes them."""
        with self._lock:
            self._live[process] = series

    def ended(self, process: Hashable) -> None:
        """Records that a process has ended."""
        with self._lock:
            for family, is_gauge, name, labels, value, _ in self._live.pop(process, ()):
                if not is_gauge:
                    sums = self._gone.setdefault(family, {})
                    key = _key(name, labels)
                    sums[key] = sums.get(key, 0.0) + value

    def collect(self) -> Iterator[Metric]:
        """Returns all metrics, summed."""
        others, exemplars = self._others()
        for family in self._base.collect():
            added = others.get(family.name)
            yield family if added is None else _sum(family, added, exemplars)

    def restricted_registry(self, names: Iterable[str]) -> _Restricted:
        """Returns the samples of these names alone, as a scrape with `name[]` requests."""
        return _Restricted(self, frozenset(names))

    def _others(self) -> tuple[dict[str, dict[Key, float]], dict[Key, Exemplar]]:
        exemplars: dict[Key, Exemplar] = {}
        with self._lock:
            others = {family: dict(sums) for family, sums in self._gone.items()}
            for series in self._live.values():
                for family, _, name, labels, value, exemplar in series:
                    sums = others.setdefault(family, {})
                    key = _key(name, labels)
                    sums[key] = sums.get(key, 0.0) + value
                    if exemplar is not None:
                        exemplars[key] = _newer(Exemplar(*exemplar), exemplars.get(key))
        return others, exemplars


class _Restricted(RestrictedRegistry):
    def __init__(self, registry: MergedRegistry, names: frozenset[str]) -> None:
        super().__init__(names, registry)
        self._merged = registry
        self._wanted = names

    def collect(self) -> Iterator[Metric]:
        for family in self._merged.collect():
            kept = [sample for sample in family.samples if sample.name in self._wanted]
            if kept:
                restricted = Metric(family.name, family.documentation, family.type)
                restricted.samples = kept
                yield restricted


def _key(name: str, labels: dict[str, str]) -> Key:
    return name, tuple(sorted(labels.items()))


def _newer(one: Exemplar, other: Exemplar | None) -> Exemplar:
    return one if other is None or float(one.timestamp or 0) >= float(other.timestamp or 0) else other


def _sum(family: Metric, added: dict[Key, float], exemplars: dict[Key, Exemplar]) -> Metric:
    # In order of arrival: the buckets of one histogram belong together, rising.
    sums = {
        _key(sample.name, sample.labels): (sample.labels, sample.value, sample.exemplar)
        for sample in family.samples
    }
    for key, value in added.items():
        labels, own, exemplar = sums.get(key, (dict(key[1]), 0.0, None))
        theirs = exemplars.get(key)
        sums[key] = labels, own + value, exemplar if theirs is None else _newer(theirs, exemplar)
    summed = Metric(family.name, family.documentation, family.type)
    for (name, _), (labels, value, exemplar) in sums.items():
        summed.add_sample(name, labels, value, exemplar=exemplar)
    return summed
