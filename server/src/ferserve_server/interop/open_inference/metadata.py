"""Builds the protocol's metadata of models. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve_server.domain.servable import ServableState
from ferserve_server.interop import faces
from ferserve_server.interop.messages import message_class

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferserve_server.domain.servable import ModelDescription, ModelStatus, ServableId
    from ferserve_server.interop.messages import Message
    from ferserve_server.interop.statistics import Span, VersionCounts

EXTENSIONS: Final = (
    "classification",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
"""Triton's names of the supported extensions, in its order. Those supported in part are not named."""

_PLATFORM: Final = "tensorflow_savedmodel"
_STATES: Final = {
    ServableState.WAITING: "LOADING",
    ServableState.LOADING: "LOADING",
    ServableState.READY: "READY",
    ServableState.DRAINING: "UNLOADING",
    ServableState.UNLOADED: "UNAVAILABLE",
    ServableState.FAILED: "UNAVAILABLE",
}
_METADATA = message_class("inference.ModelMetadataResponse")
_CONFIG = message_class("inference.ModelConfigResponse")
_INDEX = message_class("inference.RepositoryIndexResponse")
_STATISTICS = message_class("inference.ModelStatisticsResponse")


def format_metadata(servable: ServableId, versions: Iterable[int], description: ModelDescription) -> Message:
    """Writes a ModelMetadataResponse.

    The input for encoded crops is left out on purpose: tools that fill every input there is would send both.
    """
    side = description.input
    response = _METADATA(
        name=servable.name, versions=[str(version) for version in sorted(versions)], platform=_PLATFORM
    )
    response.inputs.add(name=side.name, datatype="UINT8", shape=[-1, side.height, side.width, 1])
    response.outputs.add(name=faces.PROBABILITIES, datatype="FP32", shape=[-1, len(description.labels)])
    response.outputs.add(name=faces.LABELS, datatype="BYTES", shape=[-1])
    response.parameters["labels"].string_param = ",".join(description.labels)
    return response


def format_config(
    servable: ServableId, description: ModelDescription, bucket_sizes: Iterable[int], max_faces: int
) -> Message:
    """Writes a ModelConfigResponse."""
    side = description.input
    response = _CONFIG()
    config = response.config
    config.name, config.platform, config.backend = servable.name, _PLATFORM, "tensorflow"
    config.max_batch_size = min(max_faces, 2**31 - 1)
    config.input.add(
        name=side.name, data_type="TYPE_UINT8", format="FORMAT_NHWC", dims=[side.height, side.width, 1]
    )
    config.output.add(name=faces.PROBABILITIES, data_type="TYPE_FP32", dims=[len(description.labels)])
    config.output.add(name=faces.LABELS, data_type="TYPE_STRING")
    config.dynamic_batching.preferred_batch_size.extend(bucket_sizes)
    config.dynamic_batching.priority_levels = 2
    config.dynamic_batching.default_priority_level = 1
    config.model_transaction_policy.decoupled = False
    return response


def format_index(models: Iterable[ModelStatus], *, ready_only: bool) -> Message:
    """Writes a RepositoryIndexResponse: every version, or the ready ones."""
    response = _INDEX()
    for model in models:
        for version in model.versions:
            if ready_only and version.state is not ServableState.READY:
                continue
            reason = "" if version.state is not ServableState.UNLOADED else "unloaded"
            if version.failure is not None:
                reason = version.failure.message
            response.models.add(
                name=model.name, version=str(version.id.version), state=_STATES[version.state], reason=reason
            )
    return response


def format_statistics(all_counts: Iterable[tuple[ServableId, VersionCounts]]) -> Message:
    """Writes a ModelStatisticsResponse."""
    response = _STATISTICS()
    for servable, counts in all_counts:
        entry = response.model_stats.add(
            name=servable.name,
            version=str(servable.version),
            last_inference=round(counts.last_at_s * 1e3),
            inference_count=counts.face_count,
            execution_count=sum(span.count for span in counts.batches.values()),
        )
        stats = entry.inference_stats
        _write(stats.success, counts.success)
        _write(stats.fail, counts.fail)
        _write(stats.queue, counts.queue)
        _write(stats.compute_input, counts.input)
        _write(stats.compute_infer, counts.inference)
        _write(stats.compute_output, counts.output)
        for face_count, span in sorted(counts.batches.items()):
            batch = entry.batch_stats.add(batch_size=face_count)
            _write(batch.compute_infer, span)
            # Gathering rows and handing scores back is not timed by batch.
            batch.compute_input.count = batch.compute_output.count = span.count
    return response


def _write(message: Message, span: Span) -> None:
    message.count, message.ns = span.count, span.ns
