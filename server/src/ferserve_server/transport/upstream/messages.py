"""Batches as messages, and the answers to them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ServableId
from ferserve_server.domain.upstream import TierAnswer

if TYPE_CHECKING:
    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.servable import ModelSpec

_PRIORITIES: Final = {
    Priority.INTERACTIVE: emotion_pb2.PRIORITY_INTERACTIVE,
    Priority.BULK: emotion_pb2.PRIORITY_BULK,
}


def write_batch(crops: CropBatch, spec: ModelSpec, priority: Priority) -> emotion_pb2.ClassifyFacesRequest:
    """A batch of crops, uint8 [N, H, W, 1], as one request."""
    count, height, width = crops.shape[:3]
    return emotion_pb2.ClassifyFacesRequest(
        model=write_spec(spec),
        priority=_PRIORITIES[priority],
        packed=face_pb2.PackedFaces(pixels=crops.tobytes(), face_count=count, height=height, width=width),
    )


def write_spec(spec: ModelSpec) -> servable_pb2.ModelSpec:
    """Which model is wanted."""
    if spec.alias:
        return servable_pb2.ModelSpec(name=spec.name, version_label=spec.alias)
    return servable_pb2.ModelSpec(name=spec.name, version=spec.version)


def read_batch_answer(response: emotion_pb2.ClassifyFacesResponse) -> TierAnswer:
    """The scores of a batch; the rows of faces that the model failed on are NaN."""
    labels = tuple(response.labels)
    failed = [np.nan] * len(labels)
    rows = [
        result.prediction.scores if result.WhichOneof("outcome") == "prediction" else failed
        for result in response.results
    ]
    # From float32 to Python's numbers and back: exact.
    scores = np.array(rows, np.float32).reshape(len(rows), len(labels))
    return TierAnswer(scores, labels, ServableId(response.servable.name, response.servable.version))
