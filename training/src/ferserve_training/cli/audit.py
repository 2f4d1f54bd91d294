"""Defines `ferserve-train audit`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from ferserve_training.cli.options import DataOption, FractionOption, FractionSeedOption, ModelArgument
from ferserve_training.data.load import DataChoice, load_data
from ferserve_training.errors import DataError
from ferserve_training.evaluation.calibration import fit_temperature, softmax
from ferserve_training.evaluation.groups import GroupFigures, audit_groups, load_groups


def audit(
    model: ModelArgument,
    *,
    data: DataOption,
    groups: Annotated[
        Path,
        typer.Option(metavar="CSV", help="Columns name and group: the file name of a scored face, its group."),
    ],
    validation_fraction: FractionOption = None,
    validation_seed: FractionSeedOption = 0,
) -> None:
    """Score a run or version group by group, with intervals; faces without a group are left out."""
    faces = load_data(DataChoice(data, validation_fraction, validation_seed)).public_test
    group_of = load_groups(groups)
    is_known = np.asarray([name in group_of for name in faces.names], np.bool_)
    if not is_known.any():
        raise DataError(groups, "names none of the scored faces")
    known = faces.where(is_known)

    # TensorFlow takes seconds to import; rejected files should not wait for it.
    from ferserve_training.report.evaluated_model import load_model  # noqa: PLC0415

    net = load_model(model)
    logits = net.logits_of(known.images)
    temperature = net.temperature or fit_temperature(logits, known.labels)
    names = np.asarray([group_of[name] for name in known.names])
    console = Console(soft_wrap=True)
    console.print(_table(audit_groups(softmax(logits, temperature), known.labels, names)))
    console.print(
        f"{len(known):,} faces, {len(faces) - len(known):,} without a group; temperature {temperature:.4f}"
    )


def _table(figures: tuple[GroupFigures, ...]) -> Table:
    table = Table("group", "faces", "accuracy", "against the others", "calibration error", box=None)
    for each in figures:
        gap = "" if each.gap is None else f"{each.gap:+.2%} {_interval(each.gap_interval)}"
        table.add_row(
            each.name,
            f"{each.count:,}",
            f"{each.accuracy:.2%} {_interval(each.accuracy_interval)}",
            gap,
            f"{each.calibration:.2%} {_interval(each.calibration_interval)}",
        )
    return table


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f"({ends[0]:.2%} to {ends[1]:.2%})"
