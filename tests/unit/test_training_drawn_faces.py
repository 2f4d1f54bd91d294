import hashlib

import numpy as np

from ferserve_training.export.drawn_faces import draw_faces


def test_more_faces_begin_with_the_same_ones():
    assert (draw_faces(5)[:3] == draw_faces(3)).all()


def test_no_two_faces_are_alike():
    faces = draw_faces(64)

    assert faces.shape == (64, 48, 48, 1)
    assert faces.dtype == np.uint8
    assert len({hashlib.sha256(face.tobytes()).digest() for face in faces}) == 64
    assert faces.std(axis=(1, 2, 3)).min() > 8
