"""Tests messages between two processes, here between two ends in one."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from ferserve_server.domain.errors import FerserveError, QueueFullError
from ferserve_server.ipc.channel import Channel
from ferserve_server.ipc.framed_channel import MESSAGE_BYTES, FramedChannel
from ferserve_server.workers.rpc_channel import RpcChannel


class End:
    """A mailbox, and what came into it."""

    def __init__(self, channel: Channel) -> None:
        self.got: list[bytes] = []
        self.closed = asyncio.Event()
        self.came = asyncio.Event()
        self.mailbox = FramedChannel(channel, self._received, self.closed.set)

    def _received(self, message: bytes) -> None:
        self.got.append(message)
        self.came.set()

    async def wait_for(self, count: int) -> list[bytes]:
        while len(self.got) < count:
            self.came.clear()
            await self.came.wait()
        return self.got


@pytest.fixture
async def ends():
    left, right = map(End, Channel.pair(MESSAGE_BYTES))
    yield left, right
    left.mailbox.close()
    right.mailbox.close()


async def test_messages_of_any_length_arrive_whole_and_in_order(ends) -> None:
    left, right = ends
    sent = [b"a" * size for size in (1, MESSAGE_BYTES, MESSAGE_BYTES + 1, 10 * MESSAGE_BYTES, 2)]
    for message in sent:
        left.mailbox.post(message)
    assert await right.wait_for(len(sent)) == sent


async def test_nothing_is_lost_when_the_other_side_is_slow_to_read(ends) -> None:
    left, right = ends
    sent = [number.to_bytes(4) for number in range(5000)]  # 20 times what the system keeps
    for message in sent:
        left.mailbox.post(message)
    assert await right.wait_for(len(sent)) == sent
    await left.mailbox.flush()


async def test_the_end_of_the_other_side_is_told_after_its_last_message(ends) -> None:
    left, right = ends
    left.mailbox.post(b"last words")
    left.mailbox.close()
    await right.closed.wait()
    assert right.got == [b"last words"]
    right.mailbox.post(b"to nobody")
    await right.mailbox.flush()
    assert not left.closed.is_set()


async def test_what_waits_for_a_side_that_is_gone_is_let_go(ends) -> None:
    left, right = ends
    for _ in range(5000):
        left.mailbox.post(b"x")
    right.mailbox.close()
    await left.mailbox.flush()
    await left.closed.wait()


@contextlib.contextmanager
def _talking(**questions):
    told: list[object] = []
    ends = Channel.pair(MESSAGE_BYTES)
    asker, answerer = (
        RpcChannel(
            end,
            score_message=told.append,
            news={"news": told.append},
            questions=questions,
            closed=lambda: told.append("closed"),
        )
        for end in ends
    )
    yield asker, answerer, told
    asker.close()
    answerer.close()


async def test_an_answer_comes_after_the_news_before_it() -> None:
    async def double(value: int) -> int:
        answerer.tell("news", "first")
        return 2 * value

    with _talking(double=double) as (asker, answerer, told):
        assert await asker.ask("double", 21) == 42
        assert told == ["first"]
        asker.post(b"\x01 of a request")
        await answerer.ask("double", 0)
        assert told[1:] == [b"\x01 of a request", "first"]


async def test_an_error_of_the_one_asked_is_raised_as_it_was() -> None:
    full = QueueFullError(what="faces", queued=1, limit=1, setting="max_queue_faces", retry_after_s=0.5)

    async def refuse(_: object) -> None:
        raise full

    async def fail(_: object) -> None:
        raise ZeroDivisionError("secret")

    with _talking(refuse=refuse, fail=fail) as (asker, _, _):
        with pytest.raises(QueueFullError) as caught:
            await asker.ask("refuse", None)
        assert caught.value.metadata == full.metadata
        with pytest.raises(FerserveError, match="Its log tells more"):
            await asker.ask("fail", None)


async def test_who_asks_one_that_is_gone_gets_to_know() -> None:
    started = asyncio.Event()

    async def hang(_: object) -> None:
        started.set()
        await asyncio.Event().wait()

    with _talking(hang=hang) as (asker, answerer, told):
        asking = asyncio.create_task(asker.ask("hang", None))
        await started.wait()
        answerer.close()
        with pytest.raises(ConnectionError):
            await asking
        assert told == ["closed"]
