"""Tests every face detector by its name."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import cv2
import pytest

from ferserve.v1 import face_pb2
from ferserve_client.options import Detector
from ferserve_vision.detectors.registry import DETECTORS
from ferserve_vision.options import DetectionOptions

PORTRAIT = Path(__file__).parents[1] / "media" / "astronaut.jpg"
FACE = (225, 115)
"""A point on the nose of the portrait, in pixels."""


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_finds_the_face_of_a_portrait(name: str) -> None:
    grey = cv2.imread(str(PORTRAIT), cv2.IMREAD_GRAYSCALE)
    boxes = [face.box for face in DETECTORS[name]().detect(grey, DetectionOptions())]
    x, y = FACE
    hits = [box for box in boxes if 0 < x - box.left < box.width and 0 < y - box.top < box.height]
    assert len(hits) == 1
    again = DETECTORS[name]().detect(grey, DetectionOptions())
    assert [face.box for face in again] == boxes


def test_detectors_have_one_name_in_settings_in_the_proto_and_in_the_client() -> None:
    in_proto = {name.removeprefix("DETECTOR_").lower() for name, _ in face_pb2.Detector.items()}
    assert in_proto - {"unspecified"} == set(DETECTORS) == set(get_args(Detector))
