"""Computes the numbers of a report from logits and labels."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from ferserve_training.evaluation.calibration import softmax
from ferserve_training.labels import CLASS_COUNT, LABELS

_COVERAGES: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Figures of one class; shares are 0 to 1.

    Attributes:
        label: Of the class.
        precision: Of the faces called so, those labelled so.
        recall: Of the faces labelled so, those called so.
        f1: Harmonic mean of both.
        support: Faces labelled so.
        auc: Area under the ROC curve against all other classes; None without faces on both sides.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    auc: float | None


def class_figures(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> tuple[ClassFigures, ...]:
    """Compute the figures of each class, in the order of `LABELS`."""
    called, classes = logits.argmax(axis=1), list(range(CLASS_COUNT))
    columns = precision_recall_fscore_support(labels, called, labels=classes, zero_division=0.0)
    scores = softmax(logits)
    figures = []
    for index, label in enumerate(LABELS):
        precision, recall, f1, support = (column[index] for column in columns)
        has_both = 0 < support < len(labels)
        auc = float(roc_auc_score(labels == index, scores[:, index])) if has_both else None
        figures.append(ClassFigures(label, float(precision), float(recall), float(f1), int(support), auc))
    return tuple(figures)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Faces whose confidence lies in one bin.

    Attributes:
        confidence: Their mean confidence, 0 to 1.
        accuracy: Share of hits, 0 to 1.
        count: How many.
    """

    confidence: float
    accuracy: float
    count: int


def reliability(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], bin_count: int = 15
) -> tuple[ReliabilityBin, ...]:
    """Hold confidence against accuracy in the bins of `calibration_error`; empty ones are left out."""
    confidences = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidences * bin_count).astype(int) - 1, 0, bin_count - 1)
    found = (bins == index for index in range(bin_count))
    return tuple(
        ReliabilityBin(float(confidences[each].mean()), float(hits[each].mean()), int(each.sum()))
        for each in found
        if each.any()
    )


def risk_coverage(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]
) -> tuple[tuple[float, float], ...]:
    """Compute the accuracy on the surest faces.

    Args:
        probabilities: [N, C].
        labels: [N].

    Returns:
        Pairs of coverage (share of faces answered) and accuracy among them, from all to half of the faces.
    """
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    hits = (probabilities.argmax(axis=1) == labels)[order]
    counts = (max(1, round(coverage * len(hits))) for coverage in _COVERAGES)
    return tuple(
        (coverage, float(hits[:count].mean())) for coverage, count in zip(_COVERAGES, counts, strict=True)
    )
