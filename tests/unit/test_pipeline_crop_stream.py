"""Tests streams of crop requests: order, faults, draining."""

from __future__ import annotations

import numpy as np
import pytest

from ferserve_server.domain.errors import (
    DrainingError,
    InvalidRequestError,
    QueueFullError,
)
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.classify_stream import CropMessage
from support.fake_clock import settle
from support.stream_bench import Bench

FULL = QueueFullError(what="faces", queued=9, limit=9, setting="max_queue_faces", retry_after_s=0.1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def _crops(sequence_id: int, *classes: int) -> CropMessage:
    crops = np.zeros((len(classes), 48, 48, 1), np.uint8)
    crops[:, 0, 0, 0] = classes
    return CropMessage(sequence_id, crops, ModelSpec(), Priority.BULK)


async def test_crop_requests_are_answered_in_order(bench: Bench) -> None:
    task = bench.open_crops()
    await bench.send(*(_crops(number, number % 7, (number + 1) % 7) for number in range(10)))
    await bench.send(None)
    await task
    assert bench.reported == [(number, f"{number % 7} {(number + 1) % 7}") for number in range(10)]
    assert set(bench.scorer.priorities) == {Priority.BULK}


async def test_a_rejected_crop_request_is_answered_in_its_place(bench: Bench) -> None:
    task = bench.open_crops()
    rejection = InvalidRequestError("FACES_REQUIRED", "none", field="faces.face_count")
    await bench.send(_crops(0, 1), CropMessage.rejected(1, rejection), _crops(2, 3), None)
    await task
    assert bench.reported == [(0, "1"), (1, "FACES_REQUIRED"), (2, "3")]


async def test_a_full_queue_fails_the_crop_request_and_the_stream_goes_on(bench: Bench) -> None:
    task = bench.open_crops()
    bench.scorer.reject_with = FULL
    await bench.send(_crops(0, 1))
    bench.scorer.reject_with = None
    await bench.send(_crops(1, 1), None)
    await task
    assert bench.reported == [(0, "QUEUE_FULL"), (1, "1")]


async def test_an_unforeseen_error_on_a_crop_request_fails_it_alone_and_is_hidden(bench: Bench) -> None:
    task = bench.open_crops()
    bench.scorer.reject_with = RuntimeError("/secret/path")
    await bench.send(_crops(0, 1))
    bench.scorer.reject_with = None
    await bench.send(_crops(1, 1), None)
    await task
    assert bench.reported == [(0, "INTERNAL"), (1, "1")]
    assert "/secret/path" not in bench.answers[0].outcome.message


async def test_numbers_of_crop_requests_must_rise(bench: Bench) -> None:
    task = bench.open_crops()
    await bench.send(_crops(3, 1), _crops(3, 1))
    with pytest.raises(InvalidRequestError):
        await task
    assert bench.reported == [(3, "1")]


async def test_draining_ends_a_crop_stream_with_the_last_number_answered(bench: Bench) -> None:
    task = bench.open_crops()
    await bench.send(_crops(7, 1), _crops(8, 2))
    bench.draining.set()
    with pytest.raises(DrainingError) as caught:
        await task
    assert caught.value.metadata == {"last_sequence_id": "8"}
    assert bench.reported == [(7, "1"), (8, "2")]


async def test_a_crop_stream_whose_sender_was_done_ends_well_also_while_draining(bench: Bench) -> None:
    task = bench.open_crops()
    bench.inbox.put_nowait(_crops(0, 1))
    bench.inbox.put_nowait(None)
    await settle(3)
    bench.draining.set()
    await task
    assert bench.reported == [(0, "1")]
