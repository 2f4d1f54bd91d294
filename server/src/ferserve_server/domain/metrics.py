"""Declares every metric once, and the port through which the server records them.

Mean batch size is ferserve_faces_total / ferserve_batches_total; mean confidence is
ferserve_confidence_sum_total / ferserve_faces_total. No metric carries a client or a stream as a label.
Counters and histograms are summed over all processes of a server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ferserve_server.domain.ports import InferenceObserver

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "ferserve_"
"""Prefix of the exported names."""

DURATION_BUCKETS_S: Final = (
    50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 100e-3, 200e-3, 500e-3, 1, 2, 5, 10,
)  # fmt: skip
"""Upper bounds of duration buckets, in seconds, because the library's first (5 ms) exceeds most durations here."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """Declares a metric: name without prefix, meaning, and names of its labels."""

    name: str
    text: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Counter(Metric):
    """Declares a number that rises. `initial` are label values that are exported as 0 from the start."""

    initial: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Gauge(Metric):
    """Declares a number that rises and falls. `summed` if its sum over the processes is meaningful."""

    summed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Histogram(Metric):
    """Declares a distribution. `buckets` are upper bounds, ascending."""

    buckets: tuple[float, ...] = DURATION_BUCKETS_S


_VERSION: Final = ("model", "version")

# Calls and connections
REQUESTS: Final = Counter("requests_total", "Calls that ended, by RPC and gRPC status code.", ("method", "code"))
REQUEST_SECONDS: Final = Histogram(
    "request_seconds", "Time from a unary call's arrival to its answer.", ("method",)
)
REQUESTS_IN_PROGRESS: Final = Gauge(
    "requests_in_progress", "Calls and streams that are open.", ("method",), summed=True
)
REJECTIONS: Final = Counter("rejections_total", "Rejected requests, by reason.", ("reason",))
CONTROL_REJECTIONS: Final = Counter(
    "control_rejections_total", "Control calls that were not authorised, by reason.", ("reason",)
)
CANCELLATIONS: Final = Counter(
    "cancellations_total", "Requests that their client cancelled, by stage: queued or running.", ("stage",)
)
CONNECTIONS: Final = Gauge("connections", "Open connections of a port, http or metrics.", ("port",))
CONNECTIONS_REJECTED: Final = Counter(
    "connections_rejected_total", "Connections beyond a port's limits, by port.", ("port",)
)

# Streams
STREAM_ANSWERS: Final = Counter(
    "stream_answers_total",
    "Answers on streams, by RPC and outcome: result, unchanged, dropped or failed.",
    ("method", "outcome"),
)
STREAM_FRAME_AGE_SECONDS: Final = Histogram(
    "stream_frame_age_seconds",
    "Time from a frame's arrival to its answer, by outcome: result, unchanged, dropped or failed.",
    ("outcome",),
)
STREAM_FRAMES_DROPPED: Final = Counter(
    "stream_frames_dropped_total",
    "Frames that were skipped, by reason: newer for a newer frame, too_old beyond max_age_ms.",
    ("reason",),
    initial=(("newer",), ("too_old",)),
)

# Batches
FACES: Final = Counter("faces_total", "Faces that were classified.", _VERSION)
BATCHES: Final = Counter(
    "batches_total", "Batches that were executed, by reason of their dispatch.", (*_VERSION, "dispatch_reason")
)
BATCH_FAILURES: Final = Counter("batch_failures_total", "Executions that raised or hung.", _VERSION)
PADDING_FACES: Final = Counter("padding_faces_total", "Rows of padding that were executed.", _VERSION)
BATCH_SIZE_FACES: Final = Histogram(
    "batch_size_faces",
    "Faces in a batch, padding not counted.",
    ("model",),
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
QUEUE_SECONDS: Final = Histogram("queue_seconds", "Wait of a batch's oldest face for the batch.", ("model",))
INFERENCE_SECONDS: Final = Histogram("inference_seconds", "Execution time of a batch.", ("model",))
QUEUE_DEPTH_FACES: Final = Gauge("queue_depth_faces", "Faces that wait.", _VERSION)
QUEUE_OLDEST_AGE_SECONDS: Final = Gauge("queue_oldest_age_seconds", "Age of the oldest face that waits.", _VERSION)
PREDICTIONS: Final = Counter(
    "predictions_total", "Most probable classes, for monitoring drift.", (*_VERSION, "emotion")
)
CONFIDENCE_SUM: Final = Counter("confidence_sum_total", "Sum of the most probable class's probability.", _VERSION)

# Pictures
DECODE_SECONDS: Final = Histogram("decode_seconds", "Decoding of a picture.")
DETECT_SECONDS: Final = Histogram("detect_seconds", "Search for the faces of a picture.")
DETECTED_FACES: Final = Histogram(
    "detected_faces", "Faces found in a picture.", buckets=(0, 1, 2, 3, 5, 10, 20, 50)
)
IMAGE_FAILURES: Final = Counter("image_failures_total", "Pictures without an analysis, by reason.", ("reason",))

QUEUE_DEPTH_IMAGES: Final = Gauge(
    "queue_depth_images", "Pictures that wait for a thread to be decoded.", summed=True
)

# Versions and engines
SERVABLE_STATE: Final = Gauge(
    "servable_state", "1 for the current state of a version, 0 for the others.", (*_VERSION, "state")
)
SERVABLE_PRECISION: Final = Gauge(
    "servable_precision", "1; the label is the precision that a version computes in.", (*_VERSION, "precision")
)
ENGINE_HEALTHY: Final = Gauge("engine_healthy", "1 while the engine of a version answers, else 0.", _VERSION)
ENGINE_RESTARTS: Final = Counter(
    "engine_restarts_total", "Engine processes that ended unexpectedly and were restarted.", _VERSION
)
ENGINE_RESIDENT_BYTES: Final = Gauge(
    "engine_resident_bytes", "Resident memory of the engine process of a version.", _VERSION
)
MODEL_ALIAS: Final = Gauge("model_alias", "The version that an alias of a model names.", ("model", "alias"))
MODEL_SERVING_VERSION: Final = Gauge(
    "model_serving_version", "The version for requests that name none; 0: there is none.", ("model",)
)

# Canaries
CANARY_SHARE: Final = Gauge(
    "canary_share", "Share of the requests without a version that a canary gets; 0: no canary.", ("model",)
)
CANARY_REQUESTS: Final = Counter(
    "canary_requests_total",
    "Requests without a version during canaries, by version and outcome: answered or failed.",
    (*_VERSION, "outcome"),
)
CANARY_VERDICTS: Final = Counter(
    "canary_verdicts_total",
    "Verdicts on canaries when they changed: wait, promote or roll_back, and the reason.",
    ("model", "result", "reason"),
)
CANARY_SHADOW_FACES: Final = Counter(
    "canary_shadow_faces_total",
    "Faces copied to a shadow, by outcome: agreed, differed or dropped.",
    (*_VERSION, "outcome"),
)
CANARY_SHADOW_DIFFERENCE: Final = Gauge(
    "canary_shadow_difference",
    "Difference of a shadow's probabilities from those answered, mean and largest.",
    (*_VERSION, "statistic"),
)

# Processes
BUILD_INFO: Final = Gauge("build_info", "1; the label is the version of the server.", ("version",))
WORKER_PROCESSES: Final = Gauge(
    "worker_processes", "Processes that accept calls beside the one that runs the models."
)
WORKER_RESTARTS: Final = Counter("worker_restarts_total", "Worker processes that ended unexpectedly.")
LOG_LINES_DROPPED: Final = Counter(
    "log_lines_dropped_total",
    "Log lines that were lost: the reader was slow or absent, the disk full, or a library wrote too many.",
)
BACKGROUND_FAILURES: Final = Counter(
    "background_failures_total", "Exceptions that ended a background task, which was restarted.", ("task",)
)

METRICS: Final = tuple(each for each in list(globals().values()) if isinstance(each, Metric))
"""All metrics, in the order of their declaration."""


class MetricsRecorder(InferenceObserver, Protocol):
    """Records metrics; must not raise or block. Any thread, but for the events of `InferenceObserver`.

    `labels` are the values of the metric's labels, in the order of its declaration.
    """

    def count(self, counter: Counter, *labels: str, amount: float = 1.0) -> None:
        """Raises a counter."""

    def observe(self, histogram: Histogram, value: float, *labels: str) -> None:
        """Adds a value to a distribution."""

    def add(self, gauge: Gauge, amount: float, *labels: str) -> None:
        """Raises a gauge, or lowers it by a negative amount."""

    def set(self, gauge: Gauge, value: float, *labels: str) -> None:
        """Sets a gauge."""

    def read(self, gauge: Gauge, read: Callable[[], float], *labels: str) -> None:
        """Has a gauge read by `read` at every scrape, on another thread."""

    def remove(self, gauge: Gauge, *labels: str) -> None:
        """Removes a gauge's series, if there is one."""
