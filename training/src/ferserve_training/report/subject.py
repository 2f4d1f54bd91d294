"""What a report is about: the net of a run, or an exported version."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ferserve_training.errors import RunError
from ferserve_training.export.manifest import MANIFEST_PATH
from ferserve_training.export.saved_model import load_saved_model
from ferserve_training.loop.records import EpochRecord
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.scoring import score
from ferserve_training.loop.trained import load_trained

_BATCH: Final = 256
_TIMED_FACES: Final = 64


@dataclass(frozen=True, slots=True)
class Subject:
    """A net that can be asked.

    Attributes:
        name: For headings.
        logits_of: From uint8 [N, 48, 48, 1] to float32 [N, 7], before temperature.
        mac_count: Multiply-accumulates a face.
        parameter_count: Weights and biases.
        temperature: That an exported version applies; None for a run, whose temperature is fitted anew.
        history: Epochs of a run; none of a version.
        data_sha256: Digest of the data that it was trained on.
    """

    name: str
    logits_of: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
    mac_count: int
    parameter_count: int
    temperature: float | None
    history: tuple[EpochRecord, ...]
    data_sha256: str


def load_subject(folder: Path) -> Subject:
    """Load the net of a run or of a version.

    Raises:
        RunError: The folder holds neither, or cannot be read.
    """
    if (folder / "run.json").exists():
        trained = load_trained(RunDirectory(folder))
        net = trained.recipe.net
        return Subject(
            f"{trained.recipe.name}, {len(trained.history)} epochs",
            partial(score, trained.classifier),
            net.mac_count,
            net.parameter_count,
            None,
            trained.history,
            trained.settings.data_sha256,
        )
    try:
        manifest = json.loads((folder / MANIFEST_PATH).read_text("utf-8"))
        return Subject(
            f"{manifest['name']}, version {manifest['version']}",
            _version_scorer(folder),
            manifest["mac_count"],
            manifest["parameter_count"],
            manifest["temperature"],
            (),
            manifest["training"]["data_sha256"],
        )
    except FileNotFoundError:
        raise RunError(f"{folder}: holds neither a run nor an exported version") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}: cannot be read ({error})") from error


def milliseconds_a_face(subject: Subject, images: npt.NDArray[np.uint8]) -> float:
    """Measure the time of one face in a batch on this machine, the first call left out."""
    faces = images[:_TIMED_FACES]
    subject.logits_of(faces)
    started = time.perf_counter()
    subject.logits_of(faces)
    return (time.perf_counter() - started) / len(faces) * 1000


def _version_scorer(folder: Path) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    version = load_saved_model(folder)

    def logits_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        parts = [version(images[start : start + _BATCH])[1] for start in range(0, len(images), _BATCH)]
        return np.concatenate(parts)

    return logits_of
