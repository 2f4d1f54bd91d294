"""Runs mutated exchanges from seeds against a connection without its socket, beside one that behaves.

`python tests/protocol/fuzz.py SECONDS [first seed]` runs as many as it can; `seed:NUMBER` runs one. An exchange
must end no other connection, log no failure, raise nothing, and leave no memory accounted for.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import Any

import structlog
from protocol.exchanges import exchange

from ferserve_server.http2.flow_control import ReceiveMemory
from support.http2 import LIMITS, H2Bench


def converse(seed: int) -> None:
    """Plays the exchange of a seed, and checks what it left."""
    chosen = random.Random(seed)  # noqa: S311 - to be repeated
    memory = ReceiveMemory(400_000, LIMITS.max_message_bytes + 16)
    bench, neighbour = H2Bench(begin=False, memory=memory), H2Bench(memory=memory)
    data = exchange(chosen)
    with structlog.testing.capture_logs() as logs:
        at = 0
        while at < len(data):
            size = chosen.choice((1, 7, 100, 5_000, 100_000))
            bench.send(data[at : at + size])
            at += size
            for call in list(bench.calls):
                stream: Any = call.stream
                if not call.cancelled and not stream.local_ended and chosen.random() < 0.2:
                    chosen.choice((lambda s=stream: s.answer(b"x"), lambda s=stream: s.send(bytes(1_000))))()
            bench.now += chosen.choice((0, 0, 0.1, 30))
            bench.connection.check_times(bench.now)
        neighbour.send(neighbour.call(1))
        assert neighbour.calls[0].ended, "the neighbour got no answer"
        bench.connection.lost()
    assert not logs, logs
    neighbour.connection.lost()
    assert memory.buffer.held_bytes == 0, "bytes are accounted for that nobody holds"
    assert not memory.oversize._granted, "windows are granted that nobody has"
    assert not memory.oversize.contended, "a stream that is closed waits for a window"


async def fuzz(seconds: float, seed: int = 0) -> int:
    """Plays exchanges for so long; returns how many. The seed of one that fails is in the error."""
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        try:
            converse(seed + count)
        except Exception as error:
            raise AssertionError(f"seed {seed + count}: {error}") from error
        count += 1
        await asyncio.sleep(0)
    return count


if __name__ == "__main__":
    if sys.argv[1].startswith("seed:"):
        asyncio.run(fuzz(0.001, int(sys.argv[1].removeprefix("seed:"))))
    else:
        print(asyncio.run(fuzz(float(sys.argv[1]), *map(int, sys.argv[2:]))), "exchanges")  # noqa: T201 - for a terminal
