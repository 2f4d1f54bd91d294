"""Merges exported versions: the mean of their calibrated probabilities in one SavedModel."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import tensorflow as tf

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
    MergedNet,
    Provenance,
    Source,
    VersionFacts,
    digest_files,
    read_manifest,
)
from ferserve_training.export.publish import publish_version
from ferserve_training.export.saved_model import (
    INPUT_NAME,
    LOGITS_NAME,
    NOT_A_FACE_NAME,
    PROBABILITIES_NAME,
    load_outputs,
    save_module,
)
from ferserve_training.framework.choose import framework
from ferserve_training.labels import LABELS

_MIN_PROBABILITY: Final = 1e-30
"""Keeps the logarithm of a probability of 0 finite; float32 goes down to 1.2e-38."""
_PROTOCOL: Final = (
    "{split}, one forward pass of each member, no test-time augmentation; mean of the members' calibrated "
    "probabilities, without a temperature of its own"
)


@dataclass(frozen=True, slots=True)
class _Part:
    folder: Path
    source: Source
    manifest: dict[str, Any]


def merge_versions(folders: Sequence[Path], name: str, data: FaceData, model_repo: Path) -> Path:
    """Publish the mean of versions as the next version of a model; `logits` are the logarithms of the mean.

    Args:
        folders: Of the members.
        name: Of the model.
        data: What the members were trained and are scored on.
        model_repo: Root of the model repository.

    Returns:
        The folder of the version.

    Raises:
        RunError: A member is missing, was changed after its export, has other labels or learnt from other data; or
            there are fewer than two.
        TrainingError: The name cannot be that of a folder, or the repository cannot be written.
    """
    if not MODEL_NAME.fullmatch(name):
        raise TrainingError(
            f"--name {name}: not a model's name; use letters, digits, '.', '_' and '-', and no dot first"
        )
    if len(folders) < 2:
        raise RunError("a merge needs two versions or more")
    parts = [_part(folder, data.sha256) for folder in folders]
    with publish_version(model_repo / name) as draft:
        _write(parts, draft.folder)
        scored = data.public_test
        outputs_of = load_outputs(draft.folder)
        outputs = outputs_of(scored.images)
        is_twin_free = find_twin_free(scored.images, data.training.images)
        graph_sha256 = digest_files(draft.folder)["saved_model.pb"]
        evaluation = evaluate(
            outputs[LOGITS_NAME],
            scored.labels,
            is_twin_free,
            graph_sha256,
            data.split,
            temperature=1.0,
            not_a_face=outputs.get(NOT_A_FACE_NAME),
        )
        faces = draw_faces(GOLDEN_COUNT)
        golden = outputs_of(faces)
        facts = replace(_facts(parts, name, draft.version, evaluation), outputs=tuple(golden))
        complete_version(facts, draft.folder, faces, golden[PROBABILITIES_NAME])
    return model_repo / name / str(draft.version)


def _part(folder: Path, data_sha256: str) -> _Part:
    """Read and check a member."""
    manifest = read_manifest(folder)
    labels = manifest["labels"]
    if labels != list(LABELS):
        raise RunError(f"{folder}: has other labels ({', '.join(map(str, labels))})")
    if manifest["files"] != digest_files(folder):
        raise RunError(f"{folder}: its files are not those that its manifest names; export it again")
    if "saved_model.pb" not in manifest["files"]:
        raise RunError(f"{folder}: has no SavedModel; name the version that it was made of")
    if manifest["training"].get("data_sha256") != data_sha256:
        raise RunError(f"{folder}: was trained on other data; the faces scored may be faces that it has seen")
    digest = hashlib.sha256((folder / MANIFEST_PATH).read_bytes()).hexdigest()
    return _Part(folder, Source(manifest["name"], manifest["version"], digest), manifest)


def _write(parts: Sequence[_Part], folder: Path) -> None:
    """Write the SavedModel; the members' variables are copied into it."""
    module = tf.Module()
    module.members = [tf.saved_model.load(str(part.folder)) for part in parts]

    def serve(faces: tf.Tensor) -> dict[str, tf.Tensor]:
        answers = [member.signatures["serving_default"](**{INPUT_NAME: faces}) for member in module.members]
        mean = tf.add_n([answer[PROBABILITIES_NAME] for answer in answers]) / len(answers)
        outputs = {PROBABILITIES_NAME: mean, LOGITS_NAME: tf.math.log(tf.maximum(mean, _MIN_PROBABILITY))}
        if all(NOT_A_FACE_NAME in answer for answer in answers):
            outputs[NOT_A_FACE_NAME] = tf.add_n([answer[NOT_A_FACE_NAME] for answer in answers]) / len(answers)
        return outputs

    save_module(module, serve, folder)


def _facts(parts: Sequence[_Part], name: str, version: int, evaluation: Evaluation) -> VersionFacts:
    trainings = [part.manifest["training"] for part in parts]
    sources = tuple(part.source for part in parts)
    return VersionFacts(
        name,
        version,
        datetime.now(UTC),
        MergedNet(
            sources,
            sum(part.manifest["mac_count"] for part in parts),
            sum(part.manifest["parameter_count"] for part in parts),
        ),
        evaluation,
        Provenance(
            f"merge of {', '.join(f'{source.name}/{source.version}' for source in sources)}",
            trainings[0]["seed"],
            sum(made["epochs"] for made in trainings),
            round(sum(made["minutes"] for made in trainings), 1),
            trainings[0]["data_sha256"],
            max(made["train_count"] for made in trainings),
            _PROTOCOL.format(split=evaluation.split),
            f"put together by {framework().versions()}",
        ),
    )
