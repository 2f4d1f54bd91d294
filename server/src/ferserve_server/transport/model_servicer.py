"""ModelService: what models there are, and which versions are in force."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf import message_factory

from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.transport import wire
from ferserve_server.transport.model_messages import format_model
from ferserve_server.transport.reading import service_handler

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from ferserve_server.domain.servable import ModelStatus
    from ferserve_server.transport.calls import Calls, Context
    from ferserve_server.transport.control import Metadata, ModelControl

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
        self.GetModel = calls.unary("GetModel", self._get_model)
        self.ListModels = calls.unary("ListModels", self._list_models)
        self.LoadVersion = calls.unary("LoadVersion", self._load_version)
        self.UnloadVersion = calls.unary("UnloadVersion", self._unload_version)
        self.SetAlias = calls.unary("SetAlias", self._set_alias)
        self.DeleteAlias = calls.unary("DeleteAlias", self._delete_alias)
        self.PromoteVersion = calls.unary("PromoteVersion", self._promote_version)
        self.RollBack = calls.unary("RollBack", self._roll_back)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Its RPCs for a gRPC server."""
        service = model_pb2.DESCRIPTOR.services_by_name["ModelService"]
        handlers = {name: getattr(self, name) for name in service.methods_by_name}
        return service_handler(service, handlers, message_factory.GetMessageClass)

    async def _get_model(self, request: model_pb2.GetModelRequest, context: Context) -> model_pb2.GetModelResponse:
        del context
        return model_pb2.GetModelResponse(
            model=format_model(self._model(wire.parse_model_name(request.name, "name")))
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
        model = await self._control.load(_metadata(context), request.name, request.version)
        return model_pb2.LoadVersionResponse(model=format_model(model))

    async def _unload_version(
        self, request: model_pb2.UnloadVersionRequest, context: Context
    ) -> model_pb2.UnloadVersionResponse:
        model = await self._control.unload(_metadata(context), request.name, request.version)
        return model_pb2.UnloadVersionResponse(model=format_model(model))

    async def _set_alias(self, request: model_pb2.SetAliasRequest, context: Context) -> model_pb2.SetAliasResponse:
        model = await self._control.set_alias(_metadata(context), request.name, request.alias, request.version)
        return model_pb2.SetAliasResponse(model=format_model(model))

    async def _delete_alias(
        self, request: model_pb2.DeleteAliasRequest, context: Context
    ) -> model_pb2.DeleteAliasResponse:
        model = await self._control.set_alias(_metadata(context), request.name, request.alias, None)
        return model_pb2.DeleteAliasResponse(model=format_model(model))

    async def _promote_version(
        self, request: model_pb2.PromoteVersionRequest, context: Context
    ) -> model_pb2.PromoteVersionResponse:
        model = await self._control.promote(_metadata(context), request.name, request.version)
        return model_pb2.PromoteVersionResponse(model=format_model(model))

    async def _roll_back(self, request: model_pb2.RollBackRequest, context: Context) -> model_pb2.RollBackResponse:
        model = await self._control.roll_back(_metadata(context), request.name, request.version)
        return model_pb2.RollBackResponse(model=format_model(model))


def _metadata(context: Context) -> Metadata:
    return context.invocation_metadata() or ()
