"""Between protobuf messages and the words of the domain. Nothing beyond this file sees a message's fields."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, failure_pb2, servable_pb2
from ferserve_server.domain.errors import FerserveError, InvalidRequestError
from ferserve_server.domain.face import FACE_SIDE_PIXELS
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec, ServableId
from ferserve_server.models.aliases import is_alias
from ferserve_server.models.source import MODEL_NAME
from ferserve_server.pipeline.stream_window import OverloadPolicy
from ferserve_server.services.limits import MAX_CROP_SIDE_PIXELS, RequestLimits
from ferserve_server.services.status import code_number

if TYPE_CHECKING:
    from ferserve_server.domain.face import CropBatch, DetectionOptions
    from ferserve_server.domain.prediction import Analyses, ImageAnalysis, ScoredFaces

_PRIORITIES = {
    emotion_pb2.PRIORITY_UNSPECIFIED: Priority.INTERACTIVE,
    emotion_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    emotion_pb2.PRIORITY_BULK: Priority.BULK,
}
_POLICIES = {
    emotion_pb2.OVERLOAD_POLICY_UNSPECIFIED: OverloadPolicy.LATEST,
    emotion_pb2.OVERLOAD_POLICY_LATEST: OverloadPolicy.LATEST,
    emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME: OverloadPolicy.EVERY_FRAME,
}


def parse_spec(spec: servable_pb2.ModelSpec) -> ModelSpec:
    """Reads which model is wanted.

    Raises:
        InvalidRequestError: MODEL_NAME_INVALID, ALIAS_NAME_INVALID or OPTION_OUT_OF_RANGE.
    """
    name = parse_model_name(spec.name, "model.name")
    choice = spec.WhichOneof("choice")
    if choice is None:
        return ModelSpec(name)
    if choice == "version_label":
        return ModelSpec(name, alias=parse_alias(spec.version_label, "model.version_label"))
    if spec.version < 1:
        raise _out_of_range("model.version", spec.version, "1 or more")
    return ModelSpec(name, spec.version)


def parse_model_name(name: str, field: str) -> str:
    """Reads a model's name; "" is the default model.

    Raises:
        InvalidRequestError: MODEL_NAME_INVALID.
    """
    if name and not MODEL_NAME.fullmatch(name):
        raise InvalidRequestError(
            "MODEL_NAME_INVALID",
            f"{field}: use 1 to 128 of A-Z, a-z, 0-9, '.', '_', '-', not starting with '.'.",
            field=field,
        )
    return name


def parse_alias(alias: str, field: str) -> str:
    """Reads the alias of a version.

    Raises:
        InvalidRequestError: ALIAS_NAME_INVALID.
    """
    if not is_alias(alias):
        raise InvalidRequestError(
            "ALIAS_NAME_INVALID",
            f"{field}: use 1 to 64 of A-Z, a-z, 0-9, '.', '_', '-', with a letter among them.",
            field=field,
        )
    return alias


def parse_priority(priority: int) -> Priority:
    """Reads how urgent a request is.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE.
    """
    try:
        return _PRIORITIES[priority]  # type: ignore[index]  # the wire may carry any number
    except KeyError:
        raise _out_of_range("priority", priority, "a value of Priority") from None


def parse_policy(policy: int) -> OverloadPolicy:
    """Reads what happens to frames that arrive too fast.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE.
    """
    try:
        return _POLICIES[policy]  # type: ignore[index]  # the wire may carry any number
    except KeyError:
        raise _out_of_range("overload_policy", policy, "a value of OverloadPolicy") from None


def parse_packed(faces: face_pb2.PackedFaces, limits: RequestLimits, field: str) -> CropBatch:
    """Reads packed crops without copying them.

    Returns:
        uint8 [N, H, W, 1], read-only.

    Raises:
        InvalidRequestError: FACES_REQUIRED, TOO_MANY_FACES, FACE_SIZE_INVALID or PIXELS_LENGTH_MISMATCH.
    """
    count = faces.face_count
    limits.check_face_count(count, f"{field}.face_count")
    height = faces.height or FACE_SIDE_PIXELS
    width = faces.width or FACE_SIDE_PIXELS
    if not (1 <= height <= MAX_CROP_SIDE_PIXELS and 1 <= width <= MAX_CROP_SIDE_PIXELS):
        raise InvalidRequestError(
            "FACE_SIZE_INVALID",
            f"{field}: faces of {width} x {height} pixels; sides are 1 to {MAX_CROP_SIDE_PIXELS}.",
            field=field,
            width=width,
            height=height,
        )
    pixels = faces.pixels  # every access copies the field; once is enough
    expected = count * height * width
    if len(pixels) != expected:
        raise InvalidRequestError(
            "PIXELS_LENGTH_MISMATCH",
            f"{field}.pixels: {count} faces of {width} x {height} pixels are {expected} bytes, got {len(pixels)}.",
            field=f"{field}.pixels",
            expected=expected,
            actual=len(pixels),
        )
    return np.frombuffer(pixels, np.uint8).reshape(count, height, width, 1)


def parse_detection(
    options: face_pb2.DetectionOptions, defaults: DetectionOptions, limits: RequestLimits
) -> DetectionOptions:
    """Reads how to look for faces; fields at 0 keep the server's default.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE.
    """
    side = options.detection_side_pixels or defaults.detection_side_pixels
    smallest = options.min_face_pixels or defaults.min_face_pixels
    # A 1.05 on the wire is a float32, 1.0499999523.
    step = round(options.scale_factor, 6) or defaults.scale_factor
    neighbors = options.min_neighbors or defaults.min_neighbors
    margin = options.crop_margin if options.HasField("crop_margin") else defaults.crop_margin
    if options.face_source not in face_pb2.FaceSource.values():
        raise _out_of_range("detection.face_source", options.face_source, "a value of FaceSource")
    if not 64 <= side <= limits.max_detection_side_pixels:
        allowed = f"64 to {limits.max_detection_side_pixels} (setting max_detection_side_pixels)"
        raise _out_of_range("detection.detection_side_pixels", side, allowed)
    if not 16 <= smallest <= 4096:
        raise _out_of_range("detection.min_face_pixels", smallest, "16 to 4096")
    if not 1.05 <= step <= 2.0:
        raise _out_of_range("detection.scale_factor", step, "1.05 to 2.0")
    if not 1 <= neighbors <= 100:
        raise _out_of_range("detection.min_neighbors", neighbors, "1 to 100")
    if not 0.0 <= margin <= 1.0:
        raise _out_of_range("detection.crop_margin", margin, "0.0 to 1.0")
    return replace(
        defaults,
        whole_image=options.face_source == face_pb2.FACE_SOURCE_WHOLE_IMAGE,
        detection_side_pixels=side,
        min_face_pixels=smallest,
        scale_factor=step,
        min_neighbors=neighbors,
        crop_margin=margin,
    )


def format_failure(error: FerserveError) -> failure_pb2.Failure:
    """Writes why one part of an answer is missing."""
    return failure_pb2.Failure(
        code=code_number(error), reason=error.reason, message=error.message, metadata=error.metadata
    )


def format_servable(servable: ServableId) -> servable_pb2.ServableId:
    """Writes which version answered."""
    return servable_pb2.ServableId(name=servable.name, version=servable.version)


def format_predictions(faces: ScoredFaces) -> list[face_pb2.Prediction]:
    """Writes one prediction per row."""
    best = faces.scores.argmax(axis=1).tolist()
    return [
        face_pb2.Prediction(label_index=index, scores=row)
        for index, row in zip(best, faces.scores.tolist(), strict=True)
    ]


def format_face_results(faces: ScoredFaces) -> list[emotion_pb2.FaceResult]:
    """Writes a prediction or a failure per row."""
    results = [emotion_pb2.FaceResult(prediction=prediction) for prediction in format_predictions(faces)]
    for row, failure in faces.failures.items():
        results[row] = emotion_pb2.FaceResult(failure=format_failure(failure))
    return results


def format_analysis(analysis: ImageAnalysis) -> emotion_pb2.ImageAnalysis:
    """Writes what was found in one picture."""
    message = emotion_pb2.ImageAnalysis(
        width=analysis.width, height=analysis.height, omitted_face_count=analysis.omitted_face_count
    )
    predictions = format_predictions(analysis.faces)
    for row, (box, prediction) in enumerate(zip(analysis.boxes, predictions, strict=True)):
        face = message.faces.add(
            box=face_pb2.BoundingBox(left=box.left, top=box.top, width=box.width, height=box.height)
        )
        failure = analysis.faces.failures.get(row)
        if failure is None:
            face.prediction.CopyFrom(prediction)
        else:
            face.failure.CopyFrom(format_failure(failure))
    return message


def format_timing(analyses: Analyses, total_s: float | None) -> face_pb2.Timing:
    """Writes where the time of an analysis went; without a total it is the sum of the steps."""
    done = [result for result in analyses.results if not isinstance(result, FerserveError)]
    decode_s = max((each.decode_s for each in done), default=0.0)
    detect_s = max((each.detect_s for each in done), default=0.0)
    queue_s = max((each.faces.queue_s for each in done), default=0.0)
    inference_s = max((each.faces.inference_s for each in done), default=0.0)
    if total_s is None:
        total_s = decode_s + detect_s + queue_s + inference_s
    return face_pb2.Timing(
        total_ms=total_s * 1e3,
        decode_ms=decode_s * 1e3,
        detect_ms=detect_s * 1e3,
        queue_ms=queue_s * 1e3,
        inference_ms=inference_s * 1e3,
    )


def _out_of_range(field: str, value: object, allowed: str) -> InvalidRequestError:
    return InvalidRequestError(
        "OPTION_OUT_OF_RANGE", f"{field}: {value} is not allowed; use {allowed}.", field=field, value=value
    )
