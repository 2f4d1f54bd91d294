"""Calls a ferserve server from blocking code. `aio_client` does the same for asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self, TypeVar, overload

from ferserve_client import operations
from ferserve_client.calls import call_unary, exchange
from ferserve_client.channel import DEFAULT_TARGET, ChannelOptions, Target, TlsOptions, open_channel
from ferserve_client.options import DEFAULT_MAX_UNANSWERED, DEFAULT_TIMEOUT_S
from ferserve_client.retry import RetryPolicy
from ferserve_client.wire.stubs import Stubs

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
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


class EmotionClient:
    """Calls a ferserve server from blocking code.

    Thread-safe: many threads may call one client. The connection is made with the first call and
    made again when it breaks; `close`, or leaving the `with` block, ends it and every running call.

    Args:
        target: Address of the server, HOST:PORT or any gRPC target; or of several servers, as a list or
            separated by commas. Calls rotate over several, and unhealthy ones are skipped.
        tls: Certificates. None: no TLS.
        timeout_s: Deadline of unary calls that do not say their own, retries included, above 0. Infinity: none.
        retry: Choice of the unary calls that are tried again. Streams never are.
        options: Limits, timeouts and load balancing of the connection.

    Raises:
        OSError: A file of `tls` cannot be read, or a name among several targets cannot be resolved.
        ValueError: `target` is empty.
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
        self._channel = open_channel(target, tls, options or ChannelOptions())
        self._stubs = Stubs(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection and every running call. A second time does nothing."""
        self._channel.close()

    @overload
    def classify(
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
    def classify(
        self,
        faces: npt.NDArray[np.uint8] | Sequence[bytes],
        *,
        model: str = "",
        version: int | str | None = None,
        priority: Priority = "interactive",
        timeout_s: float | None = None,
        on_error: Literal["return"],
    ) -> Results[Prediction | FerserveError]: ...
    def classify(
        self,
        faces: npt.NDArray[np.uint8] | Sequence[bytes],
        *,
        model: str = "",
        version: int | str | None = None,
        priority: Priority = "interactive",
        timeout_s: float | None = None,
        on_error: OnError = "raise",
    ) -> Results[Prediction] | Results[Prediction | FerserveError]:
        """Classify face crops, all in one batch.

        Args:
            faces: uint8 grey levels (0 to 255) shaped [N, H, W], [N, H, W, 1] or, one face, [H, W], which the
                server resizes to 48 x 48; or encoded pictures (JPEG, PNG, WebP) of one face each.
            model: Name of the model. Empty: the server's default.
            version: Version of the model, or an alias such as "stable". None: the one it serves.
            priority: Urgency of the call beside others.
            timeout_s: Deadline in seconds, retries included. None: the client's.
            on_error: Treatment of a face that failed alone: `raise` its error, or `return` it in its place.

        Returns:
            One prediction per face, in the order given.

        Raises:
            FerserveError: The call failed, or with `raise` a face did.
            TypeError: `faces` is neither an array of uint8 nor a list of bytes.
            ValueError: The array has another shape, or an argument is out of its range.
        """
        return self._call(operations.classify(faces, model, version, priority, on_error), timeout_s)  # type: ignore[no-any-return]  # as on_error says

    def analyze(
        self,
        images: Sequence[bytes],
        *,
        model: str = "",
        version: int | str | None = None,
        priority: Priority = "interactive",
        detection: DetectionOptions | None = None,
        timeout_s: float | None = None,
    ) -> Results[ImageAnalysis]:
        """Find and classify the faces of whole pictures.

        Args:
            images: Encoded pictures: JPEG, PNG or WebP.
            model: Name of the model. Empty: the server's default.
            version: Version of the model, or an alias such as "stable". None: the one it serves.
            priority: Urgency of the call beside others.
            detection: Options of the search for faces. None: the server's settings.
            timeout_s: Deadline in seconds, retries included. None: the client's.

        Returns:
            One analysis per picture, in the order given. A picture that cannot be read has its `error`
            set, and never fails its neighbours.

        Raises:
            FerserveError: The call failed as a whole.
            TypeError: `images` is not a list of bytes.
            ValueError: An argument is out of its range.
        """
        return self._call(operations.analyze(images, model, version, priority, detection), timeout_s)

    def stream_frames(  # noqa: PLR0913 - the options of a stream
        self,
        frames: Iterable[bytes | Frame],
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
    ) -> Generator[FrameAnswer, None, None]:
        """Find and classify the faces of a video, frame by frame.

        The call begins with the first answer that is asked for, and ends with the last one, or when the generator
        is closed or dropped. `frames` is drawn from another thread, never by more than `max_unanswered_frames`
        ahead; what it raises is raised here, after the answers to the frames before. The call is never retried:
        after `ServerDrainingError` go on with `resumed_after_sequence_id=error.last_sequence_id`.

        Args:
            frames: Encoded pictures (JPEG, PNG, WebP), numbered from 0; or `Frame`s with rising numbers.
            model: Name of the model. Empty: the server's default.
            version: Version of the model, or an alias such as "stable". None: the one it serves, at every frame.
            policy: Treatment of frames that come faster than they can be answered.
            max_age_ms: Oldest frame that is analysed, 1 to 60,000 ms since its arrival. With the policy `max_age`.
            detection: Options of the search for faces. None: the server's settings.
            tracking: Options of tracking. None: faces are not tracked.
            events_only: Whether frames without an event are answered as `unchanged`. Needs `tracking`.
            resumed_after_sequence_id: Last frame that an earlier stream of the same source had answered; frames
                without a number go on after it. None: a new source.
            max_unanswered_frames: Frames that may wait for an answer at once, 1 or more.
            timeout_s: Deadline of the whole stream in seconds. None: it may last.

        Yields:
            One answer per frame, in the order sent.

        Raises:
            FerserveError: The call failed as a whole.
            ValueError: An argument is out of its range, or two do not go together.
        """
        operation = operations.stream_frames(
            model, version, policy, detection, tracking, events_only, max_age_ms, resumed_after_sequence_id
        )
        return self._stream(operation, frames, max_unanswered_frames, timeout_s)

    def classify_stream(
        self,
        batches: Iterable[npt.NDArray[np.uint8]],
        *,
        model: str = "",
        version: int | str | None = None,
        priority: Priority = "interactive",
        max_unanswered_batches: int = DEFAULT_MAX_UNANSWERED,
        timeout_s: float | None = None,
    ) -> Generator[BatchAnswer, None, None]:
        """Classify many small batches of face crops over one call.

        Begins, ends and draws `batches` as `stream_frames` does its frames.

        Args:
            batches: Arrays as for `classify`, numbered from 0.
            model: Name of the model. Empty: the server's default.
            version: Version of the model, or an alias such as "stable". None: the one it serves, at every batch.
            priority: Urgency of the batches beside other calls.
            max_unanswered_batches: Batches that may wait for an answer at once, 1 or more.
            timeout_s: Deadline of the whole stream in seconds. None: it may last.

        Yields:
            One answer per batch, in the order sent. A batch that failed has its `error` set.

        Raises:
            FerserveError: The call failed as a whole.
            TypeError: A batch is not an array of uint8.
            ValueError: A batch has another shape, or an argument is out of its range.
        """
        operation = operations.classify_stream(model, version, priority)
        return self._stream(operation, batches, max_unanswered_batches, timeout_s)

    def models(self, *, timeout_s: float | None = None) -> list[ModelInfo]:
        """List every model of the server, by name; all pages of the list.

        Args:
            timeout_s: Deadline of each page in seconds. None: the client's.

        Raises:
            FerserveError: The call failed.
        """
        found: list[ModelInfo] = []
        page_token = ""
        while True:
            page, page_token = self._call(operations.list_models(page_token), timeout_s)
            found += page
            if not page_token:
                return found

    def model(self, name: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        """Fetch one model with all its versions.

        Args:
            name: Name of the model. Empty: the server's default.
            timeout_s: Deadline in seconds. None: the client's.

        Raises:
            ModelNotFoundError: There is no such model.
            FerserveError: The call failed otherwise.
        """
        return self._call(operations.get_model(name), timeout_s)

    def health(self, service: str = "", *, timeout_s: float | None = None) -> HealthStatus:
        """Ask for the server's health (grpc.health.v1).

        Args:
            service: Name of the service. Empty: the whole server.
            timeout_s: Deadline in seconds. None: the client's.

        Raises:
            NotFoundError: The server has no such service.
            FerserveError: The call failed otherwise.
        """
        return self._call(operations.check_health(service), timeout_s)

    def _call(self, operation: UnaryOperation[ResultT], timeout_s: float | None) -> ResultT:
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        method = getattr(self._stubs, operation.method)
        return operation.read(call_unary(method, operation.request, timeout_s=timeout_s, policy=self._retry))

    def _stream(
        self,
        operation: StreamOperation[ItemT, ResultT],
        items: Iterable[ItemT],
        max_unanswered: int,
        timeout_s: float | None,
    ) -> Generator[ResultT, None, None]:
        method, requests = getattr(self._stubs, operation.method), map(operation.make_request, items)
        first, read = operation.first, operation.read
        return exchange(method, requests, read, first=first, max_unanswered=max_unanswered, timeout_s=timeout_s)
