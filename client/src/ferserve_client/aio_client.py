"""Calls a ferserve server from asyncio code. `client` does the same for blocking code, with the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, TypeVar, overload

from ferserve_client import operations
from ferserve_client.aio_calls import call_unary, exchange, iterate
from ferserve_client.channel import DEFAULT_TARGET, ChannelOptions, Target, TlsOptions, open_aio_channel
from ferserve_client.options import DEFAULT_MAX_UNANSWERED, DEFAULT_TIMEOUT_S
from ferserve_client.retry import RetryPolicy
from ferserve_client.wire.stubs import Stubs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from ferserve_client.answers import BatchAnswer, Frame, FrameAnswer, Results
    from ferserve_client.errors import FerserveError
    from ferserve_client.faces import ImageAnalysis, Prediction
    from ferserve_client.operations import StreamOperation, UnaryOperation
    from ferserve_client.options import DetectionOptions, OnError, OverloadPolicy, Priority, TrackingOptions
    from ferserve_client.servables import HealthStatus, ModelInfo

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")


class AsyncEmotionClient:
    """Calls a ferserve server from asyncio code.

    Not thread-safe: create it and use it on one running event loop, from any number of tasks. Arguments, results
    and errors are those of `EmotionClient`. The connection is made with the first call and made again when it
    breaks; `close`, or leaving the `async with` block, ends it and every running call.
    """

    def __init__(
        self,
        target: Target = DEFAULT_TARGET,
        *,
        tls: TlsOptions | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retry: RetryPolicy | None = None,
        options: ChannelOptions | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._channel = open_aio_channel(target, tls, options or ChannelOptions())
        self._stubs = Stubs(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and every running call. A second time does nothing."""
        await self._channel.close()

    @overload
    async def classify(
        self,
        faces: npt.NDArray[np.uint8] | Sequence[bytes],
        *,
        model: str = "",
        version: int | str | None = None,
        priority: Priority = "interactive",
        timeout_s: float | None = None,
        on_error: Literal["raise"] = "raise",
    ) -> Results[Prediction]: ...
    @overload
    async def classify(
        self,
        faces: npt.NDArray[np.uint8] | Sequence[bytes],
        *,
        model: str = "",
        version: int | str | None = None,
        priority: Priority = "interactive",
        timeout_s: float | None = None,
        on_error: Literal["return"],
    ) -> Results[Prediction | FerserveError]: ...
    async def classify(
        self,
        faces: npt.NDArray[np.uint8] | Sequence[bytes],
        *,
        model: str = "",
        version: int | str | None = None,
        priority: Priority = "interactive",
        timeout_s: float | None = None,
        on_error: OnError = "raise",
    ) -> Results[Prediction] | Results[Prediction | FerserveError]:
        """Classify face crops, all in one batch. See `EmotionClient.classify`."""
        return await self._call(operations.classify(faces, model, version, priority, on_error), timeout_s)

    async def analyze(
        self,
        images: Sequence[bytes],
        *,
        model: str = "",
        version: int | str | None = None,
        priority: Priority = "interactive",
        detection: DetectionOptions | None = None,
        timeout_s: float | None = None,
    ) -> Results[ImageAnalysis]:
        """Find and classify the faces of whole pictures. See `EmotionClient.analyze`."""
        return await self._call(operations.analyze(images, model, version, priority, detection), timeout_s)

    def stream_frames(  # noqa: PLR0913 - the options of a stream
        self,
        frames: AsyncIterable[bytes | Frame] | Iterable[bytes | Frame],
        *,
        model: str = "",
        version: int | str | None = None,
        policy: OverloadPolicy = "latest",
        max_age_ms: int | None = None,
        detection: DetectionOptions | None = None,
        tracking: TrackingOptions | None = None,
        events_only: bool = False,
        resumed_after_sequence_id: int | None = None,
        max_unanswered_frames: int = DEFAULT_MAX_UNANSWERED,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[FrameAnswer, None]:
        """Find and classify the faces of a video, frame by frame. See `EmotionClient.stream_frames`."""
        operation = operations.stream_frames(
            model, version, policy, detection, tracking, events_only, max_age_ms, resumed_after_sequence_id
        )
        return self._stream(operation, frames, max_unanswered_frames, timeout_s)

    def classify_stream(
        self,
        batches: AsyncIterable[npt.NDArray[np.uint8]] | Iterable[npt.NDArray[np.uint8]],
        *,
        model: str = "",
        version: int | str | None = None,
        priority: Priority = "interactive",
        max_unanswered_batches: int = DEFAULT_MAX_UNANSWERED,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[BatchAnswer, None]:
        """Classify many small batches of face crops over one call. See `EmotionClient.classify_stream`."""
        operation = operations.classify_stream(model, version, priority)
        return self._stream(operation, batches, max_unanswered_batches, timeout_s)

    async def models(self, *, timeout_s: float | None = None) -> list[ModelInfo]:
        """List every model of the server, by name; all pages of the list. See `EmotionClient.models`."""
        found: list[ModelInfo] = []
        page_token = ""
        while True:
            page, page_token = await self._call(operations.list_models(page_token), timeout_s)
            found += page
            if not page_token:
                return found

    async def model(self, name: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        """Fetch one model with all its versions. See `EmotionClient.model`."""
        return await self._call(operations.get_model(name), timeout_s)

    async def health(self, service: str = "", *, timeout_s: float | None = None) -> HealthStatus:
        """Ask for the server's health (grpc.health.v1). See `EmotionClient.health`."""
        return await self._call(operations.check_health(service), timeout_s)

    async def _call(self, operation: UnaryOperation[ResultT], timeout_s: float | None) -> ResultT:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        method = getattr(self._stubs, operation.method)
        return operation.read(await call_unary(method, operation.request, timeout_s=timeout_s, policy=self._retry))

    def _stream(
        self,
        operation: StreamOperation[ItemT, ResultT],
        items: AsyncIterable[ItemT] | Iterable[ItemT],
        max_unanswered: int,
        timeout_s: float | None,
    ) -> AsyncGenerator[ResultT, None]:
        return exchange(
            getattr(self._stubs, operation.method),
            (operation.make_request(item) async for item in iterate(items)),
            operation.read,
            first=operation.first,
            max_unanswered=max_unanswered,
            timeout_s=timeout_s,
        )
