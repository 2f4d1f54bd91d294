"""Reads a set of the user's own: `<emotion>/*`, or `train/<emotion>/*` with `validation/<emotion>/*`."""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from ferserve_training.data.faces import FaceData, LabelledFaces
from ferserve_training.data.faults import OnFault, reject
from ferserve_training.data.folders import Split, decode
from ferserve_training.data.source import read_files
from ferserve_training.errors import DataError
from ferserve_training.labels import CLASS_COUNT, LABELS

VALIDATION_FOLDERS: Final = ("validation", "valid", "val")
_SPLITS: Final = {"train": "train", **dict.fromkeys(VALIDATION_FOLDERS, "validation")}


def load_own(
    source: Path, validation_fraction: float | None = None, seed: int = 0, on_fault: OnFault = reject
) -> FaceData:
    """Read faces in one folder a class. Images of any size are turned to grey and scaled to 48x48.

    Args:
        source: A folder or zip archive; one folder around the rest is allowed.
        validation_fraction: Without a folder `validation`: the share of each class to hold back, above 0, below 1.
        seed: Of that choice.
        on_fault: Called with each file at fault, which is then left out unless this raises.

    Raises:
        DataError: Names the file at fault, the class that is empty, or says that no validation split is there.
    """
    splits = {"": Split(), "train": Split(), "validation": Split()}
    digest = hashlib.sha256()
    for path, content in read_files(source):
        try:
            split, label = _place(source, path)
            image = decode(f"{source}/{path}", content, resize=True)
        except DataError as fault:
            on_fault(fault)
            continue
        splits[split].add(image, label, path.name)
        digest.update(f"{split}/{LABELS[label]}/{path.name}\0".encode("utf-8", "surrogateescape"))
        digest.update(image.tobytes())
    if splits[""].names and (splits["train"].names or splits["validation"].names):
        raise DataError(source, "holds faces both inside and outside of train and validation")
    if splits[""].names:
        if validation_fraction is None:
            raise DataError(source, "has no validation folder; give --validation-fraction")
        training, validation = _held_back(splits[""].finish(), validation_fraction, seed)
        digest.update(f"{validation_fraction}/{seed}".encode())
    else:
        training, validation = (_finished(source, name, splits[name]) for name in ("train", "validation"))
    _check_classes(source, training, validation)
    return FaceData(training, validation, digest.hexdigest(), "validation")


def _finished(source: Path, name: str, split: Split) -> LabelledFaces:
    if not split.names:
        raise DataError(source, f"holds no image in {name}/<emotion>")
    return split.finish()


def _check_classes(source: Path, training: LabelledFaces, validation: LabelledFaces) -> None:
    for name, faces in (("training", training), ("validation", validation)):
        for label, count in enumerate(faces.class_counts()):
            if not count:
                raise DataError(source, f"leaves no {LABELS[label]} face for {name}")


def _place(source: Path, path: PurePosixPath) -> tuple[str, int]:
    """Take the split ('' for none) and the label index from a path."""
    folders = [part.lower() for part in path.parts[:-1]]
    if not folders or folders[-1] not in LABELS:
        raise DataError(f"{source}/{path}", f"is in no folder of an emotion; expected one of {', '.join(LABELS)}")
    split = _SPLITS.get(folders[-2], "") if len(folders) > 1 else ""
    return split, LABELS.index(folders[-1])


def _held_back(faces: LabelledFaces, fraction: float, seed: int) -> tuple[LabelledFaces, LabelledFaces]:
    """Hold back a share of each class, at least one face of those that have two."""
    draws = np.random.default_rng(seed)
    held = np.zeros(len(faces), np.bool_)
    for label in range(CLASS_COUNT):
        members = np.flatnonzero(faces.labels == label)
        count = min(max(1, round(len(members) * fraction)), max(0, len(members) - 1))
        held[draws.permutation(members)[:count]] = True
    return faces.where(~held), faces.where(held)
