import numpy as np
import pytest

from ferserve_training.evaluation.twins import find_twin_free
from ferserve_training.export.drawn_faces import draw_faces


@pytest.fixture
def faces():
    return draw_faces(40)


def test_a_copy_is_a_twin(faces):
    assert not find_twin_free(faces[:1], faces).any()


def test_a_brighter_copy_with_a_changed_pixel_is_a_twin(faces):
    near = faces[:1] // 2 + 60
    near[0, 5, 5, 0] ^= 7

    assert not find_twin_free(near, faces).any()


def test_noise_has_no_twin(faces):
    noise = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 1), np.uint8)

    assert find_twin_free(noise, faces).all()


def test_two_flat_images_of_different_grey_are_no_twins():
    flat = np.full((1, 48, 48, 1), 10, np.uint8)

    assert find_twin_free(flat, flat + 50).all()
    assert not find_twin_free(flat, flat).any()
