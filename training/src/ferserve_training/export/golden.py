"""Writes `assets.extra/golden.npz`: drawn faces and their scores, by which the server tries a version."""

import io
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ferserve_training.atomic import write_atomically

GOLDEN_PATH: Final = "assets.extra/golden.npz"
GOLDEN_COUNT: Final = 32


def write_golden(
    faces: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32], version_folder: Path
) -> None:
    """Write the golden set of a version; its `assets.extra` must exist.

    Args:
        faces: uint8 [N, 48, 48, 1]; the first 32 are kept.
        probabilities: Of the version, float32 [N, 7].
        version_folder: Of the version.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, faces=faces[:GOLDEN_COUNT], probabilities=probabilities[:GOLDEN_COUNT])
    write_atomically(version_folder / GOLDEN_PATH, buffer.getvalue())
