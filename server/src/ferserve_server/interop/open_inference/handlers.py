"""Answers Open Inference Protocol requests in the protocol's messages, for both of its transports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import FerserveError, UnsupportedError, VersionNotFoundError
from ferserve_server.domain.servable import ServableState
from ferserve_server.interop.classification import Question
from ferserve_server.interop.faces import OUTPUTS, PICTURE_OUTPUTS, parse_spec
from ferserve_server.interop.messages import message_class
from ferserve_server.interop.open_inference import metadata
from ferserve_server.interop.open_inference.outputs import format_response, parse_outputs
from ferserve_server.interop.open_inference.parameters import parse_deadline, parse_flag, parse_priority
from ferserve_server.interop.open_inference.tensors import listed_count, parse_faces

if TYPE_CHECKING:
    from collections.abc import Callable

    from ferserve_server.domain.servable import ModelDescription, ModelStatus, VersionStatus
    from ferserve_server.interop.classification import WholeTensors
    from ferserve_server.interop.messages import Message
    from ferserve_server.interop.statistics import ServiceStatistics
    from ferserve_server.services.limits import RequestLimits


class OpenInference:
    """Answers for models by name and version; "" is the default model, or its newest version. Event loop only."""

    def __init__(
        self,
        tensors: WholeTensors,
        statistics: ServiceStatistics,
        *,
        models: Callable[[], tuple[ModelStatus, ...]],
        model: Callable[[str], ModelStatus],
        default_ready: Callable[[], bool],
        limits: RequestLimits,
        version: str,
    ) -> None:
        self._tensors = tensors
        self._statistics = statistics
        self._models = models
        self._model = model
        self._default_ready = default_ready
        self._limits = limits
        self._version = version

    async def infer(self, request: Message, deadline: float | None, caller: CallerId = UNKNOWN_CALLER) -> Message:
        """Answers a ModelInferRequest with a ModelInferResponse.

        Args:
            request: The request.
            deadline: When the caller stops waiting, on the server's clock, in seconds, or None.
            caller: Whose request it is.

        Raises:
            FerserveError: See `WholeTensors.answer`.
        """
        spec = parse_spec(request.model_name, request.model_version)
        detect = parse_flag(request.parameters, "detect")
        outputs = parse_outputs(request, PICTURE_OUTPUTS if detect else OUTPUTS)

        def parse(description: ModelDescription) -> Question:
            return Question(
                parse_faces(request, description.input, self._limits, detect=detect),
                parse_deadline(request.parameters, self._tensors.now(), deadline),
                parse_priority(request.parameters),
                detect=detect,
                caller=caller,
            )

        return await self._tensors.answer(
            spec, parse, lambda found: format_response(request.id, outputs, found), listed_count(request)
        )

    def server(self) -> Message:
        """Describes the server as a ServerMetadataResponse."""
        response = message_class("inference.ServerMetadataResponse")
        return response(name="ferserve", version=self._version, extensions=metadata.EXTENSIONS)

    def server_ready(self) -> bool:
        """Returns whether the default model answers."""
        return self._default_ready()

    def model_ready(self, name: str, version: str) -> bool:
        """Returns whether a model answers; False too if there is none of that name.

        Raises:
            InvalidRequestError: Name or version are none.
        """
        spec = parse_spec(name, version)
        try:
            self._tensors.describe(spec)
        except FerserveError:
            return False
        return True

    def model_metadata(self, name: str, version: str) -> Message:
        """Describes a model's inputs and outputs as a ModelMetadataResponse.

        Raises:
            FerserveError: It is not there.
        """
        servable, description = self._tensors.describe(parse_spec(name, version))
        versions = [each.id.version for each in self._ready_versions(servable.name)]
        return metadata.format_metadata(servable, versions, description)

    def model_config(self, name: str, version: str) -> Message:
        """Describes a model's execution as a ModelConfigResponse.

        Raises:
            FerserveError: It is not there.
        """
        servable, description = self._tensors.describe(parse_spec(name, version))
        buckets = next((v.bucket_sizes for v in self._ready_versions(servable.name) if v.id == servable), ())
        return metadata.format_config(servable, description, buckets, self._limits.max_faces_per_request)

    async def model_statistics(self, name: str, version: str) -> Message:
        """Reports models' statistics as a ModelStatisticsResponse; no name means every model here.

        Raises:
            FerserveError: It is not there.
        """
        wanted = parse_spec(name, version)
        names = [wanted.name] if wanted.name else [model.name for model in self._models()]
        ready = [version.id for name in names for version in self._ready_versions(name)]
        pinned = self._model(wanted.name).version_behind(wanted) if wanted.alias else wanted.version
        if pinned is not None:
            ready = [servable for servable in ready if servable.version == pinned]
            if not ready:
                raise VersionNotFoundError(wanted.name, pinned)
        counts = await self._statistics.counts_of(ready)
        return metadata.format_statistics(zip(ready, counts, strict=True))

    def index(self, repository_name: str, *, ready_only: bool) -> Message:
        """Lists every version as a RepositoryIndexResponse.

        Raises:
            UnsupportedError: A repository is named.
        """
        if repository_name:
            raise UnsupportedError("There is one model folder, without a name. Leave repository_name empty.")
        return metadata.format_index(self._models(), ready_only=ready_only)

    def _ready_versions(self, name: str) -> list[VersionStatus]:
        return [each for each in self._model(name).versions if each.state is ServableState.READY]
