"""Holds what a net learns in a run, and what it is shown in an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.loop.teacher import Teacher
from ferserve_training.recipes.recipe import Recipe
from ferserve_training.views.bank import ViewBank


@dataclass(frozen=True, slots=True)
class Lesson:
    """Holds what a net is to learn, and from whom.

    Attributes:
        recipe: What to train and how; its precision is 'float32' or 'bfloat16'.
        faces: The training split; kept in memory as uint8.
        seed: Seed of the initial weights and of all draws.
        teachers: Whose mean answer counts beside the labels, if there are any.
        votes: Shares of FER+'s votes, float32 [N, 10], for a second head; None: no such head.
        start: Weights to go on from, in the order of the Keras model; None: random ones.
        bank: Views with their teachers' answers, which take the place of `faces.images` and of teachers; None:
            views are drawn as the steps go.
        non_face_crops: Crops of pictures without people, uint8 [M, 48, 48, 1]; None: non-faces are made of faces
            and noise alone.
    """

    recipe: Recipe
    faces: LabelledFaces
    seed: int
    teachers: Sequence[Teacher] = ()
    votes: npt.NDArray[np.float32] | None = None
    start: Sequence[npt.NDArray[np.float32]] | None = None
    bank: ViewBank | None = None
    non_face_crops: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """Holds what an epoch's batches are picked from.

    Attributes:
        images: uint8 [N, 48, 48, 1].
        targets: Shares of the classes, then of FER+'s votes where they are given, float32 [N, any].
        answers: Logits of a bank's teachers, float32 [N, 7]; None without a bank.
    """

    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.float32]
    answers: npt.NDArray[np.float32] | None
