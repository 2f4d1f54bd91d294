"""Models as messages of ModelService. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.domain.canary import CanaryMode, CanaryResult
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import Precision, ServableState
from ferserve_server.transport import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ferserve_server.domain.canary import CanaryReport, VersionFigures
    from ferserve_server.domain.servable import GateFigures, ModelStatus, VersionStatus

_STATES: Final = {
    ServableState.WAITING: model_pb2.SERVABLE_STATE_WAITING,
    ServableState.LOADING: model_pb2.SERVABLE_STATE_LOADING,
    ServableState.READY: model_pb2.SERVABLE_STATE_READY,
    ServableState.DRAINING: model_pb2.SERVABLE_STATE_DRAINING,
    ServableState.UNLOADED: model_pb2.SERVABLE_STATE_UNLOADED,
    ServableState.FAILED: model_pb2.SERVABLE_STATE_FAILED,
}

_PRECISIONS: Final = {
    Precision.FLOAT32: model_pb2.PRECISION_FLOAT32,
    Precision.BFLOAT16: model_pb2.PRECISION_BFLOAT16,
    Precision.INT8: model_pb2.PRECISION_INT8,
}

_MODES: Final = {
    CanaryMode.SPLIT: model_pb2.CANARY_MODE_SPLIT,
    CanaryMode.SHADOW: model_pb2.CANARY_MODE_SHADOW,
}

_RESULTS: Final = {
    CanaryResult.WAIT: model_pb2.CANARY_RESULT_WAIT,
    CanaryResult.PROMOTE: model_pb2.CANARY_RESULT_PROMOTE,
    CanaryResult.ROLL_BACK: model_pb2.CANARY_RESULT_ROLL_BACK,
}


def format_model(model: ModelStatus) -> model_pb2.Model:
    """Writes a model as it stands."""
    return model_pb2.Model(
        name=model.name,
        default=model.default,
        versions=[_format_version(each, model.aliases) for each in model.versions],
        version_policy=model.policy,
        aliases=model.aliases,
        serving_version=model.serving_version or 0,
        canary=None if model.canary is None else _format_canary(model.canary),
        skipped_folders=[
            model_pb2.SkippedFolder(
                folder=each.folder,
                failure=wire.format_failure(ModelRejectedError(each.reason, each.message)),
            )
            for each in model.skipped
        ],
    )


def _format_version(status: VersionStatus, aliases: Mapping[str, int]) -> model_pb2.ModelVersion:
    message = model_pb2.ModelVersion(
        version=status.id.version,
        state=_STATES[status.state],
        bucket_sizes=status.bucket_sizes,
        aliases=sorted(alias for alias, version in aliases.items() if version == status.id.version),
        gate=None if status.gate is None else _format_gate(status.gate),
    )
    if status.failure is not None:
        message.failure.CopyFrom(wire.format_failure(status.failure))
    if status.tuning is not None:
        message.precision = _PRECISIONS[status.tuning.precision]
        if status.tuning.bfloat16_speedup is not None:
            message.bfloat16_speedup = status.tuning.bfloat16_speedup
        message.latency_ms.update({size: each_s * 1e3 for size, each_s in status.tuning.latency_s.items()})
    if status.description is not None:
        message.labels.extend(status.description.labels)
        message.input_height = status.description.input.height
        message.input_width = status.description.input.width
        message.mac_count = status.description.mac_count
        message.parameter_count = status.description.parameter_count
        message.metrics.update(status.description.metrics)
    return message


def _format_gate(gate: GateFigures) -> model_pb2.GateFigures:
    message = model_pb2.GateFigures(golden_difference=gate.golden_difference)
    if gate.comparison is not None:
        message.comparison.CopyFrom(
            model_pb2.GateComparison(
                version=gate.comparison.version,
                agreement=gate.comparison.agreement,
                largest_difference=gate.comparison.largest_difference,
                latencies=[
                    model_pb2.BucketLatency(
                        bucket_size=size, latency_ms=mine_s * 1e3, in_force_latency_ms=theirs_s * 1e3
                    )
                    for size, (mine_s, theirs_s) in sorted(gate.comparison.latency_s.items())
                ],
            )
        )
    return message


def _format_canary(report: CanaryReport) -> model_pb2.Canary:
    shadow = report.shadow
    verdict = report.verdict
    return model_pb2.Canary(
        version=report.version,
        stable_version=report.stable_version,
        mode=_MODES[report.mode],
        share=report.share,
        elapsed_seconds=report.elapsed_s,
        figures=_format_figures(report.canary),
        stable_figures=_format_figures(report.stable),
        shadow=None
        if shadow is None
        else model_pb2.ShadowFigures(
            face_count=shadow.face_count,
            agreed_count=shadow.agreed_count,
            largest_difference=shadow.largest_difference,
            mean_difference=shadow.mean_difference,
            dropped_count=shadow.dropped_count,
        ),
        verdict=model_pb2.CanaryVerdict(result=_RESULTS[verdict.result], reason=verdict.reason, text=verdict.text),
    )


def _format_figures(figures: VersionFigures) -> model_pb2.TrialFigures:
    return model_pb2.TrialFigures(
        request_count=figures.request_count,
        failed_count=figures.failed_count,
        mean_confidence=figures.confidence.mean if figures.confidence.count else None,
        latencies=[
            model_pb2.TrialLatency(
                bucket_size=size, batch_count=times.count, latency_ms=math.exp(times.mean) * 1e3
            )
            for size, times in figures.log_batch_s.items()
        ],
    )
