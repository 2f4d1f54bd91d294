"""Tests that wire messages round-trip."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve_server.domain.errors import FerserveError, ImageUnreadableError, InvalidRequestError
from ferserve_server.domain.face import BoundingBox, DetectionOptions, HaarOptions, NotAFacePolicy
from ferserve_server.domain.prediction import Classification, ScoredFaces
from ferserve_server.domain.servable import ModelSpec, ServableId
from ferserve_server.services.codec import messages, responses
from ferserve_server.services.codec.messages import DETECTORS
from ferserve_server.services.limits import RequestLimits

LIMITS = RequestLimits(
    max_message_bytes=2**25,
    max_metadata_bytes=2**14,
    max_faces_per_request=8,
    max_images_per_request=8,
    max_detection_side_pixels=1920,
)
CROPS = stn.arrays(np.uint8, st.tuples(st.integers(1, 8), st.integers(1, 12), st.integers(1, 12), st.just(1)))
SHARES = st.floats(0, 1, width=32)
SCORES = stn.arrays(np.float32, st.tuples(st.integers(0, 6), st.integers(2, 9)), elements=SHARES)


@given(CROPS)
def test_packed_faces_arrive_as_they_were_sent(crops: np.ndarray) -> None:
    count, height, width, _ = crops.shape
    sent = face_pb2.PackedFaces(pixels=crops.tobytes(), face_count=count, height=height, width=width)
    received = face_pb2.PackedFaces.FromString(sent.SerializeToString())
    np.testing.assert_array_equal(messages.parse_packed(received, LIMITS, "packed"), crops)


@given(st.binary(max_size=300), st.integers(-3, 12), st.integers(-3, 2000), st.integers(-3, 2000))
def test_packed_faces_are_read_or_rejected_by_field(pixels: bytes, count: int, height: int, width: int) -> None:
    message = face_pb2.PackedFaces(pixels=pixels, face_count=count, height=height, width=width)
    try:
        crops = messages.parse_packed(message, LIMITS, "packed")
    except InvalidRequestError as error:
        assert error.field.startswith("packed")  # noqa: PT017 - either way is right
    else:
        assert crops.shape == (count, height or 48, width or 48, 1)
        assert crops.tobytes() == pixels


@given(SCORES, st.sets(st.integers(0, 5)))
def test_scores_arrive_with_the_index_of_the_largest(scores: np.ndarray, failed: set[int]) -> None:
    failures: dict[int, FerserveError] = {
        row: ImageUnreadableError(f"row {row}") for row in failed if row < len(scores)
    }
    message = emotion_pb2.ClassifyFacesResponse(
        results=messages.format_face_results(ScoredFaces(scores, failures))
    )
    results = emotion_pb2.ClassifyFacesResponse.FromString(message.SerializeToString()).results
    assert len(results) == len(scores)
    for row, result in enumerate(results):
        if row in failures:
            assert result.failure.metadata["why"] == f"row {row}"
            continue
        np.testing.assert_array_equal(np.float32(result.prediction.scores), scores[row])
        assert scores[row, result.prediction.label_index] == scores[row].max()


OPTIONS = st.builds(
    DetectionOptions,
    whole_image=st.booleans(),
    detection_side_pixels=st.integers(64, 1920),
    min_face_pixels=st.integers(16, 4096),
    detector=st.sampled_from(sorted(DETECTORS)),
    score_threshold=st.integers(1, 100).map(lambda percent: percent / 100),
    max_faces=st.integers(1, 65_535),
    region=st.builds(
        BoundingBox, st.integers(0, 9000), st.integers(0, 9000), st.integers(1, 9000), st.integers(1, 9000)
    ),
    tiles=st.just(value=True),
    not_a_face_policy=st.sampled_from(NotAFacePolicy),
    haar=st.builds(
        HaarOptions,
        scale_factor=st.integers(105, 200).map(lambda percent: percent / 100),
        min_neighbors=st.integers(1, 100),
    ),
)


@given(OPTIONS, OPTIONS)
def test_detection_options_arrive_as_they_were_sent_whatever_the_servers_own(
    options: DetectionOptions, defaults: DetectionOptions
) -> None:
    source = face_pb2.FACE_SOURCE_WHOLE_IMAGE if options.whole_image else face_pb2.FACE_SOURCE_DETECT
    sent = face_pb2.DetectionOptions(
        face_source=source,
        detection_side_pixels=options.detection_side_pixels,
        min_face_pixels=options.min_face_pixels,
        detector=face_pb2.Detector.Value(f"DETECTOR_{options.detector.upper()}"),
        score_threshold=options.score_threshold,
        max_faces=options.max_faces,
        region=face_pb2.BoundingBox(**asdict(options.region)),
        tiles=options.tiles,
        not_a_face_policy=face_pb2.NotAFacePolicy.Value(f"NOT_A_FACE_POLICY_{options.not_a_face_policy.name}"),
        haar=face_pb2.HaarOptions(**asdict(options.haar)),
    )
    received = face_pb2.DetectionOptions.FromString(sent.SerializeToString())
    assert messages.parse_detection(received, defaults, LIMITS) == options


@given(OPTIONS)
def test_a_stream_that_says_nothing_gets_the_servers_own_options(defaults: DetectionOptions) -> None:
    assume(not defaults.whole_image)  # no setting makes that a default
    assert messages.parse_detection(face_pb2.DetectionOptions(), defaults, LIMITS) == defaults


@given(st.text(st.characters(codec="utf-8"), max_size=140), st.none() | st.integers(-5, 2**63 - 1))
def test_any_model_spec_is_read_or_rejected_by_field(name: str, version: int | None) -> None:
    message = servable_pb2.ModelSpec(name=name, **({} if version is None else {"version": version}))
    try:
        spec = messages.parse_spec(message)
    except InvalidRequestError as error:
        assert error.field in {"model.name", "model.version"}  # noqa: PT017 - either way is right
    else:
        assert spec == ModelSpec(name, version)
        assert "/" not in name
        assert not name.startswith(".")


SERVABLE = ServableId("fer-nano", 3)


@given(SCORES, st.sets(st.integers(0, 5)), st.floats(0, 10), st.floats(0, 10), st.floats(0, 10), st.floats(0, 1))
def test_an_answer_written_as_bytes_is_what_protobuf_would_write_field_by_field(
    scores: np.ndarray, failed: set[int], total_s: float, queue_s: float, inference_s: float, threshold: float
) -> None:
    labels = tuple(f"class {index}" for index in range(scores.shape[1]))
    failures = {row: ImageUnreadableError(f"row {row}") for row in failed if row < len(scores)}
    faces = ScoredFaces(scores, failures, queue_s, inference_s, uncertain_threshold=threshold)
    message = emotion_pb2.ClassifyFacesResponse(
        results=messages.format_face_results(faces),
        labels=labels,
        servable=messages.format_servable(SERVABLE),
        timing=face_pb2.Timing(total_ms=total_s * 1e3, queue_ms=queue_s * 1e3, inference_ms=inference_s * 1e3),
    )
    written = responses.format_call_answer(Classification(faces, labels, SERVABLE), total_s)
    assert emotion_pb2.ClassifyFacesResponse.FromString(written) == message


@given(SCORES, st.integers(0, 2**63 - 1), st.booleans(), st.floats(0, 1))
def test_an_answer_on_a_stream_written_as_bytes_is_what_protobuf_would_write_field_by_field(
    scores: np.ndarray, sequence_id: int, with_labels: bool, threshold: float
) -> None:
    labels = tuple(f"class {index}" for index in range(scores.shape[1]))
    faces = ScoredFaces(scores, uncertain_threshold=threshold)
    message = emotion_pb2.ClassifyStreamResponse(
        sequence_id=sequence_id,
        predictions=messages.format_predictions(faces),
        labels=labels if with_labels else (),
        servable=messages.format_servable(SERVABLE),
    )
    classification = Classification(faces, labels, SERVABLE)
    written = responses.format_stream_answer(sequence_id, classification, with_labels=with_labels)
    assert emotion_pb2.ClassifyStreamResponse.FromString(written) == message


@pytest.mark.parametrize("class_count", [1, 2, 30, 31, 32, 127, 128, 200])
def test_any_number_of_classes_is_written(class_count: int) -> None:
    scores = np.eye(class_count, dtype=np.float32)
    answer = Classification(ScoredFaces(scores), ("x",) * class_count, SERVABLE)
    called = emotion_pb2.ClassifyFacesResponse.FromString(responses.format_call_answer(answer, 0.0)).results
    streamed = emotion_pb2.ClassifyStreamResponse.FromString(
        responses.format_stream_answer(1, answer, with_labels=True)
    ).predictions
    for predictions in ([result.prediction for result in called], streamed):
        assert [each.label_index for each in predictions] == list(range(class_count))
        np.testing.assert_array_equal([each.scores for each in predictions], scores)


def test_scores_that_are_a_part_of_a_batch_are_written_as_they_are() -> None:
    batch = np.asfortranarray(np.eye(9, dtype=np.float32))
    written = responses.format_call_answer(Classification(ScoredFaces(batch[2:4]), ("x",) * 9, SERVABLE), 0.0)
    results = emotion_pb2.ClassifyFacesResponse.FromString(written).results
    np.testing.assert_array_equal([each.prediction.scores for each in results], batch[2:4])
