"""Calls ferserve, the facial-expression inference service.

    with EmotionClient("localhost:50051") as client:
        predictions = client.classify(faces)  # uint8 [N, 48, 48], or a list of encoded pictures
        print(predictions[0].emotion, predictions[0].confidence)

`AsyncEmotionClient` has the same methods for asyncio. Neither needs TensorFlow or OpenCV.
"""

from ferserve_client.aio_client import AsyncEmotionClient
from ferserve_client.answers import BatchAnswer, Frame, FrameAnswer, Results, Timing, TrackEvent
from ferserve_client.channel import DEFAULT_TARGET, ChannelOptions, TlsOptions
from ferserve_client.client import EmotionClient
from ferserve_client.errors import (
    AccessDeniedError,
    CallCancelledError,
    CallUnsupportedError,
    DeadlineExceededError,
    DeadlineUnmeetableError,
    EngineStalledError,
    ErrorFacts,
    FerserveError,
    FieldViolation,
    ImageUnreadableError,
    InferenceFailedError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelNotReadyError,
    NotFoundError,
    QueueFullError,
    RequestTooLargeError,
    ResourceExhaustedError,
    ServerDrainingError,
    ServerFailedError,
    ServerUnavailableError,
)
from ferserve_client.faces import BoundingBox, DetectedFace, Emotion, ImageAnalysis, Landmarks, Prediction
from ferserve_client.model_control import ModelControl
from ferserve_client.options import (
    DetectionOptions,
    Detector,
    FaceSource,
    NotAFacePolicy,
    OnError,
    OverloadPolicy,
    Priority,
    TrackingOptions,
)
from ferserve_client.retry import NO_RETRIES, RetryPolicy
from ferserve_client.servables import (
    CanaryInfo,
    HealthStatus,
    ModelInfo,
    ModelVersionInfo,
    Servable,
    ServableState,
    SkippedFolder,
    ValidationInfo,
)

__all__ = [
    "DEFAULT_TARGET",
    "NO_RETRIES",
    "AccessDeniedError",
    "AsyncEmotionClient",
    "BatchAnswer",
    "BoundingBox",
    "CallCancelledError",
    "CallUnsupportedError",
    "CanaryInfo",
    "ChannelOptions",
    "DeadlineExceededError",
    "DeadlineUnmeetableError",
    "DetectedFace",
    "DetectionOptions",
    "Detector",
    "Emotion",
    "EmotionClient",
    "EngineStalledError",
    "ErrorFacts",
    "FaceSource",
    "FerserveError",
    "FieldViolation",
    "Frame",
    "FrameAnswer",
    "HealthStatus",
    "ImageAnalysis",
    "ImageUnreadableError",
    "InferenceFailedError",
    "InvalidRequestError",
    "Landmarks",
    "ModelControl",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelNotReadyError",
    "ModelVersionInfo",
    "NotAFacePolicy",
    "NotFoundError",
    "OnError",
    "OverloadPolicy",
    "Prediction",
    "Priority",
    "QueueFullError",
    "RequestTooLargeError",
    "ResourceExhaustedError",
    "Results",
    "RetryPolicy",
    "Servable",
    "ServableState",
    "ServerDrainingError",
    "ServerFailedError",
    "ServerUnavailableError",
    "SkippedFolder",
    "Timing",
    "TlsOptions",
    "TrackEvent",
    "TrackingOptions",
    "ValidationInfo",
]
