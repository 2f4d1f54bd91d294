from dataclasses import replace

import pytest

from ferserve_training.errors import TrainingError
from ferserve_training.nets.chain import CACHED_IMAGENET, ChainSpec
from ferserve_training.nets.layers import Conv, Dense, Flatten, Pool
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.recipes.overrides import names_of, overridden
from ferserve_training.recipes.recipe import Plateau, Steps
from ferserve_training.recipes.resolve import resolve_recipe


@pytest.mark.parametrize(
    ("name", "input_size", "parameter_count"),
    [
        ("seed0-cnn256", 48, 2_784_647),
        ("seed1-vgglite", 48, 2_489_095),
        ("seed2-cnn", 256, 3_460_359),
        ("seed2-cnn", 48, 265_479),
        ("seed2-cnn-aug", 256, 13_084_871),
        ("seed2-cnn-aug", 48, 5_220_551),
        ("seed2-vgg16", 48, 15_768_391),
        ("seed2-resnet50", 48, 31_973_895),
        ("seed3-gap512", 48, 1_821_959),
        ("seed4-double3", 48, 1_285_063),
    ],
)
def test_the_nets_have_the_parameters_of_their_sources(name, input_size, parameter_count):
    net = replace(RECIPES[name].net, input_size=input_size)

    assert net.parameter_count == parameter_count


@pytest.mark.parametrize(
    ("name", "mac_count", "limit"),
    [
        ("fer-nano", 4_562_592, 5e6),
        ("fer-small", 34_008_384, 35e6),
        ("fer-base", 75_314_944, 80e6),
        ("fer-large", 231_582_336, 240e6),
    ],
)
def test_the_nets_of_the_project_keep_within_their_budgets(name, mac_count, limit):
    assert RECIPES[name].net.mac_count == mac_count
    assert mac_count <= limit


def test_macs_and_parameters_of_a_chain_agree_with_a_count_by_hand():
    net = ChainSpec((Conv(2, "valid"), Pool(), Flatten(), Dense(7, relu=False)))

    assert net.mac_count == 46 * 46 * 9 * 2 + 23 * 23 * 2 * 7
    assert net.parameter_count == (9 + 1) * 2 + (23 * 23 * 2 + 1) * 7


def test_a_chain_without_seven_logits_is_rejected():
    with pytest.raises(ValueError, match="last layer must be Dense"):
        ChainSpec((Flatten(), Dense(8, relu=False)))


def test_the_schedules_are_those_of_the_sources():
    rates = {name: recipe.optimisation.rate for name, recipe in RECIPES.items()}

    assert rates["seed3-gap512"] == Steps(((20, 2.5e-4), (30, 5e-5)))
    assert rates["seed4-double3"] == Plateau("training_loss", 0.5, 3, 1e-6)
    assert rates["seed2-resnet50"] == Plateau("validation_loss", 0.2, 2)
    assert rates["fer-nano"] is None
    assert [name for name, recipe in RECIPES.items() if recipe.optimisation.balances_classes] == [
        "seed2-vgg16",
        "seed2-resnet50",
    ]


def test_every_recipe_says_how_it_is_run_in_its_own_file():
    for name in RECIPES:
        module = __import__(f"ferserve_training.recipes.{name.replace('-', '_')}", fromlist=["_"])

        assert f"ferserve-train train {name} --data" in module.__doc__


@pytest.mark.parametrize(
    ("settings", "part", "name", "value"),
    [
        (["batch_size=64"], "optimisation", "batch_size", 64),
        (["mixup=0.4", "mixup=0.2"], "optimisation", "mixup", 0.2),
        (["balances-classes=true"], "optimisation", "balances_classes", True),
        (["stop_after=5"], "optimisation", "stop_after", 5),
        (["stop_after=null"], "optimisation", "stop_after", None),
        (["keeps=best_loss"], "optimisation", "keeps", "best_loss"),
        (["scale=[0.9, 1.1]"], "augmentation", "scale", (0.9, 1.1)),
        (["input_size=48"], "net", "input_size", 48),
        (["weights=some/where.h5"], "net", "weights", "some/where.h5"),
    ],
)
def test_a_setting_replaces_one_value(settings, part, name, value):
    recipe = overridden(RECIPES["seed2-cnn"], settings)

    assert getattr(getattr(recipe, part), name) == value


def test_every_setting_can_be_given_the_value_that_it_has():
    recipe = RECIPES["fer-nano"]
    for name in names_of(recipe):
        part = recipe.optimisation if hasattr(recipe.optimisation, name) else recipe.augmentation
        value = getattr(part, name)
        text = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool | None) else None

        assert (
            overridden(recipe, [f"{name}={text or (list(value) if isinstance(value, tuple) else value)}"])
            == recipe
        )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("batch_size", "expected name=value"),
        ("dropout=0.5", "has no setting 'dropout'; there are: batch_size"),
        ("input_size=48", "has no setting 'input_size'"),
        ("batch_size=0", "no fit for 128"),
        ("batch_size=1.5", "no fit for 128"),
        ("batch_size=many", "not a number"),
        ("balances_classes=1", "no fit for false"),
        ("scale=1", "no fit for"),
        ("mixup=-1", "no fit for"),
        ("mixup=true", "no fit for"),
        ("algorithm=lion", "expected one of sgd, adam"),
    ],
)
def test_a_setting_that_fits_nothing_is_one_message(setting, message):
    with pytest.raises(TrainingError, match=message):
        overridden(RECIPES["fer-nano"], [setting])


def test_a_smoke_run_needs_no_weights_and_enlarges_no_face():
    recipe = resolve_recipe("seed2-vgg16", smoke=True)

    assert RECIPES["seed2-vgg16"].net.weights == CACHED_IMAGENET
    assert (recipe.net.weights, recipe.optimisation.batch_size, recipe.epochs) == ("none", 16, 2)
    assert resolve_recipe("seed2-cnn", smoke=True).net.input_size == 48
    assert resolve_recipe("seed2-cnn", ("batch_size=8",), smoke=True).optimisation.batch_size == 8
