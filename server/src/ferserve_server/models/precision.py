"""Selects a version's precision: bfloat16 where that is clearly faster and scores equally."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision
from ferserve_server.models.tuning import measure_batches, speedup
from ferserve_server.models.validation import check_golden, score_all, warm

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.face import Scores
    from ferserve_server.domain.ports import Servable
    from ferserve_server.domain.servable import GoldenSet
    from ferserve_server.models.validation import ValidationLimits

log = structlog.get_logger(__name__)

_CLEARLY_FASTER: Final = 1.1
"""Minimum speedup of bfloat16, because its rounding must pay and a measurement beside other work errs by 5 %."""

_COMPARED_SIZE: Final = 32
"""Maximum face count of the compared batch, because at 2 to 4 ms one of twenty runs or more is undisturbed, even
where other work takes the cores for scheduler slices of 3 ms each."""

_COMPARED_S: Final = 0.3
"""Duration of the comparison, in seconds, because the choice stays until the version is loaded again."""


@dataclass(frozen=True, slots=True)
class PrecisionCandidate:
    """Represents a version that scores its golden faces as published.

    Attributes:
        servable: The version, warm, in one precision.
        scores: Its scores of the golden faces, float32 [N, K].
        difference: Largest difference from the scores it was published with, as a probability.
        bfloat16_speedup: See `domain.servable.Tuning`.
    """

    servable: Servable
    scores: Scores
    difference: float
    bfloat16_speedup: float | None = None


def settle_precision(
    servable: Servable,
    golden: GoldenSet,
    limits: ValidationLimits,
    *,
    known_speedup: float | None = None,
    now: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = lambda _: None,
) -> PrecisionCandidate:
    """Warms and validates a version in float32, and where allowed in bfloat16, and keeps one of the two.

    Float32 is validated whatever the setting: a fault in it must not pass within the wider limit of bfloat16.

    Args:
        servable: The version in its published precision. It is closed unless it is the one kept, also on an error.
        golden: The golden faces and scores that it was published with.
        limits: The limits that it must meet.
        known_speedup: Speedup measured at an earlier load on the same machine, which saves measuring it.
        now: A clock, in seconds.
        rest: See `tuning.measure_batches`.

    Raises:
        ModelRejectedError: It does not score as published in float32; or `limits.precision` is bfloat16, and that
            is unavailable (PRECISION_UNSUPPORTED) or scores too differently (GOLDEN_MISMATCH).
    """
    with contextlib.ExitStack() as opened:
        opened.callback(servable.close)
        exact = _validate(servable, golden, limits)
        kept = exact
        if limits.precision is not Precision.FLOAT32 and servable.precision is Precision.FLOAT32:
            try:
                kept = _validate_bfloat16(exact, golden, limits, known_speedup, now, rest)
            except ModelRejectedError as error:
                if limits.precision is Precision.BFLOAT16:
                    raise
                log.info("float32 stays", servable=str(servable.id), reason=error.reason, cause=error.message)
        if kept.servable is servable:
            opened.pop_all()
    return kept


def check_rounded(scores: Scores, golden: GoldenSet, tolerance: float) -> float:
    """Compares scores in bfloat16 or int8 with those that the version was published with.

    Args:
        scores: The version's scores of the golden faces, float32 [N, K].
        golden: The published faces and scores; in int8 scores of another engine or processor, which round
            elsewhere.
        tolerance: Largest difference allowed, as a probability. A face whose two most probable classes are further
            apart than that must keep its class.

    Returns:
        The largest difference.

    Raises:
        ModelRejectedError: SCORES_NOT_FINITE or GOLDEN_MISMATCH.
    """
    difference = check_golden(scores, golden, tolerance)
    first = np.sort(golden.scores, axis=1)
    clear = first[:, -1] - first[:, -2] > tolerance
    changed = int((clear & (scores.argmax(axis=1) != golden.scores.argmax(axis=1))).sum())
    if changed:
        raise ModelRejectedError(
            "GOLDEN_MISMATCH",
            f"Rounded, {changed} golden faces get another class, though their own leads by more than "
            f"{tolerance:.2g}.",
            faces=changed,
            tolerance=tolerance,
        )
    return difference


def _validate(servable: Servable, golden: GoldenSet, limits: ValidationLimits) -> PrecisionCandidate:
    warm(servable, limits.validated_sizes)
    scores = score_all(servable, golden.faces, limits.validated_sizes)
    if servable.precision is not Precision.FLOAT32:
        return PrecisionCandidate(servable, scores, check_rounded(scores, golden, limits.bfloat16_tolerance))
    return PrecisionCandidate(servable, scores, check_golden(scores, golden, limits.golden_tolerance))


def _validate_bfloat16(
    exact: PrecisionCandidate,
    golden: GoldenSet,
    limits: ValidationLimits,
    known_speedup: float | None,
    now: Callable[[], float],
    rest: Callable[[float], None],
) -> PrecisionCandidate:
    """Returns the version in bfloat16 if that is requested or clearly faster, else `exact`."""
    with contextlib.ExitStack() as opened:
        servable = exact.servable.with_precision(Precision.BFLOAT16)
        opened.callback(servable.close)
        fast = _validate(servable, golden, limits)
        factor = known_speedup
        if limits.precision is None and factor is None:
            sizes = limits.validated_sizes
            size = max((each for each in sizes if each <= _COMPARED_SIZE), default=sizes[0])
            both = [exact.servable, servable]
            times = measure_batches(both, golden.faces, size, at_least_s=_COMPARED_S, now=now, rest=rest)
            factor = speedup(*times)
        wanted = limits.precision is Precision.BFLOAT16 or (factor or 0.0) >= _CLEARLY_FASTER
        kept = fast if wanted else exact
        if wanted:
            opened.pop_all()
        return PrecisionCandidate(kept.servable, kept.scores, kept.difference, factor)
