"""Tests the batcher with a real event loop and real threads, on a fake clock."""

import asyncio

import numpy as np
import pytest

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.errors import (
    DeadlineExpiredError,
    DeadlineUnmeetableError,
    DrainingError,
    QueueFullError,
)
from ferserve_server.domain.ports import Priority
from support.batching import Blocker, bench, faces
from support.fake_clock import settle


def is_right(answer, crops):
    return np.array_equal(answer.scores, fake_scores(crops, 7)) and not answer.failures


async def start(coroutine):
    """Runs a request up to where it waits."""
    task = asyncio.ensure_future(coroutine)
    await settle()
    return task


async def test_cancelling_one_request_of_a_running_batch_leaves_the_others_answered():
    blocker = Blocker()
    async with bench(blocker, hold_until_queued=3) as made:
        requests = [await start(made.batcher.score(faces(1, first=i))) for i in range(3)]
        await blocker.wait_entered()

        requests[0].cancel()
        blocker.open()
        others = await asyncio.wait_for(asyncio.gather(*requests[1:]), 10)

        assert all(is_right(answer, faces(1, first=i + 1)) for i, answer in enumerate(others))
        assert requests[0].cancelled()
        assert made.observer.batch_sizes == [3]
        assert made.observer.cancellations == ["running"]


async def test_a_face_is_scored_alone_when_nobody_else_waits():
    async with bench() as made:
        answer = await made.batcher.score(faces(1, first=9))

        await settle()
        assert is_right(answer, faces(1, first=9))
        assert made.observer.dispatch_reasons == ["executor_idle"]


async def test_faces_of_all_callers_share_a_batch_when_the_executor_is_free_again():
    blocker = Blocker()
    async with bench(blocker) as made:
        first = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        others = [await start(made.batcher.score(faces(2, first=10 * i))) for i in range(3)]
        blocker.open()
        answers = await asyncio.gather(first, *others)

        assert made.observer.batch_sizes == [1, 6]
        assert made.observer.padded_counts == [1, 8]
        assert all(is_right(answer, faces(2, first=10 * i)) for i, answer in enumerate(answers[1:]))


async def test_one_full_batch_is_kept_ready_while_the_executor_is_busy():
    blocker = Blocker()
    async with bench(blocker) as made:
        first = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        full = await start(made.batcher.score(faces(8)))
        waiting = await start(made.batcher.score(faces(8)))

        assert made.batcher.depth_faces == 8
        blocker.open()
        await asyncio.gather(first, full, waiting)
        assert made.observer.batch_sizes == [1, 8, 8]


async def test_a_large_request_is_answered_whole_and_in_order_from_many_batches():
    crops = faces(50)
    async with bench(executor_count=2) as made:
        answer = await made.batcher.score(crops)

        await settle()
        assert is_right(answer, crops)
        assert sum(made.observer.batch_sizes) == 50


async def test_512_faces_from_one_caller_do_not_hold_up_a_single_one():
    blocker = Blocker()
    async with bench(blocker, max_queue_faces=1024) as made:
        big = await start(made.batcher.score(faces(512)))
        await blocker.wait_entered()
        single = await start(made.batcher.score(faces(1, first=77)))
        blocker.open()
        await single

        # One batch ran when it came and one full batch was cut ahead; it travels in the third of 65. Its caller
        # may be woken a few batches later.
        assert len(made.observer.batch_sizes) <= 8
        assert not big.done()
        assert is_right(await big, faces(512))


async def test_interactive_work_goes_before_bulk_work_that_came_first():
    blocker = Blocker()
    async with bench(blocker) as made:
        first = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        ahead = await start(made.batcher.score(faces(8)))
        order = []
        bulk = await start(made.batcher.score(faces(7), priority=Priority.BULK))
        urgent = await start(made.batcher.score(faces(8)))
        bulk.add_done_callback(lambda _: order.append("bulk"))
        urgent.add_done_callback(lambda _: order.append("urgent"))
        blocker.open()
        await asyncio.gather(first, ahead, bulk, urgent)

        assert made.observer.batch_sizes == [1, 8, 8, 7]
        assert order == ["urgent", "bulk"]


async def test_a_full_queue_rejects_at_once_and_says_when_to_try_again():
    blocker = Blocker()
    async with bench(blocker, max_queue_faces=8) as made:
        running = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        ahead = await start(made.batcher.score(faces(8)))
        waiting = await start(made.batcher.score(faces(7)))

        with pytest.raises(QueueFullError, match="max_queue_faces") as rejected:
            await made.batcher.score(faces(2))

        assert rejected.value.retry_after_s > 0
        assert made.observer.rejections == ["QUEUE_FULL"]
        blocker.open()
        await asyncio.gather(running, ahead, waiting)


async def test_a_queue_full_of_bytes_rejects_too():
    blocker = Blocker()
    async with bench(blocker, max_queue_bytes=2 * 48 * 48) as made:
        running = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        waiting = await start(made.batcher.score(faces(2)))

        with pytest.raises(QueueFullError, match="max_queue_mib"):
            await made.batcher.score(faces(1))
        blocker.open()
        await asyncio.gather(running, waiting)


async def test_a_cancelled_request_makes_room_and_is_never_executed():
    blocker = Blocker()
    async with bench(blocker, max_queue_faces=4) as made:
        running = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        left = await start(made.batcher.score(faces(4)))
        left.cancel()
        await settle()
        assert made.batcher.depth_faces == 0

        stayed = await start(made.batcher.score(faces(3)))
        blocker.open()
        await asyncio.gather(running, stayed)

        assert made.observer.batch_sizes == [1, 3]
        assert made.observer.cancellations == ["queued"]


async def test_an_expired_request_is_answered_when_its_deadline_passes_and_never_executed():
    blocker = Blocker()
    async with bench(blocker) as made:
        running = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        late = await start(made.batcher.score(faces(2), deadline=made.clock.now() + 0.5))

        made.clock.advance(0.5)
        with pytest.raises(DeadlineExpiredError):
            await late
        blocker.open()
        await running

        assert made.observer.batch_sizes == [1]
        assert made.observer.rejections == ["DEADLINE_EXPIRED"]


async def test_rows_that_expire_in_the_batch_kept_ready_are_not_executed():
    blocker = Blocker()
    async with bench(blocker) as made:
        running = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        late = await start(made.batcher.score(faces(3), deadline=made.clock.now() + 0.5))
        patient = await start(made.batcher.score(faces(5)))
        assert made.batcher.depth_faces == 0

        made.clock.advance(1.0)
        blocker.open()

        with pytest.raises(DeadlineExpiredError):
            await late
        assert is_right(await patient, faces(5))
        await running
        assert made.observer.batch_sizes == [1, 5]


async def test_a_deadline_that_has_passed_is_rejected():
    async with bench() as made:
        with pytest.raises(DeadlineExpiredError):
            await made.batcher.score(faces(1), deadline=made.clock.now())


async def test_a_deadline_that_the_queue_cannot_meet_is_rejected_at_once():
    clock_moves = []

    def take_a_second(_):
        clock_moves.append(made.clock.advance(1.0))

    async with bench(take_a_second) as made:
        await made.batcher.score(faces(1))  # the batcher learns that a batch takes a second
        blocker = Blocker()
        made.servable._before_predict = blocker
        running = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()

        with pytest.raises(DeadlineUnmeetableError, match="cannot be met"):
            await made.batcher.score(faces(1), deadline=made.clock.now() + 0.5)
        blocker.open()
        await running


async def test_an_idle_executor_takes_a_deadline_however_slow_the_last_batches_were():
    async with bench(lambda _: made.clock.advance(1.0)) as made:
        await made.batcher.score(faces(1))
        made.servable._before_predict = lambda _: None

        assert is_right(await made.batcher.score(faces(1), deadline=made.clock.now() + 0.5), faces(1))


async def test_draining_answers_what_was_taken_and_rejects_the_rest():
    blocker = Blocker()
    async with bench(blocker) as made:
        taken = [await start(made.batcher.score(faces(1, first=i))) for i in range(5)]
        await blocker.wait_entered()
        draining = await start(made.batcher.drain())

        with pytest.raises(DrainingError):
            await made.batcher.score(faces(1))
        assert not draining.done()
        blocker.open()
        await asyncio.wait_for(draining, 10)

        assert all(is_right(task.result(), faces(1, first=i)) for i, task in enumerate(taken))


async def test_draining_an_idle_batcher_returns_at_once():
    async with bench() as made:
        await asyncio.wait_for(made.batcher.drain(), 10)


async def test_draining_ends_when_the_last_waiting_caller_leaves():
    blocker = Blocker()
    async with bench(hold_until_queued=8) as made:
        waiting = await start(made.batcher.score(faces(1)))
        waiting.cancel()
        await asyncio.wait_for(made.batcher.drain(), 10)
    blocker.open()


async def test_closing_unloads_the_servable_once_its_threads_are_done():
    async with bench(executor_count=3) as made:
        await made.batcher.score(faces(1))

    assert made.servable.closed


async def test_a_delay_waits_for_more_rows_and_then_dispatches():
    async with bench(max_queue_delay_s=0.005) as made:
        first = await start(made.batcher.score(faces(1)))
        second = await start(made.batcher.score(faces(1, first=3)))
        assert made.observer.batch_sizes == []

        made.clock.advance(0.005)
        await asyncio.gather(first, second)

        assert made.observer.batch_sizes == [2]
        assert made.observer.dispatch_reasons == ["delay"]


async def test_the_depth_and_age_of_the_queue_are_reported():
    blocker = Blocker()
    async with bench(blocker) as made:
        running = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        assert made.batcher.oldest_age_s == 0.0
        waiting = await start(made.batcher.score(faces(3)))
        made.clock.advance(2.0)

        assert made.batcher.oldest_age_s == pytest.approx(2.0)
        assert made.batcher.depth_faces == 3
        blocker.open()
        await asyncio.gather(running, waiting)
        assert made.batcher.depth_faces == 0
