"""Measures the accuracy of the bundled models on faces that were detected and cropped, beside the plain crops.

Each face of a split is enlarged to 60 to 220 pixels, turned by up to 25 degrees in half of the cases, and pasted
with a soft edge into a blurred picture of 640x480; the server's detector and crop then give it back. Faces that
are not found are left out of all rows and counted. `true place` crops where the face was pasted: what is lost
there, the enlarging and shrinking lose.

Prints a table and writes benchmarks/results/crop_contract.json:
    python benchmarks/crop_contract.py fer2013.zip
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from ferserve_training.data.load import DataChoice, load_data
from ferserve_vision.crop import FER_2013_LANDMARKS, FaceCrop, crop_box, crop_face
from ferserve_vision.detectors.haar import HaarDetector
from ferserve_vision.detectors.yunet import YunetDetector
from ferserve_vision.geometry import Box, Detection, Landmarks, Point
from ferserve_vision.options import DetectionOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ferserve_vision.opencv import GreyImage

ROOT: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results" / "crop_contract.json"
WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True, slots=True)
class Sample:
    """Describes a face in a picture: its true place, and the boxes that the detectors found."""

    plain: FaceCrop
    picture: GreyImage
    centre: tuple[float, float]
    side: float
    yunet: Detection | None
    haar: Detection | None


def paste(face: FaceCrop, draws: np.random.Generator) -> tuple[GreyImage, tuple[float, float], float]:
    """Pastes a face into a picture of soft noise: the picture, the face's centre and its side."""
    side = draws.uniform(60, 220)
    turn = math.radians(draws.uniform(-25, 25)) if draws.random() < 0.5 else 0.0
    centre = (draws.uniform(150, 490), draws.uniform(130, 350))
    cosine, sine = math.cos(turn) * side / 48, math.sin(turn) * side / 48
    middle = 23.5
    matrix = np.array(
        [
            [cosine, -sine, centre[0] - cosine * middle + sine * middle],
            [sine, cosine, centre[1] - sine * middle - cosine * middle],
        ]
    )
    size = (WIDTH, HEIGHT)
    enlarged = cv2.warpAffine(face, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(np.full((48, 48), 255, np.uint8), matrix, size)
    soft = cv2.GaussianBlur(mask, (0, 0), 2) / 255.0
    behind = cv2.GaussianBlur(draws.integers(0, 256, (HEIGHT, WIDTH), np.uint8), (0, 0), 15)
    return (enlarged * soft + behind * (1 - soft)).astype(np.uint8), centre, side


def nearest(found: Sequence[Detection], centre: tuple[float, float], side: float) -> Detection | None:
    """Returns the largest box whose centre lies within half a side of the face's."""
    for each in found:
        x, y = each.box.left + each.box.width / 2, each.box.top + each.box.height / 2
        if abs(x - centre[0]) < side / 2 and abs(y - centre[1]) < side / 2:
            return each
    return None


def true_place(sample: Sample) -> FaceCrop:
    """Crops upright where the face was pasted."""
    x, y = sample.centre
    points = (FER_2013_LANDMARKS - 0.5) * sample.side + (x + 0.5, y + 0.5)
    height = sample.side / 0.95
    box = Box(x + 0.5 - 0.4 * height, y + 0.5 - sample.side / 2 - 0.014 * height, 0.8 * height, height)
    return crop_face(
        sample.picture, Detection(box, 1.0, Landmarks(*(Point(*map(float, each)) for each in points)))
    )


def boxed(sample: Sample) -> FaceCrop:
    """Crops the square around YuNet's box, as a detector's box is commonly taken."""
    assert sample.yunet is not None  # noqa: S101 - filtered
    return crop_box(sample.picture, sample.yunet.box)


def found_crop(sample: Sample) -> FaceCrop:
    """Crops as the server does."""
    assert sample.yunet is not None  # noqa: S101 - filtered
    return crop_face(sample.picture, sample.yunet)


ROWS: Final[dict[str, Callable[[Sample], FaceCrop]]] = {
    "plain crop": lambda sample: sample.plain,
    "true place": true_place,
    "detected and cropped": found_crop,
    "square around the box": boxed,
}


def classify(crops: Sequence[FaceCrop], model: Path) -> np.ndarray[Any, Any]:
    """Returns the most probable class of each crop."""
    import onnxruntime  # noqa: PLC0415 - an extra of the server

    session = onnxruntime.InferenceSession(str(model))
    name = session.get_inputs()[0].name
    faces = np.stack(crops)[..., np.newaxis]
    parts = [session.run(["probabilities"], {name: faces[at : at + 64]})[0] for at in range(0, len(faces), 64)]
    best: np.ndarray[Any, Any] = np.concatenate(parts).argmax(axis=1)
    return best


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="FER-2013; its PublicTest is measured")
    parser.add_argument("--count", type=int, default=3589, help="faces, drawn without repetition")
    options = parser.parse_args()
    split = load_data(DataChoice(options.data)).public_test
    draws = np.random.default_rng(0)
    chosen = draws.permutation(len(split))[: options.count]
    yunet, haar, search = YunetDetector(), HaarDetector(), DetectionOptions()
    samples: list[Sample] = []
    labels: list[int] = []
    for row in chosen:
        picture, centre, side = paste(split.images[row, ..., 0], draws)
        found = nearest(yunet.detect(picture, search), centre, side)
        other = nearest(haar.detect(picture, search), centre, side) if len(samples) % 5 == 0 else None
        samples.append(Sample(split.images[row, ..., 0], picture, centre, side, found, other))
        labels.append(int(split.labels[row]))
    kept = [index for index, sample in enumerate(samples) if sample.yunet is not None]
    fifth = samples[::5]
    document: dict[str, Any] = {
        "face_count": len(samples),
        "found_share": round(len(kept) / len(samples), 4),
        "haar_found_share": round(sum(each.haar is not None for each in fifth) / len(fifth), 4),
        "accuracy": {},
    }
    truth = np.array([labels[index] for index in kept])
    for model in sorted((ROOT / "model_repo").glob("*/*/assets.extra/model.onnx")):
        rows = {}
        for name, crop in ROWS.items():
            right = classify([crop(samples[index]) for index in kept], model) == truth
            half = 1.96 * math.sqrt(right.mean() * (1 - right.mean()) / len(right))
            rows[name] = {"accuracy": round(float(right.mean()), 4), "plus_minus": round(half, 4)}
            print(f"{model.parts[-4]:10} {name:24} {right.mean():.2%} +- {half:.2%}", flush=True)
        document["accuracy"][model.parts[-4]] = rows
    print(f"found {document['found_share']:.1%}, by Haar {document['haar_found_share']:.1%}")
    RESULTS.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
