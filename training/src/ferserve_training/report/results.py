"""Reads and writes results of finished runs, one small JSON file each, and lays out their table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ferserve_training.atomic import write_atomically
from ferserve_training.errors import TrainingError

BEGIN: Final = "<!-- results: made by ferserve-train results -->"
END: Final = "<!-- end of results -->"
_HEAD: Final = (
    "model",
    "published",
    "scored on",
    "accuracy (95 % interval)",
    "without twins",
    "macro-F1",
    "calibration error",
    "MACs a face",
    "parameters",
    "made in",
)


@dataclass(frozen=True, slots=True)
class Result:
    """Holds the figures of one net.

    Attributes:
        model: `<recipe>` of a run, `<model>/<version>` of an exported version.
        recipe: With what the user changed in it.
        published: What the recipe's authors claim, in words; None where they claim nothing.
        split: What was scored.
        face_count: Faces scored.
        accuracy: Share, 0 to 1, as are all figures that follow.
        accuracy_low_95: Lower end of the 95 % Wilson interval.
        accuracy_high_95: Upper end.
        twin_free_accuracy: On the faces without a twin in the training split.
        macro_f1: Mean of the classes' F1.
        ece: Expected calibration error, 15 bins, after the temperature.
        ece_uncalibrated: The same before it.
        epochs: Made.
        minutes: Wall clock of all epochs.
        mac_count: Multiply-accumulates a face.
        parameter_count: Weights and biases.
        machine: What trained it, in words.
    """

    model: str
    recipe: str
    published: str | None
    split: str
    face_count: int
    accuracy: float
    accuracy_low_95: float
    accuracy_high_95: float
    twin_free_accuracy: float
    macro_f1: float
    ece: float
    ece_uncalibrated: float
    epochs: int
    minutes: float
    mac_count: int
    parameter_count: int
    machine: str


def write_result(result: Result, path: Path) -> None:
    """Write a result as JSON.

    Raises:
        TrainingError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(asdict(result), indent=2) + "\n").encode())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error.strerror})") from error


def read_results(folder: Path) -> tuple[Result, ...]:
    """Read all results of a folder, the most accurate first.

    Raises:
        TrainingError: There are none, or one cannot be read.
    """
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            results.append(Result(**json.loads(path.read_text("utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f"{path}: is no result of 'ferserve-train evaluate --result' ({error})") from error
    if not results:
        raise TrainingError(f"{folder}: holds no results; 'ferserve-train evaluate --result' writes them")
    return tuple(sorted(results, key=lambda each: (-each.accuracy, each.model)))


def results_table(results: Sequence[Result]) -> str:
    """Write the table in Markdown, one line a result."""
    lines = [_HEAD, ("---",) * len(_HEAD), *(_row(each) for each in results)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def with_table(document: str, table: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """Put the table between the two marks of a document, in the place of what is there.

    Raises:
        TrainingError: A mark is missing.
    """
    before, begin, rest = document.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise TrainingError(
            f"the document needs the lines '{marks[0]}' and '{marks[1]}', with the table between them"
        )
    return f"{before}{begin}\n\n{table}\n{end}{after}"


def _row(each: Result) -> tuple[str, ...]:
    interval = f"{each.accuracy_low_95 * 100:.1f}-{each.accuracy_high_95 * 100:.1f}"
    changes = each.recipe.partition(" ")[2]
    return (
        f"`{each.model}`{' ' + changes if changes else ''}",
        each.published or "",
        f"{each.split}, {each.face_count:,}",
        f"{each.accuracy * 100:.1f} % ({interval})",
        f"{each.twin_free_accuracy * 100:.1f} %",
        f"{each.macro_f1:.3f}",
        f"{each.ece:.3f} ({each.ece_uncalibrated:.3f} before)",
        f"{each.mac_count / 1e6:,.2f} M",
        f"{each.parameter_count:,}",
        f"{each.minutes:.0f} min, {each.epochs} {'epoch' if each.epochs == 1 else 'epochs'}, {each.machine}",
    )
