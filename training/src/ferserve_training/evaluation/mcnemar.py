"""Tests whether two nets differ by more than chance on the same faces."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test, exact (McNemar 1947; binomial form).

    Attributes:
        only_first: Faces that only the first net hits.
        only_second: Faces that only the second net hits.
        p_value: Chance of a split as uneven as this one between equally good nets, two-sided.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first_hits: npt.NDArray[np.bool_], second_hits: npt.NDArray[np.bool_]) -> McNemar:
    """Compare two nets.

    Args:
        first_hits: [N], faces that the first net calls as labelled.
        second_hits: [N], likewise of the second net, in the same order.
    """
    only_first = int((first_hits & ~second_hits).sum())
    only_second = int((second_hits & ~first_hits).sum())
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, count) for count in range(fewer + 1))
    # Whole numbers up to the division, which Python rounds right however long they are.
    p_value = min(1.0, 2 * tail / 2**total)
    return McNemar(only_first, only_second, p_value)
