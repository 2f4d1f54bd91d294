"""Builds the request messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar, get_args

import numpy as np
from grpc_health.v1 import health_pb2

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, model_service_pb2, servable_pb2
from ferserve_client.options import Detector

if TYPE_CHECKING:
    import numpy.typing as npt

    from ferserve_client.answers import Frame
    from ferserve_client.options import (
        DetectionOptions,
        FaceSource,
        NotAFacePolicy,
        OverloadPolicy,
        Priority,
        TrackingOptions,
    )

_PRIORITIES: Final[dict[Priority, emotion_pb2.Priority]] = {
    "interactive": emotion_pb2.PRIORITY_INTERACTIVE,
    "bulk": emotion_pb2.PRIORITY_BULK,
}
_OVERLOAD_POLICIES: Final[dict[OverloadPolicy, emotion_pb2.OverloadPolicy]] = {
    "latest": emotion_pb2.OVERLOAD_POLICY_LATEST,
    "every_frame": emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME,
    "max_age": emotion_pb2.OVERLOAD_POLICY_MAX_AGE,
}
_FACE_SOURCES: Final[dict[FaceSource, face_pb2.FaceSource]] = {
    "detect": face_pb2.FACE_SOURCE_DETECT,
    "whole_image": face_pb2.FACE_SOURCE_WHOLE_IMAGE,
}
_DETECTORS: Final[dict[Detector, str]] = {name: f"DETECTOR_{name.upper()}" for name in get_args(Detector)}
_NOT_A_FACE_POLICIES: Final[dict[NotAFacePolicy, face_pb2.NotAFacePolicy]] = {
    "drop": face_pb2.NOT_A_FACE_POLICY_DROP,
    "mark": face_pb2.NOT_A_FACE_POLICY_MARK,
    "ignore": face_pb2.NOT_A_FACE_POLICY_IGNORE,
}
MODELS_PER_PAGE: Final = 100

NameT = TypeVar("NameT", bound=str)
NumberT = TypeVar("NumberT")


def packed_faces(faces: npt.NDArray[np.uint8]) -> face_pb2.PackedFaces:
    """Pack raw grey crops into one field.

    Args:
        faces: uint8 [N, H, W], [N, H, W, 1] or, one face, [H, W]; grey levels 0 to 255. Three
            dimensions are always [N, H, W].

    Raises:
        TypeError: The array is not uint8. Scores of faces scaled to 0..1 would be nonsense.
        ValueError: The array has another shape.
    """
    if faces.dtype != np.uint8:
        raise TypeError(f"faces must be uint8 grey levels (0 to 255), not {faces.dtype}")
    shape = faces.shape
    if faces.ndim == 2:
        shape = (1, *shape)
    elif faces.ndim == 4 and shape[3] == 1:
        shape = shape[:3]
    elif faces.ndim != 3:
        raise ValueError(f"faces must be shaped [N, H, W], [N, H, W, 1] or [H, W], not {list(shape)}")
    count, height, width = shape
    return face_pb2.PackedFaces(pixels=faces.tobytes(), face_count=count, height=height, width=width)


def classify_request(
    faces: npt.NDArray[np.uint8] | Sequence[bytes], model: str, version: int | str | None, priority: Priority
) -> emotion_pb2.ClassifyFacesRequest:
    """Build a request to classify crops: an array as in `packed_faces`, or encoded pictures.

    Raises:
        TypeError: Neither an array of uint8 nor a sequence of bytes.
        ValueError: The array has another shape, or `priority` is not one.
    """
    request = emotion_pb2.ClassifyFacesRequest(
        model=model_spec(model, version), priority=_number(_PRIORITIES, priority, "priority")
    )
    if isinstance(faces, np.ndarray):
        request.packed.CopyFrom(packed_faces(faces))
    else:
        request.encoded.SetInParent()
        request.encoded.images.extend(_pictures(faces, "faces"))
    return request


def analyze_request(
    images: Sequence[bytes],
    model: str,
    version: int | str | None,
    priority: Priority,
    detection: DetectionOptions | None,
) -> emotion_pb2.AnalyzeImagesRequest:
    """Build a request to find and classify the faces of encoded pictures.

    Raises:
        TypeError: `images` is not a sequence of bytes.
        ValueError: `priority`, or an option, is not one.
    """
    return emotion_pb2.AnalyzeImagesRequest(
        model=model_spec(model, version),
        priority=_number(_PRIORITIES, priority, "priority"),
        images=_pictures(images, "images"),
        detection=None if detection is None else detection_options(detection),
    )


def stream_config(  # noqa: PLR0913 - the fields of one message
    *,
    model: str,
    version: int | str | None,
    policy: OverloadPolicy,
    detection: DetectionOptions | None,
    tracking: TrackingOptions | None = None,
    events_only: bool = False,
    max_age_ms: int | None = None,
    resumed_after_sequence_id: int | None = None,
) -> emotion_pb2.StreamFramesRequest:
    """Build the first message of a frame stream.

    Raises:
        ValueError: `policy`, or an option, is not one; `max_age_ms` and the policy `max_age` do not go together;
            `events_only` without tracking.
    """
    if (max_age_ms is not None) != (policy == "max_age"):
        raise ValueError("max_age_ms and the policy max_age go together: give both or none")
    if events_only and tracking is None:
        raise ValueError("events_only needs tracking")
    return emotion_pb2.StreamFramesRequest(
        config=emotion_pb2.FrameStreamConfig(
            model=model_spec(model, version),
            overload_policy=_number(_OVERLOAD_POLICIES, policy, "policy"),
            detection=None if detection is None else detection_options(detection),
            max_age_ms=max_age_ms or 0,
            tracking=None if tracking is None else tracking_options(tracking),
            events_only=events_only,
            resumed_after_sequence_id=resumed_after_sequence_id,
        )
    )


def frame_request(frame: Frame) -> emotion_pb2.StreamFramesRequest:
    """Build the message of one frame."""
    return emotion_pb2.StreamFramesRequest(
        frame=emotion_pb2.Frame(sequence_id=frame.sequence_id, image=frame.image, time_s=frame.time_s)
    )


def batch_request(
    sequence_id: int, faces: npt.NDArray[np.uint8], spec: servable_pb2.ModelSpec, priority: Priority
) -> emotion_pb2.ClassifyStreamRequest:
    """Build the message of one batch; `faces` and errors as in `packed_faces`."""
    return emotion_pb2.ClassifyStreamRequest(
        sequence_id=sequence_id,
        model=spec,
        priority=_number(_PRIORITIES, priority, "priority"),
        faces=packed_faces(faces),
    )


def model_spec(model: str, version: int | str | None) -> servable_pb2.ModelSpec:
    """Build the name of a model (empty: the server's default) with a version or alias (None: the one served).

    A text of digits is a version: no alias is a number.
    """
    if isinstance(version, str) and version.isdecimal():
        version = int(version)
    if isinstance(version, str):
        return servable_pb2.ModelSpec(name=model, version_label=version)
    return servable_pb2.ModelSpec(name=model, version=version)


def detection_options(options: DetectionOptions) -> face_pb2.DetectionOptions:
    """Build the options of the search for faces.

    Raises:
        ValueError: `face_source`, `detector` or `not_a_face_policy` is not one.
    """
    region = options.region
    return face_pb2.DetectionOptions(
        face_source=_number(_FACE_SOURCES, options.face_source, "face_source"),
        detection_side_pixels=options.detection_side_pixels or 0,
        min_face_pixels=options.min_face_pixels or 0,
        detector=None if options.detector is None else _number(_DETECTORS, options.detector, "detector"),
        score_threshold=options.score_threshold or 0.0,
        max_faces=options.max_faces or 0,
        region=None
        if region is None
        else face_pb2.BoundingBox(left=region.left, top=region.top, width=region.width, height=region.height),
        tiles=options.tiles,
        not_a_face_policy=None
        if options.not_a_face_policy is None
        else _number(_NOT_A_FACE_POLICIES, options.not_a_face_policy, "not_a_face_policy"),
        haar=_haar_options(options),
    )


def tracking_options(options: TrackingOptions) -> emotion_pb2.TrackingOptions:
    """Build the options of tracking, turned on."""
    return emotion_pb2.TrackingOptions(
        enabled=True,
        smoothing_half_life_s=options.smoothing_half_life_s or 0.0,
        max_lost_s=options.max_lost_s or 0.0,
        full_search_interval_s=options.full_search_interval_s or 0.0,
    )


def model_request(name: str) -> model_service_pb2.GetModelRequest:
    """Build a request for one model; empty: the server's default."""
    return model_service_pb2.GetModelRequest(name=name)


def models_request(page_token: str) -> model_service_pb2.ListModelsRequest:
    """Build a request for one page of models; empty: the first."""
    return model_service_pb2.ListModelsRequest(page_size=MODELS_PER_PAGE, page_token=page_token)


def health_request(service: str) -> health_pb2.HealthCheckRequest:
    """Build a question for the health of one service; empty: of the whole server."""
    return health_pb2.HealthCheckRequest(service=service)


def _haar_options(options: DetectionOptions) -> face_pb2.HaarOptions | None:
    if options.scale_factor is None and options.min_neighbors is None:
        return None
    return face_pb2.HaarOptions(scale_factor=options.scale_factor or 0.0, min_neighbors=options.min_neighbors or 0)


def _number(numbers: Mapping[NameT, NumberT], name: NameT, what: str) -> NumberT:
    if name not in numbers:
        raise ValueError(f"{what} must be one of {', '.join(numbers)}, not {name!r}")
    return numbers[name]


def _pictures(pictures: Sequence[bytes], what: str) -> Sequence[bytes]:
    if isinstance(pictures, bytes | bytearray | memoryview | str) or not isinstance(pictures, Sequence):
        raise TypeError(f"{what} must be a list of encoded pictures (bytes), not {type(pictures).__name__}")
    for index, picture in enumerate(pictures):
        if not isinstance(picture, bytes):
            raise TypeError(f"{what}[{index}] must be bytes, not {type(picture).__name__}")
    return pictures
