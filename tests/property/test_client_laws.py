"""Tests laws of the client: properties of every request, every retry, every frame."""

from __future__ import annotations

import numpy as np
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve_client import BoundingBox, DetectedFace, DetectionOptions, ImageAnalysis, Prediction, RetryPolicy
from ferserve_client.cli.pictures import Picture, grouped
from ferserve_client.error_table import CLASS_OF_REASON, error_of
from ferserve_client.errors import ErrorFacts, FerserveError
from ferserve_client.retry import Tries, decide
from ferserve_client.video.encoding import fitted_size
from ferserve_client.watch.frames import scaled
from ferserve_client.wire import requests, responses

codes = st.sampled_from([code for code in StatusCode if code is not StatusCode.OK])
seconds = st.floats(0, 1e6)
failures = st.builds(
    lambda code, reason, delay: error_of(ErrorFacts(code, reason, retry_delay_s=delay)),
    codes,
    st.sampled_from(["", *CLASS_OF_REASON]),
    st.none() | seconds,
)
policies = st.builds(
    lambda attempts, first, more, full: RetryPolicy(attempts, first, first + more, full),
    st.integers(1, 50),
    st.floats(0.001, 10),
    st.floats(0, 100),
    st.booleans(),
)
sizes = st.integers(1, 5000)


@given(failures, st.integers(1, 10_000), st.floats(-1e6, 1e6), policies, st.floats(0, 1))
def test_a_wait_never_reaches_the_deadline(error, attempt, remaining_s, policy, jitter) -> None:
    wait_s = decide(error, attempt=attempt, remaining_s=remaining_s, policy=policy, jitter=jitter)

    assert wait_s is None or 0 < wait_s < remaining_s


@given(failures, st.integers(1, 100), policies, st.floats(0, 1))
def test_a_wait_never_undercuts_the_servers_delay(error, attempt, policy, jitter) -> None:
    wait_s = decide(error, attempt=attempt, remaining_s=1e9, policy=policy, jitter=jitter)

    assert wait_s is None or wait_s >= (error.retry_delay_s or 0)


@given(failures, policies, st.floats(0.01, 1000), st.lists(st.floats(0, 10), min_size=60, max_size=60))
def test_all_tries_together_stay_within_the_deadline(error, policy, timeout_s, durations) -> None:
    now = 0.0
    tries = Tries(policy, timeout_s, clock=lambda: now, random=lambda: 0.5)
    count = 0
    for duration in durations:
        now += min(duration, tries.begin())
        count += 1
        try:
            now += tries.wait_after(error)
        except FerserveError:
            break

    assert now <= timeout_s * (1 + 1e-9)
    assert count <= policy.max_attempts


@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_packed_faces_are_the_array_again(count, height, width, random) -> None:
    faces = np.array([random.randrange(256) for _ in range(count * height * width)], np.uint8).reshape(
        count, height, width
    )

    packed = face_pb2.PackedFaces.FromString(requests.packed_faces(faces).SerializeToString())
    read = np.frombuffer(packed.pixels, np.uint8).reshape(packed.face_count, packed.height, packed.width)

    assert np.array_equal(read, faces)


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=10, unique=True).flatmap(
        lambda scores: st.tuples(st.just(scores), st.integers(0, len(scores) - 1))
    )
)
def test_a_prediction_keeps_its_scores_through_the_wire(case) -> None:
    scores, index = case
    labels = [f"label-{number}" for number in range(len(scores))]
    sent = face_pb2.Prediction(label_index=index, scores=scores).SerializeToString()

    read = responses.read_prediction(face_pb2.Prediction.FromString(sent), labels)

    assert list(read.scores.items()) == list(zip(labels, scores, strict=True))
    assert (read.emotion, read.confidence) == (labels[index], scores[index])


@given(
    st.builds(
        DetectionOptions,
        face_source=st.sampled_from(["detect", "whole_image"]),
        detection_side_pixels=st.none() | st.integers(64, 4096),
        min_face_pixels=st.none() | st.integers(16, 4096),
        scale_factor=st.none() | st.floats(1.0625, 2.0, width=32),
        min_neighbors=st.none() | st.integers(1, 100),
    )
)
def test_detection_options_that_are_set_arrive(options: DetectionOptions) -> None:
    request = requests.analyze_request([b"x"], "", None, "interactive", options)

    sent = emotion_pb2.AnalyzeImagesRequest.FromString(request.SerializeToString()).detection

    for name in ("detection_side_pixels", "min_face_pixels"):
        assert (getattr(sent, name) or None) == getattr(options, name)
    for name in ("scale_factor", "min_neighbors"):
        assert (getattr(sent.haar, name) or None) == getattr(options, name)


@given(st.lists(st.integers(0, 40)), st.integers(1, 8), st.integers(1, 100))
def test_grouping_loses_nothing_and_keeps_order(byte_counts, max_count, max_bytes) -> None:
    pictures = [Picture(str(number), bytes(count)) for number, count in enumerate(byte_counts)]

    groups = list(grouped(pictures, max_count, max_bytes))

    assert [picture for group in groups for picture in group] == pictures
    for group in groups:
        assert 1 <= len(group) <= max_count
        assert len(group) == 1 or sum(len(picture.data) for picture in group) <= max_bytes


@given(sizes, sizes, st.integers(1, 2000))
def test_a_fitted_frame_is_small_enough_and_never_enlarged(width, height, max_side) -> None:
    fitted = fitted_size(width, height, max_side)

    assert min(fitted) >= 1
    assert max(fitted) <= max_side or fitted == (width, height)
    assert fitted[0] <= width
    assert fitted[1] <= height


@given(sizes, sizes, st.integers(64, 1280), st.data())
def test_a_box_stays_in_the_picture_when_it_is_scaled_back(width, height, max_side, data) -> None:
    small_width, small_height = fitted_size(width, height, max_side)
    left = data.draw(st.integers(0, small_width - 1))
    top = data.draw(st.integers(0, small_height - 1))
    box = BoundingBox(
        left,
        top,
        data.draw(st.integers(1, small_width - left)),
        data.draw(st.integers(1, small_height - top)),
    )
    face = DetectedFace(box, Prediction("sad", 1.0, {"sad": 1.0}))

    (found,) = scaled(ImageAnalysis(small_width, small_height, (face,)), width, height).faces

    assert found.prediction == face.prediction
    assert 0 <= found.box.left < found.box.left + found.box.width <= width
    assert 0 <= found.box.top < found.box.top + found.box.height <= height
