"""Records events of scheduler, models, canaries and calls in the metrics.

The library looks a labelled series up by name at every event and takes a lock for every number, which takes longer
than counting. So the series that every batch and every call writes to are looked up once, and batches and calls
are counted several at once, at the latest when the metrics are read. With caches warm a call of one face takes 3
us for its metrics in this way.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, defaultdict, deque
from functools import cache
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

import numpy as np

from ferserve_server.domain.ports import DispatchReason
from ferserve_server.domain.servable import ServableState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ferserve_server.domain.canary import ShadowStatistics, Verdict
    from ferserve_server.domain.ports import ExecutedBatch, FoundFaces, InferenceObserver
    from ferserve_server.domain.servable import Precision, ServableId
    from ferserve_server.telemetry.metrics import Metrics


_COUNTED_AT_ONCE: Final = 128
"""Maximum number of uncounted events, because the event loop counts that many batches in 0.15 ms."""

Event = TypeVar("Event")


class _Uncounted(Generic[Event]):
    """Collects events of one kind, which `count` receives several at once.

    Thread-safety: `add` from one thread, `count_now` from any; two at once share the work.
    """

    def __init__(self, count: Callable[[list[Event]], None]) -> None:
        self._events: deque[Event] = deque()
        self._count = count

    def add(self, event: Event) -> None:
        """Adds an event."""
        self._events.append(event)
        if len(self._events) >= _COUNTED_AT_ONCE:
            self.count_now()

    def count_now(self) -> None:
        """Counts the events not counted yet."""
        events: list[Event] = []
        with contextlib.suppress(IndexError):
            while True:
                events.append(self._events.popleft())
        if events:
            self._count(events)


class _VersionSeries:
    """Holds the series of one version."""

    def __init__(self, metrics: Metrics, servable: ServableId, classes: tuple[str, ...]) -> None:
        version = (servable.name, str(servable.version))
        self.faces = metrics.faces.labels(*version)
        self.padding_faces = metrics.padding_faces.labels(*version)
        self.batches = {reason: metrics.batches.labels(*version, reason.value) for reason in DispatchReason}
        self.batch_failures = metrics.batch_failures.labels(*version)
        self.confidence_sum = metrics.confidence_sum.labels(*version)
        self.predictions = [metrics.predictions.labels(*version, name) for name in classes]
        self.batch_size = metrics.batch_size.labels(servable.name)
        self.queue_seconds = metrics.queue_seconds.labels(servable.name)
        self.inference_seconds = metrics.inference_seconds.labels(servable.name)
        self.uncounted: _Uncounted[ExecutedBatch] = _Uncounted(self._count)

    def _count(self, batches: list[ExecutedBatch]) -> None:
        # Without the column for non-faces.
        scores = np.concatenate([batch.scores[:, : len(self.predictions)] for batch in batches])
        self.faces.inc(len(scores))
        self.padding_faces.inc(sum(batch.padded_count for batch in batches) - len(scores))
        for reason, batch_count in Counter(batch.dispatch_reason for batch in batches).items():
            self.batches[reason].inc(batch_count)
        self.batch_size.observe_all([batch.face_count for batch in batches])
        self.queue_seconds.observe_all([batch.oldest_queue_s for batch in batches])
        self.inference_seconds.observe_all([batch.inference_s for batch in batches])
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
        self._rejections = cache(metrics.rejections.labels)
        metrics.before_reading(self._count)

    def engine_started(self, servable: ServableId, classes: tuple[str, ...], precision: Precision) -> None:
        """Creates the series of a version, before its first batch; they start at 0."""
        self._metrics.show_precision(servable, precision)
        self._series[servable] = _VersionSeries(self._metrics, servable, classes)

    def batch_executed(self, batch: ExecutedBatch) -> None:
        """Counts a batch; see `domain.ports.InferenceObserver`."""
        self._series[batch.servable].uncounted.add(batch)

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:  # noqa: ARG002 - part of the port
        """Counts an execution that raised."""
        self._series[servable].batch_failures.inc()

    def rejected(self, reason: str) -> None:
        """Counts rejected work."""
        self._rejections(reason).inc()

    def cancelled(self, stage: str) -> None:
        """Counts a cancelled request."""
        self._metrics.cancellations.labels(stage).inc()

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """Records the state of a version."""
        for each in ServableState:
            gauge = self._metrics.servable_state.labels(servable.name, str(servable.version), each.value)
            gauge.set(1 if each is state else 0)
        if state is ServableState.UNLOADED:
            self._metrics.forget_engine(servable)
            series = self._series.pop(servable, None)
            if series:
                series.uncounted.count_now()

    def _count(self) -> None:
        for series in list(self._series.values()):
            series.uncounted.count_now()


class RoutingMetrics:
    """Implements `domain.ports.RoutingObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._aliases: dict[str, set[str]] = {}

    def routed(self, model: str, aliases: Mapping[str, int], serving_version: int | None) -> None:
        """Records the routes of a model's requests."""
        for alias in self._aliases.get(model, set()) - set(aliases):
            self._metrics.model_alias.remove(model, alias)
        self._aliases[model] = set(aliases)
        for alias, version in aliases.items():
            self._metrics.model_alias.labels(model, alias).set(version)
        self._metrics.model_serving_version.labels(model).set(serving_version or 0)


class _EndedCall(NamedTuple):
    method: str
    code: str
    seconds: float | None


class CallMetrics:
    """Implements `domain.ports.CallObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._in_progress = cache(metrics.requests_in_progress.labels)
        self._requests = cache(metrics.requests.labels)
        self._seconds = cache(metrics.request_seconds.labels)
        self._stream_answers = cache(metrics.stream_answers.labels)
        self._open: defaultdict[str, int] = defaultdict(int)
        self._shown_open: defaultdict[str, int] = defaultdict(int)
        self._showing = threading.Lock()
        self._ended: _Uncounted[_EndedCall] = _Uncounted(self._count_ended)
        self._answered: _Uncounted[tuple[str, str]] = _Uncounted(self._count_answered)
        metrics.before_reading(self._count)

    def call_started(self, method: str) -> None:
        """Counts an open call."""
        self._open[method] += 1

    def call_ended(self, method: str, code: str, seconds: float | None) -> None:
        """Counts a call that ended."""
        self._open[method] -= 1
        self._ended.add(_EndedCall(method, code, seconds))

    def stream_answered(self, method: str, outcome: str) -> None:
        """Counts an answer on a stream."""
        self._answered.add((method, outcome))

    def _count(self) -> None:
        """Brings the metrics up to date. Any thread."""
        with self._showing:
            for method, count in self._open.copy().items():
                self._in_progress(method).inc(count - self._shown_open[method])
                self._shown_open[method] = count
        self._ended.count_now()
        self._answered.count_now()

    def _count_ended(self, calls: list[_EndedCall]) -> None:
        for (method, code), count in Counter((call.method, call.code) for call in calls).items():
            self._requests(method, code).inc(count)
        seconds: defaultdict[str, list[float]] = defaultdict(list)
        for call in calls:
            if call.seconds is not None:
                seconds[call.method].append(call.seconds)
        for method, each in seconds.items():
            self._seconds(method).observe_all(each)

    def _count_answered(self, answers: list[tuple[str, str]]) -> None:
        for labels, count in Counter(answers).items():
            self._stream_answers(*labels).inc(count)


class StreamMetrics:
    """Implements `pipeline.stream_frames.FrameObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._age_seconds = cache(metrics.stream_frame_age_seconds.labels)
        self._dropped = cache(metrics.stream_frames_dropped.labels)
        self._answered: _Uncounted[tuple[str, float]] = _Uncounted(self._count)
        metrics.before_reading(self._answered.count_now)

    def frame_answered(self, outcome: str, age_s: float) -> None:
        """Counts an answer; see `pipeline.stream_frames.FrameObserver`."""
        self._answered.add((outcome, age_s))

    def _count(self, answers: list[tuple[str, float]]) -> None:
        ages: defaultdict[str, list[float]] = defaultdict(list)
        for outcome, age_s in answers:
            kind, _, reason = outcome.partition("_")
            ages[kind].append(age_s)
            if reason:
                self._dropped(reason).inc()
        for kind, each in ages.items():
            self._age_seconds(kind).observe_all(each)


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


class CanaryMetrics:
    """Implements `domain.ports.CanaryObserver`. Event loop only."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._requests = cache(
            lambda servable, outcome: metrics.canary_requests.labels(servable.name, str(servable.version), outcome)
        )

    def canary_share(self, model: str, share: float) -> None:
        """Records the share of requests that a canary gets."""
        self._metrics.canary_share.labels(model).set(share)

    def canary_answered(self, servable: ServableId, outcome: str) -> None:
        """Counts a request of a canary run."""
        self._requests(servable, outcome).inc()

    def canary_judged(self, model: str, verdict: Verdict) -> None:
        """Counts a verdict."""
        self._metrics.canary_verdicts.labels(model, verdict.result.value, verdict.reason).inc()

    def shadow_compared(self, servable: ServableId, *, agreed: int, differed: int, dropped: int) -> None:
        """Counts faces copied to a shadow."""
        version = (servable.name, str(servable.version))
        for outcome, count in (("agreed", agreed), ("differed", differed), ("dropped", dropped)):
            self._metrics.canary_shadow_faces.labels(*version, outcome).inc(count)

    def shadow_figures(self, servable: ServableId, figures: ShadowStatistics) -> None:
        """Records how far a shadow's probabilities are from the answered ones."""
        gauge, version = self._metrics.canary_shadow_difference, (servable.name, str(servable.version))
        gauge.labels(*version, "mean").set(figures.mean_difference)
        gauge.labels(*version, "largest").set(figures.largest_difference)
