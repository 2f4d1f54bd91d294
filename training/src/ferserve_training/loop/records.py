"""Defines the records of a run: settings, history and state, epoch by epoch."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ferserve_training.loop.schedule import Budget
from ferserve_training.recipes.recipe import Precision

State = dict[str, npt.NDArray[np.generic]]
"""Weights, averaged and best weights, the optimiser's variables and the state of the draws, by stable names."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Holds everything that decides the result of a run.

    Attributes:
        recipe: Name in the catalogue.
        seed: Of the weights, the order and the views.
        epochs: Limit, or None.
        max_minutes: Limit, or None.
        smoke: Whether it is a tiny run that only proves the machinery.
        data_sha256: Digest of the data set.
        training_count: Faces learnt from.
        framework: Versions of what computed it.
        overrides: What the user set in the recipe, `name=value` each.
        teachers: Folders of the runs or versions whose mean answer the net learnt from too.
        votes: File of the votes of FER+ that a second head learnt from, or None.
        precision: Of the maps while training: 'float32' or 'bfloat16'.
        start: Folder of the run or version whose weights it went on from, or None.
        bank: Folder of the view bank that it learnt from, or None.
        bank_rounds: Rounds of it that were finished when the run began; later ones are not used.
        bank_sha256: Digest of these.
        non_faces: Folder of pictures without people that non-faces were cut from, or None.
        blends: Nets that the weights were averaged with afterwards, one after the other: `<share> of <folder>`.
    """

    recipe: str
    seed: int
    epochs: int | None
    max_minutes: float | None
    smoke: bool
    data_sha256: str
    training_count: int
    framework: str
    overrides: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    votes: str | None = None
    precision: Precision = "float32"
    start: str | None = None
    bank: str | None = None
    bank_rounds: int = 0
    bank_sha256: str | None = None
    non_faces: str | None = None
    blends: tuple[str, ...] = ()

    @property
    def budget(self) -> Budget:
        """Returns the limits of the run."""
        return Budget(self.epochs, None if self.max_minutes is None else self.max_minutes * 60)


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: From 1.
        progress: Position in the schedule after it, 0 to 1; with the steps it gives every learning rate.
        loss: Mean training loss on the augmented views, nats.
        public_test_accuracy: Of the averaged weights, on the validation faces; None where it was not measured.
        seconds: Wall clock, scoring included.
        learning_rate: Of its last step.
        public_test_loss: Mean surprise at the labels where it was measured, nats.
    """

    epoch: int
    progress: float
    loss: float
    public_test_accuracy: float | None
    seconds: float
    learning_rate: float | None = None
    public_test_loss: float | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Holds a run between two epochs.

    Attributes:
        history: The epochs made so far.
        state: Everything that the next step depends on.
    """

    history: tuple[EpochRecord, ...]
    state: State
