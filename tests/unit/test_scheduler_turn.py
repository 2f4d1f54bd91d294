"""What comes in one turn of the event loop goes into one batch."""

import asyncio

from ferserve_server.scheduler.turn import EndOfTurn
from support.batching import bench, faces
from support.fake_clock import settle


async def test_a_turn_ends_once_however_often_its_end_is_asked_for():
    ends = []
    turn = EndOfTurn(asyncio.get_running_loop(), lambda: ends.append("over"))
    for _ in range(3):
        turn.ask()
    assert ends == []
    await settle(2)
    assert ends == ["over"]
    turn.ask()
    await settle(2)
    assert ends == ["over", "over"]


async def test_requests_of_one_turn_share_a_batch_though_an_executor_is_idle():
    async with bench(executor_count=4) as made:
        await asyncio.gather(*(made.batcher.score(faces(1, first=i)) for i in range(6)))
        assert made.observer.batch_sizes == [6]


async def test_a_request_that_comes_a_turn_later_does_not_wait_for_more():
    async with bench(executor_count=4) as made:
        first = asyncio.create_task(made.batcher.score(faces(1)))
        await settle()
        second = asyncio.create_task(made.batcher.score(faces(1, first=1)))
        await asyncio.gather(first, second)
        assert made.observer.batch_sizes == [1, 1]
