"""What a version must show before it answers requests: it runs at every batch size and scores as published."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.repository.manifest import GOLDEN_PATH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.domain.ports import Servable


def warm(servable: Servable, bucket_sizes: Sequence[int]) -> None:
    """Runs every batch size once, so that no request pays for a first run.

    Raises:
        ModelRejectedError: OUTPUT_MISMATCH, if scores do not come as one column per label.
    """
    spec = servable.description.input
    for size in bucket_sizes:
        scores = servable.predict(np.zeros((size, spec.height, spec.width, 1), np.uint8))
        expected = (size, len(servable.description.labels))
        if scores.shape != expected:
            raise ModelRejectedError(
                "OUTPUT_MISMATCH", f"{size} faces gave scores of shape {scores.shape}, not {expected}."
            )


def check_golden(servable: Servable, directory: Path, bucket_sizes: Sequence[int], tolerance: float) -> float:
    """Compares scores with those that the version was published with.

    Args:
        servable: The version, loaded.
        directory: Where it lies; `assets.extra/golden.npz` holds `faces` uint8 [N, H, W, 1] and `probabilities`
            float32 [N, K].
        bucket_sizes: Batch sizes that may be run.
        tolerance: Largest difference allowed, as a probability.

    Returns:
        The largest difference.

    Raises:
        ModelRejectedError: GOLDEN_MISSING, GOLDEN_INVALID or GOLDEN_MISMATCH.
    """
    try:
        # Opened here: numpy leaves a file open that turns out to be no archive.
        with (directory / GOLDEN_PATH).open("rb") as stream, np.load(stream, allow_pickle=False) as golden:
            faces, expected = golden["faces"], golden["probabilities"]
    except FileNotFoundError:
        raise ModelRejectedError("GOLDEN_MISSING", f"There is no {GOLDEN_PATH}.") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ModelRejectedError("GOLDEN_INVALID", f"{GOLDEN_PATH} cannot be read.") from error
    spec = servable.description.input
    if faces.dtype != np.uint8 or faces.shape[1:] != (spec.height, spec.width, 1) or len(faces) == 0:
        raise ModelRejectedError("GOLDEN_INVALID", f"{GOLDEN_PATH} holds no faces of the model's size.")
    size = max(size for size in bucket_sizes if size <= max(len(faces), bucket_sizes[0]))
    rows = np.concatenate([faces, np.zeros((-len(faces) % size, *faces.shape[1:]), np.uint8)])
    scores = np.concatenate([servable.predict(rows[at : at + size]) for at in range(0, len(rows), size)])
    if expected.shape != scores[: len(faces)].shape:
        raise ModelRejectedError("GOLDEN_INVALID", f"{GOLDEN_PATH} has scores of shape {expected.shape}.")
    difference = float(np.abs(scores[: len(faces)] - expected).max())
    if not difference <= tolerance:  # also when it is NaN
        raise ModelRejectedError(
            "GOLDEN_MISMATCH",
            f"Scores differ from the golden ones by {difference:.2g}; {tolerance:.2g} is allowed.",
            difference=difference,
            tolerance=tolerance,
        )
    return difference
