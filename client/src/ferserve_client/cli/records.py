"""What `--json` prints, as dictionaries. Part of the interface: names stay."""

from dataclasses import asdict
from typing import Any

from ferserve_client.answers import FrameAnswer
from ferserve_client.errors import FerserveError
from ferserve_client.faces import DetectedFace, ImageAnalysis, Prediction
from ferserve_client.servables import ModelInfo, Servable

DIGITS = 6
"""Decimals of a score: float32 has no more."""


def analysis_record(source: str, answer: ImageAnalysis | FerserveError | OSError) -> dict[str, Any]:
    """One picture of `analyze`."""
    analysis = answer if isinstance(answer, ImageAnalysis) else ImageAnalysis()
    error = analysis.error if isinstance(answer, ImageAnalysis) else answer
    return {
        "source": source,
        "width": analysis.width if error is None else None,
        "height": analysis.height if error is None else None,
        "faces": [_face_record(face) for face in analysis.faces],
        **_servable_record(analysis.servable),
        "error": error_record(error),
    }


def classification_record(
    source: str, answer: Prediction | FerserveError | OSError, servable: Servable | None
) -> dict[str, Any]:
    """One crop of `classify`."""
    if isinstance(answer, Prediction):
        outcome = {**_prediction_record(answer), **_servable_record(servable), "error": None}
    else:
        outcome = {**_prediction_record(None), **_servable_record(None), "error": error_record(answer)}
    return {"source": source, **outcome}


def frame_record(source: str, time_s: float, answer: FrameAnswer) -> dict[str, Any]:
    """One frame of `watch`."""
    analysis = answer.analysis
    record: dict[str, Any] = {
        "source": source,
        "sequence_id": answer.sequence_id,
        "time_s": round(time_s, DIGITS),
        "width": analysis.width if analysis else None,
        "height": analysis.height if analysis else None,
        "faces": [_face_record(face) for face in analysis.faces] if analysis else [],
        **_servable_record(answer.servable),
        "error": error_record(answer.error),
    }
    return {**record, "dropped": True} if answer.dropped else record


def model_record(model: ModelInfo) -> dict[str, Any]:
    """One model of `models`."""
    return {
        "name": model.name,
        "default": model.is_default,
        "version_policy": model.version_policy,
        "aliases": dict(model.aliases),
        "serving_version": model.serving_version,
        "canary": None if model.canary is None else asdict(model.canary),
        "versions": [
            {
                "version": version.version,
                "state": str(version.state),
                "labels": list(version.labels),
                "input_height": version.input_height,
                "input_width": version.input_width,
                "mac_count": version.mac_count,
                "parameter_count": version.parameter_count,
                "metrics": dict(version.metrics),
                "bucket_sizes": list(version.bucket_sizes),
                "aliases": list(version.aliases),
                "validation": None if version.validation is None else asdict(version.validation),
                "precision": version.precision,
                "bfloat16_speedup": version.bfloat16_speedup,
                "latency_ms": {str(size): each_ms for size, each_ms in version.latency_ms.items()},
                "error": error_record(version.error),
            }
            for version in model.versions
        ],
    }


def error_record(error: FerserveError | OSError | None) -> dict[str, str] | None:
    """Why there is no result: `reason` for programs, `message` for people. None when all is fine."""
    if error is None:
        return None
    if isinstance(error, FerserveError):
        return {"reason": error.reason or error.code.name, "message": error.message}
    return {"reason": "FILE_UNREADABLE", "message": error.strerror or str(error)}


def _face_record(face: DetectedFace) -> dict[str, Any]:
    box = [face.box.left, face.box.top, face.box.width, face.box.height]
    record = {"box": box, **_prediction_record(face.prediction)}
    return record if face.error is None else {**record, "error": error_record(face.error)}


def _prediction_record(prediction: Prediction | None) -> dict[str, Any]:
    if prediction is None:
        return {"emotion": None, "confidence": None, "scores": None}
    return {
        "emotion": prediction.emotion,
        "confidence": round(prediction.confidence, DIGITS),
        "scores": {label: round(score, DIGITS) for label, score in prediction.scores.items()},
    }


def _servable_record(servable: Servable | None) -> dict[str, Any]:
    if servable is None:
        return {"model": None, "version": None}
    return {"model": servable.name, "version": servable.version}
