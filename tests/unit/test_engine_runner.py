import asyncio

import numpy as np
import pytest

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.errors import (
    DeadlineExpiredError,
    EngineLostError,
    EngineStalledError,
    InferenceFailedError,
    ModelRejectedError,
)
from ferserve_server.engine.executor import RestartBackoff
from ferserve_server.engine.hang_detection import HangDetection
from support.batching import faces
from support.engine_bench import bench


def is_right(answer, crops):
    return np.array_equal(answer.scores, fake_scores(crops, 7)) and not answer.failures


async def test_rows_of_several_callers_go_out_in_one_message_and_come_back_to_each():
    async with bench(hold_until_queued=3) as made:
        asked = [await made.submit(1), await made.submit(2, first=9)]

        message = made.engine.life.take()
        assert (message.row_count, message.handle) == (4, 5)  # padded to a bucket
        made.engine.answer(message)

        assert is_right(await asked[0], faces(1))
        assert is_right(await asked[1], faces(2, 9))
        assert made.observer.batch_sizes == [3]
        assert (await asked[0]).inference_s == pytest.approx(1e-3)


async def test_scores_do_not_change_when_their_slot_is_used_again():
    async with bench() as made:
        made.engine.work()
        answers = [await made.batcher.score(faces(1, first=i)) for i in range(9)]

        assert all(is_right(answer, faces(1, first=i)) for i, answer in enumerate(answers))


async def test_no_more_is_sent_than_runs_at_once_and_one_full_batch_ahead():
    async with bench(executor_count=2) as made:
        asked = [await made.submit(8, first=i) for i in range(5)]

        sent = [made.engine.life.take() for _ in range(3)]
        assert made.engine.life.theirs.receive_now() is None
        assert len({message.slot for message in sent}) == 3
        for message in sent:
            made.engine.answer(message)
        made.engine.work()

        answers = await asyncio.gather(*asked)
        assert all(is_right(answer, faces(8, first=i)) for i, answer in enumerate(answers))


async def test_one_row_that_raises_fails_alone():
    async with bench(hold_until_queued=2) as made:
        good, bad = await made.submit(1), await made.submit(1, first=7)
        made.engine.fail(made.engine.life.take())
        for _ in range(2):
            message = await asyncio.to_thread(made.engine.life.take)
            poisonous = made.engine.faces(message.slot)[0, 0, 0, 0] == 7
            (made.engine.fail if poisonous else made.engine.answer)(message)

        assert is_right(await good, faces(1))
        assert isinstance((await bad).failures[0], InferenceFailedError)


async def test_a_lost_engine_fails_what_it_ran_and_gets_the_rest_when_it_is_back():
    async with bench() as made:
        running, prestarted = await made.submit(8), await made.submit(8, first=1)
        queued = await made.submit(3, first=2)
        made.engine.life.take()
        made.engine.life.kill()

        with pytest.raises(EngineLostError):
            await running
        assert made.batcher.healthy is False
        await made.until(lambda: made.restarts)
        made.engine.work()

        assert is_right(await prestarted, faces(8, 1))  # the engine had not begun with it
        assert is_right(await queued, faces(3, 2))
        assert made.batcher.healthy is True
        assert made.restarts == 1


async def test_answers_that_were_sent_before_the_end_count():
    async with bench(executor_count=2) as made:
        first, second = await made.submit(1), await made.submit(1, first=3)
        made.engine.answer(made.engine.life.take())
        made.engine.life.take()
        made.engine.life.kill()

        assert is_right(await first, faces(1))
        with pytest.raises(EngineLostError):
            await second


async def test_an_idle_engine_that_is_lost_turns_health_off_and_comes_back():
    async with bench() as made:
        made.engine.life.kill()
        await made.until(lambda: made.restarts)
        made.engine.work()

        assert is_right(await made.batcher.score(faces(2)), faces(2))


async def test_who_waits_for_an_engine_that_does_not_come_back_is_reported_and_so_is_who_comes_later():
    async with bench() as made:
        made.engine.restart_errors = [ModelRejectedError("FILE_MISSING", "gone")]
        running, queued = await made.submit(1), await made.submit(1)
        made.engine.life.kill()

        for task in (running, queued):
            with pytest.raises(EngineLostError):
                await task
        with pytest.raises(EngineLostError):
            await made.batcher.score(faces(1))
        assert made.observer.rejections == ["ENGINE_LOST"]
        await made.until(lambda: made.restarts)  # the next try works
        made.engine.work()
        assert is_right(await made.batcher.score(faces(1)), faces(1))


async def test_a_batch_that_hangs_ends_the_engine_and_another_takes_its_place():
    async with bench(executor_count=2, execution_timeout_s=30.0) as made:
        hung = await made.submit(1)
        made.engine.life.take()
        made.clock.advance(20.0)
        neighbour = await made.submit(1, first=3)
        made.clock.advance(11.0)

        with pytest.raises(EngineStalledError):
            await hung
        with pytest.raises(EngineLostError):
            await neighbour
        await made.until(lambda: made.restarts)
        made.engine.work()
        await made.until(lambda: made.batcher.healthy)
        assert is_right(await made.batcher.score(faces(1)), faces(1))


async def test_a_batch_that_runs_far_longer_than_others_is_a_hang_and_its_rows_run_alone_afterwards():
    async with bench(hang_detection=HangDetection(30.0, {1: 0.001})) as made:
        hung = await made.submit(1)
        made.engine.life.take()
        for _ in range(12):
            made.clock.advance(0.25)

        with pytest.raises(EngineStalledError) as caught:
            await hung
        assert caught.value.retry_safe is False
        await made.until(lambda: made.restarts)
        made.engine.work()
        assert is_right(await made.batcher.score(faces(1)), faces(1))
        assert made.observer.dispatch_reasons == ["quarantine"]


async def test_a_batch_ahead_is_not_taken_for_one_that_hangs():
    async with bench(execution_timeout_s=30.0) as made:
        first, prestarted = await made.submit(8), await made.submit(8, first=1)
        made.clock.advance(20.0)
        made.engine.answer(made.engine.life.take())
        await first
        made.clock.advance(20.0)
        made.engine.answer(made.engine.life.take())

        assert is_right(await prestarted, faces(8, 1))
        assert made.batcher.healthy


async def test_callers_that_leave_while_their_batch_runs_harm_nobody():
    async with bench(hold_until_queued=2) as made:
        leaves, stays = await made.submit(1), await made.submit(1, first=3)
        message = made.engine.life.take()
        leaves.cancel()
        await asyncio.sleep(0)
        made.engine.answer(message)

        assert is_right(await stays, faces(1, 3))


async def test_a_deadline_that_passes_while_the_engine_is_away_is_reported_and_not_run():
    async with bench() as made:
        await made.submit(8)
        late = await made.submit(8, first=1, deadline=5.0)  # ahead: sent, not begun
        made.clock.advance(6.0)
        made.engine.life.kill()
        await made.until(lambda: made.restarts)

        with pytest.raises(DeadlineExpiredError):
            await late
        assert made.engine.life.theirs.receive_now() is None


async def test_closing_waits_for_what_runs_and_then_ends_the_engine():
    async with bench() as made:
        asked = await made.submit(1)
        message = made.engine.life.take()
        closing = asyncio.create_task(made.batcher.close())
        await asyncio.sleep(0.01)
        assert not made.engine.closed.is_set()
        made.engine.answer(message)

        assert is_right(await asked, faces(1))
        await asyncio.wait_for(closing, 20)
        assert made.engine.closed.is_set()


async def test_closing_while_the_engine_is_away_fails_what_waits():
    async with bench() as made:
        made.engine.restart_errors = [OSError("no more processes")] * 50
        running, prestarted = await made.submit(8), await made.submit(8)
        made.engine.life.kill()
        with pytest.raises(EngineLostError):
            await running
        await asyncio.wait_for(made.batcher.close(), 20)

        with pytest.raises(EngineLostError):
            await prestarted
        assert made.engine.closed.is_set()


def test_the_first_loss_is_met_at_once_and_a_crash_loop_later_within_bounds():
    backoff = RestartBackoff()

    assert [backoff.lost(3600.0), backoff.lost(0.0)] == [0.0, 0.1]
    assert not backoff.crash_looping
    assert [backoff.lost(0.0) for _ in range(7)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff.crash_looping
    assert max(backoff.lost(0.0) for _ in range(5000)) == 5.0


def test_losses_are_forgotten_with_the_time_that_engines_live():
    """Kills every 15 s are each met at once; the loop before them is forgotten step by step (faults, item 12)."""
    backoff = RestartBackoff()
    assert [backoff.lost(15.0) for _ in range(20)] == [0.0] * 20

    for _ in range(4):
        backoff.lost(0.0)
    assert backoff.lost(20.0) == 0.4
    assert backoff.lost(60.0) == 0.0
    assert not backoff.crash_looping
