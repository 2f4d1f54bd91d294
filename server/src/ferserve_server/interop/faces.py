"""Converts tensors to faces, for every interface. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.domain.names import is_alias
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.services.codec.messages import parse_model_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.servable import InputSpec

IMAGES_INPUT: Final = "images"
"""Name of the input that takes encoded crops instead of pixels."""

PROBABILITIES: Final = "probabilities"
LABELS: Final = "labels"
FACE_COUNT: Final = "face_count"
"""Output with the number of rows of each picture, where faces are detected."""

BOXES: Final = "boxes"
"""Output with the boxes of the faces, where faces are detected."""

MANY_NUMBERS: Final = 64 * 1024
"""Length from which a list of numbers is read on a thread: as many take 3 ms."""

_PIECE: Final = 16 * 1024

OUTPUTS: Final = (PROBABILITIES, LABELS)
PICTURE_OUTPUTS: Final = (*OUTPUTS, FACE_COUNT, BOXES)


def parse_spec(name: str, version: str) -> ModelSpec:
    """Reads the requested model; "" is the default model, or the version that it serves.

    A version that is no number is an alias.

    Raises:
        InvalidRequestError: MODEL_NAME_INVALID or OPTION_OUT_OF_RANGE.
    """
    parsed = parse_model_name(name, "model_name")
    if not version:
        return ModelSpec(parsed)
    if is_alias(version):
        return ModelSpec(parsed, alias=version)
    # isdecimal() also takes digits of other scripts; 18 of them fit an int64.
    if not (version.isascii() and version.isdecimal() and len(version) <= 18 and int(version) >= 1):
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            f"model_version: {version[:40]!r} is not allowed; use a number from 1, an alias, or none.",
            field="model_version",
        )
    return ModelSpec(parsed, int(version))


def check_face_shape(shape: Sequence[int], wanted: InputSpec, field: str) -> int:
    """Checks a shape against [N, height, width, 1]; the last dimension may be left out.

    Returns:
        N, 0 or more. Whether N is allowed is for the limits to say.

    Raises:
        InvalidRequestError: TENSOR_SHAPE_INVALID.
    """
    sides = (wanted.height, wanted.width)
    if not shape or shape[0] < 0 or tuple(shape[1:]) not in {sides, (*sides, 1)}:
        raise bad_shape(field, shape, f"[N, {wanted.height}, {wanted.width}, 1]")
    return shape[0]


def check_image_shape(shape: Sequence[int], field: str) -> int:
    """Checks a shape against [N] or [N, 1], and returns N, 0 or more.

    Raises:
        InvalidRequestError: TENSOR_SHAPE_INVALID.
    """
    if not shape or shape[0] < 0 or tuple(shape[1:]) not in {(), (1,)}:
        raise bad_shape(field, shape, "[N]")
    return shape[0]


def check_length(shape: Sequence[int], element_bytes: int, actual: int, field: str) -> None:
    """Checks the length of a tensor's bytes, or of its list, against its shape.

    Raises:
        InvalidRequestError: TENSOR_LENGTH_MISMATCH.
    """
    expected = math.prod(shape) * element_bytes  # Python's integers do not overflow
    if actual != expected:
        raise InvalidRequestError(
            "TENSOR_LENGTH_MISMATCH",
            f"{field}: shape {_brief(shape)} takes a length of {expected}, got {actual}.",
            field=field,
            expected=expected,
            actual=actual,
        )


def listed_numbers(listed: Sequence[float], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Converts a repeated field of a message to an array, in pieces that hold the interpreter for 1 ms at most."""
    if len(listed) <= _PIECE:
        return np.array(listed, dtype)
    return np.concatenate([np.array(listed[at : at + _PIECE], dtype) for at in range(0, len(listed), _PIECE)])


def as_crops(elements: npt.NDArray[Any], face_count: int, wanted: InputSpec, field: str) -> CropBatch:
    """Converts a tensor's elements to crops, copying only elements that are not uint8.

    Args:
        elements: As many as the shape holds, of any numeric type, whose values are grey levels.
        face_count: Number of faces.
        wanted: What the model takes.
        field: What to call the tensor.

    Returns:
        uint8 [N, H, W, 1].

    Raises:
        InvalidRequestError: GREY_LEVEL_INVALID: a value outside 0-255, or a tensor scaled to 0-1.
    """
    if elements.dtype != np.uint8:
        low, high = (float(elements.min()), float(elements.max())) if elements.size else (0.0, 0.0)
        check_grey_levels(low, high, field)
        if elements.dtype.kind == "f":
            rounded = np.rint(elements)
            if 0.0 < high <= 1.0 and not np.array_equal(rounded, elements):
                raise _bad_grey(field, "values scaled to 0-1")
            elements = rounded
        elements = elements.astype(np.uint8)
    return elements.reshape(face_count, wanted.height, wanted.width, 1)


def bad_shape(field: str, shape: Sequence[int], allowed: str) -> InvalidRequestError:
    """Makes the error of an unsupported shape."""
    return InvalidRequestError(
        "TENSOR_SHAPE_INVALID", f"{field}: shape {_brief(shape)} is not taken; use {allowed}.", field=field
    )


def bad_type(field: str, datatype: object, allowed: str) -> InvalidRequestError:
    """Makes the error of an unsupported datatype."""
    return InvalidRequestError(
        "TENSOR_TYPE_INVALID",
        f"{field}: datatype {str(datatype)[:40]} is not taken; use {allowed}.",
        field=field,
    )


def one_input(names: Sequence[str], wanted: InputSpec) -> str:
    """Returns the name of the only input of a request.

    Raises:
        InvalidRequestError: INPUT_INVALID: none, several, or one of another name.
    """
    if len(names) != 1 or names[0] not in {wanted.name, IMAGES_INPUT}:
        given = ", ".join(repr(name[:40]) for name in names[:5]) or "none"
        raise InvalidRequestError(
            "INPUT_INVALID",
            f"inputs: send one, {wanted.name!r} (pixels) or {IMAGES_INPUT!r} (encoded crops); got {given}.",
            field="inputs",
        )
    return names[0]


def unknown_output(name: str, known: Sequence[str] = OUTPUTS) -> InvalidRequestError:
    """Makes the error of an unknown output; `known` are the existing ones."""
    if name in PICTURE_OUTPUTS:
        return InvalidRequestError(
            "OUTPUT_INVALID",
            f"outputs: {name!r} is there for {IMAGES_INPUT!r} with the parameter 'detect' only.",
            field="outputs",
        )
    allowed = " or ".join(repr(each) for each in known)
    return InvalidRequestError(
        "OUTPUT_INVALID", f"outputs: there is no {name[:40]!r}; use {allowed}.", field="outputs"
    )


def check_grey_levels(low: float, high: float, field: str) -> None:
    """Rejects pixels outside 0 to 255.

    Args:
        low: Smallest value.
        high: Largest value.
        field: Name of the tensor.

    Raises:
        InvalidRequestError: GREY_LEVEL_INVALID.
    """
    if not (low >= 0.0 and high <= 255.0):  # NaN is neither
        raise _bad_grey(field, f"values from {low:g} to {high:g}")


def _bad_grey(field: str, what: str) -> InvalidRequestError:
    return InvalidRequestError(
        "GREY_LEVEL_INVALID",
        f"{field}: holds {what}; send grey levels from 0 to 255, black to white.",
        field=field,
    )


def _brief(shape: Sequence[int]) -> str:
    shown = ", ".join(str(side) for side in shape[:6])
    return f"[{shown}{', ...' if len(shape) > 6 else ''}]"
