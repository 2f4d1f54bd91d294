"""Loads the model that is evaluated: the net of a run, or an exported version."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from ferserve_training.errors import RunError
from ferserve_training.evaluation.calibration import sigmoid
from ferserve_training.export.manifest import MANIFEST_PATH
from ferserve_training.export.saved_model import LOGITS_NAME, NOT_A_FACE_NAME, load_outputs
from ferserve_training.labels import CLASS_COUNT
from ferserve_training.loop.records import EpochRecord
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.scoring import score
from ferserve_training.loop.trained import load_trained

_TIMED_FACES: Final = 64


class Answers(NamedTuple):
    """Holds the answers of a net.

    Attributes:
        logits: Before temperature, float32 [N, 7].
        not_a_face: Probability that the image shows no face, float32 [N]; None where the net does not say.
    """

    logits: npt.NDArray[np.float32]
    not_a_face: npt.NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """Wraps a net for evaluation.

    Attributes:
        name: For headings.
        answers_of: From uint8 [N, 48, 48, 1] to answers, one forward pass each.
        mac_count: Multiply-accumulates a face.
        parameter_count: Weights and biases.
        temperature: That an exported version applies; None for a run, whose temperature is fitted later.
        history: Epochs of a run; none of a version.
        data_sha256: Digest of the data that it was trained on.
        not_a_face_threshold: Of an exported version; None where it has none yet.
    """

    name: str
    answers_of: Callable[[npt.NDArray[np.uint8]], Answers]
    mac_count: int
    parameter_count: int
    temperature: float | None
    history: tuple[EpochRecord, ...]
    data_sha256: str
    not_a_face_threshold: float | None = None

    def logits_of(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score faces, uint8 [N, 48, 48, 1]: logits before temperature, float32 [N, 7]."""
        return self.answers_of(images).logits


def load_model(folder: Path) -> EvaluatedModel:
    """Load the net of a run or of a version.

    Raises:
        RunError: The folder holds neither, or cannot be read.
    """
    if (folder / "run.json").exists():
        trained = load_trained(RunDirectory(folder))
        answering = trained.answering
        net = trained.recipe.net
        return EvaluatedModel(
            f"{trained.recipe.name}, {len(trained.history)} epochs",
            partial(_run_answers, answering),
            net.mac_count,
            net.parameter_count,
            None,
            trained.history,
            trained.settings.data_sha256,
        )
    try:
        manifest = json.loads((folder / MANIFEST_PATH).read_text("utf-8"))
        return EvaluatedModel(
            f"{manifest['name']}, version {manifest['version']}",
            _version_answers(folder),
            manifest["mac_count"],
            manifest["parameter_count"],
            manifest["temperature"],
            (),
            manifest["training"]["data_sha256"],
            manifest.get("decisions", {}).get("not_a_face_threshold"),
        )
    except FileNotFoundError:
        raise RunError(f"{folder}: holds neither a run nor an exported version") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{folder}: cannot be read ({error})") from error


def milliseconds_a_face(model: EvaluatedModel, images: npt.NDArray[np.uint8]) -> float:
    """Measure the time of one face in a batch on this machine, the first call left out."""
    faces = images[:_TIMED_FACES]
    model.answers_of(faces)
    started = time.perf_counter()
    model.answers_of(faces)
    return (time.perf_counter() - started) / len(faces) * 1000


def _run_answers(answering: keras.Model, images: npt.NDArray[np.uint8]) -> Answers:
    columns = score(answering, images)
    logits = columns[:, :CLASS_COUNT]
    if columns.shape[1] == CLASS_COUNT:
        return Answers(logits, None)
    return Answers(logits, np.asarray(sigmoid(columns[:, CLASS_COUNT]), np.float32))


def _version_answers(folder: Path) -> Callable[[npt.NDArray[np.uint8]], Answers]:
    outputs_of = load_outputs(folder)

    def answers_of(images: npt.NDArray[np.uint8]) -> Answers:
        outputs = outputs_of(images)
        return Answers(outputs[LOGITS_NAME], outputs.get(NOT_A_FACE_NAME))

    return answers_of
