"""Puts the robustness figures of several models into one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ferserve_training.evaluation.robustness import DegradedFigures, Robustness
from ferserve_training.evaluation.robustness_record import read_robustness

BEGIN: Final = "<!-- robustness: made by ferserve-train results -->"
END: Final = "<!-- end of robustness -->"
FOLDER: Final = "robustness"
"""Inside the folder of results."""


def read_records(folder: Path) -> tuple[Robustness, ...]:
    """Read all records of a folder, in the order of their files' names; none where there is no such folder.

    Raises:
        RunError: One cannot be read.
    """
    return tuple(read_robustness(path) for path in sorted(folder.glob("*.json")))


def robustness_table(records: Sequence[Robustness]) -> str:
    """Write the table in Markdown: one column a model, one row a set of faces or a kind of non-faces."""
    columns = [_cells(record) for record in records]
    names = list(dict.fromkeys(name for column in columns for name in column))
    head = ("", *(f"`{record.model}`" for record in records))
    rows = [(name, *(column.get(name, "") for column in columns)) for name in names]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ("---",) * len(head), *rows))


def _cells(record: Robustness) -> dict[str, str]:
    plain = record.degraded[0]
    cells = {each.name: _accuracy(each, plain) for each in record.degraded}
    worst = max(record.degraded, key=lambda each: each.ece)
    cells["calibration error, unchanged"] = f"{plain.ece:.3f}"
    cells["calibration error, worst set"] = f"{worst.ece:.3f} ({worst.name})"
    cells |= {f"not a face, ROC area: {each.name}": f"{each.roc_auc:.3f}" for each in record.non_faces}
    if record.rejected_faces_share is not None:
        cells["real faces called no face"] = f"{100 * record.rejected_faces_share:.2f} %"
    return cells


def _accuracy(each: DegradedFigures, plain: DegradedFigures) -> str:
    if each.face_count == plain.face_count:
        return f"{100 * each.accuracy:.1f} %"
    return f"{100 * each.accuracy:.1f} % ({100 * each.accuracy_unchanged:.1f} % before)"
