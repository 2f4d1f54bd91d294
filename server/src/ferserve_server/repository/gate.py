"""What a version must show before it answers requests: it runs at every batch size and scores as published."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.face import FER_2013_LABELS
from ferserve_server.domain.servable import Precision
from ferserve_server.repository.buckets import landmarks
from ferserve_server.repository.manifest import GOLDEN_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.face import CropBatch, Scores
    from ferserve_server.domain.ports import Servable
    from ferserve_server.domain.servable import GoldenSet


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What a version must show.

    Attributes:
        bucket_sizes: Batch sizes it may be used in, rising.
        golden_tolerance: Largest difference from its golden scores in float32, as a probability.
        latency_factor: How many times as long as the version in force a batch may take; 0: any.
        precision: What it must run in; None: bfloat16 where that is clearly faster and says the same.
        bfloat16_tolerance: Largest difference from its golden scores in bfloat16, as a probability.
    """

    bucket_sizes: tuple[int, ...]
    golden_tolerance: float
    latency_factor: float = 0.0
    precision: Precision | None = Precision.FLOAT32
    bfloat16_tolerance: float = 0.03

    @property
    def tried_sizes(self) -> tuple[int, ...]:
        """Batch sizes it is tried at."""
        return landmarks(self.bucket_sizes)


def check_labels(labels: Sequence[str], labels_in_force: Sequence[str] | None) -> None:
    """Refuses the known classes in another order, which would give every face a wrong name without an error.

    Clients know the seven classes of FER-2013 in their canonical order, and those of a model in the order of the
    version that they have seen. Other classes than before are another matter: a client reads their names.

    Args:
        labels: Names of the classes, in the order of the scores.
        labels_in_force: Those of the version in force, or None if there is none.

    Raises:
        ModelRejectedError: LABELS_MISMATCH.
    """
    for known in (FER_2013_LABELS, tuple(labels_in_force or ())):
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
        expected = (size, len(servable.description.labels))
        if scores.shape != expected:
            raise ModelRejectedError(
                "OUTPUT_MISMATCH", f"{size} faces gave scores of shape {scores.shape}, not {expected}."
            )
        _check_finite(scores)


def score_all(servable: Servable, faces: CropBatch, bucket_sizes: Sequence[int]) -> Scores:
    """Scores any number of faces, one or more, in batches of a warmed size."""
    size = max(size for size in bucket_sizes if size <= max(len(faces), bucket_sizes[0]))
    rows = np.concatenate([faces, np.zeros((-len(faces) % size, *faces.shape[1:]), np.uint8)])
    scores = np.concatenate([servable.predict(rows[at : at + size]) for at in range(0, len(rows), size)])
    return scores[: len(faces)]


def check_golden(scores: Scores, golden: GoldenSet, tolerance: float) -> float:
    """Compares scores with those that the version was published with.

    Args:
        scores: What the version says of the golden faces, float32 [N, K].
        golden: What it was published with.
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
