"""Defines `ferserve-train report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ferserve_training.cli.options import (
    DataOption,
    FractionOption,
    FractionSeedOption,
    ModelArgument,
    PrivateTestOption,
    scored_split,
)
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.data.votes import load_votes, majority_labels


def report(  # noqa: PLR0913  # one parameter an option
    model: ModelArgument,
    *,
    data: DataOption,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the three files go.")] = Path("report"),
    votes: Annotated[
        Path | None, typer.Option(metavar="CSV", help="FER+ votes, by the name or the row of the face.")
    ] = None,
    parent: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_OR_VERSION", help="A model before this one, shown beside it and compared with it."
        ),
    ] = None,
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
    private_test: PrivateTestOption = False,
) -> None:
    """Write report.html, report.json and MODEL_CARD.md about a run or a version."""
    scored = scored_split(private_test=private_test)
    faces = load_data(DataChoice(data, validation_fraction, validation_seed, scored))
    majority = None if votes is None else majority_labels(faces.public_test.names, load_votes(votes), votes)

    # TensorFlow takes seconds to import; a rejected data set should not wait for it.
    from ferserve_training.report.evaluated_model import load_model  # noqa: PLC0415
    from ferserve_training.report.report_data import collect_report_data  # noqa: PLC0415
    from ferserve_training.report.write import write_report  # noqa: PLC0415

    before = None if parent is None else load_model(parent)
    write_report(collect_report_data(load_model(model), faces, majority, before), faces.public_test, output)
    Console(soft_wrap=True).print(f"wrote report.html, report.json and MODEL_CARD.md in {output}")
