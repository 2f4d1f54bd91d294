import numpy as np
import pytest

from ferserve_training.evaluation.calibration import (
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    softmax,
)


def test_huge_logits_neither_overflow_nor_lose_their_order():
    assert softmax(np.array([[1e4, 0.0, -1e4]])).tolist() == [[1.0, 0.0, 0.0]]


def test_probabilities_that_keep_their_word_have_no_error():
    probabilities = np.array([[0.75, 0.25]] * 4)
    labels = np.array([0, 0, 0, 1])

    assert calibration_error(probabilities, labels) == pytest.approx(0.0)


def test_the_error_is_the_gap_of_confidence_and_accuracy_weighted_by_bin():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    labels = np.array([0, 1, 0, 0])  # right in half of the sure cases and all of the unsure ones

    assert calibration_error(probabilities, labels) == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


def test_gaps_of_opposite_sign_cancel_inside_a_bin_but_not_across_bins():
    probabilities = np.array([[0.95, 0.05], [0.65, 0.35]])
    labels = np.array([1, 0])

    assert calibration_error(probabilities, labels, bin_count=1) == pytest.approx(abs(1.6 - 1.0) / 2)
    assert calibration_error(probabilities, labels) == pytest.approx((0.95 + 0.35) / 2)


def test_the_temperature_undoes_an_overconfident_scale():
    draws = np.random.default_rng(0)
    honest = draws.normal(size=(20_000, 7)) * 1.5
    labels = (softmax(honest).cumsum(axis=1) > draws.random((20_000, 1))).argmax(axis=1)

    assert fit_temperature(honest * 3, labels) == pytest.approx(3.0, rel=0.05)


def test_certain_and_right_logits_ask_for_the_coldest_temperature_allowed():
    assert fit_temperature(np.eye(7), np.arange(7)) == pytest.approx(0.05, rel=1e-3)


def test_ignorance_costs_the_logarithm_of_the_class_count():
    assert negative_log_likelihood(np.zeros((3, 7)), np.array([0, 3, 6])) == pytest.approx(np.log(7))
