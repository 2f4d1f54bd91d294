"""Converts between StreamFrames' messages and the frames and answers of the pipeline."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve_server.domain.errors import FerserveError, InvalidRequestError
from ferserve_server.domain.prediction import Analyses
from ferserve_server.pipeline.frame_answers import (
    Dropped,
    Frame,
    FrameAnalysis,
    FrameStreamConfig,
    Unchanged,
    check_config,
)
from ferserve_server.pipeline.stream_window import OverloadPolicy
from ferserve_server.services.codec import messages
from ferserve_server.tracking.events import TrackEventType

if TYPE_CHECKING:
    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.pipeline.frame_answers import FrameAnswer
    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.tracking.events import SteadyPrediction, TrackEvent
    from ferserve_server.tracking.options import TrackingOptions

MAX_AGE_MS: Final = 60_000
"""Maximum `max_age_ms`, because a frame that is a minute old is of no use to live video."""

_POLICIES: Final = {
    emotion_pb2.OVERLOAD_POLICY_UNSPECIFIED: OverloadPolicy.LATEST,
    emotion_pb2.OVERLOAD_POLICY_LATEST: OverloadPolicy.LATEST,
    emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME: OverloadPolicy.EVERY_FRAME,
    emotion_pb2.OVERLOAD_POLICY_MAX_AGE: OverloadPolicy.MAX_AGE,
}
_EVENT_TYPES: Final = {
    TrackEventType.APPEARED: emotion_pb2.TRACK_EVENT_TYPE_APPEARED,
    TrackEventType.CHANGED: emotion_pb2.TRACK_EVENT_TYPE_CHANGED,
    TrackEventType.LEFT: emotion_pb2.TRACK_EVENT_TYPE_LEFT,
}


def parse_config(
    config: emotion_pb2.FrameStreamConfig,
    detection: DetectionOptions,
    tracking: TrackingOptions,
    limits: RequestLimits,
) -> FrameStreamConfig:
    """Reads the configuration of a stream.

    Args:
        config: The message.
        detection: How to look for faces where it does not say.
        tracking: Options of tracking where it does not say.
        limits: Bounds of a request.

    Raises:
        InvalidRequestError: With the path of the field at fault, below `config`.
    """
    try:
        parsed = FrameStreamConfig(
            messages.parse_spec(config.model),
            parse_policy(config.overload_policy),
            messages.parse_detection(config.detection, detection, limits),
            max_age_s=_parse_max_age_s(config.max_age_ms),
            tracking=parse_tracking(config.tracking, tracking),
            events_only=config.events_only,
            resumed_after_sequence_id=config.resumed_after_sequence_id
            if config.HasField("resumed_after_sequence_id")
            else None,
        )
        check_config(parsed)
    except InvalidRequestError as error:
        error.field = f"config.{error.field}"
        raise
    return parsed


def parse_policy(policy: int) -> OverloadPolicy:
    """Reads the treatment of frames that arrive too fast.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE.
    """
    try:
        return _POLICIES[policy]  # type: ignore[index]  # the wire may carry any number
    except KeyError:
        raise messages.out_of_range("overload_policy", policy, "a value of OverloadPolicy") from None


def parse_tracking(options: emotion_pb2.TrackingOptions, defaults: TrackingOptions) -> TrackingOptions | None:
    """Reads the options of tracking; fields at 0 keep the server's default. None: tracking is off.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE.
    """
    if not options.enabled:
        return None
    # Numbers on the wire are float32: 0.3 comes as 0.30000001.
    return replace(
        defaults,
        smoothing_half_life_s=_seconds("smoothing_half_life_s", options.smoothing_half_life_s, 10)
        or defaults.smoothing_half_life_s,
        max_lost_s=_seconds("max_lost_s", options.max_lost_s, 60) or defaults.max_lost_s,
        full_search_interval_s=_seconds("full_search_interval_s", options.full_search_interval_s, 10)
        or defaults.full_search_interval_s,
    )


def parse_frame(frame: emotion_pb2.Frame) -> Frame:
    """Reads one frame."""
    return Frame(frame.sequence_id, frame.image, frame.time_s if frame.HasField("time_s") else None)


class FrameAnswerWriter:
    """Writes the answers of one stream, with the names of the classes when they change."""

    def __init__(self) -> None:
        self._last: ServableId | None = None

    def write(self, answer: FrameAnswer) -> emotion_pb2.StreamFramesResponse:
        """Writes the next answer."""
        response = emotion_pb2.StreamFramesResponse(
            sequence_id=answer.sequence_id,
            time_s=answer.time_s,
            age_ms=answer.age_s * 1e3,
            events=[_format_event(event) for event in answer.events],
            tracks_restarted=answer.tracks_restarted,
        )
        match answer.outcome:
            case Dropped(newer_sequence_id=newer):
                response.dropped.newer_sequence_id = newer
            case FerserveError() as error:
                response.failure.CopyFrom(messages.format_failure(error))
            case Unchanged():
                response.unchanged.SetInParent()
            case FrameAnalysis() as analysis:
                self._write_analysis(response, analysis)
        return response

    def _write_analysis(self, response: emotion_pb2.StreamFramesResponse, analysis: FrameAnalysis) -> None:
        response.analysis.CopyFrom(messages.format_analysis(analysis.image))
        for face, track in zip(response.analysis.faces, analysis.tracks, strict=bool(analysis.tracks)):
            face.track_id = track.track_id
            if face.HasField("prediction") and not track.carried:
                face.raw.CopyFrom(face.prediction)
            if track.steady is not None:
                face.prediction.CopyFrom(_format_steady(track.steady))
            if track.carried:
                face.not_a_face = False
        response.servable.CopyFrom(messages.format_servable(analysis.servable))
        whole = Analyses((analysis.image,), analysis.labels, analysis.servable)
        response.timing.CopyFrom(messages.format_timing(whole, None))
        if analysis.servable != self._last:
            response.labels.extend(analysis.labels)
            self._last = analysis.servable


def _format_event(event: TrackEvent) -> emotion_pb2.TrackEvent:
    return emotion_pb2.TrackEvent(
        event=_EVENT_TYPES[event.type],
        track_id=event.track_id,
        time_s=event.time_s,
        duration_s=event.duration_s,
        prediction=_format_steady(event.prediction),
    )


def _format_steady(prediction: SteadyPrediction) -> face_pb2.Prediction:
    return face_pb2.Prediction(
        label_index=prediction.label, scores=prediction.scores.tolist(), uncertain=prediction.uncertain
    )


def _parse_max_age_s(max_age_ms: int) -> float:
    if not 0 <= max_age_ms <= MAX_AGE_MS:
        raise messages.out_of_range("max_age_ms", max_age_ms, f"1 to {MAX_AGE_MS}")
    return max_age_ms / 1e3 if max_age_ms else math.inf


def _seconds(name: str, value: float, largest: int) -> float:
    rounded = round(value, 6) if math.isfinite(value) else value
    if not 0 <= rounded <= largest:
        raise messages.out_of_range(
            f"tracking.{name}", rounded, f"above 0 to {largest} seconds, or 0 for the default"
        )
    return rounded
