"""Tests that the Haar detector finds faces, in the pixels of the picture as shown."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ferserve_vision.decode import decode_grey
from ferserve_vision.detectors.haar import HaarDetector
from ferserve_vision.detectors.registry import DETECTORS
from ferserve_vision.detectors.search import one_box_per_face
from ferserve_vision.geometry import Box, Detection
from ferserve_vision.options import DetectionOptions
from support.pictures import Pixels, astronaut, noise, turned_astronaut


@pytest.fixture(scope="module")
def detector() -> HaarDetector:
    return HaarDetector()


def is_the_face(face: Detection, *, scale: float = 1.0, left: int = 0) -> bool:
    """Whether a box holds the portrait's face: its centre is that of the nose, its size a face's."""
    box = face.box
    centre_x, centre_y = (box.left - left + box.width / 2) / scale, (box.top + box.height / 2) / scale
    return 205 <= centre_x <= 245 and 95 <= centre_y <= 140 and 80 <= box.width / scale <= 150


def enlarged(grey: Pixels, scale: float) -> Pixels:
    return cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)


def test_one_face_is_found_in_a_portrait(detector: HaarDetector):
    (box,) = detector.detect(astronaut(), DetectionOptions())
    assert is_the_face(box)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_one_face_is_found_in_a_photo_of_a_turned_phone(detector: HaarDetector, orientation: int):
    (box,) = detector.detect(decode_grey(turned_astronaut(orientation), 10**6), DetectionOptions())
    assert is_the_face(box)


def test_two_faces_are_found_side_by_side(detector: HaarDetector):
    pair = np.hstack([astronaut(), astronaut()])
    boxes = sorted(detector.detect(pair, DetectionOptions()), key=lambda face: face.box.left)
    assert len(boxes) == 2
    assert is_the_face(boxes[0])
    assert is_the_face(boxes[1], left=512)


def test_boxes_come_back_in_the_pixels_of_a_large_picture(detector: HaarDetector):
    (box,) = detector.detect(enlarged(astronaut(), 4), DetectionOptions())
    assert is_the_face(box, scale=4)


def test_the_search_runs_on_a_copy_of_the_asked_size(detector: HaarDetector):
    large = enlarged(astronaut(), 2)
    assert len(detector.detect(large, DetectionOptions(detection_side_pixels=256))) == 1
    assert detector.detect(large, DetectionOptions(detection_side_pixels=128)) == []


def test_faces_smaller_than_asked_for_are_left_out(detector: HaarDetector):
    assert detector.detect(astronaut(), DetectionOptions(min_face_pixels=200)) == []


def test_the_largest_face_comes_first(detector: HaarDetector):
    small = np.full((512, 512), 128, np.uint8)
    small[:384, :384] = enlarged(astronaut(), 0.75)
    for pair in ([small, astronaut()], [astronaut(), small]):
        first, second = detector.detect(np.hstack(pair), DetectionOptions(detection_side_pixels=1024))
        assert first.box.area > second.box.area


def test_the_same_picture_gets_the_same_boxes(detector: HaarDetector):
    crowd = np.tile(enlarged(astronaut(), 0.5), (3, 3))
    boxes = detector.detect(crowd, DetectionOptions(detection_side_pixels=1024))
    assert len(boxes) >= 9
    assert boxes == HaarDetector().detect(crowd, DetectionOptions(detection_side_pixels=1024))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (23, 23), (24, 24), (3000, 2)])
def test_pictures_too_small_for_a_face_have_none(detector: HaarDetector, size: tuple[int, int]):
    assert detector.detect(noise(*size), DetectionOptions(min_face_pixels=16)) == []


def test_a_picture_without_a_face_has_none(detector: HaarDetector):
    assert detector.detect(np.full((480, 640), 128, np.uint8), DetectionOptions()) == []


def test_a_box_inside_another_is_dropped():
    face, mouth, neighbour = Box(0, 0, 100, 100), Box(30, 60, 40, 40), Box(80, 0, 90, 90)
    kept = one_box_per_face([Detection(mouth), Detection(face), Detection(neighbour)])
    assert [each.box for each in kept] == [face, neighbour]


def test_a_cascade_that_is_not_there_is_reported_when_loading(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.xml"):
        HaarDetector(tmp_path / "none.xml")


def test_alt2_invents_fewer_faces_in_noise():
    def invented(name: str) -> int:
        detector = DETECTORS[name]()
        pictures = [
            cv2.resize(noise(80, 60, seed), (640, 480), interpolation=cv2.INTER_CUBIC) for seed in range(6)
        ]
        return sum(len(detector.detect(picture, DetectionOptions())) for picture in pictures)

    assert invented("haar_alt2") < invented("haar")
