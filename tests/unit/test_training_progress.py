from dataclasses import replace

import pytest

from ferserve_training.loop.progress import is_best, must_stop, needs_every_epoch, rate_after
from ferserve_training.loop.records import EpochRecord
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.recipes.recipe import Plateau, adam


def history(losses, accuracies=None):
    accuracies = accuracies or [None] * len(losses)
    return tuple(
        EpochRecord(index + 1, 0.0, loss, accuracy, 1.0, public_test_loss=loss)
        for index, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True))
    )


@pytest.mark.parametrize(("made", "rate"), [(0, 5e-4), (19, 5e-4), (20, 2.5e-4), (29, 2.5e-4), (30, 5e-5)])
def test_steps_hold_from_their_epoch_on(made, rate):
    assert rate_after(RECIPES["seed3-gap512"].optimisation, history([1.0] * made)) == rate


def test_without_steps_the_rate_is_constant():
    assert rate_after(adam(32), history([1.0] * 50)) == 1e-3


@pytest.mark.parametrize("monitor", ["training_loss", "validation_loss"])
def test_a_plateau_cuts_the_rate_after_its_patience_and_not_below_the_least(monitor):
    settings = replace(adam(32, 1.0), rate=Plateau(monitor, factor=0.5, patience=2, least_rate=0.2))

    rates = [
        rate_after(settings, history([3.0, 2.0, 2.0, 2.0, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5][:n])) for n in range(11)
    ]

    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.2, 0.2]


def test_a_fall_by_less_than_a_ten_thousandth_is_none():
    settings = replace(adam(32, 1.0), rate=Plateau("training_loss", 0.5, 2))

    assert rate_after(settings, history([1.0, 0.99995, 0.99991])) == 0.5
    assert rate_after(settings, history([1.0, 0.9998, 0.9996])) == 1.0


@pytest.mark.parametrize(
    ("losses", "stops"),
    [
        ([], False),
        ([1.0], False),
        ([1.0, 2.0, 2.0], False),
        ([1.0, 2.0, 2.0, 2.0], True),
        ([2.0, 3.0, 1.0, 2.0], False),
    ],
)
def test_a_run_stops_three_epochs_after_its_lowest_validation_loss(losses, stops):
    assert must_stop(replace(adam(32), stop_after=3), history(losses)) is stops
    assert not must_stop(adam(32), history(losses))


def test_the_best_epoch_is_kept_and_a_tie_keeps_the_earlier():
    by_accuracy, by_loss = (replace(adam(32), keeps=keeps) for keeps in ("best_accuracy", "best_loss"))
    made = history([1.0, 0.9, 0.9, 0.8], [0.5, 0.6, 0.6, 0.4])

    assert [is_best(by_accuracy, made[:n]) for n in (1, 2, 3, 4)] == [True, True, False, False]
    assert [is_best(by_loss, made[:n]) for n in (1, 2, 3, 4)] == [True, True, False, True]
    assert not is_best(adam(32), made)


def test_what_watches_the_validation_faces_scores_every_epoch():
    watching = {name for name, recipe in RECIPES.items() if needs_every_epoch(recipe.optimisation)}

    assert watching == {"seed0-cnn256", "seed2-cnn-aug", "seed2-vgg16", "seed2-resnet50"}
