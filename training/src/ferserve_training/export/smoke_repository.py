"""Keeps versions of smoke runs out of model repositories that a server may watch."""

import json
from pathlib import Path

from ferserve_training.errors import RunError
from ferserve_training.export.manifest import MANIFEST_PATH


def check_takes_smoke_runs(model_repo: Path) -> None:
    """Accept a repository that is empty, missing, or holds nothing but versions of smoke runs.

    A smoke run learns from a few faces for seconds; beside real models its version would be served as the newest.

    Raises:
        RunError: It holds anything else.
    """
    for model in sorted(model_repo.glob("*")) if model_repo.is_dir() else ():
        for version in sorted(model.glob("[0-9]*")) if model.is_dir() else ():
            if not _is_of_smoke_run(version):
                raise RunError(
                    f"{model_repo}: holds {model.name}/{version.name}, and a smoke run's net is no net to serve; "
                    "name an empty --model-repo to look at it"
                )


def _is_of_smoke_run(version: Path) -> bool:
    try:
        manifest = json.loads((version / MANIFEST_PATH).read_text("utf-8"))
        return bool(manifest["training"].get("smoke", False))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
