"""Reads the answers of streams, which send their labels only when these change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_client.answers import BatchAnswer, FrameAnswer
from ferserve_client.wire.responses import read_analysis, read_prediction, read_servable, read_timing
from ferserve_client.wire.status import read_failure

if TYPE_CHECKING:
    from ferserve.v1 import emotion_service_pb2 as emotion_pb2


class FrameAnswerReader:
    """Reads the answers of one frame stream, in the order in which they come. Not thread-safe."""

    def __init__(self) -> None:
        self._labels: tuple[str, ...] = ()

    def read(self, response: emotion_pb2.StreamFramesResponse) -> FrameAnswer:
        """The answer to one frame.

        Raises:
            ValueError: Labels and scores do not fit each other: not an answer of a ferserve server.
        """
        self._labels = tuple(response.labels) or self._labels
        match response.WhichOneof("outcome"):
            case "dropped":
                newer = response.dropped.newer_sequence_id
                return FrameAnswer(response.sequence_id, newer_sequence_id=newer)
            case "failure":
                return FrameAnswer(response.sequence_id, error=read_failure(response.failure))
        analysis = read_analysis(response.analysis, self._labels, read_servable(response.servable))
        return FrameAnswer(response.sequence_id, analysis=analysis, timing=read_timing(response.timing))


class BatchAnswerReader:
    """Reads the answers of one crop stream, in the order in which they come. Not thread-safe."""

    def __init__(self) -> None:
        self._labels: tuple[str, ...] = ()

    def read(self, response: emotion_pb2.ClassifyStreamResponse) -> BatchAnswer:
        """The answer to one batch.

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
