"""Runs `ferserve analyze`: the faces of pictures and folders."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ferserve_client.cli.connection import Connection, JsonOption, ModelOption, ModelVersionOption, connected
from ferserve_client.cli.console import complain, print_json, print_table
from ferserve_client.cli.detection import (
    DetectorOption,
    MinFaceOption,
    ScoreThresholdOption,
    TilesOption,
    detection_options,
)
from ferserve_client.cli.output_files import check_outputs
from ferserve_client.cli.pictures import Picture, answers_of, expanded
from ferserve_client.errors import FerserveError
from ferserve_client.faces import ImageAnalysis
from ferserve_client.outputs.records import analysis_record, failure_record
from ferserve_client.outputs.rows import PICTURE_COLUMNS, picture_rows
from ferserve_client.outputs.tables import open_table
from ferserve_client.video.drawing import annotate_encoded
from ferserve_client.video.extras import load_cv2
from ferserve_client.video.sources import printable

IMAGES_PER_REQUEST = 8
"""A quarter of the server's default limit: other clients get their share, and the first answers come early."""

COLUMNS = ("picture", "face", "box", "emotion", "confidence")
"""Headings of the table on the screen."""


@connected
def analyze(  # noqa: PLR0913 - one parameter an option
    connection: Connection,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE", help="Pictures (JPEG, PNG, WebP), or folders with pictures."),
    ],
    *,
    json: JsonOption = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="OUT.csv", dir_okay=False, help="Write a row per face.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Put annotated pictures here (extra video)."),
    ] = None,
    detector: DetectorOption = None,
    score_threshold: ScoreThresholdOption = None,
    min_face: MinFaceOption = None,
    tiles: TilesOption = False,
    model: ModelOption = "",
    model_version: ModelVersionOption = None,
) -> int:
    """Find and classify the faces of pictures."""
    if save is not None:
        load_cv2()  # says that the extra is missing before anything is sent
        save.mkdir(parents=True, exist_ok=True)
    check_outputs([csv], [str(path) for path in images])
    detection = detection_options(detector, score_threshold, min_face, tiles=tiles)
    paths = expanded(images)
    rows: list[list[str]] = []
    all_answered = True
    with ExitStack() as stack:
        client = stack.enter_context(connection.open())
        table = None if csv is None else open_table(csv, PICTURE_COLUMNS)
        if table is not None:
            stack.callback(table.close)
        for picture, answer in answers_of(
            paths,
            lambda data: client.analyze(data, model=model, version=model_version, detection=detection),
            IMAGES_PER_REQUEST,
        ):
            problem = problem_of(answer)
            if problem is not None:
                all_answered = False
                complain(f"{picture.source}: {problem}")
            if json:
                print_json(analysis_record(picture.source, answer))
            if table is not None:
                table.write(picture_rows(picture.source, answer))
            if isinstance(answer, ImageAnalysis) and answer.error is None:
                rows += face_rows(picture.source, answer)
                if save is not None:
                    _save(picture, answer, save)
    if not json and rows:
        print_table(COLUMNS, rows)
    return 0 if all_answered else 1


def problem_of(answer: ImageAnalysis | FerserveError | OSError) -> str | None:
    """Return the reason for which a picture, or a face of it, has no answer; None if all have one."""
    if isinstance(answer, ImageAnalysis):
        errors = [answer.error, *(face.error for face in answer.faces)]
        failed = next((error for error in errors if error is not None), None)
        if failed is None:
            return None
        answer = ImageAnalysis(error=failed)
    record = failure_record(answer.error if isinstance(answer, ImageAnalysis) else answer)
    return str(record["message"] or record["reason"])


def face_rows(source: str, analysis: ImageAnalysis) -> list[list[str]]:
    """Return the rows of a picture on the screen: one per face, and one if there is none."""
    name = printable(source)
    if not analysis.faces:
        return [[name, "", "", "no face", ""]]
    rows = []
    for number, face in enumerate(analysis.faces, start=1):
        box = f"{face.box.width} x {face.box.height} at {face.box.left}, {face.box.top}"
        emotion, confidence = "failed", ""
        if face.prediction is not None:
            emotion = face.prediction.emotion + ("?" if face.prediction.uncertain else "")
            confidence = f"{face.prediction.confidence:.1%}"
        rows.append([name, str(number), box, emotion, confidence])
    return rows


def _save(picture: Picture, analysis: ImageAnalysis, folder: Path) -> None:
    path = free_path(folder / (Path(picture.source).stem + ".jpg"))
    try:
        pixels = annotate_encoded(picture.data, analysis)
    except ValueError as error:
        raise OSError(f"{picture.source}: {error}") from error
    _, jpeg = load_cv2().imencode(".jpg", pixels)
    # Written by Python, whose file names need not be UTF-8.
    path.write_bytes(jpeg.tobytes())


def free_path(path: Path) -> Path:
    """Return the path itself, or the first of `name-2`, `name-3`, ... where no file is: nothing is overwritten."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return candidate
