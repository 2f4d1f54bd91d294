"""Makes the records of `--json`. Their names are part of the interface, and those of the HTTP API."""

from dataclasses import asdict
from typing import Any

from ferserve_client.answers import FrameAnswer, TrackEvent
from ferserve_client.errors import FerserveError
from ferserve_client.faces import DetectedFace, ImageAnalysis, Prediction
from ferserve_client.servables import ModelInfo, Servable

DIGITS = 6
"""Decimals of a score: float32 has no more."""


def analysis_record(source: str, answer: ImageAnalysis | FerserveError | OSError) -> dict[str, Any]:
    """Return the record of one picture of `analyze` and `folder`."""
    if isinstance(answer, ImageAnalysis) and answer.error is None:
        return {"source": source, **_analysis_fields(answer)}
    error = answer.error if isinstance(answer, ImageAnalysis) else answer
    return {"source": source, "failure": failure_record(error)}


def classification_record(
    source: str, answer: Prediction | FerserveError | OSError, servable: Servable | None
) -> dict[str, Any]:
    """Return the record of one crop of `classify`."""
    if isinstance(answer, Prediction):
        return {"source": source, **_prediction_fields(answer), "model": _servable_record(servable)}
    return {"source": source, "failure": failure_record(answer)}


def frame_record(source: str, lag_s: float, answer: FrameAnswer) -> dict[str, Any]:
    """Return the record of one frame of `watch`."""
    record: dict[str, Any] = {
        "source": source,
        "sequence_id": answer.sequence_id,
        "time_s": round(answer.time_s, DIGITS),
        "age_ms": round(answer.age_ms, 1),
        "lag_ms": round(lag_s * 1000, 1),
        "dropped": answer.dropped,
    }
    if answer.dropped:
        return {**record, "newer_sequence_id": answer.newer_sequence_id}
    if answer.error is not None:
        return {**record, "failure": failure_record(answer.error)}
    if answer.unchanged or answer.analysis is None:
        return {**record, "unchanged": True}
    events = [_event_record(event) for event in answer.events]
    return {
        **record,
        **_analysis_fields(answer.analysis),
        "events": events,
        "tracks_restarted": answer.tracks_restarted,
    }


def model_record(model: ModelInfo) -> dict[str, Any]:
    """Return the record of one model of `models`."""
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
                "uncertain_threshold": version.uncertain_threshold,
                "not_a_face_threshold": version.not_a_face_threshold,
                "latency_ms": {str(size): each_ms for size, each_ms in version.latency_ms.items()},
                "error": None if version.error is None else failure_record(version.error),
            }
            for version in model.versions
        ],
        "skipped_folders": [
            {"folder": each.folder, "error": failure_record(each.error)} for each in model.skipped_folders
        ],
    }


def failure_record(error: FerserveError | OSError | None) -> dict[str, Any]:
    """Return the record of a failure: `code` and `reason` for programs, `message` for people."""
    if isinstance(error, FerserveError):
        return {"code": error.code.name, "reason": error.reason or error.code.name, "message": error.message}
    message = "" if error is None else error.strerror or str(error)
    return {"code": "INVALID_ARGUMENT", "reason": "FILE_UNREADABLE", "message": message}


def _analysis_fields(analysis: ImageAnalysis) -> dict[str, Any]:
    return {
        "width": analysis.width,
        "height": analysis.height,
        "faces": [_face_record(face) for face in analysis.faces],
        "omitted_face_count": analysis.omitted_face_count,
        "model": _servable_record(analysis.servable),
    }


def _face_record(face: DetectedFace) -> dict[str, Any]:
    record: dict[str, Any] = {"box": asdict(face.box), "score": round(face.score, DIGITS)}
    if face.landmarks is not None:
        points = asdict(face.landmarks)
        record["landmarks"] = {name: [round(x, 2), round(y, 2)] for name, (x, y) in points.items()}
    if face.prediction is None:
        return {**record, "failure": failure_record(face.error)}
    record |= _prediction_fields(face.prediction)
    if face.not_a_face:
        record["not_a_face"] = True
    if face.raw is not None:
        raw = _prediction_fields(face.raw)
        record["raw"] = {name: raw[name] for name in ("emotion", "confidence", "scores")}
    if face.track_id:
        record["track_id"] = face.track_id
    return record


def _prediction_fields(prediction: Prediction) -> dict[str, Any]:
    return {
        "emotion": prediction.emotion,
        "confidence": round(prediction.confidence, DIGITS),
        "scores": {label: round(score, DIGITS) for label, score in prediction.scores.items()},
        "uncertain": prediction.uncertain,
    }


def _event_record(event: TrackEvent) -> dict[str, Any]:
    record: dict[str, Any] = {
        "event": event.event,
        "track_id": event.track_id,
        "time_s": round(event.time_s, DIGITS),
        "duration_s": round(event.duration_s, DIGITS),
    }
    if event.prediction is not None:
        fields = _prediction_fields(event.prediction)
        record |= {name: fields[name] for name in ("emotion", "confidence", "scores")}
    return record


def _servable_record(servable: Servable | None) -> dict[str, Any] | None:
    return None if servable is None else {"name": servable.name, "version": servable.version}
