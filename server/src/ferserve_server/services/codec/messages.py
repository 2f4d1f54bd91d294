"""Converts between protobuf messages and domain types. Code outside this module sees no message fields."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, failure_pb2, servable_pb2
from ferserve_server.domain.errors import FerserveError, InvalidRequestError
from ferserve_server.domain.face import FACE_SIDE_PIXELS, BoundingBox, HaarOptions, NotAFacePolicy
from ferserve_server.domain.names import MODEL_NAME, is_alias
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec, ServableId
from ferserve_server.services.limits import MAX_CROP_SIDE_PIXELS, RequestLimits
from ferserve_server.services.status import code_number, metadata_of

if TYPE_CHECKING:
    from ferserve_server.domain.face import CropBatch, DetectionOptions, Landmarks
    from ferserve_server.domain.prediction import Analyses, ImageAnalysis, ScoredFaces

_PRIORITIES = {
    emotion_pb2.PRIORITY_UNSPECIFIED: Priority.INTERACTIVE,
    emotion_pb2.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
    emotion_pb2.PRIORITY_BULK: Priority.BULK,
}
DETECTORS: Final = {
    name.removeprefix("DETECTOR_").lower(): name for name, number in face_pb2.Detector.items() if number
}
"""Names of the detectors in the proto, by their names here."""

_DETECTOR_NAMES: dict[int, str | None] = {
    face_pb2.DETECTOR_UNSPECIFIED: None,
    **{face_pb2.Detector.Value(wire_name): name for name, wire_name in DETECTORS.items()},
}
_NOT_A_FACE_POLICIES: dict[int, NotAFacePolicy | None] = {
    face_pb2.NOT_A_FACE_POLICY_UNSPECIFIED: None,
    face_pb2.NOT_A_FACE_POLICY_DROP: NotAFacePolicy.DROP,
    face_pb2.NOT_A_FACE_POLICY_MARK: NotAFacePolicy.MARK,
    face_pb2.NOT_A_FACE_POLICY_IGNORE: NotAFacePolicy.IGNORE,
}


def parse_spec(spec: servable_pb2.ModelSpec) -> ModelSpec:
    """Reads the requested model.

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
        raise out_of_range("model.version", spec.version, "1 or more")
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
    """Reads the priority of a request.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE.
    """
    try:
        return _PRIORITIES[priority]  # type: ignore[index]  # the wire may carry any number
    except KeyError:
        raise out_of_range("priority", priority, "a value of Priority") from None


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
    """Reads the options of a search for faces; fields at 0 keep the server's default.

    Raises:
        InvalidRequestError: OPTION_OUT_OF_RANGE.
    """
    side = options.detection_side_pixels or defaults.detection_side_pixels
    smallest = options.min_face_pixels or defaults.min_face_pixels
    # A 0.7 on the wire is a float32, 0.6999999881.
    threshold = round(options.score_threshold, 6) or defaults.score_threshold
    if options.face_source not in face_pb2.FaceSource.values():
        raise out_of_range("detection.face_source", options.face_source, "a value of FaceSource")
    if options.detector not in _DETECTOR_NAMES:
        raise out_of_range("detection.detector", options.detector, "a value of Detector")
    if options.not_a_face_policy not in _NOT_A_FACE_POLICIES:
        raise out_of_range("detection.not_a_face_policy", options.not_a_face_policy, "a value of NotAFacePolicy")
    if side and not 64 <= side <= limits.max_detection_side_pixels:
        allowed = f"64 to {limits.max_detection_side_pixels} (setting max_detection_side_pixels)"
        raise out_of_range("detection.detection_side_pixels", side, allowed)
    if smallest and not 16 <= smallest <= 4096:
        raise out_of_range("detection.min_face_pixels", smallest, "16 to 4096")
    if not 0.0 < threshold <= 1.0:
        raise out_of_range("detection.score_threshold", threshold, "above 0.0 to 1.0")
    if not 0 <= options.max_faces <= 65_535:
        raise out_of_range("detection.max_faces", options.max_faces, "1 to 65535")
    return replace(
        defaults,
        whole_image=options.face_source == face_pb2.FACE_SOURCE_WHOLE_IMAGE,
        detector=_DETECTOR_NAMES[options.detector] or defaults.detector,
        detection_side_pixels=side,
        min_face_pixels=smallest,
        score_threshold=threshold,
        max_faces=options.max_faces or defaults.max_faces,
        region=_parse_region(options.region) if options.HasField("region") else defaults.region,
        tiles=options.tiles or defaults.tiles,
        not_a_face_policy=_NOT_A_FACE_POLICIES[options.not_a_face_policy] or defaults.not_a_face_policy,
        haar=_parse_haar(options.haar, defaults.haar),
    )


def _parse_region(region: face_pb2.BoundingBox) -> BoundingBox:
    """Reads the region of the picture to search."""
    box = BoundingBox(region.left, region.top, region.width, region.height)
    if box.left < 0 or box.top < 0:
        raise out_of_range("detection.region", f"left {box.left}, top {box.top}", "0 or more")
    if box.width < 1 or box.height < 1:
        raise out_of_range("detection.region", f"{box.width}x{box.height}", "a width and height of 1 or more")
    return box


def _parse_haar(options: face_pb2.HaarOptions, defaults: HaarOptions) -> HaarOptions:
    """Reads the options of the Haar cascade; fields at 0 keep the server's default."""
    step = round(options.scale_factor, 6) or defaults.scale_factor
    neighbors = options.min_neighbors or defaults.min_neighbors
    if not 1.05 <= step <= 2.0:
        raise out_of_range("detection.haar.scale_factor", step, "1.05 to 2.0")
    if not 1 <= neighbors <= 100:
        raise out_of_range("detection.haar.min_neighbors", neighbors, "1 to 100")
    return HaarOptions(step, neighbors)


def format_failure(error: FerserveError) -> failure_pb2.Failure:
    """Writes the reason for which one part of an answer is missing."""
    return failure_pb2.Failure(
        code=code_number(error), reason=error.reason, message=error.message, metadata=metadata_of(error)
    )


def format_servable(servable: ServableId) -> servable_pb2.ServableId:
    """Writes the version that answered."""
    return servable_pb2.ServableId(name=servable.name, version=servable.version)


def format_predictions(faces: ScoredFaces) -> list[face_pb2.Prediction]:
    """Writes one prediction per row."""
    best = faces.scores.argmax(axis=1).tolist()
    return [
        face_pb2.Prediction(label_index=index, scores=row, uncertain=uncertain)
        for index, row, uncertain in zip(best, faces.scores.tolist(), faces.uncertain.tolist(), strict=True)
    ]


def format_face_results(faces: ScoredFaces) -> list[emotion_pb2.FaceResult]:
    """Writes a prediction or a failure per row."""
    results = [emotion_pb2.FaceResult(prediction=prediction) for prediction in format_predictions(faces)]
    for row, failure in faces.failures.items():
        results[row] = emotion_pb2.FaceResult(failure=format_failure(failure))
    return results


def format_analysis(analysis: ImageAnalysis) -> emotion_pb2.ImageAnalysis:
    """Writes the analysis of one picture."""
    message = emotion_pb2.ImageAnalysis(
        width=analysis.width, height=analysis.height, omitted_face_count=analysis.omitted_face_count
    )
    predictions = format_predictions(analysis.faces)
    for row, (location, prediction) in enumerate(zip(analysis.locations, predictions, strict=True)):
        box = location.box
        face = message.faces.add(
            box=face_pb2.BoundingBox(left=box.left, top=box.top, width=box.width, height=box.height),
            score=location.score,
        )
        if location.landmarks is not None:
            face.landmarks.CopyFrom(format_landmarks(location.landmarks))
        failure = analysis.faces.failures.get(row)
        if failure is None:
            face.prediction.CopyFrom(prediction)
            face.not_a_face = analysis.faces.not_a_face is not None and bool(analysis.faces.not_a_face[row])
        else:
            face.failure.CopyFrom(format_failure(failure))
    return message


def format_landmarks(landmarks: Landmarks) -> face_pb2.Landmarks:
    """Writes the landmarks of a face."""
    points = {name: face_pb2.Point(x=x, y=y) for name, (x, y) in landmarks._asdict().items()}
    return face_pb2.Landmarks(**points)


def format_timing(analyses: Analyses, total_s: float | None) -> face_pb2.Timing:
    """Writes the durations of an analysis's steps; without a total it is the sum of the steps."""
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


def out_of_range(field: str, value: object, allowed: str) -> InvalidRequestError:
    """Makes the error of an option outside its range."""
    return InvalidRequestError(
        "OPTION_OUT_OF_RANGE", f"{field}: {value} is not allowed; use {allowed}.", field=field, value=value
    )
