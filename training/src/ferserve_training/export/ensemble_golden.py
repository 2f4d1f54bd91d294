"""The golden set of an ensemble: the mean of what its members say of the same faces."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ferserve_training.errors import TrainingError
from ferserve_training.export.golden import GOLDEN_PATH


class Golden(NamedTuple):
    """A golden set.

    Attributes:
        faces: uint8 [N, H, W, 1].
        probabilities: float32 [N, K], one row a face.
    """

    faces: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]


Scorer = Callable[[Path, npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""From a version's folder and faces, uint8 [N, H, W, 1], to the probabilities that it gives, float32 [N, K]."""


def mean_golden(folders: Sequence[Path], score: Scorer) -> Golden:
    """Make the golden set of an ensemble: the first member's faces, and the mean of all members' probabilities.

    A member whose golden faces are the same has said its probabilities already; the others are asked.

    Args:
        folders: The members, one or more.
        score: Asks a member.

    Raises:
        TrainingError: A member has no golden set, or scores other classes than the first.
    """
    goldens = [read_golden(folder) for folder in folders]
    faces = goldens[0].faces
    scores = [
        golden.probabilities if np.array_equal(golden.faces, faces) else score(folder, faces)
        for folder, golden in zip(folders, goldens, strict=True)
    ]
    for folder, each in zip(folders, scores, strict=True):
        if each.shape != scores[0].shape:
            raise TrainingError(f"{folder}: scores {each.shape[1:]} classes, {folders[0]} {scores[0].shape[1:]}")
    return Golden(faces, np.stack(scores).mean(axis=0, dtype=np.float64).astype(np.float32))


def read_golden(folder: Path) -> Golden:
    """Read a version's golden set.

    Raises:
        TrainingError: It is not there or cannot be read.
    """
    path = folder / GOLDEN_PATH
    try:
        # Opened here: numpy leaves a file open that turns out to be no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            golden = Golden(archive["faces"], archive["probabilities"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise TrainingError(f"{path}: no golden set ({error})") from error
    if len(golden.faces) == 0 or len(golden.faces) != len(golden.probabilities):
        raise TrainingError(f"{path}: no golden set (one row of probabilities a face is needed)")
    return golden
