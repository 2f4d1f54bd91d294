"""Smooths the expression of one face: averaged scores, and a label that does not flicker. Pure.

Smoothing is exponential in the time of the video, so that it does not depend on the frame rate: what was known
is worth half after one half-life. It works on logits, where evidence adds up: a doubtful frame moves the result
less than a clear one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
"""One number per class: float64 [K]."""

MIN_PROBABILITY: Final = 0.01
"""Minimum probability distinguished from 0; it bounds the weight of one overconfident frame."""

SWITCH_LEAD: Final = 0.9
"""Lead of another class in logits from which it becomes the label at once: 2.5 times the probability."""

SWITCH_AFTER_HALF_LIVES: Final = 2.0
"""Time for which another class has to lead by less before it becomes the label, in half-lives."""

CLEAR_LEAD: Final = 0.2
"""Lead in probability over the second class from which a label is not uncertain, whatever its own probability."""


@dataclass(frozen=True, slots=True)
class Expression:
    """Holds the smoothed state of one face.

    Attributes:
        time_s: Time of the newest frame that was taken into account, in seconds of the video.
        logits: Smoothed logarithms of the probabilities, float64 [K].
        label: Index of the steady class.
        since_s: Time at which that class became the label.
        ahead_since_s: Time since which another class has been ahead of it, or None.
        score_sum: Sum of the raw probabilities, weighted by time, float64 [K].
        weight: Sum of those weights, in seconds.
    """

    time_s: float
    logits: Vector
    label: int
    since_s: float
    ahead_since_s: float | None
    score_sum: Vector
    weight: float

    @property
    def scores(self) -> Vector:
        """Returns the smoothed probabilities, float64 [K], sum 1."""
        shifted = np.exp(self.logits - self.logits.max())
        smoothed: Vector = shifted / shifted.sum()
        return smoothed

    @property
    def mean_scores(self) -> Vector:
        """Returns the mean raw probabilities over the life of the track, float64 [K]."""
        return self.score_sum / self.weight


def logits_of(scores: npt.NDArray[np.floating]) -> Vector:
    """Computes the logarithms of probabilities, [K], clipped at `MIN_PROBABILITY`."""
    logits: Vector = np.log(np.clip(scores.astype(np.float64), MIN_PROBABILITY, 1.0))
    return logits


def first_expression(time_s: float, scores: npt.NDArray[np.floating]) -> Expression:
    """Initialises the state from the first frame of a face.

    Args:
        time_s: Time of the frame.
        scores: Its probabilities, [K].
    """
    # A millisecond of weight: next to nothing beside the frames that follow, but a mean where none does.
    weight = 1e-3
    return Expression(
        time_s, logits_of(scores), int(scores.argmax()), time_s, None, scores.astype(np.float64) * weight, weight
    )


def smoothed(state: Expression, time_s: float, scores: npt.NDArray[np.floating], half_life_s: float) -> Expression:
    """Updates the state with another frame.

    Args:
        state: State after an earlier frame.
        time_s: Time of this frame; an earlier time than the state's counts as no time at all.
        scores: Its probabilities, [K].
        half_life_s: Time after which earlier frames weigh half, above 0.

    Returns:
        The state that frames with these scores at any rate since then would have led to.
    """
    elapsed_s = max(0.0, time_s - state.time_s)
    share = -np.expm1(-np.log(2.0) * elapsed_s / half_life_s)
    logits = state.logits + share * (logits_of(scores) - state.logits)
    moved = replace(
        state,
        time_s=state.time_s + elapsed_s,
        logits=logits,
        score_sum=state.score_sum + elapsed_s * scores.astype(np.float64),
        weight=state.weight + elapsed_s,
    )
    return _relabelled(moved, half_life_s)


def is_uncertain(scores: npt.NDArray[np.floating], label: int, threshold: float) -> bool:
    """Returns whether neither the label's probability nor its lead is clear.

    Args:
        scores: Probabilities, [K].
        label: Index of the label.
        threshold: Probability from which a label is certain, 0.0 to 1.0, as the version's manifest states.
    """
    others = np.delete(scores, label)
    lead = float(scores[label]) - (float(others.max()) if others.size else 0.0)
    return float(scores[label]) < threshold and lead < CLEAR_LEAD


def _relabelled(state: Expression, half_life_s: float) -> Expression:
    """Changes the label once another class leads clearly, or has led for long enough."""
    best = int(state.logits.argmax())
    lead = float(state.logits[best] - state.logits[state.label])
    if lead <= 0.0:
        return replace(state, ahead_since_s=None)
    ahead_since_s = state.time_s if state.ahead_since_s is None else state.ahead_since_s
    if lead >= SWITCH_LEAD or state.time_s - ahead_since_s >= SWITCH_AFTER_HALF_LIVES * half_life_s:
        return replace(state, label=best, since_s=state.time_s, ahead_since_s=None)
    return replace(state, ahead_since_s=ahead_since_s)
