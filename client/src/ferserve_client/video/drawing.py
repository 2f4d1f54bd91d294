"""Draws faces on the picture in which they were found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from ferserve_client.video.extras import load_cv2

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ferserve_client.faces import DetectedFace, ImageAnalysis

COLORS: Final = {  # red, green, blue
    "angry": (230, 60, 60),
    "disgust": (90, 160, 60),
    "fear": (160, 80, 200),
    "happy": (250, 200, 40),
    "sad": (60, 140, 220),
    "surprise": (250, 140, 60),
    "neutral": (200, 200, 200),
}
"""Color of each emotion in pictures, videos, plots and reports."""
OTHER_COLOR: Final = (255, 255, 255)
"""Color of labels outside FER-2013's, and of faces without a prediction."""


def annotate(pixels: npt.NDArray[np.uint8], analysis: ImageAnalysis) -> npt.NDArray[np.uint8]:
    """Return a copy of the picture with a box and the expression at every face.

    Args:
        pixels: uint8 [H, W, 3], blue, green, red; the picture of the analysis, in its size.
        analysis: The faces found in it.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    drawn = pixels.copy()
    draw_faces(drawn, analysis.faces)
    return drawn


def draw_faces(pixels: npt.NDArray[np.uint8], faces: Sequence[DetectedFace]) -> None:
    """Draw boxes and expressions into a picture, in lines and letters that fit its size.

    Args:
        pixels: uint8 [H, W, 3], blue, green, red, which is changed.
        faces: Faces in the picture's pixels.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    # 2 px lines at 1080p, where 1 px is hard to see, and 1 px in small pictures.
    thickness = max(1, round(max(pixels.shape[:2]) / 960))
    # Letters of a thirtieth of the picture's height, no less than can be read.
    scale = max(0.35, pixels.shape[0] / 30 / 22)
    for face in faces:
        _draw(pixels, face, thickness, scale)


def annotate_encoded(picture: bytes, analysis: ImageAnalysis) -> npt.NDArray[np.uint8]:
    """Annotate an encoded picture, turned as its EXIF says.

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
    """Return the text at a face: `#2 happy 93%`; `happy?` where the model is not certain."""
    track = f"#{face.track_id} " if face.track_id else ""
    if face.prediction is None:
        return f"{track}?"
    doubt = "?" if face.prediction.uncertain else ""
    return f"{track}{face.prediction.emotion}{doubt} {face.prediction.confidence:.0%}"


def _draw(pixels: npt.NDArray[np.uint8], face: DetectedFace, thickness: int, scale: float) -> None:
    cv2 = load_cv2()
    box = face.box
    emotion = "" if face.prediction is None else face.prediction.emotion
    red, green, blue = COLORS.get(emotion, OTHER_COLOR)
    color = (blue, green, red)
    cv2.rectangle(pixels, (box.left, box.top, box.width, box.height), color, thickness)
    text, font = caption(face), cv2.FONT_HERSHEY_SIMPLEX
    (width, height), baseline = cv2.getTextSize(text, font, scale, thickness)
    bottom = max(box.top, height + baseline)
    left = max(0, min(box.left, pixels.shape[1] - width))
    cv2.rectangle(pixels, (left, bottom - height - baseline, width, height + baseline), color, cv2.FILLED)
    cv2.putText(pixels, text, (left, bottom - baseline), font, scale, (0, 0, 0), thickness, cv2.LINE_AA)
