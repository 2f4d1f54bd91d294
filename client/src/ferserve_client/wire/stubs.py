"""Names the calls of a channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2_grpc

from ferserve.v1 import emotion_service_pb2_grpc, model_service_pb2_grpc

if TYPE_CHECKING:
    import grpc
    import grpc.aio


class Stubs:
    """Holds every call that a client makes: blocking or asyncio, as the channel is.

    The generated stubs are typed alike for both, so the callables are `Any` here and typed by the
    functions that make the requests and read the answers.
    """

    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None:
        emotion = emotion_service_pb2_grpc.EmotionServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        models = model_service_pb2_grpc.ModelServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        health: Any = health_pb2_grpc.HealthStub(channel)  # its published types lack the methods
        self.classify_faces: Any = emotion.ClassifyFaces
        self.analyze_images: Any = emotion.AnalyzeImages
        self.stream_frames: Any = emotion.StreamFrames
        self.classify_stream: Any = emotion.ClassifyStream
        self.get_model: Any = models.GetModel
        self.list_models: Any = models.ListModels
        self.load_version: Any = models.LoadVersion
        self.unload_version: Any = models.UnloadVersion
        self.set_alias: Any = models.SetAlias
        self.delete_alias: Any = models.DeleteAlias
        self.promote_version: Any = models.PromoteVersion
        self.roll_back: Any = models.RollBack
        self.check_health: Any = health.Check
