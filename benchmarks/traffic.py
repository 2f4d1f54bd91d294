"""Sends steady load to a server: three kinds of real gRPC calls at fixed rates, independent of the answers.

A process of its own, started by swaps.py. Ends on SIGTERM when every answer has arrived, and writes the record of
each call as JSON: one list per call, in the order of `Answer`'s fields.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import uvloop
from swap_figures import Answer
from versions import is_twin, telling_faces

from ferserve_client import AsyncEmotionClient, FerserveError, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    import numpy.typing as npt

    from ferserve_client import Prediction

PATIENCE_S = 60.0
_EPOCH_S = time.time() - time.monotonic()
"""Turns the monotonic clock into seconds since 1970, the same way all the while."""


def now_s() -> float:
    """Seconds since 1970, never going back."""
    return _EPOCH_S + time.monotonic()


class Traffic:
    """Sends until asked to stop, and notes every answer."""

    def __init__(self, client: AsyncEmotionClient) -> None:
        self.answers: list[Answer] = []
        self.stop = asyncio.Event()
        self._client = client
        self._calls: set[asyncio.Task[None]] = set()

    async def unary(self, kind: str, face_count: int, rate: float) -> None:
        """Sends single calls, `rate` a second; each when it is due, even while others are unanswered."""
        faces = telling_faces(face_count)
        async for due_s in self._due(rate):
            call = asyncio.create_task(self._classify(kind, faces, due_s))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
        await asyncio.gather(*self._calls)

    async def stream(self, kind: str, face_count: int, rate: float) -> None:
        """Sends one stream of batches, `rate` a second."""
        faces = telling_faces(face_count)
        sent: list[tuple[float, float]] = []

        async def batches() -> AsyncIterator[npt.NDArray[np.uint8]]:
            async for due_s in self._due(rate):
                sent.append((due_s, now_s()))
                yield faces

        answered = 0
        try:
            async for answer in self._client.classify_stream(batches(), max_unanswered_batches=256):
                version = answer.servable.version if answer.servable else 0
                error = type(answer.error).__name__ if answer.error else ""
                self._note(kind, *sent[answer.sequence_id], version, answer.predictions, error)
                answered += 1
        except FerserveError as error:  # the stream broke: what is unanswered failed
            for due_s, sent_s in sent[answered:]:
                self._note(kind, due_s, sent_s, 0, (), type(error).__name__)

    async def _classify(self, kind: str, faces: npt.NDArray[np.uint8], due_s: float) -> None:
        sent_s = now_s()
        try:
            results = await self._client.classify(faces, timeout_s=PATIENCE_S)
        except FerserveError as error:
            self._note(kind, due_s, sent_s, 0, (), type(error).__name__)
            return
        version = results.servable.version if results.servable else 0
        self._note(kind, due_s, sent_s, version, results, "" if len(results) == len(faces) else "FaceCount")

    def _note(
        self,
        kind: str,
        due_s: float,
        sent_s: float,
        version: int,
        predictions: Iterable[Prediction],
        error: str,
    ) -> None:
        answered_s = now_s()
        # Even versions are twins.
        by_twin = {is_twin(np.asarray(list(each.scores.values()))) for each in predictions}
        mixed = not error and by_twin != {version % 2 == 0}
        self.answers.append(Answer(kind, due_s, sent_s, answered_s, version, mixed, error))

    async def _due(self, rate: float) -> AsyncIterator[float]:
        due_s = now_s()
        while not self.stop.is_set():
            yield due_s
            due_s += 1 / rate
            await asyncio.sleep(max(0.0, due_s - now_s()))


async def run(address: str, rate: float) -> list[Answer]:
    """Sends until SIGTERM, and returns what every call saw.

    Args:
        address: HOST:PORT of the server.
        rate: Single faces a second; the other loads go with it.
    """
    # No retries: a failure that a second try would hide is to be seen.
    async with AsyncEmotionClient(address, retry=RetryPolicy(max_attempts=1)) as client:
        traffic = Traffic(client)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, traffic.stop.set)
        await asyncio.gather(
            traffic.unary("1 face", 1, rate),
            traffic.unary("32 faces", 32, rate / 8),
            traffic.stream("stream, 4 faces", 4, rate / 2),
        )
        return traffic.answers


def main() -> None:
    """Sends and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("output", type=Path)
    parser.add_argument("--rate", type=float, required=True, help="single faces a second")
    options = parser.parse_args()
    answers = uvloop.run(run(options.address, options.rate))
    options.output.write_text(json.dumps([astuple(answer) for answer in answers]))


if __name__ == "__main__":
    main()
