"""Vision pools with fakes behind the port for detectors."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ferserve_server.domain.face import BoundingBox, DetectionOptions
from ferserve_server.vision.pool import FaceDetector, VisionObserver, VisionPool
from support.pictures import plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import numpy as np

    from ferserve_server.domain.ports import FoundFaces

OPTIONS = DetectionOptions()


class GatedDetector:
    """Finds nothing, and not before it is let: tells which pictures (by width) it was shown."""

    def __init__(self) -> None:
        self.validation = threading.Event()
        self.entered = threading.Semaphore(0)
        self.widths: list[int] = []
        self.threads: set[int] = set()

    def detect(
        self, grey: np.ndarray, _options: DetectionOptions, _shown_size: object = None
    ) -> list[BoundingBox]:
        self.widths.append(grey.shape[1])
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.validation.wait(10)
        return []


class ManyFaces:
    """Finds five faces in every picture, largest first."""

    def detect(
        self, _grey: np.ndarray, _options: DetectionOptions, _shown_size: object = None
    ) -> list[BoundingBox]:
        return [BoundingBox(left=size, top=size, width=size, height=size) for size in (50, 40, 30, 20, 10)]


class BrokenDetector:
    """Raises what no caller did wrong."""

    def detect(
        self, _grey: np.ndarray, _options: DetectionOptions, _shown_size: object = None
    ) -> list[BoundingBox]:
        raise ZeroDivisionError


class Told(VisionObserver):
    def __init__(self) -> None:
        self.found: list[FoundFaces] = []
        self.reasons: list[str] = []

    def faces_found(self, found: FoundFaces) -> None:
        self.found.append(found)

    def image_failed(self, reason: str) -> None:
        self.reasons.append(reason)


@asynccontextmanager
async def pool_of(
    make_detector: Callable[[], FaceDetector] | None = None,
    *,
    thread_count: int = 1,
    max_image_pixels: int = 1_000_000,
    max_faces_per_image: int = 16,
    max_queue_images: int = 8,
    observer: VisionObserver | None = None,
    ticks: Iterator[float] | None = None,
) -> AsyncIterator[VisionPool]:
    options = {} if make_detector is None else {"make_detector": make_detector}
    if ticks is not None:
        options["clock"] = lambda: next(ticks)
    pool = VisionPool(
        thread_count=thread_count,
        max_image_pixels=max_image_pixels,
        max_faces_per_image=max_faces_per_image,
        max_queue_images=max_queue_images,
        observer=observer,
        **options,
    )
    try:
        yield pool
    finally:
        pool.close()


@asynccontextmanager
async def busy_pool(*, max_queue_images: int) -> AsyncIterator[tuple[VisionPool, GatedDetector, asyncio.Task]]:
    """A pool of one thread, which is held by a picture 10 pixels wide."""
    detector = GatedDetector()
    async with pool_of(lambda: detector, max_queue_images=max_queue_images) as pool:
        running = asyncio.create_task(pool.find_faces(plain(10), OPTIONS))
        assert await asyncio.to_thread(detector.entered.acquire, timeout=10)
        try:
            yield pool, detector, running
        finally:
            detector.validation.set()
