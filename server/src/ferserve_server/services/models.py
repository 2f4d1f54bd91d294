"""Implements ModelService: lists the models and their active versions, as messages."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

from google.protobuf import message_factory

from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.domain.canary import CanaryMode, CanaryResult
from ferserve_server.domain.errors import InvalidRequestError, ModelRejectedError
from ferserve_server.domain.servable import Precision, ServableState
from ferserve_server.services.callers import requester_of_context
from ferserve_server.services.codec import messages
from ferserve_server.services.health import MODEL_SERVICE
from ferserve_server.services.reading import service_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import grpc

    from ferserve_server.domain.canary import CanaryReport, VersionStatistics
    from ferserve_server.domain.servable import ModelStatus, ValidationFigures, VersionStatus
    from ferserve_server.services.calls import Calls, Context
    from ferserve_server.services.control import ModelControl


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
    """Writes the status of a model."""
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
                failure=messages.format_failure(ModelRejectedError(each.reason, each.message)),
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
        validation=None if status.validation is None else _format_validation(status.validation),
    )
    if status.failure is not None:
        message.failure.CopyFrom(messages.format_failure(status.failure))
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
        message.uncertain_threshold = status.description.uncertain_threshold
        if status.description.not_a_face_output:
            message.not_a_face_threshold = status.description.not_a_face_threshold
    return message


def _format_validation(validation: ValidationFigures) -> model_pb2.ValidationFigures:
    message = model_pb2.ValidationFigures(golden_difference=validation.golden_difference)
    if validation.comparison is not None:
        message.comparison.CopyFrom(
            model_pb2.ValidationComparison(
                version=validation.comparison.version,
                agreement=validation.comparison.agreement,
                largest_difference=validation.comparison.largest_difference,
                latencies=[
                    model_pb2.BucketLatency(
                        bucket_size=size, latency_ms=mine_s * 1e3, active_latency_ms=theirs_s * 1e3
                    )
                    for size, (mine_s, theirs_s) in sorted(validation.comparison.latency_s.items())
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
        else model_pb2.ShadowStatistics(
            face_count=shadow.face_count,
            agreed_count=shadow.agreed_count,
            largest_difference=shadow.largest_difference,
            mean_difference=shadow.mean_difference,
            dropped_count=shadow.dropped_count,
        ),
        verdict=model_pb2.CanaryVerdict(result=_RESULTS[verdict.result], reason=verdict.reason, text=verdict.text),
    )


def _format_figures(figures: VersionStatistics) -> model_pb2.VersionStatistics:
    return model_pb2.VersionStatistics(
        request_count=figures.request_count,
        failed_count=figures.failed_count,
        mean_confidence=figures.confidence.mean if figures.confidence.count else None,
        latencies=[
            model_pb2.LatencyStatistics(
                bucket_size=size, batch_count=times.count, latency_ms=math.exp(times.mean) * 1e3
            )
            for size, times in figures.log_batch_s.items()
        ],
    )


_DEFAULT_PAGE_SIZE: Final = 100
_MAX_PAGE_SIZE: Final = 1000


class ModelServicer:
    """Implements `ferserve.v1.ModelService`. Event loop only."""

    def __init__(
        self,
        calls: Calls,
        models: Callable[[], tuple[ModelStatus, ...]],
        model: Callable[[str], ModelStatus],
        control: ModelControl,
    ) -> None:
        self._control = control
        self._models = models
        self._model = model
        unary = partial(calls.unary, service=MODEL_SERVICE)
        self.GetModel = unary("GetModel", self._get_model)
        self.ListModels = unary("ListModels", self._list_models)
        self.LoadVersion = unary("LoadVersion", self._load_version)
        self.UnloadVersion = unary("UnloadVersion", self._unload_version)
        self.SetAlias = unary("SetAlias", self._set_alias)
        self.DeleteAlias = unary("DeleteAlias", self._delete_alias)
        self.PromoteVersion = unary("PromoteVersion", self._promote_version)
        self.RollBack = unary("RollBack", self._roll_back)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns its RPCs for a gRPC server."""
        service = model_pb2.DESCRIPTOR.services_by_name["ModelService"]
        handlers = {name: getattr(self, name) for name in service.methods_by_name}
        return service_handler(service, handlers, message_factory.GetMessageClass)

    async def _get_model(self, request: model_pb2.GetModelRequest, context: Context) -> model_pb2.GetModelResponse:
        del context
        return model_pb2.GetModelResponse(
            model=format_model(self._model(messages.parse_model_name(request.name, "name")))
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
            models=[format_model(model) for model in page],
            next_page_token=page[-1].name if len(page) < len(rest) else "",
        )

    async def _load_version(
        self, request: model_pb2.LoadVersionRequest, context: Context
    ) -> model_pb2.LoadVersionResponse:
        model = await self._control.load(requester_of_context(context), request.name, request.version)
        return model_pb2.LoadVersionResponse(model=format_model(model))

    async def _unload_version(
        self, request: model_pb2.UnloadVersionRequest, context: Context
    ) -> model_pb2.UnloadVersionResponse:
        model = await self._control.unload(requester_of_context(context), request.name, request.version)
        return model_pb2.UnloadVersionResponse(model=format_model(model))

    async def _set_alias(self, request: model_pb2.SetAliasRequest, context: Context) -> model_pb2.SetAliasResponse:
        requester = requester_of_context(context)
        model = await self._control.set_alias(requester, request.name, request.alias, request.version)
        return model_pb2.SetAliasResponse(model=format_model(model))

    async def _delete_alias(
        self, request: model_pb2.DeleteAliasRequest, context: Context
    ) -> model_pb2.DeleteAliasResponse:
        model = await self._control.set_alias(requester_of_context(context), request.name, request.alias, None)
        return model_pb2.DeleteAliasResponse(model=format_model(model))

    async def _promote_version(
        self, request: model_pb2.PromoteVersionRequest, context: Context
    ) -> model_pb2.PromoteVersionResponse:
        model = await self._control.promote(requester_of_context(context), request.name, request.version)
        return model_pb2.PromoteVersionResponse(model=format_model(model))

    async def _roll_back(self, request: model_pb2.RollBackRequest, context: Context) -> model_pb2.RollBackResponse:
        model = await self._control.roll_back(requester_of_context(context), request.name, request.version)
        return model_pb2.RollBackResponse(model=format_model(model))
