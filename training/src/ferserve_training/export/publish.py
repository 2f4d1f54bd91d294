"""Publishes new versions in a model repository, whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ferserve_training.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Draft:
    """Holds a version that is being written.

    Attributes:
        folder: Where to write it.
        version: The number that it will have.
    """

    folder: Path
    version: int


@contextmanager
def publish_version(model_folder: Path) -> Iterator[Draft]:
    """Lend a hidden folder; at a clean end rename it to the next free version number, else remove it.

    A server that watches the model's folder sees nothing, then everything: hidden names are no versions, and a
    rename inside one file system is atomic. The hidden folder's name reserves the number, so that exports at the
    same time get numbers of their own.

    Args:
        model_folder: `<model repository>/<name>`; made if missing.

    Raises:
        TrainingError: The folder cannot be written, or another export took the number meanwhile.
    """
    try:
        draft = _reserve(model_folder)
    except OSError as error:
        raise TrainingError(f"{model_folder}: cannot be written ({error.strerror})") from error
    try:
        yield draft
        published = model_folder / str(draft.version)
        try:
            draft.folder.rename(published)
        except OSError as error:
            raise TrainingError(f"{published}: cannot be published ({error.strerror})") from error
    finally:
        shutil.rmtree(draft.folder, ignore_errors=True)


def _reserve(model_folder: Path) -> Draft:
    """Make the hidden folder of the lowest number that is neither published nor reserved."""
    model_folder.mkdir(parents=True, exist_ok=True)
    version = next_version(model_folder)
    while True:
        folder = model_folder / f".tmp-{version}"
        try:
            folder.mkdir()
        except FileExistsError:
            version += 1
        else:
            return Draft(folder, version)


def next_version(model_folder: Path) -> int:
    """Find the number after the highest version, 1 for the first."""
    taken = (int(path.name) for path in model_folder.glob("*") if path.name.isdecimal())
    return max(taken, default=0) + 1
