"""Tests laws of requests coalesced on their way to the primary process: only their timing differs."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.errors import QueueFullError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.prediction import ScoredFaces
from support.worker_pair import BlockingScorer, Pair, until

FULL = QueueFullError(what="faces", queued=1, limit=1, setting="max_queue_faces", retry_after_s=0.1)


class Request(NamedTuple):
    """A request, after how many event-loop iterations it begins, and after how many more its caller leaves."""

    classes: list[int]
    priority: Priority
    deadline: float | None
    begins_after: int
    leaves_after: int | None


REQUESTS = st.builds(
    Request,
    st.lists(st.integers(0, 6), min_size=1, max_size=40),
    st.sampled_from(Priority),
    st.sampled_from([None, 10.0, 10.001, 20.0]),
    st.integers(0, 3),
    st.none() | st.integers(0, 6),
)


class Narrow(BlockingScorer):
    """Rejects more faces at a time than `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    async def score(self, crops, **options) -> ScoredFaces:
        if len(crops) > self.most:
            raise FULL
        return await super().score(crops, **options)


@settings(deadline=None)
@given(st.lists(REQUESTS, max_size=12), st.integers(1, 80), st.integers(0, 40), st.integers(40, 200))
def test_whoever_stays_gets_its_own_scores_or_its_own_rejection_and_nothing_is_left_behind(
    requests: list[Request], most: int, largest_batch: int, face_room: int
) -> None:
    async def play() -> None:
        scorer = Narrow(most)
        pair = Pair(scorer, face_room=face_room, largest_batch=largest_batch)
        tasks = [asyncio.create_task(_call(pair, request)) for request in requests]
        for _ in range(8):
            await asyncio.sleep(0)
        scorer.unblocked.set()
        for request, came in zip(requests, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if isinstance(came, ScoredFaces):
                np.testing.assert_array_equal(came.scores, fake_scores(_faces(request), 7))
            elif isinstance(came, QueueFullError):
                assert len(request.classes) > most or pair.rejected
            else:
                assert isinstance(came, asyncio.CancelledError)
                assert request.leaves_after is not None
        await until(lambda: not pair.allocator.taken and not pair.handler.face_count)
        assert pair.models.version._lease_count == 0

    asyncio.run(play())


def _faces(request: Request) -> np.ndarray:
    crops = np.zeros((len(request.classes), 48, 48, 1), np.uint8)
    crops[:, 0, 0, 0] = request.classes
    return crops


async def _call(pair: Pair, request: Request) -> ScoredFaces:
    for _ in range(request.begins_after):
        await asyncio.sleep(0)
    work = asyncio.create_task(pair.score(_faces(request), priority=request.priority, deadline=request.deadline))
    if request.leaves_after is not None:
        for _ in range(request.leaves_after):
            await asyncio.sleep(0)
        work.cancel()
    return await work
