"""Reads and writes robustness figures as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ferserve_training.atomic import write_atomically
from ferserve_training.errors import RunError, TrainingError
from ferserve_training.evaluation.robustness import DegradedFigures, NonFaceFigures, Robustness

_RUN_FILE_NAME: Final = "robustness.json"


def write_robustness(robustness: Robustness, path: Path) -> None:
    """Write figures.

    Raises:
        TrainingError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(asdict(robustness), indent=2) + "\n").encode())
    except OSError as error:
        raise TrainingError(f"{path}: cannot be written ({error.strerror})") from error


def read_robustness(path: Path) -> Robustness:
    """Read figures.

    Raises:
        RunError: They cannot be read.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        content["degraded"] = tuple(DegradedFigures(**each) for each in content["degraded"])
        content["non_faces"] = tuple(NonFaceFigures(**each) for each in content["non_faces"])
        return Robustness(**content)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error


def keep_run_robustness(robustness: Robustness, run_folder: Path) -> None:
    """Keep the figures of a run's last checkpoint for its export."""
    write_robustness(robustness, run_folder / _RUN_FILE_NAME)


def run_robustness(run_folder: Path, weights_sha256: str) -> Robustness | None:
    """Read the figures of a run; None where they were never measured.

    Raises:
        RunError: They cannot be read, or are those of other weights.
    """
    path = run_folder / _RUN_FILE_NAME
    if not path.exists():
        return None
    robustness = read_robustness(path)
    if robustness.weights_sha256 != weights_sha256:
        raise RunError(f"{path}: is of an earlier checkpoint: run 'ferserve-train robustness' again, or remove it")
    return robustness
