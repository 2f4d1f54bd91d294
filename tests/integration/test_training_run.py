import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ferserve_training.cli import app
from ferserve_training.data.folders import load_faces
from ferserve_training.errors import RunError
from ferserve_training.evaluation.record import read_evaluation
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.export import export_version
from ferserve_training.export.manifest import digest_files
from ferserve_training.export.saved_model import run_saved_model
from ferserve_training.loop.learner import new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.loop.records import RunSettings
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.scoring import score
from ferserve_training.loop.train import train
from ferserve_training.loop.trained import load_trained
from ferserve_training.nets.folded import apply_head, folded_features
from ferserve_training.nets.folding import fold
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.recipes.smoke import smoke_version
from support.training_faces import write_face_folder

_EPOCHS = 6
_COMMAND = Path(sys.executable).with_name("ferserve-train")


@pytest.fixture(scope="module")
def data_path(tmp_path_factory):
    return write_face_folder(tmp_path_factory.mktemp("data") / "faces")


@pytest.fixture(scope="module")
def data(data_path):
    return load_faces(data_path)


def _train(path, data, epochs=_EPOCHS, max_minutes=None, on_epoch=lambda _record, _left: None):
    recipe = smoke_version(RECIPES["fer-nano"])
    directory = RunDirectory(path)
    settings = RunSettings(
        recipe.name, 0, epochs, max_minutes, True, data.sha256, len(data.training), "tensorflow"
    )
    if not path.exists():
        directory.create(settings)
    return train(recipe, data, settings, directory, on_epoch)


@pytest.fixture(scope="module")
def run_path(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("runs") / "whole"
    _train(path, data)
    return path


@pytest.fixture(scope="module")
def version_path(run_path, data_path, tmp_path_factory):
    repo = tmp_path_factory.mktemp("repo")
    commands = CliRunner()
    for arguments in (
        ["evaluate", str(run_path), "--data", str(data_path)],
        ["export", str(run_path), "--model-repo", str(repo)],
    ):
        result = commands.invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return repo / "fer-nano" / "1"


def test_training_lowers_the_loss_and_moves_the_averaged_weights(run_path, data):
    checkpoint = RunDirectory(run_path).load()
    assert checkpoint is not None

    losses = [record.loss for record in checkpoint.history]
    assert losses[-1] < losses[0]
    fresh = new_learner(Lesson(smoke_version(RECIPES["fer-nano"]), data.training, seed=0)).state()
    assert (checkpoint.state["averaged/0"] != fresh["averaged/0"]).any()
    assert (checkpoint.state["averaged/0"] != checkpoint.state["weights/0"]).any()


def test_a_killed_run_resumes_to_the_result_of_an_uninterrupted_one(run_path, data_path, data, tmp_path):
    path = tmp_path / "killed"
    command = [_COMMAND, "train", "fer-nano", "--smoke", "--data", data_path, "--run-dir", path]
    # Many more epochs than are compared, so that the kill comes long before the end.
    with subprocess.Popen([*command, "--epochs", "100000"], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not (path / "checkpoint.npz").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -9

    killed = RunDirectory(path).load()
    assert killed is not None
    assert 1 <= len(killed.history) < 100_000
    # The learning rates of a run of 100,000 epochs are its own; the whole run is made again at the same length.
    # Two epochs past the kill are enough to see a difference.
    end = len(killed.history) + 2

    def stop(record, _left):
        if record.epoch == end:
            raise KeyboardInterrupt

    for folder in (path, tmp_path / "whole"):
        with pytest.raises(KeyboardInterrupt):
            _train(folder, data, epochs=100_000, on_epoch=stop)
    resumed, whole = (RunDirectory(folder).load() for folder in (path, tmp_path / "whole"))
    assert resumed is not None
    assert whole is not None
    assert [record.loss for record in resumed.history] == pytest.approx(
        [record.loss for record in whole.history], rel=1e-5
    )
    for name, values in whole.state.items():
        assert resumed.state[name] == pytest.approx(values, rel=1e-4, abs=1e-6), name


def test_a_finished_run_makes_no_further_step(run_path, data):
    before = (run_path / "checkpoint.npz").read_bytes()

    checkpoint = _train(run_path, data)

    assert len(checkpoint.history) == _EPOCHS
    assert (run_path / "checkpoint.npz").read_bytes() == before


def test_a_checkpoint_of_another_net_is_not_continued(run_path, data, tmp_path):
    path = shutil.copytree(run_path, tmp_path / "run")
    directory = RunDirectory(path)
    checkpoint = directory.load()
    assert checkpoint is not None
    directory.save(replace(checkpoint, state=checkpoint.state | {"weights/0": np.zeros((5, 5, 1, 4))}))

    with pytest.raises(RunError, match="its weights do not fit fer-nano"):
        _train(path, data)


def test_a_run_limited_by_minutes_cools_down_in_time(tmp_path, data):
    started = time.monotonic()

    checkpoint = _train(tmp_path / "timed", data, epochs=None, max_minutes=0.05)

    assert checkpoint.history[-1].progress == 1.0
    assert time.monotonic() - started < 60  # 3 s of epochs, and TensorFlow's preparations


def test_folding_changes_no_logit(run_path):
    trained = load_trained(RunDirectory(run_path))
    # Fresh residual blocks end in a scale near 0; a strong one makes the test see them.
    for index in range(len(trained.recipe.net.convolutions)):
        norm = trained.model.get_layer(f"norm_{index}")
        draws = np.random.default_rng(index)
        norm.gamma.assign(draws.uniform(0.5, 1.5, norm.gamma.shape))
        norm.beta.assign(draws.normal(0, 0.5, norm.beta.shape))
        norm.moving_mean.assign(draws.normal(0, 0.5, norm.moving_mean.shape))
        norm.moving_variance.assign(draws.uniform(0.5, 2, norm.moving_variance.shape))
    folded = fold(trained.model, trained.recipe.net)
    faces = draw_faces(64)

    features = folded_features(trained.recipe.net, folded.kernels, folded.biases, faces.astype(np.float32))
    logits = np.asarray(apply_head(features, folded.kernels[-1], folded.biases[-1]))

    assert logits.std() > 0.1
    assert logits == pytest.approx(score(trained.classifier, faces), abs=1e-4)
    assert sum(values.size for values in (*folded.kernels, *folded.biases)) == trained.recipe.net.parameter_count


def test_the_exported_version_holds_the_contract(version_path):
    manifest = json.loads((version_path / "assets.extra" / "manifest.json").read_text())

    assert (manifest["name"], manifest["version"]) == ("fer-nano", 1)
    assert manifest["training"]["recipe"] == "fer-nano (smoke)"
    assert manifest["files"] == digest_files(version_path)
    assert {"saved_model.pb", "variables/variables.index", "assets.extra/golden.npz"} <= set(manifest["files"])
    with np.load(version_path / "assets.extra" / "golden.npz") as golden:
        assert (golden["faces"].dtype, golden["faces"].shape) == (np.uint8, (32, 48, 48, 1))
        assert (golden["probabilities"].dtype, golden["probabilities"].shape) == (np.float32, (32, 7))


def test_the_exported_model_reproduces_its_golden_scores(version_path):
    with np.load(version_path / "assets.extra" / "golden.npz") as golden:
        probabilities, _ = run_saved_model(version_path, golden["faces"])

        assert probabilities == pytest.approx(golden["probabilities"], abs=1e-6)


def test_the_exported_model_computes_the_logits_of_the_trained_net(version_path, run_path):
    faces = draw_faces(40)
    temperature = read_evaluation(run_path).temperature

    probabilities, logits = run_saved_model(version_path, faces)

    assert logits == pytest.approx(score(load_trained(RunDirectory(run_path)).classifier, faces), abs=1e-4)
    powers = np.exp(logits / temperature)
    assert probabilities == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-6)


def test_a_single_face_scores_as_in_a_batch(version_path):
    faces = draw_faces(8)

    together, _ = run_saved_model(version_path, faces)
    alone, _ = run_saved_model(version_path, faces[3:4])

    assert alone[0] == pytest.approx(together[3], abs=1e-5)


def test_a_flat_image_gets_finite_probabilities(version_path):
    probabilities, _ = run_saved_model(version_path, np.full((1, 48, 48, 1), 128, np.uint8))

    assert probabilities.sum() == pytest.approx(1.0)


def test_figures_of_an_earlier_checkpoint_are_not_exported(version_path, run_path, tmp_path):
    figures = replace(read_evaluation(run_path), weights_sha256="of another net")

    with pytest.raises(RunError, match="is of an earlier checkpoint"):
        export_version(load_trained(RunDirectory(run_path)), figures, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "fer-giga", "--data", "DATA"], "no recipe 'fer-giga'"),
        (["train", "fer-nano", "--data", "nowhere"], "nowhere: no such file or folder"),
        (["data-check", "DATA"], "broken.png: is no readable image"),
        (["export", "nowhere", "--model-repo", "repo"], "not evaluated yet"),
    ],
)
def test_the_user_gets_one_line_and_exit_code_1(arguments, message, data_path, tmp_path):
    broken = shutil.copytree(data_path, tmp_path / "faces")
    (broken / "train" / "sad" / "broken.png").write_bytes(b"x")
    arguments = [str(broken) if argument == "DATA" else argument for argument in arguments]

    result = subprocess.run(
        [_COMMAND, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )

    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
