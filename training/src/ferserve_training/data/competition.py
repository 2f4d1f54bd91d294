"""Reads the csv file of the competition: one line a face, `emotion,pixels,Usage`."""

import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ferserve_training.data.faces import FaceData
from ferserve_training.data.faults import OnFault, reject
from ferserve_training.data.folders import Split
from ferserve_training.data.source import read_files
from ferserve_training.errors import DataError
from ferserve_training.labels import CLASS_COUNT, FACE_SIZE, LABELS

_COLUMNS: Final = ("emotion", "pixels", "Usage")
_USAGES: Final = ("Training", "PublicTest", "PrivateTest")


def load_competition(source: Path, scored: str = "PublicTest", on_fault: OnFault = reject) -> FaceData:
    """Read the competition's file. Faces are named `fer<row>.png`, as FER+ names them, rows from 0.

    Args:
        source: The file, or an archive that holds it: `fer2013.csv`, or Kaggle's `icml_face_data.csv`, whose
            columns have another order and spaces before their names.
        scored: What to score on, 'PublicTest' or 'PrivateTest'; the other is not kept.
        on_fault: Called with each line at fault, which is then left out unless this raises.

    Raises:
        DataError: The file cannot be read, lacks a column or a class, or names the line at fault.
    """
    splits = {"Training": Split(), scored: Split()}
    digest = hashlib.sha256()
    for row, line in _lines(source):
        try:
            usage, label, image = _face(f"{source}, line {row + 2}", line)
        except DataError as fault:
            on_fault(fault)
            continue
        if usage in splits:
            name = f"fer{row:07d}.png"
            splits[usage].add(image, label, name)
            digest.update(f"{usage}/{LABELS[label]}/{name}\0".encode())
            digest.update(image.tobytes())
    for usage, split in splits.items():
        for label in range(CLASS_COUNT):
            if label not in split.labels:
                raise DataError(source, f"holds no {LABELS[label]} face of {usage}")
    return FaceData(splits["Training"].finish(), splits[scored].finish(), digest.hexdigest(), scored)


def _lines(source: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yield each line after the first with its number from 0."""
    try:
        # A byte-order mark is no part of the first column's name, and names may have spaces around them.
        reader = csv.DictReader(io.StringIO(_content(source).decode("utf-8-sig"), newline=""))
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        missing = [name for name in _COLUMNS if name not in names]
        if missing:
            raise DataError(source, f"lacks the column {missing[0]}; expected {','.join(_COLUMNS)}")
        yield from enumerate(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(source, f"cannot be read ({error})") from error


def _content(source: Path) -> bytes:
    if is_table(source.name):
        return source.read_bytes()
    tables = [content for path, content in read_files(source) if is_table(path.name)]
    if len(tables) != 1:
        raise DataError(source, f"holds {len(tables)} csv files; name the one with the faces")
    return tables[0]


def is_table(name: str) -> bool:
    """Tell whether a file's name is that of a csv file."""
    return name.lower().endswith(".csv")


def _face(where: str, line: dict[str, str | None]) -> tuple[str, int, npt.NDArray[np.uint8]]:
    """Take usage, label and image, uint8 [48, 48], from a line."""
    emotion, pixels, usage = ((line[name] or "").strip() for name in _COLUMNS)
    if usage not in _USAGES:
        raise DataError(where, f"'{usage}' is no usage; expected one of {', '.join(_USAGES)}")
    if not emotion.isdecimal() or int(emotion) >= CLASS_COUNT:
        raise DataError(where, f"'{emotion}' is no emotion; expected 0 to {CLASS_COUNT - 1}")
    try:
        values = np.asarray(pixels.split(), np.int64)
    except (ValueError, OverflowError):
        raise DataError(where, "has pixels that are no whole numbers") from None
    if values.size != FACE_SIZE**2:
        raise DataError(where, f"has {values.size} pixels; expected {FACE_SIZE**2}")
    if values.min() < 0 or values.max() > 255:
        raise DataError(where, "has pixels outside 0 to 255")
    return usage, int(emotion), values.astype(np.uint8).reshape(FACE_SIZE, FACE_SIZE)
