"""Runs `ferserve folder`: all pictures of a folder into one table, resumable."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ferserve_client.cli.analyze import problem_of
from ferserve_client.cli.connection import Connection, ModelOption, ModelVersionOption, connected
from ferserve_client.cli.console import complain
from ferserve_client.cli.detection import (
    DetectorOption,
    MinFaceOption,
    ScoreThresholdOption,
    TilesOption,
    detection_options,
)
from ferserve_client.cli.pictures import answers_of, pictures_in
from ferserve_client.cli.progress import pictures_progress
from ferserve_client.folder.journal import Journal, OtherOptionsError
from ferserve_client.outputs.rows import picture_rows
from ferserve_client.video.extras import load_parquet
from ferserve_client.video.sources import printable

IMAGES_PER_REQUEST = 8
"""A quarter of the server's default limit: no request fills the queue alone."""


@connected
def folder(  # noqa: PLR0913 - one parameter an option
    connection: Connection,
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", exists=True, file_okay=False, help="Folder, with its subfolders."),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", metavar="OUT.csv", dir_okay=False, help="The table: .csv, or .parquet (extra parquet)."
        ),
    ],
    in_flight: Annotated[int, typer.Option(min=1, max=64, help="Requests at once, of 8 pictures each.")] = 4,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin again, and replace a table that is there.")
    ] = False,
    detector: DetectorOption = None,
    score_threshold: ScoreThresholdOption = None,
    min_face: MinFaceOption = None,
    tiles: TilesOption = False,
    model: ModelOption = "",
    model_version: ModelVersionOption = None,
) -> int:
    """Find and classify the faces of all pictures of a folder. Run it again to go on where it ended.

    Exit code 1: pictures could not be analysed. Each is named, and its row says why.
    """
    if out.suffix.lower() not in {".csv", ".parquet"}:
        raise typer.BadParameter("the name of the table ends in .csv or .parquet")
    if out.suffix.lower() == ".parquet":
        load_parquet()  # says that the extra is missing before anything is sent
    if out.exists() and not overwrite:
        raise typer.BadParameter(f"{out} is there and complete; give --overwrite to make it again")
    paths = {printable(str(path.relative_to(directory))): path for path in sorted(pictures_in(directory))}
    if not paths:
        complain(f"{directory}: no picture is there (.jpg, .jpeg, .png, .webp)")
        return 1
    options = {
        "directory": str(directory.resolve()),
        "model": model,
        "version": model_version,
        "detector": detector,
        "score_threshold": score_threshold,
        "min_face": min_face,
        "tiles": tiles,
    }
    try:
        journal = Journal(out, options, restart=overwrite)
    except OtherOptionsError as error:
        raise typer.BadParameter(f"{error}; give the same options, another --out, or --overwrite") from error
    detection = detection_options(detector, score_threshold, min_face, tiles=tiles)
    names = {path: name for name, path in paths.items()}
    left = [path for name, path in paths.items() if name not in journal.done]
    failed = dict(journal.failed)
    if len(left) < len(paths):
        complain(f"going on: {len(paths) - len(left)} of {len(paths)} pictures are done")
    with ExitStack() as stack:
        stack.callback(journal.close)
        client = stack.enter_context(connection.open())
        progress = stack.enter_context(pictures_progress(len(paths)))
        task = progress.add_task("", total=len(paths), completed=len(paths) - len(left))
        for picture, answer in answers_of(
            left,
            lambda data: client.analyze(
                data, model=model, version=model_version, detection=detection, priority="bulk"
            ),
            IMAGES_PER_REQUEST,
            in_flight,
        ):
            name = names[Path(picture.source)]
            problem = problem_of(answer)
            if problem is not None:
                failed[name] = problem
                complain(f"{name}: {problem}")
            journal.write(name, picture_rows(name, answer))
            progress.advance(task)
        journal.complete()
    print(f"{len(paths)} pictures, {len(failed)} failed: {printable(str(out))}")
    return 1 if failed else 0
