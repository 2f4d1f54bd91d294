"""ModelService: what models there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.domain.servable import Precision, ServableState
from ferserve_server.transport import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ferserve_server.domain.servable import GateFigures, ModelStatus, VersionStatus
    from ferserve_server.transport.calls import Calls, Context

_DEFAULT_PAGE_SIZE: Final = 100
_MAX_PAGE_SIZE: Final = 1000

_STATES: Final = {
    ServableState.LOADING: model_pb2.SERVABLE_STATE_LOADING,
    ServableState.READY: model_pb2.SERVABLE_STATE_READY,
    ServableState.DRAINING: model_pb2.SERVABLE_STATE_DRAINING,
    ServableState.UNLOADED: model_pb2.SERVABLE_STATE_UNLOADED,
    ServableState.FAILED: model_pb2.SERVABLE_STATE_FAILED,
}


_PRECISIONS: Final = {
    Precision.FLOAT32: model_pb2.PRECISION_FLOAT32,
    Precision.BFLOAT16: model_pb2.PRECISION_BFLOAT16,
}


class ModelServicer:
    """Implements `ferserve.v1.ModelService`. Event loop only."""

    def __init__(
        self,
        calls: Calls,
        models: Callable[[], tuple[ModelStatus, ...]],
        model: Callable[[str], ModelStatus],
    ) -> None:
        self._models = models
        self._model = model
        self.GetModel = calls.unary("GetModel", self._get_model)
        self.ListModels = calls.unary("ListModels", self._list_models)

    async def _get_model(self, request: model_pb2.GetModelRequest, context: Context) -> model_pb2.GetModelResponse:
        del context
        return model_pb2.GetModelResponse(
            model=_format_model(self._model(wire.parse_model_name(request.name, "name")))
        )

    async def _list_models(
        self, request: model_pb2.ListModelsRequest, context: Context
    ) -> model_pb2.ListModelsResponse:
        del context
        if not 0 <= request.page_size <= _MAX_PAGE_SIZE:
            raise InvalidRequestError(
                "OPTION_OUT_OF_RANGE",
                f"page_size: {request.page_size} is not allowed; use 0 to {_MAX_PAGE_SIZE}.",
                field="page_size",
                value=request.page_size,
            )
        # The token is the last name of the page before, so a model that comes or goes shifts no page.
        rest = [model for model in self._models() if model.name > request.page_token]
        page = rest[: request.page_size or _DEFAULT_PAGE_SIZE]
        return model_pb2.ListModelsResponse(
            models=[_format_model(model) for model in page],
            next_page_token=page[-1].name if len(page) < len(rest) else "",
        )


def _format_model(model: ModelStatus) -> model_pb2.Model:
    return model_pb2.Model(
        name=model.name,
        default=model.default,
        versions=[_format_version(each, model.aliases) for each in model.versions],
        version_policy=model.policy,
        aliases=model.aliases,
        serving_version=model.serving_version or 0,
    )


def _format_version(status: VersionStatus, aliases: Mapping[str, int]) -> model_pb2.ModelVersion:
    message = model_pb2.ModelVersion(
        version=status.id.version,
        state=_STATES[status.state],
        bucket_sizes=status.bucket_sizes,
        aliases=[alias for alias, version in aliases.items() if version == status.id.version],
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
