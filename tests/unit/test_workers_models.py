"""Tests a worker process's view of the models and the primary process's side of it, without processes."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.errors import InferenceFailedError, QueueFullError, VersionNotFoundError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec, ServableId
from ferserve_server.ipc.shared_memory import BlockAllocator
from support.fake_models import DESCRIPTION, GOLDEN_FACES
from support.pipeline_fakes import SERVABLE, FakeScorer
from support.worker_pair import ANY, BlockingScorer, Pair, until


async def test_scores_come_back_with_their_times_and_the_place_is_free_again() -> None:
    pair = Pair(FakeScorer())
    faces = await pair.score(GOLDEN_FACES, deadline=12.5, priority=Priority.BULK)
    np.testing.assert_array_equal(faces.scores, fake_scores(GOLDEN_FACES, 7))
    assert (faces.queue_s, faces.inference_s) == (0.001, 0.002)
    scorer = pair.models.version.scorer
    assert isinstance(scorer, FakeScorer)
    assert (scorer.deadlines, scorer.priorities) == ([12.5], [Priority.BULK])
    assert pair.allocator.taken == 0
    assert not pair.models.is_leased
    assert len(pair.messages) == 1


async def test_what_was_asked_for_reaches_the_primary() -> None:
    pair = Pair(FakeScorer())
    await pair.score(GOLDEN_FACES, ModelSpec(SERVABLE.name, SERVABLE.version))
    assert pair.models.asked == [ModelSpec(SERVABLE.name, SERVABLE.version)]


async def test_a_rejection_of_the_primary_is_raised_as_it_was() -> None:
    scorer = FakeScorer()
    scorer.reject_with = QueueFullError(
        what="faces", queued=7, limit=8, setting="max_queue_faces", retry_after_s=0.25
    )
    pair = Pair(scorer)
    with pytest.raises(QueueFullError) as caught:
        await pair.score(GOLDEN_FACES)
    assert caught.value.metadata == scorer.reject_with.metadata
    assert caught.value.retry_after_s == 0.25
    assert pair.allocator.taken == 0


async def test_a_bug_of_the_primary_is_reported_without_its_text() -> None:
    scorer = FakeScorer()
    scorer.reject_with = ZeroDivisionError("secret")
    with pytest.raises(Exception, match="Its log tells more"):
        await Pair(scorer).score(GOLDEN_FACES)


async def test_rows_that_failed_fail_alone() -> None:
    scorer = FakeScorer()
    scorer.row_failures = {1: InferenceFailedError()}
    faces = await Pair(scorer).score(GOLDEN_FACES)
    assert {row: type(error) for row, error in faces.failures.items()} == {1: InferenceFailedError}


async def test_without_room_in_the_memory_the_queue_is_full_at_once() -> None:
    scorer = BlockingScorer()
    pair = Pair(scorer, face_room=4)
    waiting = asyncio.create_task(pair.score(GOLDEN_FACES))
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError) as caught:
        await pair.score(GOLDEN_FACES)
    assert caught.value.metadata["setting"] == "max_queue_mib"
    assert caught.value.retry_after_s is not None
    assert pair.rejected == ["QUEUE_FULL"]
    scorer.unblocked.set()
    await waiting
    await pair.score(GOLDEN_FACES)


async def test_a_caller_who_leaves_frees_the_place_only_when_the_primary_has_let_go() -> None:
    scorer = BlockingScorer()
    pair = Pair(scorer)
    task = asyncio.create_task(pair.score(GOLDEN_FACES))
    await until(lambda: scorer.taken)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pair.allocator.taken > 0
    assert scorer.cancelled == 0
    await until(lambda: not pair.allocator.taken)
    assert scorer.cancelled == 1
    assert pair.handler.face_count == 0
    assert not pair.models.is_leased


async def test_a_caller_who_leaves_before_the_primary_has_heard_of_it_leaves_nothing_behind() -> None:
    scorer = BlockingScorer()
    pair = Pair(scorer)
    pair.held = True
    task = asyncio.create_task(pair.score(GOLDEN_FACES))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for message in pair.messages:  # both in one event-loop iteration
        pair.handler.score_message(message)
    await until(lambda: not pair.allocator.taken)
    assert scorer.cancelled == 1
    assert pair.handler.face_count == 0


async def test_an_answer_that_crosses_the_callers_leaving_harms_nobody() -> None:
    scorer = FakeScorer()
    pair = Pair(scorer)
    task = asyncio.create_task(pair.score(GOLDEN_FACES))
    await until(lambda: scorer.taken)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not pair.allocator.taken)
    np.testing.assert_array_equal((await pair.score(GOLDEN_FACES)).scores, fake_scores(GOLDEN_FACES, 7))


async def test_faces_of_one_call_meet_one_lease_until_the_call_ends() -> None:
    pair = Pair(FakeScorer())
    with pair.remote.acquire(ANY) as lease:
        await lease.scorer.score(GOLDEN_FACES)
        await asyncio.sleep(0)
        assert pair.models.is_leased
        await lease.scorer.score(GOLDEN_FACES)
        assert pair.models.asked == [ANY]
    await asyncio.sleep(0)
    assert not pair.models.is_leased


async def test_the_lease_names_the_version_that_scored() -> None:
    pair = Pair(FakeScorer())
    newer = ServableId(SERVABLE.name, SERVABLE.version + 1)
    pair.models.version.id = newer  # the primary process has swapped, the news are on their way
    with pair.remote.acquire(ANY, once=True) as lease:
        assert lease.id == SERVABLE
        await lease.scorer.score(GOLDEN_FACES)
        assert lease.id == newer
        assert lease.description == DESCRIPTION


async def test_faces_of_another_size_than_the_models_are_resized_by_the_primary() -> None:
    pair = Pair(FakeScorer())
    crops = np.full((2, 20, 30, 1), 5, np.uint8)
    faces = await pair.score(crops)
    np.testing.assert_array_equal(faces.scores, fake_scores(np.full((2, 48, 48, 1), 5, np.uint8), 7))


async def test_when_the_worker_process_is_gone_its_requests_and_leases_end() -> None:
    scorer = BlockingScorer()
    pair = Pair(scorer)
    with pair.remote.acquire(ANY) as lease:
        scorer.unblocked.set()
        await lease.scorer.score(GOLDEN_FACES)
        scorer.unblocked.clear()
        waiting = asyncio.create_task(lease.scorer.score(GOLDEN_FACES))
        await until(lambda: len(scorer.taken) == 3)
        pair.handler.close()
        await until(lambda: scorer.cancelled)
        assert not pair.models.is_leased
        waiting.cancel()


async def test_a_place_outside_the_memory_is_an_error_and_nothing_else() -> None:
    pair = Pair(FakeScorer())
    pair.remote._scorer._allocator = BlockAllocator(10 * len(pair.memory))
    pair.remote._scorer._memory = np.zeros(10 * len(pair.memory), np.uint8)
    too_many = np.zeros((200, 48, 48, 1), np.uint8)
    with pytest.raises(Exception, match="Its log tells more"):
        await pair.score(too_many)
    await pair.score(GOLDEN_FACES)


async def test_a_version_that_the_primary_does_not_have_any_more_is_its_answer() -> None:
    pair = Pair(FakeScorer())
    pair.models.reject_with = VersionNotFoundError("fer-nano", 3)
    with pytest.raises(VersionNotFoundError):
        await pair.score(GOLDEN_FACES)


async def test_changes_are_asked_of_the_primary() -> None:
    pair = Pair(FakeScorer())
    asked = []
    pair.remote._call = lambda name, value: _noted(asked, name, value)
    await pair.remote.load("m", 1)
    await pair.remote.unload("m", 1)
    await pair.remote.set_alias("m", "a", None)
    await pair.remote.promote("m")
    await pair.remote.roll_back("m", 2)
    await pair.remote.refresh()
    assert asked == [
        ("change", ["load", "m", 1]),
        ("change", ["unload", "m", 1]),
        ("change", ["set_alias", "m", "a", None]),
        ("change", ["promote", "m", None]),
        ("change", ["roll_back", "m", 2]),
        ("change", ["refresh"]),
    ]


async def _noted(asked: list, name: str, value: object) -> None:
    asked.append((name, value))
