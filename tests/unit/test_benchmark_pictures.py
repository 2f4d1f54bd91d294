"""Tests the comparison of faces in the benchmark of pictures."""

import numpy as np
import pytest
from picture_agreement import Faces, agreement, overlap

from ferserve_vision.geometry import Box

FACE = Box(left=100, top=100, width=100, height=100)
BESIDE = Box(left=150, top=100, width=100, height=100)
ELSEWHERE = Box(left=900, top=900, width=50, height=50)


def faces(*boxes: Box, level: int = 0) -> Faces:
    return Faces(boxes, [np.full((48, 48), level, np.uint8) for _ in boxes])


def test_overlap_is_what_both_hold_of_what_either_holds():
    assert overlap(FACE, FACE) == 1
    assert overlap(FACE, BESIDE) == overlap(BESIDE, FACE) == pytest.approx(1 / 3)
    assert overlap(FACE, ELSEWHERE) == 0


def test_each_face_is_compared_with_the_nearest_one_of_the_same_photograph():
    figures = agreement([faces(FACE, level=10), faces(FACE)], [faces(ELSEWHERE, FACE, level=13), faces(FACE)])
    assert figures == {"box_count": 3, "lost_count": 0, "overlap": 1.0, "crop_difference_levels": 1.5}


def test_a_face_that_is_found_nowhere_near_is_lost():
    figures = agreement([faces(FACE), faces(FACE), faces()], [faces(ELSEWHERE), faces(), faces(FACE)])
    assert figures == {"box_count": 2, "lost_count": 2, "overlap": None, "crop_difference_levels": None}
