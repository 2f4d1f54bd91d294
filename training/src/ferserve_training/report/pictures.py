"""Draws the pictures of a report, each as PNG bytes."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from ferserve_training.labels import LABELS

mpl.use("Agg")


def confusion_picture(confusion: Sequence[Sequence[int]]) -> bytes:
    """Draw the confusion matrix; the shade is the share of the labelled class."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        shade = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=shade, fontsize=8)
    axes.set_xticks(range(len(LABELS)), LABELS, rotation=45)
    axes.set_yticks(range(len(LABELS)), LABELS)
    axes.set(xlabel="called", ylabel="labelled", title="Confusion")
    return _png(figure)


def curves_picture(history: Sequence[dict[str, Any]]) -> bytes:
    """Draw loss and accuracy over the epochs."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    losses.plot([each["epoch"] for each in history], [each["loss"] for each in history], label="training views")
    for name, axes, label in (
        ("public_test_loss", losses, "validation"),
        ("public_test_accuracy", accuracies, "validation"),
    ):
        points = [(each["epoch"], each[name]) for each in history if each[name] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=".")
            axes.legend()
    losses.set(xlabel="epoch", ylabel="nats", title="Loss")
    accuracies.set(xlabel="epoch", ylabel="share", title="Accuracy")
    return _png(figure)


def roc_picture(probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> bytes:
    """Draw each class's ROC curve against all others; classes without faces are left out."""
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, label in enumerate(LABELS):
        is_it = labels == index
        if 0 < is_it.sum() < len(labels):
            false_rate, true_rate, _ = roc_curve(is_it, probabilities[:, index])
            axes.plot(false_rate, true_rate, label=label)
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.set(xlabel="false alarms", ylabel="hits", title="ROC, one class against the others")
    axes.legend(fontsize=8)
    return _png(figure)


def reliability_picture(bins: Sequence[dict[str, Any]]) -> bytes:
    """Draw accuracy over confidence; honest probabilities lie on the diagonal."""
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axes.plot([each["confidence"] for each in bins], [each["accuracy"] for each in bins], marker="o")
    axes.set(
        xlabel="confidence", ylabel="accuracy", title="Reliability, after temperature", xlim=(0, 1), ylim=(0, 1)
    )
    return _png(figure)


def coverage_picture(pairs: Sequence[tuple[float, float]]) -> bytes:
    """Draw the accuracy on the surest share of the faces."""
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*pairs, strict=True), marker="o")
    axes.set(xlabel="share of faces answered", ylabel="accuracy among them", title="Risk and coverage")
    return _png(figure)


def mistakes_picture(images: npt.NDArray[np.uint8], captions: Sequence[str]) -> bytes:
    """Draw faces, uint8 [N, 48, 48, 1], in rows of eight with a caption each."""
    rows = -(-len(images) // 8)
    figure = Figure(figsize=(12, 1.9 * rows), layout="constrained")
    for index, axes in enumerate(np.ravel(figure.subplots(rows, 8, squeeze=False))):
        axes.axis("off")
        if index < len(images):
            axes.imshow(images[index, ..., 0], cmap="gray", vmin=0, vmax=255)
            axes.set_title(captions[index], fontsize=7)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
