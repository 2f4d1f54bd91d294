"""Draws faces by formula: unlike those of FER-2013 they may be shipped, and exercise a net nearly as well."""

import numpy as np
import numpy.typing as npt

from ferserve_training.labels import FACE_SIZE

_SEED = 20130  # any; changing it changes every golden set


def draw_faces(face_count: int) -> npt.NDArray[np.uint8]:
    """Draw faces with brows, eyes and a mouth of many shapes, under many lights.

    The same count gives the same faces on every machine; a larger count begins with the smaller one's faces.

    Args:
        face_count: How many.

    Returns:
        uint8 [face_count, 48, 48, 1].
    """
    return np.stack([_draw(np.random.default_rng((_SEED, index))) for index in range(face_count)])


def _draw(draws: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw one face, uint8 [48, 48, 1]. Coordinates run from -1 to 1, y downwards."""
    axis = np.linspace(-1.0, 1.0, FACE_SIZE)
    x, y = np.meshgrid(axis, axis)
    x, y = x - draws.uniform(-0.1, 0.1), y - draws.uniform(-0.1, 0.1)
    image = draws.uniform(30, 170) + draws.uniform(-50, 50) * x + draws.uniform(-50, 50) * y
    skin = draws.uniform(110, 210) + draws.uniform(-35, 35) * x
    image = _blend(image, skin, _ellipse(x, y, (0.0, 0.0), (draws.uniform(0.7, 0.9), draws.uniform(0.85, 1.0))))
    dark = draws.uniform(15, 80)
    eye_height, brow_slope = draws.uniform(0.03, 0.16), draws.uniform(-0.5, 0.5)
    brow_height = draws.uniform(-0.5, -0.36)
    for side in (-1.0, 1.0):
        away = x - 0.35 * side
        image = _blend(image, 235.0, _ellipse(x, y, (0.35 * side, -0.2), (0.19, eye_height + 0.03)))
        image = _blend(image, dark, _ellipse(x, y, (0.35 * side, -0.2), (0.09, eye_height)))
        brow = np.exp(-(((y - brow_height + brow_slope * side * away) / 0.05) ** 2)) * (np.abs(away) < 0.25)
        image = _blend(image, dark, brow)
    nose = np.exp(-((x / 0.08) ** 2) - ((y - 0.1) / 0.22) ** 2)
    image = image + draws.uniform(-30, 30) * nose
    width, bend = draws.uniform(0.22, 0.5), draws.uniform(-0.35, 0.35)
    lips = 0.5 - bend * ((x / width) ** 2 - 0.5)
    opening = draws.uniform(0.03, 0.2) * np.sqrt(np.clip(1 - (x / width) ** 2, 0.0, 1.0))
    mouth = 1 / (1 + np.exp((np.abs(y - lips) - opening) / 0.02)) * (np.abs(x) < width)
    image = _blend(image, dark + 20, mouth)
    image = image + draws.normal(0.0, draws.uniform(0.5, 6.0), image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., np.newaxis]


def _ellipse(
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    centre: tuple[float, float],
    radii: tuple[float, float],
) -> npt.NDArray[np.float64]:
    """Cover the inside of an ellipse with 1, the outside with 0, and the edge softly."""
    distance = np.sqrt(((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2)
    return np.asarray(1 / (1 + np.exp((distance - 1) * min(radii) / 0.02)))


def _blend(
    image: npt.NDArray[np.float64], paint: float | npt.NDArray[np.float64], cover: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return image + (paint - image) * cover
