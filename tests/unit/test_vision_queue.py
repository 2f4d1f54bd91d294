"""Tests the queue before the threads that read pictures: order, limit, cancellation, close."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import sys

import pytest

from ferserve_server.domain.errors import DrainingError, FerserveError, QueueFullError
from ferserve_server.domain.face import DetectionOptions
from ferserve_server.vision.pool import CROPS_PER_JOB
from support.pictures import bomb_png, encode, noise, plain
from support.vision_pools import BlockingDetector, busy_pool, pool_of

OPTIONS = DetectionOptions()


async def test_a_full_queue_rejects_at_once_and_names_its_setting():
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
        detector.unblocked.set()
        await asyncio.gather(running, *waiting)
        assert pool.waiting_count == 0
        await pool.find_faces(plain(14), OPTIONS)
    assert detector.widths == [10, 11, 12, 14]


async def test_without_a_queue_an_idle_thread_takes_a_picture_and_a_busy_one_does_not():
    async with busy_pool(max_queue_images=0) as (pool, detector, running):
        with pytest.raises(QueueFullError):
            await pool.find_faces(plain(11), OPTIONS)
        detector.unblocked.set()
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
        detector.unblocked.set()
        await asyncio.gather(running, stays)
    assert detector.widths == [10, 12]


async def test_cancelled_crops_give_up_their_places():
    async with busy_pool(max_queue_images=1) as (pool, detector, running):
        left = asyncio.create_task(pool.read_crops([plain(11)] * (2 * CROPS_PER_JOB)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert pool.waiting_count == 2 * CROPS_PER_JOB
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert pool.waiting_count == 0
        detector.unblocked.set()
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
        detector.unblocked.set()
        await waits
    assert detector.widths == [10, 11]


async def test_pictures_are_read_at_once_in_as_many_threads_as_asked_for_each_with_its_detector():
    detectors: list[BlockingDetector] = []

    def make() -> BlockingDetector:
        detectors.append(BlockingDetector())
        return detectors[-1]

    async with pool_of(make, thread_count=3) as pool:
        pictures = [asyncio.create_task(pool.find_faces(plain(width), OPTIONS)) for width in (10, 11, 12)]
        for detector in detectors:
            assert await asyncio.to_thread(detector.entered.acquire, timeout=10)
        for detector in detectors:
            detector.unblocked.set()
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
            detector.unblocked.set()
            await asyncio.gather(running, *waiting)
    assert waits_s[1] == pytest.approx(4 * waits_s[0])


async def test_a_closed_pool_takes_nothing():
    async with pool_of() as pool:
        pool.close()
        with pytest.raises(DrainingError):
            await pool.find_faces(plain(10), OPTIONS)
        with pytest.raises(DrainingError):
            await pool.read_crops([plain(10)])


async def test_pictures_are_bounded_in_bytes_too():
    big = encode(noise(300, 300), "PNG")
    async with busy_pool(max_queue_images=8, max_queue_bytes=len(big) + 500) as (pool, detector, running):
        waits = asyncio.create_task(pool.find_faces(big, OPTIONS))
        await asyncio.sleep(0)
        with pytest.raises(QueueFullError, match="setting max_queue_image_mib"):
            await pool.find_faces(big, OPTIONS)
        detector.unblocked.set()
        await asyncio.gather(running, waits)
        await pool.find_faces(big, OPTIONS)  # alone a picture of any size is taken


async def test_nothing_keeps_a_picture_that_failed():
    """Errors, futures and frames that refer to each other would, until the garbage collector comes."""
    async with pool_of() as pool:
        gc.disable()
        try:
            for image in (b"no picture of any kind", encode(noise(50, 50))[:500], bomb_png()):
                before = sys.getrefcount(image)
                with contextlib.suppress(FerserveError):
                    await pool.find_faces(image, OPTIONS)
                assert isinstance((await pool.read_crops([image]))[0], FerserveError)
                async with asyncio.timeout(5):  # a thread of the pool may still hold its last picture
                    while sys.getrefcount(image) > before:  # noqa: ASYNC110 - nothing tells of it
                        await asyncio.sleep(0.001)
        finally:
            gc.enable()
