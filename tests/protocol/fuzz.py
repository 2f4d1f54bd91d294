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

from ferserve_server.http2.flow_control import ReceiveMemory
from support.http2 import LIMITS, H2Bench
from support.http2_frames import (
    ACK,
    PREFACE,
    Kind,
    Setting,
    message_bytes,
    write_frame,
    write_reset,
    write_settings,
)

_SIZES = (0, 1, 5, 100, 2_309, 16_384, 70_000, 131_072)


def _frames(bench: H2Bench, chosen: random.Random) -> list[bytes]:
    """An exchange that is mostly right."""
    frames = [PREFACE, write_settings({}), write_frame(Kind.SETTINGS, ACK, 0)]
    for stream_id in range(1, 2 * chosen.randint(1, 20), 2):
        encoding = chosen.choice(["identity", "gzip", "snappy"])
        more = {"grpc_encoding": encoding, "grpc_timeout": chosen.choice(["1S", "5m", "x"])}
        frames.append(bench.headers(stream_id, **dict(chosen.sample(sorted(more.items()), chosen.randint(0, 2)))))
        message = message_bytes(chosen.randbytes(chosen.choice(_SIZES)))
        size = chosen.choice((1_000, 16_384, 131_072))
        parts = [message[at : at + size] for at in range(0, len(message), size)]
        frames += [bench.data(stream_id, part, end=part is parts[-1]) for part in parts]
        frames += chosen.sample(
            [
                write_reset(stream_id, chosen.choice((0, 5, 8))),  # type: ignore[arg-type]  # any number
                write_frame(Kind.PING, 0, 0, bytes(8)),
                write_frame(Kind.WINDOW_UPDATE, 0, chosen.choice((0, stream_id)), chosen.randbytes(4)),
                write_settings({Setting.INITIAL_WINDOW_SIZE: chosen.choice((0, 10, 2**31 - 1))}),
                write_frame(chosen.randrange(256), chosen.randrange(256), stream_id, chosen.randbytes(9)),
            ],
            chosen.choice((0, 0, 1, 3)),
        )
    return frames


def _mutated(frames: list[bytes], chosen: random.Random) -> bytes:
    frames = list(frames)
    for _ in range(chosen.choice((0, 1, 1, 2, 8))):
        at = chosen.randrange(len(frames))
        match chosen.randrange(5):
            case 0:
                frames.insert(at, frames[at])
            case 1:
                frames.pop(at)
                frames.append(b"")
            case 2:
                other = chosen.randrange(len(frames))
                frames[at], frames[other] = frames[other], frames[at]
            case 3 if frames[at]:
                data = bytearray(frames[at])
                data[chosen.randrange(len(data))] = chosen.randrange(256)
                frames[at] = bytes(data)
            case _:
                frames[at] = frames[at][: chosen.randrange(len(frames[at]) + 1)]
    return b"".join(frames)


def converse(seed: int) -> None:
    """Plays the exchange of a seed, and checks what it left."""
    chosen = random.Random(seed)  # noqa: S311 - to be repeated
    memory = ReceiveMemory(400_000, LIMITS.max_message_bytes + 16)
    bench, neighbour = H2Bench(begin=False, memory=memory), H2Bench(memory=memory)
    data = _mutated(_frames(bench, chosen), chosen)
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
