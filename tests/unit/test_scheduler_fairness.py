"""Tests that a caller that fills the queue delays itself, not its neighbours."""

import asyncio

import pytest

from ferserve_server.domain.caller import CallerId, CallerKind
from ferserve_server.domain.errors import DeadlineUnmeetableError, QueueFullError
from ferserve_server.domain.ports import Priority
from support.batching import Blocker, bench, faces
from support.fake_clock import settle

HOG = CallerId(CallerKind.CONNECTION, "hog")
NEIGHBOUR = CallerId(CallerKind.CONNECTION, "neighbour")


async def send(made, count, caller, **terms):
    task = asyncio.ensure_future(made.batcher.score(faces(count), caller=caller, **terms))
    await settle()
    return task


async def test_a_neighbour_travels_in_the_next_batch_whatever_waits_of_another_caller():
    blocker = Blocker()
    async with bench(blocker) as made:
        first = await send(made, 8, HOG)
        await blocker.wait_entered()
        waiting = [await send(made, 8, HOG) for _ in range(50)]
        single = await send(made, 1, NEIGHBOUR)
        blocker.open()
        await single

        # One batch ran and one was dispatched ahead; it may be woken a few batches after the third.
        assert sum(task.done() for task in waiting) < 10
        await asyncio.gather(first, *waiting)


async def test_two_callers_with_as_much_work_are_served_alike():
    blocker = Blocker()
    async with bench(blocker, bucket_sizes=(8,)) as made:
        first = await send(made, 8, HOG)
        await blocker.wait_entered()
        many = [await send(made, 2, HOG) for _ in range(40)]
        order = []
        few = [await send(made, 2, NEIGHBOUR) for _ in range(10)]
        for name, tasks in (("hog", many), ("neighbour", few)):
            for task in tasks:
                task.add_done_callback(lambda _, name=name: order.append(name))
        blocker.open()
        await asyncio.gather(first, *many, *few)

        # The batch that was ahead has four of the hog's; then they alternate.
        assert order[4:24].count("neighbour") == 10


async def test_a_full_queue_gives_the_newest_places_of_the_caller_that_fills_it_to_another():
    blocker = Blocker()
    async with bench(blocker, max_queue_faces=8) as made:
        running = await send(made, 8, HOG)
        await blocker.wait_entered()
        ahead = await send(made, 8, HOG)
        waiting = [await send(made, 2, HOG) for _ in range(4)]
        with pytest.raises(QueueFullError):
            await made.batcher.score(faces(1), caller=HOG)

        neighbour = await send(made, 3, NEIGHBOUR)

        assert [task.done() for task in waiting] == [False, False, True, True]
        for task in waiting[2:]:
            with pytest.raises(QueueFullError):
                task.result()
        assert made.observer.rejections == ["QUEUE_FULL"] * 3
        blocker.open()
        await asyncio.gather(running, ahead, neighbour, *waiting[:2])


async def test_places_go_to_another_caller_only_as_long_as_it_has_fewer():
    blocker = Blocker()
    async with bench(blocker, max_queue_faces=8) as made:
        running = await send(made, 8, HOG)
        await blocker.wait_entered()
        ahead = await send(made, 8, HOG)
        waiting = [await send(made, 1, HOG) for _ in range(8)]
        taken = [await send(made, 1, NEIGHBOUR) for _ in range(4)]

        with pytest.raises(QueueFullError):
            await made.batcher.score(faces(1), caller=NEIGHBOUR)

        assert sum(task.done() for task in waiting) == 4
        blocker.open()
        await asyncio.gather(running, ahead, *taken, *waiting[:4])
        for task in waiting[4:]:
            with pytest.raises(QueueFullError):
                task.result()


async def test_nobody_loses_a_place_to_a_request_that_is_not_accepted():
    blocker = Blocker()
    async with bench(lambda _: made.clock.advance(1.0), max_queue_faces=4, bucket_sizes=(4,)) as made:
        await made.batcher.score(faces(1))  # a batch takes a second
        made.servable._before_predict = blocker
        running = await send(made, 4, HOG)
        await blocker.wait_entered()
        ahead = await send(made, 4, HOG)
        waiting = [await send(made, 1, HOG) for _ in range(4)]

        with pytest.raises(DeadlineUnmeetableError):
            await made.batcher.score(faces(1), caller=NEIGHBOUR, deadline=made.clock.now() + 0.5)

        assert not any(task.done() for task in waiting)
        blocker.open()
        await asyncio.gather(running, ahead, *waiting)


async def test_bulk_work_loses_its_places_first():
    blocker = Blocker()
    async with bench(blocker, max_queue_faces=4, bucket_sizes=(4,)) as made:
        running = await send(made, 4, HOG)
        await blocker.wait_entered()
        ahead = await send(made, 4, HOG)
        bulk = await send(made, 1, HOG, priority=Priority.BULK)
        urgent = [await send(made, 1, HOG) for _ in range(3)]

        neighbour = await send(made, 1, NEIGHBOUR)

        with pytest.raises(QueueFullError):
            await bulk
        blocker.open()
        await asyncio.gather(running, ahead, neighbour, *urgent)


async def test_a_queue_full_of_bytes_gives_places_up_too():
    blocker = Blocker()
    async with bench(blocker, max_queue_bytes=4 * 48 * 48, bucket_sizes=(4,)) as made:
        running = await send(made, 4, HOG)
        await blocker.wait_entered()
        ahead = await send(made, 4, HOG)
        waiting = [await send(made, 1, HOG) for _ in range(4)]

        neighbour = await send(made, 1, NEIGHBOUR)

        assert sum(task.done() for task in waiting) == 1
        blocker.open()
        await asyncio.gather(running, ahead, neighbour, *waiting[:3])
        with pytest.raises(QueueFullError):
            waiting[3].result()


async def test_a_request_that_cannot_be_answered_in_time_any_more_is_not_run_beside_one_that_can():
    async with bench(lambda _: made.clock.advance(1.0)) as made:
        await made.batcher.score(faces(1))  # a batch takes a second
        blocker = Blocker()
        made.servable._before_predict = blocker
        running = await send(made, 1, HOG)
        await blocker.wait_entered()
        late = await send(made, 2, HOG, deadline=made.clock.now() + 2.5)
        patient = await send(made, 3, HOG)
        made.clock.advance(2.0)
        blocker.open()

        with pytest.raises(DeadlineUnmeetableError):
            await late
        await asyncio.gather(running, patient)
        assert made.observer.batch_sizes == [1, 1, 3]
        assert made.observer.rejections == ["DEADLINE_UNMEETABLE"]


async def test_executors_are_kept_busy_while_a_long_iteration_rejects_requests():
    polls = []
    blocker = Blocker()
    async with bench(blocker, max_queue_faces=4) as made:
        made.batcher._runner.poll = lambda: polls.append(made.clock.now())
        running = await send(made, 1, HOG)
        await blocker.wait_entered()
        waiting = await send(made, 4, HOG)
        for _ in range(10):  # all in one iteration of the event loop
            made.clock.advance(0.0005)
            with pytest.raises(QueueFullError):
                await made.batcher.score(faces(1), caller=HOG)

        assert 3 <= len(polls) <= 5
        blocker.open()
        await asyncio.gather(running, waiting)
