"""Reads what a run learns from beside the labelled faces."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.data.non_faces import cut_non_faces
from ferserve_training.data.votes import load_votes, vote_shares
from ferserve_training.loop.records import RunSettings
from ferserve_training.loop.run_bank import read_bank
from ferserve_training.loop.start import starting_weights
from ferserve_training.loop.teacher import Teacher, load_teacher
from ferserve_training.recipes.recipe import Recipe
from ferserve_training.views.bank import ViewBank


@dataclass(frozen=True, slots=True)
class LessonInputs:
    """Holds what a net learns from beside the labelled faces; most runs do without most of it.

    Attributes:
        teachers: Whose mean answer counts beside the labels.
        votes: Shares of FER+'s votes for the training faces, float32 [N, 10], or None.
        start: Weights to go on from, or None for random ones.
        bank: Views with answers to learn from instead of views drawn as the steps go, or None.
        non_face_crops: Crops of pictures without people, uint8 [M, 48, 48, 1], or None.
    """

    teachers: Sequence[Teacher] = ()
    votes: npt.NDArray[np.float32] | None = None
    start: Sequence[npt.NDArray[np.float32]] | None = None
    bank: ViewBank | None = None
    non_face_crops: npt.NDArray[np.uint8] | None = None


def read_inputs(settings: RunSettings, recipe: Recipe, faces: LabelledFaces, *, resume: bool) -> LessonInputs:
    """Read the files that a run's settings name.

    Args:
        settings: Of the run.
        recipe: What is trained.
        faces: The training split.
        resume: Whether the run goes on from its own checkpoint, which takes the place of other weights.

    Raises:
        DataError: The votes or the pictures cannot be used.
        RunError: A teacher, the weights to start from, or the bank cannot be used.
        TrainingError: A version is to teach, and TensorFlow does not compute.
    """
    votes = None
    if settings.votes is not None:
        source = Path(settings.votes)
        votes = vote_shares(faces.names, load_votes(source), source)
    start = None
    if settings.start is not None and not resume:
        start = starting_weights(Path(settings.start), recipe, faces, with_votes=votes is not None)
    return LessonInputs(
        teachers=[load_teacher(Path(folder), settings.precision) for folder in settings.teachers],
        votes=votes,
        start=start,
        bank=None if settings.bank is None else read_bank(settings),
        non_face_crops=None if settings.non_faces is None else cut_non_faces(Path(settings.non_faces)),
    )
