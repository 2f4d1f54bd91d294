import pytest

from ferserve_training.errors import RunError, TrainingError
from ferserve_training.loop.records import RunSettings
from ferserve_training.loop.request import RunRequest
from ferserve_training.recipes.catalog import RECIPES, find_recipe

_STORED = RunSettings(
    recipe="fer-nano",
    seed=3,
    epochs=10,
    max_minutes=None,
    smoke=False,
    data_sha256="abc",
    training_count=100,
    framework="tensorflow",
)


def test_what_was_not_said_is_taken_from_the_recipe():
    recipe = RECIPES["fer-nano"]

    settings = RunRequest(None, None, None, smoke=False).settle(recipe, "abc", 100, "tensorflow")

    assert (settings.seed, settings.epochs, settings.max_minutes) == (0, recipe.epochs, None)


def test_a_limit_of_minutes_replaces_the_epochs_of_the_recipe():
    settings = RunRequest(None, None, 5.0, smoke=False).settle(RECIPES["fer-nano"], "abc", 100, "tensorflow")

    assert settings.epochs is None
    assert settings.budget.seconds == 300


def test_a_resumed_run_need_not_be_described_again():
    RunRequest(None, None, None, smoke=False).check_resumes(_STORED, "fer-nano", "abc")


@pytest.mark.parametrize(
    ("request_", "recipe", "digest", "message"),
    [
        (RunRequest(4, None, None, smoke=False), "fer-nano", "abc", "seed is 3, not 4"),
        (RunRequest(3, 11, None, smoke=False), "fer-nano", "abc", "epochs is 10, not 11"),
        (RunRequest(3, 10, 5.0, smoke=False), "fer-nano", "abc", "max-minutes is None, not 5.0"),
        (RunRequest(3, 10, None, smoke=True), "fer-nano", "abc", "smoke is False, not True"),
        (RunRequest(3, 10, None, smoke=False), "fer-large", "abc", "recipe is fer-nano, not fer-large"),
        (RunRequest(3, 10, None, smoke=False), "fer-nano", "abd", "is abc, not abd"),
    ],
)
def test_a_run_is_not_resumed_as_another(request_, recipe, digest, message):
    with pytest.raises(RunError, match=message):
        request_.check_resumes(_STORED, recipe, digest)


def test_an_unknown_recipe_is_answered_with_those_there_are():
    with pytest.raises(TrainingError, match="no recipe 'fer-giga'; there are: fer-nano"):
        find_recipe("fer-giga")
