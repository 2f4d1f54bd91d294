"""Any data set, by what it looks like."""

from dataclasses import dataclass
from pathlib import Path

from ferserve_training.data.competition import load_competition
from ferserve_training.data.faces import FaceData
from ferserve_training.data.faults import OnFault, refuse
from ferserve_training.data.folders import load_faces
from ferserve_training.data.own import VALIDATION_FOLDERS, load_own
from ferserve_training.data.source import list_files
from ferserve_training.errors import DataError


@dataclass(frozen=True, slots=True)
class DataChoice:
    """Which data, and which part of it is scored.

    Attributes:
        source: A zip archive, a folder, or the competition's csv file.
        validation_fraction: Of a set of the user's own, what is held back; None if it says itself.
        validation_seed: Of that choice.
        scored: 'PublicTest', or 'PrivateTest' of the csv file.
    """

    source: Path
    validation_fraction: float | None = None
    validation_seed: int = 0
    scored: str = "PublicTest"


def load_data(choice: DataChoice, on_fault: OnFault = refuse) -> FaceData:
    """Read a data set in whichever form it has.

    A `.csv` file is the competition's; folders `train` and `test` are the usual download of FER-2013; anything
    else is a set of the user's own.

    Args:
        choice: What to read.
        on_fault: Told of each file or line at fault, which is then left out unless this raises.

    Raises:
        DataError: As the loaders say.
    """
    source = choice.source
    if source.suffix.lower() == ".csv" and not source.is_dir():
        return load_competition(source, choice.scored, on_fault)
    if choice.scored != "PublicTest":
        raise DataError(source, f"has no {choice.scored}; only the competition's csv file has")
    folders = {part.lower() for path in list_files(source) for part in path.parts[:-1]}
    if not folders:
        raise DataError(source, "holds no image in a folder of an emotion")
    if "test" in folders or ("train" in folders and not folders.intersection(VALIDATION_FOLDERS)):
        return load_faces(source, on_fault)
    return load_own(source, choice.validation_fraction, choice.validation_seed, on_fault)
