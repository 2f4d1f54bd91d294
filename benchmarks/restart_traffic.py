"""Sends steady load to servers behind a proxy: calls that are never tried again, and a stream that is resumed.

A process of its own, started by rolling_restarts.py. Ends on SIGTERM when every answer has arrived, and writes the
records of the calls, and how often the stream was opened again, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections import deque
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import uvloop
from traffic import Traffic, now_s

from ferserve_client import NO_RETRIES, AsyncEmotionClient, FerserveError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import numpy.typing as npt

_REOPEN_S = 0.05
"""Pause before a stream is opened again."""


class RestartTraffic(Traffic):
    """Sends until SIGTERM, and notes every answer.

    Attributes:
        reopened: How often a stream was opened again.
    """

    def __init__(self, client: AsyncEmotionClient) -> None:
        super().__init__(client)
        self.reopened = 0

    async def resumed_stream(self, kind: str, face_count: int, rate: float) -> None:
        """Sends a stream of batches, `rate` a second. When it breaks, what has no answer is sent on another."""
        faces = np.zeros((face_count, 48, 48), np.uint8)
        unanswered: deque[tuple[float, float]] = deque()
        next_due_s = now_s()

        async def batches() -> AsyncIterator[npt.NDArray[np.uint8]]:
            nonlocal next_due_s
            for _ in range(len(unanswered)):
                yield faces
            while not self.stop.is_set():
                await asyncio.sleep(max(0.0, next_due_s - now_s()))
                unanswered.append((next_due_s, now_s()))
                next_due_s += 1 / rate
                yield faces

        while not self.stop.is_set() or unanswered:
            try:
                async for answer in self._client.classify_stream(batches(), max_unanswered_batches=256):
                    error = type(answer.error).__name__ if answer.error else ""
                    self._note(kind, *unanswered.popleft(), 1, answer.predictions, error)
            except FerserveError:
                self.reopened += 1
                await asyncio.sleep(_REOPEN_S)


async def run(address: str, rate: float) -> RestartTraffic:
    """Sends until SIGTERM, and returns what every call saw.

    Args:
        address: HOST:PORT of the proxy.
        rate: Single faces a second; the other loads go with it.
    """
    async with AsyncEmotionClient(address, retry=NO_RETRIES) as client:
        traffic = RestartTraffic(client)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, traffic.stop.set)
        await asyncio.gather(
            traffic.unary("1 face", 1, rate),
            traffic.unary("32 faces", 32, rate / 8),
            traffic.resumed_stream("stream, 4 faces", 4, rate / 2),
        )
        return traffic


def main() -> None:
    """Sends and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("output", type=Path)
    parser.add_argument("--rate", type=float, required=True, help="single faces a second")
    options = parser.parse_args()
    traffic = uvloop.run(run(options.address, options.rate))
    document = {"reopened": traffic.reopened, "answers": [astuple(answer) for answer in traffic.answers]}
    options.output.write_text(json.dumps(document))


if __name__ == "__main__":
    main()
