"""Finds, follows and scores the faces of one stream's frames."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_server.domain.face import FaceLocation
from ferserve_server.domain.prediction import ImageAnalysis, ScoredFaces
from ferserve_server.pipeline.frame_answers import FrameAnalysis, TrackedFace, Unchanged
from ferserve_server.tracking.events import ExpressionBoard
from ferserve_server.tracking.finder import FaceFinder
from ferserve_server.tracking.ports import FrameRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.models import Acquire, Lease
    from ferserve_server.pipeline.frame_answers import FrameStreamConfig
    from ferserve_server.tracking.events import SteadyPrediction, TrackEvent
    from ferserve_server.tracking.ports import FoundFrame, FrameVision

UNCERTAIN_THRESHOLD: Final = 0.5
"""Probability from which a label is certain where the version's manifest states none."""


class FrameAnalyzer:
    """Analyses the frames of one stream. Event loop only.

    Without tracking, frames are independent. With it, `search` runs for one frame at a time, and the scores of
    the frames are taken into account in the order in which they were searched.
    """

    def __init__(self, acquire: Acquire, vision: FrameVision, config: FrameStreamConfig) -> None:
        self._acquire = acquire
        self._vision = vision
        self._config = config
        tracking = config.tracking
        self._finder = None if tracking is None else FaceFinder(tracking)
        self._board = None if tracking is None else ExpressionBoard(tracking.smoothing_half_life_s)
        self._previous: asyncio.Event | None = None

    def request(self, image: bytes, time_s: float) -> FrameRequest:
        """Makes the request that `search` hands to the threads."""
        return FrameRequest(image, self._config.detection, self._finder, time_s)

    def acquire(self) -> Lease:
        """Takes a lease on the stream's model, for one frame.

        Raises:
            FerserveError: The model is not there, or not ready.
        """
        return self._acquire(self._config.spec, once=True)

    async def search(self, pick: Callable[[], FrameRequest | None]) -> FoundFrame | None:
        """Finds the faces of the frame that `pick` chooses; see `FrameVision.search_frame`."""
        return await self._vision.search_frame(pick)

    async def score(
        self, frame: FoundFrame, time_s: float, lease: Lease
    ) -> tuple[FrameAnalysis | Unchanged, tuple[TrackEvent, ...]]:
        """Scores the faces of a frame that was searched. Called in the order of the searches.

        Raises:
            FerserveError: The faces were not taken.
        """
        before, done = self._previous, asyncio.Event()
        self._previous = done
        try:
            scores = await _scored(frame, lease)
            if before is not None:
                await before.wait()
            return self._answer(frame, scores, time_s, lease)
        finally:
            done.set()

    def _answer(
        self, frame: FoundFrame, faces: ScoredFaces, time_s: float, lease: Lease
    ) -> tuple[FrameAnalysis | Unchanged, tuple[TrackEvent, ...]]:
        found, labels = frame.found, lease.description.labels
        image = ImageAnalysis(
            found.width,
            found.height,
            found.locations,
            faces,
            found.omitted_face_count,
            found.decode_s,
            found.detect_s,
        )
        if self._board is None:
            return FrameAnalysis(image, labels, lease.id), ()
        events = self._board.end(frame.ended, UNCERTAIN_THRESHOLD)
        rows = [
            (track_id, None if row in faces.failures else faces.scores[row])
            for row, track_id in enumerate(frame.track_ids)
        ]
        carried_rows = [(track_id, None) for track_id, _ in frame.carried]
        steady, changes = self._board.update(time_s, labels, [*rows, *carried_rows], UNCERTAIN_THRESHOLD)
        events += changes
        if self._config.events_only and not events:
            return Unchanged(), ()
        tracks = [
            TrackedFace(track_id, each, carried=False) for (track_id, _), each in zip(rows, steady, strict=False)
        ]
        image = _with_carried(image, frame, steady[len(rows) :], tracks)
        return FrameAnalysis(image, labels, lease.id, tuple(tracks)), tuple(events)


def _with_carried(
    image: ImageAnalysis,
    frame: FoundFrame,
    steady: Sequence[SteadyPrediction | None],
    tracks: list[TrackedFace],
) -> ImageAnalysis:
    """Adds the faces that are shown where the motion model puts them; those without any scores are left out."""
    locations, scores = list(image.locations), [image.faces.scores]
    for (track_id, box), prediction in zip(frame.carried, steady, strict=True):
        if prediction is not None:
            locations.append(FaceLocation(box, 0.0))
            scores.append(prediction.scores[np.newaxis].astype(np.float32))
            tracks.append(TrackedFace(track_id, prediction, carried=True))
    if len(scores) == 1:
        return image
    faces = image.faces._replace(scores=np.concatenate(scores))
    return replace(image, locations=tuple(locations), faces=faces)


async def _scored(frame: FoundFrame, lease: Lease) -> ScoredFaces:
    if not frame.found.crops:
        return ScoredFaces(np.zeros((0, len(lease.description.labels)), np.float32))
    crops = np.stack(frame.found.crops)[..., np.newaxis]
    return await lease.scorer.score(crops)
