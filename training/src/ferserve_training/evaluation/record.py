"""Reads and writes `evaluation.json` in the folder of a run."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from ferserve_training.atomic import write_atomically
from ferserve_training.errors import RunError
from ferserve_training.evaluation.decisions import Decisions
from ferserve_training.evaluation.scores import Evaluation

_FILE_NAME: Final = "evaluation.json"


def write_evaluation(evaluation: Evaluation, run_folder: Path) -> None:
    """Keep the figures of a run's last checkpoint."""
    content = json.dumps(asdict(evaluation), indent=2) + "\n"
    write_atomically(run_folder / _FILE_NAME, content.encode())


def read_evaluation(run_folder: Path) -> Evaluation:
    """Read the figures of a run.

    Raises:
        RunError: There are none, or they cannot be read.
    """
    path = run_folder / _FILE_NAME
    try:
        content = json.loads(path.read_text("utf-8"))
        content["confusion"] = tuple(tuple(row) for row in content["confusion"])
        content["decisions"] = Decisions(**content["decisions"])
        return Evaluation(**content)
    except FileNotFoundError:
        raise RunError(f"{run_folder}: not evaluated yet: run 'ferserve-train evaluate' first") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}: cannot be read ({error})") from error
