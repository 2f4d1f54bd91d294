"""Tests assignment and association of detections with tracks."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ferserve_server.tracking.assignment import assign
from ferserve_server.tracking.association import Candidate, associate
from ferserve_server.tracking.boxes import Box, Detection, one_per_face
from support.synthetic_faces import face_at

SHAPES = st.tuples(st.integers(0, 5), st.integers(0, 5))
TABLES = SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=st.integers(0, 20).map(lambda n: n / 20)))


def _best_sum(table: np.ndarray, least: float) -> float:
    """Tries all assignments."""
    gain = np.where(table >= least, table, 0.0)
    if gain.shape[0] > gain.shape[1]:
        gain = gain.T
    if 0 in gain.shape:
        return 0.0
    rows = range(gain.shape[0])
    return max(
        sum(gain[row, order[row]] for row in rows) for order in permutations(range(gain.shape[1]), len(rows))
    )


@given(TABLES, st.sampled_from([0.05, 0.3, 0.6]))
def test_an_assignment_is_as_good_as_the_best_of_all(table: np.ndarray, least: float) -> None:
    pairs = assign(table, least)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(table[pair] >= least for pair in pairs)
    assert sum(table[pair] for pair in pairs) == pytest.approx(_best_sum(table, least))


def test_an_assignment_of_many_ends() -> None:
    table = np.random.default_rng(1).random((64, 64))
    pairs = assign(table, 0.01)
    assert len(pairs) == 64
    assert sum(table[pair] for pair in pairs) > 62  # greedy choice reaches 61


def _seen(x: float, y: float = 300, side: float = 100) -> Candidate:
    box = face_at(x, y, side).box
    return Candidate(box, box, 1 / 30)


def _hidden(x: float, unseen_s: float, side: float = 100) -> Candidate:
    return Candidate(face_at(x, 300, side).box, None, unseen_s)


def test_a_box_that_overlaps_one_track_continues_it_whatever_was_predicted() -> None:
    far_off = Candidate(face_at(900, 300).box, face_at(100, 300).box, 1 / 30)
    assert associate([far_off, _seen(900)], [face_at(110, 300), face_at(905, 300)], 0.7) == {0: 0, 1: 1}


def test_faces_that_pass_each_other_are_distinguished_by_their_motion() -> None:
    rightward = Candidate(face_at(520, 300).box, face_at(480, 300).box, 1 / 10)
    leftward = Candidate(face_at(480, 300).box, face_at(520, 300).box, 1 / 10)
    assert associate([rightward, leftward], [face_at(518, 300), face_at(482, 300)], 0.7) == {0: 0, 1: 1}


def test_a_low_score_extends_a_track() -> None:
    assert associate([_seen(100)], [face_at(104, 300, score=0.45)], 0.7) == {0: 0}


def test_a_low_score_is_not_taken_for_a_hidden_face() -> None:
    assert associate([_hidden(100, 0.5)], [face_at(100, 300, score=0.45)], 0.7) == {}


def test_a_detection_without_a_score_counts_as_certain() -> None:
    assert associate([_hidden(100, 0.5)], [face_at(130, 300, score=0.0)], 0.7) == {0: 0}


@pytest.mark.parametrize(("x", "found"), [(100, True), (220, True), (290, False)])
def test_a_hidden_face_is_found_again_near_its_prediction(x: float, found: bool) -> None:
    assert associate([_hidden(100, 0.9)], [face_at(x, 300)], 0.7) == ({0: 0} if found else {})


def test_a_hidden_face_does_not_come_back_at_three_times_its_size() -> None:
    assert associate([_hidden(100, 0.9, side=40)], [face_at(150, 300, side=130)], 0.7) == {}


def test_of_two_hidden_faces_each_is_found_where_it_is_nearer() -> None:
    assert associate([_hidden(100, 0.5), _hidden(300, 0.5)], [face_at(280, 300), face_at(150, 300)], 0.7) == {
        0: 1,
        1: 0,
    }


def test_boxes_inside_another_are_dropped_and_neighbours_kept() -> None:
    face, mouth, neighbour = (
        face_at(300, 300, score=0.9),
        face_at(300, 330, 30, score=0.8),
        face_at(380, 300, score=0.7),
    )
    assert one_per_face([mouth, neighbour, face]) == [face, neighbour]


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(20, 200)), max_size=12))
def test_no_kept_box_is_mostly_in_another(places: list[tuple[int, int, int]]) -> None:
    kept = one_per_face(face_at(*map(float, place)) for place in places)
    for each in kept:
        assert all(
            each.box.shared_area(other.box) <= 0.55 * min(each.box.area, other.box.area)
            for other in kept
            if other is not each
        )


def test_the_overlap_of_boxes_is_their_shared_part_of_all() -> None:
    assert Box(0, 0, 10, 10).iou(Box(5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert Box(0, 0, 10, 10).iou(Box(10, 0, 10, 10)) == 0.0
    assert isinstance(face_at(0, 0), Detection)
