"""Defines the frames of a stream, their configuration, and their answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.pipeline.stream_window import OverloadPolicy

if TYPE_CHECKING:
    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.prediction import ImageAnalysis
    from ferserve_server.domain.servable import ModelSpec, ServableId
    from ferserve_server.tracking.events import SteadyPrediction, TrackEvent
    from ferserve_server.tracking.options import TrackingOptions


@dataclass(frozen=True, slots=True)
class FrameStreamConfig:
    """Defines the treatment of a stream, fixed for its lifetime.

    Attributes:
        spec: The model.
        policy: Treatment of frames that arrive faster than they can be answered.
        detection: How to look for faces.
        max_age_s: Oldest frame that is analysed under MAX_AGE, in seconds since its arrival.
        tracking: Options of tracking, or None to treat every frame like a single picture.
        events_only: Whether frames that bring no event are answered as `Unchanged`. Needs tracking.
        resumed_after_sequence_id: Number of the last frame that an earlier stream of the same source had answered;
            None for a new source.
        caller: The caller whose stream it is.
    """

    spec: ModelSpec
    policy: OverloadPolicy
    detection: DetectionOptions
    max_age_s: float = math.inf
    tracking: TrackingOptions | None = None
    events_only: bool = False
    resumed_after_sequence_id: int | None = None
    caller: CallerId = UNKNOWN_CALLER


@dataclass(frozen=True, slots=True)
class Frame:
    """Holds one frame of a video.

    Attributes:
        sequence_id: The sender's number, 0 or more, rising within the stream.
        image: The encoded picture: JPEG, PNG or WebP.
        time_s: Time of the frame in its source, in seconds, never falling within the stream. None: the time of its
            arrival, counted from the first frame.
    """

    sequence_id: int
    image: bytes
    time_s: float | None = None


class TrackedFace(NamedTuple):
    """Holds the tracking results of one face.

    Attributes:
        track_id: Number of its track, 1 or more, unique within the stream.
        steady: Prediction over the frames of the track, or None before its first scores.
        carried: Whether the face was not found in this frame and is shown where the motion model puts it. Its
            row of the analysis then repeats the steady scores, and there is no prediction of this frame alone.
    """

    track_id: int
    steady: SteadyPrediction | None
    carried: bool


@dataclass(frozen=True, slots=True)
class FrameAnalysis:
    """Holds the faces of one frame.

    Attributes:
        image: Boxes, and scores of this frame alone.
        labels: Names of the classes, in the order of all scores.
        servable: The version that answered.
        tracks: One per face of `image`, in its order; empty where tracking is off.
    """

    image: ImageAnalysis
    labels: tuple[str, ...]
    servable: ServableId
    tracks: tuple[TrackedFace, ...] = ()


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Marks a frame that was analysed and brought no event, under `events_only`."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Marks a skipped frame, with the number of the newer one, or 0 because it was too old."""

    newer_sequence_id: int


@dataclass(frozen=True, slots=True)
class FrameAnswer:
    """Holds the answer to one frame.

    Attributes:
        sequence_id: Number of the frame.
        outcome: What was found, that nothing changed, that it was skipped, or why it failed.
        time_s: Time of the frame in its source, in seconds, as sent or counted.
        age_s: Time from its arrival in the server to this answer, in seconds.
        events: Changes that it brought; empty where tracking is off.
        tracks_restarted: True on the first answer of a resumed stream with tracking: earlier track numbers mean
            nothing from here on.
    """

    sequence_id: int
    outcome: FrameAnalysis | Unchanged | Dropped | FerserveError
    time_s: float = 0.0
    age_s: float = 0.0
    events: tuple[TrackEvent, ...] = ()
    tracks_restarted: bool = False


def check_config(config: FrameStreamConfig) -> None:
    """Rejects a configuration whose parts do not fit together.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE or OPTION_NEEDS_ANOTHER.
    """
    if config.events_only and config.tracking is None:
        raise InvalidRequestError(
            "OPTION_NEEDS_ANOTHER",
            "events_only: events come from tracking; set tracking.enabled as well.",
            field="events_only",
        )
    if config.policy is OverloadPolicy.MAX_AGE and not math.isfinite(config.max_age_s):
        raise InvalidRequestError(
            "OPTION_NEEDS_ANOTHER",
            "overload_policy: MAX_AGE needs max_age_ms, 1 to 60,000 milliseconds.",
            field="max_age_ms",
        )
    resumed_after = config.resumed_after_sequence_id
    if resumed_after is not None and resumed_after < -1:
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            f"resumed_after_sequence_id: {resumed_after} is not allowed; use the last_sequence_id of the stream "
            "before, -1 or more.",
            field="resumed_after_sequence_id",
            value=resumed_after,
        )
