"""Computes the figures of a net on the faces that models are selected on: PublicTest, or the user's own."""

import re
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ferserve_training.evaluation.calibration import calibration_error, fit_temperature, softmax
from ferserve_training.evaluation.decisions import Decisions, choose_decisions
from ferserve_training.evaluation.intervals import wilson_interval
from ferserve_training.labels import CLASS_COUNT, LABELS


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Figures of one net, from a single forward pass a face without test-time augmentation.

    Attributes:
        temperature: Fitted on the same faces, or given; divides the logits.
        metrics: Figures by their name in the manifest, all begin with `prefix`; shares are 0 to 1.
        confusion: `confusion[i][j]` counts faces of class i that were called j, in the order of `LABELS`.
        weights_sha256: Digest of the weights that were scored, so that figures stay with their net.
        face_count: Faces scored.
        twin_free_count: Faces that have no twin in the training split.
        split: What the faces are, 'PublicTest' or 'validation'.
        decisions: Thresholds chosen on these faces.
    """

    temperature: float
    metrics: dict[str, float]
    confusion: tuple[tuple[int, ...], ...]
    weights_sha256: str
    face_count: int
    twin_free_count: int
    split: str = "PublicTest"
    decisions: Decisions = field(default_factory=Decisions)

    @property
    def prefix(self) -> str:
        """Prefix of the names of its figures."""
        return metric_prefix(self.split)


def evaluate(
    logits: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    is_twin_free: npt.NDArray[np.bool_],
    weights_sha256: str,
    split: str = "PublicTest",
    temperature: float | None = None,
    not_a_face: npt.NDArray[np.floating] | None = None,
) -> Evaluation:
    """Compute the figures of a net.

    Args:
        logits: [N, 7], before temperature.
        labels: [N], 0 to 6.
        is_twin_free: [N], faces without a twin in the training split.
        weights_sha256: Digest of the weights.
        split: What the faces are.
        temperature: Of a net that has one already; None to fit it on these faces.
        not_a_face: Probability that the image shows no face, [N]; None where the net does not say.
    """
    called = logits.argmax(axis=1)
    hits = called == labels
    confusion = count_confusion(labels, called)
    if temperature is None:
        temperature = fit_temperature(logits, labels)
    low, high = wilson_interval(int(hits.sum()), len(hits))
    decisions = choose_decisions(softmax(logits, temperature), labels, not_a_face)
    metrics = {
        "accuracy": float(hits.mean()),
        "accuracy_low_95": low,
        "accuracy_high_95": high,
        "macro_f1": macro_f1(confusion),
        "ece": calibration_error(softmax(logits, temperature), labels),
        "ece_uncalibrated": calibration_error(softmax(logits), labels),
        "twin_free_accuracy": float(hits[is_twin_free].mean()) if is_twin_free.any() else 0.0,
    }
    if not_a_face is not None:
        metrics["rejected_share"] = float((not_a_face > decisions.not_a_face_threshold).mean())
    recalls = np.diag(confusion) / np.maximum(confusion.sum(axis=1), 1)
    metrics |= {f"recall_{label}": float(recall) for label, recall in zip(LABELS, recalls, strict=True)}
    return Evaluation(
        temperature,
        {f"{metric_prefix(split)}{name}": value for name, value in metrics.items()},
        tuple(tuple(int(count) for count in row) for row in confusion),
        weights_sha256,
        len(labels),
        int(is_twin_free.sum()),
        split,
        decisions,
    )


def metric_prefix(split: str) -> str:
    """Turn the name of a split into the beginning of its figures' names: `public_test_`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", split).lower() + "_"


def count_confusion(labels: npt.NDArray[np.integer], called: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Count faces by true class (rows) and called class (columns), int64 [7, 7]."""
    cells = np.bincount(labels.astype(np.int64) * CLASS_COUNT + called, minlength=CLASS_COUNT**2)
    return cells.reshape(CLASS_COUNT, CLASS_COUNT).astype(np.int64)


def macro_f1(confusion: npt.NDArray[np.int64]) -> float:
    """Average the F1 scores of the classes; a class that neither occurs nor is called counts as 0."""
    hits = np.diag(confusion)
    mentions = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float(np.mean(2 * hits / np.maximum(mentions, 1)))
