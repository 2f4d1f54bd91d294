"""Detects, tracks and scores the faces of one stream's frames."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.face import FaceLocation, NotAFacePolicy
from ferserve_server.domain.prediction import ImageAnalysis, ScoredFaces
from ferserve_server.pipeline.decisions import decide, kept_rows, with_rows, without_marks
from ferserve_server.pipeline.frame_answers import FrameAnalysis, TrackedFace, Unchanged
from ferserve_server.tracking.events import ExpressionBoard
from ferserve_server.tracking.finder import FaceFinder
from ferserve_server.tracking.ports import FrameRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.domain.caller import CallerId
    from ferserve_server.domain.models import Acquire, Lease
    from ferserve_server.pipeline.frame_answers import FrameStreamConfig
    from ferserve_server.tracking.events import SteadyPrediction, TrackEvent
    from ferserve_server.tracking.ports import FoundFrame, FrameVision


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
        # A picture that was sent as one face is answered as one: it is marked at most.
        policy = config.detection.not_a_face_policy
        drops_whole = config.detection.whole_image and policy is NotAFacePolicy.DROP
        self._not_a_face_policy = NotAFacePolicy.MARK if drops_whole else policy
        self._previous: asyncio.Event | None = None

    def request(self, image: bytes, time_s: float) -> FrameRequest:
        """Makes the request for the threads that run `search`."""
        return FrameRequest(image, self._config.detection, self._finder, time_s)

    def acquire(self) -> Lease:
        """Takes a lease on the stream's model, for one frame.

        Raises:
            FerserveError: The model is not there, or not ready.
        """
        return self._acquire(self._config.spec, once=True)

    async def search(self, pick: Callable[[], FrameRequest | None]) -> FoundFrame | None:
        """Finds the faces of the frame that `pick` chooses; see `FrameVision.search_frame`."""
        return await self._vision.search_frame(pick, self._config.caller)

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
            scores = await _scored(frame, lease, self._config.caller)
            if before is not None:
                await before.wait()
            return self._answer(frame, scores, time_s, lease)
        finally:
            done.set()

    def _answer(
        self, frame: FoundFrame, faces: ScoredFaces, time_s: float, lease: Lease
    ) -> tuple[FrameAnalysis | Unchanged, tuple[TrackEvent, ...]]:
        labels = lease.description.labels
        if self._board is None:
            rows = kept_rows(faces, self._not_a_face_policy)
            return FrameAnalysis(self._image(frame, faces, rows), labels, lease.id), ()
        shows_face = _shows_face(faces, self._not_a_face_policy)
        scored = [
            (track_id, faces.scores[row] if shows_face[row] and row not in faces.failures else None)
            for row, track_id in enumerate(frame.track_ids)
        ]
        scored += [(track_id, None) for track_id, _ in frame.carried]
        events = self._board.end(frame.ended, faces.uncertain_threshold)
        steady, changes = self._board.update(time_s, labels, scored, faces.uncertain_threshold)
        events += changes
        if self._config.events_only and not events:
            return Unchanged(), ()
        drops = self._not_a_face_policy is NotAFacePolicy.DROP
        rows = [
            row for row in range(len(frame.track_ids)) if steady[row] is not None or shows_face[row] or not drops
        ]
        # A crop that shows no face for a moment keeps the place of one that did, without a raw prediction.
        tracks = [
            TrackedFace(frame.track_ids[row], steady[row], carried=drops and not shows_face[row]) for row in rows
        ]
        image = _with_carried(self._image(frame, faces, rows), frame, steady[len(frame.track_ids) :], tracks)
        return FrameAnalysis(image, labels, lease.id, tuple(tracks)), tuple(events)

    def _image(self, frame: FoundFrame, faces: ScoredFaces, rows: list[int]) -> ImageAnalysis:
        """Assembles some rows of a frame."""
        found = frame.found
        return ImageAnalysis(
            found.width,
            found.height,
            tuple(found.locations[row] for row in rows),
            without_marks(with_rows(faces, rows), self._not_a_face_policy),
            found.omitted_face_count,
            found.decode_s,
            found.detect_s,
        )


def _shows_face(faces: ScoredFaces, policy: NotAFacePolicy) -> list[bool]:
    """Returns for each row whether its scores are those of a face."""
    if policy is NotAFacePolicy.IGNORE or faces.not_a_face is None:
        return [True] * len(faces.scores)
    return [not each or row in faces.failures for row, each in enumerate(faces.not_a_face.tolist())]


def _with_carried(
    image: ImageAnalysis,
    frame: FoundFrame,
    steady: Sequence[SteadyPrediction | None],
    tracks: list[TrackedFace],
) -> ImageAnalysis:
    """Adds tracked faces at positions of the motion model; those without any scores are left out."""
    locations, scores = list(image.locations), [image.faces.scores]
    for (track_id, box), prediction in zip(frame.carried, steady, strict=True):
        if prediction is not None:
            locations.append(FaceLocation(box, 0.0))
            scores.append(prediction.scores[np.newaxis].astype(np.float32))
            tracks.append(TrackedFace(track_id, prediction, carried=True))
    if len(scores) == 1:
        return image
    marks = image.faces.not_a_face
    faces = image.faces._replace(
        scores=np.concatenate(scores),
        not_a_face=None if marks is None else np.append(marks, np.zeros(len(scores) - 1, np.bool_)),
    )
    return replace(image, locations=tuple(locations), faces=faces)


async def _scored(frame: FoundFrame, lease: Lease, caller: CallerId) -> ScoredFaces:
    if not frame.found.crops:
        labels = lease.description.labels
        return decide(ScoredFaces(np.zeros((0, len(labels)), np.float32)), lease.description)
    crops = np.stack(frame.found.crops)[..., np.newaxis]
    return decide(await lease.scorer.score(crops, caller=caller), lease.description)
