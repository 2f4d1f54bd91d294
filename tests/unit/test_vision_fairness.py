"""Tests that pictures of one caller do not hold up, or lock out, those of another."""

from __future__ import annotations

import asyncio

import pytest

from ferserve_server.domain.caller import CallerId, CallerKind
from ferserve_server.domain.errors import DeadlineExpiredError, DeadlineUnmeetableError, QueueFullError
from ferserve_server.domain.ports import Priority
from ferserve_server.vision.picture_queue import PictureQueue

HOG = CallerId(CallerKind.CONNECTION, "hog")
NEIGHBOUR = CallerId(CallerKind.CONNECTION, "neighbour")


class Bench:
    """A queue before one thread, which is busy; `order` is the order of service."""

    def __init__(self, max_images: int = 8) -> None:
        self.time_s = 100.0
        self.queue = PictureQueue(thread_count=1, max_images=max_images, now=lambda: self.time_s)
        self.order: list[str] = []

    async def start(self) -> None:
        await self.queue.acquire(1, deadline=None, priority=Priority.INTERACTIVE, caller=HOG)

    async def send(
        self,
        name: str,
        caller: CallerId,
        *,
        deadline: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        count: int = 1,
    ) -> asyncio.Task[None]:
        self.queue.admit(count, deadline, caller)

        async def wait() -> None:
            await self.queue.acquire(count, deadline=deadline, priority=priority, caller=caller)
            self.order.append(name)

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        return task

    async def work(self, count: int) -> None:
        """Gives the thread back so many times."""
        for _ in range(count):
            self.queue.release()
            await asyncio.sleep(0)


@pytest.fixture
async def bench() -> Bench:
    made = Bench()
    await made.start()
    return made


async def test_callers_are_served_one_after_the_other(bench: Bench) -> None:
    tasks = [await bench.send(f"hog {i}", HOG) for i in range(4)]
    tasks += [await bench.send(f"neighbour {i}", NEIGHBOUR) for i in range(2)]

    await bench.work(6)

    assert bench.order == ["hog 0", "neighbour 0", "hog 1", "neighbour 1", "hog 2", "hog 3"]
    await asyncio.gather(*tasks)
    assert bench.queue.waiting_count == 0


async def test_bulk_pictures_wait_for_the_others_but_not_for_long(bench: Bench) -> None:
    tasks = [await bench.send("bulk", HOG, priority=Priority.BULK), await bench.send("urgent", NEIGHBOUR)]
    await bench.work(1)
    assert bench.order == ["urgent"]

    bench.time_s += 0.25
    tasks += [await bench.send("later", NEIGHBOUR)]
    await bench.work(2)

    assert bench.order == ["urgent", "bulk", "later"]
    await asyncio.gather(*tasks)


async def test_a_full_queue_takes_its_newest_places_from_the_caller_that_fills_it(bench: Bench) -> None:
    hogs = [await bench.send(f"hog {i}", HOG) for i in range(8)]
    with pytest.raises(QueueFullError):
        await bench.send("hog 8", HOG)

    taken = [await bench.send(f"neighbour {i}", NEIGHBOUR) for i in range(4)]

    with pytest.raises(QueueFullError):
        await bench.send("neighbour 4", NEIGHBOUR)
    assert [task.done() for task in hogs] == [False] * 4 + [True] * 4
    for task in hogs[4:]:
        with pytest.raises(QueueFullError):
            task.result()
    await bench.work(8)
    await asyncio.gather(*hogs[:4], *taken)


async def test_a_picture_whose_deadline_passes_is_never_read(bench: Bench) -> None:
    late = await bench.send("late", HOG, deadline=bench.time_s + 0.5)
    patient = await bench.send("patient", HOG)
    bench.time_s += 1.0

    await bench.work(1)

    with pytest.raises(DeadlineExpiredError):
        await late
    await patient
    assert bench.order == ["patient"]


async def test_a_deadline_that_the_queue_cannot_meet_is_rejected_at_once(bench: Bench) -> None:
    tasks = [await bench.send(f"{i}", HOG) for i in range(4)]  # 0.015 s each

    with pytest.raises(DeadlineUnmeetableError):
        await bench.send("late", HOG, deadline=bench.time_s + 0.05)
    with pytest.raises(DeadlineExpiredError):
        await bench.send("later", HOG, deadline=bench.time_s)
    # Of the other caller's pictures only as many are before its own as fair shares let pass.
    tasks.append(await bench.send("neighbour", NEIGHBOUR, deadline=bench.time_s + 0.05))
    await bench.work(5)
    await asyncio.gather(*tasks)


async def test_a_thread_assigned_to_one_who_leaves_goes_to_the_next(bench: Bench) -> None:
    leaves, stays = await bench.send("leaves", HOG), await bench.send("stays", HOG)
    bench.queue.release()
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    await stays

    assert bench.order == ["stays"]
