"""Tests the public interface of the package."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import ferserve_client
from ferserve_client import AsyncEmotionClient, EmotionClient, errors

PUBLIC_NAMES = {
    "AccessDeniedError",
    "AsyncEmotionClient",
    "BatchAnswer",
    "BoundingBox",
    "CallCancelledError",
    "CallUnsupportedError",
    "CanaryInfo",
    "ChannelOptions",
    "DEFAULT_TARGET",
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
    "ValidationInfo",
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
    "NO_RETRIES",
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
}
SOURCE = Path(ferserve_client.__file__).parent


def test_the_public_names_are_these_and_no_others() -> None:
    assert set(ferserve_client.__all__) == PUBLIC_NAMES
    assert all(hasattr(ferserve_client, name) for name in PUBLIC_NAMES)


def test_every_error_is_public() -> None:
    classes = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)
    }

    assert classes <= PUBLIC_NAMES


@pytest.mark.parametrize(
    "method", ["analyze", "classify", "classify_stream", "health", "model", "models", "stream_frames"]
)
def test_the_twins_take_the_same_arguments(method: str) -> None:
    blocking = inspect.signature(getattr(EmotionClient, method)).parameters
    asynchronous = inspect.signature(getattr(AsyncEmotionClient, method)).parameters

    assert [(p.name, p.kind, p.default) for p in blocking.values()] == [
        (p.name, p.kind, p.default) for p in asynchronous.values()
    ]


def test_the_twins_have_the_same_methods() -> None:
    def public(client: type) -> set[str]:
        return {name for name in vars(client) if not name.startswith("_")}

    assert public(EmotionClient) == public(AsyncEmotionClient)


def test_the_library_and_the_command_come_up_without_opencv_and_tensorflow() -> None:
    program = (
        "import sys\n"
        "for heavy in ('cv2', 'tensorflow', 'keras'):\n"
        "    sys.modules[heavy] = None\n"
        "import ferserve_client, ferserve_client.cli\n"
        "from ferserve_client.video.extras import MissingExtraError, load_cv2\n"
        "try:\n"
        "    load_cv2()\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert "install ferserve-client[video]" in ran.stdout


def test_only_wire_knows_protobuf() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.parent.name == "wire":
            continue
        imported = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }

        assert not {name for name in imported if name.startswith(("google", "ferserve.", "grpc_"))}, path
