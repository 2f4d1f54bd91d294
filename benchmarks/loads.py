"""Defines the loads of the tables."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from load.plan import Part

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "model_repo" / "fer-nano" / "4"
PICTURE = ROOT / "tests" / "media" / "astronaut.jpg"
SERVICE = "/ferserve.v1.EmotionService"
SIDE = 48

Load = tuple[Part, ...]


def golden_faces(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Returns golden faces of the bundled model, uint8 [count, 48, 48, 1], repeated if too few."""
    with np.load(MODEL / "assets.extra" / "golden.npz") as golden:
        faces: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = np.resize(golden["faces"], (count, SIDE, SIDE, 1))
    return faces


def golden_scores(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Returns the bundled model's scores of these, float32 [count, 7]."""
    with np.load(MODEL / "assets.extra" / "golden.npz") as golden:
        scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = np.resize(golden["probabilities"], (count, 7))
    return scores


def _packed(count: int) -> face_pb2.PackedFaces:
    return face_pb2.PackedFaces(pixels=golden_faces(count).tobytes(), face_count=count)


def _of(count: int) -> str:
    return "1 face" if count == 1 else f"{count} faces"


def unary(face_count: int, callers: int, *, rate: float = 0.0, timeout_s: float = 60.0) -> Part:
    """ClassifyFaces from callers that share up to four connections."""
    message = emotion_pb2.ClassifyFacesRequest(packed=_packed(face_count)).SerializeToString()
    name = f"unary, {_of(face_count)}, {callers} at once"
    path = f"{SERVICE}/ClassifyFaces"
    connections = min(4, callers)
    return Part(name, "unary", path, message, face_count, callers, connections, rate, timeout_s)


def stream(face_count: int, callers: int, connections: int = 4) -> Part:
    """Messages of ClassifyStream, `callers` unanswered ones in all, over streams with a connection each."""
    message = emotion_pb2.ClassifyStreamRequest(faces=_packed(face_count)).SerializeToString()
    name = f"stream, {_of(face_count)}, {callers} at once"
    return Part(name, "stream", f"{SERVICE}/ClassifyStream", message, face_count, callers, connections)


def picture(callers: int) -> Part:
    """AnalyzeImages of a JPEG of 640 x 480 pixels with one face."""
    message = emotion_pb2.AnalyzeImagesRequest(images=[jpeg_640x480()]).SerializeToString()
    connections = min(4, callers)
    return Part(
        f"picture, {callers} at once", "unary", f"{SERVICE}/AnalyzeImages", message, 1, callers, connections
    )


def jpeg_640x480() -> bytes:
    """Returns a photograph with one face, cut to 4:3 around it.

    Raises:
        OSError: The photograph cannot be read.
    """
    image = cv2.imread(str(PICTURE))
    if image is None:
        raise OSError(f"{PICTURE} cannot be read")
    height = image.shape[1] * 3 // 4
    encoded = cv2.imencode(".jpg", cv2.resize(image[:height], (640, 480)), [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    return encoded.tobytes()


def mixed() -> Load:
    """Some of everything, side by side."""
    return (unary(1, 8), unary(32, 2), stream(1, 8, 2), picture(1))


CLASSIFY_LOADS: dict[str, Load] = {
    part.name: (part,)
    for part in (
        *(unary(1, callers) for callers in (1, 8, 32, 128)),
        unary(32, 4),
        stream(1, 32),
        stream(32, 8),
    )
}
"""Loads that need no vision: single crops, 32 crops a call, and both as messages of streams."""

ALL_LOADS: dict[str, Load] = {**CLASSIFY_LOADS, "picture, 2 at once": (picture(2),), "mixed": mixed()}
"""With pictures that are decoded and searched, and everything at once."""
