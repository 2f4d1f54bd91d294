"""`ferserve classify`: pictures that are face crops already."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from ferserve_client.cli.connection import Connection, JsonOption, ModelOption, ModelVersionOption, connected
from ferserve_client.cli.console import complain, print_json, print_table
from ferserve_client.cli.pictures import answers_of
from ferserve_client.cli.records import classification_record, error_record
from ferserve_client.errors import FerserveError
from ferserve_client.faces import Prediction
from ferserve_client.servables import Servable

CROPS_PER_REQUEST = 64
"""A batch that the server runs at once."""


@connected
def classify(
    connection: Connection,
    crops: Annotated[
        list[Path], typer.Argument(metavar="CROP", help="Pictures of one face each: JPEG, PNG, WebP.")
    ],
    *,
    json: JsonOption = False,
    model: ModelOption = "",
    model_version: ModelVersionOption = None,
) -> int:
    """Tell what pictures show that are face crops already."""
    table = Table(Column("crop", overflow="fold"), "emotion", "confidence")
    all_answered = True
    with connection.open() as client:

        def send(data: list[bytes]) -> Sequence[tuple[Prediction | FerserveError, Servable | None]]:
            results = client.classify(data, model=model, version=model_version, on_error="return")
            return [(item, results.servable) for item in results]

        for picture, answer in answers_of(crops, send, CROPS_PER_REQUEST):
            outcome, servable = answer if isinstance(answer, tuple) else (answer, None)
            if isinstance(outcome, Prediction):
                table.add_row(picture.source, outcome.emotion, f"{outcome.confidence:.1%}")
            else:
                all_answered = False
                problem = error_record(outcome) or {}
                complain(f"{picture.source}: {problem['message'] or problem['reason']}")
            if json:
                print_json(classification_record(picture.source, outcome, servable))
    if not json and table.row_count:
        print_table(table)
    return 0 if all_answered else 1
