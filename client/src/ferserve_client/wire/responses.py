"""Reads the answers of unary calls into the client's own types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from grpc_health.v1 import health_pb2

from ferserve.v1 import model_service_pb2
from ferserve_client.answers import Results, Timing
from ferserve_client.faces import BoundingBox, DetectedFace, ImageAnalysis, Landmarks, Prediction
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
from ferserve_client.wire.status import read_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve.v1 import emotion_service_pb2 as emotion_pb2
    from ferserve.v1 import face_pb2, servable_pb2
    from ferserve_client.errors import FerserveError

_STATES: Final = {
    model_service_pb2.SERVABLE_STATE_WAITING: ServableState.WAITING,
    model_service_pb2.SERVABLE_STATE_LOADING: ServableState.LOADING,
    model_service_pb2.SERVABLE_STATE_READY: ServableState.READY,
    model_service_pb2.SERVABLE_STATE_DRAINING: ServableState.DRAINING,
    model_service_pb2.SERVABLE_STATE_UNLOADED: ServableState.UNLOADED,
    model_service_pb2.SERVABLE_STATE_FAILED: ServableState.FAILED,
}
_PRECISIONS: Final = {
    model_service_pb2.PRECISION_FLOAT32: "float32",
    model_service_pb2.PRECISION_BFLOAT16: "bfloat16",
    model_service_pb2.PRECISION_INT8: "int8",
}
_HEALTH: Final = {
    health_pb2.HealthCheckResponse.SERVING: HealthStatus.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING: HealthStatus.NOT_SERVING,
}

_CANARY_MODES = {
    model_service_pb2.CANARY_MODE_SPLIT: "split",
    model_service_pb2.CANARY_MODE_SHADOW: "shadow",
}
_CANARY_RESULTS = {
    model_service_pb2.CANARY_RESULT_WAIT: "wait",
    model_service_pb2.CANARY_RESULT_PROMOTE: "promote",
    model_service_pb2.CANARY_RESULT_ROLL_BACK: "roll_back",
}


def read_classification(
    response: emotion_pb2.ClassifyFacesResponse,
) -> Results[Prediction | FerserveError]:
    """Read the predictions of a classification, with the error of a face in its place."""
    labels = tuple(response.labels)
    return Results(
        items=tuple(
            read_failure(result.failure)
            if result.WhichOneof("outcome") == "failure"
            else read_prediction(result.prediction, labels)
            for result in response.results
        ),
        servable=read_servable(response.servable),
        timing=read_timing(response.timing),
    )


def raise_first_error(results: Results[Prediction | FerserveError]) -> Results[Prediction]:
    """Return the results, all of which are predictions.

    Raises:
        FerserveError: That of the first face that has no prediction.
    """
    predictions: list[Prediction] = []
    for item in results.items:
        if not isinstance(item, Prediction):
            raise item
        predictions.append(item)
    return Results(items=tuple(predictions), servable=results.servable, timing=results.timing)


def read_analyses(response: emotion_pb2.AnalyzeImagesResponse) -> Results[ImageAnalysis]:
    """Read the analyses of pictures, with the error of a picture in its analysis."""
    labels = tuple(response.labels)
    servable = read_servable(response.servable)
    return Results(
        items=tuple(
            ImageAnalysis(error=read_failure(result.failure))
            if result.WhichOneof("outcome") == "failure"
            else read_analysis(result.analysis, labels, servable)
            for result in response.results
        ),
        servable=servable,
        timing=read_timing(response.timing),
    )


def read_analysis(
    analysis: emotion_pb2.ImageAnalysis, labels: Sequence[str], servable: Servable | None
) -> ImageAnalysis:
    """Read the faces of one picture."""
    return ImageAnalysis(
        width=analysis.width,
        height=analysis.height,
        faces=tuple(_read_face(face, labels) for face in analysis.faces),
        omitted_face_count=analysis.omitted_face_count,
        servable=servable,
    )


def read_prediction(prediction: face_pb2.Prediction, labels: Sequence[str]) -> Prediction:
    """Read the prediction of one face.

    Raises:
        ValueError: Labels and scores do not fit each other: not an answer of a ferserve server.
    """
    scores = dict(zip(labels, prediction.scores, strict=True))
    if not 0 <= prediction.label_index < len(labels):
        raise ValueError(f"label_index {prediction.label_index} is outside {len(labels)} labels")
    emotion = labels[prediction.label_index]
    return Prediction(emotion=emotion, confidence=scores[emotion], scores=scores, uncertain=prediction.uncertain)


def read_servable(servable: servable_pb2.ServableId) -> Servable | None:
    """Read the model and version that answered; None if the message is not set."""
    return Servable(servable.name, servable.version) if servable.name else None


def read_timing(timing: face_pb2.Timing) -> Timing:
    """Read the times within the server."""
    return Timing(
        total_ms=timing.total_ms,
        decode_ms=timing.decode_ms,
        detect_ms=timing.detect_ms,
        queue_ms=timing.queue_ms,
        inference_ms=timing.inference_ms,
    )


def read_model(model: model_service_pb2.Model) -> ModelInfo:
    """Read a model and its versions."""
    return ModelInfo(
        name=model.name,
        is_default=model.default,
        versions=tuple(_read_version(version) for version in model.versions),
        version_policy=model.version_policy,
        aliases=dict(model.aliases),
        serving_version=model.serving_version or None,
        canary=_read_canary(model.canary) if model.HasField("canary") else None,
        skipped_folders=tuple(
            SkippedFolder(each.folder, read_failure(each.failure)) for each in model.skipped_folders
        ),
    )


def read_model_response(response: model_service_pb2.GetModelResponse) -> ModelInfo:
    """Read the answer to `model_request`."""
    return read_model(response.model)


def read_models(response: model_service_pb2.ListModelsResponse) -> tuple[list[ModelInfo], str]:
    """Read the models of one page, and the token of the next: empty after the last."""
    return [read_model(model) for model in response.models], response.next_page_token


def read_health(response: health_pb2.HealthCheckResponse) -> HealthStatus:
    """Read the health of a service."""
    return _HEALTH.get(response.status, HealthStatus.UNKNOWN)


def _read_face(face: face_pb2.DetectedFace, labels: Sequence[str]) -> DetectedFace:
    failed = face.WhichOneof("outcome") == "failure"
    return DetectedFace(
        box=BoundingBox(face.box.left, face.box.top, face.box.width, face.box.height),
        prediction=None if failed else read_prediction(face.prediction, labels),
        error=read_failure(face.failure) if failed else None,
        score=face.score,
        landmarks=_read_landmarks(face.landmarks) if face.HasField("landmarks") else None,
        not_a_face=face.not_a_face,
        raw=read_prediction(face.raw, labels) if face.HasField("raw") else None,
        track_id=face.track_id,
    )


def _read_landmarks(landmarks: face_pb2.Landmarks) -> Landmarks:
    def point(at: face_pb2.Point) -> tuple[float, float]:
        return at.x, at.y

    return Landmarks(
        left_eye=point(landmarks.left_eye),
        right_eye=point(landmarks.right_eye),
        nose=point(landmarks.nose),
        left_mouth=point(landmarks.left_mouth),
        right_mouth=point(landmarks.right_mouth),
    )


def _read_version(version: model_service_pb2.ModelVersion) -> ModelVersionInfo:
    return ModelVersionInfo(
        version=version.version,
        state=_STATES.get(version.state, ServableState.UNKNOWN),
        error=read_failure(version.failure) if version.HasField("failure") else None,
        labels=tuple(version.labels),
        input_height=version.input_height,
        input_width=version.input_width,
        mac_count=version.mac_count or None,
        parameter_count=version.parameter_count or None,
        metrics=dict(version.metrics),
        bucket_sizes=tuple(version.bucket_sizes),
        aliases=tuple(version.aliases),
        validation=_read_validation(version.validation) if version.HasField("validation") else None,
        precision=_PRECISIONS.get(version.precision),
        bfloat16_speedup=version.bfloat16_speedup if version.HasField("bfloat16_speedup") else None,
        uncertain_threshold=version.uncertain_threshold if version.HasField("uncertain_threshold") else None,
        not_a_face_threshold=version.not_a_face_threshold if version.HasField("not_a_face_threshold") else None,
        latency_ms=dict(sorted(version.latency_ms.items())),
    )


def _read_canary(canary: model_service_pb2.Canary) -> CanaryInfo:
    compared = canary.shadow.face_count
    return CanaryInfo(
        version=canary.version,
        stable_version=canary.stable_version,
        mode=_CANARY_MODES.get(canary.mode, "unknown"),
        share=canary.share,
        elapsed_s=canary.elapsed_seconds,
        verdict=_CANARY_RESULTS.get(canary.verdict.result, "unknown"),
        reason=canary.verdict.reason,
        text=canary.verdict.text,
        request_count=canary.figures.request_count,
        failed_count=canary.figures.failed_count,
        shadow_agreement=canary.shadow.agreed_count / compared if compared else None,
        shadow_largest_difference=canary.shadow.largest_difference if compared else None,
    )


def _read_validation(validation: model_service_pb2.ValidationFigures) -> ValidationInfo:
    if not validation.HasField("comparison"):
        return ValidationInfo(validation.golden_difference)
    found = validation.comparison
    return ValidationInfo(
        golden_difference=validation.golden_difference,
        active_version=found.version,
        agreement=found.agreement if found.HasField("agreement") else None,
        largest_difference=found.largest_difference if found.HasField("largest_difference") else None,
        latency_ms={each.bucket_size: each.latency_ms for each in found.latencies},
        active_latency_ms={each.bucket_size: each.active_latency_ms for each in found.latencies},
    )
