"""Cuts the faces out of photographs, so that they can be learnt from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from ferserve_training.atomic import write_atomically
from ferserve_training.data.source import read_files
from ferserve_training.errors import DataError
from ferserve_training.labels import FACE_SIZE

_LONGEST_SIDE: Final = 1600
"""Pixels; larger photographs are searched reduced, because the detector's time grows with the area."""
_SCALE_FACTOR: Final = 1.1
_NEIGHBOURS: Final = 6
"""More than where a face is known to be: a window or a shirt that is taken for a face would be learnt from."""
_LEAST_SHARE: Final = 0.05
"""Of a photograph's shorter side; smaller boxes are mostly no faces."""


@dataclass(frozen=True, slots=True)
class CutPhotographs:
    """Lists what became of the photographs of a folder.

    Attributes:
        written: Files written.
        without_face: Paths of photographs in which no face was found.
        with_several: Paths of photographs with more than one; the largest was taken.
    """

    written: tuple[Path, ...]
    without_face: tuple[str, ...]
    with_several: tuple[str, ...]


def cut_photographs(source: Path, output: Path) -> CutPhotographs:
    """Write the largest face of each photograph, 48x48 and grey, under the photograph's own path.

    Folders of emotions, of splits and of people stay as they are. The boxes are those of the detector that
    FER-2013 was made with, without a margin.

    Args:
        source: A folder or archive of photographs.
        output: Folder of the faces; made if missing, files in it are replaced.

    Raises:
        DataError: A photograph cannot be read, there is none, or the output cannot be written.
    """
    folder = Path(cv2.__file__).parent / "data"
    detector = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_default.xml"))
    written, without_face, with_several = [], [], []
    for path, content in read_files(source):
        encoded = np.frombuffer(content, np.uint8)
        photograph = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE) if encoded.size else None
        if photograph is None:
            raise DataError(f"{source}/{path}", "is no readable image")
        boxes = _boxes(detector, np.asarray(photograph, np.uint8))
        if not boxes:
            without_face.append(str(path))
            continue
        if len(boxes) > 1:
            with_several.append(str(path))
        target = output / f"{path}.png"
        face = _cut(np.asarray(photograph, np.uint8), max(boxes, key=lambda box: box[2]))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, cv2.imencode(".png", face)[1].tobytes())
        except OSError as error:
            raise DataError(target, f"cannot be written ({error.strerror})") from error
        written.append(target)
    if not written and not without_face:
        raise DataError(source, "holds no photograph")
    return CutPhotographs(tuple(written), tuple(without_face), tuple(with_several))


def _boxes(detector: cv2.CascadeClassifier, photograph: npt.NDArray[np.uint8]) -> list[tuple[float, ...]]:
    """Find faces as (left, top, side) in pixels of the photograph, with the side twice, as OpenCV gives boxes."""
    scale = min(1.0, _LONGEST_SIDE / max(photograph.shape))
    searched = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    least = max(24, round(_LEAST_SHARE * min(searched.shape)))
    found = detector.detectMultiScale(searched, _SCALE_FACTOR, _NEIGHBOURS, minSize=(least, least))
    return [tuple(float(value) / scale for value in box) for box in found]


def _cut(photograph: npt.NDArray[np.uint8], box: tuple[float, ...]) -> npt.NDArray[np.uint8]:
    left, top, width, height = (round(value) for value in box)
    face = photograph[top : top + height, left : left + width]
    method = cv2.INTER_AREA if width >= FACE_SIZE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(face, (FACE_SIZE, FACE_SIZE), interpolation=method), np.uint8)
