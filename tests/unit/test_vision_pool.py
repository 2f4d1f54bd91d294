"""Tests the threads that read pictures: limits, and one picture never failing another."""

from __future__ import annotations

import asyncio
import os
import sys

import numpy as np
import pytest

from ferserve_server.domain import metrics
from ferserve_server.domain.errors import ImageFormatError, ImageUnreadableError, LimitExceededError
from ferserve_server.domain.face import BoundingBox, DetectionOptions
from ferserve_server.telemetry.recorder import PrometheusRecorder
from ferserve_server.vision.pool import CROPS_PER_JOB
from support.pictures import astronaut, bomb_png, corner_mark, encode, noise, plain, turned_astronaut
from support.recorder import Recorder
from support.vision_pools import BlockingDetector, BrokenDetector, ManyFaces, pool_of

OPTIONS = DetectionOptions()


async def test_a_portrait_has_one_face_and_its_crop_is_what_the_box_holds():
    async with pool_of() as pool:
        found = await pool.find_faces(turned_astronaut(6), OPTIONS)
    assert (found.width, found.height, found.omitted_face_count) == (512, 512, 0)
    (box,), (crop,) = found.boxes, found.crops
    assert 80 <= box.width <= 150
    assert crop.shape == (48, 48)
    held = astronaut()[box.top : box.top + box.height, box.left : box.left + box.width]
    assert abs(float(crop.mean()) - float(held.mean())) < 12
    (location,) = found.locations
    assert location.score > 0.8
    assert location.landmarks is not None
    assert box.left < location.landmarks.left_eye.x < location.landmarks.right_eye.x < box.left + box.width


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
    assert (found.width, found.height, found.locations, found.crops) == (1, 1, (), ())


async def test_times_are_taken_inside_the_thread_in_seconds():
    async with pool_of(ManyFaces, ticks=iter([10.0, 10.25, 11.0])) as pool:
        found = await pool.find_faces(encode(noise(100, 100)), OPTIONS)
    assert (found.decode_s, found.detect_s) == (0.25, 0.75)


async def test_a_broken_picture_never_fails_its_neighbours():
    good = encode(np.full((20, 20), 50, np.uint8), "PNG")
    images = [good, b"", b"text", good, encode(noise(50, 50))[:500], bomb_png(), good]
    recorder = Recorder()
    async with pool_of(recorder=recorder) as pool:
        results = await pool.read_crops(images)
    kinds = [type(result) for result in results]
    assert kinds[1:3] == [ImageFormatError, ImageFormatError]
    assert kinds[4:6] == [ImageUnreadableError, LimitExceededError]
    for index in (0, 3, 6):
        assert np.array_equal(results[index], np.full((48, 48), 50, np.uint8))
    assert recorder.labels_of(metrics.IMAGE_FAILURES) == [
        ("IMAGE_FORMAT_UNSUPPORTED",),
        ("IMAGE_FORMAT_UNSUPPORTED",),
        ("IMAGE_UNREADABLE",),
        ("IMAGE_TOO_LARGE",),
    ]


async def test_more_crops_than_a_job_come_back_in_order():
    levels = [level % 256 for level in range(3 * CROPS_PER_JOB + 5)]
    images = [encode(np.full((5, 5), level, np.uint8), "PNG") for level in levels]
    async with pool_of(thread_count=2) as pool:
        results = await pool.read_crops(images)
        assert await pool.read_crops([]) == []
    assert [int(crop[0, 0]) for crop in results] == levels


async def test_raw_crops_are_resized():
    async with pool_of() as pool:
        for side in (50, 500):
            resized = await pool.resize(np.zeros((3, 60, side, 1), np.uint8))
            assert resized.shape == (3, 48, 48, 1)


async def test_faces_and_failures_are_recorded():
    recorder = Recorder()
    async with pool_of(ManyFaces, recorder=recorder) as pool:
        found = await pool.find_faces(encode(noise(100, 100)), OPTIONS)
        with pytest.raises(ImageFormatError):
            await pool.find_faces(b"", OPTIONS)
    assert recorder.of(metrics.DECODE_SECONDS) == [(found.decode_s,)]
    assert recorder.of(metrics.DETECT_SECONDS) == [(found.detect_s,)]
    assert recorder.of(metrics.DETECTED_FACES) == [(len(found.crops) + found.omitted_face_count,)]
    assert recorder.labels_of(metrics.IMAGE_FAILURES) == [("IMAGE_FORMAT_UNSUPPORTED",)]


async def test_waiting_pictures_are_exported():
    detector, recorder = BlockingDetector(), PrometheusRecorder()

    def exported() -> float | None:
        return recorder.registry.get_sample_value("ferserve_queue_depth_images")

    async with pool_of(lambda: detector, recorder=recorder) as pool:
        reading = [asyncio.create_task(pool.find_faces(plain(10), OPTIONS)) for _ in range(3)]
        assert await asyncio.to_thread(detector.entered.acquire, timeout=30)
        assert exported() == 2
        detector.unblocked.set()
        await asyncio.gather(*reading)
        assert exported() == 0


async def test_a_bug_in_the_detector_is_raised_and_the_pool_goes_on():
    recorder = Recorder()
    async with pool_of(BrokenDetector, recorder=recorder) as pool:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await pool.find_faces(plain(10), OPTIONS)
        assert len(await pool.read_crops([plain(10)])) == 1
    assert recorder.labels_of(metrics.IMAGE_FAILURES) == [("INTERNAL",)] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
async def test_the_threads_give_way_to_the_rest_of_the_server():
    class Asking(ManyFaces):
        def detect(self, grey, options):
            niceness.append(os.getpriority(os.PRIO_PROCESS, 0))
            return super().detect(grey, options)

    niceness: list[int] = []
    async with pool_of(Asking) as pool:
        await pool.find_faces(encode(astronaut()), OPTIONS)
    assert niceness[0] > os.getpriority(os.PRIO_PROCESS, 0)
