"""The trailers of errors at the express door: each has its own, though they are kept."""

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
from ferserve_server.services.status import code_number, trailers_of
from ferserve_server.transport.express import trailers
from ferserve_server.transport.express.trailers import error_block, status_block

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


def test_an_error_that_is_told_again_is_told_as_the_first_time_and_never_as_another() -> None:
    for error in NEARLY_ALIKE * 2:
        assert error_block(error) == status_block(code_number(error), error.message, trailers_of(error))


def test_what_is_kept_of_errors_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[object, ...], bytes] = {}
    monkeypatch.setattr(trailers, "_error_blocks", kept)

    for count in range(1000):
        error_block(DeadlineUnmeetableError(remaining_s=1.0, expected_s=1 + count / 1000))
        error_block(FerserveError("long " * count))

    assert len(kept) <= 256
    assert sum(map(len, kept.values())) <= 256 * 2048
