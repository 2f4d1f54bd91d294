"""Tests laws of the messages between a detection tier and a model tier."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve_server.domain.errors import InferenceFailedError, ModelRejectedError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.prediction import Classification, ScoredFaces
from ferserve_server.domain.servable import (
    InputSpec,
    ModelDescription,
    ModelSpec,
    ModelStatus,
    Precision,
    ServableId,
    ServableState,
    SkippedFolder,
    Tuning,
    ValidationComparison,
    ValidationFigures,
    VersionStatus,
)
from ferserve_server.pipeline.decisions import decide
from ferserve_server.services.codec import messages
from ferserve_server.services.codec.responses import format_call_answer
from ferserve_server.services.limits import RequestLimits
from ferserve_server.services.models import format_model
from ferserve_server.upstream.codec import read_batch_answer, read_model, write_batch
from ferserve_server.upstream.target import parse_target

SHARES_32 = st.floats(0, 1, width=32)
LIMITS = RequestLimits(2**30, 2**14, 512, 32, 1920)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,20}", fullmatch=True)
VERSIONS = st.integers(1, 2**62)
SPECS = st.one_of(
    st.builds(ModelSpec, NAMES),
    st.builds(ModelSpec, NAMES, version=VERSIONS),
    st.builds(ModelSpec, NAMES, alias=st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)),
)


@given(st.integers(1, 9), st.integers(1, 60), st.integers(1, 60), SPECS, st.sampled_from(Priority), st.randoms())
def test_a_batch_arrives_as_it_was_sent(count, height, width, spec, priority, random) -> None:
    crops = np.frombuffer(random.randbytes(count * height * width), np.uint8).reshape(count, height, width, 1)
    request = emotion_pb2.ClassifyFacesRequest.FromString(write_batch(crops, spec, priority).SerializeToString())
    np.testing.assert_array_equal(messages.parse_packed(request.packed, LIMITS, "packed"), crops)
    assert (messages.parse_spec(request.model), messages.parse_priority(request.priority)) == (spec, priority)


@given(
    st.integers(1, 40).flatmap(
        lambda count: st.tuples(
            st.lists(
                st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3),
                min_size=count,
                max_size=count,
            ),
            st.sets(st.integers(0, count - 1)),
        )
    ),
    NAMES,
    VERSIONS,
)
def test_scores_arrive_to_the_bit_and_failed_faces_as_no_numbers(answered, name, version) -> None:
    rows, failed = answered
    scores = np.array(rows, np.float32)
    faces = ScoredFaces(scores, {row: InferenceFailedError() for row in failed})
    sent = format_call_answer(Classification(faces, ("a", "b", "c"), ServableId(name, version)), 0.1)
    read = read_batch_answer(emotion_pb2.ClassifyFacesResponse.FromString(sent))
    assert (read.labels, read.servable) == (("a", "b", "c"), ServableId(name, version))
    for row in range(len(rows)):
        if row in failed:
            assert np.isnan(read.scores[row]).all()
        else:
            assert read.scores[row].tobytes() == scores[row].tobytes()


@given(st.lists(st.tuples(SHARES_32, SHARES_32), min_size=1, max_size=40))
def test_the_probability_of_no_face_arrives_as_one_column_more(rows: list[tuple[float, float]]) -> None:
    scores = np.array(rows, np.float32)
    description = ModelDescription(("a",), InputSpec("faces", 48, 48), not_a_face_output="not_a_face")
    answer = Classification(decide(ScoredFaces(scores), description), ("a",), ServableId("net", 1))
    sent = format_call_answer(answer, 0.1)
    read = read_batch_answer(emotion_pb2.ClassifyFacesResponse.FromString(sent))
    assert read.scores.tobytes() == scores.tobytes()


SHARES = st.floats(0, 1)
DESCRIPTIONS = st.builds(
    ModelDescription,
    st.lists(NAMES, min_size=1, max_size=3).map(tuple),
    st.builds(InputSpec, st.just("faces"), st.integers(1, 99), st.integers(1, 99)),
    mac_count=st.integers(0, 2**40),
    parameter_count=st.integers(0, 2**40),
    metrics=st.dictionaries(NAMES, SHARES, max_size=2),
    uncertain_threshold=SHARES,
    not_a_face_output=st.sampled_from(["", "not_a_face"]),
    not_a_face_threshold=SHARES,
)
STATUSES = st.builds(
    VersionStatus,
    st.builds(ServableId, st.just("net"), VERSIONS),
    st.sampled_from(ServableState),
    st.none() | DESCRIPTIONS,
    st.none() | st.builds(ModelRejectedError, st.just("FILE_CHANGED"), NAMES, file=NAMES),
    st.none()
    | st.builds(
        ValidationFigures,
        SHARES,
        st.none() | st.builds(ValidationComparison, VERSIONS, st.none() | SHARES, st.none() | SHARES),
    ),
    st.none()
    | st.builds(
        Tuning,
        st.sampled_from(Precision),
        st.lists(st.integers(1, 512), max_size=3).map(tuple),
        bfloat16_speedup=st.none() | SHARES,
    ),
)
MODELS = st.builds(
    ModelStatus,
    st.just("net"),
    st.booleans(),
    st.lists(STATUSES, max_size=3).map(tuple),
    policy=NAMES,
    aliases=st.dictionaries(NAMES, VERSIONS, max_size=2),
    serving_version=st.none() | VERSIONS,
    skipped=st.lists(st.builds(SkippedFolder, st.just("net"), NAMES, NAMES, NAMES), max_size=2).map(tuple),
)


@given(MODELS)
def test_a_detection_tier_tells_of_models_what_their_tier_tells(model: ModelStatus) -> None:
    reported = format_model(model)
    assert format_model(read_model(reported)) == reported


def test_times_of_batches_are_reported_too() -> None:
    tuning = Tuning(Precision.FLOAT32, (1, 8), latency_s={1: 0.001, 8: 0.004})
    validation = ValidationFigures(0.0, ValidationComparison(1, latency_s={8: (0.004, 0.003)}))
    model = ModelStatus(
        "net",
        True,
        (VersionStatus(ServableId("net", 2), ServableState.READY, validation=validation, tuning=tuning),),
    )
    (read,) = read_model(format_model(model)).versions
    assert read.tuning is not None
    assert {size: round(each, 9) for size, each in read.tuning.latency_s.items()} == tuning.latency_s
    assert read.validation is not None
    assert read.validation.comparison is not None
    assert {
        size: tuple(round(each, 9) for each in both) for size, both in read.validation.comparison.latency_s.items()
    } == {8: (0.004, 0.003)}


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9.:,\[\]]{0,30}", fullmatch=True))
def test_any_text_is_a_target_or_rejected_in_words(text: str) -> None:
    try:
        target = parse_target(text)
    except ValueError:
        return
    assert parse_target(target) == target
