"""Writes what the core and the transport tell into the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.servable import ServableState

if TYPE_CHECKING:
    from ferserve_server.domain.face import Scores
    from ferserve_server.domain.ports import CutReason, FoundFaces
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.observability.metrics import Metrics


class InferenceMetrics:
    """Writes what the batcher and the repository tell into the metrics. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._labels: dict[ServableId, tuple[str, ...]] = {}

    def engine_started(self, servable: ServableId, labels: tuple[str, ...]) -> None:
        """Learns the names of a version's classes, before its first batch."""
        self._labels[servable] = labels

    def batch_executed(
        self,
        servable: ServableId,
        *,
        cut_reason: CutReason,
        face_count: int,
        padded_count: int,
        oldest_queue_s: float,
        inference_s: float,
        scores: Scores,
    ) -> None:
        """Counts a batch; see `domain.ports.InferenceObserver`."""
        model, version = servable.name, str(servable.version)
        metrics = self._metrics
        metrics.faces.labels(model, version).inc(face_count)
        metrics.batches.labels(model, version, cut_reason.value).inc()
        metrics.batch_size.labels(model).observe(face_count)
        metrics.queue_seconds.labels(model).observe(oldest_queue_s)
        metrics.inference_seconds.labels(model).observe(inference_s)
        if padded_count > face_count:
            metrics.padding_faces.labels(model, version).inc(padded_count - face_count)
        confidence = float(scores.max(axis=1).sum())
        if np.isfinite(confidence):
            metrics.confidence_sum.labels(model, version).inc(confidence)
        labels = self._labels[servable]
        counts = np.bincount(scores.argmax(axis=1), minlength=len(labels))
        for index in np.flatnonzero(counts):
            metrics.predictions.labels(model, version, labels[index]).inc(int(counts[index]))

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:  # noqa: ARG002 - part of the port
        """Counts an execution that raised."""
        self._metrics.batch_failures.labels(servable.name, str(servable.version)).inc()

    def queue_changed(self, servable: ServableId, *, depth_faces: int) -> None:
        """Keeps the depth of the queue."""
        self._metrics.queue_depth.labels(servable.name, str(servable.version)).set(depth_faces)

    def rejected(self, reason: str) -> None:
        """Counts work that was not taken."""
        self._metrics.rejections.labels(reason).inc()

    def cancelled(self, stage: str) -> None:
        """Counts a caller who left."""
        self._metrics.cancellations.labels(stage).inc()

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """Keeps the state of a version."""
        for each in ServableState:
            gauge = self._metrics.servable_state.labels(servable.name, str(servable.version), each.value)
            gauge.set(1 if each is state else 0)
        if state is ServableState.UNLOADED:
            self._metrics.forget_engine(servable)
            self._labels.pop(servable, None)


class CallMetrics:
    """Implements `domain.ports.CallObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def call_started(self, method: str) -> None:
        """Counts an open call."""
        self._metrics.requests_in_progress.labels(method).inc()

    def call_ended(self, method: str, code: str, seconds: float | None) -> None:
        """Counts a call that ended."""
        self._metrics.requests_in_progress.labels(method).dec()
        self._metrics.requests.labels(method, code).inc()
        if seconds is not None:
            self._metrics.request_seconds.labels(method).observe(seconds)

    def stream_answered(self, method: str, outcome: str) -> None:
        """Counts an answer on a stream."""
        self._metrics.stream_answers.labels(method, outcome).inc()


class VisionMetrics:
    """Implements `vision.pool.VisionObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def faces_found(self, found: FoundFaces) -> None:
        """Counts a picture that was read."""
        self._metrics.decode_seconds.observe(found.decode_s)
        if found.detect_s > 0:  # a whole picture taken as one face is not searched
            self._metrics.detect_seconds.observe(found.detect_s)
        self._metrics.detected_faces.observe(len(found.boxes) + found.omitted_face_count)

    def image_failed(self, reason: str) -> None:
        """Counts a picture that could not be read."""
        self._metrics.image_failures.labels(reason).inc()
