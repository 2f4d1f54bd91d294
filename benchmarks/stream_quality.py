"""Measures the quality of a stream's answers: false and missed faces, label flips, swapped numbers, delays."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from ferserve_vision.detectors.yunet import YunetDetector
from ferserve_vision.geometry import Box
from ferserve_vision.options import DetectionOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream_clips import Clip
    from stream_load import Answers

REFERENCE_SIDES_PIXELS = (320, 480, 640)
ANY_FACE_SCORE = 0.3
CLEAR_FACE_SCORE = 0.85
"""Scores of the reference, YuNet on full frames at several sizes: a box that matches none of the lower ones is
false, a face of the higher ones that has no box is missed. Small sizes find large blurred faces."""

MATCHING_IOU = 0.3
NEIGHBOURS = 3
"""Frames before and after in which the reference may have the face: it flickers too."""


class Quality(NamedTuple):
    """Holds the figures of one clip."""

    frame_count: int
    false_per_100_frames: float
    missed_share: float
    bare_frames: int
    raw_flips_per_s: float
    steady_flips_per_s: float
    track_count: int


def reference(clip: Clip) -> list[list[tuple[Box, float]]]:
    """Finds the faces of every frame, slowly; a face may be there several times."""
    detector = YunetDetector()
    found = []
    for image in clip.frames:
        grey: Any = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_GRAYSCALE)
        faces: list[tuple[Box, float]] = []
        for side in REFERENCE_SIDES_PIXELS:
            options = DetectionOptions(detection_side_pixels=side, score_threshold=ANY_FACE_SCORE)
            faces += [(each.box, each.score) for each in detector.detect(grey, options)]
        found.append(faces)
    return found


def judge(clip: Clip, answers: Answers, truth: Sequence[Sequence[tuple[Box, float]]]) -> Quality:
    """Compares what was shown with the reference."""
    shown = [_boxes(response) for response in answers.responses]
    near = [
        [face for frame in truth[max(0, number - NEIGHBOURS) : number + NEIGHBOURS + 1] for face in frame]
        for number in range(len(truth))
    ]
    false = sum(
        not any(_matches(box, face) for face, _ in faces)
        for boxes, faces in zip(shown, near, strict=True)
        for box in boxes
    )
    clear = [
        any(_matches(box, face) for box in boxes)
        for boxes, faces in zip(shown, truth, strict=True)
        for face, score in faces
        if score >= CLEAR_FACE_SCORE
    ]
    raw, steady, tracks = _flips(clip, answers)
    return Quality(
        len(shown),
        round(100 * false / len(shown), 2),
        round(1 - sum(clear) / max(1, len(clear)), 4),
        sum(not boxes for boxes in shown),
        raw,
        steady,
        tracks,
    )


def _boxes(response: Any) -> list[Box]:  # noqa: ANN401 - a protobuf message
    boxes = (face.box for face in response.analysis.faces)
    return [Box(box.left, box.top, box.width, box.height) for box in boxes]


def _matches(box: Box, other: Box) -> bool:
    shared = box.overlap(other)
    return shared >= MATCHING_IOU * (box.area + other.area - shared)


def _flips(clip: Clip, answers: Answers) -> tuple[float, float, int]:
    """Counts changes of the label per second of a track, raw and steady, over all tracks; and the tracks."""
    raw, steady = defaultdict(list), defaultdict(list)
    for response in answers.responses:
        for face in response.analysis.faces:
            if face.track_id and face.HasField("raw"):
                raw[face.track_id].append(face.raw.label_index)
                steady[face.track_id].append(face.prediction.label_index)
    seconds = sum(map(len, raw.values())) / clip.rate
    if not seconds:
        return float("nan"), float("nan"), 0
    counts = [sum(a != b for labels in each.values() for a, b in pairwise(labels)) for each in (raw, steady)]
    return round(counts[0] / seconds, 2), round(counts[1] / seconds, 2), len(raw)


def shown_after_s(clip: Clip, answers: Answers) -> tuple[float | None, float | None]:
    """Measures how long after half of the clip the steady label of its largest face is the new one.

    Returns:
        Seconds of the video, and the same with the age of that answer; None if the label did not change.
    """
    faces = [
        (response.time_s, response.age_ms, response.analysis.faces[0])
        for response in answers.responses
        if response.analysis.faces
    ]
    half_s = len(clip.frames) / clip.rate / 2
    before = [face.prediction.label_index for time_s, _, face in faces if time_s < half_s]
    if not before:
        return None, None
    changed = [
        (time_s - half_s, age_ms)
        for time_s, age_ms, face in faces
        if time_s >= half_s and face.prediction.label_index != before[-1]
    ]
    if not changed:
        return None, None
    return round(changed[0][0], 3), round(changed[0][0] + changed[0][1] / 1e3, 3)
