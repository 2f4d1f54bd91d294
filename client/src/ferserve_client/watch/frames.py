"""Describes a watched frame with its answer, in the pixels of its source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ferserve_client.faces import BoundingBox, Landmarks

if TYPE_CHECKING:
    from ferserve_client.answers import FrameAnswer
    from ferserve_client.faces import DetectedFace, ImageAnalysis
    from ferserve_client.video.sources import VideoFrame


@dataclass(frozen=True, slots=True)
class WatchedFrame:
    """Joins one frame of a source and its answer."""

    source_index: int
    """Index of the source among those that are watched, from 0."""
    source: str
    """Name of the source for people, without passwords."""
    frame: VideoFrame
    """The frame, with pixels where an output needs them."""
    answer: FrameAnswer
    """The answer, in the pixels of the source."""
    lag_s: float
    """Seconds from the frame's reading to its answer, 0 or more."""

    @property
    def faces(self) -> tuple[DetectedFace, ...]:
        """Return the faces of the frame; none where it was not analysed."""
        return () if self.answer.analysis is None else self.answer.analysis.faces


@dataclass(frozen=True, slots=True)
class SourceReport:
    """Tells how the watching of one source ended."""

    source_index: int
    """Index of the source among those that are watched, from 0."""
    source: str
    """Name of the source for people."""
    problems: tuple[str, ...] = ()
    """Everything that went wrong, one sentence each. Empty: all frames that were read are answered."""
    reconnects: int = 0
    """Times that the server or the source was lost and came back."""


def scaled(analysis: ImageAnalysis, width: int, height: int) -> ImageAnalysis:
    """Return the analysis of a shrunk picture in the pixels of the picture that it was made from.

    Args:
        analysis: Faces of the shrunk picture.
        width: Width of the original in pixels.
        height: Height of the original in pixels.
    """
    if (analysis.width, analysis.height) == (width, height) or not (analysis.width and analysis.height):
        return analysis
    across, down = width / analysis.width, height / analysis.height
    faces = tuple(
        replace(
            face,
            box=_scaled_box(face.box, across, down),
            landmarks=None if face.landmarks is None else _scaled_landmarks(face.landmarks, across, down),
        )
        for face in analysis.faces
    )
    return replace(analysis, width=width, height=height, faces=faces)


def _scaled_box(box: BoundingBox, across: float, down: float) -> BoundingBox:
    # Edges are rounded rather than sizes, so that boxes stay inside the picture.
    left, top = round(box.left * across), round(box.top * down)
    right = round((box.left + box.width) * across)
    bottom = round((box.top + box.height) * down)
    return BoundingBox(left, top, max(1, right - left), max(1, bottom - top))


def _scaled_landmarks(landmarks: Landmarks, across: float, down: float) -> Landmarks:
    points = (landmarks.left_eye, landmarks.right_eye, landmarks.nose, landmarks.left_mouth, landmarks.right_mouth)
    return Landmarks(*((x * across, y * down) for x, y in points))
