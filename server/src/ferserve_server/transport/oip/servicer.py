"""inference.GRPCInferenceService: from messages to use cases and back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ferserve_server.domain.errors import UnsupportedError
from ferserve_server.transport.callers import caller_of_context
from ferserve_server.transport.compat.messages import OPEN_INFERENCE_SERVICE, generic_handler, message_class
from ferserve_server.transport.oip.control import parse_version
from ferserve_server.transport.oip.stream import InferStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from ferserve_server.transport.calls import Calls, Context
    from ferserve_server.transport.compat.messages import GenericHandler, Message
    from ferserve_server.transport.oip.answers import OpenInference
    from ferserve_server.transport.oip.control import RepositoryControl

_NO_SHARED_MEMORY = "Shared memory is not offered. Send the tensors in the request."
_NO_SETTINGS = "Trace and log settings cannot be changed by call. See the server's flags."


class OpenInferenceServicer:
    """Implements `inference.GRPCInferenceService`. Event loop only."""

    def __init__(
        self, calls: Calls, answers: OpenInference, control: RepositoryControl, *, max_unanswered: int
    ) -> None:
        self._calls = calls
        self._control = control
        self._answers = answers
        self._max_unanswered = max_unanswered

    def handler(self) -> GenericHandler:
        """The service, in the form that a server takes."""
        handlers: dict[str, Callable[..., Any]] = {
            "ServerLive": self._answer("inference.ServerLiveResponse", live=True),
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelInfer": self._model_infer,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._repository_model_load,
            "RepositoryModelUnload": self._repository_model_unload,
            "TraceSetting": _refuse(_NO_SETTINGS),
            "LogSettings": _refuse(_NO_SETTINGS),
        }
        for kind in ("System", "Cuda"):
            # Clients ask and clear before they start, whether they use it or not.
            for what in ("Status", "Unregister"):
                name = f"{kind}SharedMemory{what}"
                handlers[name] = self._answer(f"inference.{name}Response")
            handlers[f"{kind}SharedMemoryRegister"] = _refuse(_NO_SHARED_MEMORY)
        wrapped = {name: self._calls.unary(name, handle) for name, handle in handlers.items()}
        stream = self._calls.stream("ModelStreamInfer", self._model_stream_infer)
        return generic_handler(OPEN_INFERENCE_SERVICE, {**wrapped, "ModelStreamInfer": stream})

    async def _model_infer(self, request: Message, context: Context) -> Message:
        return await self._answers.infer(request, self._calls.deadline(context), caller_of_context(context))

    async def _model_stream_infer(
        self, requests: AsyncIterator[Message], context: Context
    ) -> AsyncGenerator[Message, None]:
        deadline, caller = self._calls.deadline(context), caller_of_context(context)
        # Triton's header for clients that want the status of the call instead of a text in the stream.
        strict = ("triton_grpc_error", "true") in (context.invocation_metadata() or ())
        stream = InferStream(
            lambda request: self._answers.infer(request, deadline, caller),
            max_unanswered=self._max_unanswered,
            draining=self._calls.draining,
            strict=strict,
        )
        async with contextlib.aclosing(stream.run(requests)) as answers:
            async for answer in answers:
                yield answer

    async def _server_metadata(self, request: Message, context: Context) -> Message:
        del request, context
        return self._answers.server()

    async def _server_ready(self, request: Message, context: Context) -> Message:
        del request, context
        return message_class("inference.ServerReadyResponse")(ready=self._answers.server_ready())

    async def _model_ready(self, request: Message, context: Context) -> Message:
        del context
        ready = self._answers.model_ready(request.name, request.version)
        return message_class("inference.ModelReadyResponse")(ready=ready)

    async def _model_metadata(self, request: Message, context: Context) -> Message:
        del context
        return self._answers.model_metadata(request.name, request.version)

    async def _model_config(self, request: Message, context: Context) -> Message:
        del context
        return self._answers.model_config(request.name, request.version)

    async def _model_statistics(self, request: Message, context: Context) -> Message:
        del context
        return await self._answers.model_statistics(request.name, request.version)

    async def _repository_index(self, request: Message, context: Context) -> Message:
        del context
        return self._answers.index(request.repository_name, ready_only=request.ready)

    async def _repository_model_load(self, request: Message, context: Context) -> Message:
        version = parse_version(request.parameters)
        await self._control.load(context.invocation_metadata() or (), request.model_name, version)
        return message_class("inference.RepositoryModelLoadResponse")()

    async def _repository_model_unload(self, request: Message, context: Context) -> Message:
        version = parse_version(request.parameters)
        await self._control.unload(context.invocation_metadata() or (), request.model_name, version)
        return message_class("inference.RepositoryModelUnloadResponse")()

    @staticmethod
    def _answer(message: str, /, **fields: object) -> Callable[..., Any]:
        """A handler that always says the same."""
        response = message_class(message)(**fields)

        async def answer(request: Message, context: Context) -> Message:
            del request, context
            return response

        return answer


def _refuse(why: str) -> Callable[..., Any]:
    """A handler of what is not offered."""

    async def refuse(request: Message, context: Context) -> Message:
        del request, context
        raise UnsupportedError(why)

    return refuse
