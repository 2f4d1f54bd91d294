"""inference.GRPCInferenceService: from messages to use cases and back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ferserve_server.domain.errors import FerserveError, UnsupportedError, VersionNotFoundError
from ferserve_server.domain.servable import ServableState
from ferserve_server.transport.compat.classify import Question
from ferserve_server.transport.compat.faces import parse_spec
from ferserve_server.transport.compat.messages import OPEN_INFERENCE_SERVICE, generic_handler, message_class
from ferserve_server.transport.oip import metadata
from ferserve_server.transport.oip.outputs import format_response, parse_outputs
from ferserve_server.transport.oip.parameters import parse_deadline, parse_priority
from ferserve_server.transport.oip.stream import InferStream
from ferserve_server.transport.oip.tensors import parse_faces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from ferserve_server.domain.servable import ModelDescription, ModelStatus, VersionStatus
    from ferserve_server.transport.calls import Calls, Context
    from ferserve_server.transport.compat.classify import WholeTensors
    from ferserve_server.transport.compat.messages import GenericHandler, Message
    from ferserve_server.transport.compat.statistics import Statistics
    from ferserve_server.transport.limits import RequestLimits

_NO_CONTROL = (
    "Loading and unloading by call is not offered yet. The server loads what is put into its model folder, "
    "and lets go of what newer versions replace."
)
_NO_SHARED_MEMORY = "Shared memory is not offered. Send the tensors in the request."
_NO_SETTINGS = "Trace and log settings cannot be changed by call. See the server's flags."


class OpenInferenceServicer:
    """Implements `inference.GRPCInferenceService`. Event loop only."""

    def __init__(  # noqa: PLR0913 - its collaborators, each a port or a value
        self,
        calls: Calls,
        tensors: WholeTensors,
        statistics: Statistics,
        *,
        models: Callable[[], tuple[ModelStatus, ...]],
        model: Callable[[str], ModelStatus],
        default_ready: Callable[[], bool],
        limits: RequestLimits,
        max_unanswered: int,
        version: str,
    ) -> None:
        self._calls = calls
        self._tensors = tensors
        self._statistics = statistics
        self._models = models
        self._model = model
        self._default_ready = default_ready
        self._limits = limits
        self._max_unanswered = max_unanswered
        self._version = version

    def handler(self) -> GenericHandler:
        """The service, in the form that a server takes."""
        handlers: dict[str, Callable[..., Any]] = {
            "ServerLive": self._answer("inference.ServerLiveResponse", live=True),
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._answer(
                "inference.ServerMetadataResponse",
                name="ferserve",
                version=self._version,
                extensions=metadata.EXTENSIONS,
            ),
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelInfer": self._model_infer,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": _refuse(_NO_CONTROL),
            "RepositoryModelUnload": _refuse(_NO_CONTROL),
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

    async def infer(self, request: Message, deadline: float | None) -> Message:
        """Answers a ModelInferRequest with a ModelInferResponse.

        Args:
            request: The request.
            deadline: When the caller stops waiting, on the server's clock, in seconds, or None.

        Raises:
            FerserveError: See `WholeTensors.answer`.
        """
        spec = parse_spec(request.model_name, request.model_version)
        outputs = parse_outputs(request)

        def parse(description: ModelDescription) -> Question:
            return Question(
                parse_faces(request, description.input, self._limits),
                parse_deadline(request.parameters, self._tensors.now(), deadline),
                parse_priority(request.parameters),
            )

        return await self._tensors.answer(spec, parse, lambda found: format_response(request.id, outputs, found))

    async def _model_infer(self, request: Message, context: Context) -> Message:
        return await self.infer(request, self._calls.deadline(context))

    async def _model_stream_infer(
        self, requests: AsyncIterator[Message], context: Context
    ) -> AsyncGenerator[Message, None]:
        deadline = self._calls.deadline(context)
        # Triton's header for clients that want the status of the call instead of a text in the stream.
        strict = ("triton_grpc_error", "true") in (context.invocation_metadata() or ())
        stream = InferStream(
            lambda request: self.infer(request, deadline),
            max_unanswered=self._max_unanswered,
            draining=self._calls.draining,
            strict=strict,
        )
        async with contextlib.aclosing(stream.run(requests)) as answers:
            async for answer in answers:
                yield answer

    async def _server_ready(self, request: Message, context: Context) -> Message:
        del request, context
        return message_class("inference.ServerReadyResponse")(ready=self._default_ready())

    async def _model_ready(self, request: Message, context: Context) -> Message:
        del context
        spec = parse_spec(request.name, request.version)
        try:
            self._tensors.describe(spec)
        except FerserveError:
            return message_class("inference.ModelReadyResponse")(ready=False)
        return message_class("inference.ModelReadyResponse")(ready=True)

    async def _model_metadata(self, request: Message, context: Context) -> Message:
        del context
        servable, description = self._tensors.describe(parse_spec(request.name, request.version))
        versions = [each.id.version for each in self._ready_versions(servable.name)]
        return metadata.format_metadata(servable, versions, description)

    async def _model_config(self, request: Message, context: Context) -> Message:
        del context
        servable, description = self._tensors.describe(parse_spec(request.name, request.version))
        buckets = next((v.bucket_sizes for v in self._ready_versions(servable.name) if v.id == servable), ())
        return metadata.format_config(servable, description, buckets, self._limits.max_faces_per_request)

    async def _model_statistics(self, request: Message, context: Context) -> Message:
        del context
        wanted = parse_spec(request.name, request.version)
        # An empty name means every model here, not the default one.
        names = [wanted.name] if wanted.name else [model.name for model in self._models()]
        ready = [version.id for name in names for version in self._ready_versions(name)]
        version = self._model(wanted.name).version_behind(wanted) if wanted.alias else wanted.version
        if version is not None:
            ready = [servable for servable in ready if servable.version == version]
            if not ready:
                raise VersionNotFoundError(wanted.name, version)
        return metadata.format_statistics((servable, self._statistics.of(servable)) for servable in ready)

    async def _repository_index(self, request: Message, context: Context) -> Message:
        del context
        if request.repository_name:
            raise UnsupportedError("There is one model folder, without a name. Leave repository_name empty.")
        return metadata.format_index(self._models(), ready_only=request.ready)

    def _ready_versions(self, name: str) -> list[VersionStatus]:
        return [each for each in self._model(name).versions if each.state is ServableState.READY]

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
