"""Calls the servers of a model tier over gRPC; implements `domain.upstream.ModelTier`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from ferserve.v1 import emotion_service_pb2_grpc, model_service_pb2_grpc
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.trace import TRACEPARENT, format_traceparent, sampled_spans
from ferserve_server.upstream.codec import read_batch_answer, read_model, write_batch
from ferserve_server.upstream.status import read_rejection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.ports import Priority
    from ferserve_server.domain.servable import ModelSpec, ModelStatus
    from ferserve_server.domain.upstream import TierAnswer

log = structlog.get_logger(__name__)

_LIST_TIMEOUT_S: Final = 5.0
"""Maximum wait for a page of models, in seconds, because servers answer it from memory."""

_DOWN: Final = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class GrpcModelTier:
    """Calls the servers behind one channel; the channel spreads the calls. Event loop only.

    Args of the constructor:
        channel: As `channel.open_channel` opens it; closed by its opener.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._emotion: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        self._models: Any = model_service_pb2_grpc.ModelServiceStub(channel)  # type: ignore[no-untyped-call]  # as above

    async def classify(
        self, crops: CropBatch, spec: ModelSpec, priority: Priority, timeout_s: float
    ) -> TierAnswer:
        """Scores a batch; see `domain.upstream.ModelTier`."""
        request = write_batch(crops, spec, priority)
        metadata = tuple((TRACEPARENT, format_traceparent(span)) for span in sampled_spans.get()[:1])
        call = self._emotion.ClassifyFaces(request, timeout=timeout_s, metadata=metadata)
        return read_batch_answer(await _answer(call))

    async def models(self) -> tuple[ModelStatus, ...]:
        """Lists every model; see `domain.upstream.ModelTier`."""
        found: dict[str, ModelStatus] = {}
        token = ""
        while True:
            request = model_pb2.ListModelsRequest(page_token=token)
            page = await _answer(self._models.ListModels(request, timeout=_LIST_TIMEOUT_S))
            for model in page.models:
                found[model.name] = read_model(model)
            token = page.next_page_token
            if not token:
                return tuple(found[name] for name in sorted(found))

    async def reachable(self) -> AsyncIterator[bool]:
        """Yields whether the channel has a ready server; see `domain.upstream.ModelTier`.

        While it connects, the last state holds: a connection that is restored in a moment is no change.
        """
        said: bool | None = None
        while True:
            state = self._channel.get_state(try_to_connect=True)
            now = state is grpc.ChannelConnectivity.READY
            if now is not said and (now or said is None or state in _DOWN):
                yield now
                said = now
            if state is grpc.ChannelConnectivity.SHUTDOWN:
                return
            await self._channel.wait_for_state_change(state)


async def _answer(call: Awaitable[Any]) -> Any:  # noqa: ANN401 - a message, which the stubs leave untyped
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        rejection = read_rejection(error)
        if type(rejection) is FerserveError:  # the caller's error says that the log has details
            log.error(  # noqa: TRY400 - no trace to show: it happened there
                "model tier failed", code=error.code().name, details=error.details()
            )
        raise rejection from None
