"""Runs a ferserve server that answers by script, on a real loopback socket.

It knows no model: what a face shows follows from its first byte, and a picture that begins with
`BROKEN` cannot be read. Failures are queued by the test, per call.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]  # ships no types
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # as above
from grpc_status import rpc_status  # type: ignore[import-untyped]  # as above

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import (
    emotion_service_pb2_grpc,
    face_pb2,
    failure_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    servable_pb2,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
SERVABLE = servable_pb2.ServableId(name="fer-nano", version=3)
BROKEN = b"BROKEN"
SECOND_PAGE = "page-2"


@dataclass(frozen=True)
class Rejection:
    """How one call fails as a whole."""

    code: grpc.StatusCode
    reason: str
    message: str = "scripted"
    metadata: dict[str, str] = field(default_factory=dict)
    retry_delay_s: float | None = None
    violated_field: str = ""

    def status(self) -> Any:
        """As the status that goes over the wire."""
        info = error_details_pb2.ErrorInfo(domain="ferserve", reason=self.reason, metadata=self.metadata)
        details = [info]
        if self.retry_delay_s is not None:
            delay = duration_pb2.Duration()
            delay.FromMicroseconds(round(self.retry_delay_s * 1e6))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        if self.violated_field:
            violation = error_details_pb2.BadRequest.FieldViolation(
                field=self.violated_field, description=self.message
            )
            details.append(error_details_pb2.BadRequest(field_violations=[violation]))
        packed = [any_pb2.Any() for _ in details]
        for target, detail in zip(packed, details, strict=True):
            target.Pack(detail)
        return rpc_status.to_status(
            status_pb2.Status(code=self.code.value[0], message=self.message, details=packed)
        )


QUEUE_FULL = Rejection(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", "full", {"retry_safe": "true"}, retry_delay_s=0.01
)
DRAINING = Rejection(
    grpc.StatusCode.UNAVAILABLE, "DRAINING", "The server is shutting down.", {"retry_safe": "true"}
)
UNREADABLE = failure_pb2.Failure(
    code=3, reason="IMAGE_UNREADABLE", message="The picture cannot be decoded.", metadata={"index": "1"}
)


def prediction(first_byte: int) -> face_pb2.Prediction:
    """What a face shows whose data begins with this byte: class byte % 7, at 0.7."""
    index = first_byte % 7
    return face_pb2.Prediction(label_index=index, scores=[0.7 if label == index else 0.05 for label in range(7)])


def analysis(image: bytes) -> emotion_pb2.ImageAnalysis:
    """One face in a picture of 640 x 480."""
    face = face_pb2.DetectedFace(
        box=face_pb2.BoundingBox(left=10, top=20, width=30, height=40), prediction=prediction(image[0])
    )
    return emotion_pb2.ImageAnalysis(width=640, height=480, faces=[face])


class ScriptedServer(emotion_service_pb2_grpc.EmotionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """The servicer and the script.

    Attributes:
        requests: Every request that came, by method name; of streams every message.
        rejections: Failures of the next calls, by method name, first to last.
        drop: Numbers of frames that are answered as dropped.
        end_stream_after: Answers after which a stream ends with `stream_rejection`.
        ended_streams: Streams that end so; the ones after them go on. None: all.
        break_frames: Numbers of frames that cannot be read.
        failing_frames: Failures of frames by number, one for each time that the frame is sent.
        hang_streams: Streams that never answer a frame; the ones after them do.
        image_delay_s: Time that a request of pictures takes.
        frame_delay_s: Time that the answer to a frame takes.
        unblocked: While it is not set, streams answer nothing.
        stream_began: Set when a stream's first message is there.
        stream_ended: Set when a stream's handler is over.
    """

    def __init__(self) -> None:
        self.address = ""
        self.requests: defaultdict[str, list[Any]] = defaultdict(list)
        self.rejections: defaultdict[str, deque[Rejection]] = defaultdict(deque)
        self.drop: set[int] = set()
        self.end_stream_after: int | None = None
        self.ended_streams: int | None = None
        self.break_frames: set[int] = set()
        self.failing_frames: dict[int, list[Any]] = {}
        self.hang_streams = 0
        self.image_delay_s = 0.0
        self.frame_delay_s = 0.0
        self.stream_rejection = DRAINING
        self.unblocked = threading.Event()
        self.unblocked.set()
        self.stream_began = threading.Event()
        self.stream_ended = threading.Event()
        self._health = health.HealthServicer()
        self.set_health("", serving=True)
        self.set_health("fer-wide", serving=False)

    def set_health(self, service: str, *, serving: bool) -> None:
        """Says from now on that the service serves, or does not."""
        states = health_pb2.HealthCheckResponse
        self._health.set(service, states.SERVING if serving else states.NOT_SERVING)

    def _arrive(self, method: str, request: object, context: grpc.ServicerContext) -> None:
        self.requests[method].append(request)
        if self.rejections[method]:
            context.abort_with_status(self.rejections[method].popleft().status())

    def ClassifyFaces(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self._arrive("ClassifyFaces", request, context)
        results = [
            emotion_pb2.FaceResult(failure=UNREADABLE)
            if face.startswith(BROKEN)
            else emotion_pb2.FaceResult(prediction=prediction(face[0]))
            for face in _faces(request)
        ]
        return emotion_pb2.ClassifyFacesResponse(
            results=results, labels=LABELS, servable=SERVABLE, timing=face_pb2.Timing(total_ms=1.5)
        )

    def AnalyzeImages(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self._arrive("AnalyzeImages", request, context)
        time.sleep(self.image_delay_s)
        results = [
            emotion_pb2.ImageResult(failure=UNREADABLE)
            if image.startswith(BROKEN)
            else emotion_pb2.ImageResult(analysis=analysis(image))
            for image in request.images
        ]
        return emotion_pb2.AnalyzeImagesResponse(
            results=results, labels=LABELS, servable=SERVABLE, timing=face_pb2.Timing(total_ms=2.5)
        )

    def StreamFrames(self, request_iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - gRPC's name
        try:
            first = next(request_iterator)
            self._arrive("StreamFrames", first, context)
            self.stream_began.set()
            if self.hang_streams:
                self.hang_streams -= 1
                while context.is_active():
                    time.sleep(0.02)
                return
            for count, request in enumerate(request_iterator):
                self.requests["StreamFrames"].append(request)
                self._wait(count, context)
                time.sleep(self.frame_delay_s)
                yield self._answer_frame(count, request.frame, first.config)
        finally:
            self.stream_ended.set()

    def _answer_frame(self, count: int, frame: Any, config: Any) -> Any:
        """Follows one track where tracking is asked for: it appears with the first frame."""
        response = emotion_pb2.StreamFramesResponse(
            sequence_id=frame.sequence_id, time_s=frame.time_s, age_ms=self.frame_delay_s * 1000
        )
        if count == 0:
            response.labels.extend(LABELS)
        if frame.sequence_id in self.drop:
            response.dropped.newer_sequence_id = frame.sequence_id + 1
        elif self.failing_frames.get(frame.sequence_id):
            response.failure.CopyFrom(self.failing_frames[frame.sequence_id].pop())
        elif frame.image.startswith(BROKEN) or frame.sequence_id in self.break_frames:
            response.failure.CopyFrom(UNREADABLE)
        else:
            response.analysis.CopyFrom(analysis(frame.image))
            response.servable.CopyFrom(SERVABLE)
            if config.tracking.enabled:
                face = response.analysis.faces[0]
                face.track_id, face.score = 1, 0.9
                face.raw.CopyFrom(face.prediction)
                if count == 0:
                    response.tracks_restarted = config.HasField("resumed_after_sequence_id")
                    response.events.add(
                        event=emotion_pb2.TRACK_EVENT_TYPE_APPEARED,
                        track_id=1,
                        time_s=frame.time_s,
                        prediction=face.prediction,
                    )
        return response

    def ClassifyStream(self, request_iterator: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - gRPC's name
        for count, request in enumerate(request_iterator):
            self.requests["ClassifyStream"].append(request)
            self._wait(count, context)
            faces = _split(request.faces)
            yield emotion_pb2.ClassifyStreamResponse(
                sequence_id=request.sequence_id,
                predictions=[prediction(face[0]) for face in faces],
                failure=None if faces else UNREADABLE,
                labels=LABELS if count == 0 else (),
                servable=SERVABLE if faces else None,
            )

    def _wait(self, count: int, context: grpc.ServicerContext) -> None:
        while not self.unblocked.wait(0.02):
            if not context.is_active():
                raise TimeoutError("the client is gone")
        if count == self.end_stream_after and self.ended_streams != 0:
            if self.ended_streams is not None:
                self.ended_streams -= 1
            context.abort_with_status(self.stream_rejection.status())

    def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self._arrive("GetModel", request, context)
        if request.name not in {"", "fer-nano"}:
            context.abort_with_status(
                Rejection(grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", f"no model {request.name!r}").status()
            )
        return model_service_pb2.GetModelResponse(model=model("fer-nano"))

    def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        """Two pages."""
        self._arrive("ListModels", request, context)
        if request.page_token == SECOND_PAGE:
            return model_service_pb2.ListModelsResponse(models=[model("fer-wide")])
        return model_service_pb2.ListModelsResponse(models=[model("fer-nano")], next_page_token=SECOND_PAGE)


def model(name: str) -> model_service_pb2.Model:
    """A model with a ready version and one that failed to load."""
    ready = model_service_pb2.ModelVersion(
        version=3,
        state=model_service_pb2.SERVABLE_STATE_READY,
        labels=LABELS,
        input_height=48,
        input_width=48,
        parameter_count=120_000,
        metrics={"public_test_accuracy": 0.68},
        bucket_sizes=[1, 8, 64],
        precision=model_service_pb2.PRECISION_BFLOAT16,
        bfloat16_speedup=1.5,
        latency_ms={64: 4.0, 8: 1.0, 1: 0.5},
    )
    failed = model_service_pb2.ModelVersion(
        version=2,
        state=model_service_pb2.SERVABLE_STATE_FAILED,
        failure=failure_pb2.Failure(code=13, reason="INTERNAL", message="checksum differs"),
    )
    return model_service_pb2.Model(name=name, default=name == "fer-nano", versions=[ready, failed])


def _faces(request: Any) -> list[bytes]:
    if request.WhichOneof("faces") == "encoded":
        return list(request.encoded.images)
    return _split(request.packed)


def _split(packed: Any) -> list[bytes]:
    size = packed.height * packed.width
    return [packed.pixels[start : start + size] for start in range(0, len(packed.pixels), size)]


@contextlib.contextmanager
def serve(credentials: grpc.ServerCredentials | None = None, port: int = 0) -> Iterator[ScriptedServer]:
    """A scripted server on the loopback until the block is left; 0: on a free port."""
    scripted = ScriptedServer()
    server = grpc.server(
        ThreadPoolExecutor(max_workers=8), options=[("grpc.max_receive_message_length", 32 * 1024 * 1024)]
    )
    emotion_service_pb2_grpc.add_EmotionServiceServicer_to_server(scripted, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(scripted, server)
    health_pb2_grpc.add_HealthServicer_to_server(scripted._health, server)
    if credentials is None:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
    else:
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    scripted.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield scripted
    finally:
        scripted.unblocked.set()
        server.stop(grace=None).wait()
