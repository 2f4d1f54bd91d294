"""Tests answers in the order of the messages, with a bound on those unanswered."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from ferserve_server.pipeline.ordered_responses import OrderedResponses
from support.fake_clock import settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Bench:
    """Messages are numbers; the test decides when each is answered."""

    def __init__(self, max_unanswered: int = 100) -> None:
        self.inbox: asyncio.Queue[int | None] = asyncio.Queue()
        self.draining = asyncio.Event()
        self.begun: list[int] = []
        self.futures: dict[int, asyncio.Future[str]] = {}
        self.answered: list[str] = []
        self.reject_from = 1000
        self.answers = OrderedResponses(self._begin, max_unanswered=max_unanswered, draining=self.draining)
        self.task = asyncio.create_task(self._run())

    def _begin(self, message: int) -> asyncio.Future[str]:
        if message >= self.reject_from:
            raise ZeroDivisionError
        self.begun.append(message)
        self.futures[message] = asyncio.get_running_loop().create_future()
        return self.futures[message]

    async def _messages(self) -> AsyncIterator[int]:
        while (message := await self.inbox.get()) is not None:
            yield message

    async def _run(self) -> None:
        async with contextlib.aclosing(self.answers.run(self._messages())) as answers:
            async for answer in answers:
                self.answered.append(answer)

    async def send(self, *messages: int | None) -> None:
        for message in messages:
            self.inbox.put_nowait(message)
        await settle()

    async def answer(self, *messages: int) -> None:
        for message in messages:
            self.futures[message].set_result(f"answer {message}")
        await settle()


async def test_answers_come_in_the_order_of_the_messages() -> None:
    bench = Bench()
    await bench.send(0, 1, 2, None)
    await bench.answer(2, 1)
    assert bench.answered == []
    await bench.answer(0)
    assert bench.answered == ["answer 0", "answer 1", "answer 2"]
    await bench.task


async def test_without_messages_it_ends_at_once() -> None:
    bench = Bench()
    await bench.send(None)
    await bench.task
    assert bench.answered == []


async def test_an_answer_does_not_wait_for_the_next_message() -> None:
    bench = Bench()
    await bench.send(0)
    await bench.answer(0)
    assert bench.answered == ["answer 0"]
    bench.task.cancel()


@pytest.mark.parametrize("bound", [1, 3])
async def test_no_more_messages_are_read_than_may_be_unanswered(bound: int) -> None:
    bench = Bench(max_unanswered=bound)
    await bench.send(0, 1, 2, 3, 4, 5, None)
    assert bench.begun == list(range(bound))
    await bench.answer(0)
    assert bench.begun == list(range(bound + 1))
    for message in range(1, 6):
        await bench.answer(message)
    await bench.task
    assert len(bench.answered) == 6


async def test_draining_answers_what_was_read_and_reads_no_more() -> None:
    bench = Bench()
    await bench.send(0, 1)
    bench.draining.set()
    await settle()
    await bench.send(2)
    assert bench.begun == [0, 1]
    await bench.answer(0, 1)
    await bench.task
    assert bench.answered == ["answer 0", "answer 1"]


async def test_draining_ends_a_stream_that_is_at_its_bound() -> None:
    bench = Bench(max_unanswered=1)
    await bench.send(0, 1)
    bench.draining.set()
    await settle()
    await bench.answer(0)
    await bench.task
    assert bench.begun == [0]


async def test_an_error_of_reading_comes_after_what_was_taken_before() -> None:
    bench = Bench()
    bench.reject_from = 2
    await bench.send(0, 1, 2, 3)
    await bench.answer(0, 1)
    with pytest.raises(ZeroDivisionError):
        await bench.task
    assert bench.answered == ["answer 0", "answer 1"]
    assert bench.begun == [0, 1]


async def test_leaving_cancels_the_work_that_is_not_answered() -> None:
    bench = Bench()
    await bench.send(0, 1, 2)
    await bench.answer(0)
    bench.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bench.task
    assert [bench.futures[message].cancelled() for message in (1, 2)] == [True, True]


async def test_closing_cancels_the_work_that_is_not_answered() -> None:
    bench = Bench()
    answers = bench.answers.run(bench._messages())
    bench.task.cancel()
    first = asyncio.create_task(anext(answers))
    await bench.send(7, 8)
    await bench.answer(7)
    assert await first == "answer 7"
    await answers.aclose()
    assert bench.futures[8].cancelled()


async def test_a_failed_future_ends_the_stream_with_its_error() -> None:
    bench = Bench()
    await bench.send(0, 1)
    bench.futures[0].set_exception(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await bench.task
    assert bench.futures[1].cancelled()
