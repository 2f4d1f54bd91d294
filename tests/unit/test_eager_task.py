"""Tests that coroutines that run without a Task end as they would with one."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
import structlog

from ferserve_server.runtime.eager_task import EagerTask


class _Ended:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def ended() -> _Ended:
    return _Ended()


async def test_a_coroutine_runs_at_once_as_far_as_it_comes(ended: _Ended) -> None:
    seen: list[str] = []
    future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        seen.append("begun")
        seen.append(await future)

    EagerTask(work(), ended)
    assert (seen, ended.count) == (["begun"], 0)
    future.set_result("ended")
    await asyncio.sleep(0)
    assert (seen, ended.count) == (["begun", "ended"], 1)


async def test_one_that_never_waits_ends_at_once(ended: _Ended) -> None:
    async def work() -> None:
        pass

    EagerTask(work(), ended)
    assert ended.count == 1


async def test_one_may_give_way(ended: _Ended) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    EagerTask(work(), ended)
    assert ended.count == 0
    await asyncio.sleep(0)
    assert ended.count == 1


async def test_a_cancelled_one_cancels_what_it_waits_for_and_cleans_up(ended: _Ended) -> None:
    seen: list[str] = []
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await future
        except asyncio.CancelledError:
            seen.append("cleaned up")
            raise

    driven = EagerTask(work(), ended)
    driven.cancel()
    assert future.cancelled()
    await asyncio.sleep(0)
    assert (seen, ended.count) == (["cleaned up"], 1)


async def test_one_that_is_cancelled_as_its_future_is_done_is_cancelled_all_the_same(ended: _Ended) -> None:
    seen: list[str] = []
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await future
        seen.append("went on")

    driven = EagerTask(work(), ended)
    future.set_result(None)
    driven.cancel()
    await asyncio.sleep(0)
    assert (seen, ended.count) == ([], 1)


async def test_a_failure_of_what_it_waits_for_is_raised_where_it_waits(ended: _Ended) -> None:
    seen: list[str] = []
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await future
        except ValueError as error:
            seen.append(str(error))

    EagerTask(work(), ended)
    future.set_exception(ValueError("broken"))
    await asyncio.sleep(0)
    assert (seen, ended.count) == (["broken"], 1)


async def test_one_that_has_ended_keeps_nobody_alive() -> None:
    class Holder:
        def __init__(self) -> None:
            self.driven = EagerTask(self.work(), self.ended)

        async def work(self) -> None:
            await asyncio.sleep(0)

        def ended(self) -> None:
            pass

    holder = weakref.ref(Holder())
    gc.disable()
    try:
        await asyncio.sleep(0)
        assert holder() is None
    finally:
        gc.enable()


async def test_what_nobody_catches_is_logged(ended: _Ended) -> None:
    async def work() -> None:
        raise ValueError

    with structlog.testing.capture_logs() as logs:
        EagerTask(work(), ended)
    assert ended.count == 1
    assert [(entry["event"], entry["exc_info"]) for entry in logs] == [("call failed outside its handler", True)]
