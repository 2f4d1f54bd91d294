"""Reads a data set of any form, by what it looks like."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ferserve_training.data.competition import is_table, load_competition
from ferserve_training.data.faces import FaceData
from ferserve_training.data.faults import OnFault, reject
from ferserve_training.data.folders import load_faces
from ferserve_training.data.own import VALIDATION_FOLDERS, load_own
from ferserve_training.data.source import list_files
from ferserve_training.errors import DataError

_PICTURES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class DataChoice:
    """Names a data set and the part of it that is scored.

    Attributes:
        source: A zip or tar archive, a folder, or the competition's csv file.
        validation_fraction: Of a set of the user's own, what is held back; None if it says itself.
        validation_seed: Of that choice.
        scored: 'PublicTest', or 'PrivateTest' of the csv file.
    """

    source: Path
    validation_fraction: float | None = None
    validation_seed: int = 0
    scored: str = "PublicTest"


def load_data(choice: DataChoice, on_fault: OnFault = reject) -> FaceData:
    """Read a data set in whichever form it has.

    A `.csv` file, or an archive or folder with one and no pictures, is the competition's; folders `train` and
    `test` are the usual download of FER-2013; anything else is a set of the user's own.

    Args:
        choice: What to read.
        on_fault: Called with each file or line at fault, which is then left out unless this raises.

    Raises:
        DataError: As the loaders say.
    """
    source = choice.source
    if is_table(source.name) and not source.is_dir():
        return load_competition(source, choice.scored, on_fault)
    files = list_files(source)
    if any(is_table(path.name) for path in files) and not any(path.suffix.lower() in _PICTURES for path in files):
        return load_competition(source, choice.scored, on_fault)
    if choice.scored != "PublicTest":
        raise DataError(source, f"has no {choice.scored}; only the competition's csv file has")
    folders = {part.lower() for path in files for part in path.parts[:-1]}
    if not folders:
        raise DataError(source, "holds no image in a folder of an emotion")
    if "test" in folders or ("train" in folders and not folders.intersection(VALIDATION_FOLDERS)):
        return load_faces(source, on_fault)
    return load_own(source, choice.validation_fraction, choice.validation_seed, on_fault)
