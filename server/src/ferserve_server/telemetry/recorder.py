"""Records metrics, several values at once.

The library looks a labelled series up by name at every event and takes a lock for every number, which takes longer
than counting. So series are looked up once, and values are collected and recorded several at once, at the latest
when the metrics are read. With caches warm a call of one face takes 3 us for its metrics in this way.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter as CountOf
from collections import defaultdict, deque
from functools import cache
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np

from ferserve_server.domain import metrics as names
from ferserve_server.domain.ports import DispatchReason
from ferserve_server.domain.servable import Precision, ServableState
from ferserve_server.domain.trace import sampled_spans
from ferserve_server.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

    from ferserve_server.domain.metrics import Counter, Gauge, Histogram
    from ferserve_server.domain.ports import ExecutedBatch, InferenceObserver
    from ferserve_server.domain.servable import ServableId

_RECORDED_AT_ONCE: Final = 128
"""Maximum number of collected values, because the event loop records that many batches in 0.15 ms."""

Value = TypeVar("Value")


class _Collected(Generic[Value]):
    """Collects values of one kind, which `record` receives several at once. Thread-safety: any thread."""

    def __init__(self, record: Callable[[list[Value]], None]) -> None:
        self._values: deque[Value] = deque()
        self._record = record

    def add(self, value: Value) -> None:
        """Adds a value."""
        self._values.append(value)
        if len(self._values) >= _RECORDED_AT_ONCE:
            self.record_now()

    def record_now(self) -> None:
        """Records the values not recorded yet; two threads at once share the work."""
        values: list[Value] = []
        with contextlib.suppress(IndexError):
            while True:
                values.append(self._values.popleft())
        if values:
            self._record(values)


class PrometheusRecorder:
    """Implements `domain.metrics.MetricsRecorder` by prometheus_client.

    Thread-safety: any thread, but the events of `domain.ports.InferenceObserver` are for the event loop.

    Attributes:
        registry: What a scrape reads.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._metrics = Metrics(registry)
        self.registry = self._metrics.registry
        self._counter = cache(self._metrics.counter)
        self._histogram = cache(self._metrics.histogram)
        self._classes: dict[ServableId, tuple[str, ...]] = {}
        self._aliases: dict[str, set[str]] = {}
        self._counts: _Collected[tuple[Counter, tuple[str, ...], float]] = _Collected(self._record_counts)
        self._changes: _Collected[tuple[Gauge, tuple[str, ...], float]] = _Collected(self._record_changes)
        self._values: _Collected[tuple[Histogram, tuple[str, ...], float]] = _Collected(self._record_values)
        self._batches: _Collected[ExecutedBatch] = _Collected(self._record_batches)
        for collected in (self._batches, self._counts, self._changes, self._values):
            self._metrics.before_reading(collected.record_now)

    # Values

    def count(self, counter: Counter, *labels: str, amount: float = 1.0) -> None:
        """Raises a counter; see `MetricsRecorder`, also for the following ones."""
        self._counts.add((counter, labels, amount))

    def observe(self, histogram: Histogram, value: float, *labels: str) -> None:  # noqa: D102 - see `count`
        self._values.add((histogram, labels, value))
        if spans := sampled_spans.get():
            self._histogram(histogram, labels).show_exemplar(value, spans[0].trace_id_hex)

    def add(self, gauge: Gauge, amount: float, *labels: str) -> None:  # noqa: D102 - see `count`
        self._changes.add((gauge, labels, amount))

    def set(self, gauge: Gauge, value: float, *labels: str) -> None:  # noqa: D102 - see `count`
        self._metrics.gauge(gauge, labels).set(value)

    def read(self, gauge: Gauge, read: Callable[[], float], *labels: str) -> None:  # noqa: D102 - see `count`
        self._metrics.gauge(gauge, labels).set_function(read)

    def remove(self, gauge: Gauge, *labels: str) -> None:  # noqa: D102 - see `count`
        with contextlib.suppress(KeyError):
            self._metrics.remove(gauge, labels)

    def follow(self, counter: Counter, read_count: Callable[[], int], *labels: str) -> None:
        """Raises a counter to a growing count kept elsewhere, at every scrape. `read_count` is thread-safe."""
        series, lock, counted = self._counter(counter, labels), threading.Lock(), 0

        def write() -> None:
            nonlocal counted
            with lock:
                now = read_count()
                series.inc(now - counted)
                counted = now

        self._metrics.before_reading(write)

    def background_failed(self, task: str) -> None:
        """Counts an exception that ended a background task."""
        self.count(names.BACKGROUND_FAILURES, task)

    # Inference

    def batch_executed(self, batch: ExecutedBatch) -> None:
        """Records a batch; see `domain.ports.InferenceObserver`."""
        self._batches.add(batch)
        if batch.span is not None:
            model, trace_id = (batch.servable.name,), batch.span.trace_id_hex
            self._histogram(names.QUEUE_SECONDS, model).show_exemplar(batch.oldest_queue_s, trace_id)
            self._histogram(names.INFERENCE_SECONDS, model).show_exemplar(batch.inference_s, trace_id)

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:  # noqa: ARG002 - part of the port
        """Counts an execution that raised."""
        self.count(names.BATCH_FAILURES, *servable.labels)

    def rejected(self, reason: str) -> None:
        """Counts a rejected request."""
        self.count(names.REJECTIONS, reason)

    def cancelled(self, stage: str) -> None:
        """Counts a cancelled request."""
        self.count(names.CANCELLATIONS, stage)

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """Records the state of a version."""
        for each in ServableState:
            self.set(names.SERVABLE_STATE, 1 if each is state else 0, *servable.labels, each.value)
        if state is ServableState.UNLOADED:
            self._batches.record_now()
            self._classes.pop(servable, None)
            self.forget_engine(servable)

    def routed(self, model: str, aliases: Mapping[str, int], serving_version: int | None) -> None:
        """Records the routes of a model's requests."""
        for alias in self._aliases.get(model, set()) - set(aliases):
            self.remove(names.MODEL_ALIAS, model, alias)
        self._aliases[model] = set(aliases)
        for alias, version in aliases.items():
            self.set(names.MODEL_ALIAS, version, model, alias)
        self.set(names.MODEL_SERVING_VERSION, serving_version or 0, model)

    # Versions

    def engine_started(
        self, servable: ServableId, classes: tuple[str, ...], precision: Precision | None = None
    ) -> None:
        """Creates the series of a version before its first batch, so that rates begin at 0.

        Args:
            servable: The version.
            classes: Names of its classes, in the order of its scores.
            precision: Its precision; None if the server that runs it exports that.
        """
        if precision is None and self._classes.get(servable) == classes:
            return
        labels = servable.labels
        self._classes[servable] = classes
        for counter in (names.FACES, names.PADDING_FACES, names.BATCH_FAILURES, names.CONFIDENCE_SUM):
            self._counter(counter, labels)
        for reason in DispatchReason:
            self._counter(names.BATCHES, (*labels, reason.value))
        for name in classes:
            self._counter(names.PREDICTIONS, (*labels, name))
        self._show_precision(servable, precision)

    def watch_engine(
        self,
        servable: ServableId,
        *,
        depth_faces: Callable[[], int],
        oldest_age_s: Callable[[], float],
        healthy: Callable[[], bool],
    ) -> None:
        """Reads the state of a version's engine at every scrape. The callables must be thread-safe."""
        labels = servable.labels
        self.read(names.QUEUE_DEPTH_FACES, depth_faces, *labels)
        self.read(names.QUEUE_OLDEST_AGE_SECONDS, oldest_age_s, *labels)
        self.read(names.ENGINE_HEALTHY, lambda: float(healthy()), *labels)

    def watch_engine_process(self, servable: ServableId, resident_bytes: Callable[[], int]) -> Callable[[], None]:
        """Exports the memory of a version's own process, and returns the counter of its restarts."""
        labels = servable.labels
        self.read(names.ENGINE_RESIDENT_BYTES, lambda: float(resident_bytes()), *labels)
        restarts = self._counter(names.ENGINE_RESTARTS, labels)
        return restarts.inc

    def forget_engine(self, servable: ServableId) -> None:
        """Removes what describes the engine of a version that was unloaded."""
        for gauge in (
            names.QUEUE_OLDEST_AGE_SECONDS,
            names.ENGINE_HEALTHY,
            names.QUEUE_DEPTH_FACES,
            names.ENGINE_RESIDENT_BYTES,
        ):
            self.remove(gauge, *servable.labels)
        self._show_precision(servable, None)

    def _show_precision(self, servable: ServableId, precision: Precision | None) -> None:
        for each in Precision:
            self.remove(names.SERVABLE_PRECISION, *servable.labels, each.value)
        if precision is not None:
            self.set(names.SERVABLE_PRECISION, 1, *servable.labels, precision.value)

    # Recording several at once

    def _record_counts(self, counts: list[tuple[Counter, tuple[str, ...], float]]) -> None:
        sums: defaultdict[tuple[Counter, tuple[str, ...]], float] = defaultdict(float)
        for counter, labels, amount in counts:
            sums[counter, labels] += amount
        for (counter, labels), amount in sums.items():
            self._counter(counter, labels).inc(amount)

    def _record_changes(self, changes: list[tuple[Gauge, tuple[str, ...], float]]) -> None:
        sums: defaultdict[tuple[Gauge, tuple[str, ...]], float] = defaultdict(float)
        for gauge, labels, amount in changes:
            sums[gauge, labels] += amount
        for (gauge, labels), amount in sums.items():
            self._metrics.gauge(gauge, labels).inc(amount)

    def _record_values(self, values: list[tuple[Histogram, tuple[str, ...], float]]) -> None:
        found: defaultdict[tuple[Histogram, tuple[str, ...]], list[float]] = defaultdict(list)
        for histogram, labels, value in values:
            found[histogram, labels].append(value)
        for (histogram, labels), amounts in found.items():
            self._histogram(histogram, labels).observe_all(amounts)

    def _record_batches(self, batches: list[ExecutedBatch]) -> None:
        by_version: defaultdict[ServableId, list[ExecutedBatch]] = defaultdict(list)
        for batch in batches:
            by_version[batch.servable].append(batch)
        for servable, own in by_version.items():
            self._record_batches_of(servable, self._classes[servable], own)

    def _record_batches_of(
        self, servable: ServableId, classes: tuple[str, ...], batches: list[ExecutedBatch]
    ) -> None:
        labels, model = servable.labels, (servable.name,)
        scores = np.concatenate(
            [batch.scores[:, : len(classes)] for batch in batches]
        )  # without that of non-faces
        self._counter(names.FACES, labels).inc(len(scores))
        padded_count = sum(batch.padded_count for batch in batches)
        self._counter(names.PADDING_FACES, labels).inc(padded_count - len(scores))
        for reason, batch_count in CountOf(batch.dispatch_reason for batch in batches).items():
            self._counter(names.BATCHES, (*labels, reason.value)).inc(batch_count)
        self._histogram(names.BATCH_SIZE_FACES, model).observe_all([batch.face_count for batch in batches])
        self._histogram(names.QUEUE_SECONDS, model).observe_all([batch.oldest_queue_s for batch in batches])
        self._histogram(names.INFERENCE_SECONDS, model).observe_all([batch.inference_s for batch in batches])
        confidences = scores.max(axis=1)
        self._counter(names.CONFIDENCE_SUM, labels).inc(float(confidences[np.isfinite(confidences)].sum()))
        for index, face_count in enumerate(np.bincount(scores.argmax(axis=1)).tolist()):
            if face_count:
                self._counter(names.PREDICTIONS, (*labels, classes[index])).inc(face_count)


class InferenceTee:
    """Forwards each event to `observers`, in order. Event loop only.

    Implements `domain.ports.InferenceObserver`.
    """

    def __init__(self, *observers: InferenceObserver) -> None:
        self._observers = observers

    def batch_executed(self, batch: ExecutedBatch) -> None:
        """Forwards a batch; see `domain.ports.InferenceObserver`."""
        for observer in self._observers:
            observer.batch_executed(batch)

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:
        """Forwards an execution that raised."""
        for observer in self._observers:
            observer.batch_failed(servable, face_count=face_count)

    def rejected(self, reason: str) -> None:
        """Forwards rejected work."""
        for observer in self._observers:
            observer.rejected(reason)

    def cancelled(self, stage: str) -> None:
        """Forwards a cancelled request."""
        for observer in self._observers:
            observer.cancelled(stage)

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """Forwards the state of a version."""
        for observer in self._observers:
            observer.state_changed(servable, state)

    def routed(self, model: str, aliases: Mapping[str, int], serving_version: int | None) -> None:
        """Forwards the routes of a model's requests."""
        for observer in self._observers:
            observer.routed(model, aliases, serving_version)
