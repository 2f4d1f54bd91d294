"""Tests laws of vision: any bytes give an answer or a ferserve error, any box lies inside, any crop fits."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ferserve_vision.crop import FACE_SIDE_PIXELS, FER_2013_LANDMARKS, crop_box, crop_face, to_model_inputs
from ferserve_vision.decode import decode_grey
from ferserve_vision.detectors.haar import HaarDetector
from ferserve_vision.detectors.search import MAX_SHARED_AREA, one_box_per_face
from ferserve_vision.errors import PictureFormatError, PictureTooLargeError, PictureUnreadableError, VisionError
from ferserve_vision.formats.exif import read_orientation
from ferserve_vision.formats.header import ImageFormat, ImageHeader
from ferserve_vision.formats.jpeg import end_of_marker_after_pixels
from ferserve_vision.formats.sniff import read_header
from ferserve_vision.geometry import Box, Detection, Landmarks, Point
from ferserve_vision.options import DetectionOptions, HaarOptions
from ferserve_vision.reduction import HEADROOM, reduced, reduction_for
from support.pictures import animated, astronaut, encode, encode_image, noise, turned_astronaut

MAX_PIXELS = 300_000
END_OF_SCAN = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])", re.DOTALL)
SAMPLES = [
    encode(noise(40, 30)),
    encode(noise(40, 30), progressive=True, orientation=5),
    encode(noise(40, 30), "PNG", orientation=8),
    encode(np.dstack([noise(20, 20)] * 4), "PNG"),
    encode_image(Image.fromarray(noise(16, 16)).convert("P"), "PNG", transparency=3),
    encode(noise(40, 30), "WEBP"),
    encode(np.dstack([noise(20, 20)] * 3), "WEBP", lossless=False, orientation=3),
    encode(np.dstack([noise(20, 20)] * 4), "WEBP", lossless=False),
    animated("WEBP"),
    animated("PNG"),
]
SIGNATURES = [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\x00\x00\x00WEBP", b"II*\x00"]
DETECTOR = HaarDetector()


def rejection_of(data: bytes) -> type[VisionError] | None:
    """Returns the error that `data` gets, or None if it is a picture; other errors are raised."""
    try:
        header = read_header(data)
        grey = decode_grey(data, MAX_PIXELS)
    except VisionError as error:
        return type(error)
    assert grey.dtype == np.uint8
    assert grey.ndim == 2
    assert grey.size == header.pixel_count <= MAX_PIXELS
    return None


def is_grey_or_ours(data: bytes) -> None:
    assert rejection_of(data) in {None, PictureFormatError, PictureUnreadableError, PictureTooLargeError}


@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
def test_any_bytes_give_a_picture_or_an_error_of_ours(signature: bytes, rest: bytes):
    is_grey_or_ours(signature + rest)


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(min_value=0), st.integers(0, 255)), min_size=1, max_size=6),
)
@settings(max_examples=300)
def test_a_mutated_picture_gives_a_picture_or_an_error_of_ours(sample: bytes, changes: list[tuple[int, int]]):
    data = bytearray(sample)
    for position, value in changes:
        data[position % len(data)] = value
    is_grey_or_ours(bytes(data))


@given(st.sampled_from(SAMPLES), st.integers(min_value=0), st.binary(max_size=20))
@settings(max_examples=300)
def test_a_truncated_picture_is_rejected(sample: bytes, cut: int, rest: bytes):
    data = sample[: cut % len(sample)]
    is_grey_or_ours(data + rest)
    assert rejection_of(data) in {PictureFormatError, PictureUnreadableError}


@given(st.sampled_from(SAMPLES), st.integers(min_value=0), st.integers(min_value=0), st.binary(max_size=40))
def test_a_spliced_picture_gives_a_picture_or_an_error_of_ours(sample: bytes, cut: int, rest: int, between: bytes):
    is_grey_or_ours(sample[: cut % len(sample)] + between + sample[rest % len(sample) :])


@given(st.sampled_from([b"", b"II*\x00\x08\x00\x00\x00", b"MM\x00*\x00\x00\x00\x08"]), st.binary(max_size=200))
def test_any_exif_gives_an_orientation(start: bytes, rest: bytes):
    assert read_orientation(start + rest) in range(1, 9)


@st.composite
def boxes_in_pictures(draw: st.DrawFn) -> tuple[int, int, Box]:
    width, height = draw(st.integers(1, 400)), draw(st.integers(1, 400))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = Box(left, top, draw(st.integers(1, width - left)), draw(st.integers(1, height - top)))
    return width, height, box


@st.composite
def detections(draw: st.DrawFn) -> Detection:
    """Faces as a broken detector might give them: far outside, tiny, huge, with any landmarks."""
    place, side = st.floats(-2e4, 2e4), st.floats(1e-3, 1e5)
    box = Box(draw(place), draw(place), draw(side), draw(side))
    wild = st.builds(Landmarks, *[st.builds(Point, st.floats(), st.floats())] * 5)
    fitting = st.builds(_fitting, place, place, side, st.floats(-180, 180))
    return Detection(box, 0.9, draw(st.none() | wild | fitting))


def _fitting(x: float, y: float, side: float, degrees: float) -> Landmarks:
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return Landmarks(*(Point(*map(float, each)) for each in (FER_2013_LANDMARKS - 0.5) * side @ rotation + (x, y)))


@given(st.integers(1, 400), st.integers(1, 400), detections())
def test_a_crop_fits_the_net_and_holds_levels_of_the_picture(width: int, height: int, detection: Detection):
    crop = crop_face(np.full((height, width), 137, np.uint8), detection)
    assert crop.shape == (48, 48)
    assert crop.dtype == np.uint8
    assert (crop == 137).all()


@given(boxes_in_pictures())
def test_a_crop_by_box_fits_the_net_too(picture: tuple[int, int, Box]):
    width, height, box = picture
    crop = crop_box(np.full((height, width), 137, np.uint8), box)
    assert crop.shape == (48, 48)
    assert (crop == 137).all()


@given(
    st.sampled_from(ImageFormat),
    st.integers(1, 65_535),
    st.integers(1, 65_535),
    st.integers(64, 8192),
    st.integers(16, 4096),
)
def test_a_reduced_picture_has_enough_pixels_for_the_search_and_for_every_crop(
    kind: ImageFormat, width: int, height: int, side: int, min_face: int
):
    longer = max(width, height)
    reduction = reduction_for(ImageHeader(kind, width, height), side_pixels=side, min_face_pixels=min_face)
    assert reduction in (1, 2, 4, 8)
    if reduction > 1:
        assert kind is ImageFormat.JPEG
        assert longer > side
        assert reduced(longer, reduction) >= side
        assert min_face / side * reduced(longer, reduction) >= FACE_SIDE_PIXELS
    if kind is ImageFormat.JPEG and reduction < 8:
        further = reduced(longer, 2 * reduction)
        assert further < HEADROOM * side or min_face / side * further < FACE_SIDE_PIXELS


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 70), st.integers(1, 70), st.just(1))))
def test_raw_crops_of_any_size_are_resized(crops: np.ndarray):
    resized = to_model_inputs(crops)
    assert resized.shape == (len(crops), 48, 48, 1)
    assert resized.dtype == np.uint8


@given(
    st.integers(1, 512),
    st.integers(1, 512),
    st.sampled_from([64, 100, 256, 640]),
    st.integers(16, 80),
    st.sampled_from([1.1, 1.3, 2.0]),
    st.integers(1, 3),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_boxes_lie_inside_the_picture_largest_first(
    width: int, height: int, side: int, min_face: int, factor: float, neighbors: int
):
    options = DetectionOptions(
        detection_side_pixels=side, min_face_pixels=min_face, haar=HaarOptions(factor, neighbors)
    )
    boxes = [each.box for each in DETECTOR.detect(astronaut()[:height, :width], options)]
    for box in boxes:
        assert min(box.left, box.top) >= 0
        assert min(box.width, box.height) >= 1
        assert box.left + box.width <= width + 1e-6
        assert box.top + box.height <= height + 1e-6
    assert [box.area for box in boxes] == sorted((box.area for box in boxes), reverse=True)


BOXES = st.builds(Box, st.floats(0, 100), st.floats(0, 100), st.floats(1, 100), st.floats(1, 100))


@given(st.lists(st.builds(Detection, BOXES, st.floats(0, 1)), max_size=12))
def test_of_boxes_that_lie_in_each_other_the_best_is_kept(found: list[Detection]):
    kept = one_box_per_face(found)
    assert all(each in found for each in kept)
    for place, each in enumerate(kept):
        for other in kept[place + 1 :]:
            assert each.box.overlap(other.box) <= MAX_SHARED_AREA * min(each.box.area, other.box.area)
    for each in found:
        covered = [
            other
            for other in kept
            if each.box.overlap(other.box) > MAX_SHARED_AREA * min(each.box.area, other.box.area)
        ]
        assert each in kept or max(other.score for other in covered) >= each.score
    assert one_box_per_face(list(reversed(found))) == kept or len(set(found)) < len(found)


@given(st.integers(1, 8))
@settings(deadline=None)
def test_turning_the_phone_changes_nothing_that_is_shown(orientation: int):
    upright = decode_grey(turned_astronaut(1), MAX_PIXELS)
    turned = decode_grey(turned_astronaut(orientation), MAX_PIXELS)
    assert turned.shape == upright.shape
    assert np.abs(turned.astype(int) - upright).mean() < 2


@given(
    st.lists(st.sampled_from([b"\x00", b"\xff", b"\xd0", b"\xd7", b"\xd9", b"\xda", b"p"]), max_size=40),
    st.integers(0, 40),
    st.integers(-3, 3),
)
def test_the_pixels_of_a_scan_end_where_a_decoder_ends_them(values, offset, beside) -> None:
    # The second form has its marker at the edge of a chunk.
    for data in (b"".join(values), b"p" * (offset + (1 << 16) + beside) + b"".join(values)):
        found = END_OF_SCAN.search(data, offset)
        assert end_of_marker_after_pixels(data, offset) == (found.end() if found else None)
