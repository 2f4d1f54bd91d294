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
    """A framed channel, and the messages that it received."""

    def __init__(self, channel: Channel) -> None:
        self.got: list[bytes] = []
        self.closed = asyncio.Event()
        self.came = asyncio.Event()
        self.channel = FramedChannel(channel, self._received, self.closed.set)

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
    left.channel.close()
    right.channel.close()


async def test_messages_of_any_length_arrive_whole_and_in_order(ends) -> None:
    left, right = ends
    sent = [b"a" * size for size in (1, MESSAGE_BYTES, MESSAGE_BYTES + 1, 10 * MESSAGE_BYTES, 2)]
    for message in sent:
        left.channel.post(message)
    assert await right.wait_for(len(sent)) == sent


async def test_nothing_is_lost_when_the_other_side_is_slow_to_read(ends) -> None:
    left, right = ends
    sent = [number.to_bytes(4) for number in range(5000)]  # 20 times what the system keeps
    for message in sent:
        left.channel.post(message)
    assert await right.wait_for(len(sent)) == sent
    await left.channel.flush()


async def test_the_end_of_the_other_side_is_reported_after_its_last_message(ends) -> None:
    left, right = ends
    left.channel.post(b"last words")
    left.channel.close()
    await right.closed.wait()
    assert right.got == [b"last words"]
    right.channel.post(b"to nobody")
    await right.channel.flush()
    assert not left.closed.is_set()


async def test_what_waits_for_a_side_that_is_gone_is_let_go(ends) -> None:
    left, right = ends
    for _ in range(5000):
        left.channel.post(b"x")
    right.channel.close()
    await left.channel.flush()
    await left.closed.wait()


@contextlib.contextmanager
def _talking(**request_handlers):
    received: list[object] = []
    ends = Channel.pair(MESSAGE_BYTES)
    client, server = (
        RpcChannel(
            end,
            score_message=received.append,
            notification_handlers={"news": received.append},
            request_handlers=request_handlers,
            closed=lambda: received.append("closed"),
        )
        for end in ends
    )
    yield client, server, received
    client.close()
    server.close()


async def test_an_answer_comes_after_the_news_before_it() -> None:
    async def double(value: int) -> int:
        server.notify("news", "first")
        return 2 * value

    with _talking(double=double) as (client, server, received):
        assert await client.call("double", 21) == 42
        assert received == ["first"]
        client.post(b"\x01 of a request")
        await server.call("double", 0)
        assert received[1:] == [b"\x01 of a request", "first"]


async def test_an_error_of_the_one_asked_is_raised_as_it_was() -> None:
    full = QueueFullError(what="faces", queued=1, limit=1, setting="max_queue_faces", retry_after_s=0.5)

    async def reject(_: object) -> None:
        raise full

    async def fail(_: object) -> None:
        raise ZeroDivisionError("secret")

    with _talking(reject=reject, fail=fail) as (client, _, _):
        with pytest.raises(QueueFullError) as caught:
            await client.call("reject", None)
        assert caught.value.metadata == full.metadata
        with pytest.raises(FerserveError, match="Its log tells more"):
            await client.call("fail", None)


async def test_who_asks_one_that_is_gone_gets_to_know() -> None:
    started = asyncio.Event()

    async def hang(_: object) -> None:
        started.set()
        await asyncio.Event().wait()

    with _talking(hang=hang) as (client, server, received):
        pending_call = asyncio.create_task(client.call("hang", None))
        await started.wait()
        server.close()
        with pytest.raises(ConnectionError):
            await pending_call
        assert received == ["closed"]
