"""A caller who is alone is served in place; company, slowness and failure end that."""

import asyncio

import numpy as np
import pytest

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.errors import InferenceFailedError
from ferserve_server.domain.ports import Priority
from ferserve_server.scheduler.alone import CYCLE, PROBES, PROOF, QUICK_S, InPlace, Solitude
from support.batching import Gate, bench, faces, poison, raise_on_poison
from support.fake_clock import settle

LONG_S = 1e6
"""An expected time that nothing on these machines comes near; the fake clock stands still anyway."""


def answers_of(solitude, count):
    return [solitude.arrived(others=False) for _ in range(count)]


def test_a_caller_is_alone_after_enough_requests_that_met_nobody():
    answers = answers_of(Solitude(), PROOF + 1)

    assert answers == [False] * PROOF + [True]


def test_some_requests_go_over_a_thread_all_the_same_to_meet_others():
    solitude = Solitude()
    answers_of(solitude, PROOF)

    cycle = answers_of(solitude, 2 * CYCLE)

    assert cycle == ([True] * (CYCLE - PROBES) + [False] * PROBES) * 2


def test_meeting_one_other_request_ends_it():
    solitude = Solitude()
    answers_of(solitude, PROOF + 5)

    assert not solitude.arrived(others=True)
    assert answers_of(solitude, PROOF) == [False] * PROOF


async def become_alone(made):
    """Sends what a lone caller sends first; the fake clock makes every batch take 1 ms."""
    made.servable._before_predict = lambda _: made.clock.advance(0.001)
    for _ in range(PROOF):
        await made.batcher.score(faces(1))
    await settle()
    made.observer.cut_reasons.clear()


async def test_a_lone_caller_is_served_on_the_event_loop_with_the_same_scores():
    async with bench(inline_s=0.002) as made:
        threaded = await made.batcher.score(faces(1, first=9))
        await become_alone(made)

        in_place = await made.batcher.score(faces(1, first=9))
        await settle()

        assert made.observer.cut_reasons == ["alone"]
        assert np.array_equal(in_place.scores, threaded.scores)
        assert in_place.inference_s == pytest.approx(0.001)


async def test_two_callers_are_served_by_the_threads():
    async with bench(inline_s=0.002) as made:
        await become_alone(made)
        # The first probe over a thread is where a second caller is met.
        for _ in range(CYCLE - PROBES):
            await made.batcher.score(faces(1))
        await settle()
        made.observer.cut_reasons.clear()

        validation = Gate()
        made.servable._before_predict = validation
        probe = asyncio.ensure_future(made.batcher.score(faces(1)))
        await validation.wait_entered()
        second = asyncio.ensure_future(made.batcher.score(faces(1)))
        await settle()
        validation.open()
        await asyncio.gather(probe, second)
        for _ in range(PROOF):
            await made.batcher.score(faces(1))
        await settle()

        assert "alone" not in made.observer.cut_reasons


async def learn_its_pace(made, batch_s):
    """Lets the batcher see some batches, each of which takes that long on the fake clock."""
    made.servable._before_predict = lambda _: made.clock.advance(batch_s)
    for _ in range(3):
        await made.batcher.score(faces(1))
    made.observer.cut_reasons.clear()


async def test_a_batch_that_is_quicker_than_its_handover_runs_in_place_although_others_wait():
    async with bench(inline_s=0.002) as made:
        await learn_its_pace(made, QUICK_S / 2)
        in_place = asyncio.gather(*(made.batcher.score(faces(1, first=i)) for i in range(4)))
        answers = await in_place

        assert made.observer.cut_reasons == ["alone"] * 4
        for i, answer in enumerate(answers):
            assert np.array_equal(answer.scores, fake_scores(faces(1, first=i), 7))


async def test_a_batch_as_long_as_its_handover_is_left_to_the_threads():
    async with bench(inline_s=0.002) as made:
        await learn_its_pace(made, QUICK_S * 1.01)
        await made.batcher.score(faces(1))

        assert made.observer.cut_reasons == ["executor_idle"]


async def test_quickness_is_of_one_batch_size():
    async with bench(inline_s=0.002) as made:
        await learn_its_pace(made, QUICK_S / 2)
        await made.batcher.score(faces(4))

        assert made.observer.cut_reasons == ["executor_idle"]


async def test_a_model_that_slows_down_goes_back_to_the_threads():
    async with bench(inline_s=0.002) as made:
        await learn_its_pace(made, QUICK_S / 2)
        made.servable._before_predict = lambda _: made.clock.advance(0.05)
        for _ in range(40):
            await made.batcher.score(faces(1))

        assert made.observer.cut_reasons[0] == "alone"
        assert made.observer.cut_reasons[-1] == "executor_idle"


async def test_bulk_work_and_a_sick_engine_are_left_to_the_threads_however_quick():
    async with bench(inline_s=0.002) as made:
        await learn_its_pace(made, QUICK_S / 2)
        await made.batcher.score(faces(1), priority=Priority.BULK)
        made.batcher.healthy = False
        await made.batcher.score(faces(1))

        assert made.observer.cut_reasons == ["executor_idle"] * 2


async def test_batches_that_take_long_are_left_to_the_threads():
    async with bench(inline_s=0.0005) as made:
        await become_alone(made)
        await made.batcher.score(faces(1))
        await settle()

        assert made.observer.cut_reasons == ["executor_idle"]


async def test_batches_that_need_padding_are_left_to_the_threads():
    async with bench(inline_s=0.002) as made:
        await become_alone(made)
        await made.batcher.score(faces(3))
        await settle()

        assert made.observer.cut_reasons == ["executor_idle"]


async def test_nothing_runs_in_place_when_it_is_turned_off():
    async with bench(inline_s=0.0) as made:
        await become_alone(made)
        await made.batcher.score(faces(1))
        await settle()

        assert made.observer.cut_reasons == ["executor_idle"]


async def test_a_face_that_fails_in_place_is_found_by_the_threads():
    async with bench(inline_s=0.002) as made:
        await become_alone(made)
        made.servable._before_predict = raise_on_poison

        answer = await made.batcher.score(poison())

        assert isinstance(answer.failures[0], InferenceFailedError)
        assert made.observer.failed_batch_sizes == [1]


async def test_an_engine_that_hangs_in_place_ends_the_process():
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    validation = Gate()
    async with bench() as made:
        made.servable._before_predict = validation
        in_place = InPlace(
            made.servable,
            (1,),
            inline_s=LONG_S,
            execution_timeout_s=0.01,
            end_process=lambda code: loop.call_soon_threadsafe(lambda: code == 70 and ended.set()),
        )

        def serve():
            for _ in range(PROOF + 1):
                in_place.scores(faces(1), others=False, expected_s=1.0)

        serving = asyncio.create_task(asyncio.to_thread(serve))
        await asyncio.wait_for(ended.wait(), 10)
        validation.open()
        await serving
        in_place.close()
