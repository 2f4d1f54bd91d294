"""Implements inference.GRPCInferenceService: converts messages to use cases and results back to messages.

The repository calls of the Open Inference Protocol change the active versions. In ModelStreamInfer every request
gets exactly one answer, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from ferserve_server.domain.errors import DrainingError, FerserveError, InvalidRequestError, UnsupportedError
from ferserve_server.domain.trace import current_stream
from ferserve_server.interop.messages import OPEN_INFERENCE_SERVICE, generic_handler, message_class
from ferserve_server.pipeline.ordered_responses import OrderedResponses, outcome_of
from ferserve_server.pipeline.traced_messages import traced_message
from ferserve_server.services.callers import caller_of_context, requester_of_context

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from ferserve_server.domain.trace import StreamTrace
    from ferserve_server.interop.messages import Message
    from ferserve_server.services.control import ModelControl
    from ferserve_server.services.control_access import Requester


class RepositoryControl:
    """Executes the load and unload calls of Triton's clients. Event loop only.

    Triton loads and unloads models; here it is versions, which clients name in the parameter `version`.
    """

    def __init__(self, control: ModelControl) -> None:
        self._control = control

    async def load(self, requester: Requester, model: str, version: int | None) -> None:
        """Loads a version; without one, those of the folder that the model's policy selects.

        Raises:
            FerserveError: See `services.control.ModelControl`.
        """
        if version is None:
            await self._control.look(requester, model)
        else:
            await self._control.load(requester, model, version)

    async def unload(self, requester: Requester, model: str, version: int | None) -> None:
        """Unloads a version.

        Raises:
            InvalidRequestError: OPTION_OUT_OF_RANGE: no version is named.
            FerserveError: See `services.control.ModelControl`.
        """
        # Authorisation is checked before a missing version is reported.
        await self._control.unload(requester, model, version or 0)


def parse_version(parameters: Mapping[str, Message]) -> int | None:
    """Reads the parameter `version`, an int64_param or a text; None if it is not there.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE: it is no whole number from 1.
    """
    if "version" not in parameters:  # looking an absent key up would put it in
        return None
    parameter = parameters["version"]
    choice = parameter.WhichOneof("parameter_choice")
    return read_version(getattr(parameter, choice) if choice in {"int64_param", "string_param"} else None)


def read_version(value: object) -> int:
    """Reads a version from a number or a text.

    Raises:
        InvalidRequestError: As above.
    """
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise InvalidRequestError(
            "OPTION_OUT_OF_RANGE",
            "parameters.version: name the version of the model, a whole number from 1.",
            field="parameters.version",
        )
    return int(text)


_RESPONSE = message_class("inference.ModelStreamInferResponse")


class InferStream:
    """Answers one open stream of inference requests. Event loop only; made for one call.

    Args of the constructor:
        infer: Answers one request.
        max_unanswered: Bound on the answers that are due, 1 or more.
        draining: Set when nothing new may be taken.
        strict: Whether an error ends the stream with its status. Else it is reported in the answer to its request,
            beside that request's id, and the stream goes on.
        trace: Samples requests; None: none is traced.
    """

    def __init__(
        self,
        infer: Callable[[Message], Awaitable[Message]],
        *,
        max_unanswered: int,
        draining: asyncio.Event,
        strict: bool,
        trace: StreamTrace | None = None,
    ) -> None:
        self._infer = infer
        self._trace = trace
        self._strict = strict
        self._answers = OrderedResponses(self._begin, max_unanswered=max_unanswered, draining=draining)

    async def run(self, requests: AsyncIterator[Message]) -> AsyncGenerator[Message, None]:
        """Yields a ModelStreamInferResponse for each request.

        Raises:
            FerserveError: That of the first request that failed, if `strict`.
            DrainingError: The server goes down before the sender is done. What was taken is answered first.
        """
        async with contextlib.aclosing(self._answers.run(requests)) as answers:
            async for request_id, outcome in answers:
                if not isinstance(outcome, FerserveError):
                    yield _RESPONSE(infer_response=outcome)
                elif self._strict:
                    raise outcome
                else:
                    response = _RESPONSE(error_message=outcome.message)
                    response.infer_response.id = request_id
                    yield response
        if self._answers.cut_short:
            raise DrainingError

    def _begin(self, request: Message) -> asyncio.Future[tuple[str, Message | FerserveError]]:
        return asyncio.get_running_loop().create_task(self._run_one(request))

    async def _run_one(self, request: Message) -> tuple[str, Message | FerserveError]:
        answering: Awaitable[Message | FerserveError] = outcome_of(self._infer(request))
        return request.id, await traced_message(self._trace, answering)


if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from ferserve_server.interop.messages import GenericHandler, Message
    from ferserve_server.interop.open_inference.handlers import OpenInference
    from ferserve_server.services.calls import Calls, Context

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
        """Returns the service's handlers for a server."""
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
            "TraceSetting": _reject(_NO_SETTINGS),
            "LogSettings": _reject(_NO_SETTINGS),
        }
        for kind in ("System", "Cuda"):
            # Clients ask and clear before they start, whether they use it or not.
            for what in ("Status", "Unregister"):
                name = f"{kind}SharedMemory{what}"
                handlers[name] = self._answer(f"inference.{name}Response")
            handlers[f"{kind}SharedMemoryRegister"] = _reject(_NO_SHARED_MEMORY)
        wrapped = {
            name: self._calls.unary(name, handle, service=OPEN_INFERENCE_SERVICE)
            for name, handle in handlers.items()
        }
        stream = self._calls.stream("ModelStreamInfer", self._model_stream_infer, service=OPEN_INFERENCE_SERVICE)
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
            trace=current_stream.get(),
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
        await self._control.load(requester_of_context(context), request.model_name, version)
        return message_class("inference.RepositoryModelLoadResponse")()

    async def _repository_model_unload(self, request: Message, context: Context) -> Message:
        version = parse_version(request.parameters)
        await self._control.unload(requester_of_context(context), request.model_name, version)
        return message_class("inference.RepositoryModelUnloadResponse")()

    @staticmethod
    def _answer(message: str, /, **fields: object) -> Callable[..., Any]:
        """Makes a handler with a constant answer."""
        response = message_class(message)(**fields)

        async def answer(request: Message, context: Context) -> Message:
            del request, context
            return response

        return answer


def _reject(why: str) -> Callable[..., Any]:
    """Makes a handler that rejects an unsupported method."""

    async def reject(request: Message, context: Context) -> Message:
        del request, context
        raise UnsupportedError(why)

    return reject
