"""Degrades views as cameras and codecs do: light, blur, low resolution, noise and JPEG, from a seed alone.

Only the student's view is degraded; a teacher sees the clean one. Everything linear is a product with matrices of
48x48, one for the rows and one for the columns of each view, which costs less than one layer of the smallest net.
"""

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
from keras import ops

from ferserve_training.framework.choose import Tensor, framework
from ferserve_training.labels import FACE_SIZE

_DRAW_COUNT: Final = 14
_DRAWS: Final = 1 << 28
_NOISE_DRAWS: Final = 1 << 27

GAMMA: Final = (0.5, 2.0)
GAMMA_PROBABILITY: Final = 0.2
BLUR_SIGMA: Final = (0.3, 1.8)
"""Pixels of a face of 48."""
BLUR_PROBABILITY: Final = 0.6
ANISOTROPIC_SHARE: Final = 0.4
"""Share of the blurred views with a sigma of its own for each axis, as motion makes them."""
RESAMPLED_SIDE: Final = (20, 40)
"""Pixels a side of the smaller face that a view passes through."""
RESAMPLE_PROBABILITY: Final = 0.2
NOISE_SIGMA: Final = (2.0, 14.0)
"""Grey levels."""
NOISE_PROBABILITY: Final = 0.4
JPEG_QUALITY: Final = (25.0, 90.0)
JPEG_PROBABILITY: Final = 0.4

_BLOCK: Final = 8
# Luminance table of JPEG, ITU-T T.81, table K.1.
_LUMINANCE: Final = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


def degrade(views: Tensor, seed: Tensor, probability: float) -> Tensor:
    """Degrade some of the views; each operation is drawn on its own for those.

    The draw depends on nothing but `seed`. TensorFlow and JAX draw other numbers; from the same numbers they make
    the same views.

    Args:
        views: float32 [N, 48, 48, 1], grey levels 0 to 255.
        seed: int32 [2].
        probability: Share of the views that may be changed, 0 to 1.

    Returns:
        float32 [N, 48, 48, 1], grey levels 0 to 255.
    """
    count = ops.shape(views)[0]
    draws = ops.unstack(framework().uniform([_DRAW_COUNT, count], seed, _DRAWS), _DRAW_COUNT)
    noise = framework().normal([count, FACE_SIZE, FACE_SIZE], seed, _NOISE_DRAWS)
    degraded = degraded_views(views[..., 0], draws[1:], noise)[..., None]
    return ops.where((draws[0] < probability)[:, None, None, None], degraded, views)


def degraded_views(views: Tensor, draws: list[Tensor], noise: Tensor) -> Tensor:
    """Apply the operations that some draws ask for, in the order of a camera.

    Args:
        views: float32 [N, 48, 48], grey levels 0 to 255.
        draws: Thirteen, each float32 [N], 0 to 1.
        noise: Standard normal, float32 [N, 48, 48].

    Returns:
        float32 [N, 48, 48], grey levels 0 to 255.
    """
    powers = ops.exp(ops.log(GAMMA[0]) + (ops.log(GAMMA[1]) - ops.log(GAMMA[0])) * draws[1])
    powers = ops.where(draws[0] < GAMMA_PROBABILITY, powers, 1.0)[:, None, None]
    seen = 255.0 * ops.power(ops.clip(views / 255.0, 1e-6, 1.0), powers)
    sigma_y = _between(BLUR_SIGMA, draws[3])
    sigma_x = ops.where(draws[4] < ANISOTROPIC_SHARE, _between(BLUR_SIGMA, draws[5]), sigma_y)
    is_blurred = draws[2] < BLUR_PROBABILITY
    rows, columns = (_blur_matrices(sigma, is_blurred) for sigma in (sigma_y, sigma_x))
    resample = ops.take(_RESAMPLING, _resampling_index(draws[6], draws[7]), axis=0)
    rows, columns = ops.matmul(resample, rows), ops.matmul(resample, columns)
    seen = ops.matmul(ops.matmul(rows, seen), ops.transpose(columns, [0, 2, 1]))
    sigma = ops.where(draws[8] < NOISE_PROBABILITY, _between(NOISE_SIGMA, draws[9]), 0.0)
    seen = ops.clip(seen + sigma[:, None, None] * noise, 0.0, 255.0)
    compressed = _compressed(seen, _between(JPEG_QUALITY, draws[11]))
    return ops.where((draws[10] < JPEG_PROBABILITY)[:, None, None], compressed, seen)


def _between(span: tuple[float, float], draw: Tensor) -> Tensor:
    return span[0] + (span[1] - span[0]) * draw


def _blur_matrices(sigma: Tensor, is_blurred: Tensor) -> Tensor:
    """Make the matrix that blurs along one axis of each view, float32 [N, 48, 48]; rows sum to 1."""
    pixels = np.arange(FACE_SIZE, dtype=np.float32)
    squares = ops.convert_to_tensor((pixels[:, np.newaxis] - pixels) ** 2)
    weights = ops.exp(-squares[None] / (2.0 * ops.square(sigma)[:, None, None]))
    weights = weights / ops.sum(weights, axis=2, keepdims=True)
    return ops.where(is_blurred[:, None, None], weights, ops.eye(FACE_SIZE)[None])


def _resampling_matrices() -> npt.NDArray[np.float32]:
    """Make the matrices that shrink an axis to a smaller side and stretch it again; the last changes nothing."""
    identity = np.eye(FACE_SIZE, dtype=np.float32)
    matrices = []
    for side in range(RESAMPLED_SIDE[0], RESAMPLED_SIDE[1] + 1):
        small = cv2.resize(identity, (FACE_SIZE, side), interpolation=cv2.INTER_AREA)
        matrices.append(cv2.resize(small, (FACE_SIZE, FACE_SIZE), interpolation=cv2.INTER_LINEAR))
    return np.stack([*matrices, identity]).astype(np.float32)


def _resampling_index(is_drawn: Tensor, draw: Tensor) -> Tensor:
    count = len(_RESAMPLING) - 1
    index = ops.cast(ops.floor(draw * count), "int32")
    return ops.where(is_drawn < RESAMPLE_PROBABILITY, ops.minimum(index, count - 1), count)


def _cosines() -> npt.NDArray[np.float32]:
    """Make the orthonormal DCT-II of 8 points, repeated along the diagonal of a matrix of 48x48."""
    order, point = np.arange(_BLOCK)[:, np.newaxis], np.arange(_BLOCK)
    block = np.sqrt(2 / _BLOCK) * np.cos(np.pi * (2 * point + 1) * order / (2 * _BLOCK))
    block[0] /= np.sqrt(2)
    return np.kron(np.eye(FACE_SIZE // _BLOCK), block).astype(np.float32)


def _compressed(views: Tensor, quality: Tensor) -> Tensor:
    """Round the coefficients of each 8x8 block as JPEG does, with libjpeg's scaling of the table by quality."""
    cosines = ops.convert_to_tensor(_COSINES)
    percent = ops.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality)
    steps = ops.clip(ops.floor((_STEPS[None] * percent[:, None, None] + 50.0) / 100.0), 1.0, 255.0)
    coefficients = ops.matmul(ops.matmul(cosines, views - 128.0), ops.transpose(cosines))
    coefficients = ops.round(coefficients / steps) * steps
    restored = ops.matmul(ops.matmul(ops.transpose(cosines), coefficients), cosines)
    return ops.clip(restored + 128.0, 0.0, 255.0)


_RESAMPLING: Final = _resampling_matrices()
_COSINES: Final = _cosines()
_STEPS: Final = np.tile(np.asarray(_LUMINANCE, np.float32).reshape(_BLOCK, _BLOCK), (FACE_SIZE // _BLOCK,) * 2)
