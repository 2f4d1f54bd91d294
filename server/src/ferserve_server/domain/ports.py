"""Defines the ports of the core. Adapters and fakes implement these."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ferserve_server.domain.canary import ShadowStatistics, Verdict
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


class Priority(Enum):
    """How urgent a request is beside others that wait for the same model."""

    INTERACTIVE = 0
    BULK = 1


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Keeps it from happening, if it has not yet."""


class Clock(Protocol):
    """Tells the time, in seconds from an arbitrary start, never backwards; and wakes."""

    def now(self) -> float:
        """Seconds since the start. Thread-safe."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Calls back on the event loop, once, when `now()` has reached `when`. Event loop only."""


class Servable(Protocol):
    """A loaded version, ready to run."""

    @property
    def id(self) -> ServableId:
        """Which version of which model it is."""

    @property
    def description(self) -> ModelDescription:
        """What its manifest says."""

    @property
    def executor_count(self) -> int:
        """How many `predict` calls may usefully run at once, 1 or more."""

    @property
    def precision(self) -> Precision:
        """What it computes in."""

    def predict(self, crops: CropBatch) -> Scores:
        """Scores a batch.

        Args:
            crops: uint8 [N, H, W, 1]; N is one of the warmed bucket sizes.

        Returns:
            float32 [N, K]. Row i depends on `crops[i]` only.

        Raises:
            Exception: Whatever the engine raises; the caller finds the row at fault.

        Thread-safety: may be called from `executor_count` threads at once, and from one more: a new version is
        tried beside the one in force.
        """

    def read_golden(self, directory: Path) -> GoldenSet:
        """Reads the golden set of the version, where it cannot harm the service. Blocking.

        Raises:
            ModelRejectedError: GOLDEN_MISSING or GOLDEN_INVALID.
            OSError: The file cannot be read now.
        """

    def with_precision(self, precision: Precision) -> Servable:
        """Makes the same version in another precision, beside this one; both are closed by whoever has them.

        Raises:
            ModelRejectedError: PRECISION_UNSUPPORTED, if this machine has no instructions for it, or the version
                was published in int8.
        """

    def warm_executors(self, bucket_sizes: Sequence[int], thread_count: int) -> None:
        """Does what else the first `executor_count` runs at once would do first. Slow and blocking; once.

        Args:
            bucket_sizes: The batch sizes that `predict` has run already, on one thread.
            thread_count: Cores to take for it, 1 or more.
        """

    def reserve_session(self, bucket_sizes: Sequence[int]) -> None:
        """Makes ready for one `predict` more than `executor_count` at once. Slow and blocking.

        Done again, it does nothing.

        Args:
            bucket_sizes: The batch sizes to be ready for.
        """

    def close(self) -> None:
        """Gives its memory back. No `predict` may be running."""


class Loader(Protocol):
    """Makes servables out of what lies in a repository."""

    def load(self, servable_id: ServableId, directory: Path, description: ModelDescription) -> Servable:
        """Loads a version whose files were verified, in what it was published in. Slow and blocking.

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
        """Scores the faces of one request. Cancelling takes those not yet running out of the queue.

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
    """What scores the faces of one version, as long as that is in force. Event loop only."""

    @property
    def healthy(self) -> bool:
        """Whether the engine behind it answers."""

    async def drain(self) -> None:
        """Takes nothing new and returns when everything taken is answered."""

    async def close(self) -> None:
        """Stops the engine's threads, unloads the servable and waits for both. Call after `drain`."""


@dataclass(frozen=True, slots=True)
class FoundFaces:
    """The faces of one picture, largest first: `crops[i]` (uint8 [48, 48]) is the face at `locations[i]`."""

    width: int
    height: int
    locations: tuple[FaceLocation, ...]
    crops: tuple[FaceCrop, ...]
    omitted_face_count: int
    decode_s: float
    detect_s: float

    @property
    def boxes(self) -> tuple[BoundingBox, ...]:
        """Boxes of `locations`."""
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


class DispatchReason(Enum):
    """Why a batch was dispatched when it was."""

    FULL = "full"
    EXECUTOR_IDLE = "executor_idle"
    DELAY = "delay"
    DRAIN = "drain"
    BISECT = "bisect"
    QUARANTINE = "quarantine"


class ExecutedBatch(NamedTuple):
    """A batch that came back from its engine.

    Attributes:
        servable: The version that scored it.
        dispatch_reason: Why it was dispatched then.
        padded_count: Rows that were executed, padding included.
        oldest_queue_s: Wait of its oldest face, in seconds.
        inference_s: How long it ran, in seconds.
        scores: float32 [N, K], a row for each of its faces.
    """

    servable: ServableId
    dispatch_reason: DispatchReason
    padded_count: int
    oldest_queue_s: float
    inference_s: float
    scores: Scores

    @property
    def face_count(self) -> int:
        """Its faces, padding not counted."""
        return len(self.scores)


class InferenceObserver(Protocol):
    """Is told what happens on the way to a score. Event loop only; must not raise or block."""

    def batch_executed(self, batch: ExecutedBatch) -> None:
        """A batch came back."""

    def batch_failed(self, servable: ServableId, *, face_count: int) -> None:
        """An execution raised. Its rows are tried again in halves, or fail if it held one."""

    def rejected(self, reason: str) -> None:
        """A request was not taken."""

    def cancelled(self, stage: str) -> None:
        """A caller left while its request was `queued` or `running`."""

    def state_changed(self, servable: ServableId, state: ServableState) -> None:
        """A version is in another state."""


class RoutingObserver(Protocol):
    """Is told where requests go. Event loop only; must not raise or block."""

    def routed(self, model: str, aliases: Mapping[str, int], serving_version: int | None) -> None:
        """What requests for a model get: the version behind each alias, and the one of those that name none."""


class CanaryObserver(Protocol):
    """Is told how canaries do. Event loop only; must not raise or block."""

    def canary_share(self, model: str, share: float) -> None:
        """The share of the requests without a version that a canary gets; 0 when there is none any more."""

    def canary_answered(self, servable: ServableId, outcome: str) -> None:
        """A canary, or the stable version beside it, `answered` or `failed` a request that names no version."""

    def canary_judged(self, model: str, verdict: Verdict) -> None:
        """What the figures say has changed, or an operator has decided."""

    def shadow_compared(self, servable: ServableId, *, agreed: int, differed: int, dropped: int) -> None:
        """A shadow scored faces, or dropped them."""

    def shadow_figures(self, servable: ServableId, figures: ShadowStatistics) -> None:
        """How a shadow's answers compare by now."""


class CallObserver(Protocol):
    """Is told of calls and pictures. Event loop only; must not raise or block."""

    def call_started(self, method: str) -> None:
        """A call or a stream is open."""

    def call_ended(self, method: str, code: str, seconds: float | None) -> None:
        """It ended with a status code's name; `seconds` is None for streams."""

    def stream_answered(self, method: str, outcome: str) -> None:
        """A message of a stream was answered: `result`, `unchanged`, `dropped` or `failed`."""
