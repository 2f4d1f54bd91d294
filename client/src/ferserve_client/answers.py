"""What calls and streams give back, and the frames that go into a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, overload

if TYPE_CHECKING:
    from ferserve_client.errors import FerserveError
    from ferserve_client.faces import ImageAnalysis, Prediction
    from ferserve_client.servables import Servable

ItemT_co = TypeVar("ItemT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of an answer went in the server, in milliseconds, 0 or more."""

    total_ms: float
    """From the request's arrival in the server to its answer."""
    decode_ms: float
    """Longest decoding of a picture."""
    detect_ms: float
    """Longest search for faces in a picture."""
    queue_ms: float
    """Longest wait of a face for a batch."""
    inference_ms: float
    """Longest run of a batch that held a face of this request."""


@dataclass(frozen=True, slots=True)
class Results(Sequence[ItemT_co]):
    """The results of one call: a sequence in the order of the request, with the call's facts."""

    items: tuple[ItemT_co, ...]
    """One result per face or picture."""
    servable: Servable | None
    """The model and version that answered. None only if no item reached a model."""
    timing: Timing
    """Where the time went."""

    @overload
    def __getitem__(self, index: int) -> ItemT_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ItemT_co, ...]: ...
    def __getitem__(self, index: int | slice) -> ItemT_co | tuple[ItemT_co, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video on its way out."""

    sequence_id: int
    """The caller's number of the frame: 0 or more, strictly rising within the stream."""
    image: bytes
    """The frame as an encoded picture: JPEG, PNG or WebP."""


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """The answer to one frame. Exactly one of `analysis`, `newer_sequence_id` and `error` is set."""

    sequence_id: int
    """The number of the frame that is answered."""
    analysis: ImageAnalysis | None = None
    """What was found in the frame."""
    newer_sequence_id: int | None = None
    """The frame was dropped: the number of the newer frame that took its place."""
    error: FerserveError | None = None
    """Why the frame could not be analysed. The stream goes on."""
    timing: Timing | None = None
    """Where the time went. With analyses only."""

    @property
    def dropped(self) -> bool:
        """Whether the frame was skipped because a newer one arrived (policy `latest` only)."""
        return self.newer_sequence_id is not None

    @property
    def servable(self) -> Servable | None:
        """The model and version that answered. With analyses only."""
        return None if self.analysis is None else self.analysis.servable


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """The answer to one batch of `classify_stream`."""

    sequence_id: int
    """The number of the batch, counted from 0."""
    predictions: tuple[Prediction, ...] = ()
    """One per face, in the order of the batch. Empty with `error`."""
    servable: Servable | None = None
    """The model and version that answered. None with `error`."""
    error: FerserveError | None = None
    """Why the batch failed. The stream goes on."""
