"""Tests the batcher when rows, engines or clients fail."""

import asyncio

import numpy as np
import pytest

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.errors import (
    EngineStalledError,
    InferenceFailedError,
)
from support.batching import Blocker, bench, faces, poison, raise_on_poison
from support.fake_clock import settle


def is_right(answer, crops):
    return np.array_equal(answer.scores, fake_scores(crops, 7)) and not answer.failures


async def start(coroutine):
    """Runs a request up to where it waits."""
    task = asyncio.ensure_future(coroutine)
    await settle()
    return task


@pytest.mark.parametrize("position", [0, 3, 7])
async def test_a_poison_face_fails_alone(position):
    async with bench(raise_on_poison, hold_until_queued=8) as made:
        crops = [poison() if i == position else faces(1, first=i) for i in range(8)]
        answers = await asyncio.gather(*(made.batcher.score(each) for each in crops))

        failed = [i for i, answer in enumerate(answers) if answer.failures]
        assert failed == [position]
        assert isinstance(answers[position].failures[0], InferenceFailedError)
        assert all(is_right(answers[i], crops[i]) for i in range(8) if i != position)


async def test_a_poison_face_within_a_request_fails_its_row_only():
    crops = np.concatenate([faces(3), poison(), faces(4, first=50)])
    async with bench(raise_on_poison) as made:
        answer = await made.batcher.score(crops)

        assert list(answer.failures) == [3]
        good = [0, 1, 2, 4, 5, 6, 7]
        assert np.array_equal(answer.scores[good], fake_scores(crops[good], 7))


async def test_a_broken_engine_is_not_run_for_every_face():
    def always_raise(_):
        raise ArithmeticError("broken")

    async with bench(always_raise, bucket_sizes=(64,)) as made:
        answer = await made.batcher.score(faces(64))

        assert len(answer.failures) == 64
        assert len(made.servable.batch_sizes) < 64


async def test_scores_that_are_no_numbers_fail_their_row_only():
    async with bench(hold_until_queued=2) as made:
        real = made.servable.predict

        def predict(crops):
            scores = real(crops)
            scores[1] = np.nan
            return scores

        made.servable.predict = predict
        good, bad = await asyncio.gather(made.batcher.score(faces(1)), made.batcher.score(faces(1, first=5)))

        assert is_right(good, faces(1))
        assert isinstance(bad.failures[0], InferenceFailedError)


async def test_a_hung_executor_fails_its_batch_is_replaced_and_health_comes_back():
    blocker = Blocker()
    async with bench(blocker, execution_timeout_s=30.0) as made:
        hung = await start(made.batcher.score(faces(2)))
        await blocker.wait_entered()
        made.servable._before_predict = lambda _: None

        made.clock.advance(31.0)
        with pytest.raises(EngineStalledError):
            await hung
        assert made.health_changes[0] is False

        assert is_right(await asyncio.wait_for(made.batcher.score(faces(1)), 10), faces(1))
        assert made.health_changes[-1] is True
        blocker.open()  # the old thread returns; nobody listens
        assert is_right(await made.batcher.score(faces(3)), faces(3))


async def test_the_probe_alone_brings_health_back():
    blocker = Blocker()
    async with bench(blocker, execution_timeout_s=30.0) as made:
        hung = await start(made.batcher.score(faces(1)))
        await blocker.wait_entered()
        recovered = asyncio.Event()
        made.batcher._on_health_change = lambda: recovered.set() if made.batcher.healthy else None
        made.servable._before_predict = lambda _: None

        made.clock.advance(31.0)
        await asyncio.wait_for(recovered.wait(), 10)

        with pytest.raises(EngineStalledError):
            await hung
        blocker.open()


async def test_a_long_run_of_batches_is_not_a_hang():
    async with bench(execution_timeout_s=30.0) as made:
        for _ in range(5):
            await made.batcher.score(faces(1))
            made.clock.advance(20.0)

        assert made.health_changes == []
