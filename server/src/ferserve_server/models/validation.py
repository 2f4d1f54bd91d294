"""Validates a loaded version before it answers requests.

It must run at every batch size, score its golden faces as published, and not be far slower than the active
version. Differences from the active version's scores are reported only.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.face import FER_2013_LABELS
from ferserve_server.domain.servable import Precision, ValidationComparison
from ferserve_server.models.manifest import GOLDEN_PATH
from ferserve_server.models.tuning import measured_sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.ports import Servable
    from ferserve_server.domain.servable import GoldenSet


@dataclass(frozen=True, slots=True)
class ValidationLimits:
    """Sets the limits that a version must meet.

    Attributes:
        bucket_sizes: Batch sizes it may be used in, rising.
        golden_tolerance: Largest difference from its golden scores in float32, as a probability.
        latency_factor: Maximum ratio of a batch's time to that of the active version; 0: any.
        precision: Required precision; None: bfloat16 where that is clearly faster and scores equally.
        bfloat16_tolerance: Largest difference from its golden scores in bfloat16, as a probability.
    """

    bucket_sizes: tuple[int, ...]
    golden_tolerance: float
    latency_factor: float = 0.0
    precision: Precision | None = Precision.FLOAT32
    bfloat16_tolerance: float = 0.03

    @property
    def validated_sizes(self) -> tuple[int, ...]:
        """Returns the batch sizes that are validated."""
        return measured_sizes(self.bucket_sizes)


def check_labels(labels: Sequence[str], active_labels: Sequence[str] | None) -> None:
    """Rejects the known classes in another order, which would misname every face without an error.

    Clients know the seven classes of FER-2013 in their canonical order, and those of a model in the order of the
    version that they have seen. A changed set of classes is another matter: a client reads their names.

    Args:
        labels: Names of the classes, in the order of the scores.
        active_labels: Those of the active version, or None if there is none.

    Raises:
        ModelRejectedError: LABELS_MISMATCH.
    """
    for known in (FER_2013_LABELS, tuple(active_labels or ())):
        if set(labels) == set(known) and tuple(labels) != known:
            raise ModelRejectedError(
                "LABELS_MISMATCH",
                f"The labels are {', '.join(labels)}; the order must be {', '.join(known)}.",
                labels=",".join(labels),
                expected=",".join(known),
            )


def warm(servable: Servable, bucket_sizes: Sequence[int]) -> None:
    """Runs every batch size once, so that no request pays for a first run.

    Raises:
        ModelRejectedError: OUTPUT_MISMATCH, if scores do not come as one column per label; SCORES_NOT_FINITE.
    """
    for size in bucket_sizes:
        scores = servable.predict(servable.description.input.blank(size))
        expected = (size, servable.description.score_column_count)
        if scores.shape != expected:
            raise ModelRejectedError(
                "OUTPUT_MISMATCH", f"{size} faces gave scores of shape {scores.shape}, not {expected}."
            )
        _check_finite(scores)


def score_all(servable: Servable, faces: CropBatch, bucket_sizes: Sequence[int]) -> Scores:
    """Scores any number of faces, one or more, in batches of a warmed size: float32 [N, K], labels alone."""
    size = max(size for size in bucket_sizes if size <= max(len(faces), bucket_sizes[0]))
    rows = np.concatenate([faces, np.zeros((-len(faces) % size, *faces.shape[1:]), np.uint8)])
    scores = np.concatenate([servable.predict(rows[at : at + size]) for at in range(0, len(rows), size)])
    return scores[: len(faces), : len(servable.description.labels)]


def check_golden(scores: Scores, golden: GoldenSet, tolerance: float) -> float:
    """Compares scores with those that the version was published with.

    Args:
        scores: The version's scores of the golden faces, float32 [N, K].
        golden: The golden set that it was published with.
        tolerance: Largest difference allowed, as a probability.

    Returns:
        The largest difference.

    Raises:
        ModelRejectedError: GOLDEN_INVALID, SCORES_NOT_FINITE or GOLDEN_MISMATCH.
    """
    if golden.scores.shape != scores.shape:
        raise ModelRejectedError("GOLDEN_INVALID", f"{GOLDEN_PATH} has scores of shape {golden.scores.shape}.")
    _check_finite(scores)
    difference = float(np.abs(scores - golden.scores).max())
    if not difference <= tolerance:  # also when it is NaN
        raise ModelRejectedError(
            "GOLDEN_MISMATCH",
            f"Scores differ from the golden ones by {difference:.2g}; {tolerance:.2g} is allowed.",
            difference=difference,
            tolerance=tolerance,
        )
    return difference


def _check_finite(scores: Scores) -> None:
    if not np.isfinite(scores).all():
        raise ModelRejectedError(
            "SCORES_NOT_FINITE", "Some scores are not numbers or infinite. The weights are probably broken."
        )


_MEASUREMENT_PASSES: Final = 3
"""Number of comparisons at which a version must be too slow, because a burst of other work rarely spans three."""

_ROUNDS_PER_PASS: Final = 5
_POLL_INTERVAL_S: Final = 0.5
"""Maximum duration of a comparison, in seconds, though both versions run at least once."""

NEGLIGIBLE_S: Final = 0.5e-3
"""Minimum excess time of a batch for a rejection, in seconds, because beside a call's own milliseconds it is not
noticed, and the clock of a busy machine errs by as much."""


def compare(  # noqa: PLR0913 - two versions, what they are tried with, the limit and the time
    candidate: Servable,
    active: Servable,
    faces: CropBatch,
    scores: Scores,
    bucket_sizes: Sequence[int],
    *,
    latency_factor: float,
    now: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> ValidationComparison:
    """Compares a version with the active one. Differing scores are reported only.

    Args:
        candidate: The new version, warm.
        active: The active version. Its requests run beside this.
        faces: The golden faces of the candidate, uint8 [N, H, W, 1].
        scores: The candidate's scores of them, float32 [N, K].
        bucket_sizes: Batch sizes that may be used; both are warm at their landmarks.
        latency_factor: Maximum ratio of the times of a batch of any size; 0 disables the comparison.
        now: A clock, in seconds.
        rest: Waits that many seconds. Between two rounds it waits as long as a round took, so that the many runs
            take half a core from live traffic.

    Raises:
        ModelRejectedError: TOO_SLOW, with the figures.
    """
    # Otherwise a request that arrives during a measurement makes that session itself: 50 ms, once per swap.
    active.reserve_session(bucket_sizes)
    tried = measured_sizes(bucket_sizes)
    latency_s = _measure(candidate, active, tried, latency_factor, now, rest) if latency_factor else {}
    agreement = largest_difference = None
    mine, theirs = candidate.description, active.description
    sides = [(spec.height, spec.width) for spec in (mine.input, theirs.input)]
    if mine.labels == theirs.labels and sides[0] == sides[1]:
        others = score_all(active, faces, tried)
        agreement = float((scores.argmax(axis=1) == others.argmax(axis=1)).mean())
        largest_difference = float(np.abs(scores - others).max())
    return ValidationComparison(active.id.version, agreement, largest_difference, latency_s)


def is_too_slow(latency_s: float, active_s: float, factor: float) -> bool:
    """Returns whether a batch takes more than `factor` times as long, by more than the clock's error."""
    return latency_s > factor * active_s and latency_s - active_s > NEGLIGIBLE_S


def _measure(
    candidate: Servable,
    active: Servable,
    bucket_sizes: Sequence[int],
    factor: float,
    now: Callable[[], float],
    rest: Callable[[float], None],
) -> Mapping[int, tuple[float, float]]:
    """Measures the least time of a batch of both versions, in seconds, by batch size.

    The two alternate, so that other work on the machine affects both. Such work can only lengthen a run, so the
    least of a version's runs is reported as its time. For a rejection that is not enough: of a few runs on a busy
    machine one version may have had a quiet one and the other none. So the least time of the new one is compared
    with the median of the other: neither chance makes it too slow. Wall-clock time is used. The scheduler's
    account of waits for a core cannot be subtracted: the thread that calls an engine often waits for the core on
    which the engine's own thread computes the batch, and a batch of 3 ms then seemed to take 0.4.
    """
    found: dict[int, tuple[float, float]] = {}
    for size in bucket_sizes:
        batches = [_blank(each, size) for each in (candidate, active)]
        mine: list[float] = []
        theirs: list[float] = []
        for _ in range(_MEASUREMENT_PASSES):
            ends_at = now() + _POLL_INTERVAL_S
            for round_number in range(_ROUNDS_PER_PASS):
                # The first version to run after a rest finds its core cold, so the two alternate in being first.
                first, second = (active, candidate) if round_number % 2 else (candidate, active)
                started_at = now()
                first.predict(batches[first is active])
                middle_at = now()
                second.predict(batches[second is active])
                ended_at = now()
                spans = (middle_at - started_at, ended_at - middle_at)
                mine.append(spans[first is active])
                theirs.append(spans[first is candidate])
                rest(ended_at - started_at)
                if ended_at > ends_at:
                    break
            if not is_too_slow(min(mine), statistics.median(theirs), factor):
                break
        else:
            raise _too_slow(size, min(mine), statistics.median(theirs), active.id.version, factor)
        found[size] = (min(mine), min(theirs))
    return found


def _too_slow(size: int, mine_s: float, theirs_s: float, active: int, factor: float) -> ModelRejectedError:
    return ModelRejectedError(
        "TOO_SLOW",
        f"A batch of {size} takes {mine_s * 1e3:.2f} ms or more, with the active version {active} "
        f"{theirs_s * 1e3:.2f} ms; {factor:g} times as long is allowed (setting validation_latency_factor).",
        bucket_size=size,
        latency_ms=round(mine_s * 1e3, 3),
        active_latency_ms=round(theirs_s * 1e3, 3),
        active_version=active,
        factor=factor,
    )


def _blank(servable: Servable, size: int) -> CropBatch:
    spec = servable.description.input
    return np.zeros((size, spec.height, spec.width, 1), np.uint8)
