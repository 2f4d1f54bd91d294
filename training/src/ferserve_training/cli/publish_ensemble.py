"""`ferserve-train publish-ensemble`."""

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from ferserve_training.errors import TrainingError
from ferserve_training.export.ensemble import publish_ensemble as publish


def publish_ensemble(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Model to publish the next version of.")],
    members: Annotated[
        list[str], typer.Argument(metavar="MODEL/VERSION...", help="Two or more versions to average.")
    ],
    model_repo: Annotated[Path, typer.Option(metavar="DIR", help="Root of the model repository.")],
) -> None:
    """Publish a version that the server answers for with the mean of other versions in the repository."""
    version = publish(name, members, model_repo, _score)
    Console(soft_wrap=True).print(f"published {version}")


def _score(folder: Path, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    # TensorFlow takes seconds to import; members that share their golden faces need not wait for it.
    from ferserve_training.export.saved_model import run_saved_model  # noqa: PLC0415

    try:
        return run_saved_model(folder, faces)[0]
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise TrainingError(f"{folder}: cannot be asked for its probabilities ({error})") from error
