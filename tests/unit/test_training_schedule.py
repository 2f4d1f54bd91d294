import numpy as np
import pytest

from ferserve_training.loop.schedule import (
    Budget,
    advance,
    epoch_order,
    epochs_left,
    learning_rates,
    view_size,
)
from ferserve_training.recipes.recipe import Optimisation


@pytest.mark.parametrize(
    ("budget", "epoch_seconds", "expected"),
    [
        (Budget(10, None), [], 10),
        (Budget(10, None), [5.0] * 4, 6),
        (Budget(10, None), [5.0] * 10, 0),
        (Budget(None, 100.0), [], 10),  # at the guess of 10 s
        (Budget(None, 100.0), [5.0] * 4, 16),
        (Budget(None, 100.0), [5.0, 5.0, 60.0], 6),  # one slow epoch costs its time, not the pace
        (Budget(None, 100.0), [50.0, 60.0], 0),
        (Budget(3, 100.0), [5.0], 2),
        (Budget(30, 100.0), [50.0], 1),
    ],
)
def test_the_first_limit_reached_counts(budget, epoch_seconds, expected):
    assert epochs_left(budget, epoch_seconds, guess_seconds=10.0) == expected


def test_a_run_without_limits_is_rejected():
    with pytest.raises(ValueError, match="needs a limit"):
        Budget(None, None)


def test_with_a_fixed_number_of_epochs_progress_is_even():
    progress = [0.0]
    for to_go in (4, 3, 2, 1):
        progress.append(advance(progress[-1], to_go))

    assert progress == pytest.approx([0, 0.25, 0.5, 0.75, 1])


def test_when_the_pace_drops_the_rest_of_the_schedule_is_spread_over_fewer_epochs():
    assert advance(0.5, 50) == pytest.approx(0.51)
    assert advance(0.5, 5) == pytest.approx(0.6)


def test_the_learning_rate_warms_up_and_cools_to_zero():
    settings = Optimisation(peak_learning_rate=0.2, warmup_steps=10)

    rates = learning_rates(settings, (0.0, 1.0), 0, 1000)

    assert rates[0] == pytest.approx(0.02)
    assert rates[:10].tolist() == sorted(rates[:10])
    assert rates[10:].tolist() == sorted(rates[10:], reverse=True)
    assert rates[500] == pytest.approx(0.1)
    assert rates[-1] < 1e-5


def test_epochs_join_without_a_step_in_the_learning_rate():
    settings = Optimisation(warmup_steps=30)

    whole = learning_rates(settings, (0.0, 1.0), 0, 100)
    parts = [learning_rates(settings, (i / 4, (i + 1) / 4), i * 25, 25) for i in range(4)]

    assert np.concatenate(parts) == pytest.approx(whole)


def test_the_order_is_new_each_epoch_and_the_same_for_the_same_seed():
    first, second = (epoch_order(100, 10, seed=1, epoch=epoch) for epoch in (0, 1))

    assert (first != second).any()
    assert (first == epoch_order(100, 10, seed=1, epoch=0)).all()
    assert (first != epoch_order(100, 10, seed=2, epoch=0)).any()


def test_views_grow_with_the_progress_of_a_run_where_the_recipe_says_so():
    growing = Optimisation(grows=True)

    assert [view_size(growing, progress) for progress in (0.0, 0.39, 0.4, 0.79, 0.8, 1.0)] == [
        32,
        32,
        40,
        40,
        48,
        48,
    ]
    assert view_size(Optimisation(), 0.0) == 48
