"""Sends streams of frames to a server, and records its answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

EVERY_FRAME = emotion_pb2.OVERLOAD_POLICY_EVERY_FRAME
LATEST = emotion_pb2.OVERLOAD_POLICY_LATEST
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass
class Answers:
    """Holds the answers of one stream.

    Attributes:
        responses: The messages, in order.
        arrived_s: When each came, in seconds since some start.
        sent_count: Frames that were sent.
        sent_s: When each was sent.
    """

    responses: list[emotion_pb2.StreamFramesResponse] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    sent_s: list[float] = field(default_factory=list)

    def ages_ms(self, after_s: float = 0.0) -> list[float]:
        """Returns the ages of analysed frames answered from a time on, as seen by the client."""
        return [
            (came - sent) * 1e3
            for response, came, sent in zip(self.responses, self.arrived_s, self.sent_s, strict=False)
            if response.WhichOneof("outcome") in {"analysis", "unchanged"} and came >= after_s
        ]

    @property
    def in_order_once(self) -> bool:
        """Returns whether every frame has one answer, in order."""
        return [each.sequence_id for each in self.responses] == list(range(len(self.sent_s)))


def config(policy: Any, *, tracked: bool) -> emotion_pb2.StreamFramesRequest:  # noqa: ANN401 - an enum of the proto
    """Makes the first message; a server that does not know tracking ignores it."""
    chosen = emotion_pb2.FrameStreamConfig(overload_policy=policy)
    chosen.tracking.enabled = tracked
    return emotion_pb2.StreamFramesRequest(config=chosen)


async def stream(  # noqa: PLR0913 - each is one dimension of a load
    channel: grpc.aio.Channel,
    frames: Sequence[bytes],
    *,
    policy: int,
    tracked: bool,
    rate: float | None,
    clip_rate: float,
    until_s: float | None = None,
    credit: int | None = None,
) -> Answers:
    """Sends frames, over again if `until_s` asks for more, and collects the answers.

    Args:
        channel: The connection.
        frames: Encoded frames.
        policy: Overload policy.
        tracked: Whether faces are tracked.
        rate: Frames per second, by the clock; None sends as fast as the server takes them.
        clip_rate: Frames per second of the video, for the frames' times.
        until_s: Monotonic time at which sending ends; None sends every frame once.
        credit: Largest number of unanswered frames; None leaves that to the server.
    """
    answers = Answers()
    slots = asyncio.Semaphore(credit or 1_000_000)

    async def requests() -> AsyncIterator[emotion_pb2.StreamFramesRequest]:
        yield config(policy, tracked=tracked)
        started = time.monotonic()
        source = enumerate(frames if until_s is None else itertools.cycle(frames))
        for number, image in source:
            if rate is not None:
                await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            await slots.acquire()
            if until_s is not None and time.monotonic() >= until_s:
                return
            answers.sent_s.append(time.monotonic())
            frame = emotion_pb2.Frame(sequence_id=number, image=image, time_s=number / clip_rate)
            yield emotion_pb2.StreamFramesRequest(frame=frame)

    stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)  # type: ignore[no-untyped-call]
    async for response in stub.StreamFrames(requests()):
        answers.responses.append(response)
        answers.arrived_s.append(time.monotonic())
        slots.release()
    return answers


async def several(address: str, count: int, frames: Sequence[bytes], **how: Any) -> list[Answers]:  # noqa: ANN401 - those of `stream`
    """Runs several streams at once, on a connection each; the clip starts at another place in each."""
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(count):
            first = number * len(frames) // count
            tasks.append(group.create_task(_alone(address, [*frames[first:], *frames[:first]], **how)))
    return [task.result() for task in tasks]


async def _alone(address: str, frames: Sequence[bytes], **how: Any) -> Answers:  # noqa: ANN401 - as above
    options: list[tuple[str, Any]] = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        return await stream(channel, frames, **how)


async def single_crops(address: str, until_s: float) -> list[float]:
    """Classifies one crop after the other until a monotonic time, 20 a second; times in milliseconds."""
    pixels = np.random.default_rng(0).integers(0, 256, 48 * 48, np.uint8).tobytes()
    request = emotion_pb2.ClassifyFacesRequest(packed=face_pb2.PackedFaces(pixels=pixels, face_count=1))
    times = []
    async with grpc.aio.insecure_channel(address, OPTIONS) as channel:
        stub: Any = emotion_service_pb2_grpc.EmotionServiceStub(channel)  # type: ignore[no-untyped-call]
        while time.monotonic() < until_s:
            started = time.monotonic()
            await stub.ClassifyFaces(request, timeout=60)
            times.append((time.monotonic() - started) * 1e3)
            await asyncio.sleep(0.05)
    return times


def percentile(values: Sequence[float], share: float) -> float:
    """Returns a percentile, rounded; NaN of nothing."""
    return round(float(np.percentile(values, share)), 1) if values else float("nan")
