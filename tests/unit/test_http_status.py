"""Tests that every error has one HTTP status, and a JSON that people and programs can act on."""

from __future__ import annotations

import json

import pytest

from ferserve_server.domain import errors
from ferserve_server.http.responses import (
    HTTP_STATUS,
    REASON_STATUS,
    error_reply,
    http_status,
    json_reply,
    method_not_allowed,
)
from ferserve_server.services.status import _CODES, code_of

QUEUE_FULL = errors.QueueFullError(what="faces", queued=8, limit=8, setting="max_queue_faces", retry_after_s=0.012)


def test_every_code_that_an_error_can_have_has_a_status() -> None:
    assert set(HTTP_STATUS) == set(_CODES.values())
    assert all(400 <= status <= 599 for status in (*HTTP_STATUS.values(), *REASON_STATUS.values()))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequestError("X", "no", field=""), 400),
        (errors.ImageFormatError("text"), 400),
        (errors.ModelNotFoundError("x"), 404),
        (errors.VersionNotFoundError("x", 1), 404),
        (errors.LimitExceededError("MESSAGE_TOO_LARGE", what="", value=2, limit=1, setting="", field=""), 413),
        (errors.LimitExceededError("TOO_MANY_IMAGES", what="", value=2, limit=1, setting="", field=""), 400),
        (QUEUE_FULL, 429),
        (errors.InferenceFailedError(), 500),
        (errors.FerserveError("broken"), 500),
        (errors.UnsupportedError("no"), 501),
        (errors.DrainingError(), 503),
        (errors.ModelNotReadyError("x"), 503),
        (errors.EngineStalledError(1.0), 503),
        (errors.EngineLostError(executed=True), 503),
        (errors.DeadlineExpiredError(), 504),
        (errors.DeadlineUnmeetableError(remaining_s=0.1, expected_s=0.3), 504),
        (method_not_allowed("GET", "POST"), 405),
    ],
)
def test_an_error_has_its_status(error: errors.FerserveError, status: int) -> None:
    assert http_status(error) == status
    reply = error_reply(error)
    assert reply.status == status
    document = json.loads(reply.body)
    assert (document["error"], document["reason"]) == (error.message, error.reason)
    assert document["status"] == code_of(error).name
    assert ("Retry-After" in reply.headers) == (error.retry_after_s is not None)


def test_a_wait_is_reported_in_whole_seconds_for_http_and_in_milliseconds_beside_it() -> None:
    reply = error_reply(QUEUE_FULL)
    assert reply.headers["Retry-After"] == "1"
    assert json.loads(reply.body)["retry_after_ms"] == 12
    assert json.loads(reply.body)["metadata"]["setting"] == "max_queue_faces"
    longer = errors.QueueFullError(what="faces", queued=8, limit=8, setting="x", retry_after_s=2.1)
    assert error_reply(longer).headers["Retry-After"] == "3"


def test_a_field_at_fault_is_named_and_only_then() -> None:
    named = json.loads(error_reply(errors.InvalidRequestError("X", "no", field="images")).body)
    assert named["field"] == "images"
    assert "field" not in json.loads(error_reply(QUEUE_FULL).body)


def test_a_document_ends_its_line_and_keeps_its_letters() -> None:
    assert json_reply({"name": "é"}).body == '{"name": "é"}\n'.encode()
