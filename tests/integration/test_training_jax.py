"""Tests training on JAX without TensorFlow, and on several devices; results are compared with TensorFlow's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ferserve_training.cli import app
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.saved_model import run_saved_model
from ferserve_training.loop.learner import new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.loop.run_directory import RunDirectory
from support.training_devices import drawn_faces, steps
from support.training_faces import write_face_folder
from support.training_on_jax import NANO, degraded, made_views

_TESTS = Path(__file__).parents[1]
_COMMAND = str(Path(sys.executable).with_name("ferserve-train"))

pytestmark = pytest.mark.timeout(600)  # compiling takes a minute where others compute too


def _environment(backend):
    """Of a process on JAX with two devices and no TensorFlow, or on TensorFlow."""
    paths = [str(_TESTS / "support" / "without_tensorflow")] if backend == "jax" else []
    return os.environ | {
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join([*paths, str(_TESTS), os.environ.get("PYTHONPATH", "")]),
        **({"XLA_FLAGS": "--xla_force_host_platform_device_count=2"} if backend == "jax" else {}),
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def _run(*command, backend="jax", succeeds=True):
    result = subprocess.run(command, env=_environment(backend), capture_output=True, text=True, check=False)
    assert (result.returncode == 0) == succeeds, result.stderr
    return result.stdout if succeeds else result.stderr


@pytest.fixture(scope="module")
def data_path(tmp_path_factory):
    return write_face_folder(tmp_path_factory.mktemp("data") / "faces")


@pytest.fixture(scope="module")
def run_path(tmp_path_factory, data_path):
    path = tmp_path_factory.mktemp("runs") / "on-jax"
    arguments = ["--smoke", "--data", str(data_path), "--run-dir", str(path), "--devices", "2"]
    assert "on 2 devices" in _run(_COMMAND, "train", "fer-nano", *arguments)
    return path


@pytest.fixture(scope="module")
def on_jax(run_path, tmp_path_factory):
    """What JAX computed, by name."""
    path = tmp_path_factory.mktemp("answers") / "answers.npz"
    _run(sys.executable, "-m", "support.training_on_jax", str(run_path), str(path))
    with np.load(path) as answers:
        return dict(answers)


def test_a_run_says_what_trained_it(run_path):
    assert RunDirectory(run_path).settings().framework.startswith("jax ")


def _succeed(*arguments):
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def evaluated_path(run_path, data_path):
    _succeed("evaluate", str(run_path), "--data", str(data_path))
    return run_path


def test_a_run_trained_on_jax_is_evaluated_and_exported_by_tensorflow(evaluated_path, on_jax, tmp_path):
    _succeed("export", str(evaluated_path), "--model-repo", str(tmp_path))

    _, logits = run_saved_model(tmp_path / "fer-nano" / "1", draw_faces(64))

    assert logits == pytest.approx(on_jax["logits"], abs=1e-4)
    manifest = json.loads((tmp_path / "fer-nano" / "1" / "assets.extra" / "manifest.json").read_text("utf-8"))
    assert manifest["training"]["framework"].startswith("jax ")
    assert "exported by tensorflow" in manifest["training"]["framework"]


def test_what_needs_tensorflow_says_so_on_a_machine_without(evaluated_path, tmp_path):
    arguments = ["export", str(evaluated_path), "--model-repo", str(tmp_path)]

    assert "needs TensorFlow, but KERAS_BACKEND is jax" in _run(_COMMAND, *arguments, succeeds=False)


@pytest.mark.parametrize("fill", ["REFLECT", "NEAREST"])
def test_the_same_draws_make_the_same_views(on_jax, fill):
    # Noise is the hardest picture: a thousandth of a pixel is up to a quarter of a grey level.
    assert np.abs(made_views(fill) - on_jax[f"views_{fill}"]).max() < 0.05


def test_the_same_draws_degrade_views_in_the_same_way(on_jax):
    # A coefficient between two steps of JPEG may be rounded to either, which moves 64 pixels a little.
    differences = np.abs(degraded() - on_jax["degraded"])
    assert np.median(differences) < 0.01
    assert (differences > 0.05).mean() < 0.01


def test_a_run_begun_on_jax_goes_on_with_the_same_losses_on_tensorflow(on_jax):
    learner = new_learner(Lesson(NANO, drawn_faces(), 0))
    learner.restore({name.removeprefix("state/"): values for name, values in on_jax.items() if "state/" in name})

    assert steps(learner, 2, first=2) == pytest.approx(on_jax["losses_after"], rel=1e-4)


def test_a_resumed_net_takes_the_same_steps(on_jax):
    assert on_jax["resumed"] == pytest.approx(on_jax["whole"], rel=1e-5)
    assert on_jax["same_state"].all()


def test_bfloat16_trains_almost_as_float32_and_keeps_its_weights_in_float32(on_jax):
    assert (on_jax["losses_in_bfloat16"] != on_jax["losses_before"]).all()  # else the precision did nothing
    assert on_jax["losses_in_bfloat16"] == pytest.approx(on_jax["losses_before"], rel=0.05)
    assert on_jax["is_float32"].all()


def test_a_run_teaches_and_a_version_says_that_it_cannot(on_jax):
    losses = on_jax["losses_with_a_teacher"]

    assert losses[-2:].mean() < losses[:2].mean()
    assert "needs TensorFlow" in str(on_jax["rejection"])


@pytest.fixture(scope="module", params=["jax", "tensorflow"])
def losses(request):
    """Of one and of two devices, and the framework."""
    printed = _run(sys.executable, "-m", "support.training_devices", backend=request.param)
    return request.param, json.loads(printed.splitlines()[-1])


def test_two_devices_have_the_losses_of_one(losses):
    framework, found = losses

    one, two = found["plain"]
    assert two == pytest.approx(one, rel=1e-4)
    one, two = found["norms and votes"]
    # TensorFlow's batch norm sees the part of its device only; JAX's sees the whole batch.
    assert two == pytest.approx(one, rel=1e-3 if framework == "jax" else 0.2)


def test_devices_that_are_not_there_are_rejected_before_a_run_begins(data_path, tmp_path):
    arguments = ["--smoke", "--data", str(data_path), "--run-dir", str(tmp_path / "run"), "--devices", "5"]

    rejection = _run(_COMMAND, "train", "fer-nano", *arguments, succeeds=False)

    assert "there are 2 CPU devices, not 5" in rejection
    assert not (tmp_path / "run").exists()
