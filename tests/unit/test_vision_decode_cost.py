"""Tests the bounds on decoding costs from the header, in bytes and in time."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from ferserve_server.domain.errors import LimitExceededError
from ferserve_server.vision.decode_budget import DecodeBudget
from ferserve_vision.decode import decode_grey
from ferserve_vision.decode_cost import decode_bytes, decode_ns
from ferserve_vision.formats.header import ImageFormat, ImageHeader
from ferserve_vision.formats.sniff import read_header
from support.pictures import encode, encode_image, noise

if TYPE_CHECKING:
    from collections.abc import Callable

FIFTY_MEGAPIXELS = {"width": 8660, "height": 5773}
SECOND_NS = 1e9


def many_scans(scan_count: int) -> bytes:
    """A progressive JPEG whose last scan comes `scan_count` times more."""
    data = encode(np.full((300, 400, 3), 90, np.uint8), progressive=True)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:last] + data[last:end] * scan_count + data[end:]


def test_ordinary_pictures_of_the_largest_size_are_within_two_seconds():
    for header, byte_count in (
        (ImageHeader(ImageFormat.JPEG, **FIFTY_MEGAPIXELS), 25_000_000),
        (ImageHeader(ImageFormat.JPEG, **FIFTY_MEGAPIXELS, scan_count=10), 15_000_000),
        (ImageHeader(ImageFormat.PNG, **FIFTY_MEGAPIXELS), 60_000_000),
        (ImageHeader(ImageFormat.WEBP, **FIFTY_MEGAPIXELS), 12_000_000),
    ):
        assert decode_ns(header, byte_count) < 2 * SECOND_NS
        assert decode_bytes(header) < 512 * 2**20


@pytest.mark.parametrize(
    "header",
    [
        ImageHeader(ImageFormat.JPEG, **FIFTY_MEGAPIXELS, scan_count=99),
        ImageHeader(ImageFormat.PNG, **FIFTY_MEGAPIXELS, has_alpha=True, bits_per_sample=16, channel_count=4),
    ],
)
def test_costly_kinds_of_the_largest_size_are_beyond_two_seconds(header: ImageHeader):
    assert decode_ns(header, 400_000) > 2 * SECOND_NS


def test_every_scan_costs():
    few, many = read_header(many_scans(1)), read_header(many_scans(80))
    assert many.scan_count == few.scan_count + 79
    assert decode_ns(many, 1000) > 4 * decode_ns(few, 1000)


def png_of_16_bits(levels: np.ndarray) -> bytes:
    """Encodes uint16 pixels, which Pillow writes in grey only."""
    return cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


KINDS: dict[str, Callable[[], bytes]] = {
    "grey JPEG": lambda: encode(noise(1000, 1000), quality=95),
    "progressive JPEG": lambda: encode(np.dstack([noise(1000, 1000)] * 3), progressive=True, quality=95),
    "grey PNG": lambda: encode(noise(1000, 1000), "PNG", compress_level=1),
    "RGBA PNG": lambda: encode(np.dstack([noise(1000, 1000)] * 4), "PNG", compress_level=1),
    "16-bit RGBA PNG": lambda: png_of_16_bits(np.dstack([noise(1000, 1000).astype(np.uint16) * 257] * 4)),
    "transparent palette": lambda: encode_image(
        Image.fromarray(noise(1000, 1000)).convert("P"), "PNG", transparency=3, compress_level=1
    ),
    "lossless WebP": lambda: encode(np.dstack([noise(1000, 1000)] * 3), "WEBP", quality=0),
}

MEASURE = """
import sys
from ferserve_vision.decode import decode_grey
data = sys.stdin.buffer.read()
def read(name):
    return next(int(line.split()[1]) * 1024 for line in open('/proc/self/status') if line.startswith(name))
open('/proc/self/clear_refs', 'w').write('5')
before = read('VmRSS')
decode_grey(data, 10**7)
print(read('VmHWM') - before)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_of_a_picture_stays_within_the_estimate(kind: str):
    data = KINDS[kind]()  # decoded in a process of its own, whose peak is its own
    done = subprocess.run([sys.executable, "-c", MEASURE], input=data, capture_output=True, check=True)
    # OpenCV's codecs and the copy of a PNG without its ancillary chunks come on top.
    assert int(done.stdout) < decode_bytes(read_header(data)) + len(data) + 4 * 2**20


def budget_of(mib: int, seconds: float = 60.0) -> DecodeBudget:
    return DecodeBudget(max_bytes=mib * 2**20, max_s=seconds)


MEGAPIXEL = ImageHeader(ImageFormat.JPEG, 1024, 1024)
"""Takes 3 MiB."""


def test_a_picture_beyond_the_whole_budget_is_rejected_by_name_of_the_setting():
    with pytest.raises(LimitExceededError, match=r"3 is above .* 2 \(setting max_decode_mib\)") as caught:  # noqa: SIM117
        with budget_of(2).reserved(MEGAPIXEL, 1000, 1):
            pass
    assert caught.value.reason == "IMAGE_TOO_LARGE"


def test_a_picture_that_takes_too_long_is_rejected_by_name_of_the_setting():
    with pytest.raises(LimitExceededError, match=r"99 scans.*setting max_decode_s") as caught:  # noqa: SIM117
        with budget_of(99, 0.1).reserved(ImageHeader(ImageFormat.JPEG, 1024, 1024, scan_count=99), 1000, 1):
            pass
    assert caught.value.reason == "IMAGE_TOO_LARGE"


def test_pictures_wait_for_the_memory_of_others_and_get_it_back_after_errors_too():
    budget, entered = budget_of(5), threading.Event()

    def second() -> None:
        with budget.reserved(MEGAPIXEL, 1000, 1):
            entered.set()

    thread = threading.Thread(target=second)
    with contextlib.suppress(ZeroDivisionError), budget.reserved(MEGAPIXEL, 1000, 1):
        thread.start()
        assert not entered.wait(0.2)
        raise ZeroDivisionError
    thread.join(10)
    assert entered.is_set()


def test_a_reduced_jpeg_takes_less():
    assert decode_bytes(MEGAPIXEL, 4) * 15 < decode_bytes(MEGAPIXEL)


def test_measured_times_lie_below_the_estimate():
    """Processor time; the estimate has a factor of 2 in hand on the machine that it was fitted on."""
    for data in (many_scans(80), *(make() for make in KINDS.values())):
        spent = []
        for _ in range(3):
            started = time.thread_time()
            decode_grey(data, 10**7)
            spent.append(time.thread_time() - started)
        assert min(spent) < 3 * decode_ns(read_header(data), len(data)) / SECOND_NS + 0.002
