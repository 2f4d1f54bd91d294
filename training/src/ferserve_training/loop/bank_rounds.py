"""Draws the rounds of a view bank and asks the teachers about them."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from keras import ops

from ferserve_training.labels import CLASS_COUNT, FACE_SIZE
from ferserve_training.loop.teacher import Teacher
from ferserve_training.recipes.recipe import Augmentation
from ferserve_training.views.augmentation import augment
from ferserve_training.views.bank import BankRound

_BATCH: Final = 256
_BLEND_ALPHA: Final = 1.0
"""Both parameters of the beta distribution of the shares: all shares alike, as in function matching."""


def draw_round(
    images: npt.NDArray[np.uint8],
    augmentation: Augmentation,
    teachers: Sequence[Teacher],
    position: tuple[int, int],
    *,
    mixed_share: float,
    mirrors: bool,
) -> BankRound:
    """Draw one view of each face and average the teachers' answers for it.

    Half of the mixed views are blends of two faces (Zhang et al. 2018), half have a square of the other pasted in
    (Yun et al. 2019).

    Args:
        images: Training faces, uint8 [N, 48, 48, 1].
        augmentation: What the views are drawn from.
        teachers: One or more.
        position: Seed of the bank, and index of the round; nothing else decides the draws.
        mixed_share: Share of the views that are two faces, 0 to 1.
        mirrors: Whether the answers for the mirror images count too.
    """
    draws = np.random.default_rng((*position, 0))
    count = len(images)
    mates = draws.permutation(count).astype(np.int32)
    views = np.concatenate(
        [
            _rounded(augment(images[at : at + _BATCH], _seed(position, at), augmentation))
            for at in range(0, count, _BATCH)
        ]
    )
    mixed, shares = _mixed(views, views[mates], draws, mixed_share)
    probabilities = np.concatenate(
        [_answer(mixed[at : at + _BATCH], teachers, mirrors=mirrors) for at in range(0, count, _BATCH)]
    )
    return BankRound(mixed, probabilities, mates, shares)


def _seed(position: tuple[int, int], first: int) -> npt.NDArray[np.int32]:
    seed, index = position
    return np.asarray([seed * 10007 + index, first], np.int32)


def _rounded(views: object) -> npt.NDArray[np.uint8]:
    return np.asarray(np.rint(np.asarray(views)), np.uint8)


def _mixed(
    views: npt.NDArray[np.uint8],
    others: npt.NDArray[np.uint8],
    draws: np.random.Generator,
    mixed_share: float,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Mix some views with others; gives the views and the weight of each view's own face."""
    count = len(views)
    is_mixed = draws.random(count) < mixed_share
    is_pasted = draws.random(count) < 0.5
    blend_shares = np.where(is_mixed, draws.beta(_BLEND_ALPHA, _BLEND_ALPHA, count), 1.0)
    inside, paste_shares = _rectangles(draws, blend_shares)
    weight = np.where(is_pasted[:, np.newaxis, np.newaxis], ~inside, blend_shares[:, np.newaxis, np.newaxis])
    weight = weight[..., np.newaxis].astype(np.float32)
    mixed = _rounded(weight * views + (1.0 - weight) * others)
    return mixed, np.where(is_pasted, paste_shares, blend_shares).astype(np.float32)


def _rectangles(
    draws: np.random.Generator, shares: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Mark a square of the area 1 - share in each view, bool [N, 48, 48]; gives the share that is left too."""
    half = np.sqrt(1.0 - shares) * FACE_SIZE / 2
    pixels = np.arange(FACE_SIZE) + 0.5
    rows, columns = (
        np.abs(pixels - draws.uniform(0, FACE_SIZE, (len(shares), 1))) < half[:, np.newaxis] for _ in range(2)
    )
    inside = rows[:, :, np.newaxis] & columns[:, np.newaxis, :]
    return inside, 1.0 - inside.mean(axis=(1, 2))


def _answer(
    views: npt.NDArray[np.uint8], teachers: Sequence[Teacher], *, mirrors: bool
) -> npt.NDArray[np.float32]:
    """Average probabilities over teachers and mirror images, float32 [N, 7]."""
    shown = [views.astype(np.float32)]
    if mirrors:
        shown.append(shown[0][:, :, ::-1])
    total = np.zeros((len(views), CLASS_COUNT), np.float64)
    for images in shown:
        for teacher in teachers:
            total += np.asarray(ops.softmax(teacher(ops.convert_to_tensor(images))))
    return np.asarray(total / (len(shown) * len(teachers)), np.float32)
