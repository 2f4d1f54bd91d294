"""`ferserve analyze`: the faces of pictures."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from ferserve_client.cli.connection import Connection, JsonOption, ModelOption, ModelVersionOption, connected
from ferserve_client.cli.console import complain, print_json, print_table
from ferserve_client.cli.pictures import Picture, answers_of
from ferserve_client.cli.records import analysis_record, error_record
from ferserve_client.errors import FerserveError
from ferserve_client.faces import ImageAnalysis
from ferserve_client.video.drawing import annotate_encoded
from ferserve_client.video.opencv import load_cv2

IMAGES_PER_REQUEST = 8
"""A quarter of the server's default limit: others get their turn, and the first answers come early."""


@connected
def analyze(
    connection: Connection,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Pictures: JPEG, PNG, WebP.")],
    *,
    json: JsonOption = False,
    save: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Put annotated pictures here (needs the extra video)."),
    ] = None,
    model: ModelOption = "",
    model_version: ModelVersionOption = None,
) -> int:
    """Find the faces of pictures and tell what each shows."""
    if save is not None:
        load_cv2()  # says that the extra is missing before anything is sent
        save.mkdir(parents=True, exist_ok=True)
    table = Table(Column("picture", overflow="fold"), "face", "box", "emotion", "confidence")
    all_answered = True
    with connection.open() as client:
        for picture, answer in answers_of(
            images, lambda data: client.analyze(data, model=model, version=model_version), IMAGES_PER_REQUEST
        ):
            problem = _problem_of(answer)
            if problem is not None:
                all_answered = False
                complain(f"{picture.source}: {problem}")
            if json:
                print_json(analysis_record(picture.source, answer))
            if isinstance(answer, ImageAnalysis) and answer.error is None:
                _add_rows(table, picture.source, answer)
                if save is not None:
                    _save(picture, answer, save)
    if not json and table.row_count:
        print_table(table)
    return 0 if all_answered else 1


def _problem_of(answer: ImageAnalysis | FerserveError | OSError) -> str | None:
    if not isinstance(answer, ImageAnalysis):
        record = error_record(answer)
    else:
        errors = [answer.error, *(face.error for face in answer.faces)]
        record = next((error_record(error) for error in errors if error is not None), None)
    return None if record is None else record["message"] or record["reason"]


def _add_rows(table: Table, source: str, analysis: ImageAnalysis) -> None:
    if not analysis.faces:
        table.add_row(source, "", "", "no face", "")
    for number, face in enumerate(analysis.faces, start=1):
        box = f"{face.box.width} x {face.box.height} at {face.box.left}, {face.box.top}"
        if face.prediction is None:
            table.add_row(source, str(number), box, "failed", "")
        else:
            confidence = f"{face.prediction.confidence:.1%}"
            table.add_row(source, str(number), box, face.prediction.emotion, confidence)


def _save(picture: Picture, analysis: ImageAnalysis, folder: Path) -> None:
    path = free_path(folder / (Path(picture.source).stem + ".jpg"))
    try:
        pixels = annotate_encoded(picture.data, analysis)
    except ValueError as error:
        raise OSError(f"{picture.source}: {error}") from error
    if not load_cv2().imwrite(str(path), pixels):
        raise OSError(f"{path}: cannot be written")


def free_path(path: Path) -> Path:
    """The path itself, or the first of `name-2`, `name-3`, ... where no file is: nothing is overwritten."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return candidate
