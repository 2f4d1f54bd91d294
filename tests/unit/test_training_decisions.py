import numpy as np
import pytest

from ferserve_training.evaluation.decisions import Decisions, choose_decisions


def _probabilities(confidences):
    """Put each confidence on class 0 and spread the rest."""
    rest = (1 - np.asarray(confidences)) / 6
    return np.stack([confidences, *[rest] * 6], axis=1)


def test_below_the_uncertain_threshold_answers_are_more_often_wrong_than_right():
    draws = np.random.default_rng(0)
    confidences = draws.uniform(0.2, 1.0, 20_000)
    is_right = draws.random(20_000) < confidences  # honest probabilities

    chosen = choose_decisions(_probabilities(confidences), np.where(is_right, 0, 1), None)

    assert chosen.uncertain_threshold == pytest.approx(0.5, abs=0.05)
    assert chosen.not_a_face_threshold == 1.0


def test_a_net_that_is_always_right_is_never_uncertain():
    chosen = choose_decisions(_probabilities([0.3, 0.9]), np.zeros(2, int), None)

    assert chosen.uncertain_threshold <= 0.3


def test_at_most_half_a_percent_of_the_faces_lie_above_the_other_threshold():
    scores = np.linspace(0, 1, 1000)

    chosen = choose_decisions(_probabilities(np.full(1000, 0.9)), np.zeros(1000, int), scores)

    assert (scores > chosen.not_a_face_threshold).mean() <= 0.005
    assert chosen.not_a_face_threshold == pytest.approx(1.0, abs=0.01)


def test_a_net_that_tells_faces_well_keeps_the_threshold_of_a_half():
    scores = np.full(1000, 0.01)

    chosen = choose_decisions(_probabilities(np.full(1000, 0.9)), np.zeros(1000, int), scores)

    assert chosen == Decisions(chosen.uncertain_threshold, 0.5)
