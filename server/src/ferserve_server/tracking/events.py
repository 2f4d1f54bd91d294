"""Derives events of tracks, and the expressions that they are based on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from ferserve_server.tracking.lifecycle import CARRIED_S
from ferserve_server.tracking.smoothing import Expression, first_expression, is_uncertain, smoothed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    from ferserve_server.tracking.lifecycle import Track
    from ferserve_server.tracking.smoothing import Vector


class TrackEventType(Enum):
    """Defines the kinds of changes of a track."""

    APPEARED = "appeared"
    CHANGED = "changed"
    LEFT = "left"


class SteadyPrediction(NamedTuple):
    """Holds a prediction over the frames of a track.

    Attributes:
        label: Index of the steady class, which is not always the one with the highest score: see `smoothing`.
        scores: Probabilities, float64 [K].
        uncertain: Whether neither the label's probability nor its lead is clear.
    """

    label: int
    scores: Vector
    uncertain: bool


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """Describes a change of one track.

    Attributes:
        type: Kind of the change.
        track_id: Number of the track.
        time_s: Time of the change in the video, in seconds. For LEFT: when the face was last found.
        duration_s: Time that ended with the change, in seconds: of the track for LEFT, of the former emotion for
            CHANGED, 0.0 for APPEARED.
        prediction: Smoothed prediction after an appearance or change; mean over the track for LEFT.
    """

    type: TrackEventType
    track_id: int
    time_s: float
    duration_s: float
    prediction: SteadyPrediction


class ExpressionBoard:
    """Smooths the expressions of one stream's tracks. One frame at a time, in their order.

    Its state is bounded by the number of tracks that are alive.

    Args of the constructor:
        half_life_s: Half-life of the smoothing, in seconds.
    """

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._expressions: dict[int, Expression] = {}
        self._appeared: set[int] = set()
        self._labels: tuple[str, ...] = ()

    def update(
        self,
        time_s: float,
        labels: tuple[str, ...],
        scored: Iterable[tuple[int, npt.NDArray[np.floating] | None]],
        uncertain_threshold: float,
    ) -> tuple[list[SteadyPrediction | None], list[TrackEvent]]:
        """Updates the expressions with the scores of one frame.

        Args:
            time_s: Time of the frame.
            labels: Names of the classes. Where they are others than before, smoothing starts again.
            scored: The faces: number of the track, and probabilities [K] of this frame or None where there are
                none.
            uncertain_threshold: Probability from which a label is certain.

        Returns:
            The steady prediction of each face in order, None where there were no scores for `CARRIED_S`; and what
            changed.
        """
        if labels != self._labels:
            self._expressions.clear()
            self._labels = labels
        steady: list[SteadyPrediction | None] = []
        events: list[TrackEvent] = []
        for track_id, scores in scored:
            before = self._expressions.get(track_id)
            if scores is not None:
                after = (
                    first_expression(time_s, scores)
                    if before is None
                    else smoothed(before, time_s, scores, self._half_life_s)
                )
                self._expressions[track_id] = after
                if track_id not in self._appeared:
                    self._appeared.add(track_id)
                    prediction = _steady(after.scores, after.label, uncertain_threshold)
                    events.append(TrackEvent(TrackEventType.APPEARED, track_id, time_s, 0.0, prediction))
                elif before is not None and before.label != after.label:
                    prediction = _steady(after.scores, after.label, uncertain_threshold)
                    duration_s = after.since_s - before.since_s
                    events.append(TrackEvent(TrackEventType.CHANGED, track_id, time_s, duration_s, prediction))
            now = self._expressions.get(track_id)
            if now is None or time_s - now.time_s > CARRIED_S:
                steady.append(None)
            else:
                steady.append(_steady(now.scores, now.label, uncertain_threshold))
        return steady, events

    def end(self, tracks: Sequence[Track], uncertain_threshold: float) -> list[TrackEvent]:
        """Forgets ended tracks, and returns LEFT events for those with scores."""
        events = []
        for track in tracks:
            self._appeared.discard(track.track_id)
            last = self._expressions.pop(track.track_id, None)
            if last is not None:
                mean = last.mean_scores
                events.append(
                    TrackEvent(
                        TrackEventType.LEFT,
                        track.track_id,
                        track.last_seen_s,
                        track.last_seen_s - track.first_seen_s,
                        _steady(mean, int(mean.argmax()), uncertain_threshold),
                    )
                )
        return events


def _steady(scores: Vector, label: int, uncertain_threshold: float) -> SteadyPrediction:
    return SteadyPrediction(label, scores, is_uncertain(scores, label, uncertain_threshold))
