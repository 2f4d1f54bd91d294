"""Tests the reduction factor of JPEG decoding: a table, and the decoder's output."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from ferserve_vision.crop import crop_box
from ferserve_vision.decode import decode_grey, decode_pixels, read_bounded_header
from ferserve_vision.errors import PictureUnreadableError
from ferserve_vision.formats.header import ImageFormat, ImageHeader
from ferserve_vision.geometry import Box
from ferserve_vision.reduction import reduction_for
from support.pictures import corner_mark, encode, encode_image, enlarged_astronaut

PLENTY = 10_000_000
HAAR = {"side_pixels": 640, "min_face_pixels": 40}
YUNET = {"side_pixels": 480, "min_face_pixels": 16}


@pytest.mark.parametrize(
    ("width", "height", "options", "reduction"),
    [
        pytest.param(640, 480, {}, 1, id="a webcam's picture"),
        pytest.param(1920, 1080, {}, 1, id="a half of which has too few pixels"),
        pytest.param(2558, 1440, {}, 1, id="a pixel short"),
        pytest.param(2559, 1440, {}, 2, id="a side that is rounded up"),
        pytest.param(4000, 3000, {}, 2, id="12 megapixels"),
        pytest.param(3000, 4000, {}, 2, id="12 megapixels upright"),
        pytest.param(6000, 4000, {}, 4, id="24 megapixels"),
        pytest.param(65_535, 1, {}, 8, id="a line, and no more than an eighth"),
        pytest.param(4000, 3000, {"side_pixels": 64}, 8, id="a rough search"),
        pytest.param(4000, 3000, {"side_pixels": 1920}, 1, id="a fine search"),
        pytest.param(4000, 3000, {"min_face_pixels": 16}, 2, id="small faces that still have 48 pixels"),
        pytest.param(3838, 2000, {"min_face_pixels": 16}, 1, id="small faces that would have fewer"),
        pytest.param(3840, 2160, YUNET, 2, id="4K as YuNet searches it"),
        pytest.param(1920, 1080, YUNET, 1, id="1080p as YuNet searches it"),
        pytest.param(6000, 4000, {"min_face_pixels": 4096}, 4, id="large faces make no difference"),
    ],
)
def test_a_jpeg_is_reduced_as_far_as_the_search_and_the_crops_allow(
    width: int, height: int, options: dict, reduction: int
):
    header = ImageHeader(ImageFormat.JPEG, width, height)
    assert reduction_for(header, **(HAAR | options)) == reduction


@pytest.mark.parametrize("kind", [ImageFormat.PNG, ImageFormat.WEBP])
def test_other_formats_are_never_reduced(kind: ImageFormat):
    assert reduction_for(ImageHeader(kind, 8000, 6000), **HAAR) == 1


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_jpeg_of_every_mode_decodes_reduced_to_what_its_pixels_average_to(
    mode: str, progressive: bool, reduction: int
):
    image = Image.fromarray(enlarged_astronaut(1.0)).convert(mode)
    data = encode_image(image, "JPEG", quality=95, progressive=progressive)
    side = 512 // reduction
    means = decode_grey(data, PLENTY).reshape(side, reduction, side, reduction).mean(axis=(1, 3))
    grey = decode_pixels(data, read_bounded_header(data, PLENTY), reduction)
    assert np.abs(grey - means).mean() < 2


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_picture_is_turned_as_shown_and_its_odd_sides_are_rounded_up(orientation: int, reduction: int):
    data = encode(corner_mark(601, 403), orientation=orientation, quality=95)
    header = read_bounded_header(data, PLENTY)
    full, grey = decode_pixels(data, header), decode_pixels(data, header, reduction)
    assert header.shown_size == full.shape[::-1] == ((601, 403) if orientation < 5 else (403, 601))
    assert grey.shape == tuple(-(-side // reduction) for side in full.shape)
    assert grey.flags.c_contiguous
    shrunk = cv2.resize(full, grey.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(grey.astype(int) - shrunk).mean() < 2


def test_pixels_that_are_not_of_the_size_in_the_header_are_rejected_reduced_too():
    data = encode(corner_mark(601, 403))
    for width, height in ((605, 403), (601, 399)):
        with pytest.raises(PictureUnreadableError, match="not of the size"):
            decode_pixels(data, ImageHeader(ImageFormat.JPEG, width, height), 4)


def test_a_large_jpeg_without_its_tables_is_rejected_reduced_too():
    data = encode(corner_mark(2600, 40)).replace(b"\xff\xdb", b"\xff\xfe")
    header = read_bounded_header(data, PLENTY)
    assert reduction_for(header, **HAAR) == 2
    with pytest.raises(PictureUnreadableError, match="pixel data is damaged"):
        decode_pixels(data, header, 2)


@pytest.mark.parametrize("reduction", [2, 4])
def test_a_crop_from_a_reduced_picture_is_that_from_the_full_one(reduction: int):
    data = encode(enlarged_astronaut(3.0)[:, :1401], quality=92)
    header = read_bounded_header(data, PLENTY)
    full, grey = decode_pixels(data, header), decode_pixels(data, header, reduction)
    scales = grey.shape[1] / full.shape[1], grey.shape[0] / full.shape[0]
    for box in (Box(540, 212, 320, 320), Box(0, 0, 400, 352), Box(1000, 1128, 401, 408)):
        crop = crop_box(grey, box.mapped(*scales))
        assert np.abs(crop.astype(int) - crop_box(full, box)).mean() < 3
