"""What a net is asked to answer: labels, smoothed, mixed, weighted, and what a teacher says."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ferserve_training.labels import CLASS_COUNT
from ferserve_training.recipes.recipe import Optimisation

_MIX_DRAWS = (1 << 29, 0)


def smooth_targets(labels: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Turn labels, int32 [N], into distributions, float32 [N, 7]."""
    return tf.one_hot(labels, CLASS_COUNT) * (1.0 - smoothing) + smoothing / CLASS_COUNT


def mix(views: tf.Tensor, targets: tf.Tensor, seed: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend each view and its targets with its neighbour's (Zhang et al. 2018); the order of a batch is random.

    Args:
        views: float32 [N, 48, 48, 1].
        targets: float32 [N, any], one column a class.
        seed: int32 [2]; it alone decides the shares.
        alpha: Both parameters of the beta distribution of the shares; above 0.
    """
    draws = tf.random.stateless_gamma([2, tf.shape(views)[0]], seed + _MIX_DRAWS, alpha)
    share = (draws[0] + 1e-12) / (draws[0] + draws[1] + 2e-12)
    of_view, of_target = share[:, tf.newaxis, tf.newaxis, tf.newaxis], share[:, tf.newaxis]
    return (
        of_view * views + (1.0 - of_view) * tf.roll(views, 1, axis=0),
        of_target * targets + (1.0 - of_target) * tf.roll(targets, 1, axis=0),
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


def label_loss(logits: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Average the cross entropy over the batch, each face weighted by its target's classes, nats."""
    losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
    return tf.reduce_mean(losses * tf.linalg.matvec(targets, weights))


def vote_loss(logits: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Average the cross entropy to the shares of the votes, [N, 10] each, nats; rows of zeros add nothing."""
    return tf.reduce_mean(-tf.reduce_sum(shares * tf.nn.log_softmax(logits), axis=1))


def teacher_loss(logits: tf.Tensor, teachers_logits: Sequence[tf.Tensor], settings: Optimisation) -> tf.Tensor:
    """Average the cross entropy to the mean of the teachers' softened answers, times the temperature squared."""
    warmth = settings.teacher_temperature
    answers = [tf.nn.softmax(each / warmth) for each in teachers_logits]
    soft = tf.add_n(answers) / len(answers)
    return warmth**2 * tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(soft, logits / warmth))
