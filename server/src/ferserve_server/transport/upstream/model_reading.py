"""Models out of messages of ModelService; the other way round: `transport.model_messages`. Pure.

How a canary does is not read: the tier judges it, and tells whoever asks there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.domain.servable import (
    GateComparison,
    GateFigures,
    InputSpec,
    ModelDescription,
    ModelStatus,
    Precision,
    ServableId,
    ServableState,
    Tuning,
    VersionStatus,
)
from ferserve_server.transport.upstream.refusals import read_failure

if TYPE_CHECKING:
    from ferserve_server.domain.errors import FerserveError

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
    """A model as it stands where it runs. States of a newer server count as not ready."""
    return ModelStatus(
        name=model.name,
        default=model.default,
        versions=tuple(_read_version(model.name, version) for version in model.versions),
        policy=model.version_policy,
        aliases=dict(sorted(model.aliases.items())),
        serving_version=model.serving_version or None,
    )


def _read_version(name: str, message: model_pb2.ModelVersion) -> VersionStatus:
    failure: FerserveError | None = read_failure(message.failure) if message.HasField("failure") else None
    return VersionStatus(
        id=ServableId(name, message.version),
        state=_STATES.get(message.state, ServableState.LOADING),
        description=_read_description(message),
        failure=failure,
        gate=_read_gate(message.gate) if message.HasField("gate") else None,
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
    )


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


def _read_gate(gate: model_pb2.GateFigures) -> GateFigures:
    if not gate.HasField("comparison"):
        return GateFigures(gate.golden_difference)
    told = gate.comparison
    comparison = GateComparison(
        version=told.version,
        agreement=told.agreement if told.HasField("agreement") else None,
        largest_difference=told.largest_difference if told.HasField("largest_difference") else None,
        latency_s={
            each.bucket_size: (each.latency_ms / 1e3, each.in_force_latency_ms / 1e3) for each in told.latencies
        },
    )
    return GateFigures(gate.golden_difference, comparison)
