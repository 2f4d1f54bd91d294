"""Tests the files of an exported version, merged versions, results, and the make target that produces them."""

import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

from ferserve_server.models.manifest import read_manifest, verify_files
from ferserve_training.cli import app
from ferserve_training.data.folders import load_faces
from ferserve_training.errors import RunError, TrainingError
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.manifest import digest_files
from ferserve_training.export.onnx_model import run_onnx
from ferserve_training.export.saved_model import load_outputs, run_saved_model
from ferserve_training.report.results import read_results
from support.training_faces import write_face_folder
from support.training_make import ROOT, make_train, make_train_with

_EXTRA = "assets.extra"

# Four commands, each of which loads TensorFlow: 45 s on two idle cores, many times that beside a training run.
pytestmark = pytest.mark.timeout(600)


def call(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def data_path(tmp_path_factory):
    return write_face_folder(tmp_path_factory.mktemp("data") / "faces", training_count=4, test_count=3)


@pytest.fixture(scope="module")
def made(data_path, tmp_path_factory):
    """`make train`, once: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("made")
    return folder, make_train(folder, data_path)


@pytest.fixture(scope="module")
def run_path(made):
    return made[0] / "run"


@pytest.fixture(scope="module")
def version_path(made):
    return made[0] / "models" / "fer-nano" / "1"


@pytest.fixture(scope="module")
def second_path(run_path, tmp_path_factory):
    """The same net under another temperature's number of version, without ONNX."""
    repository = tmp_path_factory.mktemp("second")
    call("export", run_path, "--model-repo", repository, "--onnx", "none")
    return repository / "fer-nano" / "1"


def test_make_train_goes_from_the_data_to_a_version_that_the_server_takes(made, version_path):
    assert "copies inside training" in made[1]
    assert "finished after 2 epochs" in made[1]
    manifest = read_manifest(version_path)
    verify_files(version_path, manifest)
    assert (manifest.name, manifest.version) == ("fer-nano", 1)


def test_make_train_without_data_says_what_to_type():
    done = subprocess.run(
        ["make", "-o", "setup", "train"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )

    assert done.returncode == 2
    assert "make train DATA=fer2013.zip" in done.stdout


def test_make_train_goes_on_with_a_run_that_is_there(tmp_path):
    command = tmp_path / "ferserve-train"
    command.write_text('#!/bin/sh\necho "ran $@"\n')
    command.chmod(0o755)
    flags = ["DATA=faces.zip", "RECIPE=fer-small", f"RUN_DIR={tmp_path}", "TRAIN_FLAGS=--epochs 3"]

    first = make_train_with(tmp_path, *flags)
    (tmp_path / "run.json").touch()
    second = make_train_with(tmp_path, *flags)

    train = f"ran train fer-small --data faces.zip --run-dir {tmp_path} --epochs 3"
    assert train in first.splitlines()
    assert f"{train} --resume" in second.splitlines()
    assert [line.split()[1] for line in second.splitlines() if line.startswith("ran ")] == [
        *("data-check", "train", "evaluate", "export")
    ]


def test_the_onnx_file_is_in_the_manifest_and_answers_as_the_saved_model(version_path):
    faces = draw_faces(8)
    expected, expected_logits = run_saved_model(version_path, faces)

    probabilities, logits = run_onnx(version_path / _EXTRA / "model.onnx", faces)

    assert probabilities == pytest.approx(expected, abs=1e-5)
    assert logits == pytest.approx(expected_logits, abs=1e-4)
    assert f"{_EXTRA}/model.onnx" in read_manifest(version_path).file_sums


def test_an_onnx_file_of_half_the_size_says_in_manifest_and_card_how_far_it_is_off(
    run_path, version_path, tmp_path
):
    call("export", run_path, "--model-repo", tmp_path, "--onnx", "int16")

    small_path = tmp_path / "fer-nano" / "1"
    file = f"{_EXTRA}/model.onnx"
    assert (small_path / file).stat().st_size < 0.6 * (version_path / file).stat().st_size
    onnx = json.loads((small_path / _EXTRA / "manifest.json").read_text())["onnx"]
    faces = draw_faces(32)
    difference = np.abs(run_onnx(small_path / file, faces)[0] - run_saved_model(small_path, faces)[0]).max()
    assert onnx["weights"] == "int16"
    assert onnx["largest_difference"] == pytest.approx(difference, abs=1e-5)
    assert 0 < difference < 5e-4
    assert "`model.onnx` stores weights as int16" in (small_path / _EXTRA / "MODEL_CARD.md").read_text()


def test_a_version_without_onnx_is_whole_too(second_path):
    manifest = read_manifest(second_path)

    verify_files(second_path, manifest)
    assert f"{_EXTRA}/model.onnx" not in manifest.file_sums


def test_the_warm_up_requests_are_records_of_one_eight_and_thirty_two_faces(version_path):
    path = version_path / _EXTRA / "tf_serving_warmup_requests"

    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]

    tensors = [tf.make_tensor_proto(draw_faces(count)).SerializeToString() for count in (1, 8, 32)]
    assert len(records) == 3
    for record, tensor in zip(records, tensors, strict=True):
        assert record.endswith(tensor)
        assert b"fer-nano" in record[:60]
        assert b"serving_default" in record[:60]
    assert f"{_EXTRA}/tf_serving_warmup_requests" in read_manifest(version_path).file_sums


def test_a_run_writes_its_curves_for_tensorboard(run_path):
    events = [
        tf.compat.v1.Event.FromString(record.numpy())
        for path in (run_path / "tensorboard").iterdir()
        for record in tf.data.TFRecordDataset(str(path))
    ]

    values = {(value.tag, event.step): value for event in events for value in event.summary.value}
    tags = {"loss/training", "loss/validation", "accuracy/validation", "learning_rate", "seconds"}
    assert set(values) == {(tag, step) for tag in tags for step in (1, 2)}
    assert all(
        value.metadata.plugin_data.plugin_name == "scalars" for (_, step), value in values.items() if step == 1
    )
    log = (run_path / "epochs.csv").read_text().splitlines()
    assert float(log[2].split(",")[2]) == pytest.approx(float(tf.make_ndarray(values["loss/training", 2].tensor)))


@pytest.fixture(scope="module")
def merged_path(version_path, second_path, data_path, tmp_path_factory):
    repository = tmp_path_factory.mktemp("merged")
    call(
        *("merge", version_path, second_path, "--name", "pair", "--data", data_path),
        *("--model-repo", repository),
    )
    return repository / "pair" / "1"


def test_a_merged_version_answers_with_the_mean_of_its_members(merged_path, version_path, second_path):
    faces = draw_faces(8)
    parts = [run_saved_model(path, faces)[0] for path in (version_path, second_path)]

    probabilities, logits = run_saved_model(merged_path, faces)

    assert probabilities == pytest.approx((parts[0] + parts[1]) / 2, abs=1e-6)
    assert np.exp(logits) == pytest.approx(probabilities, abs=1e-6)


def test_a_merged_version_is_one_like_any_other_and_names_what_it_is_made_of(merged_path, version_path):
    manifest = json.loads((merged_path / _EXTRA / "manifest.json").read_text())
    member = json.loads((version_path / _EXTRA / "manifest.json").read_text())

    verify_files(merged_path, read_manifest(merged_path))
    assert manifest["files"] == digest_files(merged_path)
    assert [(each["name"], each["version"]) for each in manifest["merged"]] == [("fer-nano", 1)] * 2
    assert manifest["mac_count"] == 2 * member["mac_count"]
    assert manifest["temperature"] == 1
    with np.load(merged_path / _EXTRA / "golden.npz") as golden:
        assert run_saved_model(merged_path, golden["faces"])[0] == pytest.approx(golden["probabilities"], abs=1e-6)
    card = (merged_path / _EXTRA / "MODEL_CARD.md").read_text()
    assert "the mean of the calibrated probabilities of fer-nano/1, fer-nano/1" in card


def _with_manifest(version, folder, **changes):
    shutil.copytree(version, folder)
    path = folder / _EXTRA / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["happy", "sad"]}, r"has other labels \(happy, sad\)"),
        ({"files": {}}, "its files are not those that its manifest names"),
        ({"training": {"data_sha256": "0"}}, "was trained on other data"),
    ],
)
def test_a_member_that_does_not_fit_is_rejected(changes, message, version_path, data_path, tmp_path):
    from ferserve_training.export.merge import merge_versions  # noqa: PLC0415

    odd = _with_manifest(version_path, tmp_path / "odd", **changes)

    with pytest.raises(RunError, match=message):
        merge_versions([version_path, odd], "pair", load_faces(data_path), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_merge_of_nothing_much_is_rejected(version_path, data_path, tmp_path):
    from ferserve_training.export.merge import merge_versions  # noqa: PLC0415

    faces = load_faces(data_path)
    with pytest.raises(RunError, match="two versions or more"):
        merge_versions([version_path], "pair", faces, tmp_path)
    with pytest.raises(RunError, match="holds no exported version"):
        merge_versions([version_path, tmp_path], "pair", faces, tmp_path)
    with pytest.raises(TrainingError, match="use letters, digits"):
        merge_versions([version_path, version_path], "../pair", faces, tmp_path)


def test_a_version_and_its_run_give_one_result(version_path, run_path, data_path, tmp_path):
    before = digest_files(version_path)
    for number, subject in enumerate((run_path, version_path)):
        call(
            "evaluate", subject, "--data", data_path, "--result", tmp_path / f"{number}.json", "--machine", "a PC"
        )

    results = {each.model: each for each in read_results(tmp_path)}

    run, version = results["fer-nano"], results["fer-nano/1"]
    assert digest_files(version_path) == before
    assert (version.accuracy, version.macro_f1) == pytest.approx((run.accuracy, run.macro_f1))
    assert version.ece == pytest.approx(run.ece, abs=1e-4)
    assert (version.recipe, version.epochs, version.machine) == ("fer-nano (smoke)", 2, "a PC")
    assert (version.mac_count, version.parameter_count) == (run.mac_count, run.parameter_count)


def test_a_version_trained_on_other_data_is_not_evaluated(version_path, tmp_path):
    other = write_face_folder(tmp_path / "faces", training_count=2, test_count=1)

    with pytest.raises(RunError, match="was trained on other data"):
        CliRunner().invoke(app, ["evaluate", str(version_path), "--data", str(other)], catch_exceptions=False)


def test_a_card_shows_degraded_faces_and_non_faces_beside_the_version_before(run_path, data_path, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "noise.png"), np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8))
    record = tmp_path / "before.json"

    printed = call("robustness", run_path, "--data", data_path, "--non-faces", pictures, "--result", record)
    call("export", run_path, "--model-repo", tmp_path / "models", "--onnx", "none", "--parent", record)

    assert "not a face, crops of pictures without people: ROC area" in printed
    version = tmp_path / "models" / "fer-nano" / "1"
    card = (version / "assets.extra" / "MODEL_CARD.md").read_text("utf-8")
    for words in ("## Degraded faces of PublicTest", "| video chain | 21 |", "fer-nano, 2 epochs |", "all kinds"):
        assert words in card
    manifest = json.loads((version / "assets.extra" / "manifest.json").read_text("utf-8"))
    assert set(manifest["decisions"]) == {"uncertain_threshold", "not_a_face_threshold"}
    assert all(0 <= value <= 1 for value in manifest["decisions"].values())
    assert f"above {manifest['decisions']['not_a_face_threshold']:.2f}" in card
    assert manifest["training"]["smoke"] is True


def test_a_merged_version_tells_non_faces_where_all_its_members_do(version_path, second_path, data_path, tmp_path):
    call("merge", version_path, second_path, "--name", "pair", "--data", data_path, "--model-repo", tmp_path)

    faces = draw_faces(4)
    merged = load_outputs(tmp_path / "pair" / "1")(faces)["not_a_face"]
    each = [load_outputs(path)(faces)["not_a_face"] for path in (version_path, second_path)]
    assert merged == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    manifest = json.loads((tmp_path / "pair" / "1" / "assets.extra" / "manifest.json").read_text("utf-8"))
    assert manifest["outputs"]["not_a_face"] == "not_a_face"
    assert "decisions" in manifest


def test_a_smoke_run_is_published_beside_smoke_runs_only(run_path, tmp_path):
    call("export", run_path, "--model-repo", tmp_path, "--onnx", "none")
    call("export", run_path, "--model-repo", tmp_path, "--onnx", "none")
    manifest_path = tmp_path / "fer-nano" / "1" / "assets.extra" / "manifest.json"
    manifest = json.loads(manifest_path.read_text("utf-8"))
    del manifest["training"]["smoke"]
    manifest_path.write_text(json.dumps(manifest))

    with pytest.raises(RunError, match="holds fer-nano/1, and a smoke run's net is no net to serve"):
        CliRunner().invoke(app, ["export", str(run_path), "--model-repo", str(tmp_path)], catch_exceptions=False)

    assert sorted(path.name for path in (tmp_path / "fer-nano").iterdir()) == ["1", "2"]


def test_make_train_puts_a_smoke_run_into_a_repository_of_its_own():
    for flags, repository in (("--smoke", "runs/fer-nano/model_repo"), ("--max-minutes 1", "model_repo")):
        done = subprocess.run(
            ["make", "-n", "-o", "setup", "train", "DATA=x.zip", f"TRAIN_FLAGS={flags}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert f'--model-repo "{repository}"' in done.stdout
