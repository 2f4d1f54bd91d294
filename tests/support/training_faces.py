"""Draws a small labelled data set of faces, in the folder layout of FER-2013."""

from pathlib import Path

import cv2

from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.labels import LABELS


def write_face_folder(root: Path, training_count: int = 8, test_count: int = 4) -> Path:
    """Write `training_count` and `test_count` faces for each class under `root`, which is returned."""
    faces = iter(draw_faces((training_count + test_count) * len(LABELS)))
    for split, count in (("train", training_count), ("test", test_count)):
        for label in LABELS:
            folder = root / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                cv2.imwrite(str(folder / f"{label}_{index}.png"), next(faces))
    return root
