"""Tests that requests of one event-loop iteration share a batch, unless the iteration takes long."""

import asyncio

from ferserve_server.scheduler.coalescing import MAX_WAIT_S, CoalescedCallback
from support.batching import bench, faces
from support.fake_clock import FakeClock, settle


async def test_it_calls_back_once_an_iteration_however_often_that_is_requested():
    calls = []
    callback = CoalescedCallback(asyncio.get_running_loop(), FakeClock(), lambda: calls.append("called"))
    for _ in range(3):
        callback.request()
    assert calls == []
    await settle(2)
    assert calls == ["called"]
    callback.request()
    await settle(2)
    assert calls == ["called", "called"]


async def test_it_calls_back_within_an_iteration_that_takes_long():
    calls, clock = [], FakeClock()
    callback = CoalescedCallback(asyncio.get_running_loop(), clock, lambda: calls.append("called"))
    for _ in range(5):
        callback.request()
        clock.advance(0.6 * MAX_WAIT_S)

    assert calls == ["called", "called"]


async def test_requests_of_one_iteration_share_a_batch_though_an_executor_is_idle():
    async with bench(executor_count=4) as made:
        await asyncio.gather(*(made.batcher.score(faces(1, first=i)) for i in range(6)))
        assert made.observer.batch_sizes == [6]


async def test_a_request_that_comes_an_iteration_later_does_not_wait_for_more():
    async with bench(executor_count=4) as made:
        first = asyncio.create_task(made.batcher.score(faces(1)))
        await settle()
        second = asyncio.create_task(made.batcher.score(faces(1, first=1)))
        await asyncio.gather(first, second)
        assert made.observer.batch_sizes == [1, 1]
