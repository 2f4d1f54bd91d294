"""Writes what the core and the transport tell into the metrics.

The library looks a labelled series up by name at every event, which takes longer than counting it. So the series
that every batch and every call writes to are looked up once. And batches are counted some at once, at the latest
when the metrics are read: that takes 3.5 us for each, one by one it took 8 us.
"""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ferserve_server.domain.ports import CutReason
from ferserve_server.domain.servable import ServableState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_server.domain.face import Scores
    from ferserve_server.domain.ports import FoundFaces
    from ferserve_server.domain.servable import Precision, ServableId
    from ferserve_server.observability.metrics import Metrics


_COUNTED_AT_ONCE: Final = 64
"""Batches that may be uncounted. The event loop counts so many in 0.2 ms."""


class _ExecutedBatch(NamedTuple):
    cut_reason: CutReason
    padded_count: int
    oldest_queue_s: float
    inference_s: float
    scores: Scores


class _VersionSeries:
    """The series of one version, and its batches that are not counted yet."""

    def __init__(self, metrics: Metrics, servable: ServableId, classes: tuple[str, ...]) -> None:
        version = (servable.name, str(servable.version))
        self.faces = metrics.faces.labels(*version)
        self.padding_faces = metrics.padding_faces.labels(*version)
        self.batches = {reason: metrics.batches.labels(*version, reason.value) for reason in CutReason}
        self.batch_failures = metrics.batch_failures.labels(*version)
        self.confidence_sum = metrics.confidence_sum.labels(*version)
        self.predictions = [metrics.predictions.labels(*version, name) for name in classes]
        self.batch_size = metrics.batch_size.labels(servable.name)
        self.queue_seconds = metrics.queue_seconds.labels(servable.name)
        self.inference_seconds = metrics.inference_seconds.labels(servable.name)
        self.uncounted: deque[_ExecutedBatch] = deque()

    def count(self) -> None:
        """Counts what is not counted yet. Any thread; two at once share the work."""
        batches: list[_ExecutedBatch] = []
        with contextlib.suppress(IndexError):
            while True:
                batches.append(self.uncounted.popleft())
        if not batches:
            return
        scores = np.concatenate([batch.scores for batch in batches])
        self.faces.inc(len(scores))
        self.padding_faces.inc(sum(batch.padded_count for batch in batches) - len(scores))
        for reason, batch_count in Counter(batch.cut_reason for batch in batches).items():
            self.batches[reason].inc(batch_count)
        for batch in batches:
            self.batch_size.observe(len(batch.scores))
            self.queue_seconds.observe(batch.oldest_queue_s)
            self.inference_seconds.observe(batch.inference_s)
        confidences = scores.max(axis=1)
        self.confidence_sum.inc(float(confidences[np.isfinite(confidences)].sum()))
        for index, face_count in enumerate(np.bincount(scores.argmax(axis=1)).tolist()):
            if face_count:
                self.predictions[index].inc(face_count)


class InferenceMetrics:
    """Implements `domain.ports.InferenceObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._series: dict[ServableId, _VersionSeries] = {}
        metrics.before_reading(self._count)

    def engine_started(self, servable: ServableId, classes: tuple[str, ...], precision: Precision) -> None:
        """Makes the series of a version, before its first batch; they start at 0."""
        self._metrics.show_precision(servable, precision)
        self._series[servable] = _VersionSeries(self._metrics, servable, classes)

    def batch_executed(
        self,
        servable: ServableId,
        *,
        cut_reason: CutReason,
        face_count: int,  # noqa: ARG002 - the scores tell
        padded_count: int,
        oldest_queue_s: float,
        inference_s: float,
        scores: Scores,
    ) -> None:
        """Counts a batch; see `domain.ports.InferenceObserver`."""
        series = self._series[servable]
        series.uncounted.append(_ExecutedBatch(cut_reason, padded_count, oldest_queue_s, inference_s, scores))
        if len(series.uncounted) >= _COUNTED_AT_ONCE:
            series.count()

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:  # noqa: ARG002 - part of the port
        """Counts an execution that raised."""
        self._series[servable].batch_failures.inc()

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
            series = self._series.pop(servable, None)
            if series:
                series.count()

    def _count(self) -> None:
        for series in list(self._series.values()):
            series.count()


class RoutingMetrics:
    """Implements `domain.ports.RoutingObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._aliases: dict[str, set[str]] = {}

    def routed(self, model: str, aliases: Mapping[str, int], serving_version: int | None) -> None:
        """Keeps where requests for a model go."""
        for alias in self._aliases.get(model, set()) - set(aliases):
            self._metrics.model_alias.remove(model, alias)
        self._aliases[model] = set(aliases)
        for alias, version in aliases.items():
            self._metrics.model_alias.labels(model, alias).set(version)
        self._metrics.model_serving_version.labels(model).set(serving_version or 0)


class CallMetrics:
    """Implements `domain.ports.CallObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._in_progress = cache(metrics.requests_in_progress.labels)
        self._requests = cache(metrics.requests.labels)
        self._seconds = cache(metrics.request_seconds.labels)
        self._stream_answers = cache(metrics.stream_answers.labels)

    def call_started(self, method: str) -> None:
        """Counts an open call."""
        self._in_progress(method).inc()

    def call_ended(self, method: str, code: str, seconds: float | None) -> None:
        """Counts a call that ended."""
        self._in_progress(method).dec()
        self._requests(method, code).inc()
        if seconds is not None:
            self._seconds(method).observe(seconds)

    def stream_answered(self, method: str, outcome: str) -> None:
        """Counts an answer on a stream."""
        self._stream_answers(method, outcome).inc()


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
