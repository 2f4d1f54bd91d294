"""What a model takes and gives must be what its manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferserve_server.domain.errors import ModelRejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def signature_mismatch(why: str) -> ModelRejectedError:
    """The refusal of a model that is not what its manifest says."""
    return ModelRejectedError("SIGNATURE_MISMATCH", why)
