"""Computes targets and losses: labels, smoothed, mixed and weighted, votes, and answers of teachers."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from keras import ops

from ferserve_training.framework.choose import Tensor, framework
from ferserve_training.labels import CLASS_COUNT
from ferserve_training.recipes.recipe import Optimisation

_MIX_DRAWS: Final = 1 << 29


def smooth_targets(labels: npt.NDArray[np.integer], smoothing: float) -> npt.NDArray[np.float32]:
    """Turn labels, int [N], into distributions, float32 [N, 7]."""
    exact = np.eye(CLASS_COUNT, dtype=np.float32)[labels]
    return np.asarray(exact * (1.0 - smoothing) + smoothing / CLASS_COUNT, np.float32)


def mix(views: Tensor, targets: Tensor, seed: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Blend each view and its targets with its neighbour's (Zhang et al. 2018); the order of a batch is random.

    Args:
        views: float32 [N, 48, 48, 1].
        targets: float32 [N, any], one column a class.
        seed: int32 [2]; it alone decides the shares.
        alpha: Both parameters of the beta distribution of the shares; above 0.
    """
    draws = framework().gamma([2, ops.shape(views)[0]], seed, _MIX_DRAWS, alpha)
    share = (draws[0] + 1e-12) / (draws[0] + draws[1] + 2e-12)
    of_view, of_target = share[:, None, None, None], share[:, None]
    return (
        of_view * views + (1.0 - of_view) * ops.roll(views, 1, axis=0),
        of_target * targets + (1.0 - of_target) * ops.roll(targets, 1, axis=0),
    )


def class_weights(labels: npt.NDArray[np.integer], *, balanced: bool) -> npt.NDArray[np.float32]:
    """Weigh classes by the inverse of their share, so that faces have weight 1 on average; or all alike.

    Args:
        labels: int [N].
        balanced: Whether to weigh.

    Returns:
        float32 [7].
    """
    if not balanced:
        return np.ones(CLASS_COUNT, np.float32)
    counts = np.bincount(labels, minlength=CLASS_COUNT)
    return np.asarray(len(labels) / (CLASS_COUNT * np.maximum(counts, 1)), np.float32)


def label_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Average the cross entropy over the batch, each face weighted by its target's classes, nats."""
    return ops.mean(_cross_entropies(logits, targets) * ops.sum(targets * weights, axis=1))


def vote_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Average the cross entropy to the shares of the votes, [N, 10] each, nats; rows of zeros add nothing."""
    return ops.mean(_cross_entropies(logits, shares))


def not_a_face_loss(logits: Tensor, marks: Tensor) -> Tensor:
    """Average the binary cross entropy to the marks of non-faces, [N] each, nats."""
    return ops.mean(ops.softplus(logits) - marks * logits)


def teacher_loss(logits: Tensor, teachers_logits: Sequence[Tensor], settings: Optimisation) -> Tensor:
    """Average the cross entropy to the mean of the teachers' softened answers, times the temperature squared."""
    warmth = settings.teacher_temperature
    soft = sum(ops.softmax(each / warmth) for each in teachers_logits) / len(teachers_logits)
    return warmth**2 * ops.mean(_cross_entropies(logits / warmth, soft))


def _cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross entropy of each face, [N] from [N, any] each, nats."""
    return -ops.sum(targets * ops.log_softmax(logits), axis=1)
