"""Converts between TensorProto and faces or scores. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.interop import faces
from ferserve_server.interop.messages import message_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.prediction import Classification
    from ferserve_server.domain.servable import InputSpec
    from ferserve_server.interop.messages import Message
    from ferserve_server.services.limits import RequestLimits

_TENSOR = message_class("tensorflow.TensorProto")

DT_FLOAT: Final = 1
DT_UINT8: Final = 4
DT_STRING: Final = 7
_PIXELS: Final[dict[int, tuple[np.dtype[Any], str, np.dtype[Any]]]] = {
    DT_UINT8: (np.dtype(np.uint8), "int_val", np.dtype(np.int32)),
    DT_FLOAT: (np.dtype("<f4"), "float_val", np.dtype("<f4")),
}


def parse_faces(request: Message, wanted: InputSpec, limits: RequestLimits) -> CropBatch | list[bytes]:
    """Reads the one input of a PredictRequest, from tensor_content or from its list.

    Returns:
        uint8 [N, H, W, 1], or N encoded crops.

    Raises:
        InvalidRequestError: The tensor is not what it says, or not what the model takes.
    """
    name = faces.one_input(list(request.inputs), wanted)
    tensor = request.inputs[name]
    if tensor.tensor_shape.unknown_rank:
        raise InvalidRequestError("TENSOR_SHAPE_INVALID", f"{name}: the tensor has no shape.", field=name)
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if name == faces.IMAGES_INPUT:
        if tensor.dtype != DT_STRING:
            raise faces.bad_type(name, tensor.dtype, f"DT_STRING ({DT_STRING})")
        image_count = faces.check_image_shape(shape, name)
        limits.check_face_count(image_count, name)
        images = list(tensor.string_val)
        faces.check_length(shape, 1, len(images), name)
        return images
    if tensor.dtype not in _PIXELS:
        raise faces.bad_type(name, tensor.dtype, f"DT_UINT8 ({DT_UINT8}) or DT_FLOAT ({DT_FLOAT})")
    face_count = faces.check_face_shape(shape, wanted, name)
    limits.check_face_count(face_count, name)
    return faces.as_crops(_elements(tensor, shape, name), face_count, wanted, name)


def _elements(tensor: Message, shape: Sequence[int], name: str) -> npt.NDArray[Any]:
    dtype, list_name, list_dtype = _PIXELS[tensor.dtype]
    content: bytes = tensor.tensor_content
    if content:
        faces.check_length(shape, dtype.itemsize, len(content), name)
        return np.frombuffer(content, dtype)
    # As TensorFlow reads it: of an int_val the low 8 bits. perf_analyzer leaves the other 24 as they happen to be.
    listed = faces.listed_numbers(getattr(tensor, list_name), list_dtype).astype(dtype, copy=False)
    missing = math.prod(shape) - len(listed)
    if len(listed) and missing > 0:
        # As TensorFlow reads it: a list that is too short goes on with its last element.
        return np.pad(listed, (0, missing), mode="edge")
    faces.check_length(shape, 1, len(listed), name)
    return listed


def listed_count(request: Message) -> int:
    """Counts the numbers that the inputs of a request list, each of which takes time to read."""
    return sum(len(getattr(each, name)) for each in request.inputs.values() for _, name, _ in _PIXELS.values())


def check_outputs(names: Sequence[str]) -> list[str]:
    """Reads the requested outputs; all of them if none is named.

    Raises:
        InvalidRequestError: OUTPUT_INVALID: there is no such output.
    """
    for name in names:
        if name not in {faces.PROBABILITIES, faces.LABELS}:
            raise faces.unknown_output(name)
    return list(names) or [faces.PROBABILITIES, faces.LABELS]


def format_output(name: str, found: Classification) -> Message:
    """Writes one output as a list of its type, the form that callers without TensorFlow read."""
    scores = found.faces.scores
    if name == faces.PROBABILITIES:
        tensor = _TENSOR(dtype=DT_FLOAT, float_val=scores.ravel().tolist())
        shape: tuple[int, ...] = scores.shape
    else:
        best = [found.labels[index].encode() for index in scores.argmax(axis=1).tolist()]
        tensor = _TENSOR(dtype=DT_STRING, string_val=best)
        shape = (len(best),)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor
