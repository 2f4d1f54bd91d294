"""Finds the versions that the repository ships."""

from pathlib import Path

_MODEL_REPO = Path(__file__).parents[2] / "model_repo"


def bundled_version(model: str) -> Path:
    """The folder of the newest version of a shipped model."""
    return max(
        (each for each in (_MODEL_REPO / model).iterdir() if each.is_dir()), key=lambda each: int(each.name)
    )
