"""Reads FER+: the votes of ten people on each face of FER-2013 (Barsoum et al. 2016)."""

import csv
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ferserve_training.errors import DataError
from ferserve_training.labels import LABELS, VOTE_COUNT, VOTES

_CLASS_OF: Final = (
    *(LABELS.index(name) for name in ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear")),
    *(-1, -1, -1),
)
NO_MAJORITY: Final = -1


def load_votes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read votes by the name of the face.

    A line without a name, as `fer2013new.csv` has, is that of the row with its number: `fer<row>.png`.

    Args:
        path: A csv file with the column `Image name` and one for each answer.

    Returns:
        Ten counts a face, in the order of the columns of FER+.

    Raises:
        DataError: The file cannot be read, lacks a column, or names the line at fault.
    """
    votes = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for name in ("Image name", *VOTES):
                if name not in (reader.fieldnames or ()):
                    raise DataError(path, f"lacks the column '{name}'")
            for row, line in enumerate(reader):
                counts = [(line[name] or "").strip() for name in VOTES]
                if not all(count.isdecimal() for count in counts):
                    raise DataError(f"{path}, line {row + 2}", "has votes that are no whole numbers")
                votes[line["Image name"] or f"fer{row:07d}.png"] = tuple(map(int, counts))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read ({error})") from error
    return votes


def majority_labels(
    names: tuple[str, ...], votes: dict[str, tuple[int, ...]], source: Path
) -> npt.NDArray[np.int32]:
    """Give each face the class with the most votes.

    Args:
        names: Of the faces.
        votes: What `load_votes` read.
        source: For the message.

    Returns:
        int32 [N]; `NO_MAJORITY` where two answers tie, the first is none of the seven classes, or no votes are
        known.

    Raises:
        DataError: There are votes for none of the faces.
    """
    labels = np.full(len(names), NO_MAJORITY, np.int32)
    known = 0
    for index, name in enumerate(names):
        counts = votes.get(name)
        if counts is None:
            continue
        known += 1
        most = max(counts)
        if counts.count(most) == 1:
            labels[index] = _CLASS_OF[counts.index(most)]
    if not known:
        raise DataError(source, "holds votes for none of the faces; their names differ")
    return labels


def vote_shares(
    names: tuple[str, ...], votes: dict[str, tuple[int, ...]], source: Path
) -> npt.NDArray[np.float32]:
    """Give each face the shares of its votes, as a second target of training.

    Args:
        names: Of the faces.
        votes: What `load_votes` read.
        source: For the message.

    Returns:
        float32 [N, 10], rows that sum to 1; all 0 where no votes are known.

    Raises:
        DataError: There are votes for none of the faces.
    """
    counts = np.asarray([votes.get(name, (0,) * VOTE_COUNT) for name in names], np.float32)
    totals = counts.sum(axis=1, keepdims=True)
    if not totals.any():
        raise DataError(source, "holds votes for none of the faces; their names differ")
    return np.asarray(counts / np.maximum(totals, 1.0), np.float32)
