import json

import cv2
import numpy as np
import pytest

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.errors import RunError
from ferserve_training.evaluation.haar_recrop import recrop
from ferserve_training.evaluation.perturbations import CHANGES, changed
from ferserve_training.evaluation.robustness import (
    RECROP,
    UNCHANGED,
    DegradedFigures,
    Robustness,
    measure_degraded,
    measure_non_faces,
)
from ferserve_training.evaluation.robustness_record import (
    keep_run_robustness,
    read_robustness,
    run_robustness,
    write_robustness,
)
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.report.robustness_table import read_records, robustness_table


@pytest.fixture(scope="module")
def faces():
    return draw_faces(12)


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_keeps_the_form_and_is_the_same_each_time(faces, name):
    first, second = (changed(faces, CHANGES[name]) for _ in range(2))

    assert first.shape == faces.shape
    assert first.dtype == np.uint8
    assert (first == second).all()
    assert (first != faces).any(axis=(1, 2, 3)).all()


def test_noise_has_the_deviation_that_it_is_named_by():
    grey = np.full((4, 48, 48, 1), 128, np.uint8)
    grey[:, 0, 0, 0] = range(4)  # else all four had the same noise

    noisy = changed(grey, CHANGES["noise, 10 grey levels"]).astype(float)

    assert (noisy - grey).std() == pytest.approx(10, rel=0.05)


def test_a_filmed_face_still_looks_like_itself(faces):
    filmed = changed(faces, CHANGES["video chain"])

    likeness = [np.corrcoef(face.ravel(), film.ravel())[0, 1] for face, film in zip(faces, filmed, strict=True)]
    assert np.mean(likeness) > 0.7  # single faces may lie two pixels off


def test_a_face_in_a_larger_picture_is_found_and_cut_out_as_it_was():
    photograph = cv2.imread("tests/media/astronaut.jpg", cv2.IMREAD_GRAYSCALE)
    folder = cv2.data.haarcascades
    detector = cv2.CascadeClassifier(f"{folder}/haarcascade_frontalface_default.xml")
    left, top, width, height = max(detector.detectMultiScale(photograph, 1.1, 5), key=lambda box: box[2])
    face = cv2.resize(photograph[top : top + height, left : left + width], (48, 48), interpolation=cv2.INTER_AREA)
    images = np.stack([face, np.full((48, 48), 90, np.uint8)])[..., np.newaxis]

    crops, found = recrop(images)

    assert found.tolist() == [True, False]
    assert np.corrcoef(crops[0].ravel(), face.ravel())[0, 1] > 0.8
    assert (crops[1] == 90).all()


def _brightness_logits(images):
    """Call dark faces 0 and bright ones 1."""
    means = images.mean(axis=(1, 2, 3))
    return np.stack([100 - means, means - 100, *[np.full(len(images), -500.0)] * 5], axis=1).astype(np.float32)


def test_each_set_is_scored_and_held_against_the_same_faces_unchanged(faces):
    labels = _brightness_logits(faces).argmax(axis=1).astype(np.int32)
    labelled = LabelledFaces(faces, labels, tuple(map(str, range(12))))

    figures = {each.name: each for each in measure_degraded(_brightness_logits, labelled, 10.0)}

    assert set(figures) - {RECROP} == {UNCHANGED, *CHANGES}
    assert figures[UNCHANGED].accuracy == 1.0
    dark = figures["brightness -60"]
    assert dark.accuracy < 1.0
    assert dark.low_95 < dark.accuracy < dark.high_95
    assert dark.accuracy_unchanged == 1.0
    assert dark.ece > figures[UNCHANGED].ece


def test_kinds_of_non_faces_weigh_the_same():
    faces = np.linspace(0.0, 0.4, 100)

    figures = measure_non_faces(faces, {"far": np.full(500, 0.9), "near": np.full(50, 0.2)}, 0.5)

    far, near, together = figures
    assert (far.roc_auc, far.rejected_share) == (1.0, 1.0)
    assert near.roc_auc == pytest.approx(0.5, abs=0.02)
    assert near.rejected_share == 0.0
    assert together.roc_auc == pytest.approx((far.roc_auc + near.roc_auc) / 2)
    assert together.image_count == 100


def _record(model="fer-nano/3", sha256=None):
    degraded = (
        DegradedFigures(UNCHANGED, 100, 0.7, 0.6, 0.8, 0.7, 0.02),
        DegradedFigures("noise", 100, 0.6, 0.5, 0.7, 0.7, 0.05),
        DegradedFigures(RECROP, 80, 0.71, 0.6, 0.8, 0.72, 0.03),
    )
    return Robustness(model, "PublicTest", degraded, weights_sha256=sha256)


def test_figures_are_read_as_they_were_written(tmp_path):
    write_robustness(_record(), tmp_path / "sub" / "a.json")

    assert read_robustness(tmp_path / "sub" / "a.json") == _record()


@pytest.mark.parametrize("content", ["", "{}", "[]", json.dumps({"degraded": [{}], "non_faces": []})])
def test_figures_that_cannot_be_read_are_named(content, tmp_path):
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(RunError, match=r"a\.json: cannot be read"):
        read_robustness(tmp_path / "a.json")


def test_figures_of_a_run_stay_with_its_weights(tmp_path):
    assert run_robustness(tmp_path, "abc") is None
    keep_run_robustness(_record(sha256="abc"), tmp_path)

    assert run_robustness(tmp_path, "abc") == _record(sha256="abc")
    with pytest.raises(RunError, match="is of an earlier checkpoint"):
        run_robustness(tmp_path, "other")


def test_the_table_has_a_column_for_each_model(tmp_path):
    write_robustness(_record(), tmp_path / "a.json")
    write_robustness(_record("fer-nano/2"), tmp_path / "b.json")

    lines = robustness_table(read_records(tmp_path)).splitlines()

    assert lines[0] == "|  | `fer-nano/3` | `fer-nano/2` |"
    assert "| noise | 60.0 % | 60.0 % |" in lines
    assert f"| {RECROP} | 71.0 % (72.0 % before) | 71.0 % (72.0 % before) |" in lines
    assert "| calibration error, worst set | 0.050 (noise) | 0.050 (noise) |" in lines
