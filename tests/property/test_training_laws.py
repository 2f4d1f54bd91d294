import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferserve_training.evaluation.calibration import (
    calibration_error,
    fit_temperature,
    negative_log_likelihood,
    softmax,
)
from ferserve_training.evaluation.intervals import wilson_interval
from ferserve_training.evaluation.scores import count_confusion, macro_f1
from ferserve_training.loop.schedule import advance, epoch_order, learning_rates
from ferserve_training.recipes.recipe import Optimisation


@st.composite
def _scored(draw):
    """Draw logits [N, 7] and labels [N]."""
    count = draw(st.integers(1, 40))
    draws = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = draws.normal(size=(count, 7)) * draw(st.floats(0.0, 50.0))
    return logits, draws.integers(0, 7, count)


@given(st.integers(1, 10**6), st.data())
def test_an_interval_holds_its_share_and_shrinks_with_more_of_the_same(sample_count, data):
    successes = data.draw(st.integers(0, sample_count))

    low, high = wilson_interval(successes, sample_count)
    closer_low, closer_high = wilson_interval(successes * 4, sample_count * 4)

    assert 0 <= low <= successes / sample_count + 1e-12
    assert successes / sample_count - 1e-12 <= high <= 1
    assert closer_high - closer_low < high - low


@given(_scored(), st.floats(0.05, 20.0))
def test_probabilities_sum_to_one_and_keep_the_winner_at_any_temperature(scored, temperature):
    logits, _ = scored

    probabilities = softmax(logits, temperature)

    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    winners = logits.argmax(axis=1)
    assert probabilities[np.arange(len(logits)), winners] == pytest.approx(probabilities.max(axis=1))


@given(_scored())
def test_the_fitted_temperature_never_makes_the_labels_more_surprising(scored):
    logits, labels = scored

    fitted = negative_log_likelihood(logits, labels, fit_temperature(logits, labels))

    assert fitted <= negative_log_likelihood(logits, labels) + 1e-6


@given(_scored())
def test_the_calibration_error_is_a_share_and_blind_to_order(scored):
    logits, labels = scored
    probabilities = softmax(logits)

    error = calibration_error(probabilities, labels)

    assert 0 <= error <= 1
    assert calibration_error(probabilities[::-1], labels[::-1]) == pytest.approx(error)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60))
def test_confusion_counts_every_face_once(pairs):
    labels, called = np.array(pairs).T

    confusion = count_confusion(labels, called)

    assert confusion.sum() == len(pairs)
    assert np.trace(confusion) == (labels == called).sum()
    assert 0 <= macro_f1(confusion) <= 1


@given(st.lists(st.integers(1, 500), max_size=30))
def test_progress_rises_at_any_pace_and_ends_at_one(estimates):
    progress = 0.0
    for to_go in estimates:
        before, progress = progress, advance(progress, to_go)
        assert before <= progress <= 1

    assert advance(progress, 1) == 1.0


@given(
    st.floats(1e-4, 1.0),
    st.integers(0, 1000),
    st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    st.integers(0, 10**5),
)
def test_learning_rates_stay_between_zero_and_the_peak(peak, warmup_steps, span, first_step):
    settings = Optimisation(peak_learning_rate=peak, warmup_steps=warmup_steps)

    rates = learning_rates(settings, (span[0], span[1]), first_step, 17)

    assert rates.shape == (17,)
    assert (rates >= 0).all()
    assert (rates <= np.float32(peak)).all()


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 100), st.integers(0, 100))
def test_an_epoch_shows_no_face_twice(face_count, batch_size, seed, epoch):
    order = epoch_order(face_count, batch_size, seed, epoch)

    assert order.shape == (face_count // batch_size, batch_size)
    assert len(set(order.ravel().tolist())) == order.size
    assert all(0 <= face < face_count for face in order.ravel())
