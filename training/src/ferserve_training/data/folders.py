"""Reads the folder layout of the usual FER-2013 download: `train/<emotion>/*` and `test/<emotion>/*`."""

import hashlib
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

from ferserve_training.data.faces import FaceData, LabelledFaces
from ferserve_training.data.faults import OnFault, reject
from ferserve_training.data.source import read_files
from ferserve_training.errors import DataError
from ferserve_training.labels import CLASS_COUNT, FACE_SIZE, LABELS
from ferserve_vision.crop import to_model_input
from ferserve_vision.decode import decode_grey
from ferserve_vision.errors import VisionError

MAX_PICTURE_PIXELS: Final = 100_000_000
"""Maximum number of pixels of one image, checked before it is decoded."""

_SPLITS: Final = ("train", "test")
_LAYOUT: Final = "train/<emotion>/<image> and test/<emotion>/<image>"


class Split:
    """Faces of a split while it is being read."""

    def __init__(self) -> None:
        self.images: list[npt.NDArray[np.uint8]] = []
        self.labels: list[int] = []
        self.names: list[str] = []

    def add(self, image: npt.NDArray[np.uint8], label: int, name: str) -> None:
        """Take one face, uint8 [48, 48], in."""
        self.images.append(image)
        self.labels.append(label)
        self.names.append(name)

    def finish(self) -> LabelledFaces:
        """Give all faces; there must be one at least."""
        return LabelledFaces(
            np.stack(self.images)[..., np.newaxis],
            np.asarray(self.labels, np.int32),
            tuple(self.names),
        )


def load_faces(source: Path, on_fault: OnFault = reject) -> FaceData:
    """Read a data set in the folder layout, from a zip archive or a folder.

    One folder around `train` and `test` is allowed. Colour images are turned to grey.

    Args:
        source: The archive or folder.
        on_fault: Called with each file at fault, which is then left out unless this raises.

    Returns:
        Both splits: `train` as training, `test` as PublicTest, each in the order of the paths.

    Raises:
        DataError: Names the file at fault: it is no image, not 48x48, in an unknown folder, or a class is empty.
    """
    splits = {name: Split() for name in _SPLITS}
    digest = hashlib.sha256()
    for path, content in read_files(source):
        try:
            split, label = _place(source, path)
            image = decode(f"{source}/{path}", content)
        except DataError as fault:
            on_fault(fault)
            continue
        splits[split].add(image, label, path.name)
        digest.update(f"{split}/{LABELS[label]}/{path.name}\0".encode("utf-8", "surrogateescape"))
        digest.update(image.tobytes())
    for name, faces in splits.items():
        for label in range(CLASS_COUNT):
            if label not in faces.labels:
                raise DataError(source, f"holds no image in {name}/{LABELS[label]}; expected {_LAYOUT}")
    return FaceData(splits["train"].finish(), splits["test"].finish(), digest.hexdigest())


def _place(source: Path, path: PurePosixPath) -> tuple[str, int]:
    """Take the split and the label index from a path."""
    if len(path.parts) not in (3, 4):
        raise DataError(f"{source}/{path}", f"is not where an image belongs; expected {_LAYOUT}")
    split, emotion = path.parts[-3].lower(), path.parts[-2].lower()
    if split not in _SPLITS:
        raise DataError(f"{source}/{path}", f"is in no split; expected {_LAYOUT}")
    if emotion not in LABELS:
        raise DataError(f"{source}/{path}", f"'{emotion}' is no emotion; expected one of {', '.join(LABELS)}")
    return split, LABELS.index(emotion)


def decode(path: str, content: bytes, *, resize: bool = False) -> npt.NDArray[np.uint8]:
    """Decode an image to grey, uint8 [48, 48], by the code that decodes the pictures that are served.

    Args:
        path: For messages.
        content: The file.
        resize: Whether to scale an image of another size rather than to reject it.

    Raises:
        DataError: It is no image, or of another size.
    """
    try:
        image = decode_grey(content, MAX_PICTURE_PIXELS)
    except VisionError as error:
        raise DataError(path, f"is no readable image: {error}") from None
    height, width = image.shape
    if resize:
        return to_model_input(image)
    if (height, width) != (FACE_SIZE, FACE_SIZE):
        raise DataError(path, f"is {width}x{height} pixels; expected {FACE_SIZE}x{FACE_SIZE}")
    return image
