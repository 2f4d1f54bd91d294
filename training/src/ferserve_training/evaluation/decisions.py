"""Chooses the thresholds below or above which an answer is uncertain, or the image no face."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

MAX_REJECTED_SHARE: Final = 0.005
"""Share of real faces that may be called no face; half of 1 %, since the choice is made on the faces scored."""
_MIN_NOT_A_FACE_THRESHOLD: Final = 0.5
_NEVER: Final = 1.0


@dataclass(frozen=True, slots=True)
class Decisions:
    """Thresholds of one version, 0 to 1.

    Attributes:
        uncertain_threshold: An answer whose highest probability lies below it is more often wrong than right.
        not_a_face_threshold: An image whose `not_a_face` lies above it shows no face; 1 where the net has no such
            output.
    """

    uncertain_threshold: float = 0.5
    not_a_face_threshold: float = _NEVER


def choose_decisions(
    probabilities: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    not_a_face: npt.NDArray[np.floating] | None,
) -> Decisions:
    """Choose both thresholds on faces that were not learnt from.

    The first maximises hits less misses among the faces answered, so that below it the misses outnumber the hits.
    The second is 0.5, or what leaves `MAX_REJECTED_SHARE` of the faces above it, whichever is higher.

    Args:
        probabilities: At the temperature, [N, 7].
        labels: [N].
        not_a_face: Probability of no face, [N]; None where the net does not say.

    Returns:
        Thresholds rounded to hundredths.
    """
    confidences = probabilities.max(axis=1)
    gains = np.where(probabilities.argmax(axis=1) == labels, 1, -1)
    candidates = np.arange(0, 101) / 100
    sums = [int(gains[confidences >= candidate].sum()) for candidate in candidates]
    uncertain = float(candidates[int(np.argmax(sums))])
    if not_a_face is None:
        return Decisions(uncertain)
    limit = float(np.quantile(not_a_face, 1 - MAX_REJECTED_SHARE, method="higher"))
    return Decisions(uncertain, max(_MIN_NOT_A_FACE_THRESHOLD, min(_NEVER, float(np.ceil(limit * 100)) / 100)))
