"""Tests that an error of another server is the same error here: class, text, facts, retry delay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from grpc.aio import Metadata

from ferserve.v1 import failure_pb2
from ferserve_server.domain import errors
from ferserve_server.domain.upstream_errors import UpstreamUnavailableError
from ferserve_server.services.codec.messages import format_failure
from ferserve_server.services.status import code_of, trailers_of
from ferserve_server.upstream.status import read_failure, read_rejection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.errors import FerserveError

REJECTIONS = [
    errors.QueueFullError(what="faces", queued=8, limit=8, setting="max_queue_faces", retry_after_s=0.25),
    errors.DeadlineUnmeetableError(remaining_s=0.1, expected_s=0.3),
    errors.DeadlineExpiredError(),
    errors.ModelNotFoundError("x"),
    errors.VersionNotFoundError("x", 3),
    errors.AliasNotFoundError("x", "y", ["z"]),
    errors.VersionNotReadyError("x", 3, "y"),
    errors.ModelNotReadyError("x"),
    errors.EngineLostError(executed=True),
    errors.EngineStalledError(30.0),
    errors.InferenceFailedError(),
    errors.UnsupportedError("no"),
    errors.ModelRejectedError("FILE_CHANGED", "no", file="x"),
    errors.InvalidRequestError("FACES_REQUIRED", "none", field="packed", value=0),
    UpstreamUnavailableError("no answer within 30 s"),
]


def _call_error(code: grpc.StatusCode, trailers: Sequence[tuple[str, str | bytes]] = ()) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, Metadata(), Metadata(*trailers), details="gRPC's own words")


@pytest.mark.parametrize("error", REJECTIONS, ids=lambda error: error.reason)
def test_a_rejection_arrives_as_it_was_made(error: FerserveError) -> None:
    read = read_rejection(_call_error(code_of(error), trailers_of(error)))
    assert type(read) is type(error)
    facts = ("reason", "message", "metadata", "field", "retry_after_s")
    assert [getattr(read, name) for name in facts] == [getattr(error, name) for name in facts]
    assert code_of(read) is code_of(error)


@pytest.mark.parametrize("error", REJECTIONS, ids=lambda error: error.reason)
def test_a_failure_of_one_part_arrives_as_it_was_made(error: FerserveError) -> None:
    read = read_failure(format_failure(error))
    assert (type(read), read.reason, read.message, read.metadata) == (
        type(error),
        error.reason,
        error.message,
        error.metadata,
    )


def test_a_limit_of_the_tier_keeps_its_field_and_its_facts() -> None:
    limit = errors.LimitExceededError(
        "TOO_MANY_FACES",
        what="faces",
        value=9,
        limit=8,
        setting="max_faces_per_request",
        field="packed.face_count",
    )
    read = read_rejection(_call_error(code_of(limit), trailers_of(limit)))
    assert (read.reason, read.field, read.metadata) == (limit.reason, limit.field, limit.metadata)
    assert code_of(read) is grpc.StatusCode.INVALID_ARGUMENT


def test_a_server_of_the_tier_that_drains_does_not_make_this_one_seem_to() -> None:
    draining = errors.DrainingError(last_sequence_id=7)
    read = read_rejection(_call_error(code_of(draining), trailers_of(draining)))
    assert isinstance(read, UpstreamUnavailableError)
    assert "going down" in read.message


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "UPSTREAM_UNAVAILABLE"),
        (grpc.StatusCode.CANCELLED, "UPSTREAM_UNAVAILABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXPIRED"),
        (grpc.StatusCode.INTERNAL, "INTERNAL"),
        (grpc.StatusCode.UNIMPLEMENTED, "INTERNAL"),
        (grpc.StatusCode.UNAUTHENTICATED, "INTERNAL"),
    ],
)
def test_what_no_server_of_ours_said_is_not_shown_to_callers(code: grpc.StatusCode, reason: str) -> None:
    read = read_rejection(_call_error(code))
    assert read.reason == reason
    assert "own words" not in read.message


def test_a_reason_of_a_newer_server_keeps_its_code() -> None:
    failure = failure_pb2.Failure(code=8, reason="QUEUE_SOUR", message="Newer.", metadata={"a": "b"})
    read = read_failure(failure)
    assert code_of(read) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (read.reason, read.message, read.metadata) == ("QUEUE_SOUR", "Newer.", {"a": "b"})
