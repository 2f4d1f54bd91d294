"""Tests the trailers of errors: each error has its own, although they are cached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import (
    DeadlineUnmeetableError,
    DrainingError,
    FerserveError,
    InferenceFailedError,
    InvalidRequestError,
    QueueFullError,
)
from ferserve_server.grpc import trailers
from ferserve_server.grpc.trailers import error_trailers, status_trailers
from ferserve_server.services.status import code_number, trailers_of

if TYPE_CHECKING:
    import pytest


def full(retry_after_s: float) -> QueueFullError:
    return QueueFullError(what="faces", queued=7, limit=7, setting="max_queue_faces", retry_after_s=retry_after_s)


NEARLY_ALIKE = [
    DeadlineUnmeetableError(remaining_s=1.0, expected_s=2.0),
    DeadlineUnmeetableError(remaining_s=1.0, expected_s=2.001),
    full(0.25),
    full(0.251),
    InvalidRequestError("A", "Send less.", field="faces", limit=1),
    InvalidRequestError("B", "Send less.", field="faces", limit=1),
    InvalidRequestError("A", "Send less.", field="images", limit=1),
    InvalidRequestError("A", "Send less.", field="faces", limit=2),
    InvalidRequestError("A", "Send more.", field="faces", limit=1),
    FerserveError("Send less."),
    FerserveError("Send less.", retry_after_s=1.0),
    InferenceFailedError(),
    DrainingError(last_sequence_id=1),
    DrainingError(last_sequence_id=2),
]


def test_an_error_that_is_reported_again_is_reported_as_the_first_time_and_never_as_another() -> None:
    for error in NEARLY_ALIKE * 2:
        assert error_trailers(error) == status_trailers(code_number(error), error.message, trailers_of(error))


def test_what_is_kept_of_errors_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[object, ...], trailers.Headers] = {}
    monkeypatch.setattr(trailers, "_errors", kept)

    for count in range(1000):
        error_trailers(DeadlineUnmeetableError(remaining_s=1.0, expected_s=1 + count / 1000))
        error_trailers(FerserveError("long " * count))

    assert len(kept) <= 256
    assert sum(len(name) + len(value) for each in kept.values() for name, value in each) <= 256 * 2048
