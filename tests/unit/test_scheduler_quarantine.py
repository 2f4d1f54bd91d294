"""Tests that a face that crashes the engine does so twice at most, and its neighbours are answered."""

import asyncio
from contextlib import asynccontextmanager, suppress

import numpy as np
import pytest

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.errors import EngineLostError, InferenceFailedError
from ferserve_server.domain.ports import DispatchReason, Priority
from ferserve_server.engine.executor import EngineExecutor
from ferserve_server.ipc.channel import ChannelClosedError
from ferserve_server.scheduler.batcher import Batcher
from ferserve_server.scheduler.entry import Batch, Entry
from ferserve_server.scheduler.quarantine import Suspects
from ferserve_server.scheduler.settings import BatcherSettings
from support.batching import POISON, faces, poison
from support.fake_clock import FakeClock
from support.fake_engine import FakeEngine
from support.recorder import Recorder


class Bench:
    """A batcher on an engine that dies of poison; `batches` are those that it was given, in faces."""

    def __init__(self):
        self.clock = FakeClock()
        self.observer = Recorder()
        self.engine = FakeEngine(executor_count=2)
        self.batches = []
        self.losses = 0
        self.batcher = Batcher(
            self.engine,
            BatcherSettings(bucket_sizes=(1, 2, 4, 8)),
            clock=self.clock,
            observer=self.observer,
            make_runner=EngineExecutor,
        )

    async def work(self):
        """Answers what comes, and dies of poison, life after life."""
        while True:
            life = self.engine.life
            try:
                batch = await asyncio.to_thread(life.take)
            except (ChannelClosedError, OSError):
                await self.next_life(life)
                continue
            crops = self.engine.faces(batch.slot)[: batch.row_count]
            self.batches.append(batch.row_count)
            if (crops[:, 0, 0, 0] == POISON).any():
                self.losses += 1
                life.kill()
                await self.next_life(life)
            else:
                self.engine.answer(batch)

    async def next_life(self, last):
        """Returns when the engine was restarted."""
        while self.engine.life is last:  # noqa: ASYNC110 - what is waited for has no event here
            await asyncio.sleep(0.001)


@asynccontextmanager
async def bench():
    made = Bench()
    worker = asyncio.create_task(made.work())
    try:
        yield made
    finally:
        worker.cancel()
        made.engine.life.kill()
        with suppress(asyncio.CancelledError):
            await worker
        await made.batcher.close()


async def sent(made, crops):
    """The answer, or the error."""
    try:
        return await asyncio.wait_for(made.batcher.score(crops), 20)
    except EngineLostError as error:
        return error


async def test_a_poisonous_face_costs_two_losses_however_often_it_is_sent():
    async with bench() as made:
        first, second = await sent(made, poison()), await sent(made, poison())
        assert (first.executed, second.executed) == (True, True)

        for _ in range(5):
            answer = await sent(made, poison())
            assert isinstance(answer.failures[0], InferenceFailedError)

        assert made.losses == 2
        assert (await sent(made, faces(3))).failures == {}


async def test_faces_that_were_lost_with_a_poisonous_one_are_answered_when_they_are_sent_again():
    crops = np.concatenate([faces(3), poison(), faces(3, first=50)])
    async with bench() as made:
        assert isinstance(await sent(made, crops), EngineLostError)
        made.batches.clear()

        innocent = await sent(made, np.delete(crops, 3, axis=0))

        assert np.array_equal(innocent.scores, fake_scores(np.delete(crops, 3, axis=0), 7))
        assert made.batches == [1] * 6  # each alone, in case it was the one
        made.batches.clear()
        await sent(made, np.delete(crops, 3, axis=0))
        assert made.batches == [8]  # they are cleared: one batch, padded


async def test_the_others_of_a_request_with_a_convicted_face_are_scored():
    crops = np.concatenate([faces(3), poison(), faces(3, first=50)])
    async with bench() as made:
        for _ in range(2):
            await sent(made, poison())

        answer = await sent(made, crops)

        assert list(answer.failures) == [3]
        good = [0, 1, 2, 4, 5, 6]
        assert np.array_equal(answer.scores[good], fake_scores(crops[good], 7))
        assert made.losses == 2


async def test_nobody_is_lost_with_a_suspect_and_everybody_else_goes_on():
    async with bench() as made:
        await sent(made, poison())
        tasks = [asyncio.create_task(sent(made, each)) for each in (faces(2), poison(), faces(2, first=9))]

        first, lost, last = await asyncio.gather(*tasks)

        assert isinstance(lost, EngineLostError)
        assert np.array_equal(first.scores, fake_scores(faces(2), 7))
        assert np.array_equal(last.scores, fake_scores(faces(2, first=9), 7))


async def test_draining_waits_for_the_quarantine():
    crops = faces(3)
    async with bench() as made:
        lost = np.concatenate([crops, poison()])
        await sent(made, lost)
        again = asyncio.create_task(sent(made, crops))
        await asyncio.sleep(0)
        await asyncio.wait_for(made.batcher.drain(), 20)

        assert np.array_equal((await again).scores, fake_scores(crops, 7))


def lost_batch(crops, reason=DispatchReason.FULL):
    entry = Entry(crops, 7, asyncio.get_running_loop().create_future(), Priority.INTERACTIVE, 0.0)
    return Batch([entry.take(len(crops))], reason, 0.0)


async def test_two_losses_convict_only_if_the_face_was_alone_in_the_second():
    suspects = Suspects()
    suspects.accuse(lost_batch(faces(2)), 0.0)
    suspects.accuse(lost_batch(faces(2)), 1.0)
    assert suspects.sort_out(faces(2), 1.0) == ([0, 1], [])

    suspects.accuse(lost_batch(faces(1), DispatchReason.QUARANTINE), 2.0)

    assert suspects.sort_out(faces(2), 2.0) == ([1], [0])


async def test_a_face_that_was_answered_is_no_suspect_any_more():
    suspects = Suspects()
    suspects.accuse(lost_batch(faces(2)), 0.0)
    suspects.clear(lost_batch(faces(1)))

    assert suspects.sort_out(faces(2), 1.0) == ([1], [])


async def test_suspects_are_forgotten_after_ten_minutes():
    suspects = Suspects()
    suspects.accuse(lost_batch(faces(1)), 0.0)
    suspects.accuse(lost_batch(faces(1), DispatchReason.QUARANTINE), 1.0)
    assert suspects.sort_out(faces(1), 600.0) == ([], [0])

    assert suspects.sort_out(faces(1), 602.0) == ([], [])
    assert not suspects


@pytest.mark.parametrize("batches", [40])
async def test_no_more_suspects_are_kept_than_there_is_room_for(batches):
    suspects = Suspects()
    for number in range(batches):
        crops = np.zeros((128, 2, 2, 1), np.uint8)
        crops[:, 0, 0, 0], crops[:, 1, 1, 0] = np.arange(128), number
        suspects.accuse(lost_batch(crops), float(number))
    oldest, newest = np.zeros((1, 2, 2, 1), np.uint8), np.zeros((1, 2, 2, 1), np.uint8)
    newest[:, 1, 1, 0] = batches - 1

    assert suspects.sort_out(oldest, 40.0) == ([], [])
    assert suspects.sort_out(newest, 40.0) == ([0], [])
