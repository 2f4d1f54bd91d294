"""Measures accuracy and calibration for each group of people, with intervals."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ferserve_training.errors import DataError
from ferserve_training.evaluation.calibration import calibration_error
from ferserve_training.evaluation.intervals import wilson_interval

_DRAW_COUNT: Final = 1000


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """One group.

    Attributes:
        name: Of the group.
        count: Faces in it.
        accuracy: Share of hits, 0 to 1.
        accuracy_interval: Its 95 % Wilson interval.
        calibration: Expected calibration error, 0 to 1.
        calibration_interval: 2.5 and 97.5 % quantiles over resampled faces (bootstrap, 1,000 draws).
        gap: Accuracy less that of all faces of the other groups; None where there are none.
        gap_interval: Its 95 % interval (Newcombe 1998, method 10).
    """

    name: str
    count: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    calibration: float
    calibration_interval: tuple[float, float]
    gap: float | None
    gap_interval: tuple[float, float] | None


def load_groups(path: Path) -> dict[str, str]:
    """Read which face belongs to which group: a csv file with the columns `name` and `group`.

    Raises:
        DataError: The file cannot be read, lacks a column, or puts a face into two groups.
    """
    groups: dict[str, str] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for column in ("name", "group"):
                if column not in (reader.fieldnames or ()):
                    raise DataError(path, f"lacks the column '{column}'")
            for row, line in enumerate(reader):
                name, group = (line["name"] or "").strip(), (line["group"] or "").strip()
                if not name or not group:
                    raise DataError(f"{path}, line {row + 2}", "needs a name and a group")
                if groups.setdefault(name, group) != group:
                    raise DataError(f"{path}, line {row + 2}", f"puts {name} into a second group")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"cannot be read ({error})") from error
    return groups


def audit_groups(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], groups: npt.NDArray[np.str_]
) -> tuple[GroupFigures, ...]:
    """Compute the figures of each group, in the order of their names.

    Args:
        probabilities: [N, C], rows sum to 1.
        labels: [N].
        groups: [N], the group of each face.
    """
    hits = probabilities.argmax(axis=1) == labels
    figures = []
    for name in sorted(set(groups.tolist())):
        inside = groups == name
        own, others = hits[inside], hits[~inside]
        figures.append(
            GroupFigures(
                name,
                len(own),
                float(own.mean()),
                wilson_interval(int(own.sum()), len(own)),
                calibration_error(probabilities[inside], labels[inside]),
                _resampled(probabilities[inside], labels[inside]),
                float(own.mean() - others.mean()) if len(others) else None,
                _gap_interval(own, others) if len(others) else None,
            )
        )
    return tuple(figures)


def _gap_interval(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Join both shares' Wilson intervals into one for their difference."""
    gap = float(first.mean() - second.mean())
    (low_1, high_1), (low_2, high_2) = (wilson_interval(int(hits.sum()), len(hits)) for hits in (first, second))
    share_1, share_2 = float(first.mean()), float(second.mean())
    below = np.hypot(share_1 - low_1, high_2 - share_2)
    above = np.hypot(high_1 - share_1, share_2 - low_2)
    return float(gap - below), float(gap + above)


def _resampled(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> tuple[float, float]:
    draws = np.random.default_rng(0).integers(0, len(labels), (_DRAW_COUNT, len(labels)))
    errors = [calibration_error(probabilities[picked], labels[picked]) for picked in draws]
    low, high = np.quantile(errors, (0.025, 0.975))
    return float(low), float(high)
