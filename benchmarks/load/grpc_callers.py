"""Sends calls over gRPC. Messages are serialised in advance, so the client takes little of the shared cores."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import grpc

from ferserve.v1.emotion_service_pb2 import ClassifyStreamResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from load.measurements import Measurements
    from load.plan import Part

_UNBOUNDED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def open_channels(address: str, count: int) -> list[grpc.aio.Channel]:
    """Opens separate connections: channels to one address share one unless each has its own pool."""
    options = [*_UNBOUNDED, ("grpc.use_local_subchannel_pool", 1)]
    return [grpc.aio.insecure_channel(address, options=options) for _ in range(count)]


def sequence_prefix(number: int) -> bytes:
    """Encodes field 1, a varint, which precedes the rest of a ClassifyStream message."""
    prefix = bytearray(b"\x08")
    while number > 0x7F:
        prefix.append(number & 0x7F | 0x80)
        number >>= 7
    prefix.append(number)
    return bytes(prefix)


def code_of(error: grpc.aio.AioRpcError) -> str:
    """Returns the code of an error; EXPIRED if the client itself gave up at the deadline."""
    given_up = error.details() == "Deadline Exceeded"
    return "EXPIRED" if given_up else str(error.code().name)


async def call_unary(address: str, part: Part, measurements: Measurements) -> None:
    """Runs `callers` that each send their next call after the last answer; until cancelled."""
    channels = open_channels(address, part.connections)

    async def caller(channel: grpc.aio.Channel) -> None:
        call: Any = channel.unary_unary(part.path)
        while True:
            sent_s = time.perf_counter()
            try:
                await call(part.message, timeout=part.timeout_s)
            except grpc.aio.AioRpcError as error:
                measurements.record(sent_s, sent_s, time.perf_counter(), code_of(error))
                await asyncio.sleep(0.01)  # a server that rejects everything is not to be hammered
            else:
                measurements.record(sent_s, sent_s, time.perf_counter())

    try:
        await asyncio.gather(*(caller(channels[at % part.connections]) for at in range(part.callers)))
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


async def call_stream(address: str, part: Part, measurements: Measurements) -> None:
    """Runs `connections` streams that together keep `callers` messages unanswered; until cancelled."""
    channels = open_channels(address, part.connections)

    async def stream(channel: grpc.aio.Channel, window: int) -> None:
        sent_s: list[float] = []
        free = asyncio.Semaphore(window)

        async def messages() -> AsyncIterator[bytes]:
            for number in itertools.count():
                await free.acquire()
                sent_s.append(time.perf_counter())
                yield sequence_prefix(number) + part.message

        call: Any = channel.stream_stream(part.path, response_deserializer=ClassifyStreamResponse.FromString)
        answered = 0
        try:
            async for response in call(messages()):
                begun_s = sent_s[answered]
                failed = response.HasField("failure")
                measurements.record(
                    begun_s, begun_s, time.perf_counter(), response.failure.reason if failed else ""
                )
                answered += 1
                free.release()
        except grpc.aio.AioRpcError as error:
            now_s = time.perf_counter()
            measurements.record(now_s, now_s, now_s, code_of(error))

    try:
        await asyncio.gather(*(stream(channel, part.callers // part.connections) for channel in channels))
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))
