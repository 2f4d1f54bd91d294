"""Converts a ModelInferRequest to faces. Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ferserve_server.domain.errors import InvalidRequestError, UnsupportedError
from ferserve_server.interop import faces

if TYPE_CHECKING:
    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.servable import InputSpec
    from ferserve_server.interop.messages import Message
    from ferserve_server.services.limits import RequestLimits

_PIXELS: Final[dict[str, tuple[np.dtype[Any], str]]] = {
    "UINT8": (np.dtype(np.uint8), "uint_contents"),
    "FP32": (np.dtype("<f4"), "fp32_contents"),
}
_LENGTH: Final = struct.Struct("<I")


def parse_faces(
    request: Message, wanted: InputSpec, limits: RequestLimits, *, detect: bool = False
) -> CropBatch | list[bytes]:
    """Reads the one input of a request, raw or typed.

    Args:
        request: A ModelInferRequest.
        wanted: What the model takes.
        limits: Bounds of a request.
        detect: Whether faces are looked for, so that pictures must come and are counted as such.

    Returns:
        uint8 [N, H, W, 1], or N encoded crops; with `detect` N encoded pictures.

    Raises:
        InvalidRequestError: The tensor is not what it says, or not what the model takes.
        UnsupportedError: It lies in shared memory.
    """
    faces.one_input([each.name for each in request.inputs], wanted)
    (tensor,) = request.inputs
    if "shared_memory_region" in tensor.parameters:
        raise UnsupportedError("Shared memory is not offered. Send the tensor in the request.")
    raw = _raw_of(request)
    if raw is not None and tensor.HasField("contents"):
        raise InvalidRequestError(
            "INPUT_INVALID", "inputs: send raw_input_contents or contents, not both.", field="raw_input_contents"
        )
    if tensor.name == faces.IMAGES_INPUT:
        return _parse_images(tensor, raw, limits, detect=detect)
    if detect:
        raise InvalidRequestError(
            "INPUT_INVALID",
            f"parameters.detect: faces are looked for in {faces.IMAGES_INPUT!r} only, not in {tensor.name!r}.",
            field="parameters.detect",
        )
    return _parse_pixels(tensor, raw, wanted, limits)


def listed_count(request: Message) -> int:
    """Counts the numbers that the inputs of a request list, each of which takes time to read."""
    return sum(len(getattr(each.contents, name)) for each in request.inputs for _, name in _PIXELS.values())


def _raw_of(request: Message) -> bytes | None:
    parts = request.raw_input_contents
    if len(parts) > 1:
        raise InvalidRequestError(
            "INPUT_INVALID", f"raw_input_contents: {len(parts)} entries for one input.", field="raw_input_contents"
        )
    return parts[0] if parts else None


def _parse_pixels(tensor: Message, raw: bytes | None, wanted: InputSpec, limits: RequestLimits) -> CropBatch:
    field = tensor.name
    if tensor.datatype not in _PIXELS:
        raise faces.bad_type(field, tensor.datatype, " or ".join(_PIXELS))
    shape = list(tensor.shape)
    face_count = faces.check_face_shape(shape, wanted, field)
    limits.check_face_count(face_count, field)
    dtype, list_name = _PIXELS[tensor.datatype]
    if raw is not None:
        faces.check_length(shape, dtype.itemsize, len(raw), field)
        return faces.as_crops(np.frombuffer(raw, dtype), face_count, wanted, field)
    elements = getattr(tensor.contents, list_name)
    faces.check_length(shape, 1, len(elements), field)
    listed = faces.listed_numbers(elements, np.uint32 if dtype == np.uint8 else dtype)
    return faces.as_crops(listed, face_count, wanted, field)


def _parse_images(tensor: Message, raw: bytes | None, limits: RequestLimits, *, detect: bool) -> list[bytes]:
    field = tensor.name
    if tensor.datatype != "BYTES":
        raise faces.bad_type(field, tensor.datatype, "BYTES")
    shape = list(tensor.shape)
    image_count = faces.check_image_shape(shape, field)
    if detect:
        limits.check_image_count(image_count)
    else:
        limits.check_face_count(image_count, field)
    if raw is not None:
        return split_elements(raw, image_count, field)
    images = list(tensor.contents.bytes_contents)
    faces.check_length(shape, 1, len(images), field)
    return images


def split_elements(raw: bytes, count: int, field: str) -> list[bytes]:
    """Splits a BYTES tensor: each element follows its length, 4 bytes, little-endian.

    Raises:
        InvalidRequestError: TENSOR_LENGTH_MISMATCH: the lengths do not add up to `count` elements.
    """
    found: list[bytes] = []
    at = 0
    while at < len(raw) and len(found) < count:
        end = at + _LENGTH.size
        length = _LENGTH.unpack_from(raw, at)[0] if end <= len(raw) else len(raw)
        at = end + length
        if at > len(raw):
            break
        found.append(raw[end:at])
    if at != len(raw) or len(found) != count:
        raise InvalidRequestError(
            "TENSOR_LENGTH_MISMATCH",
            f"{field}: {len(raw)} bytes are not {count} elements, each behind its length of 4 bytes.",
            field=field,
            expected=count,
            actual=len(found),
        )
    return found


def join_elements(elements: list[bytes]) -> bytes:
    """Writes a BYTES tensor."""
    return b"".join(_LENGTH.pack(len(each)) + each for each in elements)
