"""Lists the face detectors by name.

A detector's module is imported when the first one is made, so that reading the names costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ferserve_vision.detectors.port import FaceDetector


def _yunet() -> FaceDetector:
    from ferserve_vision.detectors.yunet import YunetDetector  # noqa: PLC0415 - see above

    return YunetDetector()


def _haar() -> FaceDetector:
    from ferserve_vision.detectors.haar import HaarDetector  # noqa: PLC0415 - see above

    return HaarDetector()


def _haar_alt2() -> FaceDetector:
    from ferserve_vision.detectors.haar import FRONTAL_FACE_CASCADE, HaarDetector  # noqa: PLC0415 - see above

    return HaarDetector(FRONTAL_FACE_CASCADE.with_name("haarcascade_frontalface_alt2.xml"))


DETECTORS: Final[Mapping[str, Callable[[], FaceDetector]]] = {
    "yunet": _yunet,
    "haar": _haar,
    "haar_alt2": _haar_alt2,
}
"""Factories by name, the name in settings, JSON and, in capitals after DETECTOR_, in the proto."""
