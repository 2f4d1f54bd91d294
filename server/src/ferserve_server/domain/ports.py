"""Defines the ports of the core. Adapters and fakes implement these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ferserve_server.domain.face import (
        BoundingBox,
        CropBatch,
        DetectionOptions,
        FaceCrop,
        FaceLocation,
        Scores,
    )
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.domain.servable import GoldenSet, ModelDescription, Precision, ServableId, ServableState
    from ferserve_server.domain.trace import SpanRef


class Priority(Enum):
    """Defines the priority of a request beside others that wait for the same model."""

    INTERACTIVE = 0
    BULK = 1


class Timer(Protocol):
    """Represents a scheduled call."""

    def cancel(self) -> None:
        """Cancels the call, if it has not happened yet."""


class Clock(Protocol):
    """Reads the time, in seconds from an arbitrary start, never backwards, and schedules calls."""

    def now(self) -> float:
        """Returns the seconds since the start. Thread-safe."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Calls back on the event loop, once, when `now()` has reached `when`. Event loop only."""


class Servable(Protocol):
    """Represents a loaded version, ready to run."""

    @property
    def id(self) -> ServableId:
        """Returns the model and version."""

    @property
    def description(self) -> ModelDescription:
        """Returns the manifest's description."""

    @property
    def executor_count(self) -> int:
        """Returns the number of useful concurrent `predict` calls, 1 or more."""

    @property
    def precision(self) -> Precision:
        """Returns the precision of its computation."""

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch.

        Args:
            crops: uint8 [N, H, W, 1]; N is one of the warmed bucket sizes.

        Returns:
            float32 [N, K]. Row i depends on `crops[i]` only.

        Raises:
            Exception: Whatever the engine raises; the caller finds the row at fault.

        Thread-safety: may be called from `executor_count` threads at once, and from one more: a new version is
        tried beside the one active.
        """

    def read_golden(self, directory: Path) -> GoldenSet:
        """Reads the golden set of the version, isolated from the service. Blocking.

        Raises:
            ModelRejectedError: GOLDEN_MISSING or GOLDEN_INVALID.
            OSError: The file cannot be read now.
        """

    def with_precision(self, precision: Precision) -> Servable:
        """Makes the same version in another precision, beside this one; the caller closes both.

        Raises:
            ModelRejectedError: PRECISION_UNSUPPORTED, if this machine has no instructions for it, or the version
                was published in int8.
        """

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Warms up the first `executor_count` concurrent runs. Slow and blocking; once.

        Args:
            bucket_sizes: The batch sizes that `predict` has run already, on one thread.
            thread_count: Cores to take for it, 1 or more.
        """

    def reserve_session(self, bucket_sizes: Sequence[int]) -> None:
        """Prepares one `predict` more than `executor_count` at once. Slow and blocking.

        Done again, it does nothing.

        Args:
            bucket_sizes: The batch sizes to be ready for.
        """

    def close(self) -> None:
        """Frees its memory. No `predict` may be running."""


class Loader(Protocol):
    """Loads servables from the files of a repository."""

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> Servable:
        """Loads a version whose files were verified, in its published precision. Slow and blocking.

        Raises:
            ModelRejectedError: The model cannot be loaded or does not hold what its manifest says.
        """


class ScoresFaces(Protocol):
    """Scores faces, grouping those of all callers. Event loop only."""

    async def score(
        self,
        crops: CropBatch,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> ScoredFaces:
        """Scores the faces of one request. Cancelling removes those not yet running from the queue.

        Args:
            crops: uint8 [N, H, W, 1], N >= 1.
            deadline: When the answer must be there, on the clock of the scorer, in seconds.
            priority: How urgent it is beside others.
            caller: Whose request it is; the queue is shared fairly between callers.

        Raises:
            QueueFullError: Too much waits already, or others need the room that this caller has taken.
            DeadlineUnmeetableError: The deadline cannot be met any more.
            DeadlineExpiredError: It passed in the queue.
            EngineStalledError: The engine hung.
            EngineLostError: The engine's process ended.
            DrainingError: The scorer takes nothing new.
        """


class FaceScorer(ScoresFaces, Protocol):
    """Scores the faces of one version, as long as it is active. Event loop only."""

    @property
    def healthy(self) -> bool:
        """Returns whether the engine behind it answers."""

    async def drain(self) -> None:
        """Stops accepting, and returns when everything accepted is answered."""

    async def close(self) -> None:
        """Stops the engine's threads, unloads the servable and waits for both. Call after `drain`."""


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """Holds the faces of one picture, largest first: `crops[i]` (uint8 [48, 48]) is at `locations[i]`."""

    width: int
    height: int
    locations: tuple[FaceLocation, ...]
    crops: tuple[FaceCrop, ...]
    omitted_face_count: int
    decode_s: float
    detect_s: float

    @property
    def boxes(self) -> tuple[BoundingBox, ...]:
        """Returns the boxes of `locations`."""
        return tuple(location.box for location in self.locations)


class Vision(Protocol):
    """Reads pictures, off the event loop."""

    async def find_faces(
        self,
        image: bytes,
        options: DetectionOptions,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> FoundFaces:
        """Decodes a picture and finds its faces.

        Args:
            image: JPEG, PNG or WebP.
            options: How to look for faces.
            deadline: When the answer must be there, on the server's clock, in seconds, or None.
            priority: How urgent it is beside other pictures.
            caller: Whose picture it is; the queue is shared fairly between callers.

        Raises:
            ImageFormatError: Not a JPEG, PNG or WebP.
            ImageUnreadableError: Broken or incomplete.
            LimitExceededError: More pixels than `max_image_pixels`; found before decoding.
            QueueFullError: Too many pictures wait already.
            DeadlineExpiredError: The deadline passed before a thread was free.
            DeadlineUnmeetableError: It would pass before the picture is read.
        """

    async def read_crops(
        self,
        images: Sequence[bytes],
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> list[FaceCrop | Exception]:
        """Decodes pictures that are face crops already, each to uint8 [48, 48] or to its error.

        Raises:
            QueueFullError: Too many pictures wait already.
        """

    async def resize(self, crops: CropBatch) -> CropBatch:
        """Resizes raw crops, uint8 [N, H, W, 1], to uint8 [N, 48, 48, 1].

        Raises:
            QueueFullError: Too many pictures wait already.
        """


class VisionTracer(Protocol):
    """Records what is done to pictures, in the context of their call. Event loop only; must not raise or block."""

    def faces_found(self, found: FoundFaces) -> None:
        """Records a picture that was searched; `detect_s` is 0.0 if it was taken as one face instead."""

    def crops_read(self, image_count: int, seconds: float) -> None:
        """Records encoded crops that were read together; `seconds` includes the wait for threads."""


class DispatchReason(Enum):
    """Defines the reasons for dispatching a batch."""

    FULL = "full"
    EXECUTOR_IDLE = "executor_idle"
    DELAY = "delay"
    DRAIN = "drain"
    BISECT = "bisect"
    QUARANTINE = "quarantine"


class ExecutedBatch(NamedTuple):
    """Describes a batch that its engine has executed.

    Attributes:
        servable: The version that scored it.
        dispatch_reason: Why it was dispatched then.
        padded_count: Rows that were executed, padding included.
        oldest_queue_s: Wait of its oldest face, in seconds.
        inference_s: How long it ran, in seconds.
        scores: float32 [N, K], a row for each of its faces.
        span: Its span, if it has sampled faces.
    """

    servable: ServableId
    dispatch_reason: DispatchReason
    padded_count: int
    oldest_queue_s: float
    inference_s: float
    scores: Scores
    span: SpanRef | None = None

    @property
    def face_count(self) -> int:
        """Returns the number of its faces, without padding."""
        return len(self.scores)


class InferenceObserver(Protocol):
    """Observes the stages of inference and the active versions. Event loop only; must not raise or block."""

    def batch_executed(self, batch: ExecutedBatch) -> None:
        """Observes an executed batch."""

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:
        """Observes a failed execution. Its rows are retried in halves, or fail if it held one."""

    def rejected(self, reason: str) -> None:
        """Observes a rejected request."""

    def cancelled(self, stage: str) -> None:
        """Observes a caller that left while its request was `queued` or `running`."""

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """Observes a change of a version's state."""

    def routed(self, model: str, aliases: Mapping[str, int], serving_version: int | None) -> None:
        """Observes a model's routing: the version behind each alias, and the one without any."""
