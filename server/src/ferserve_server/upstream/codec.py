"""Encodes batches and decodes models and responses of upstream servers. Pure.

`services.models` does the opposite for models. Canary figures are not decoded: the tier judges canaries, and
reports them itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypedDict

import numpy as np

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import (
    InputSpec,
    ModelDescription,
    ModelStatus,
    Precision,
    ServableId,
    ServableState,
    SkippedFolder,
    Tuning,
    ValidationComparison,
    ValidationFigures,
    VersionStatus,
)
from ferserve_server.domain.upstream import TierAnswer
from ferserve_server.upstream.status import read_failure

if TYPE_CHECKING:
    from ferserve_server.domain.errors import FerserveError
    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.servable import ModelSpec


_PRIORITIES: Final = {
    Priority.INTERACTIVE: emotion_pb2.PRIORITY_INTERACTIVE,
    Priority.BULK: emotion_pb2.PRIORITY_BULK,
}


def write_batch(crops: CropBatch, spec: ModelSpec, priority: Priority) -> emotion_pb2.ClassifyFacesRequest:
    """Encodes a batch of crops, uint8 [N, H, W, 1], as one request."""
    count, height, width = crops.shape[:3]
    return emotion_pb2.ClassifyFacesRequest(
        model=write_spec(spec),
        priority=_PRIORITIES[priority],
        packed=face_pb2.PackedFaces(pixels=crops.tobytes(), face_count=count, height=height, width=width),
    )


def write_spec(spec: ModelSpec) -> servable_pb2.ModelSpec:
    """Encodes a model spec."""
    if spec.alias:
        return servable_pb2.ModelSpec(name=spec.name, version_label=spec.alias)
    return servable_pb2.ModelSpec(name=spec.name, version=spec.version)


def read_batch_answer(response: emotion_pb2.ClassifyFacesResponse) -> TierAnswer:
    """Decodes the scores of a batch, float32 [N, K], or [N, K + 1] with the probability that a crop shows no face.

    The scores of faces that the model failed on are NaN.
    """
    labels = tuple(response.labels)
    failed = [np.nan] * len(labels)
    rows = [
        result.prediction.scores if result.WhichOneof("outcome") == "prediction" else failed
        for result in response.results
    ]
    # From float32 to Python's numbers and back: exact.
    scores = np.array(rows, np.float32).reshape(len(rows), len(labels))
    if len(response.not_a_face_scores) == len(rows):
        scores = np.column_stack([scores, np.array(response.not_a_face_scores, np.float32)])
    return TierAnswer(scores, labels, ServableId(response.servable.name, response.servable.version))


_STATES: Final = {
    model_pb2.SERVABLE_STATE_WAITING: ServableState.WAITING,
    model_pb2.SERVABLE_STATE_LOADING: ServableState.LOADING,
    model_pb2.SERVABLE_STATE_READY: ServableState.READY,
    model_pb2.SERVABLE_STATE_DRAINING: ServableState.DRAINING,
    model_pb2.SERVABLE_STATE_UNLOADED: ServableState.UNLOADED,
    model_pb2.SERVABLE_STATE_FAILED: ServableState.FAILED,
}

_PRECISIONS: Final = {
    model_pb2.PRECISION_FLOAT32: Precision.FLOAT32,
    model_pb2.PRECISION_BFLOAT16: Precision.BFLOAT16,
    model_pb2.PRECISION_INT8: Precision.INT8,
}


def read_model(model: model_pb2.Model) -> ModelStatus:
    """Decodes a model. Unknown states of a newer server count as not ready."""
    return ModelStatus(
        name=model.name,
        default=model.default,
        versions=tuple(_read_version(model.name, version) for version in model.versions),
        policy=model.version_policy,
        aliases=dict(sorted(model.aliases.items())),
        serving_version=model.serving_version or None,
        skipped=tuple(_read_skipped_folder(model.name, each) for each in model.skipped_folders),
    )


def _read_skipped_folder(model: str, message: model_pb2.SkippedFolder) -> SkippedFolder:
    return SkippedFolder(model, message.folder, message.failure.reason, message.failure.message)


def _read_version(name: str, message: model_pb2.ModelVersion) -> VersionStatus:
    failure: FerserveError | None = read_failure(message.failure) if message.HasField("failure") else None
    return VersionStatus(
        id=ServableId(name, message.version),
        state=_STATES.get(message.state, ServableState.LOADING),
        description=_read_description(message),
        failure=failure,
        validation=_read_validation(message.validation) if message.HasField("validation") else None,
        tuning=_read_tuning(message),
    )


def _read_description(message: model_pb2.ModelVersion) -> ModelDescription | None:
    if not message.labels:
        return None
    return ModelDescription(
        labels=tuple(message.labels),
        input=InputSpec("faces", message.input_height, message.input_width),
        mac_count=message.mac_count,
        parameter_count=message.parameter_count,
        metrics=dict(message.metrics),
        **_read_thresholds(message),
    )


class _Thresholds(TypedDict, total=False):
    uncertain_threshold: float
    not_a_face_output: str
    not_a_face_threshold: float


def _read_thresholds(message: model_pb2.ModelVersion) -> _Thresholds:
    """Decodes a version's thresholds; a server that does not report them has the defaults."""
    thresholds = _Thresholds()
    if message.HasField("uncertain_threshold"):
        thresholds["uncertain_threshold"] = message.uncertain_threshold
    if message.HasField("not_a_face_threshold"):
        # Only whether there is one counts here: the tier chooses the output of its model.
        thresholds["not_a_face_output"] = "not_a_face"
        thresholds["not_a_face_threshold"] = message.not_a_face_threshold
    return thresholds


def _read_tuning(message: model_pb2.ModelVersion) -> Tuning | None:
    precision = _PRECISIONS.get(message.precision)
    if precision is None:
        return None
    return Tuning(
        precision=precision,
        bucket_sizes=tuple(message.bucket_sizes),
        bfloat16_speedup=message.bfloat16_speedup if message.HasField("bfloat16_speedup") else None,
        latency_s={size: each_ms / 1e3 for size, each_ms in message.latency_ms.items()},
    )


def _read_validation(validation: model_pb2.ValidationFigures) -> ValidationFigures:
    if not validation.HasField("comparison"):
        return ValidationFigures(validation.golden_difference)
    figures = validation.comparison
    comparison = ValidationComparison(
        version=figures.version,
        agreement=figures.agreement if figures.HasField("agreement") else None,
        largest_difference=figures.largest_difference if figures.HasField("largest_difference") else None,
        latency_s={
            each.bucket_size: (each.latency_ms / 1e3, each.active_latency_ms / 1e3) for each in figures.latencies
        },
    )
    return ValidationFigures(validation.golden_difference, comparison)
