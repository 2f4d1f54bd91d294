"""Tests reading messages, with errors that name the field, and writing answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve_server.domain.errors import (
    ImageUnreadableError,
    InferenceFailedError,
    InvalidRequestError,
    LimitExceededError,
)
from ferserve_server.domain.face import (
    BoundingBox,
    DetectionOptions,
    FaceLocation,
    HaarOptions,
    Landmarks,
    NotAFacePolicy,
    Point,
)
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.prediction import Analyses, ImageAnalysis, ScoredFaces
from ferserve_server.domain.servable import ModelSpec, ServableId
from ferserve_server.pipeline.stream_window import OverloadPolicy
from ferserve_server.services import frame_messages
from ferserve_server.services.codec import messages
from ferserve_server.services.limits import RequestLimits

LIMITS = RequestLimits(
    max_message_bytes=10_000,
    max_metadata_bytes=1000,
    max_faces_per_request=4,
    max_images_per_request=3,
    max_detection_side_pixels=1920,
)
SERVABLE = ServableId("fer-nano", 3)


def _packed(
    face_count: int, height: int = 0, width: int = 0, byte_count: int | None = None
) -> face_pb2.PackedFaces:
    size = face_count * (height or 48) * (width or 48) if byte_count is None else byte_count
    return face_pb2.PackedFaces(pixels=bytes(max(0, size)), face_count=face_count, height=height, width=width)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (servable_pb2.ModelSpec(), ModelSpec()),
        (servable_pb2.ModelSpec(name="fer-nano"), ModelSpec("fer-nano")),
        (servable_pb2.ModelSpec(version=7), ModelSpec("", 7)),
        (servable_pb2.ModelSpec(name="a.B_c-9", version=1), ModelSpec("a.B_c-9", 1)),
        (servable_pb2.ModelSpec(name="n" * 128), ModelSpec("n" * 128)),
    ],
)
def test_a_model_spec_is_read(spec: servable_pb2.ModelSpec, expected: ModelSpec) -> None:
    assert messages.parse_spec(spec) == expected


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        *(
            (servable_pb2.ModelSpec(name=name), "model.name", "MODEL_NAME_INVALID")
            for name in ("../x", ".hidden", "a b", "a/b", "ü", "n" * 129, "x\n")
        ),
        (servable_pb2.ModelSpec(version=0), "model.version", "OPTION_OUT_OF_RANGE"),
        (servable_pb2.ModelSpec(version=-1), "model.version", "OPTION_OUT_OF_RANGE"),
    ],
)
def test_a_bad_model_spec_is_rejected_by_field(spec: servable_pb2.ModelSpec, field: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        messages.parse_spec(spec)
    assert (caught.value.field, caught.value.reason) == (field, reason)
    assert field in caught.value.message


def test_priorities_and_policies_have_defaults_and_reject_unknown_numbers() -> None:
    assert [messages.parse_priority(number) for number in range(3)] == [
        Priority.INTERACTIVE,
        Priority.INTERACTIVE,
        Priority.BULK,
    ]
    assert [frame_messages.parse_policy(number) for number in range(4)] == [
        OverloadPolicy.LATEST,
        OverloadPolicy.LATEST,
        OverloadPolicy.EVERY_FRAME,
        OverloadPolicy.MAX_AGE,
    ]
    for parse, field in [(messages.parse_priority, "priority"), (frame_messages.parse_policy, "overload_policy")]:
        for number in (4, -1):
            with pytest.raises(InvalidRequestError) as caught:
                parse(number)
            assert (caught.value.field, caught.value.reason) == (field, "OPTION_OUT_OF_RANGE")


def test_packed_faces_are_read_without_a_copy() -> None:
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).tobytes()
    crops = messages.parse_packed(
        face_pb2.PackedFaces(pixels=pixels, face_count=2, height=3, width=4), LIMITS, "packed"
    )
    assert crops.shape == (2, 3, 4, 1)
    assert crops.tobytes() == pixels
    assert not crops.flags.owndata


def test_sides_of_zero_stand_for_48() -> None:
    assert messages.parse_packed(_packed(2), LIMITS, "packed").shape == (2, 48, 48, 1)
    assert messages.parse_packed(_packed(2, width=10), LIMITS, "packed").shape == (2, 48, 10, 1)


@pytest.mark.parametrize(
    ("faces", "field", "reason"),
    [
        (_packed(0), "packed.face_count", "FACES_REQUIRED"),
        (_packed(-1), "packed.face_count", "FACES_REQUIRED"),
        (_packed(5), "packed.face_count", "TOO_MANY_FACES"),
        (_packed(2**31 - 1, byte_count=9), "packed.face_count", "TOO_MANY_FACES"),
        (_packed(1, height=1025), "packed", "FACE_SIZE_INVALID"),
        (_packed(1, width=1025), "packed", "FACE_SIZE_INVALID"),
        (_packed(1, height=-1, byte_count=9), "packed", "FACE_SIZE_INVALID"),
        (_packed(1, height=-2, width=-2, byte_count=4), "packed", "FACE_SIZE_INVALID"),
        (_packed(2, byte_count=2 * 48 * 48 - 1), "packed.pixels", "PIXELS_LENGTH_MISMATCH"),
        (_packed(2, byte_count=2 * 48 * 48 + 1), "packed.pixels", "PIXELS_LENGTH_MISMATCH"),
        (_packed(1, byte_count=0), "packed.pixels", "PIXELS_LENGTH_MISMATCH"),
    ],
)
def test_bad_packed_faces_are_rejected_by_field(faces: face_pb2.PackedFaces, field: str, reason: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        messages.parse_packed(faces, LIMITS, "packed")
    assert (caught.value.field, caught.value.reason) == (field, reason)


@pytest.mark.parametrize(
    ("check", "setting", "limit"),
    [
        (LIMITS.check_message, "max_message_bytes", 10_000),
        (LIMITS.check_metadata, "max_metadata_bytes", 1000),
        (lambda count: LIMITS.check_face_count(count, "packed"), "max_faces_per_request", 4),
        (LIMITS.check_image_count, "max_images_per_request", 3),
    ],
)
def test_a_limit_holds_to_the_last_unit_and_its_error_names_the_setting(check, setting: str, limit: int) -> None:
    check(limit)
    with pytest.raises(LimitExceededError) as caught:
        check(limit + 1)
    assert caught.value.metadata == {"value": str(limit + 1), "limit": str(limit), "setting": setting}
    assert setting in caught.value.message


def test_no_pictures_are_rejected() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        LIMITS.check_image_count(0)
    assert (caught.value.field, caught.value.reason) == ("images", "IMAGES_REQUIRED")


DEFAULTS = DetectionOptions(
    detection_side_pixels=320,
    min_face_pixels=30,
    score_threshold=0.625,
    max_faces=9,
    not_a_face_policy=NotAFacePolicy.MARK,
    haar=HaarOptions(1.25, 4),
)


def test_detection_options_at_zero_keep_the_servers_own() -> None:
    assert messages.parse_detection(face_pb2.DetectionOptions(), DEFAULTS, LIMITS) == DEFAULTS


def test_detection_options_are_read() -> None:
    message = face_pb2.DetectionOptions(
        face_source=face_pb2.FACE_SOURCE_WHOLE_IMAGE,
        detection_side_pixels=100,
        min_face_pixels=20,
        detector=face_pb2.DETECTOR_HAAR,
        score_threshold=0.7,
        max_faces=3,
        region=face_pb2.BoundingBox(left=0, top=5, width=300, height=1),
        tiles=True,
        not_a_face_policy=face_pb2.NOT_A_FACE_POLICY_IGNORE,
        haar=face_pb2.HaarOptions(scale_factor=1.5, min_neighbors=7),
    )
    assert messages.parse_detection(message, DEFAULTS, LIMITS) == DetectionOptions(
        whole_image=True,
        detector="haar",
        detection_side_pixels=100,
        min_face_pixels=20,
        score_threshold=0.7,
        max_faces=3,
        region=BoundingBox(0, 5, 300, 1),
        tiles=True,
        not_a_face_policy=NotAFacePolicy.IGNORE,
        haar=HaarOptions(1.5, 7),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("face_source", 3),
        ("detection_side_pixels", 63),
        ("detection_side_pixels", 1921),
        ("min_face_pixels", 15),
        ("min_face_pixels", 4097),
        ("min_face_pixels", -1),
        ("score_threshold", -0.1),
        ("score_threshold", 1.1),
        ("score_threshold", math.nan),
        ("score_threshold", math.inf),
        ("detector", 4),
        ("max_faces", -1),
        ("not_a_face_policy", 4),
        ("region", face_pb2.BoundingBox(left=-1, width=1, height=1)),
        ("region", face_pb2.BoundingBox(top=-1, width=1, height=1)),
        ("region", face_pb2.BoundingBox(width=0, height=1)),
        ("region", face_pb2.BoundingBox(width=1, height=-1)),
        ("haar.scale_factor", 1.04),
        ("haar.scale_factor", 2.01),
        ("haar.scale_factor", -1.5),
        ("haar.scale_factor", math.nan),
        ("haar.scale_factor", math.inf),
        ("haar.min_neighbors", -1),
        ("haar.min_neighbors", 101),
    ],
)
def test_a_detection_option_out_of_range_is_rejected_by_field(name: str, value: object) -> None:
    outer, _, inner = name.rpartition(".")
    options = {outer: face_pb2.HaarOptions(**{inner: value})} if outer else {name: value}
    with pytest.raises(InvalidRequestError) as caught:
        messages.parse_detection(face_pb2.DetectionOptions(**options), DEFAULTS, LIMITS)
    assert (caught.value.field, caught.value.reason) == (f"detection.{name}", "OPTION_OUT_OF_RANGE")


def test_a_failure_carries_what_the_status_of_a_call_would() -> None:
    failure = messages.format_failure(ImageUnreadableError("cut"))
    assert (failure.code, failure.reason) == (3, "IMAGE_UNREADABLE")
    assert "cut" in failure.message
    assert dict(failure.metadata) == {"why": "cut"}


def test_each_face_gets_a_prediction_or_its_failure() -> None:
    scores = np.array([[0.2, 0.8], [0, 0], [0.9, 0.1]], np.float32)
    results = messages.format_face_results(ScoredFaces(scores, {1: InferenceFailedError()}))
    assert [result.WhichOneof("outcome") for result in results] == ["prediction", "failure", "prediction"]
    assert [results[row].prediction.label_index for row in (0, 2)] == [1, 0]
    assert list(results[0].prediction.scores) == pytest.approx([0.2, 0.8])
    assert results[1].failure.reason == "INFERENCE_FAILED"


def _analysis(failures: dict, decode_s: float = 0.0, queue_s: float = 0.0) -> ImageAnalysis:
    points = Landmarks(Point(5, 9), Point(20, 9), Point(12, 20), Point(6, 30), Point(19, 30.5))
    faces_found = (
        FaceLocation(BoundingBox(1, 2, 30, 40), 0.75, points),
        FaceLocation(BoundingBox(5, 6, 7, 8), 0.0),
    )
    faces = ScoredFaces(np.array([[0.2, 0.8], [0.9, 0.1]], np.float32), failures, queue_s, 0.003)
    return ImageAnalysis(640, 480, faces_found, faces, 2, decode_s, 0.002)


def test_an_analysis_is_written_with_boxes_and_outcomes() -> None:
    message = messages.format_analysis(_analysis({1: InferenceFailedError()}))
    assert (message.width, message.height, message.omitted_face_count) == (640, 480, 2)
    first, second = message.faces
    assert first.box == face_pb2.BoundingBox(left=1, top=2, width=30, height=40)
    assert (first.score, second.score) == (0.75, 0.0)
    assert first.landmarks.right_mouth == face_pb2.Point(x=19, y=30.5)
    assert first.landmarks.left_eye == face_pb2.Point(x=5, y=9)
    assert not second.HasField("landmarks")
    assert first.prediction.label_index == 1
    assert second.WhichOneof("outcome") == "failure"


def test_timing_is_the_longest_of_each_step() -> None:
    analyses = Analyses(
        (_analysis({}, 0.001, 0.5), ImageUnreadableError("cut"), _analysis({}, 0.004)), ("a", "b"), SERVABLE
    )
    timing = messages.format_timing(analyses, 0.6)
    got = (timing.total_ms, timing.decode_ms, timing.detect_ms, timing.queue_ms, timing.inference_ms)
    assert got == pytest.approx((600, 4, 2, 500, 3))
    assert messages.format_timing(analyses, None).total_ms == pytest.approx(509)


def test_timing_of_nothing_but_failures_is_zero() -> None:
    timing = messages.format_timing(Analyses((ImageUnreadableError("cut"),), ("a", "b"), SERVABLE), None)
    assert timing == face_pb2.Timing()


def test_the_version_that_answered_is_written() -> None:
    assert messages.format_servable(SERVABLE) == servable_pb2.ServableId(name="fer-nano", version=3)


def test_every_priority_and_policy_of_the_proto_can_be_read() -> None:
    for number in emotion_pb2.Priority.values():
        messages.parse_priority(number)
    for number in emotion_pb2.OverloadPolicy.values():
        frame_messages.parse_policy(number)
