"""Holds the answers of calls and streams, and the frames that go into a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, overload

if TYPE_CHECKING:
    from ferserve_client.errors import FerserveError
    from ferserve_client.faces import ImageAnalysis, Prediction
    from ferserve_client.servables import Servable

ItemT_co = TypeVar("ItemT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Timing:
    """Divides the time of an answer in the server, in milliseconds, 0 or more."""

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
    """Holds the results of one call: a sequence in the order of the request, with the call's facts."""

    items: tuple[ItemT_co, ...]
    """One result per face or picture."""
    servable: Servable | None
    """The model and version that answered. None only if no item reached a model."""
    timing: Timing
    """Times within the server."""

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
    """Holds one frame of a video on its way out."""

    sequence_id: int
    """The caller's number of the frame: 0 or more, strictly rising within the stream."""
    image: bytes
    """The frame as an encoded picture: JPEG, PNG or WebP."""
    time_s: float | None = None
    """Time of the frame in its source, in seconds, rising within the stream. None: the time of its arrival."""


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """Describes a change of one track."""

    event: Literal["appeared", "changed", "left", "unknown"]
    """A new face, another steady emotion, or a face that was lost for good; `unknown` to this client."""
    track_id: int
    """Number of the track, 1 or more."""
    time_s: float
    """Time of the change in the source, in seconds."""
    duration_s: float
    """Seconds that ended with the change: of the track for `left`, of the former emotion for `changed`."""
    prediction: Prediction | None = None
    """Smoothed prediction after the change; mean over the track for `left`. None where the server sends none."""


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """Answers one frame. Exactly one of `analysis`, `newer_sequence_id`, `error` and `unchanged` is set."""

    sequence_id: int
    """The number of the frame that is answered."""
    analysis: ImageAnalysis | None = None
    """The faces of the frame."""
    newer_sequence_id: int | None = None
    """The frame was dropped: number of the newer frame that took its place, 0 where it was too old."""
    error: FerserveError | None = None
    """Reason for which the frame could not be analysed. The stream goes on."""
    timing: Timing | None = None
    """Times within the server. With analyses only."""
    unchanged: bool = False
    """The frame was analysed and brought no event (`events_only`)."""
    time_s: float = 0.0
    """Time of the frame in its source, in seconds, as sent, or counted from its arrival."""
    age_ms: float = 0.0
    """Milliseconds from the frame's arrival in the server to this answer, 0 or more."""
    events: tuple[TrackEvent, ...] = ()
    """Changes that the frame brought. Empty where tracking is off."""
    tracks_restarted: bool = False
    """True where the track numbers of earlier answers mean nothing from here on."""

    @property
    def dropped(self) -> bool:
        """Tell whether the frame was skipped because a newer one arrived or it was too old."""
        return self.newer_sequence_id is not None

    @property
    def servable(self) -> Servable | None:
        """Return the model and version that answered. With analyses only."""
        return None if self.analysis is None else self.analysis.servable


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """Answers one batch of `classify_stream`."""

    sequence_id: int
    """The number of the batch, counted from 0."""
    predictions: tuple[Prediction, ...] = ()
    """One per face, in the order of the batch. Empty with `error`."""
    servable: Servable | None = None
    """The model and version that answered. None with `error`."""
    error: FerserveError | None = None
    """Reason for which the batch failed. The stream goes on."""
