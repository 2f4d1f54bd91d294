"""Tests versions in int8: made from an exported one, served from their ONNX file alone."""

import json
import shutil

import numpy as np
import pytest

from ferserve_server.backends.selection import EngineSettings, engine_loader
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision, ServableId
from ferserve_server.models.golden import read_golden
from ferserve_server.models.manifest import read_manifest, verify_files
from ferserve_server.models.precision import settle_precision
from ferserve_server.models.validation import ValidationLimits
from ferserve_training.data.folders import load_faces
from ferserve_training.errors import RunError, TrainingError
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.onnx_model import run_onnx
from ferserve_training.export.quantize import quantize_version
from ferserve_training.export.saved_model import run_saved_model
from support.bundled import bundled_version
from support.training_faces import write_face_folder

BUNDLED = bundled_version("fer-small")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    return load_faces(write_face_folder(tmp_path_factory.mktemp("data") / "faces"))


@pytest.fixture(scope="module")
def source(tmp_path_factory, faces):
    """The bundled version, as if it had learnt from the drawn faces."""
    folder = shutil.copytree(BUNDLED, tmp_path_factory.mktemp("source") / "fer-small" / BUNDLED.name)
    _edit(folder, lambda manifest: manifest["training"].update(data_sha256=faces.sha256))
    return folder


@pytest.fixture(scope="module")
def made(source, faces, tmp_path_factory):
    return quantize_version(source, "fer-small-int8", faces, tmp_path_factory.mktemp("models"), max_drop=1)


def _edit(folder, change):
    path = folder / "assets.extra" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_it_is_an_onnx_file_of_a_quarter_of_the_size_that_says_nearly_the_same(made, source):
    file = "assets.extra/model.onnx"
    manifest = json.loads((made.folder / "assets.extra" / "manifest.json").read_text())

    assert (manifest["name"], manifest["precision"]) == ("fer-small-int8", "int8")
    assert (manifest["quantized"]["name"], manifest["quantized"]["version"]) == ("fer-small", int(BUNDLED.name))
    assert manifest["quantized"]["accuracy_before"] == made.accuracy_before
    assert set(manifest["files"]) == {file, "assets.extra/golden.npz", "assets.extra/MODEL_CARD.md"}
    assert (made.folder / file).stat().st_size < 0.3 * (
        source / "variables/variables.data-00000-of-00001"
    ).stat().st_size
    drawn = draw_faces(32)
    difference = np.abs(run_onnx(made.folder / file, drawn)[0] - run_onnx(source / file, drawn)[0])
    assert 1e-4 < difference.max() < 0.3


@pytest.mark.parametrize("wanted", [None, Precision.BFLOAT16, Precision.FLOAT32])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_it_is_served_in_int8_whatever_precision_others_are_run_in(made, backend, wanted):
    manifest = read_manifest(made.folder)
    verify_files(made.folder, manifest)
    golden = read_golden(made.folder, manifest.description.input)
    loaded = engine_loader(backend, EngineSettings(1)).load(
        ServableId("fer-small-int8", 1), made.folder, manifest.description
    )

    # Engines and processors round differently: 0.009 between these two.
    candidate = settle_precision(loaded, golden, ValidationLimits((1, 8), golden_tolerance=1e-3, precision=wanted))

    assert candidate.servable.precision is Precision.INT8
    with pytest.raises(ModelRejectedError, match="published in int8"):
        candidate.servable.with_precision(Precision.BFLOAT16)
    candidate.servable.close()


def test_tensorflow_rejects_it_and_names_the_engines_that_run_it(made):
    loader = engine_loader("tensorflow", EngineSettings(1))

    with pytest.raises(ModelRejectedError, match="--backend onnxruntime") as rejected:
        loader.load(ServableId("fer-small-int8", 1), made.folder, read_manifest(made.folder).description)

    assert rejected.value.reason == "SAVED_MODEL_MISSING"
    with pytest.raises(RunError, match="has no SavedModel"):
        run_saved_model(made.folder, draw_faces(1))


def test_one_that_loses_too_much_is_not_published(source, faces, tmp_path):
    with pytest.raises(RunError, match="Nothing was published"):
        quantize_version(
            source, "fer-small-int8", faces, tmp_path, max_drop=-1
        )  # it would have to gain 100 points

    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: _edit(folder, lambda m: m["training"].update(data_sha256="0")), "other data"),
        (lambda folder: _edit(folder, lambda m: m.update(labels=m["labels"][::-1])), "other labels"),
        (lambda folder: _edit(folder, lambda m: m.update(precision="int8")), "int8 already"),
        (lambda folder: (folder / "assets.extra" / "model.onnx").write_bytes(b""), "export it again"),
    ],
)
def test_a_version_that_cannot_be_used_is_rejected(spoil, words, source, faces, tmp_path):
    folder = shutil.copytree(source, tmp_path / "spoilt")
    spoil(folder)

    with pytest.raises(RunError, match=words):
        quantize_version(folder, "fer-small-int8", faces, tmp_path / "models", max_drop=1)


def test_a_version_without_an_onnx_file_and_a_name_that_is_none_are_rejected(source, faces, tmp_path):
    folder = shutil.copytree(source, tmp_path / "spoilt")
    (folder / "assets.extra" / "model.onnx").unlink()
    _edit(folder, lambda manifest: manifest["files"].pop("assets.extra/model.onnx"))

    with pytest.raises(RunError, match="--onnx float32"):
        quantize_version(folder, "fer-small-int8", faces, tmp_path / "models", max_drop=1)
    with pytest.raises(TrainingError, match="not a model's name"):
        quantize_version(source, "../x", faces, tmp_path / "models", max_drop=1)
