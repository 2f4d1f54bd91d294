"""Opens a report with a verdict: against chance, and against the model before."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ferserve_training.evaluation.intervals import wilson_interval
from ferserve_training.evaluation.mcnemar import mcnemar

_SIGNIFICANT: Final = 0.05


@dataclass(frozen=True, slots=True)
class ParentFigures:
    """Holds the figures of the previous model on the same faces.

    Attributes:
        name: Of the model.
        accuracy: Share of hits, 0 to 1.
        low_95: Lower end of its Wilson interval.
        high_95: Upper end.
        p_value: Of McNemar's exact test between both.
        degraded: Accuracy on each degraded set, 0 to 1, by its name.
    """

    name: str
    accuracy: float
    low_95: float
    high_95: float
    p_value: float
    degraded: dict[str, float]


def compare_with_parent(
    name: str, hits: npt.NDArray[np.bool_], parent_hits: npt.NDArray[np.bool_], degraded: dict[str, float]
) -> ParentFigures:
    """Compare two models on the same faces.

    Args:
        name: Of the parent.
        hits: Faces that the reported model calls as labelled, [N].
        parent_hits: Faces that the parent calls so, [N].
        degraded: Accuracy of the parent on each degraded set.
    """
    low, high = wilson_interval(int(parent_hits.sum()), len(parent_hits))
    return ParentFigures(name, float(parent_hits.mean()), low, high, mcnemar(hits, parent_hits).p_value, degraded)


def verdict_on(summary: dict[str, Any]) -> str:
    """Say in two or three sentences how good the model is on which data.

    Args:
        summary: Of `ReportData`.
    """
    figures, count = summary["figures"], summary["face_count"]
    span = f"{figures['accuracy_low_95']:.1%} to {figures['accuracy_high_95']:.1%}"
    scored = f"{figures['accuracy']:.1%} of {count:,} faces of {summary['split']}"
    sentences = [
        f"{scored} are called as they are labelled (95 % interval {span}).",
        _against_chance(figures, summary["classes"], count),
    ]
    parent = summary["parent"]
    if parent is not None:
        sentences.append(_against_parent(figures["accuracy"], parent))
    return " ".join(sentences)


def parent_summary(parent: ParentFigures | None) -> dict[str, Any] | None:
    """Turn the figures of a parent into what JSON holds."""
    return None if parent is None else asdict(parent)


def _against_chance(figures: dict[str, float], classes: list[dict[str, Any]], count: int) -> str:
    """Hold the interval against calling every face by the most frequent label."""
    floor = max(each["support"] for each in classes) / count
    most = max(classes, key=lambda each: float(each["support"]))["label"]
    chance = f"calling every face {most} ({floor:.1%})"
    if figures["accuracy_low_95"] > floor:
        return f"That is better than {chance}."
    if figures["accuracy_high_95"] < floor:
        return f"That is worse than {chance}: do not use it."
    return f"That cannot be distinguished from {chance}: do not use it."


def _against_parent(accuracy: float, parent: dict[str, Any]) -> str:
    change = f"{100 * (accuracy - parent['accuracy']):+.1f} points against {parent['name']}"
    span = f"{parent['accuracy']:.1%}, {parent['low_95']:.1%} to {parent['high_95']:.1%}"
    if parent["p_value"] >= _SIGNIFICANT:
        return f"{change} ({span}), no more than chance gives (McNemar, p = {parent['p_value']:.2g})."
    return f"{change} ({span}), more than chance gives (McNemar, p = {parent['p_value']:.2g})."
