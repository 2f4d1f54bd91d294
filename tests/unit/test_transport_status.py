"""Tests that every error has one status code, and details that a program can act on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from ferserve_server.domain import control_errors, errors, upstream_errors
from ferserve_server.domain.servable import ServableId
from ferserve_server.services.status import code_number, code_of, metadata_of, status_of, trailers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = {
    errors.FerserveError: (errors.FerserveError("broken"), "INTERNAL", "INTERNAL"),
    errors.InvalidRequestError: (
        errors.InvalidRequestError("FACES_REQUIRED", "none", field="packed", value=0),
        "INVALID_ARGUMENT",
        "FACES_REQUIRED",
    ),
    errors.LimitExceededError: (
        errors.LimitExceededError("TOO_MANY", what="faces", value=9, limit=8, setting="max_x", field="packed"),
        "INVALID_ARGUMENT",
        "TOO_MANY",
    ),
    errors.ImageUnreadableError: (errors.ImageUnreadableError("cut"), "INVALID_ARGUMENT", "IMAGE_UNREADABLE"),
    errors.ImageFormatError: (errors.ImageFormatError("text"), "INVALID_ARGUMENT", "IMAGE_FORMAT_UNSUPPORTED"),
    errors.ModelNotFoundError: (errors.ModelNotFoundError("x"), "NOT_FOUND", "MODEL_NOT_FOUND"),
    errors.VersionNotFoundError: (errors.VersionNotFoundError("x", 3), "NOT_FOUND", "VERSION_NOT_FOUND"),
    errors.AliasNotFoundError: (errors.AliasNotFoundError("x", "y", ["z"]), "NOT_FOUND", "ALIAS_NOT_FOUND"),
    errors.VersionNotReadyError: (errors.VersionNotReadyError("x", 3, "y"), "UNAVAILABLE", "VERSION_NOT_READY"),
    errors.VersionInUseError: (errors.VersionInUseError("x", 3, "why"), "FAILED_PRECONDITION", "VERSION_IN_USE"),
    errors.AliasFixedError: (errors.AliasFixedError("x", "y"), "FAILED_PRECONDITION", "ALIAS_FIXED"),
    control_errors.NoCanaryError: (
        control_errors.NoCanaryError("x", 3, None),
        "FAILED_PRECONDITION",
        "NO_CANARY",
    ),
    control_errors.StateNotSavedError: (
        control_errors.StateNotSavedError("No space left on device"),
        "FAILED_PRECONDITION",
        "STATE_NOT_SAVED",
    ),
    control_errors.NoOlderVersionError: (
        control_errors.NoOlderVersionError("x", 3),
        "FAILED_PRECONDITION",
        "NO_OLDER_VERSION",
    ),
    control_errors.ControlDisabledError: (
        control_errors.ControlDisabledError(elsewhere=True),
        "PERMISSION_DENIED",
        "CONTROL_DISABLED",
    ),
    control_errors.ControlForbiddenError: (
        control_errors.ControlForbiddenError(),
        "PERMISSION_DENIED",
        "CONTROL_FORBIDDEN",
    ),
    control_errors.ControlThrottledError: (
        control_errors.ControlThrottledError(2.0),
        "RESOURCE_EXHAUSTED",
        "CONTROL_THROTTLED",
    ),
    control_errors.OriginNotAllowedError: (
        control_errors.OriginNotAllowedError("http://evil.example"),
        "PERMISSION_DENIED",
        "ORIGIN_NOT_ALLOWED",
    ),
    control_errors.ControlUnauthenticatedError: (
        control_errors.ControlUnauthenticatedError(),
        "UNAUTHENTICATED",
        "CONTROL_UNAUTHENTICATED",
    ),
    errors.ModelNotReadyError: (errors.ModelNotReadyError("x"), "UNAVAILABLE", "MODEL_NOT_READY"),
    errors.QueueFullError: (
        errors.QueueFullError(what="faces", queued=8, limit=8, setting="max_queue_faces", retry_after_s=0.25),
        "RESOURCE_EXHAUSTED",
        "QUEUE_FULL",
    ),
    errors.DeadlineUnmeetableError: (
        errors.DeadlineUnmeetableError(remaining_s=0.1, expected_s=0.3),
        "DEADLINE_EXCEEDED",
        "DEADLINE_UNMEETABLE",
    ),
    errors.DeadlineExpiredError: (errors.DeadlineExpiredError(), "DEADLINE_EXCEEDED", "DEADLINE_EXPIRED"),
    errors.DrainingError: (errors.DrainingError(last_sequence_id=7), "UNAVAILABLE", "DRAINING"),
    errors.InferenceFailedError: (errors.InferenceFailedError(), "INTERNAL", "INFERENCE_FAILED"),
    errors.EngineStalledError: (errors.EngineStalledError(30.0), "UNAVAILABLE", "ENGINE_STALLED"),
    errors.EngineLostError: (errors.EngineLostError(executed=True), "UNAVAILABLE", "ENGINE_LOST"),
    upstream_errors.UpstreamUnavailableError: (
        upstream_errors.UpstreamUnavailableError(),
        "UNAVAILABLE",
        "UPSTREAM_UNAVAILABLE",
    ),
    upstream_errors.VersionChangedError: (
        upstream_errors.VersionChangedError(ServableId("x", 3)),
        "UNAVAILABLE",
        "VERSION_CHANGED",
    ),
    errors.UnsupportedError: (errors.UnsupportedError("no"), "UNIMPLEMENTED", "UNSUPPORTED"),
    errors.ModelRejectedError: (
        errors.ModelRejectedError("FILE_CHANGED", "no", file="x"),
        "FAILED_PRECONDITION",
        "FILE_CHANGED",
    ),
}
ERRORS = [pytest.param(*example, id=kind.__name__) for kind, example in EXAMPLES.items()]


def _all_kinds(kind: type[errors.FerserveError]) -> Iterator[type[errors.FerserveError]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _all_kinds(derived)


def _details(error: errors.FerserveError, message: type) -> list:
    found = []
    for packed in status_of(error).details:
        assert isinstance(packed, any_pb2.Any)
        detail = message()
        if packed.Unpack(detail):
            found.append(detail)
    return found


def test_every_error_there_is_has_an_example_here() -> None:
    assert set(_all_kinds(errors.FerserveError)) == set(EXAMPLES)


@pytest.mark.parametrize(("error", "code", "reason"), ERRORS)
def test_an_error_has_its_code_reason_and_message(error: errors.FerserveError, code: str, reason: str) -> None:
    assert code_of(error) is grpc.StatusCode[code]
    assert code_number(error) == grpc.StatusCode[code].value[0]
    status = status_of(error)
    assert (status.code, status.message) == (code_number(error), error.message)
    (info,) = _details(error, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason, dict(info.metadata)) == ("ferserve", reason, metadata_of(error))
    assert re.fullmatch("[A-Z][A-Z_]*[A-Z]", reason)


@pytest.mark.parametrize(("error", "code", "reason"), ERRORS)
def test_the_trailers_carry_the_whole_status(error: errors.FerserveError, code: str, reason: str) -> None:
    trailers = dict(trailers_of(error))
    assert status_pb2.Status.FromString(trailers["grpc-status-details-bin"]) == status_of(error)


UNAVAILABLE = {
    *("DRAINING", "MODEL_NOT_READY", "VERSION_NOT_READY", "ENGINE_STALLED", "ENGINE_LOST"),
    *("UPSTREAM_UNAVAILABLE", "VERSION_CHANGED"),
}


UNSAFE = {"ENGINE_STALLED", "ENGINE_LOST"}
"""A model has run on the request, which may be what it failed on."""


@pytest.mark.parametrize(("error", "code", "reason"), ERRORS)
def test_the_status_says_whether_sending_the_request_again_is_safe(
    error: errors.FerserveError, code: str, reason: str
) -> None:
    expected = "false" if reason in UNSAFE else "true" if reason in {"QUEUE_FULL", *UNAVAILABLE} else None
    (info,) = _details(error, error_details_pb2.ErrorInfo)
    assert info.metadata.get("retry_safe") == expected


@pytest.mark.parametrize(("error", "code", "reason"), ERRORS)
def test_a_field_at_fault_is_named_and_only_then(error: errors.FerserveError, code: str, reason: str) -> None:
    details = _details(error, error_details_pb2.BadRequest)
    violations = [each for detail in details for each in detail.field_violations]
    assert [(each.field, each.reason) for each in violations] == ([(error.field, reason)] if error.field else [])


@pytest.mark.parametrize(("error", "code", "reason"), ERRORS)
def test_a_wait_is_reported_where_waiting_helps_and_only_there(
    error: errors.FerserveError, code: str, reason: str
) -> None:
    helps = reason in {"QUEUE_FULL", "CONTROL_THROTTLED", *UNAVAILABLE} - UNSAFE
    delays = [detail.retry_delay.ToMilliseconds() for detail in _details(error, error_details_pb2.RetryInfo)]
    assert len(delays) == helps
    pushback = str(delays[0]) if helps else "-1" if reason in UNSAFE else None
    assert dict(trailers_of(error)).get("grpc-retry-pushback-ms") == pushback


def test_the_wait_before_a_full_queue_is_the_one_that_was_estimated() -> None:
    (retry,) = _details(EXAMPLES[errors.QueueFullError][0], error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 250


@pytest.mark.parametrize(("error", "code", "reason"), ERRORS)
def test_nobody_is_made_to_retry_an_overload_by_itself(
    error: errors.FerserveError, code: str, reason: str
) -> None:
    """Clients retry UNAVAILABLE by themselves; on a full queue that would multiply the load."""
    assert (code == "UNAVAILABLE") == (reason in UNAVAILABLE)


def test_an_engine_that_was_lost_without_the_request_may_be_asked_again() -> None:
    error = errors.EngineLostError(executed=False)
    assert metadata_of(error)["retry_safe"] == "true"
    assert dict(trailers_of(error))["grpc-retry-pushback-ms"] == "1000"
