"""Tests features of convolutional nets only: fused norms, bfloat16, growing views, more heads, teachers."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from ferserve_training.cli import app
from ferserve_training.data.faces import LabelledFaces
from ferserve_training.data.folders import load_faces
from ferserve_training.errors import RunError
from ferserve_training.evaluation.record import read_evaluation
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.export import export_version
from ferserve_training.export.recipe_text import recipe_text
from ferserve_training.labels import VOTE_COUNT, VOTES
from ferserve_training.loop.blend import blend_run
from ferserve_training.loop.inputs import LessonInputs
from ferserve_training.loop.learner import new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.loop.precision import faster_precision
from ferserve_training.loop.records import RunSettings
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.scoring import score
from ferserve_training.loop.targets import teacher_loss, vote_loss
from ferserve_training.loop.teacher import load_teacher
from ferserve_training.loop.train import train
from ferserve_training.loop.trained import load_trained
from ferserve_training.nets.folded import apply_head, folded_features
from ferserve_training.nets.folding import fold
from ferserve_training.nets.norm import FusedBatchNorm
from ferserve_training.nets.stored_net import read_folded
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.recipes.recipe import Optimisation
from ferserve_training.recipes.smoke import smoke_version
from support.training_faces import write_face_folder

_RECIPE = smoke_version(RECIPES["fer-nano"])
_PRECISIONS = ("float32", "bfloat16")


@pytest.fixture(scope="module")
def faces():
    return LabelledFaces(draw_faces(32), np.arange(32, dtype=np.int32) % 7, tuple(map(str, range(32))))


@pytest.fixture(scope="module")
def votes():
    """Half of the faces show none: all taggers say NF; the others' votes are spread."""
    shares = np.full((32, VOTE_COUNT), 0.1, np.float32)
    shares[::2] = np.eye(VOTE_COUNT, dtype=np.float32)[VOTES.index("NF")]
    return shares


def _with(**changes):
    return replace(_RECIPE, optimisation=replace(_RECIPE.optimisation, **changes))


def _steps(learner, count=1, view_size=48):
    order = np.arange(count * 16, dtype=np.int32).reshape(count, 16) % 32
    return learner.train_epoch(order, np.full(count, 1e-2, np.float32), 0, view_size)


def test_the_fused_norm_trains_as_keras_own():
    draws = np.random.default_rng(0)
    maps = tf.constant(draws.normal(1.0, 2.0, (8, 5, 5, 4)), tf.float32)
    wanted = tf.constant(draws.normal(size=(8, 5, 5, 4)), tf.float32)
    results = []
    for kind in (FusedBatchNorm, keras.layers.BatchNormalization):
        norm = kind(momentum=0.9, epsilon=1e-3)
        norm.build(maps.shape)
        with tf.GradientTape() as tape:
            tape.watch(maps)
            outputs = norm(maps, training=True)
            loss = tf.reduce_sum(outputs * wanted)
        gradients = tape.gradient(loss, [maps, norm.gamma, norm.beta])
        results.append([outputs, *gradients, norm.moving_mean, norm(maps, training=False)])

    fused, plain = results
    for one, other in zip(fused[:-1], plain[:-1], strict=True):
        assert np.asarray(one) == pytest.approx(np.asarray(other), rel=1e-4, abs=1e-4)
    # The fused operation follows the sample variance (n - 1), Keras the population's; they differ by 0.5 % of 200.
    assert np.asarray(fused[-1]) == pytest.approx(np.asarray(plain[-1]), rel=5e-3, abs=5e-3)


def test_bfloat16_trains_almost_as_float32_and_keeps_its_weights_in_float32(faces):
    learners = [new_learner(Lesson(_with(precision=precision), faces, seed=0)) for precision in _PRECISIONS]

    losses = [_steps(learner, 4) for learner in learners]

    assert losses[0] != losses[1]  # else the precision did nothing
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert {values.dtype for values in learners[1].state().values()} <= {np.dtype(np.float32), np.dtype(np.int64)}


def test_a_net_of_the_source_projects_may_train_in_bfloat16_but_answers_in_float32(faces):
    recipe = RECIPES["seed3-gap512"]
    tried = (replace(recipe, optimisation=replace(recipe.optimisation, precision=each)) for each in _PRECISIONS)
    learners = [new_learner(Lesson(each, faces, seed=0)) for each in tried]

    losses = [_steps(learner, 2) for learner in learners]

    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert score(learners[1].averaged, faces.images).dtype == np.float32


def test_the_faster_precision_is_one_that_a_run_can_take():
    assert faster_precision(_RECIPE) in {"float32", "bfloat16"}


def test_views_may_be_smaller_than_the_faces(faces):
    learner = new_learner(Lesson(_RECIPE, faces, seed=0))

    assert np.isfinite([_steps(learner, view_size=size) for size in (32, 40, 48)]).all()
    assert score(learner.averaged, faces.images).shape == (32, 7)


def test_the_second_head_learns_what_the_taggers_said(faces, votes):
    learner = new_learner(Lesson(_with(vote_share=1.0, ema_decay=0.0), faces, seed=0, votes=votes))

    losses = [_steps(learner, 8) for _ in range(4)]

    assert losses[-1] < losses[0]
    assert score(learner.averaged, faces.images).shape == (32, 7)  # its answers stay out of the scores


def test_faces_without_votes_teach_the_second_head_nothing():
    logits = tf.constant(np.random.default_rng(0).normal(size=(2, VOTE_COUNT)), tf.float32)
    shares = tf.constant([[0.0] * VOTE_COUNT, [0.1] * VOTE_COUNT])

    assert float(vote_loss(logits[:1], shares[:1])) == 0.0
    assert float(vote_loss(logits, shares)) == pytest.approx(float(vote_loss(logits[1:], shares[1:])) / 2)


def test_several_teachers_speak_with_their_mean():
    first, second = tf.one_hot([0], 7) * 50.0, tf.one_hot([1], 7) * 50.0
    settings = Optimisation(teacher_temperature=1.0)

    agreed = float(teacher_loss(tf.math.log(tf.constant([[0.5, 0.5, *[1e-9] * 5]])), [first, second], settings))

    assert agreed == pytest.approx(np.log(2), rel=1e-4)


@pytest.fixture(scope="module")
def run_with_votes(tmp_path_factory, faces, votes):
    folder = tmp_path_factory.mktemp("voted")
    data = load_faces(write_face_folder(folder / "faces", training_count=4, test_count=3))
    recipe = _with(batch_size=8)
    shares = np.resize(votes, (len(data.training), VOTE_COUNT))
    settings = RunSettings(
        "fer-nano", 0, 2, None, True, data.sha256, 28, "tensorflow", ("batch_size=8",), votes="votes.csv"
    )
    directory = RunDirectory(folder / "run")
    directory.create(settings)
    train(recipe, data, settings, directory, lambda _record, _left: None, LessonInputs(votes=shares))
    result = CliRunner().invoke(
        app, ["evaluate", str(folder / "run"), "--data", str(folder / "faces")], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return folder / "run"


def test_a_version_answers_with_the_probability_that_the_image_is_no_face(run_with_votes, tmp_path):
    trained = load_trained(RunDirectory(run_with_votes))

    version = export_version(trained, read_evaluation(run_with_votes), tmp_path)

    faces = draw_faces(8)
    outputs = tf.saved_model.load(str(version)).signatures["serving_default"](faces=tf.constant(faces))
    expected = tf.sigmoid(trained.model(faces.astype(np.float32), training=False)[-1])[:, 0]
    assert outputs["not_a_face"].shape == (8,)
    assert np.asarray(outputs["not_a_face"]) == pytest.approx(np.asarray(expected), abs=1e-5)
    manifest = json.loads((version / "assets.extra" / "manifest.json").read_text("utf-8"))
    assert manifest["outputs"]["not_a_face"] == "not_a_face"
    assert manifest["training"]["recipe"] == "fer-nano (smoke, batch_size=8, with the votes of FER+)"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_teaches_by_its_folded_net(run_with_votes, precision):
    views = tf.constant(draw_faces(8).astype(np.float32))
    trained = load_trained(RunDirectory(run_with_votes))

    answers = load_teacher(run_with_votes, precision)(views)

    tolerance = 1e-4 if precision == "float32" else 0.05
    assert np.asarray(answers) == pytest.approx(score(trained.classifier, draw_faces(8)), abs=tolerance)


def _rejection(tmp_path, *arguments):
    data = tmp_path / "faces"
    if not data.exists():
        write_face_folder(data, training_count=4, test_count=3)
    result = CliRunner().invoke(app, ["train", *arguments, "--smoke", "--data", str(data)])
    assert result.exit_code != 0
    return str(result.exception or "") + result.output


def test_what_a_net_of_another_kind_cannot_do_is_rejected_before_anything_is_trained(tmp_path):
    votes = Path(tmp_path / "votes.csv")

    assert "has no head for votes" in _rejection(tmp_path, "seed2-cnn", "--votes", str(votes))
    rejection = _rejection(tmp_path, "seed2-vgg16", "--set", "weights=none", "--set", "precision=bfloat16")
    assert "trained in float32" in rejection
    assert "trained at full size" in _rejection(tmp_path, "seed2-cnn", "--set", "grows=true")


def _logits(kernels_of, images):
    net = kernels_of
    features = folded_features(net.spec, net.kernels, net.biases, tf.constant(images, tf.float32))
    return np.asarray(apply_head(features, net.kernels[-1], net.biases[-1]))


def test_a_blend_is_a_finished_run_with_the_mean_of_both_weights(run_with_votes, tmp_path):
    data = run_with_votes.parent / "faces"
    start = Path(__file__).parents[2] / "model_repo" / "fer-nano"
    start = max(start.glob("[0-9]*"), key=lambda path: int(path.name))

    result = CliRunner().invoke(
        app,
        [
            "blend",
            str(run_with_votes),
            str(start),
            str(tmp_path / "blend"),
            "--data",
            str(data),
            "--share",
            "0.25",
        ],
        catch_exceptions=False,
    )

    assert result.exit_code == 0, result.output
    trained = load_trained(RunDirectory(tmp_path / "blend"))
    own, other = (
        fold(load_trained(RunDirectory(run_with_votes)).model, _RECIPE.net),
        read_folded(start, _RECIPE.net),
    )
    mixed = replace(
        own,
        kernels=tuple(0.75 * a + 0.25 * b for a, b in zip(own.kernels, other.kernels, strict=True)),
        biases=tuple(0.75 * a + 0.25 * b for a, b in zip(own.biases, other.biases, strict=True)),
    )
    images = draw_faces(8).astype(np.float32)
    assert score(trained.classifier, draw_faces(8)) == pytest.approx(_logits(mixed, images), abs=1e-3)
    assert trained.history[-1].progress == 1
    assert recipe_text(trained.settings).endswith(f"blended with 0.25 of fer-nano/{start.name})")


def test_what_cannot_be_blended_is_rejected(run_with_votes, tmp_path):
    faces = LabelledFaces(draw_faces(8), np.arange(8, dtype=np.int32) % 7, tuple(map(str, range(8))))
    small = Path(__file__).parents[2] / "model_repo" / "fer-small"
    small = next(iter(small.glob("[0-9]*")))

    with pytest.raises(RunError, match="holds another net"):
        blend_run(run_with_votes, small, 0.5, faces, RunDirectory(tmp_path / "blend"))
    with pytest.raises(RunError, match="already holds a run"):
        blend_run(run_with_votes, run_with_votes, 0.5, faces, RunDirectory(run_with_votes))
    other = write_face_folder(tmp_path / "faces", training_count=2, test_count=1)
    arguments = [str(run_with_votes), str(run_with_votes), str(tmp_path / "blend"), "--data", str(other)]
    result = CliRunner().invoke(app, ["blend", *arguments])
    assert "was trained on other data" in str(result.exception)
