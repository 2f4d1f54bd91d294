"""Draws what was found on the picture in which it was found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_client.video.opencv import load_cv2

if TYPE_CHECKING:
    import numpy.typing as npt

    from ferserve_client.faces import DetectedFace, ImageAnalysis

_COLOURS: Final = {  # blue, green, red
    "angry": (60, 60, 230),
    "disgust": (60, 160, 90),
    "fear": (200, 80, 160),
    "happy": (40, 200, 250),
    "sad": (220, 140, 60),
    "surprise": (60, 140, 250),
    "neutral": (200, 200, 200),
}
_OTHER_COLOUR: Final = (255, 255, 255)


def annotate(pixels: npt.NDArray[np.uint8], analysis: ImageAnalysis) -> npt.NDArray[np.uint8]:
    """A copy of the picture with a box and the expression at every face.

    Args:
        pixels: uint8 [H, W, 3], blue, green, red; the picture of the analysis, in its size.
        analysis: What was found in it.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    drawn = pixels.copy()
    # 2 px lines at 1080p, where 1 px is hard to see, and 1 px in small pictures.
    thickness = max(1, round(max(pixels.shape[:2]) / 960))
    for face in analysis.faces:
        _draw(drawn, face, thickness)
    return drawn


def annotate_encoded(picture: bytes, analysis: ImageAnalysis) -> npt.NDArray[np.uint8]:
    """As `annotate`, of an encoded picture, which is turned as its EXIF says.

    Raises:
        MissingExtraError: OpenCV is not installed.
        ValueError: The picture cannot be decoded.
    """
    cv2 = load_cv2()
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError("OpenCV cannot decode the picture")
    return annotate(pixels, analysis)


def caption(face: DetectedFace) -> str:
    """What is written at a face."""
    if face.prediction is None:
        return "?"
    return f"{face.prediction.emotion} {face.prediction.confidence:.0%}"


def _draw(pixels: npt.NDArray[np.uint8], face: DetectedFace, thickness: int) -> None:
    cv2 = load_cv2()
    box = face.box
    emotion = "" if face.prediction is None else face.prediction.emotion
    colour = _COLOURS.get(emotion, _OTHER_COLOUR)
    cv2.rectangle(pixels, (box.left, box.top, box.width, box.height), colour, thickness)
    text, font, scale = caption(face), cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thickness
    (width, height), baseline = cv2.getTextSize(text, font, scale, thickness)
    bottom = max(box.top, height + baseline)
    cv2.rectangle(pixels, (box.left, bottom - height - baseline, width, height + baseline), colour, cv2.FILLED)
    cv2.putText(pixels, text, (box.left, bottom - baseline), font, scale, (0, 0, 0), thickness, cv2.LINE_AA)
