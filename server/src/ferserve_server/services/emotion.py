"""Implements EmotionService: converts messages to use cases and results back to messages."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import grpc

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.domain import metrics
from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import DeadlineExpiredError, DrainingError, FerserveError, InvalidRequestError
from ferserve_server.domain.trace import current_stream
from ferserve_server.pipeline.classify_stream import CropSequence, CropStream
from ferserve_server.pipeline.stream_frames import kind_of
from ferserve_server.services import frame_messages
from ferserve_server.services.callers import caller_of_context
from ferserve_server.services.codec import messages, responses
from ferserve_server.services.codec.requests import CropRequest, CropRequests
from ferserve_server.services.health import EMOTION_SERVICE
from ferserve_server.services.reading import method_handler

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable

    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.metrics import MetricsRecorder
    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.domain.trace import StreamTrace
    from ferserve_server.pipeline.analyze_images import AnalyzeImages
    from ferserve_server.pipeline.classify_faces import ClassifyFaces
    from ferserve_server.pipeline.classify_stream import CropAnswer
    from ferserve_server.pipeline.frame_answers import Frame, FrameStreamConfig
    from ferserve_server.pipeline.stream_frames import StreamFrames
    from ferserve_server.services.calls import Calls, Context
    from ferserve_server.services.limits import RequestLimits
    from ferserve_server.tracking.options import TrackingOptions


class EmotionServicer:
    """Implements `ferserve.v1.EmotionService`. Event loop only."""

    def __init__(  # noqa: PLR0913 - its collaborators, each a port or a value
        self,
        calls: Calls,
        classify: ClassifyFaces,
        analyze: AnalyzeImages,
        stream_frames: StreamFrames,
        *,
        limits: RequestLimits,
        detection: DetectionOptions,
        tracking: TrackingOptions,
        recorder: MetricsRecorder,
        clock: Clock,
    ) -> None:
        self._calls = calls
        self._classify = classify
        self._analyze = analyze
        self._limits = limits
        self._frame_streams = stream_frames
        self._detection = detection
        self._tracking = tracking
        self._recorder = recorder
        self._clock = clock
        self._requests = CropRequests(limits)
        unary, stream = (
            partial(calls.unary, service=EMOTION_SERVICE),
            partial(calls.stream, service=EMOTION_SERVICE),
        )
        self.ClassifyFaces = unary("ClassifyFaces", self._classify_faces, length=len)
        self.AnalyzeImages = unary("AnalyzeImages", self._analyze_images)
        self.StreamFrames = stream("StreamFrames", self._stream_frames)
        self.ClassifyStream = stream("ClassifyStream", self._classify_stream, length=None)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns its RPCs for a gRPC server; those that classify crops take and give bytes."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            EMOTION_SERVICE,
            {
                "ClassifyFaces": unary(self.ClassifyFaces),
                "ClassifyStream": stream(self.ClassifyStream),
                "AnalyzeImages": method_handler(
                    self.AnalyzeImages, emotion_pb2.AnalyzeImagesRequest, emotion_pb2.AnalyzeImagesResponse
                ),
                "StreamFrames": method_handler(
                    self.StreamFrames,
                    emotion_pb2.StreamFramesRequest,
                    emotion_pb2.StreamFramesResponse,
                    streaming=True,
                ),
            },
        )

    async def classify_faces(
        self, message: bytes, deadline: float | None, caller: CallerId = UNKNOWN_CALLER
    ) -> bytes:
        """Answers a ClassifyFacesRequest with a ClassifyFacesResponse.

        Args:
            message: The request.
            deadline: When the answer must be there, on the server's clock, in seconds, or None.
            caller: Whose call it is.

        Raises:
            DeadlineExpiredError: The deadline has passed; the message is not read then.
            FerserveError: It cannot be read, or the faces were not taken.
        """
        started_at = self._clock.now()
        if deadline is not None and deadline <= started_at:
            raise DeadlineExpiredError
        request = self._requests.read_call(message)
        spec, priority = request.spec, request.priority
        if isinstance(request, CropRequest):
            answer = await self._classify.packed(
                request.crops, spec, deadline=deadline, priority=priority, caller=caller
            )
        else:
            answer = await self._classify.encoded(
                request.images, spec, deadline=deadline, priority=priority, caller=caller
            )
        return responses.format_call_answer(answer, self._clock.now() - started_at)

    def _classify_faces(self, message: bytes, context: Context) -> Awaitable[bytes]:
        return self.classify_faces(message, self._calls.deadline(context), caller_of_context(context))

    async def _analyze_images(
        self, request: emotion_pb2.AnalyzeImagesRequest, context: Context
    ) -> emotion_pb2.AnalyzeImagesResponse:
        started_at = self._clock.now()
        spec = messages.parse_spec(request.model)
        priority = messages.parse_priority(request.priority)
        options = messages.parse_detection(request.detection, self._detection, self._limits)
        images = list(request.images)
        self._limits.check_image_count(len(images))
        answer = await self._analyze(
            images,
            spec,
            options,
            deadline=self._calls.deadline(context),
            priority=priority,
            caller=caller_of_context(context),
        )
        response = emotion_pb2.AnalyzeImagesResponse(
            labels=answer.labels, servable=messages.format_servable(answer.servable)
        )
        for result in answer.results:
            if isinstance(result, FerserveError):
                response.results.add(failure=messages.format_failure(result))
            else:
                response.results.add(analysis=messages.format_analysis(result))
        response.timing.CopyFrom(messages.format_timing(answer, self._clock.now() - started_at))
        return response

    def _stream_frames(
        self, requests: AsyncIterator[emotion_pb2.StreamFramesRequest], context: Context
    ) -> AsyncGenerator[emotion_pb2.StreamFramesResponse, None]:
        return self.stream_frames(requests, caller_of_context(context))

    async def stream_frames(
        self, requests: AsyncIterator[emotion_pb2.StreamFramesRequest], caller: CallerId = UNKNOWN_CALLER
    ) -> AsyncGenerator[emotion_pb2.StreamFramesResponse, None]:
        """Answers the messages of one stream, on any transport.

        Args:
            requests: The configuration, then frames.
            caller: The caller whose stream it is.

        Raises:
            InvalidRequestError: The configuration or a sequence number is wrong.
            DrainingError: The server is draining. Frames that were taken are answered first.
        """
        config = replace(await self._read_config(requests), caller=caller)
        stream = self._frame_streams.open(config, self._calls.draining, current_stream.get())
        writer = frame_messages.FrameAnswerWriter()
        async with contextlib.aclosing(stream.run(_frames(requests))) as answered:
            async for answer in answered:
                outcome = kind_of(answer.outcome).partition("_")[0]
                self._recorder.count(metrics.STREAM_ANSWERS, "StreamFrames", outcome)
                yield writer.write(answer)

    async def _read_config(self, requests: AsyncIterator[emotion_pb2.StreamFramesRequest]) -> FrameStreamConfig:
        first = await self._first(requests)
        if first is None or first.WhichOneof("message") != "config":
            raise InvalidRequestError(
                "STREAM_CONFIG_REQUIRED", "The first message of the stream must be its config.", field="config"
            )
        return self.parse_stream_config(first.config)

    def parse_stream_config(self, config: emotion_pb2.FrameStreamConfig) -> FrameStreamConfig:
        """Reads the configuration of a frame stream.

        Raises:
            InvalidRequestError: With the path of the field at fault, below `config`.
        """
        return frame_messages.parse_config(config, self._detection, self._tracking, self._limits)

    async def _first(
        self, requests: AsyncIterator[emotion_pb2.StreamFramesRequest]
    ) -> emotion_pb2.StreamFramesRequest | None:
        """Waits for the first message, but not longer than the server accepts any."""
        reading = asyncio.ensure_future(anext(aiter(requests), None))
        draining = asyncio.ensure_future(self._calls.draining.wait())
        try:
            await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise DrainingError(last_sequence_id=-1)
            return reading.result()
        finally:
            reading.cancel()
            draining.cancel()

    @property
    def max_unanswered(self) -> int:
        """Returns the maximum number of unanswered messages of a stream."""
        return self._frame_streams.limits.max_unanswered

    def crop_sequence(
        self, caller: CallerId = UNKNOWN_CALLER, trace: StreamTrace | None = None
    ) -> CropSequence[bytes, bytes]:
        """Makes the reader and writer of one ClassifyStream's messages, which `trace` samples."""
        return CropSequence(
            self._classify,
            read=self._requests.read_stream_message,
            write=_CropAnswerWriter(self._recorder).write,
            caller=caller,
            trace=trace,
        )

    def _classify_stream(self, messages: AsyncIterator[bytes], context: Context) -> AsyncGenerator[bytes, None]:
        stream = CropStream(
            self.crop_sequence(caller_of_context(context), current_stream.get()),
            max_unanswered=self.max_unanswered,
            draining=self._calls.draining,
        )
        return stream.run(messages)


class _CropAnswerWriter:
    """Writes the answers of one ClassifyStream, with the names of the classes when they change."""

    def __init__(self, recorder: MetricsRecorder) -> None:
        self._recorder = recorder
        self._last: ServableId | None = None

    def write(self, answer: CropAnswer) -> bytes:
        outcome = answer.outcome
        if not isinstance(outcome, FerserveError) and outcome.faces.failures:
            outcome = next(iter(outcome.faces.failures.values()))
        if isinstance(outcome, FerserveError):
            self._recorder.count(metrics.STREAM_ANSWERS, "ClassifyStream", "failed")
            return responses.format_stream_failure(answer.sequence_id, outcome)
        self._recorder.count(metrics.STREAM_ANSWERS, "ClassifyStream", "result")
        changed = outcome.servable != self._last
        self._last = outcome.servable
        return responses.format_stream_answer(answer.sequence_id, outcome, with_labels=changed)


async def _frames(requests: AsyncIterator[emotion_pb2.StreamFramesRequest]) -> AsyncIterator[Frame]:
    async for request in requests:
        if request.WhichOneof("message") != "frame":
            raise InvalidRequestError(
                "STREAM_CONFIG_REPEATED", "After the config every message must be a frame.", field="frame"
            )
        yield frame_messages.parse_frame(request.frame)
