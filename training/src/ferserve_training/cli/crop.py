"""Defines `ferserve-train crop`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.data.crops import crop_pictures, make_detector, write_crops
from ferserve_training.errors import TrainingError
from ferserve_vision.detectors.registry import DETECTORS
from ferserve_vision.options import DetectionOptions


def crop(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder or zip archive of pictures.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the crops into, new or empty.")],
    detector: Annotated[str, typer.Option(help=f"Face detector: {' or '.join(DETECTORS)}.")] = "yunet",
    score_threshold: Annotated[float, typer.Option(min=0.01, max=1.0, help="Lowest score of a face.")] = 0.8,
    all_faces: Annotated[
        bool, typer.Option("--all-faces", help="Take all faces of a picture, not the largest alone.")
    ] = False,
) -> None:
    """Cut the faces out of pictures as the server does, to 48x48 grey PNGs, in the same sub-folders.

    Pictures that cannot be read, or show no face, are named, each on a line; the command then ends with 1.
    """
    if out.exists() and any(out.iterdir()):
        raise TrainingError(f"{out}: is not empty; give a new folder with --out")
    options = DetectionOptions(score_threshold=score_threshold)
    problems: list[str] = []
    picture_count = face_count = 0
    for picture in crop_pictures(source, make_detector(detector), options, all_faces=all_faces):
        picture_count += 1
        face_count += len(write_crops(picture, out))
        if picture.failure:
            problems.append(f"{source}/{picture.path}: cannot be read: {picture.failure}")
        elif not picture.crops:
            problems.append(f"{source}/{picture.path}: no face was found")
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{face_count:,} faces of {picture_count:,} pictures written to {out}")
    if problems:
        raise TrainingError("\n".join(problems))
