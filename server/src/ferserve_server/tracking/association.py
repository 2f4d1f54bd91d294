"""Associates detections with tracks. Pure.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box" (ECCV 2022): detections
with high scores are associated first, those with low scores extend tracks but never start one. Two stages are
added around it: a box that overlaps exactly one box of the previous frame continues that box's track without
regard to the prediction, and hidden tracks are found again by distance.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from ferserve_server.tracking.assignment import assign

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_server.tracking.boxes import Box, Detection

MIN_CONTINUED_IOU: Final = 0.1
"""Overlap with the box of the frame before that continues a track, if nothing else overlaps either: a head that
jumps by half its size in both directions is still the same one."""

MIN_HIGH_IOU: Final = 0.15
"""Overlap of the predicted box with a detection of high score."""

MIN_LOW_IOU: Final = 0.4
"""The same for a low score, which is more often something else."""

RECOVERY_SIDES: Final = 0.5
RECOVERY_SIDES_PER_S: Final = 1.5
MAX_RECOVERY_SIDES: Final = 2.0
"""Distance from the prediction at which a hidden face is found again, in sides of its box: at first, growth per
second, and largest. A head that turns back within a second is 1 to 2 sides from where constant velocity puts
it."""

MAX_RECOVERY_GROWTH: Final = 2.0
"""Largest ratio of sides of a face before and after it was hidden."""


class Candidate(NamedTuple):
    """Describes a track to be matched with a detection.

    Attributes:
        predicted: Its box at the time of the frame, by the motion model.
        last: Its box in the frame before, or None if it was not found in that.
        unseen_s: Time since it was found, in seconds.
    """

    predicted: Box
    last: Box | None
    unseen_s: float


def associate(tracks: Sequence[Candidate], detections: Sequence[Detection], high_score: float) -> dict[int, int]:
    """Finds the track of each detection.

    Args:
        tracks: The tracks.
        detections: At most one per face.
        high_score: Detections from this score on, 0.0 to 1.0, count as certain. Scores of 0.0 do too: they are
            from detectors that give none.

    Returns:
        Index of the track by index of the detection; each track at most once.
    """
    boxes = [each.box for each in detections]
    pairs = _continued(tracks, boxes)
    high = [index for index, each in enumerate(detections) if each.score >= high_score or each.score == 0.0]
    low = sorted(set(range(len(detections))) - set(high))
    stages = (
        (high, lambda track, box: track.predicted.iou(box), MIN_HIGH_IOU),
        (low, lambda track, box: track.predicted.iou(box) if track.last else 0.0, MIN_LOW_IOU),
        (high, _recovery, math.ulp(1.0)),
    )
    for wanted, similarity, least in stages:
        _pair(tracks, boxes, wanted, similarity, least, pairs)
    return pairs


def _continued(tracks: Sequence[Candidate], boxes: Sequence[Box]) -> dict[int, int]:
    """Pairs each box with the only track whose last box it overlaps, where it is the only one that does."""
    overlaps = np.array(
        [[track.last.iou(box) if track.last else 0.0 for box in boxes] for track in tracks], np.float64
    ).reshape(len(tracks), len(boxes))
    alone = (overlaps > 0).sum(axis=0, keepdims=True) + (overlaps > 0).sum(axis=1, keepdims=True) == 2
    found = np.argwhere(alone & (overlaps >= MIN_CONTINUED_IOU)).tolist()
    return {detection: track for track, detection in found}


def _pair(
    tracks: Sequence[Candidate],
    boxes: Sequence[Box],
    wanted: Sequence[int],
    similarity: Callable[[Candidate, Box], float],
    least: float,
    pairs: dict[int, int],
) -> None:
    """Pairs those of the `wanted` boxes that have no track yet with the tracks that have no box."""
    free_boxes = [index for index in wanted if index not in pairs]
    free_tracks = sorted(set(range(len(tracks))) - set(pairs.values()))
    if not free_boxes or not free_tracks:
        return
    table = np.array(
        [[similarity(tracks[track], boxes[box]) for box in free_boxes] for track in free_tracks], np.float64
    )
    for track, box in assign(table, least):
        pairs[free_boxes[box]] = free_tracks[track]


def _recovery(track: Candidate, box: Box) -> float:
    """Rates how well a box fits a track that was hidden: 1.0 at the predicted place, 0.0 beyond the bounds."""
    sides = math.sqrt(track.predicted.area), math.sqrt(box.area)
    if max(sides) > MAX_RECOVERY_GROWTH * min(sides):
        return 0.0
    reach = min(RECOVERY_SIDES + RECOVERY_SIDES_PER_S * track.unseen_s, MAX_RECOVERY_SIDES) * max(sides)
    (x, y), (other_x, other_y) = track.predicted.center, box.center
    return max(0.0, 1.0 - math.hypot(x - other_x, y - other_y) / reach)
