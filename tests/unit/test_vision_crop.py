"""Tests the conversion of faces to the form that nets take."""

import cv2
import numpy as np
import pytest

from ferserve_vision.crop import FER_2013_LANDMARKS, crop_box, crop_face, to_model_input, to_model_inputs
from ferserve_vision.geometry import Box, Detection, Landmarks, Point
from support.pictures import corner_mark, noise


def test_a_box_of_48_pixels_is_taken_as_it_is():
    grey = noise(100, 90)
    crop = crop_box(grey, Box(left=20, top=30, width=48, height=48))
    assert np.array_equal(crop, grey[30:78, 20:68])


def test_a_large_box_is_averaged():
    grey = noise(200, 200)
    crop = crop_box(grey, Box(left=8, top=4, width=96, height=96))
    means = grey[4:100, 8:104].reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(crop - means).max() <= 1


def test_a_long_box_becomes_the_square_around_its_centre():
    grey = noise(200, 200)
    box = Box(left=60, top=50, width=24, height=48)
    assert np.array_equal(crop_box(grey, box), grey[50:98, 48:96])


@pytest.mark.parametrize(("left", "top"), [(-12, -12), (40, -12), (-12, 40), (40, 40)])
def test_beyond_the_picture_its_border_is_repeated(left: int, top: int):
    grey = noise(76, 76)
    crop = crop_box(grey, Box(left, top, 48, 48))
    padded = np.pad(grey, 12, mode="edge")
    assert np.array_equal(crop, padded[top + 12 : top + 60, left + 12 : left + 60])


@pytest.mark.parametrize("size", [(1, 1), (65_500, 1), (1, 65_500), (47, 49)])
def test_a_box_of_any_shape_gives_48_by_48(size: tuple[int, int]):
    width, height = size
    crop = crop_box(noise(width, height), Box(left=0, top=0, width=width, height=height))
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


def landmarks_at(centre_x: float, centre_y: float, side: float, degrees: float = 0.0) -> Landmarks:
    """Landmarks of a face whose FER-2013 crop is a square with that centre and side, turned clockwise."""
    turn = np.radians(degrees)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = (FER_2013_LANDMARKS - 0.5) * side @ rotation + (centre_x, centre_y)
    return Landmarks(*(Point(*map(float, point)) for point in points))


def detection_at(centre_x: float, centre_y: float, side: float, degrees: float = 0.0) -> Detection:
    """A face whose landmarks and box agree on that square; `degrees` turns the landmarks alone."""
    height = side / 0.95
    box = Box(centre_x - side * 0.4, centre_y - side / 2 - 0.014 * height, side * 0.8, height)
    return Detection(box, 0.9, landmarks_at(centre_x, centre_y, side, degrees))


def smooth(width: int, height: int) -> np.ndarray:
    """Noise without fine detail, so that positions between pixels can be compared."""
    return cv2.GaussianBlur(noise(width, height), (0, 0), 6) * 3 + 20


def test_a_face_whose_landmarks_are_in_place_is_cut_as_it_is():
    grey = smooth(200, 200)
    crop = crop_face(grey, detection_at(90, 80, 48))
    assert np.abs(crop.astype(int) - grey[56:104, 66:114]).max() <= 1


@pytest.mark.parametrize("side", [96, 480, 1440])
def test_a_large_face_is_averaged_over_its_pixels(side: int):
    grey = cv2.resize(smooth(100, 100), (side * 2, side * 2), interpolation=cv2.INTER_CUBIC)
    crop = crop_face(grey, detection_at(side, side, side))
    expected = cv2.resize(
        grey[side // 2 : -side // 2, side // 2 : -side // 2], (48, 48), interpolation=cv2.INTER_AREA
    )
    assert np.abs(crop.astype(int) - expected).mean() < 1


def test_a_small_face_is_enlarged():
    grey = smooth(100, 100)
    crop = crop_face(grey, detection_at(50, 40, 24))
    expected = cv2.resize(grey[28:52, 38:62], (48, 48), interpolation=cv2.INTER_CUBIC)
    assert np.abs(crop.astype(int) - expected)[4:-4, 4:-4].mean() < 2


@pytest.mark.parametrize("degrees", [-90, -30, -10, 10, 30, 90, 180])
def test_a_turned_face_is_turned_back(degrees: float):
    grey = smooth(301, 301)
    turned = cv2.warpAffine(
        grey, cv2.getRotationMatrix2D((150, 150), -degrees, 1.0), (301, 301), flags=cv2.INTER_CUBIC
    )
    crop = crop_face(turned, detection_at(150.5, 150.5, 96, degrees))
    assert np.abs(crop.astype(int) - crop_face(grey, detection_at(150.5, 150.5, 96))).mean() < 2


def test_box_and_landmarks_that_differ_are_met_half_way():
    grey = smooth(200, 200)
    box = detection_at(90, 80, 48).box
    crop = crop_face(grey, Detection(box, 0.9, landmarks_at(98, 84, 48)))
    assert np.abs(crop.astype(int) - grey[58:106, 70:118]).max() <= 1


@pytest.mark.parametrize(
    "points",
    [
        [(10, 10)] * 5,
        [(10, 10), (90, 10), (50, 90), (10, 50), (90, 50)],
        [(float("nan"), 10), (90, 10), (50, 50), (30, 70), (70, 70)],
    ],
)
def test_landmarks_that_are_no_faces_leave_the_box(points: list[tuple[float, float]]):
    grey, box = smooth(200, 200), Box(40, 30, 80, 100)
    placed = crop_face(grey, Detection(box, 0.9, Landmarks(*(Point(*each) for each in points))))
    assert np.array_equal(placed, crop_face(grey, detection_at(80, 30 + 1.4 + 47.5, 95)))


@pytest.mark.parametrize("place", [(-30.0, -30.0), (230.0, 10.0), (100.0, 400.0)])
def test_a_face_across_the_border_gets_48_by_48(place: tuple[float, float]):
    crop = crop_face(np.full((200, 200), 137, np.uint8), detection_at(*place, 96, 30))
    assert crop.shape == (48, 48)
    assert (crop == 137).all()


def test_a_detection_without_landmarks_is_cut_by_its_box():
    grey = noise(100, 100)
    assert np.array_equal(crop_face(grey, Detection(Box(20, 30, 48, 48))), grey[30:78, 20:68])
