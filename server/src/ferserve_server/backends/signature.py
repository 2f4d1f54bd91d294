"""What a model takes and gives must be what its manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.errors import ModelRejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ferserve_server.domain.face import Scores
    from ferserve_server.domain.servable import ModelDescription


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor that a model takes or gives.

    Attributes:
        dtype: By numpy's name.
        sides: Its shape, -1 for any side; () if their number is open.
    """

    dtype: str
    sides: tuple[int, ...]


def check_signature(
    inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec], description: ModelDescription
) -> None:
    """Refuses a model whose inputs and outputs, by name, are not what its manifest says.

    Raises:
        ModelRejectedError: SIGNATURE_MISMATCH.
    """
    wanted = description.input
    if list(inputs) != [wanted.name]:
        raise signature_mismatch(f"The inputs are {sorted(inputs)}, not [{wanted.name!r}].")
    taken = inputs[wanted.name]
    if taken != TensorSpec("uint8", (-1, wanted.height, wanted.width, 1)):
        raise signature_mismatch(f"The input is {taken.dtype} {list(taken.sides)}, not uint8 [N, H, W, 1].")
    if description.output not in outputs:
        raise signature_mismatch(f"There is no output {description.output!r}.")
    sides = outputs[description.output].sides
    if not sides or sides[-1] != len(description.labels):
        raise signature_mismatch(f"{description.output} is {list(sides)}, not one score per label.")
    _check_not_a_face(outputs, description.not_a_face_output)


def _check_not_a_face(outputs: Mapping[str, TensorSpec], name: str) -> None:
    """Checks the output that says what is no face: float32 [N] or [N, 1].

    Raises:
        ModelRejectedError: SIGNATURE_MISMATCH.
    """
    if not name:
        return
    if name not in outputs:
        raise signature_mismatch(f"There is no output {name!r}, for which the manifest states a threshold.")
    found = outputs[name]
    if found.dtype != "float32" or found.sides[1:] not in {(), (1,)}:
        raise signature_mismatch(f"{name} is {found.dtype} {list(found.sides)}, not float32 [N].")


def output_names_of(description: ModelDescription) -> list[str]:
    """Lists the outputs that a session computes: the probabilities, then that of no face where it is used."""
    return [description.output, *([description.not_a_face_output] if description.not_a_face_output else [])]


def join_outputs(outputs: Sequence[npt.NDArray[np.float32]]) -> Scores:
    """Puts the outputs of one batch side by side, float32 [N, K] and [N] or [N, 1]: a copy if there are two."""
    scores: Scores = outputs[0]
    if len(outputs) == 1:
        return scores
    joined = np.empty((len(scores), scores.shape[1] + 1), np.float32)
    joined[:, :-1] = scores
    joined[:, -1] = outputs[1].reshape(-1)
    return joined


def signature_mismatch(why: str) -> ModelRejectedError:
    """The refusal of a model that is not what its manifest says."""
    return ModelRejectedError("SIGNATURE_MISMATCH", why)
