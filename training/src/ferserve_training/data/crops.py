"""Cuts the faces out of pictures, as the server cuts them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_training.data.folders import MAX_PICTURE_PIXELS
from ferserve_training.data.source import read_files
from ferserve_training.errors import DataError, TrainingError
from ferserve_vision.crop import FACE_SIDE_PIXELS, crop_face
from ferserve_vision.decode import decode_grey
from ferserve_vision.detectors.registry import DETECTORS
from ferserve_vision.detectors.yunet_file import YunetUnavailableError
from ferserve_vision.errors import VisionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path, PurePosixPath

    from ferserve_vision.crop import FaceCrop
    from ferserve_vision.detectors.port import FaceDetector
    from ferserve_vision.options import DetectionOptions


@dataclass(frozen=True, slots=True)
class CroppedPicture:
    """Holds the faces of one picture.

    Attributes:
        path: The picture's path inside the source.
        crops: uint8 [48, 48] each, largest first; empty where no face was found.
        failure: The reason why it could not be read, or "".
    """

    path: PurePosixPath
    crops: tuple[FaceCrop, ...] = ()
    failure: str = ""


def make_detector(name: str) -> FaceDetector:
    """Makes a detector by its name in `ferserve_vision.detectors.registry`.

    Raises:
        TrainingError: There is none of that name, or YuNet's file is not installed.
    """
    if name not in DETECTORS:
        raise TrainingError(f"--detector: there is no detector {name!r}; use {' or '.join(DETECTORS)}")
    try:
        return DETECTORS[name]()
    except YunetUnavailableError as error:
        raise TrainingError(f"{error}, or use --detector haar") from error


def crop_pictures(
    source: Path, detector: FaceDetector, options: DetectionOptions, *, all_faces: bool
) -> Iterator[CroppedPicture]:
    """Find and cut out the faces of all pictures of a folder or zip archive.

    Args:
        source: A folder or zip archive.
        detector: The detector.
        options: Options of its search.
        all_faces: Whether to take all faces of a picture, rather than the largest.

    Raises:
        DataError: The source is missing, or holds no file.
    """
    count = 0
    for path, content in read_files(source):
        count += 1
        try:
            grey = decode_grey(content, MAX_PICTURE_PIXELS)
        except VisionError as error:
            yield CroppedPicture(path, failure=str(error))
            continue
        faces = detector.detect(grey, options)
        yield CroppedPicture(path, tuple(crop_face(grey, face) for face in (faces if all_faces else faces[:1])))
    if not count:
        raise DataError(source, "holds no file")


def write_crops(picture: CroppedPicture, target: Path) -> list[Path]:
    """Write the faces of one picture as grey PNGs, in the folder that the picture lies in.

    Args:
        picture: The picture. `a/b.jpg` becomes `a/b.png`, further faces `a/b-2.png` and so on.
        target: The folder to write into.

    Raises:
        DataError: A file cannot be written, or is there already.
    """
    written = []
    for number, crop in enumerate(picture.crops, start=1):
        name = picture.path.stem if number == 1 else f"{picture.path.stem}-{number}"
        path = target / picture.path.parent / f"{name}.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                file.write(encode_grey_png(crop))
        except FileExistsError:
            raise DataError(path, "is there already: two pictures differ by their ending alone") from None
        except OSError as error:
            raise DataError(path, f"cannot be written ({error.strerror})") from error
        written.append(path)
    return written


def encode_grey_png(crop: FaceCrop) -> bytes:
    """Encode uint8 [48, 48] as a grey PNG, the same bytes on every machine."""
    header = struct.pack(">IIBBBBB", FACE_SIDE_PIXELS, FACE_SIDE_PIXELS, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in crop)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
