"""Reads the answers of streams, which send their labels only when these change."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_client.answers import BatchAnswer, FrameAnswer, TrackEvent
from ferserve_client.wire.responses import read_analysis, read_prediction, read_servable, read_timing
from ferserve_client.wire.status import read_failure

if TYPE_CHECKING:
    from collections.abc import Mapping

_EVENTS: Final[Mapping[int, Literal["appeared", "changed", "left"]]] = {
    emotion_pb2.TRACK_EVENT_TYPE_APPEARED: "appeared",
    emotion_pb2.TRACK_EVENT_TYPE_CHANGED: "changed",
    emotion_pb2.TRACK_EVENT_TYPE_LEFT: "left",
}


class FrameAnswerReader:
    """Reads the answers of one frame stream, in the order in which they come. Not thread-safe."""

    def __init__(self) -> None:
        self._labels: tuple[str, ...] = ()

    def read(self, response: emotion_pb2.StreamFramesResponse) -> FrameAnswer:
        """Read the answer to one frame.

        Raises:
            ValueError: Labels and scores do not fit each other: not an answer of a ferserve server.
        """
        self._labels = tuple(response.labels) or self._labels
        answer = FrameAnswer(
            response.sequence_id,
            time_s=response.time_s,
            age_ms=response.age_ms,
            events=tuple(_read_event(event, self._labels) for event in response.events),
            tracks_restarted=response.tracks_restarted,
        )
        match response.WhichOneof("outcome"):
            case "dropped":
                return replace(answer, newer_sequence_id=response.dropped.newer_sequence_id)
            case "failure":
                return replace(answer, error=read_failure(response.failure))
            case "unchanged":
                return replace(answer, unchanged=True)
        analysis = read_analysis(response.analysis, self._labels, read_servable(response.servable))
        return replace(answer, analysis=analysis, timing=read_timing(response.timing))


class BatchAnswerReader:
    """Reads the answers of one crop stream, in the order in which they come. Not thread-safe."""

    def __init__(self) -> None:
        self._labels: tuple[str, ...] = ()

    def read(self, response: emotion_pb2.ClassifyStreamResponse) -> BatchAnswer:
        """Read the answer to one batch.

        Raises:
            ValueError: Labels and scores do not fit each other: not an answer of a ferserve server.
        """
        self._labels = tuple(response.labels) or self._labels
        if response.HasField("failure"):
            return BatchAnswer(response.sequence_id, error=read_failure(response.failure))
        return BatchAnswer(
            response.sequence_id,
            predictions=tuple(read_prediction(item, self._labels) for item in response.predictions),
            servable=read_servable(response.servable),
        )


def _read_event(event: emotion_pb2.TrackEvent, labels: tuple[str, ...]) -> TrackEvent:
    return TrackEvent(
        event=_EVENTS.get(event.event, "unknown"),
        track_id=event.track_id,
        time_s=event.time_s,
        duration_s=event.duration_s,
        prediction=read_prediction(event.prediction, labels) if event.prediction.scores else None,
    )
