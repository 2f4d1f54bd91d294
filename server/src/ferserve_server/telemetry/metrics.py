"""Exports the declared metrics by prometheus_client."""

from __future__ import annotations

import bisect
import time
from typing import TYPE_CHECKING

import numpy as np
import prometheus_client
from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from ferserve_server.domain.metrics import METRICS, PREFIX, Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import Metric as Family

    from ferserve_server.domain.metrics import Metric


class CountingHistogram(prometheus_client.Histogram):
    """Extends a histogram to count many observations at once."""

    def show_exemplar(self, amount: float, trace_id: str) -> None:
        """Makes a trace the example of the bucket of `amount`, which is counted elsewhere. Thread-safe."""
        bucket = bisect.bisect_left(self._upper_bounds, amount)
        self._buckets[bucket].set_exemplar(Exemplar({"trace_id": trace_id}, amount, time.time()))

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Counts each of `amounts` as `observe` does, at a tenth of its cost where there are a hundred."""
        self._sum.inc(sum(amounts))
        # The first bound that is not below each, as `observe` finds it one by one.
        for bucket, count in enumerate(np.bincount(np.searchsorted(self._upper_bounds, amounts)).tolist()):
            if count:
                self._buckets[bucket].inc(count)


class _BeforeReading(Collector):
    """Exports nothing; flushes deferred values before a scrape."""

    def __init__(self) -> None:
        self.writers: list[Callable[[], None]] = []

    def collect(self) -> Iterable[Family]:
        for write in self.writers:
            write()
        return ()


class Metrics:
    """Holds the series of all metrics, on a registry. Thread-safety: any thread."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # A second series for every counter and histogram, with its creation time: unused here.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has a few untyped functions
        self.registry = registry if registry is not None else CollectorRegistry()
        self._readers = _BeforeReading()
        self.registry.register(self._readers)  # before the others, so it is collected before them
        self._counters: dict[Metric, prometheus_client.Counter] = {}
        self._gauges: dict[Metric, prometheus_client.Gauge] = {}
        self._histograms: dict[Metric, CountingHistogram] = {}
        for metric in METRICS:
            self._declare(metric)
        ProcessCollector(registry=self.registry)

    def _declare(self, metric: Metric) -> None:
        name, registry = PREFIX + metric.name, self.registry
        match metric:
            case Counter(initial=initial):
                family = prometheus_client.Counter(name, metric.text, metric.labels, registry=registry)
                self._counters[metric] = family
                for labels in initial:
                    family.labels(*labels)
            case Gauge():
                self._gauges[metric] = prometheus_client.Gauge(name, metric.text, metric.labels, registry=registry)
            case Histogram(buckets=buckets):
                self._histograms[metric] = CountingHistogram(
                    name, metric.text, metric.labels, buckets=buckets, registry=registry
                )

    def counter(self, metric: Counter, labels: tuple[str, ...]) -> prometheus_client.Counter:
        """Returns the series of a counter with these label values; creates it if it is new."""
        family = self._counters[metric]
        return family.labels(*labels) if labels else family

    def gauge(self, metric: Gauge, labels: tuple[str, ...]) -> prometheus_client.Gauge:
        """Returns the series of a gauge with these label values; creates it if it is new."""
        family = self._gauges[metric]
        return family.labels(*labels) if labels else family

    def histogram(self, metric: Histogram, labels: tuple[str, ...]) -> CountingHistogram:
        """Returns the series of a histogram with these label values; creates it if it is new."""
        family = self._histograms[metric]
        return family.labels(*labels) if labels else family

    def remove(self, metric: Gauge, labels: tuple[str, ...]) -> None:
        """Removes a series of a gauge.

        Raises:
            KeyError: There is none.
        """
        self._gauges[metric].remove(*labels)

    def before_reading(self, write: Callable[[], None]) -> None:
        """Calls `write` whenever the metrics are about to be read, on the thread that reads them."""
        self._readers.writers.append(write)
