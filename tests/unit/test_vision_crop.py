"""Faces as the nets take them."""

import numpy as np
import pytest

from ferserve_server.domain.face import BoundingBox
from ferserve_server.vision.crop import crop_face, to_model_input, to_model_inputs
from support.pictures import corner_mark, noise


def test_a_box_of_48_pixels_is_taken_as_it_is():
    grey = noise(100, 90)
    crop = crop_face(grey, BoundingBox(left=20, top=30, width=48, height=48))
    assert np.array_equal(crop, grey[30:78, 20:68])


def test_a_large_box_is_averaged():
    grey = noise(200, 200)
    crop = crop_face(grey, BoundingBox(left=8, top=4, width=96, height=96))
    means = grey[4:100, 8:104].reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(crop - means).max() <= 1


def test_a_margin_widens_the_square_on_every_side():
    grey = noise(200, 200)
    box = BoundingBox(left=60, top=50, width=32, height=32)
    assert np.array_equal(crop_face(grey, box, margin=0.25), grey[42:90, 52:100])


def test_a_long_box_becomes_the_square_around_its_centre():
    grey = noise(200, 200)
    box = BoundingBox(left=60, top=50, width=24, height=48)
    assert np.array_equal(crop_face(grey, box), grey[50:98, 48:96])


@pytest.mark.parametrize(
    ("left", "top", "first_column", "first_row"), [(0, 0, 12, 12), (52, 0, 0, 12), (0, 52, 12, 0), (52, 52, 0, 0)]
)
def test_beyond_the_picture_its_border_is_repeated(left: int, top: int, first_column: int, first_row: int):
    grey = noise(76, 76)
    crop = crop_face(grey, BoundingBox(left=left, top=top, width=24, height=24), margin=0.5)
    rows, columns = slice(first_row, first_row + 36), slice(first_column, first_column + 36)
    inside = crop[rows, columns]
    padding = ((first_row, 12 - first_row), (first_column, 12 - first_column))
    assert np.array_equal(crop, np.pad(inside, padding, mode="edge"))
    near = grey[:36, :36] if (left, top) == (0, 0) else None
    if near is not None:
        assert np.array_equal(inside, near)


@pytest.mark.parametrize("size", [(1, 1), (65_500, 1), (1, 65_500), (47, 49)])
@pytest.mark.parametrize("margin", [0.0, 0.3, 1.0])
def test_a_box_of_any_shape_gives_48_by_48(size: tuple[int, int], margin: float):
    width, height = size
    crop = crop_face(noise(width, height), BoundingBox(left=0, top=0, width=width, height=height), margin)
    assert crop.shape == (48, 48)
    assert crop.dtype == np.uint8
    assert crop.flags.c_contiguous


def test_a_crop_is_resized_whole_and_keeps_its_layout():
    crop = to_model_input(corner_mark(300, 96))
    assert crop.shape == (48, 48)
    assert (crop[:24, :24] == 20).all()
    assert (crop[24:, 24:] == 200).all()


def test_a_small_crop_is_enlarged_smoothly():
    crop = to_model_input(np.full((12, 12), 99, np.uint8))
    assert (crop == 99).all()


def test_raw_crops_of_the_nets_size_are_not_touched():
    crops = noise(48, 48 * 3).reshape(3, 48, 48, 1)
    assert to_model_inputs(crops) is crops


def test_raw_crops_are_resized_one_by_one():
    crops = noise(96, 64 * 5).reshape(5, 64, 96, 1)
    resized = to_model_inputs(crops)
    assert resized.shape == (5, 48, 48, 1)
    assert resized.dtype == np.uint8
    for row, crop in zip(resized, crops, strict=True):
        assert np.array_equal(row[..., 0], to_model_input(crop[..., 0]))
