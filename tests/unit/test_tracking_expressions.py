"""Tests smoothed expressions, steady labels and events."""

from __future__ import annotations

import numpy as np
import pytest

from ferserve_server.tracking.events import ExpressionBoard, TrackEventType
from ferserve_server.tracking.lifecycle import Track
from ferserve_server.tracking.motion import begin
from ferserve_server.tracking.options import DEFAULT_TRACKING
from ferserve_server.tracking.smoothing import first_expression, is_uncertain, smoothed
from support.synthetic_faces import face_at

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
HALF_LIFE_S = DEFAULT_TRACKING.smoothing_half_life_s


def scores_of(label: int, confidence: float = 0.9) -> np.ndarray:
    """Makes probabilities with one clear class, float32 [7]."""
    scores = np.full(7, (1 - confidence) / 6, np.float32)
    scores[label] = confidence
    return scores


def _ended(track_id: int, first_s: float, last_s: float) -> Track:
    return Track(track_id, begin(face_at(0, 0).box), 1.0, first_s, last_s, None)


@pytest.mark.parametrize("rate", [10, 15, 30, 60])
@pytest.mark.parametrize("confidence", [0.6, 0.8, 0.99])
def test_a_change_of_expression_shows_within_300_ms(rate: int, confidence: float) -> None:
    state = first_expression(0.0, scores_of(3, confidence))
    for frame in range(1, 2 * rate):
        state = smoothed(state, frame / rate, scores_of(3, confidence), HALF_LIFE_S)
    changed_at = (2 * rate - 1) / rate
    shown_at = next(
        time_s
        for frame in range(2 * rate, 4 * rate)
        if (state := smoothed(state, time_s := frame / rate, scores_of(5, confidence), HALF_LIFE_S)).label == 5
    )
    assert shown_at - changed_at <= 0.3 + 1e-9


def test_a_single_odd_frame_does_not_change_the_label() -> None:
    state = first_expression(0.0, scores_of(3, 0.7))
    for frame in range(1, 90):
        odd = frame % 10 == 0
        state = smoothed(state, frame / 30, scores_of(4, 0.95) if odd else scores_of(3, 0.7), HALF_LIFE_S)
        assert state.label == 3


def test_a_doubtful_face_does_not_flicker() -> None:
    rng = np.random.default_rng(7)
    state, flips, raw_flips, before = None, 0, 0, None
    for frame in range(900):
        logits = np.array([0, -3, -1, -1, 0.9, -2, 1.0]) + rng.normal(0, 0.6, 7)
        scores = np.exp(logits) / np.exp(logits).sum()
        if state is None:
            state = first_expression(0.0, scores)
        else:
            label = state.label
            state = smoothed(state, frame / 30, scores, HALF_LIFE_S)
            flips += state.label != label
            raw_flips += int(scores.argmax()) != before
        before = int(scores.argmax())
    assert raw_flips / 30 > 5
    assert flips / 30 < 0.5


def test_uncertain_is_a_low_score_without_a_clear_lead() -> None:
    assert is_uncertain(np.array([0.45, 0.40, 0.15]), 0, 0.5)
    assert not is_uncertain(np.array([0.45, 0.20, 0.20, 0.15]), 0, 0.5)
    assert not is_uncertain(np.array([0.55, 0.45]), 0, 0.5)
    assert is_uncertain(np.array([0.3, 0.7]), 0, 0.5)
    assert not is_uncertain(np.array([1.0]), 0, 0.5)


def _board() -> ExpressionBoard:
    return ExpressionBoard(HALF_LIFE_S)


def test_a_face_appears_changes_and_leaves() -> None:
    board = _board()
    reported = []
    for frame in range(61):
        label = 3 if frame < 30 else 5
        _, events = board.update(frame / 30, LABELS, [(1, scores_of(label))], 0.5)
        reported += events
    reported += board.end([_ended(1, 0.0, 2.0)], 0.5)
    assert [event.type for event in reported] == [
        TrackEventType.APPEARED,
        TrackEventType.CHANGED,
        TrackEventType.LEFT,
    ]
    appeared, changed, left = reported
    assert (appeared.time_s, appeared.duration_s, appeared.prediction.label) == (0.0, 0.0, 3)
    assert changed.prediction.label == 5
    assert 1.0 < changed.time_s <= 1.3
    assert changed.duration_s == changed.time_s
    assert (left.time_s, left.duration_s) == (2.0, 2.0)
    assert left.prediction.scores[3] == pytest.approx(left.prediction.scores[5], abs=0.1)


def test_scores_of_a_face_that_failed_are_those_of_before() -> None:
    board = _board()
    first, _ = board.update(0.0, LABELS, [(1, scores_of(3)), (2, None)], 0.5)
    again, events = board.update(0.1, LABELS, [(1, None), (2, None)], 0.5)
    assert again[0] is not None
    assert np.array_equal(again[0].scores, first[0].scores)
    assert (first[1], again[1], events) == (None, None, [])
    later, _ = board.update(0.3, LABELS, [(1, None)], 0.5)
    assert later == [None]


def test_a_face_without_scores_never_appears_and_never_leaves() -> None:
    board = _board()
    board.update(0.0, LABELS, [(1, None)], 0.5)
    assert board.end([_ended(1, 0.0, 0.0)], 0.5) == []


def test_another_version_with_other_classes_starts_smoothing_again_without_an_event() -> None:
    board = _board()
    board.update(0.0, LABELS, [(1, scores_of(3))], 0.5)
    two = np.array([0.2, 0.8], np.float32)
    (steady,), events = board.update(0.1, ("calm", "lively"), [(1, two)], 0.5)
    assert steady is not None
    assert steady.scores == pytest.approx([0.2, 0.8])
    assert events == []


def test_nothing_is_kept_of_tracks_that_ended() -> None:
    board = _board()
    for number in range(1, 200):
        board.update(float(number), LABELS, [(number, scores_of(1))], 0.5)
        board.end([_ended(number, float(number), float(number))], 0.5)
    assert not board._expressions
    assert not board._appeared
