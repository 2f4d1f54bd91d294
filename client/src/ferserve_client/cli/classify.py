"""Runs `ferserve classify`: pictures that are face crops already."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ferserve_client.cli.connection import Connection, JsonOption, ModelOption, ModelVersionOption, connected
from ferserve_client.cli.console import complain, print_json, print_table
from ferserve_client.cli.pictures import answers_of
from ferserve_client.errors import FerserveError
from ferserve_client.faces import Prediction
from ferserve_client.outputs.records import classification_record, failure_record
from ferserve_client.servables import Servable
from ferserve_client.video.sources import printable

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
    """Classify pictures that are face crops already."""
    rows = []
    all_answered = True
    with connection.open() as client:

        def send(data: list[bytes]) -> Sequence[tuple[Prediction | FerserveError, Servable | None]]:
            results = client.classify(data, model=model, version=model_version, on_error="return")
            return [(item, results.servable) for item in results]

        for picture, answer in answers_of(crops, send, CROPS_PER_REQUEST):
            outcome, servable = answer if isinstance(answer, tuple) else (answer, None)
            if isinstance(outcome, Prediction):
                rows.append([printable(picture.source), outcome.emotion, f"{outcome.confidence:.1%}"])
            else:
                all_answered = False
                problem = failure_record(outcome)
                complain(f"{picture.source}: {problem['message'] or problem['reason']}")
            if json:
                print_json(classification_record(picture.source, outcome, servable))
    if not json and rows:
        print_table(("crop", "emotion", "confidence"), rows)
    return 0 if all_answered else 1
