"""Builds a ModelInferResponse from scores. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.errors import InvalidRequestError, UnsupportedError
from ferserve_server.interop import faces
from ferserve_server.interop.messages import message_class
from ferserve_server.interop.open_inference.parameters import parse_count
from ferserve_server.interop.open_inference.tensors import join_elements
from ferserve_server.interop.pictures import PictureFaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.face import Scores
    from ferserve_server.domain.prediction import Classification
    from ferserve_server.interop.messages import Message

_RESPONSE = message_class("inference.ModelInferResponse")


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """Names a requested output; with `class_count` the best classes as text, instead of numbers."""

    name: str
    class_count: int = 0


def parse_outputs(request: Message, known: Sequence[str] = faces.OUTPUTS) -> list[WantedOutput]:
    """Reads the requested outputs and their order; all known ones if none is named.

    Raises:
        InvalidRequestError: There is no such output, or it cannot be written as classes.
        UnsupportedError: It is to be put into shared memory.
    """
    wanted = []
    for output in request.outputs:
        if output.name not in known:
            raise faces.unknown_output(output.name, known)
        if "shared_memory_region" in output.parameters:
            raise UnsupportedError("Shared memory is not offered. Outputs come in the answer.")
        class_count = parse_count(output.parameters, "classification")
        if class_count and output.name != faces.PROBABILITIES:
            raise InvalidRequestError(
                "OUTPUT_INVALID",
                f"outputs: only {faces.PROBABILITIES!r} can be asked for with 'classification'.",
                field="outputs",
            )
        wanted.append(WantedOutput(output.name, class_count))
    return wanted or [WantedOutput(name) for name in known]


def format_response(request_id: str, wanted: list[WantedOutput], found: Classification) -> Message:
    """Writes the answer: for every output, in the order asked for, one entry of raw bytes.

    Never as typed contents: Triton's C++ client looks for the raw entry of every output.
    """
    scores, labels = found.faces.scores, found.labels
    response = _RESPONSE(model_name=found.servable.name, model_version=str(found.servable.version), id=request_id)
    for output in wanted:
        if output.class_count:
            count = min(output.class_count, len(labels))
            response.outputs.add(name=output.name, datatype="BYTES", shape=[len(scores), count])
            response.raw_output_contents.append(join_elements(best_classes(scores, labels, count)))
        elif output.name == faces.PROBABILITIES:
            response.outputs.add(name=output.name, datatype="FP32", shape=scores.shape)
            response.raw_output_contents.append(scores.astype("<f4", copy=False).tobytes())
        elif output.name in {faces.FACE_COUNT, faces.BOXES} and isinstance(found, PictureFaces):
            rows = found.boxes if output.name == faces.BOXES else found.face_counts
            response.outputs.add(name=output.name, datatype="INT32", shape=rows.shape)
            response.raw_output_contents.append(rows.astype("<i4", copy=False).tobytes())
        else:
            response.outputs.add(name=output.name, datatype="BYTES", shape=[len(scores)])
            best = [labels[index].encode() for index in scores.argmax(axis=1).tolist()]
            response.raw_output_contents.append(join_elements(best))
    return response


def best_classes(scores: Scores, labels: tuple[str, ...], count: int) -> list[bytes]:
    """Lists the `count` most probable classes of each row, best first, as "<probability>:<index>:<label>".

    Args:
        scores: float32 [N, K].
        labels: K names.
        count: 1 to K.

    Returns:
        N times `count` texts, row after row. Equal scores stand in the order of the labels.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [
        f"{row[index]:f}:{index}:{labels[index]}".encode()
        for row, best in zip(scores.tolist(), order.tolist(), strict=True)
        for index in best
    ]
