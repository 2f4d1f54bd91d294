"""The threads that read pictures: limits, order, cancellation, and one picture never failing another."""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.pictures import astronaut, bomb_png, corner_mark, encode, noise, turned_astronaut

from ferserve_server.domain.detection import DetectionOptions
from ferserve_server.domain.errors import (
    DrainingError,
    ImageFormatError,
    ImageUnreadableError,
    LimitExceededError,
    QueueFullError,
)
from ferserve_server.domain.face import BoundingBox
from ferserve_server.vision.pool import CROPS_PER_TURN, FaceDetector, VisionObserver, VisionPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from ferserve_server.domain.ports import FoundFaces

OPTIONS = DetectionOptions()


class GatedDetector:
    """Finds nothing, and not before it is let: tells which pictures (by width) it was shown."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.widths: list[int] = []
        self.threads: set[int] = set()

    def detect(self, grey: np.ndarray, _options: DetectionOptions) -> list[BoundingBox]:
        self.widths.append(grey.shape[1])
        self.threads.add(threading.get_ident())
        self.entered.release()
        assert self.gate.wait(10)
        return []


class ManyFaces:
    """Finds five faces in every picture, largest first."""

    def detect(self, _grey: np.ndarray, _options: DetectionOptions) -> list[BoundingBox]:
        return [BoundingBox(left=size, top=size, width=size, height=size) for size in (50, 40, 30, 20, 10)]


class BrokenDetector:
    def detect(self, _grey: np.ndarray, _options: DetectionOptions) -> list[BoundingBox]:
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
            detector.gate.set()


def plain(width: int) -> bytes:
    return encode(np.full((10, width), 100, np.uint8), "PNG")


async def test_a_portrait_has_one_face_and_its_crop_is_what_the_box_holds():
    async with pool_of() as pool:
        found = await pool.find_faces(turned_astronaut(6), OPTIONS)
    assert (found.width, found.height, found.omitted_face_count) == (512, 512, 0)
    (box,), (crop,) = found.boxes, found.crops
    assert 80 <= box.width <= 150
    assert crop.shape == (48, 48)
    held = astronaut()[box.top : box.top + box.height, box.left : box.left + box.width]
    assert abs(float(crop.mean()) - float(held.mean())) < 2


async def test_the_largest_faces_are_kept_and_the_rest_is_counted():
    async with pool_of(ManyFaces, max_faces_per_image=2) as pool:
        found = await pool.find_faces(encode(noise(100, 100)), OPTIONS)
    assert [box.width for box in found.boxes] == [50, 40]
    assert len(found.crops) == 2
    assert found.omitted_face_count == 3


async def test_a_whole_image_is_one_face_and_is_not_searched():
    async with pool_of(BrokenDetector) as pool:
        found = await pool.find_faces(encode(corner_mark(96, 64), "PNG"), DetectionOptions(whole_image=True))
    assert found.boxes == (BoundingBox(left=0, top=0, width=96, height=64),)
    assert found.detect_s == 0.0
    assert (found.crops[0][:24, :24] == 20).all()
    assert found.crops[0].shape == (48, 48)


async def test_no_face_is_no_error():
    async with pool_of() as pool:
        found = await pool.find_faces(encode(np.full((1, 1), 9, np.uint8)), OPTIONS)
    assert (found.width, found.height, found.boxes, found.crops) == (1, 1, (), ())


async def test_times_are_taken_inside_the_thread_in_seconds():
    async with pool_of(ManyFaces, ticks=iter([10.0, 10.25, 11.0])) as pool:
        found = await pool.find_faces(encode(noise(100, 100)), OPTIONS)
    assert (found.decode_s, found.detect_s) == (0.25, 0.75)


async def test_a_broken_picture_never_fails_its_neighbours():
    good = encode(np.full((20, 20), 50, np.uint8), "PNG")
    images = [good, b"", b"text", good, encode(noise(50, 50))[:500], bomb_png(), good]
    told = Told()
    async with pool_of(observer=told) as pool:
        results = await pool.read_crops(images)
    kinds = [type(result) for result in results]
    assert kinds[1:3] == [ImageFormatError, ImageFormatError]
    assert kinds[4:6] == [ImageUnreadableError, LimitExceededError]
    for index in (0, 3, 6):
        assert np.array_equal(results[index], np.full((48, 48), 50, np.uint8))
    assert told.reasons == [
        "IMAGE_FORMAT_UNSUPPORTED",
        "IMAGE_FORMAT_UNSUPPORTED",
        "IMAGE_UNREADABLE",
        "IMAGE_TOO_LARGE",
    ]


async def test_more_crops_than_a_turn_come_back_in_order():
    levels = [level % 256 for level in range(3 * CROPS_PER_TURN + 5)]
    images = [encode(np.full((5, 5), level, np.uint8), "PNG") for level in levels]
    async with pool_of(thread_count=2) as pool:
        results = await pool.read_crops(images)
        assert await pool.read_crops([]) == []
    assert [int(crop[0, 0]) for crop in results] == levels


async def test_raw_crops_are_resized():
    async with pool_of() as pool:
        assert pool.resize(np.zeros((3, 60, 50, 1), np.uint8)).shape == (3, 48, 48, 1)


async def test_the_observer_is_told_of_faces_and_of_failures():
    told = Told()
    async with pool_of(ManyFaces, observer=told) as pool:
        found = await pool.find_faces(encode(noise(100, 100)), OPTIONS)
        with pytest.raises(ImageFormatError):
            await pool.find_faces(b"", OPTIONS)
    assert told.found == [found]
    assert told.reasons == ["IMAGE_FORMAT_UNSUPPORTED"]


async def test_a_bug_in_the_detector_is_raised_and_the_pool_goes_on():
    told = Told()
    async with pool_of(BrokenDetector, observer=told) as pool:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await pool.find_faces(plain(10), OPTIONS)
        assert len(await pool.read_crops([plain(10)])) == 1
    assert told.reasons == ["INTERNAL"] * 3


async def test_a_full_queue_refuses_at_once_and_names_its_setting():
    async with busy_pool(max_queue_images=2) as (pool, detector, running):
        waiting = [asyncio.create_task(pool.find_faces(plain(width), OPTIONS)) for width in (11, 12)]
        await asyncio.sleep(0)
        assert pool.waiting_count == 2
        with pytest.raises(QueueFullError, match=r"2 images wait, .* is 2 \(setting max_queue_images\)") as raised:
            await pool.find_faces(plain(13), OPTIONS)
        with pytest.raises(QueueFullError):
            await pool.read_crops([plain(13)])
        assert raised.value.retry_after_s is not None
        assert raised.value.retry_after_s > 0
        detector.gate.set()
        await asyncio.gather(running, *waiting)
        assert pool.waiting_count == 0
        await pool.find_faces(plain(14), OPTIONS)
    assert detector.widths == [10, 11, 12, 14]


async def test_without_a_queue_an_idle_thread_takes_a_picture_and_a_busy_one_does_not():
    async with busy_pool(max_queue_images=0) as (pool, detector, running):
        with pytest.raises(QueueFullError):
            await pool.find_faces(plain(11), OPTIONS)
        detector.gate.set()
        await running
        await pool.find_faces(plain(12), OPTIONS)
    assert detector.widths == [10, 12]


async def test_a_cancelled_picture_gives_up_its_place_and_is_never_decoded():
    async with busy_pool(max_queue_images=1) as (pool, detector, running):
        left = asyncio.create_task(pool.find_faces(plain(11), OPTIONS))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert pool.waiting_count == 0
        stays = asyncio.create_task(pool.find_faces(plain(12), OPTIONS))
        await asyncio.sleep(0)
        detector.gate.set()
        await asyncio.gather(running, stays)
    assert detector.widths == [10, 12]


async def test_cancelled_crops_give_up_their_places():
    async with busy_pool(max_queue_images=1) as (pool, detector, running):
        left = asyncio.create_task(pool.read_crops([plain(11)] * (2 * CROPS_PER_TURN)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pool.waiting_count == 2 * CROPS_PER_TURN
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert pool.waiting_count == 0
        detector.gate.set()
        await running


async def test_a_picture_that_is_cancelled_while_read_keeps_its_thread_until_it_is_done():
    async with busy_pool(max_queue_images=1) as (pool, detector, running):
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        waits = asyncio.create_task(pool.find_faces(plain(11), OPTIONS))
        await asyncio.sleep(0)
        assert pool.waiting_count == 1
        with pytest.raises(QueueFullError):
            await pool.find_faces(plain(12), OPTIONS)
        detector.gate.set()
        await waits
    assert detector.widths == [10, 11]


async def test_pictures_are_read_at_once_in_as_many_threads_as_asked_for_each_with_its_detector():
    detectors: list[GatedDetector] = []

    def make() -> GatedDetector:
        detectors.append(GatedDetector())
        return detectors[-1]

    async with pool_of(make, thread_count=3) as pool:
        pictures = [asyncio.create_task(pool.find_faces(plain(width), OPTIONS)) for width in (10, 11, 12)]
        for detector in detectors:
            assert await asyncio.to_thread(detector.entered.acquire, timeout=10)
        for detector in detectors:
            detector.gate.set()
        await asyncio.gather(*pictures)
    assert len(detectors) == 3
    assert sorted(itertools.chain.from_iterable(detector.widths for detector in detectors)) == [10, 11, 12]
    assert len(set.union(*(detector.threads for detector in detectors))) == 3


async def test_a_longer_queue_asks_to_come_back_later():
    waits_s = []
    for depth in (1, 4):
        async with busy_pool(max_queue_images=depth) as (pool, detector, running):
            waiting = [asyncio.create_task(pool.find_faces(plain(11), OPTIONS)) for _ in range(depth)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError) as raised:
                await pool.find_faces(plain(12), OPTIONS)
            waits_s.append(raised.value.retry_after_s)
            detector.gate.set()
            await asyncio.gather(running, *waiting)
    assert waits_s[1] == pytest.approx(4 * waits_s[0])


async def test_a_closed_pool_takes_nothing():
    async with pool_of() as pool:
        pool.close()
        with pytest.raises(DrainingError):
            await pool.find_faces(plain(10), OPTIONS)
        with pytest.raises(DrainingError):
            await pool.read_crops([plain(10)])
