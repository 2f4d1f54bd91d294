"""Runs loads: closed loops, in which callers wait for answers, and open loops, in which they do not."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ferserve_client.bench.arrivals import Arrivals, arrival_times
from ferserve_client.bench.measurement import OK, Measurement, Recorder
from ferserve_client.bench.workloads import Workload, reason_of
from ferserve_client.errors import FerserveError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from ferserve_client.aio_client import AsyncEmotionClient
    from ferserve_client.answers import BatchAnswer, FrameAnswer

MAX_OUTSTANDING: Final = 10_000
"""Calls of an open loop that may be unanswered. Further ones are not made and counted as `CLIENT_FULL`: the server
is far beyond its capacity then, and the client would run out of memory."""


@dataclass(frozen=True, slots=True)
class Load:
    """Describes a load."""

    workload: Workload
    duration_s: float = 10.0
    """Measured time in seconds."""
    warmup_s: float = 2.0
    """Time before it, under the same load."""
    concurrency: int = 8
    """Calls at once of a closed loop, or streams of both."""
    window: int = 8
    """Unanswered messages per stream of a closed loop."""
    rate: float | None = None
    """Calls or messages a second of an open loop, all streams together. None: a closed loop."""
    arrivals: Arrivals = "poisson"
    seed: int = 1


async def run_load(load: Load, open_client: Callable[[], AsyncEmotionClient]) -> Measurement:
    """Run a load and measure it. Calls are not retried.

    Args:
        load: The load.
        open_client: Opens a client. Several are opened, so that no connection is the limit.
    """
    begin_s = time.monotonic() + load.warmup_s
    recorder = Recorder(begin_s, begin_s + load.duration_s)
    cpu_before_s, wall_before_s = time.process_time(), time.monotonic()
    run = _run_streams if load.workload.streams else _run_closed if load.rate is None else _run_open
    # One connection per stream and per eight callers.
    client_count = load.concurrency if load.workload.streams else max(1, load.concurrency // 8)
    clients = [open_client() for _ in range(client_count)]
    try:
        await run(load, clients, recorder, begin_s + load.duration_s)
    finally:
        busy = (time.process_time() - cpu_before_s) / (time.monotonic() - wall_before_s)
        await asyncio.gather(*(client.close() for client in clients))
    return recorder.measurement(load.rate, busy)


async def _run_closed(load: Load, clients: list[AsyncEmotionClient], recorder: Recorder, end_s: float) -> None:
    numbers = itertools.count()

    async def caller(client: AsyncEmotionClient) -> None:
        while (begun_s := time.monotonic()) < end_s:
            outcome = await load.workload.call(client, next(numbers))
            recorder.add(begun_s, time.monotonic(), outcome, load.workload.items_per_call)
            if outcome != OK:
                await asyncio.sleep(0.01)  # a server that is gone must not make the loop spin

    await asyncio.gather(*(caller(clients[index % len(clients)]) for index in range(load.concurrency)))


async def _run_open(load: Load, clients: list[AsyncEmotionClient], recorder: Recorder, _end_s: float) -> None:
    began_s = time.monotonic()
    outstanding: set[asyncio.Task[None]] = set()

    async def call(number: int, due_s: float) -> None:
        outcome = await load.workload.call(clients[number % len(clients)], number)
        recorder.add(due_s, time.monotonic(), outcome, load.workload.items_per_call)

    for number, due_s in enumerate(_schedule(load, began_s, load.rate or 1.0, load.seed)):
        await _until(due_s)
        if len(outstanding) >= MAX_OUTSTANDING:
            recorder.add(due_s, due_s, "CLIENT_FULL", 0)
            continue
        task = asyncio.create_task(call(number, due_s))
        outstanding.add(task)
        task.add_done_callback(outstanding.discard)
    if outstanding:
        await asyncio.gather(*outstanding)


async def _run_streams(load: Load, clients: list[AsyncEmotionClient], recorder: Recorder, end_s: float) -> None:
    began_s = time.monotonic()
    await asyncio.gather(
        *(_run_stream(load, client, recorder, end_s, began_s, index) for index, client in enumerate(clients))
    )


async def _run_stream(
    load: Load, client: AsyncEmotionClient, recorder: Recorder, end_s: float, began_s: float, index: int
) -> None:
    due_times: deque[float] = deque()
    rate = None if load.rate is None else load.rate / load.concurrency
    window = load.window if rate is None else MAX_OUTSTANDING

    async def numbers() -> AsyncGenerator[int, None]:
        counted = itertools.count()
        if rate is None:
            while (now_s := time.monotonic()) < end_s:
                due_times.append(now_s)
                yield next(counted)
            return
        for due_s in _schedule(load, began_s, rate, load.seed + index):
            await _until(due_s)
            due_times.append(due_s)
            yield next(counted)

    try:
        async with aclosing(load.workload.stream(client, numbers(), window)) as answers:
            async for answer in answers:
                recorder.add(
                    due_times.popleft(), time.monotonic(), _outcome_of(answer), load.workload.items_per_call
                )
    except FerserveError as error:
        for due_s in due_times:
            recorder.add(due_s, time.monotonic(), reason_of(error), 0)


def _schedule(load: Load, began_s: float, rate: float, seed: int) -> Iterator[float]:
    for time_s in arrival_times(rate, load.warmup_s + load.duration_s, load.arrivals, seed):
        yield began_s + time_s


async def _until(due_s: float) -> None:
    # A call that is late is made at once, and its lateness is part of its latency.
    await asyncio.sleep(max(0.0, due_s - time.monotonic()))


def _outcome_of(answer: FrameAnswer | BatchAnswer) -> str:
    return OK if answer.error is None else reason_of(answer.error)
