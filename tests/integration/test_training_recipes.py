"""Tests that every recipe trains for some steps; in one process, because TensorFlow is slow to import."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.errors import RunError, TrainingError
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.loop.learner import backbone_weights, new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.loop.targets import class_weights, label_loss, mix, smooth_targets, teacher_loss
from ferserve_training.loop.teacher import load_teacher
from ferserve_training.nets.build import build_net
from ferserve_training.nets.chain import BACKBONES, CACHED_IMAGENET, ChainSpec
from ferserve_training.nets.layers import Backbone, Conv, Dense, Drop, Flatten, Pool
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.recipes.recipe import Optimisation, Recipe, adam
from ferserve_training.recipes.smoke import smoke_version

_TINY = ChainSpec((Conv(4), Pool(), Flatten(), Drop(0.5), Dense(7, relu=False)))


@pytest.fixture(scope="module")
def faces():
    labels = np.arange(32, dtype=np.int32) % 7
    return LabelledFaces(draw_faces(32), labels, tuple(map(str, range(32))))


def _steps(learner, count=1, first=0, batch=8):
    order = np.arange(count * batch, dtype=np.int32).reshape(count, batch) % 32
    return learner.train_epoch(order, np.full(count, 1e-3, np.float32), first)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_and_has_the_parameters_that_it_says(name, faces):
    recipe = smoke_version(RECIPES[name])
    learner = new_learner(Lesson(recipe, faces, seed=0))
    before = [np.asarray(weight).copy() for weight in learner.averaged.trainable_weights]

    loss = _steps(learner)

    assert np.isfinite(loss)
    after = learner.averaged.trainable_weights
    assert any((np.asarray(new) != old).any() for new, old in zip(after, before, strict=True))
    if isinstance(recipe.net, ChainSpec):
        assert learner.averaged.count_params() == recipe.net.parameter_count


@pytest.mark.parametrize("name", ["seed2-cnn", "seed2-cnn-aug"])
def test_enlarged_faces_are_enlarged_inside_the_net(name):
    net = RECIPES[name].net
    model = build_net(net, 0)

    assert model.input_shape == (None, 48, 48, 1)
    assert model.count_params() == net.parameter_count


@pytest.mark.parametrize("architecture", BACKBONES)
def test_the_facts_of_the_backbones_are_those_of_keras(architecture):
    name = {"vgg16": "VGG16", "resnet50v2": "ResNet50V2"}[architecture]
    model = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(48, 48, 3))
    facts = BACKBONES[architecture]

    kernels = [(layer.kernel.shape, layer.output.shape) for layer in model.layers if hasattr(layer, "kernel")]
    assert sum(int(np.prod(kernel)) * out[1] * out[2] for kernel, out in kernels) == facts.mac_count
    assert model.output.shape == (None, facts.map_size, facts.map_size, facts.channels)


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Random weights in the place of ImageNet's."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.weights.h5"
    keras.applications.VGG16(include_top=False, weights=None, input_shape=(48, 48, 3)).save_weights(path)
    return path


def _vgg16(weights, head_epochs=0):
    net = ChainSpec((Backbone("vgg16", 3), Flatten(), Dense(7, relu=False)), channels=3, weights=str(weights))
    optimisation = replace(adam(8), head_epochs=head_epochs)
    return replace(RECIPES["seed2-vgg16"], net=net, optimisation=optimisation)


def test_only_the_last_layers_of_a_backbone_are_trained_and_only_after_the_head(weights_file, faces):
    learner = new_learner(Lesson(_vgg16(weights_file, head_epochs=1), faces, seed=0))
    model = learner.averaged
    vgg16 = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    tail = [np.asarray(weight).copy() for weight in backbone_weights(model)]
    early = np.asarray(vgg16.get_layer("block5_conv1").kernel).copy()
    head = np.asarray(model.layers[-1].kernel).copy()

    _steps(learner, 4)  # the first epoch: 32 faces in batches of 8
    assert all((np.asarray(new) == old).all() for new, old in zip(backbone_weights(model), tail, strict=True))
    assert (np.asarray(model.layers[-1].kernel) != head).any()
    _steps(learner, 1, first=4)

    assert len(tail) == 4  # the kernels and biases of block5_conv2 and block5_conv3
    assert all((np.asarray(new) != old).any() for new, old in zip(backbone_weights(model), tail, strict=True))
    assert (np.asarray(vgg16.get_layer("block5_conv1").kernel) == early).all()


def test_a_backbone_starts_from_its_file(weights_file):
    kept = keras.applications.VGG16(include_top=False, weights=None, input_shape=(48, 48, 3))
    kept.load_weights(weights_file)
    built = build_net(_vgg16(weights_file).net, 0)

    inner = next(layer for layer in built.layers if isinstance(layer, keras.Model))
    assert (np.asarray(inner.get_layer("block1_conv1").kernel) == np.asarray(kept.layers[1].kernel)).all()


def test_missing_weights_are_named_and_nothing_takes_their_place(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    with pytest.raises(TrainingError, match=r"models/vgg16_weights_tf_dim_ordering_tf_kernels_notop\.h5: no such"):
        build_net(RECIPES["seed2-vgg16"].net, 0)
    with pytest.raises(TrainingError, match=r"mine\.h5: no such file"):
        build_net(_vgg16(tmp_path / "mine.h5").net, 0)
    (tmp_path / "mine.weights.h5").write_bytes(b"no weights")
    with pytest.raises(TrainingError, match="holds no weights of vgg16"):
        build_net(_vgg16(tmp_path / "mine.weights.h5").net, 0)
    assert RECIPES["seed2-vgg16"].net.weights == CACHED_IMAGENET


def test_a_restored_net_with_dropout_takes_the_same_steps(faces):
    recipe = Recipe("tiny", "", _TINY, RECIPES["fer-nano"].augmentation, adam(8), 1)
    whole, halted = (new_learner(Lesson(recipe, faces, seed=3)) for _ in range(2))
    for learner in (whole, halted):
        _steps(learner, 2)
        learner.keep_as_best()
    resumed = new_learner(Lesson(recipe, faces, seed=3))
    resumed.restore(halted.state())

    assert _steps(resumed, 2, first=2) == pytest.approx(_steps(whole, 2, first=2), rel=1e-5)
    assert resumed.state().keys() == whole.state().keys()


def test_mixed_views_and_targets_share_their_shares():
    views = tf.reshape(tf.range(4, dtype=tf.float32), [4, 1, 1, 1])
    targets = smooth_targets(np.asarray([0, 1, 2, 3]), 0.0)

    mixed, mixed_targets = mix(views, targets, tf.constant([0, 1]), alpha=1.0)

    # Each view is its own number times its share, plus its neighbour's times the rest.
    shares = np.asarray(mixed_targets)[range(4), range(4)]
    expected = shares * np.arange(4) + (1 - shares) * np.asarray([3, 0, 1, 2])
    assert np.asarray(mixed).ravel() == pytest.approx(expected)
    assert np.asarray(mixed_targets).sum(axis=1) == pytest.approx(np.ones(4))
    assert 0 < shares.min() < shares.max() < 1


def test_balanced_classes_weigh_alike():
    weights = class_weights(np.asarray([0, 0, 0, 1]), balanced=True)

    assert weights[:2] == pytest.approx([4 / 21, 4 / 7])
    assert class_weights(np.asarray([0, 0, 0, 1]), balanced=False).tolist() == [1.0] * 7


def test_the_losses_agree_with_a_count_by_hand():
    logits = tf.zeros([2, 7])
    targets = smooth_targets(np.asarray([0, 1]), 0.1)

    weights = tf.constant([3.0, *([1.0] * 6)])
    of_first = 3 * (0.9 + 0.1 / 7) + 6 * 0.1 / 7
    of_second = 1 + 2 * 0.1 / 7
    assert float(label_loss(logits, targets, weights)) == pytest.approx(np.log(7) * (of_first + of_second) / 2)
    assert float(teacher_loss(logits, [logits], Optimisation(teacher_temperature=2.0))) == pytest.approx(
        4 * np.log(7), rel=1e-5
    )


def test_a_teacher_moves_a_net_towards_its_answers(faces):
    recipe = Recipe("tiny", "", _TINY, RECIPES["seed2-cnn"].augmentation, replace(adam(8), teacher_share=1.0), 1)
    answers = tf.one_hot(tf.fill([8], 4), 7) * 20.0
    learner = new_learner(Lesson(recipe, faces, seed=0, teachers=[lambda _views: answers]))

    losses = [_steps(learner, 4, first=4 * index) for index in range(4)]

    assert losses[-1] < losses[0]


def test_a_folder_without_a_net_is_no_teacher(tmp_path):
    with pytest.raises(RunError, match="holds neither a run nor an exported version"):
        load_teacher(tmp_path)
