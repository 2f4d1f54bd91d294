"""Computes probabilities from logits, temperatures and calibration errors (Guo et al. 2017)."""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

_BIN_COUNT: Final = 15
_LOWEST_TEMPERATURE: Final = 0.05
_HIGHEST_TEMPERATURE: Final = 20.0
_SEARCH_STEPS: Final = 60
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


def softmax(logits: npt.NDArray[np.floating], temperature: float = 1.0) -> npt.NDArray[np.float64]:
    """Turn logits [N, C] into probabilities, float64 [N, C]."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Turn logits of any shape into probabilities, float64, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(logits, np.float64))))


def negative_log_likelihood(
    logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], temperature: float = 1.0
) -> float:
    """Compute the mean surprise at the true labels, in nats."""
    scaled = np.asarray(logits, np.float64) / temperature
    top = scaled.max(axis=1)
    log_sums = top + np.log(np.exp(scaled - top[:, np.newaxis]).sum(axis=1))
    return float(np.mean(log_sums - scaled[np.arange(len(labels)), labels]))


def fit_temperature(logits: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """Find the temperature that makes the labels least surprising, by golden-section search.

    The surprise is convex in 1/T, so the search cannot miss; it is bounded to 0.05 .. 20.

    Args:
        logits: [N, C].
        labels: [N], 0 to C - 1.
    """
    low, high = 1 / _HIGHEST_TEMPERATURE, 1 / _LOWEST_TEMPERATURE
    for _ in range(_SEARCH_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if negative_log_likelihood(logits, labels, 1 / left) < negative_log_likelihood(logits, labels, 1 / right):
            high = right
        else:
            low = left
    return 2 / (low + high)


def calibration_error(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], bin_count: int = _BIN_COUNT
) -> float:
    """Compute the expected calibration error: mean gap of confidence and accuracy over equally wide bins.

    Args:
        probabilities: [N, C], rows sum to 1.
        labels: [N], 0 to C - 1.
        bin_count: Bins over 0 to 1; a confidence on an edge belongs to the lower bin.

    Returns:
        0 (honest) to 1.
    """
    confidences = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidences * bin_count).astype(int) - 1, 0, bin_count - 1)
    gaps = np.bincount(bins, weights=confidences - hits, minlength=bin_count)
    return float(np.abs(gaps).sum() / len(labels))
