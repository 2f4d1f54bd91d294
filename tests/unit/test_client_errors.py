"""Tests the mapping of server statuses to the error classes that a caller catches."""

from __future__ import annotations

import pickle

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode

from ferserve.v1 import failure_pb2
from ferserve_client import errors
from ferserve_client.error_table import CLASS_OF_CODE, CLASS_OF_REASON, error_of
from ferserve_client.errors import ErrorFacts
from ferserve_client.wire.status import read_call_error, read_failure, read_stream_error
from support.scripted_server import DRAINING, QUEUE_FULL, UNREADABLE, Rejection


def ended_call(
    code: StatusCode, message: str, trailers: tuple[tuple[str, str | bytes], ...] = ()
) -> grpc.RpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), message)


def rejected_call(rejection: Rejection) -> grpc.RpcError:
    return ended_call(rejection.code, rejection.message, tuple(rejection.status().trailing_metadata))


def test_a_rejected_call_tells_all_its_facts() -> None:
    rejection = Rejection(
        StatusCode.INVALID_ARGUMENT,
        "PIXELS_LENGTH_MISMATCH",
        "pixels are 5 bytes, not 2304",
        metadata={"expected": "2304"},
        violated_field="packed.pixels",
    )

    error = read_call_error(rejected_call(rejection))

    assert type(error) is errors.InvalidRequestError
    assert error.code is StatusCode.INVALID_ARGUMENT
    assert error.reason == "PIXELS_LENGTH_MISMATCH"
    assert error.message == "pixels are 5 bytes, not 2304"
    assert error.metadata == {"expected": "2304"}
    assert error.field_violations == (errors.FieldViolation("packed.pixels", "pixels are 5 bytes, not 2304"),)
    assert error.retry_delay_s is None
    assert str(error) == "PIXELS_LENGTH_MISMATCH: pixels are 5 bytes, not 2304"


def test_a_full_queue_tells_when_to_come_back() -> None:
    error = read_call_error(rejected_call(QUEUE_FULL))

    assert type(error) is errors.QueueFullError
    assert error.retry_delay_s == pytest.approx(0.01)


def test_a_call_that_reached_nobody_has_no_reason() -> None:
    error = read_call_error(ended_call(StatusCode.UNAVAILABLE, "connection refused"))

    assert type(error) is errors.ServerUnavailableError
    assert error.reason == ""
    assert str(error) == "UNAVAILABLE: connection refused"


def test_damaged_details_leave_code_and_message() -> None:
    trailers = (("grpc-status-details-bin", b"\xff\xff\xff"),)

    error = read_call_error(ended_call(StatusCode.NOT_FOUND, "gone", trailers))

    assert type(error) is errors.NotFoundError
    assert error.message == "gone"


def test_the_reason_of_a_stranger_is_not_believed() -> None:
    status = Rejection(StatusCode.UNAVAILABLE, "DRAINING").status()
    ((key, value),) = status.trailing_metadata
    stranger = value.replace(b"ferserve", b"foreigns")
    assert stranger != value

    error = read_call_error(ended_call(StatusCode.UNAVAILABLE, "proxy", ((key, stranger),)))

    assert type(error) is errors.ServerUnavailableError


def test_a_part_that_failed_is_the_error_that_the_call_would_have_been() -> None:
    error = read_failure(UNREADABLE)

    assert type(error) is errors.ImageUnreadableError
    assert error.code is StatusCode.INVALID_ARGUMENT
    assert error.metadata == {"index": "1"}


def test_a_code_that_grpc_does_not_have_is_unknown() -> None:
    assert read_failure(failure_pb2.Failure(code=99)).code is StatusCode.UNKNOWN


@pytest.mark.parametrize("code", [code for code in StatusCode if code is not StatusCode.OK])
def test_an_unknown_reason_falls_back_to_its_code(code: StatusCode) -> None:
    error = error_of(ErrorFacts(code, "REASON_OF_TOMORROW"))

    assert type(error) is CLASS_OF_CODE.get(code, errors.FerserveError)


@pytest.mark.parametrize(
    ("code", "reasons"),
    [
        (StatusCode.RESOURCE_EXHAUSTED, ["QUEUE_FULL"]),
        (StatusCode.NOT_FOUND, ["MODEL_NOT_FOUND", "VERSION_NOT_FOUND"]),
        (StatusCode.UNAVAILABLE, ["DRAINING", "MODEL_NOT_READY", "ENGINE_STALLED", "ENGINE_LOST"]),
        (StatusCode.DEADLINE_EXCEEDED, ["DEADLINE_UNMEETABLE", "DEADLINE_EXPIRED"]),
        (StatusCode.INTERNAL, ["INFERENCE_FAILED", "INTERNAL"]),
        (StatusCode.INVALID_ARGUMENT, ["IMAGE_UNREADABLE", "TOO_MANY_FACES"]),
    ],
)
def test_who_catches_a_code_catches_its_reasons(code: StatusCode, reasons: list[str]) -> None:
    for reason in reasons:
        assert issubclass(CLASS_OF_REASON[reason], CLASS_OF_CODE[code])


def test_every_error_survives_pickling() -> None:
    for reason in CLASS_OF_REASON:
        error = error_of(ErrorFacts(StatusCode.INTERNAL, reason, "text", {"key": "value"}))

        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

        assert type(copy) is type(error)
        assert copy.facts == error.facts


def test_a_drained_stream_resumes_after_what_was_received() -> None:
    rejection = Rejection(StatusCode.UNAVAILABLE, "DRAINING", metadata={"last_sequence_id": "9"})

    error = read_stream_error(rejected_call(rejection), 7)

    assert isinstance(error, errors.ServerDrainingError)
    assert error.last_sequence_id == 7


def test_a_drained_stream_without_an_answer_resumes_at_the_beginning() -> None:
    rejection = Rejection(StatusCode.UNAVAILABLE, "DRAINING", metadata={"last_sequence_id": "9"})

    error = read_stream_error(rejected_call(rejection), None)

    assert isinstance(error, errors.ServerDrainingError)
    assert error.last_sequence_id is None


def test_other_ends_of_a_stream_are_left_as_they_are() -> None:
    error = read_stream_error(rejected_call(QUEUE_FULL), 7)

    assert type(error) is errors.QueueFullError
    assert "last_sequence_id" not in error.metadata


def test_the_script_speaks_as_the_server_does() -> None:
    """Guards the fake: its details are those that the proto promises."""
    ((_, value),) = DRAINING.status().trailing_metadata

    assert error_details_pb2.ErrorInfo(domain="ferserve", reason="DRAINING").SerializeToString() in value
