"""By how much a JPEG is decoded smaller: a table, and what comes out of the decoder."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from ferserve_server.domain.errors import ImageUnreadableError
from ferserve_server.domain.face import BoundingBox, DetectionOptions
from ferserve_server.vision.crop import crop_face
from ferserve_server.vision.decode import decode_grey, decode_pixels, read_bounded_header
from ferserve_server.vision.haar import HaarDetector
from ferserve_server.vision.header import ImageFormat, ImageHeader
from ferserve_server.vision.reduction import reduction_for
from support.pictures import Pixels, corner_mark, encode, encode_image, enlarged_astronaut
from support.vision_pools import pool_of

PLENTY = 10_000_000


class Watching(HaarDetector):
    """Remembers the sizes of what it was shown, width first."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def detect(
        self, grey: Pixels, options: DetectionOptions, shown_size: tuple[int, int] | None = None
    ) -> list[BoundingBox]:
        self.sizes.append(grey.shape[::-1])
        return super().detect(grey, options, shown_size)


@pytest.mark.parametrize(
    ("width", "height", "options", "reduction"),
    [
        pytest.param(640, 480, {}, 1, id="a webcam's picture"),
        pytest.param(1920, 1080, {}, 1, id="a half of which has too few pixels to spare"),
        pytest.param(2558, 1440, {}, 1, id="a pixel short"),
        pytest.param(2559, 1440, {}, 2, id="a side that is rounded up"),
        pytest.param(4000, 3000, {}, 2, id="12 megapixels"),
        pytest.param(3000, 4000, {}, 2, id="12 megapixels upright"),
        pytest.param(6000, 4000, {}, 4, id="24 megapixels"),
        pytest.param(65_535, 1, {}, 8, id="a line, and no more than an eighth"),
        pytest.param(4000, 3000, {"detection_side_pixels": 64}, 8, id="a rough search"),
        pytest.param(4000, 3000, {"detection_side_pixels": 1920}, 1, id="a fine search"),
        pytest.param(4000, 3000, {"min_face_pixels": 16}, 2, id="small faces that still have 48 pixels"),
        pytest.param(3838, 2000, {"min_face_pixels": 16}, 1, id="small faces that would have fewer"),
        pytest.param(6000, 4000, {"min_face_pixels": 4096}, 4, id="large faces make no difference"),
        pytest.param(6000, 4000, {"whole_image": True}, 1, id="nothing is searched"),
    ],
)
def test_a_jpeg_is_reduced_as_far_as_the_search_and_the_crops_allow(
    width: int, height: int, options: dict, reduction: int
):
    header = ImageHeader(ImageFormat.JPEG, width, height)
    assert reduction_for(header, DetectionOptions(**options)) == reduction


@pytest.mark.parametrize("kind", [ImageFormat.PNG, ImageFormat.WEBP])
def test_other_formats_are_never_reduced(kind: ImageFormat):
    assert reduction_for(ImageHeader(kind, 8000, 6000), DetectionOptions()) == 1


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


def test_pixels_that_are_not_of_the_size_in_the_header_are_refused_reduced_too():
    data = encode(corner_mark(601, 403))
    for width, height in ((605, 403), (601, 399)):
        with pytest.raises(ImageUnreadableError, match="not of the size"):
            decode_pixels(data, ImageHeader(ImageFormat.JPEG, width, height), 4)


def test_a_large_jpeg_without_its_tables_is_refused_reduced_too():
    data = encode(corner_mark(2600, 40)).replace(b"\xff\xdb", b"\xff\xfe")
    header = read_bounded_header(data, PLENTY)
    assert reduction_for(header, DetectionOptions()) == 2
    with pytest.raises(ImageUnreadableError, match="pixel data is damaged"):
        decode_pixels(data, header, 2)


@pytest.mark.parametrize("reduction", [2, 4])
@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_a_crop_from_a_reduced_picture_is_that_from_the_full_one(reduction: int, margin: float):
    data = encode(enlarged_astronaut(3.0)[:, :1401], quality=92)
    header = read_bounded_header(data, PLENTY)
    full, grey = decode_pixels(data, header), decode_pixels(data, header, reduction)
    for box in (BoundingBox(540, 212, 320, 320), BoundingBox(0, 0, 400, 352), BoundingBox(1000, 1128, 401, 408)):
        crop = crop_face(grey, box, margin, header.shown_size)
        assert np.abs(crop.astype(int) - crop_face(full, box, margin)).mean() < 3


@pytest.mark.parametrize("orientation", [1, 6])
async def test_boxes_and_crops_of_a_phones_photograph_are_those_of_the_full_picture(orientation: int):
    shown = enlarged_astronaut(5.0)
    stored = np.ascontiguousarray(np.rot90(shown, 1)) if orientation == 6 else shown
    detector = Watching()
    async with pool_of(lambda: detector, max_image_pixels=PLENTY) as pool:
        reduced = await pool.find_faces(encode(stored, quality=92, orientation=orientation), DetectionOptions())
        full = await pool.find_faces(encode(shown, "PNG", compress_level=1), DetectionOptions())
    assert detector.sizes == [(1280, 1280), (2560, 2560)]
    assert (reduced.width, reduced.height) == (full.width, full.height) == (2560, 2560)
    (box,), (expected,) = reduced.boxes, full.boxes
    for name in ("left", "top", "width", "height"):
        assert abs(getattr(box, name) - getattr(expected, name)) <= 16, name  # 4 pixels of the searched copy
    assert np.abs(reduced.crops[0].astype(int) - full.crops[0]).mean() < 8


async def test_a_large_jpeg_that_is_a_face_itself_is_decoded_in_full():
    data = encode(enlarged_astronaut(5.0), quality=92)
    async with pool_of(max_image_pixels=PLENTY) as pool:
        found = await pool.find_faces(data, DetectionOptions(whole_image=True))
        (crop,) = await pool.read_crops([data])
    assert found.boxes == (BoundingBox(0, 0, 2560, 2560),)
    whole = np.asarray(Image.open(io.BytesIO(data)))
    expected = cv2.resize(whole, (48, 48), interpolation=cv2.INTER_AREA)
    for each in (found.crops[0], crop):
        assert np.abs(each.astype(int) - expected).max() <= 1
