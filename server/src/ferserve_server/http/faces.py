"""Writes analyses of pictures as JSON, in the names of the proto's fields. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve.v1 import emotion_service_pb2 as emotion_pb2
    from ferserve.v1 import face_pb2, failure_pb2, servable_pb2

SCORE_DIGITS: Final = 6
"""Decimal places of probabilities. A float32 holds about seven significant digits."""

_LANDMARKS: Final = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
_CODE_NAMES: Final[dict[int, str]] = {code.value[0]: code.name for code in grpc.StatusCode}


def format_image(analysis: emotion_pb2.ImageAnalysis, labels: Sequence[str]) -> dict[str, Any]:
    """Writes the faces of one picture.

    Args:
        analysis: The analysis.
        labels: Names of the classes, in the order of the scores.
    """
    return {
        "width": analysis.width,
        "height": analysis.height,
        "faces": [format_face(face, labels) for face in analysis.faces],
        "omitted_face_count": analysis.omitted_face_count,
    }


def format_face(face: face_pb2.DetectedFace, labels: Sequence[str]) -> dict[str, Any]:
    """Writes one face: its place, and its prediction or failure."""
    box = face.box
    document: dict[str, Any] = {
        "box": {"left": box.left, "top": box.top, "width": box.width, "height": box.height},
        "score": round(face.score, SCORE_DIGITS),
    }
    if face.HasField("landmarks"):
        points = [(name, getattr(face.landmarks, name)) for name in _LANDMARKS]
        document["landmarks"] = {name: [round(point.x, 2), round(point.y, 2)] for name, point in points}
    if face.HasField("failure"):
        return {**document, "failure": format_failure(face.failure)}
    document |= format_prediction(face.prediction, labels)
    document["uncertain"] = face.prediction.uncertain
    if face.not_a_face:
        document["not_a_face"] = True
    if face.HasField("raw"):
        document["raw"] = format_prediction(face.raw, labels)
    if face.track_id:
        document["track_id"] = face.track_id
    return document


def format_prediction(prediction: face_pb2.Prediction, labels: Sequence[str]) -> dict[str, Any]:
    """Writes the most probable expression, its probability, and the probability of each expression."""
    scores = [round(score, SCORE_DIGITS) for score in prediction.scores]
    best = prediction.label_index
    return {
        "emotion": labels[best],
        "confidence": scores[best],
        "scores": dict(zip(labels, scores, strict=True)),
    }


def format_failure(failure: failure_pb2.Failure) -> dict[str, Any]:
    """Writes the reason for which one part of an answer is missing."""
    return {
        "code": _CODE_NAMES.get(failure.code, "UNKNOWN"),
        "reason": failure.reason,
        "message": failure.message,
        "metadata": dict(failure.metadata),
    }


def format_model(servable: servable_pb2.ServableId) -> dict[str, Any]:
    """Writes the model and version that answered."""
    return {"name": servable.name, "version": servable.version}
