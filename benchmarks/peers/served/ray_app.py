"""Serves with Ray Serve: its HTTP proxy, two replicas, batches of requests.

Usage: ray_app.py PORT
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import ray
from net import Net, faces_of
from ray import serve
from starlette.requests import Request  # noqa: TC002 - Ray reads the annotation
from starlette.responses import Response

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@serve.deployment(num_replicas=2, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Classifier:
    """Classifies raw grey pixels into float32 rows."""

    def __init__(self) -> None:
        self.net = Net()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)  # type: ignore[untyped-decorator]
    async def score(self, requests: list[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.float32]]:
        """Scores the requests of a batch, on a thread so that the next ones can come in."""
        return await asyncio.to_thread(self.net.score_together, requests)

    async def __call__(self, request: Request) -> Response:
        """Answers one request."""
        scores = await self.score(faces_of(await request.body()))
        return Response(scores.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Classifier.bind())  # type: ignore[attr-defined]  # the decorator adds it
    while True:
        time.sleep(60)
