"""Declares every exported metric once.

Mean batch size is ferserve_faces_total / ferserve_batches_total; mean confidence is
ferserve_confidence_sum_total / ferserve_faces_total. No metric carries a client or a stream as a label.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from ferserve_server.domain.servable import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from prometheus_client import Metric

    from ferserve_server.domain.servable import ServableId

DURATION_BUCKETS_S: Final = (
    50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1, 2, 5, 10,
)  # fmt: skip
"""Upper bounds of duration buckets, in seconds, because the library's first (5 ms) exceeds most durations here."""

FACE_COUNT_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Upper bounds of batch size buckets, in faces."""

_VERSION_LABELS: Final = ("model", "version")


class CountingHistogram(Histogram):
    """Extends a histogram to count many observations at once."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Counts each of `amounts` as `observe` does, at a tenth of its cost where there are a hundred."""
        self._sum.inc(sum(amounts))
        # The first bound that is not below each, as `observe` finds it one by one.
        for bucket, count in enumerate(np.bincount(np.searchsorted(self._upper_bounds, amounts)).tolist()):
            if count:
                self._buckets[bucket].inc(count)


class _BeforeReading(Collector):
    """Exports nothing; flushes deferred counts before a scrape."""

    def __init__(self) -> None:
        self.writers: list[Callable[[], None]] = []

    def collect(self) -> Iterable[Metric]:
        self.write()
        return ()

    def write(self) -> None:
        for write in self.writers:
            write()


def _counting(counter: Counter, read: Callable[[], int]) -> Callable[[], None]:
    """Makes a function that raises a counter to a count kept elsewhere."""
    lock, counted = threading.Lock(), 0

    def write() -> None:
        nonlocal counted
        with lock:
            now = read()
            counter.inc(now - counted)
            counted = now

    return write


class Metrics:
    """Holds the server's metrics, on a registry of their own. Thread-safety: any thread."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # A second series for every counter and histogram, with its creation time: unused here.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has a few untyped functions
        self.registry = registry if registry is not None else CollectorRegistry()
        self._readers = _BeforeReading()
        self.registry.register(self._readers)  # before the others, so it is collected before them
        self._declare_requests()
        self._declare_batching()
        self._declare_vision()
        self._declare_models()
        self._declare_canaries()
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"ferserve_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"ferserve_{name}", text, labels, registry=self.registry)

    def _durations(self, name: str, text: str, labels: tuple[str, ...] = ()) -> CountingHistogram:
        return CountingHistogram(
            f"ferserve_{name}", text, labels, buckets=DURATION_BUCKETS_S, registry=self.registry
        )

    def _declare_requests(self) -> None:
        self.requests = self._counter(
            "requests_total", "Calls that ended, by RPC and gRPC status code.", ("method", "code")
        )
        self.request_seconds = self._durations(
            "request_seconds", "Time from a unary call's arrival to its answer.", ("method",)
        )
        self.requests_in_progress = self._gauge(
            "requests_in_progress", "Calls and streams that are open.", ("method",)
        )
        self.rejections = self._counter("rejections_total", "Work that was not taken, by reason.", ("reason",))
        self.cancellations = self._counter(
            "cancellations_total", "Requests whose caller left, by stage: queued or running.", ("stage",)
        )
        self.stream_answers = self._counter(
            "stream_answers_total",
            "Answers on streams, by RPC and outcome: result, unchanged, dropped or failed.",
            ("method", "outcome"),
        )
        self.connections = self._gauge("connections", "Open connections of a port, http or metrics.", ("port",))
        self.connections_rejected = self._counter(
            "connections_rejected_total", "Connections beyond a port's limits, by port.", ("port",)
        )
        self.stream_frame_age_seconds = self._durations(
            "stream_frame_age_seconds",
            "Time from a frame's arrival to its answer, by outcome: result, unchanged, dropped or failed.",
            ("outcome",),
        )
        self.stream_frames_dropped = self._counter(
            "stream_frames_dropped_total",
            "Frames that were skipped, by reason: newer for a newer frame, too_old beyond max_age_ms.",
            ("reason",),
        )
        for reason in ("newer", "too_old"):
            self.stream_frames_dropped.labels(reason)  # rates need the 0 before the first drop
        self.worker_processes = self._gauge(
            "worker_processes", "Processes that take calls in beside the one that owns the models."
        )
        self.worker_restarts = self._counter("worker_restarts_total", "Such processes that ended unasked.")

    def _declare_batching(self) -> None:
        self.faces = self._counter("faces_total", "Faces that were classified.", _VERSION_LABELS)
        self.batches = self._counter(
            "batches_total",
            "Batches that were executed, by why they were cut.",
            (*_VERSION_LABELS, "dispatch_reason"),
        )
        self.batch_failures = self._counter(
            "batch_failures_total", "Executions that raised or hung.", _VERSION_LABELS
        )
        self.padding_faces = self._counter(
            "padding_faces_total", "Rows of padding that were executed.", _VERSION_LABELS
        )
        self.batch_size = CountingHistogram(
            "ferserve_batch_size_faces",
            "Faces in a batch, padding not counted.",
            ("model",),
            buckets=FACE_COUNT_BUCKETS,
            registry=self.registry,
        )
        self.queue_seconds = self._durations(
            "queue_seconds", "Wait of a batch's oldest face for the batch.", ("model",)
        )
        self.inference_seconds = self._durations("inference_seconds", "Run of a batch.", ("model",))
        self.queue_depth = self._gauge("queue_depth_faces", "Faces that wait.", _VERSION_LABELS)
        self.queue_oldest_age = self._gauge(
            "queue_oldest_age_seconds", "Age of the oldest face that waits.", _VERSION_LABELS
        )

    def _declare_vision(self) -> None:
        self.decode_seconds = self._durations("decode_seconds", "Decoding of a picture.")
        self.detect_seconds = self._durations("detect_seconds", "Search for the faces of a picture.")
        self.detected_faces = Histogram(
            "ferserve_detected_faces",
            "Faces found in a picture.",
            buckets=(0, 1, 2, 3, 5, 10, 20, 50),
            registry=self.registry,
        )
        self.image_failures = self._counter(
            "image_failures_total", "Pictures without an analysis, by reason.", ("reason",)
        )

    def _declare_models(self) -> None:
        self.predictions = self._counter(
            "predictions_total", "Most probable classes, for watching drift.", (*_VERSION_LABELS, "emotion")
        )
        self.confidence_sum = self._counter(
            "confidence_sum_total", "Sum of the most probable class's probability.", _VERSION_LABELS
        )
        self.servable_state = self._gauge(
            "servable_state", "1 for the state that a version is in, else 0.", (*_VERSION_LABELS, "state")
        )
        self.engine_healthy = self._gauge(
            "engine_healthy", "1 while the engine of a version answers, else 0.", _VERSION_LABELS
        )
        self.engine_restarts = self._counter(
            "engine_restarts_total", "Engine processes that were lost and brought back.", _VERSION_LABELS
        )
        self.engine_resident = self._gauge(
            "engine_resident_bytes", "Memory that the engine process of a version holds.", _VERSION_LABELS
        )
        self.model_alias = self._gauge(
            "model_alias", "The version that an alias of a model names.", ("model", "alias")
        )
        self.model_serving_version = self._gauge(
            "model_serving_version", "The version that requests get which name none; 0: none.", ("model",)
        )
        self.servable_precision = self._gauge(
            "servable_precision", "1; the label tells what a version computes in.", (*_VERSION_LABELS, "precision")
        )
        self.build_info = self._gauge("build_info", "1; the labels tell what runs.", ("version",))
        self.log_lines_dropped = self._counter(
            "log_lines_dropped_total",
            "Log lines that were lost: the reader was slow or gone, the disk full, or a library wrote too many.",
        )
        self.background_failures = self._counter(
            "background_failures_total",
            "Exceptions that ended a background task, which was restarted.",
            ("task",),
        )

    def _declare_canaries(self) -> None:
        self.canary_share = self._gauge(
            "canary_share",
            "Share of the requests without a version that a canary gets; 0: none is on trial.",
            ("model",),
        )
        self.canary_requests = self._counter(
            "canary_requests_total",
            "Requests without a version during trials, by version and outcome: answered or failed.",
            (*_VERSION_LABELS, "outcome"),
        )
        self.canary_verdicts = self._counter(
            "canary_verdicts_total",
            "Verdicts on canaries when they changed: wait, promote or roll_back, and why.",
            ("model", "result", "reason"),
        )
        self.canary_shadow_faces = self._counter(
            "canary_shadow_faces_total",
            "Faces copied to a shadow, by outcome: agreed, differed or dropped.",
            (*_VERSION_LABELS, "outcome"),
        )
        self.canary_shadow_difference = self._gauge(
            "canary_shadow_difference",
            "Difference of a shadow's probabilities from those answered, mean and largest.",
            (*_VERSION_LABELS, "statistic"),
        )

    def watch_connections(
        self, port: str, open_count: Callable[[], int], rejected_count: Callable[[], int]
    ) -> None:
        """Reads the connections of a port at every scrape. The callables must be thread-safe."""
        self.connections.labels(port).set_function(open_count)
        self._readers.writers.append(_counting(self.connections_rejected.labels(port), rejected_count))

    def count_dropped_log_lines(self, dropped_count: Callable[[], int]) -> None:
        """Exports the growing count `dropped_count` whenever the metrics are read."""
        counted = 0

        def count() -> None:
            nonlocal counted
            now = dropped_count()
            self.log_lines_dropped.inc(now - counted)
            counted = now

        self.before_reading(count)

    def background_failed(self, task: str) -> None:
        """Counts an exception that ended a background task. Any thread."""
        self.background_failures.labels(task).inc()

    def write_held_back(self) -> None:
        """Flushes deferred counts; reading the registry does so by itself. Any thread."""
        self._readers.write()

    def before_reading(self, write: Callable[[], None]) -> None:
        """Calls `write` whenever the metrics are about to be read, on the thread that reads them."""
        self._readers.writers.append(write)

    def watch_engine(
        self,
        servable: ServableId,
        *,
        depth_faces: Callable[[], int],
        oldest_age_s: Callable[[], float],
        healthy: Callable[[], bool],
    ) -> None:
        """Reads the state of a version's engine at every scrape. The callables must be thread-safe."""
        labels = (servable.name, str(servable.version))
        self.queue_depth.labels(*labels).set_function(depth_faces)
        self.queue_oldest_age.labels(*labels).set_function(oldest_age_s)
        self.engine_healthy.labels(*labels).set_function(lambda: float(healthy()))

    def watch_engine_process(self, servable: ServableId, resident_bytes: Callable[[], int]) -> Callable[[], None]:
        """Exports the memory of a version's own process, and returns the counter of its restarts. Any thread."""
        labels = (servable.name, str(servable.version))
        self.engine_resident.labels(*labels).set_function(lambda: float(resident_bytes()))
        return self.engine_restarts.labels(*labels).inc

    def show_precision(self, servable: ServableId, precision: Precision | None) -> None:
        """Exports the precision of a version; None after it was unloaded."""
        labels = (servable.name, str(servable.version))
        for each in Precision:
            with contextlib.suppress(KeyError):
                self.servable_precision.remove(*labels, each.value)
        if precision is not None:
            self.servable_precision.labels(*labels, precision.value).set(1)

    def forget_engine(self, servable: ServableId) -> None:
        """Drops what `watch_engine` set up, when a version is unloaded."""
        labels = (servable.name, str(servable.version))
        for gauge in (self.queue_oldest_age, self.engine_healthy, self.queue_depth, self.engine_resident):
            with contextlib.suppress(KeyError):
                gauge.remove(*labels)
        self.show_precision(servable, None)
