"""Builds vision pools with fakes behind the port for detectors."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ferserve_server.domain.face import DetectionOptions
from ferserve_server.vision.limits import VisionLimits
from ferserve_server.vision.pool import VisionPool
from ferserve_vision.detectors.haar import HAAR_DEFAULTS
from ferserve_vision.geometry import Box, Detection
from support.pictures import plain
from support.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import numpy as np

    from ferserve_server.domain.metrics import MetricsRecorder
    from ferserve_vision.detectors.port import FaceDetector
    from ferserve_vision.options import DetectionOptions as SearchOptions

OPTIONS = DetectionOptions()


class BlockingDetector:
    """Finds nothing, and not before it is let: tells which pictures (by width) it was shown."""

    def __init__(self) -> None:
        self.unblocked = threading.Event()
        self.entered = threading.Semaphore(0)
        self.widths: list[int] = []
        self.threads: set[int] = set()

    defaults = HAAR_DEFAULTS

    def detect(self, grey: np.ndarray, _options: SearchOptions) -> list[Detection]:
        self.widths.append(grey.shape[1])
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.unblocked.wait(10)
        return []


class ManyFaces:
    """Finds five faces in every picture, largest first."""

    defaults = HAAR_DEFAULTS

    def detect(self, _grey: np.ndarray, _options: SearchOptions) -> list[Detection]:
        return [Detection(Box(size, size, size, size), size / 100) for size in (50, 40, 30, 20, 10)]


class BrokenDetector:
    """Raises what no caller did wrong."""

    defaults = HAAR_DEFAULTS

    def detect(self, _grey: np.ndarray, _options: SearchOptions) -> list[Detection]:
        raise ZeroDivisionError


@asynccontextmanager
async def pool_of(
    make_detector: Callable[[], FaceDetector] | None = None,
    *,
    thread_count: int = 1,
    max_image_pixels: int = 1_000_000,
    max_faces_per_image: int = 16,
    max_queue_images: int = 8,
    max_queue_bytes: int = 2**20,
    max_decode_bytes: int = 2**26,
    max_decode_s: float = 2.0,
    recorder: MetricsRecorder | None = None,
    ticks: Iterator[float] | None = None,
) -> AsyncIterator[VisionPool]:
    options = {} if make_detector is None else {"detectors": {"haar": make_detector}}
    if ticks is not None:
        options["clock"] = lambda: next(ticks)
    pool = VisionPool(
        thread_count=thread_count,
        limits=VisionLimits(
            max_image_pixels=max_image_pixels,
            max_faces_per_image=max_faces_per_image,
            max_queue_images=max_queue_images,
            max_queue_bytes=max_queue_bytes,
            max_decode_bytes=max_decode_bytes,
            max_decode_s=max_decode_s,
        ),
        recorder=recorder or Recorder(),
        **options,
    )
    try:
        yield pool
    finally:
        pool.close()


@asynccontextmanager
async def busy_pool(
    *, max_queue_images: int, max_queue_bytes: int = 2**20
) -> AsyncIterator[tuple[VisionPool, BlockingDetector, asyncio.Task]]:
    """A pool of one thread, which is held by a picture 10 pixels wide."""
    detector = BlockingDetector()
    async with pool_of(
        lambda: detector, max_queue_images=max_queue_images, max_queue_bytes=max_queue_bytes
    ) as pool:
        running = asyncio.create_task(pool.find_faces(plain(10), OPTIONS))
        assert await asyncio.to_thread(detector.entered.acquire, timeout=10)
        try:
            yield pool, detector, running
        finally:
            detector.unblocked.set()
