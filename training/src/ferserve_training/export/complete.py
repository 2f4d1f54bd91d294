"""Writes the files beside the net: golden set, warm-up requests, card and, last, the manifest."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferserve_training.atomic import write_atomically
from ferserve_training.export.golden import write_golden
from ferserve_training.export.manifest import VersionFacts, write_manifest
from ferserve_training.export.model_card import MODEL_CARD_PATH, model_card_of
from ferserve_training.export.warmup import WARMUP_PATH, write_warmup_requests


def complete_version(
    facts: VersionFacts, folder: Path, faces: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
) -> None:
    """Write the rest of a version whose SavedModel or ONNX file is in place.

    Args:
        facts: What its manifest and card say.
        folder: Of the version; all files in it are named in the manifest.
        faces: Drawn faces, uint8 [N, 48, 48, 1].
        probabilities: That it gives them, float32 [N, 7].
    """
    (folder / "assets.extra").mkdir(exist_ok=True)
    write_golden(faces, probabilities, folder)
    if (folder / "saved_model.pb").is_file():
        write_warmup_requests(facts.name, folder / WARMUP_PATH)
    write_atomically(folder / MODEL_CARD_PATH, model_card_of(facts).encode())
    write_manifest(facts, folder)
