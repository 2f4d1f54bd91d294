"""Tests that the thresholds of a version decide the interpretation of its scores."""

from dataclasses import replace

import numpy as np
import pytest

from ferserve_server.domain.errors import InferenceFailedError
from ferserve_server.domain.face import NotAFacePolicy
from ferserve_server.domain.prediction import ScoredFaces
from ferserve_server.pipeline.decisions import decide, kept_rows, with_rows, without_marks
from support.fake_models import DESCRIPTION

JUDGING = replace(DESCRIPTION, uncertain_threshold=0.6, not_a_face_output="not_a_face", not_a_face_threshold=0.5)


def raw_scores(*rows: tuple[float, float]) -> np.ndarray:
    """Scores as an engine gives them, from the highest probability and that of no face."""
    scores = np.zeros((len(rows), 8), np.float32)
    for row, (best, no_face) in enumerate(rows):
        scores[row, :7] = (1 - best) / 6
        scores[row, 3], scores[row, 7] = best, no_face
    return scores


def test_the_column_for_no_face_is_taken_off_and_judged():
    faces = decide(ScoredFaces(raw_scores((0.9, 0.1), (0.5, 0.5), (0.7, 0.9)), queue_s=0.5), JUDGING)
    assert faces.scores.shape == (3, 7)
    assert faces.not_a_face is not None
    assert faces.not_a_face.tolist() == [False, True, True]
    assert faces.uncertain.tolist() == [False, True, False]
    assert faces.queue_s == 0.5


def test_a_version_without_the_output_marks_nothing():
    faces = decide(ScoredFaces(raw_scores((0.45, 0))[:, :7]), DESCRIPTION)
    assert faces.not_a_face is None
    assert faces.uncertain.tolist() == [True]


def test_no_faces_are_decided_too():
    faces = decide(ScoredFaces(np.zeros((0, 8), np.float32)), JUDGING)
    assert faces.scores.shape == (0, 7)
    assert faces.uncertain.tolist() == []


@pytest.mark.parametrize(
    ("policy", "rows"),
    [(NotAFacePolicy.DROP, [0, 2]), (NotAFacePolicy.MARK, [0, 1, 2]), (NotAFacePolicy.IGNORE, [0, 1, 2])],
)
def test_what_is_no_face_is_dropped_under_that_policy_alone(policy: NotAFacePolicy, rows: list[int]):
    faces = decide(ScoredFaces(raw_scores((0.9, 0.1), (0.9, 0.9), (0.8, 0.2))), JUDGING)
    assert kept_rows(faces, policy) == rows


def test_a_face_that_failed_is_never_dropped_and_keeps_its_error():
    failed = InferenceFailedError()
    faces = decide(ScoredFaces(raw_scores((0.9, 0.9), (0.0, 0.9), (0.8, 0.2)), {1: failed}), JUDGING)
    rows = kept_rows(faces, NotAFacePolicy.DROP)
    assert rows == [1, 2]
    kept = with_rows(faces, rows)
    assert kept.failures == {0: failed}
    assert kept.scores[1, 3] == np.float32(0.8)


def test_marks_are_forgotten_under_ignore():
    faces = decide(ScoredFaces(raw_scores((0.9, 0.9))), JUDGING)
    assert without_marks(faces, NotAFacePolicy.MARK) is faces
    assert without_marks(faces, NotAFacePolicy.IGNORE).not_a_face.tolist() == [False]
