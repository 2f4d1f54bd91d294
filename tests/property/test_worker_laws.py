"""Tests laws of the messages between worker processes and the primary process, and of their shared memory."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.domain.canary import CanaryReport
from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import (
    InputSpec,
    ModelDescription,
    ModelSpec,
    ModelStatus,
    Precision,
    ServableId,
    ServableState,
    Tuning,
    ValidationComparison,
    ValidationFigures,
    VersionStatus,
)
from ferserve_server.domain.trace import SpanRef
from ferserve_server.ipc.shared_memory import ALIGNMENT_BYTES, BlockAllocator
from ferserve_server.models.catalog import ServiceState
from ferserve_server.services.status import code_of
from ferserve_server.workers import score_messages as wire
from ferserve_server.workers.json_codec import KINDS, read_error, read_value, write_error, write_text, write_value

NUMBERS = st.integers(0, 2**32 - 1)
SECONDS = st.floats(0, 1e9)
NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", fullmatch=True)
VERSIONS = st.integers(1, 2**62)
SERVABLES = st.builds(ServableId, NAMES, VERSIONS)
SPECS = st.builds(ModelSpec, st.just("") | NAMES, st.none() | VERSIONS, st.just("") | NAMES)
SPANS = st.builds(SpanRef, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
FACTS = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


@st.composite
def errors(draw: st.DrawFn) -> FerserveError:
    """Any error of the domain, as its class may have made it."""
    kind = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    error = kind.__new__(kind)
    retry_after_s = draw(st.none() | SECONDS)
    FerserveError.__init__(error, draw(st.text()), draw(FACTS), field=draw(st.text()), retry_after_s=retry_after_s)
    if draw(st.booleans()):
        error.reason = draw(st.text(min_size=1))  # type: ignore[misc]  # as errors of requests have it
    return error


def _facts(error: FerserveError) -> tuple[object, ...]:
    return (
        type(error),
        error.message,
        str(error),
        error.reason,
        error.metadata,
        error.field,
        error.retry_after_s,
        code_of(error),
    )


@given(errors())
def test_an_error_arrives_with_its_class_its_facts_and_its_status(error: FerserveError) -> None:
    assert _facts(read_error(json.loads(json.dumps(write_error(error))))) == _facts(error)


def test_an_error_that_is_not_the_domains_arrives_as_a_plain_one() -> None:
    class OwnError(FerserveError):
        reason = "OWN"

    assert _facts(read_error(write_error(OwnError("text")))) == (
        FerserveError, "text", "text", "OWN", {}, "", None, code_of(FerserveError("")),
    )  # fmt: skip


REQUESTS = st.builds(
    wire.ScoreRequest,
    NUMBERS,
    NUMBERS,
    st.booleans(),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.tuples(st.integers(1, 2**20), st.integers(1, 1024), st.integers(1, 1024)),
    st.none() | SECONDS,
    st.sampled_from(Priority),
    SPECS,
    spans=st.lists(SPANS, max_size=3).map(tuple),
)
ANSWERS = st.builds(
    wire.ScoreAnswer,
    NUMBERS,
    NUMBERS,
    st.integers(0, 2**16 - 1),
    SERVABLES,
    SECONDS,
    SECONDS,
    st.dictionaries(st.integers(0, 4095), errors(), max_size=4),
)


@given(REQUESTS)
def test_a_request_arrives_as_it_was_sent(request: wire.ScoreRequest) -> None:
    message = wire.write_score(request)
    assert wire.kind_of(message) == wire.SCORE
    assert wire.read_score(message) == request


@given(ANSWERS)
def test_an_answer_arrives_as_it_was_sent(answer: wire.ScoreAnswer) -> None:
    message = wire.write_answer(answer)
    read = wire.read_answer(message)
    assert wire.kind_of(message) == wire.ANSWER
    reported = (read.number, read.face_count, read.label_count, read.servable, read.queue_s, read.inference_s)
    assert reported == (
        answer.number,
        answer.face_count,
        answer.label_count,
        answer.servable,
        answer.queue_s,
        answer.inference_s,
    )
    assert {row: _facts(each) for row, each in read.failures.items()} == {
        row: _facts(each) for row, each in answer.failures.items()
    }


@given(NUMBERS, errors())
def test_a_rejection_arrives_as_it_was_sent(number: int, error: FerserveError) -> None:
    message = wire.write_rejection(number, error)
    read_number, read = wire.read_rejection(message)
    assert (wire.kind_of(message), read_number, _facts(read)) == (wire.REJECTED, number, _facts(error))


@pytest.mark.parametrize("kind", [wire.CANCEL, wire.CLOSE, wire.CANCELLED])
def test_a_number_arrives_with_its_kind(kind: int) -> None:
    message = wire.write_numbered(kind, 2**32 - 1)
    assert (wire.kind_of(message), wire.read_number(message)) == (kind, 2**32 - 1)


def test_a_request_from_one_caller_takes_one_short_message() -> None:
    spec = ModelSpec("fer-small", alias="stable")
    request = wire.ScoreRequest(1, 1, False, 0, 2304, (1, 48, 48), 1.5, Priority.INTERACTIVE, spec)
    assert len(wire.write_score(request)) < 80


DESCRIPTIONS = st.builds(
    ModelDescription,
    st.lists(st.text(max_size=4), max_size=3).map(tuple),
    st.builds(InputSpec, NAMES, st.integers(1, 99), st.integers(1, 99)),
    metrics=st.dictionaries(NAMES, SECONDS, max_size=2),
)
TIMES = st.dictionaries(st.integers(1, 512), SECONDS, max_size=2)
STATUSES = st.builds(
    VersionStatus,
    SERVABLES,
    st.sampled_from(ServableState),
    st.none() | DESCRIPTIONS,
    st.none(),
    st.none()
    | st.builds(
        ValidationFigures,
        SECONDS,
        st.none()
        | st.builds(
            ValidationComparison,
            VERSIONS,
            latency_s=st.dictionaries(st.integers(1, 512), st.tuples(SECONDS, SECONDS), max_size=2),
        ),
    ),
    st.none() | st.builds(Tuning, st.sampled_from(Precision), st.tuples(st.integers(1, 9)), latency_s=TIMES),
)
STATES = st.builds(
    ServiceState,
    NAMES,
    st.booleans(),
    st.lists(
        st.builds(
            ModelStatus,
            NAMES,
            st.booleans(),
            st.lists(STATUSES, max_size=2).map(tuple),
            aliases=st.dictionaries(NAMES, VERSIONS, max_size=2),
            canary=st.none() | st.from_type(CanaryReport),
        ),
        max_size=2,
    ).map(tuple),
)


def _no_nan(value: object) -> bool:
    return "NaN" not in write_text(write_value(value))


@given(STATES.filter(_no_nan))
def test_the_state_of_all_models_arrives_as_it_is(state: ServiceState) -> None:
    assert read_value(json.loads(write_text(write_value(state))), ServiceState) == state


@given(errors())
def test_why_a_version_failed_arrives_with_its_state(error: FerserveError) -> None:
    status = VersionStatus(ServableId("fer-nano", 1), ServableState.FAILED, failure=error)
    read = read_value(json.loads(write_text(write_value(status))), VersionStatus)
    assert read.failure is not None
    assert _facts(read.failure) == _facts(error)


@given(st.integers(1, 64), st.lists(st.tuples(st.booleans(), st.integers(1, 2000)), max_size=60))
def test_places_never_overlap_and_all_come_back(blocks: int, steps: list[tuple[bool, int]]) -> None:
    allocator = BlockAllocator(blocks * ALIGNMENT_BYTES)
    taken: dict[int, int] = {}
    for take, size in steps:
        if take:
            offset = allocator.take(size)
            if offset is None:
                continue
            assert offset % ALIGNMENT_BYTES == 0
            assert offset + size <= allocator.size
            assert all(offset + size <= start or start + length <= offset for start, length in taken.items())
            taken[offset] = size
        elif taken:
            offset = sorted(taken)[size % len(taken)]
            allocator.give_back(offset, taken.pop(offset))
    for offset, size in taken.items():
        allocator.give_back(offset, size)
    assert allocator.taken == 0
    assert allocator.take(allocator.size) == 0  # in one piece again
