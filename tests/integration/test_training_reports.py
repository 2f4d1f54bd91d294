"""Tests a recipe of Keras layers from its data to its version, its report, its comparison and its audit."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ferserve_training.cli import app
from ferserve_training.data.folders import load_faces
from ferserve_training.errors import TrainingError
from ferserve_training.evaluation.perturbations import CHANGES
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.saved_model import run_saved_model
from ferserve_training.labels import LABELS
from ferserve_training.loop.inputs import LessonInputs
from ferserve_training.loop.request import RunRequest
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.scoring import score
from ferserve_training.loop.teacher import load_teacher
from ferserve_training.loop.train import train
from ferserve_training.loop.trained import load_trained
from ferserve_training.recipes.resolve import resolve_recipe
from support.training_faces import write_face_folder


def call(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def data_path(tmp_path_factory):
    return write_face_folder(tmp_path_factory.mktemp("data") / "faces", training_count=4, test_count=3)


def _train(path, data_path, name, overrides=(), teacher=None):
    """What the command does, but for the threads of TensorFlow, which this process has settled long ago."""
    data = load_faces(data_path)
    recipe = resolve_recipe(name, overrides, smoke=True)
    request = RunRequest(
        0, None, None, smoke=True, overrides=overrides, teachers=(str(teacher),) if teacher else ()
    )
    directory = RunDirectory(path)
    settings = request.settle(recipe, data.sha256, len(data.training), "tensorflow")
    directory.create(settings)
    taught = [load_teacher(teacher)] if teacher else []
    return train(recipe, data, settings, directory, lambda _record, _left: None, LessonInputs(teachers=taught))


@pytest.fixture(scope="module")
def run_path(tmp_path_factory, data_path):
    path = tmp_path_factory.mktemp("runs") / "run"
    _train(path, data_path, "seed3-gap512", ("batch_size=8", "keeps=best_loss"))
    call("evaluate", path, "--data", data_path)
    return path


@pytest.fixture(scope="module")
def version_path(tmp_path_factory, run_path):
    repository = tmp_path_factory.mktemp("repository")
    call("export", run_path, "--model-repo", repository)
    return repository / "seed3-gap512" / "1"


def test_the_exported_version_answers_as_the_trained_net_and_as_its_golden_set(version_path, run_path):
    faces = draw_faces(16)
    probabilities, logits = run_saved_model(version_path, faces)

    assert logits == pytest.approx(score(load_trained(RunDirectory(run_path)).model, faces), abs=1e-4)
    with np.load(version_path / "assets.extra" / "golden.npz") as golden:
        assert (golden["faces"][:16] == faces).all()
        assert probabilities == pytest.approx(golden["probabilities"][:16], abs=1e-6)


def test_the_manifest_says_what_was_changed_and_how_the_epoch_was_picked(version_path):
    manifest = json.loads((version_path / "assets.extra" / "manifest.json").read_text())

    assert manifest["training"]["recipe"] == "seed3-gap512 (smoke, batch_size=8, keeps=best_loss)"
    assert "the best epoch picked by the same faces" in manifest["training"]["evaluation"]
    assert manifest["parameter_count"] == 1_821_959
    card = (version_path / "assets.extra" / "MODEL_CARD.md").read_text()
    assert "each image is divided by 255 inside the graph" in card


def test_a_run_keeps_a_log_for_other_programs(run_path):
    with (run_path / "epochs.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))

    assert [line["epoch"] for line in epochs] == ["1", "2"]
    assert [float(line["learning_rate"]) for line in epochs] == pytest.approx([5e-4] * 2)
    assert all(float(line["public_test_loss"]) > 0 for line in epochs)


def test_a_version_teaches_a_run(version_path, data_path, tmp_path):
    checkpoint = _train(tmp_path / "taught", data_path, "fer-nano", teacher=version_path)

    assert len(checkpoint.history) == 2
    assert np.isfinite(checkpoint.history[-1].loss)


def test_the_command_trains_with_settings_of_the_user(data_path, tmp_path):
    command = Path(sys.executable).with_name("ferserve-train")
    options = [
        "--smoke",
        "--epochs",
        "1",
        "--set",
        "batch_size=4",
        "--data",
        data_path,
        "--run-dir",
        tmp_path / "run",
    ]

    done = subprocess.run(
        [command, "train", "seed1-vgglite", "--data", data_path, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert RunDirectory(tmp_path / "run").settings().overrides == ("batch_size=4",)


@pytest.fixture(scope="module")
def report(tmp_path_factory, run_path, data_path):
    folder = tmp_path_factory.mktemp("report")
    votes = folder / "votes.csv"
    head = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    votes.write_text(
        f"{head}\nPublicTest,sad_0.png,0,0,0,9,0,0,0,0,0,1\nPublicTest,fear_0.png,1,1,0,0,0,0,0,0,0,0\n"
    )
    call("report", run_path, "--data", data_path, "--output", folder, "--votes", votes)
    return folder


def test_a_report_holds_the_figures_of_the_net(report, run_path, data_path):
    faces = load_faces(data_path).public_test
    called = score(load_trained(RunDirectory(run_path)).model, faces.images).argmax(axis=1)

    found = json.loads((report / "report.json").read_text())

    assert found["figures"]["accuracy"] == pytest.approx((called == faces.labels).mean())
    assert np.sum(found["confusion"]) == found["face_count"] == 21
    assert [each["support"] for each in found["classes"]] == [3] * 7
    assert set(CHANGES) <= set(found["robustness"])
    assert all(0 <= each["ece"] <= 1 for each in found["robustness"].values())
    assert found["parent"] is None
    assert found["ferplus_majority"]["face_count"] == 1
    sad = faces.names.index("sad_0.png")
    assert found["ferplus_majority"]["accuracy"] == float(called[sad] == LABELS.index("sad"))
    assert found["trained_on_this_data"]
    assert found["milliseconds_a_face"] > 0
    assert [each["epoch"] for each in found["history"]] == [1, 2]


def test_a_report_opens_with_a_verdict_against_chance_and_a_parent(run_path, version_path, data_path, tmp_path):
    call("report", run_path, "--data", data_path, "--output", tmp_path, "--parent", version_path)

    found = json.loads((tmp_path / "report.json").read_text())
    assert found["parent"]["accuracy"] == found["figures"]["accuracy"]
    assert found["parent"]["p_value"] == 1.0
    page, card = ((tmp_path / name).read_text() for name in ("report.html", "MODEL_CARD.md"))
    for text in (page, card):
        assert "21 faces of PublicTest" in text
        assert "calling every face angry (14.3%)" in text
        assert "points against seed3-gap512, version 1" in text
    assert page.index('class="verdict"') < page.index("<table>")


def test_a_report_is_one_page_with_its_pictures_inside(report):
    page = (report / "report.html").read_text()

    assert page.count('src="data:image/png;base64,') == page.count("<img") == 6
    assert "http" not in page


def test_a_card_names_the_use_and_the_figures_and_shows_no_face(report):
    card = (report / "MODEL_CARD.md").read_text()

    assert card.startswith("# seed3-gap512, 2 epochs on PublicTest")
    assert "## Intended use" in card
    assert "Accuracy against FER+'s majority, 1 faces" in card
    assert "base64" not in card


def test_a_version_is_compared_with_its_own_run(version_path, run_path, data_path):
    output = call("compare", run_path, version_path, "--data", data_path)

    assert "seed3-gap512, 2 epochs" in output
    assert "McNemar's exact test on 21 faces: p = 1" in output


def test_a_version_is_audited_group_by_group(version_path, data_path, tmp_path):
    groups = tmp_path / "groups.csv"
    groups.write_text(
        "name,group\n" + "".join(f"{label}_{index}.png,{'ab'[index]}\n" for label in LABELS for index in (0, 1))
    )

    output = call("audit", version_path, "--data", data_path, "--groups", groups)

    assert "14 faces, 7 without a group" in output
    words = [line.split() for line in output.splitlines()]
    assert [line[:2] for line in words if line[0] in ("a", "b")] == [["a", "7"], ["b", "7"]]


def test_a_data_check_names_every_file_at_fault(data_path, tmp_path):
    broken = write_face_folder(tmp_path / "faces", training_count=2, test_count=1)
    for name in ("a.png", "b.png"):
        (broken / "train" / "sad" / name).write_bytes(b"x")

    result = CliRunner().invoke(app, ["data-check", str(broken)])

    assert isinstance(result.exception, TrainingError)
    assert [line.rsplit("/", 1)[1] for line in str(result.exception).splitlines()] == [
        "a.png: is no readable image: it looks like text",
        "b.png: is no readable image: it looks like text",
    ]
    assert "SHA-256" in result.output
