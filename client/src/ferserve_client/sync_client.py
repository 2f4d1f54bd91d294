"""The blocking client. `async_client` is its twin."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from ferserve_client.channel import DEFAULT_TARGET, ChannelOptions, TlsOptions, open_channel
from ferserve_client.numbering import FrameNumbering
from ferserve_client.options import DEFAULT_MAX_UNANSWERED, DEFAULT_TIMEOUT_S
from ferserve_client.retry import RetryPolicy
from ferserve_client.sync_calls import call_unary, exchange
from ferserve_client.wire import requests, responses
from ferserve_client.wire.stream_responses import BatchAnswerReader, FrameAnswerReader
from ferserve_client.wire.stubs import Stubs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt

    from ferserve_client.answers import BatchAnswer, Frame, FrameAnswer, Results
    from ferserve_client.errors import FerserveError
    from ferserve_client.faces import ImageAnalysis, Prediction
    from ferserve_client.options import DetectionOptions, OnError, OverloadPolicy, Priority
    from ferserve_client.servables import HealthStatus, ModelInfo


class EmotionClient:
    """A connection to a ferserve server, for blocking code.

    Thread-safe: many threads may call one client. The connection is made with the first call and
    made anew when it breaks; `close`, or leaving the `with` block, ends it and every running call.

    Args:
        target: Where the server listens, as HOST:PORT or any gRPC target.
        tls: Certificates. None: no TLS.
        timeout_s: Deadline of unary calls that do not say their own, retries included, above 0.
        retry: Which unary calls are tried again. Streams never are.
        options: Limits and patience of the connection.

    Raises:
        OSError: A file of `tls` cannot be read.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
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
        """Tell what face crops show, all in one batch.

        Args:
            faces: uint8 grey levels (0 to 255) shaped [N, H, W], [N, H, W, 1] or, one face, [H, W];
                the server resizes what is not 48 x 48. Or encoded pictures (JPEG, PNG, WebP) of one
                face each.
            model: Name of the model. Empty: the server's default.
            version: Version of the model, or an alias such as "stable". None: the one it serves.
            priority: How urgent the call is beside others.
            timeout_s: Deadline in seconds, retries included. None: the client's.
            on_error: What becomes of a face that failed alone, such as a damaged picture: `raise`
                its error, although the others have predictions, or `return` it in its place.

        Returns:
            One prediction per face, in the order given.

        Raises:
            FerserveError: The call failed, or with `raise` a face did.
            TypeError: `faces` is neither an array of uint8 nor a list of bytes.
            ValueError: The array has another shape, or an argument is out of its range.
        """
        request = requests.classify_request(faces, model, version, priority)
        response = self._call(self._stubs.classify_faces, request, timeout_s)
        results = responses.read_classification(response)
        return results if on_error == "return" else responses.raise_first_error(results)

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
        """Find the faces of whole pictures and tell what each shows.

        Args:
            images: Encoded pictures: JPEG, PNG or WebP.
            model: Name of the model. Empty: the server's default.
            version: Version of the model, or an alias such as "stable". None: the one it serves.
            priority: How urgent the call is beside others.
            detection: How to look for faces. None: the server's settings.
            timeout_s: Deadline in seconds, retries included. None: the client's.

        Returns:
            One analysis per picture, in the order given. A picture that cannot be read has its `error`
            set, and never fails its neighbours.

        Raises:
            FerserveError: The call failed as a whole.
            TypeError: `images` is not a list of bytes.
            ValueError: An argument is out of its range.
        """
        request = requests.analyze_request(images, model, version, priority, detection)
        return responses.read_analyses(self._call(self._stubs.analyze_images, request, timeout_s))

    def stream_frames(
        self,
        frames: Iterable[bytes | Frame],
        *,
        model: str = "",
        version: int | str | None = None,
        policy: OverloadPolicy = "latest",
        detection: DetectionOptions | None = None,
        max_unanswered_frames: int = DEFAULT_MAX_UNANSWERED,
        timeout_s: float | None = None,
    ) -> Generator[FrameAnswer, None, None]:
        """Find and classify the faces of a video, frame by frame.

        The call begins with the first answer that is asked for, and ends with the last one, or when
        the generator is closed or dropped. `frames` is drawn from another thread, never by more
        than `max_unanswered_frames` ahead; what it raises is raised here, after the answers to the
        frames before. The call is never retried: after `ServerDrainingError` go on with `Frame`s
        numbered from `error.last_sequence_id + 1`.

        Args:
            frames: Encoded pictures (JPEG, PNG, WebP), numbered from 0; or `Frame`s with rising numbers.
            model: Name of the model. Empty: the server's default.
            version: Version of the model, or an alias such as "stable". None: the one it serves, at every frame.
            policy: What happens to frames that come faster than they can be answered.
            detection: How to look for faces. None: the server's settings.
            max_unanswered_frames: Frames that may wait for an answer at once, 1 or more.
            timeout_s: Deadline of the whole stream in seconds. None: it may last.

        Yields:
            One answer per frame, in the order sent.

        Raises:
            FerserveError: The call failed as a whole.
            ValueError: An argument is out of its range.
        """
        numbering = FrameNumbering()
        return exchange(
            self._stubs.stream_frames,
            (requests.frame_request(numbering.number(frame)) for frame in frames),
            FrameAnswerReader().read,
            first=requests.stream_config(model, version, policy, detection),
            max_unanswered=max_unanswered_frames,
            timeout_s=timeout_s,
        )

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
        """Tell what many small batches of face crops show, over one call.

        Begins, ends and draws `batches` as `stream_frames` does its frames.

        Args:
            batches: Arrays as for `classify`, numbered from 0.
            model: Name of the model. Empty: the server's default.
            version: Version of the model, or an alias such as "stable". None: the one it serves, at every batch.
            priority: How urgent the batches are beside other calls.
            max_unanswered_batches: Batches that may wait for an answer at once, 1 or more.
            timeout_s: Deadline of the whole stream in seconds. None: it may last.

        Yields:
            One answer per batch, in the order sent. A batch that failed has its `error` set.

        Raises:
            FerserveError: The call failed as a whole.
            TypeError: A batch is not an array of uint8.
            ValueError: A batch has another shape, or an argument is out of its range.
        """
        spec = requests.model_spec(model, version)
        numbers = itertools.count()
        return exchange(
            self._stubs.classify_stream,
            (requests.batch_request(next(numbers), faces, spec, priority) for faces in batches),
            BatchAnswerReader().read,
            first=None,
            max_unanswered=max_unanswered_batches,
            timeout_s=timeout_s,
        )

    def models(self, *, timeout_s: float | None = None) -> list[ModelInfo]:
        """Every model of the server, by name; all pages of the list.

        Args:
            timeout_s: Deadline of each page in seconds. None: the client's.

        Raises:
            FerserveError: The call failed.
        """
        found: list[ModelInfo] = []
        page_token = ""
        while True:
            request = requests.models_request(page_token)
            page, page_token = responses.read_models(self._call(self._stubs.list_models, request, timeout_s))
            found += page
            if not page_token:
                return found

    def model(self, name: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        """One model with all its versions.

        Args:
            name: Name of the model. Empty: the server's default.
            timeout_s: Deadline in seconds. None: the client's.

        Raises:
            ModelNotFoundError: There is no such model.
            FerserveError: The call failed otherwise.
        """
        response = self._call(self._stubs.get_model, requests.model_request(name), timeout_s)
        return responses.read_model(response.model)

    def health(self, service: str = "", *, timeout_s: float | None = None) -> HealthStatus:
        """What the server says of its health (grpc.health.v1).

        Args:
            service: Name of the service. Empty: the whole server.
            timeout_s: Deadline in seconds. None: the client's.

        Raises:
            NotFoundError: The server has no such service.
            FerserveError: The call failed otherwise.
        """
        request = requests.health_request(service)
        return responses.read_health(self._call(self._stubs.check_health, request, timeout_s))

    def _call(self, method: Callable[..., Any], request: object, timeout_s: float | None) -> Any:  # noqa: ANN401 - stubs are untyped
        timeout_s = self._timeout_s if timeout_s is None else timeout_s
        return call_unary(method, request, timeout_s=timeout_s, policy=self._retry)
