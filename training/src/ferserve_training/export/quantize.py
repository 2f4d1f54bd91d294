"""Quantises an exported version: convolutions and sums of its ONNX file in 8 bits."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as runtime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from ferserve_training.data.faces import FaceData
from ferserve_training.errors import RunError, TrainingError
from ferserve_training.evaluation.scores import Evaluation, evaluate
from ferserve_training.evaluation.twins import find_twin_free
from ferserve_training.export.complete import complete_version
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.golden import GOLDEN_COUNT
from ferserve_training.export.manifest import (
    MANIFEST_PATH,
    MODEL_NAME,
    Provenance,
    QuantizedNet,
    Source,
    VersionFacts,
    digest_files,
    read_manifest,
)
from ferserve_training.export.onnx_model import ONNX_PATH, run_onnx
from ferserve_training.export.publish import publish_version
from ferserve_training.export.saved_model import INPUT_NAME, LOGITS_NAME, NOT_A_FACE_NAME, PROBABILITIES_NAME
from ferserve_training.labels import LABELS

CALIBRATION_COUNT: Final = 2048
"""Training faces whose values set the scales."""
_BATCH: Final = 32
_QUANTIZED: Final = ["Conv", "Add", "Relu"]
"""Operations in int8. The preprocessing, the mean over each map and the head stay float32: they cost next to
nothing, and the head's rounding would show in the probabilities."""


@dataclass(frozen=True, slots=True)
class QuantizedVersion:
    """Holds a published version and what it lost.

    Attributes:
        folder: Of the version.
        accuracy: On the faces that versions are scored on, 0 to 1.
        accuracy_before: The same, of the version that it was made of.
    """

    folder: Path
    accuracy: float
    accuracy_before: float


def quantize_version(
    folder: Path, name: str, data: FaceData, model_repo: Path, *, max_drop: float
) -> QuantizedVersion:
    """Publish an exported version in int8 as the next version of a model; it has an ONNX file and no SavedModel.

    Scales are set per output channel for weights, and per tensor for values by their range on training faces.

    Args:
        folder: Of the version.
        name: Of the model that is published.
        data: What the version was trained and is scored on.
        model_repo: Root of the model repository.
        max_drop: How far the accuracy may fall, as a share: 0.003 is 0.3 points.

    Raises:
        RunError: The version is missing, was changed after its export, has no ONNX file, other labels or learnt
            from other data; or the accuracy falls too far.
        TrainingError: The name cannot be that of a folder, or the repository cannot be written.
    """
    if not MODEL_NAME.fullmatch(name):
        raise TrainingError(
            f"--name {name}: not a model's name; use letters, digits, '.', '_' and '-', and no dot first"
        )
    manifest = _read_source(folder, data.sha256)
    scored = data.public_test
    before = _accuracy(_answers(folder / ONNX_PATH, scored.images)[LOGITS_NAME], scored.labels)
    with publish_version(model_repo / name) as draft:
        path = draft.folder / ONNX_PATH
        path.parent.mkdir()
        _quantize(folder / ONNX_PATH, path, data.training.spread(CALIBRATION_COUNT).images)
        answers = _answers(path, scored.images)
        after = _accuracy(answers[LOGITS_NAME], scored.labels)
        if not after >= before - max_drop:
            raise RunError(
                f"in int8 the accuracy on {data.split} is {after:.2%} instead of {before:.2%}; --max-drop allows "
                f"{100 * max_drop:g} points less. Nothing was published"
            )
        is_twin_free = find_twin_free(scored.images, data.training.images)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        evaluation = evaluate(
            answers[LOGITS_NAME],
            scored.labels,
            is_twin_free,
            digest,
            data.split,
            temperature=manifest["temperature"],
            not_a_face=answers.get(NOT_A_FACE_NAME),
        )
        faces = draw_faces(GOLDEN_COUNT)
        probabilities, _ = run_onnx(path, faces)
        facts = _facts(folder, manifest, name, draft.version, evaluation, before)
        complete_version(facts, draft.folder, faces, probabilities)
    return QuantizedVersion(model_repo / name / str(draft.version), after, before)


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # untyped
    """Faces as ONNX Runtime asks for them."""

    def __init__(self, faces: npt.NDArray[np.uint8]) -> None:
        self._batches = iter([faces[at : at + _BATCH] for at in range(0, len(faces), _BATCH)])

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """Give the next batch, or None."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT_NAME: batch}


def _quantize(source: Path, target: Path, faces: npt.NDArray[np.uint8]) -> None:
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "model.onnx"
        options = runtime.SessionOptions()
        # Weights that are stored as int16 become the float32 constants that are rounded here.
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(plain)
        runtime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        quantize_static(
            str(plain),
            str(target),
            _Batches(faces),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            per_channel=True,
            # 7 bits of weights: processors without VNNI add pairs of products in 16 bits, which 8 bits overflow.
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def _read_source(folder: Path, data_sha256: str) -> dict[str, Any]:
    manifest = read_manifest(folder)
    if manifest["labels"] != list(LABELS):
        raise RunError(f"{folder}: has other labels ({', '.join(map(str, manifest['labels']))})")
    if manifest["files"] != digest_files(folder):
        raise RunError(f"{folder}: its files are not those that its manifest names; export it again")
    if ONNX_PATH not in manifest["files"]:
        raise RunError(f"{folder}: has no {ONNX_PATH}; export it again with --onnx float32")
    if manifest.get("precision", "float32") != "float32":
        raise RunError(f"{folder}: is in {manifest['precision']} already; name the version that it was made of")
    if manifest["training"].get("data_sha256") != data_sha256:
        raise RunError(f"{folder}: was trained on other data; the faces scored may be faces that it has seen")
    return manifest


def _answers(path: Path, faces: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
    """Ask an ONNX file about faces: logits, float32 [N, 7], and `not_a_face`, float32 [N], where it says so."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    there = [output.name for output in session.get_outputs()]
    names = [name for name in (LOGITS_NAME, NOT_A_FACE_NAME) if name in there]
    parts = [session.run(names, {INPUT_NAME: faces[at : at + _BATCH]}) for at in range(0, len(faces), _BATCH)]
    return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


def _accuracy(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.integer]) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def _facts(
    folder: Path, manifest: dict[str, Any], name: str, version: int, evaluation: Evaluation, before: float
) -> VersionFacts:
    made = manifest["training"]
    digest = hashlib.sha256((folder / MANIFEST_PATH).read_bytes()).hexdigest()
    source = Source(manifest["name"], manifest["version"], digest)
    return VersionFacts(
        name,
        version,
        datetime.now(UTC),
        QuantizedNet(source, before, manifest["mac_count"], manifest["parameter_count"]),
        evaluation,
        Provenance(
            f"{made['recipe']}, in int8",
            made["seed"],
            made["epochs"],
            made["minutes"],
            made["data_sha256"],
            made["train_count"],
            f"{evaluation.split}, single forward pass in int8, no test-time augmentation; {before:.2%} before, in "
            f"float32; scales set on {CALIBRATION_COUNT} training faces; temperature of the version before",
            f"{made['framework']}; quantised by onnxruntime {runtime.__version__}",
        ),
        outputs=tuple(manifest.get("outputs", {PROBABILITIES_NAME: "", LOGITS_NAME: ""})),
    )
