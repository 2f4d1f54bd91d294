import numpy as np
import pytest
import tensorflow as tf

from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.recipes.recipe import Augmentation
from ferserve_training.views.augmentation import augment

_STILL = Augmentation(
    scale=(1.0, 1.0),
    rotation_degrees=0.0,
    shift_pixels=0.0,
    flip_probability=0.0,
    contrast=0.0,
    brightness=0.0,
    erase_probability=0.0,
)


def _views(faces, ranges, seed=(0, 0)):
    return np.asarray(augment(tf.constant(faces), tf.constant(seed, tf.int32), ranges))


def _with(**ranges):
    still = {name: getattr(_STILL, name) for name in Augmentation.__slots__}
    return Augmentation(**(still | ranges))


@pytest.fixture(scope="module")
def faces():
    return draw_faces(64)


def test_without_ranges_a_view_is_the_image(faces):
    assert _views(faces, _STILL) == pytest.approx(faces.astype(np.float32), abs=0.02)


def test_a_flip_mirrors_left_and_right_only(faces):
    assert _views(faces, _with(flip_probability=1.0)) == pytest.approx(faces[:, :, ::-1], abs=0.02)


def test_a_scale_of_two_magnifies_the_middle(faces):
    views = _views(faces, _with(scale=(2.0, 2.0)))

    shrunk = views.reshape(64, 24, 2, 24, 2, 1).mean(axis=(2, 4))
    assert np.abs(shrunk - faces[:, 12:36, 12:36]).mean() < 4


def test_the_seed_alone_decides_the_views(faces):
    ranges = Augmentation()

    assert (_views(faces, ranges, (1, 2)) == _views(faces, ranges, (1, 2))).all()
    assert (_views(faces, ranges, (1, 2)) != _views(faces, ranges, (1, 3))).any(axis=(1, 2, 3)).all()
    assert (_views(faces, ranges, (1, 2)) != _views(faces, ranges, (2, 2))).any(axis=(1, 2, 3)).all()


def test_views_stay_grey_levels(faces):
    views = _views(faces, Augmentation(contrast=0.9, brightness=200.0))

    assert views.min() == 0
    assert views.max() == 255


def test_erasing_greys_a_square_of_the_drawn_area_in_the_drawn_share_of_views():
    faces = np.random.default_rng(0).integers(0, 256, (2000, 48, 48, 1), np.uint8)

    changed = _views(faces, _with(erase_probability=0.25, erase_area=(0.1, 0.1))) != faces.astype(np.float32)
    shares = changed.mean(axis=(1, 2, 3))

    assert (shares > 0.02).mean() == pytest.approx(0.25, abs=0.04)
    # A square of a tenth of the image; its side is rounded to pixels, and the rim cuts some off.
    assert shares.max() == pytest.approx(0.1, abs=0.015)
