"""Tests that requests that begin together in a worker reach the primary process as one, and end separately."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.canary import CanaryMode, CanaryReport, CanaryResult, Verdict, VersionStatistics
from ferserve_server.domain.errors import (
    DeadlineUnmeetableError,
    EngineLostError,
    FerserveError,
    InferenceFailedError,
    QueueFullError,
)
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.workers.coalescing import MAX_COALESCED_FACES
from support.pipeline_fakes import SERVABLE, FakeScorer
from support.worker_pair import BlockingScorer, Pair, until

if TYPE_CHECKING:
    from ferserve_server.domain.face import CropBatch
    from ferserve_server.domain.prediction import ScoredFaces

CANARY = CanaryReport(
    SERVABLE.version + 1,
    SERVABLE.version,
    CanaryMode.SPLIT,
    0.5,
    1.0,
    VersionStatistics(),
    VersionStatistics(),
    None,
    Verdict(CanaryResult.WAIT, "TOO_FEW", "it has not answered enough"),
)
TOO_LATE = DeadlineUnmeetableError(remaining_s=0.1, expected_s=0.2)


def _faces(*classes: int) -> CropBatch:
    """A face for each of these classes, of which `fake_scores` says it."""
    crops = np.zeros((len(classes), 48, 48, 1), np.uint8)
    crops[:, 0, 0, 0] = classes
    return crops


def _together(pair: Pair, *requests: CropBatch, **options) -> list[asyncio.Task[ScoredFaces]]:
    return [asyncio.create_task(pair.score(crops, **options)) for crops in requests]


class Picky(FakeScorer):
    """Rejects more faces at a time than `most`."""

    def __init__(self, error: FerserveError, most: int) -> None:
        super().__init__()
        self.error = error
        self.most = most

    async def score(self, crops, **terms) -> ScoredFaces:
        self.reject_with = self.error if len(crops) > self.most else None
        return await super().score(crops, **terms)


async def test_requests_that_begin_together_go_as_one_and_each_gets_its_own_scores() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, largest_batch=64)
    requests = [_faces(1), _faces(2, 3, 4), _faces(5)]
    answers = await asyncio.gather(*_together(pair, *requests))
    assert scorer.taken == [5]
    for crops, faces in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(faces.scores, fake_scores(crops, 7))
        assert (faces.failures, faces.queue_s, faces.inference_s) == ({}, 0.001, 0.002)
    assert pair.allocator.taken == 0
    assert not pair.models.is_leased
    await pair.score(_faces(6))
    assert scorer.taken == [5, 1]


@pytest.mark.parametrize(
    "other",
    [
        {"priority": Priority.BULK},
        {"deadline": 10.5},
        {"deadline": None},
        {"spec": ModelSpec(SERVABLE.name, SERVABLE.version)},
    ],
)
async def test_what_the_primary_would_treat_otherwise_does_not_go_along(other: dict[str, object]) -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, largest_batch=64)
    usual = {"deadline": 10.0} | ({"deadline": 10.0} if "deadline" not in other else {})
    tasks = _together(pair, _faces(1), **usual) + _together(pair, _faces(2, 3), **(usual | other))
    await asyncio.gather(*tasks)
    assert scorer.taken == [1, 2]


async def test_faces_of_another_size_do_not_go_along() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, largest_batch=64)
    await asyncio.gather(*_together(pair, _faces(1), np.zeros((1, 20, 30, 1), np.uint8)))
    assert scorer.taken == [1, 1]


async def test_of_deadlines_that_are_as_good_as_one_the_earliest_counts() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, largest_batch=64)
    await asyncio.gather(*(pair.score(_faces(1), deadline=deadline) for deadline in (10.001, 10.0, 10.002)))
    assert (scorer.taken, scorer.deadlines) == ([3], [10.0])


async def test_a_row_that_failed_fails_for_its_caller_alone() -> None:
    scorer = FakeScorer()
    scorer.row_failures = {2: InferenceFailedError()}
    first, second, third = await asyncio.gather(
        *_together(Pair(scorer, largest_batch=64), _faces(1), _faces(2, 3), _faces(4))
    )
    assert scorer.taken == [4]
    assert (first.failures, third.failures) == ({}, {})
    assert {row: type(error) for row, error in second.failures.items()} == {1: InferenceFailedError}


async def test_who_leaves_before_the_others_are_sent_is_left_out() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, largest_batch=64)
    tasks = _together(pair, _faces(1), _faces(2), _faces(3))
    asyncio.get_running_loop().call_soon(tasks[1].cancel)  # all have begun, none is sent
    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert scorer.taken == [2]
    assert isinstance(second, asyncio.CancelledError)
    np.testing.assert_array_equal(first.scores, fake_scores(_faces(1), 7))
    np.testing.assert_array_equal(third.scores, fake_scores(_faces(3), 7))
    assert pair.cancelled == ["queued"]


async def test_a_group_that_all_have_left_is_not_sent() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, largest_batch=64)
    (task,) = _together(pair, _faces(1))
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pair.messages == []
    np.testing.assert_array_equal((await pair.score(_faces(2))).scores, fake_scores(_faces(2), 7))
    assert scorer.taken == [1]


async def test_who_leaves_others_behind_is_counted_and_they_get_their_scores() -> None:
    scorer = BlockingScorer()
    pair = Pair(scorer, largest_batch=64)
    staying, leaving = _together(pair, _faces(1), _faces(2))
    await until(lambda: scorer.taken)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert pair.cancelled == ["running"]
    scorer.unblocked.set()
    np.testing.assert_array_equal((await staying).scores, fake_scores(_faces(1), 7))
    assert (scorer.cancelled, pair.allocator.taken) == (0, 0)


async def test_when_the_last_one_leaves_the_primary_lets_go_of_all() -> None:
    scorer = BlockingScorer()
    pair = Pair(scorer, largest_batch=64)
    tasks = _together(pair, _faces(1), _faces(2))
    await until(lambda: scorer.taken)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: not pair.allocator.taken)
    assert scorer.cancelled == 1
    assert pair.cancelled == ["running"]  # the other one is for the primary process to count
    assert not pair.models.is_leased


@pytest.mark.parametrize(
    "error",
    [QueueFullError(what="faces", queued=7, limit=8, setting="max_queue_faces", retry_after_s=0.25), TOO_LATE],
)
async def test_what_is_rejected_for_its_size_is_tried_one_by_one(error: FerserveError) -> None:
    scorer = Picky(error, most=1)
    pair = Pair(scorer, largest_batch=64)
    first, large, last = await asyncio.gather(
        *_together(pair, _faces(1), _faces(2, 3), _faces(4)), return_exceptions=True
    )
    assert scorer.taken == [4, 1, 2, 1]
    np.testing.assert_array_equal(first.scores, fake_scores(_faces(1), 7))
    assert isinstance(large, type(error))
    np.testing.assert_array_equal(last.scores, fake_scores(_faces(4), 7))
    assert pair.allocator.taken == 0


async def test_any_other_rejection_is_for_all_and_nothing_runs_twice() -> None:
    scorer = Picky(EngineLostError(executed=True), most=1)
    pair = Pair(scorer, largest_batch=64)
    errors = await asyncio.gather(*_together(pair, _faces(1), _faces(2)), return_exceptions=True)
    assert [type(error) for error in errors] == [EngineLostError, EngineLostError]
    assert scorer.taken == [2]


async def test_what_finds_no_room_in_one_piece_is_tried_one_by_one() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, face_room=2, largest_batch=64)
    answers = await asyncio.gather(*_together(pair, _faces(1), _faces(2), _faces(3)), return_exceptions=True)
    assert scorer.taken == [1, 1]
    assert isinstance(answers[2], QueueFullError)
    assert pair.rejected == ["QUEUE_FULL"]
    assert pair.allocator.taken == 0


async def test_a_call_with_several_scorings_goes_by_itself() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, largest_batch=64)

    async def held(crops: CropBatch) -> None:
        with pair.remote.acquire(ModelSpec()) as lease:
            await lease.scorer.score(crops)

    await asyncio.gather(held(_faces(1)), held(_faces(2)), pair.score(_faces(3)), held(_faces(4)))
    assert scorer.taken == [1, 1, 1, 1]
    await until(lambda: not pair.models.is_leased)


async def test_large_requests_go_by_themselves() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, largest_batch=64)
    large = _faces(*range(MAX_COALESCED_FACES))
    await asyncio.gather(*_together(pair, _faces(1), large, _faces(2), large[1:], _faces(3)))
    assert scorer.taken == [1, MAX_COALESCED_FACES, MAX_COALESCED_FACES, 1]


async def test_a_canary_gets_its_share_request_by_request() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer, largest_batch=64)
    pair.report_models(64, CANARY)
    await asyncio.gather(*_together(pair, _faces(1), _faces(2)))
    assert scorer.taken == [1, 1]
    pair.report_models(64)
    await asyncio.gather(*_together(pair, _faces(1), _faces(2)))
    assert scorer.taken == [1, 1, 2]


async def test_requests_go_one_by_one_when_more_wait_than_a_batch_takes() -> None:
    scorer = BlockingScorer()
    pair = Pair(scorer, largest_batch=4)
    tasks = _together(pair, *(_faces(1) for _ in range(12)))
    await until(lambda: len(scorer.taken) == 5)
    assert scorer.taken == [8, 1, 1, 1, 1]
    scorer.unblocked.set()
    await asyncio.gather(*tasks)
    del scorer.taken[:]
    await asyncio.gather(*_together(pair, _faces(1), _faces(2)))
    assert scorer.taken == [2, 2]


async def test_worker_processes_share_what_may_wait_in_groups() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer)
    pair.remote.process_count = 4
    pair.report_models(4)
    await asyncio.gather(*_together(pair, *(_faces(1) for _ in range(5))))
    assert scorer.taken[0] == 2
