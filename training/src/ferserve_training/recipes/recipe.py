"""Defines recipes: everything that decides how a net is trained but data, seed and time."""

from dataclasses import dataclass
from typing import Literal

from ferserve_training.nets.chain import ChainSpec
from ferserve_training.nets.spec import NetSpec


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Ranges that each training view is drawn from, evenly unless said otherwise.

    Attributes:
        scale: Smallest and largest magnification; its logarithm is drawn.
        rotation_degrees: Largest turn to either side.
        shift_pixels: Largest shift along each axis.
        flip_probability: Share of mirrored views.
        contrast: Largest relative change of contrast; standardisation cancels all of it but the clipping.
        brightness: Largest shift in grey levels; likewise.
        erase_probability: Share of views with a grey square.
        erase_area: Smallest and largest area of the square, as a share of the image.
        vertical_flip_probability: Share of views turned upside down.
        shear_degrees: Largest shear to either side.
        fill: What lies beyond the edge: the picture mirrored, or its outermost pixels.
        degrade_probability: Share of the views that the net sees blurred, noisy, compressed or dark
            (`views/degradation.py`); teachers see them clean.
    """

    scale: tuple[float, float] = (0.8, 1.2)
    rotation_degrees: float = 15.0
    shift_pixels: float = 5.0
    flip_probability: float = 0.5
    contrast: float = 0.3
    brightness: float = 38.0
    erase_probability: float = 0.25
    erase_area: tuple[float, float] = (0.02, 0.2)
    vertical_flip_probability: float = 0.0
    shear_degrees: float = 0.0
    fill: Literal["REFLECT", "NEAREST"] = "REFLECT"
    degrade_probability: float = 0.0


STILL = Augmentation(
    scale=(1.0, 1.0),
    rotation_degrees=0.0,
    shift_pixels=0.0,
    flip_probability=0.0,
    contrast=0.0,
    brightness=0.0,
    erase_probability=0.0,
)
"""Views that are the images themselves."""


Precision = Literal["float32", "bfloat16"]
"""What maps are computed in while a net is trained."""


@dataclass(frozen=True, slots=True)
class Plateau:
    """Cut the learning rate when a figure stops falling (as Keras's ReduceLROnPlateau does).

    Attributes:
        monitor: The loss on the training views or on the validation faces.
        factor: What the rate is multiplied with, 0 to 1.
        patience: Epochs without a better figure before a cut.
        least_rate: The rate is not cut below it.
    """

    monitor: Literal["training_loss", "validation_loss"]
    factor: float
    patience: int
    least_rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Steps:
    """Change the learning rate at given epochs.

    Attributes:
        changes: Pairs of the number of epochs made and the rate that holds from then on, ascending.
    """

    changes: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Optimisation:
    """Decides how the weights are moved.

    Attributes:
        batch_size: Faces a step.
        peak_learning_rate: Reached after the warm-up.
        warmup_steps: Steps of the linear warm-up; only before the cosine.
        momentum: Of the gradients; SGD only, with Nesterov's look-ahead.
        weight_decay: L2 coefficient added to the gradients of kernels; biases and batch norm are left alone.
        label_smoothing: Share of the target spread evenly over the classes.
        ema_decay: Per step, of the exponential moving average over all weights and batch-norm statistics; 0: none.
        algorithm: 'sgd', or 'adam' with the usual 0.9, 0.999 and 1e-7.
        rate: None for a cosine to zero over the run, else steps (none: a constant rate) or cuts on a plateau.
        mixup: Both parameters of the beta distribution that views are mixed by (Zhang et al. 2018); 0: none.
        balances_classes: Whether a face counts by the inverse of its class's share.
        head_epochs: First epochs in which the kernels and biases of a pre-trained backbone are left alone.
        stop_after: Epochs without a lower validation loss that end the run; None: never.
        teacher_share: With a teacher, the part of the loss that is its; the labels have the rest.
        teacher_temperature: Divides both nets' logits in the teacher's part (Hinton et al. 2015).
        keeps: What is scored and exported: the last epoch, or the one with the best validation figure.
        precision: Of the maps while training; 'auto' measures which is faster on the machine. Nets with a backbone
            take only 'float32'.
        grows: Whether the views are small at first (`VIEW_SIZES`); only for the fer nets.
        vote_share: Weight of the second head's loss, where the votes of FER+ are given; likewise. 0: takes none.
        not_a_face_share: Weight of the loss of a head that tells non-faces, which then replace a tenth of each
            batch (`views/non_faces.py`); only for the fer nets. 0: no such head.
    """

    batch_size: int = 128
    peak_learning_rate: float = 0.1
    warmup_steps: int = 500
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    ema_decay: float = 0.999
    algorithm: Literal["sgd", "adam"] = "sgd"
    rate: Steps | Plateau | None = None
    mixup: float = 0.0
    balances_classes: bool = False
    head_epochs: int = 0
    stop_after: int | None = None
    teacher_share: float = 0.9
    teacher_temperature: float = 3.0
    keeps: Literal["last", "best_accuracy", "best_loss"] = "last"
    precision: Precision | Literal["auto"] = "float32"
    grows: bool = False
    vote_share: float = 0.0
    not_a_face_share: float = 0.0


def adam(batch_size: int, learning_rate: float = 1e-3) -> Optimisation:
    """Give what Keras's `fit` does with Adam: a constant rate, no averaging, no weight decay."""
    return Optimisation(
        batch_size=batch_size,
        peak_learning_rate=learning_rate,
        warmup_steps=0,
        weight_decay=0.0,
        ema_decay=0.0,
        algorithm="adam",
        rate=Steps(),
    )


@dataclass(frozen=True, slots=True)
class Recipe:
    """Defines a named way to train a net.

    Attributes:
        name: Also the name of the exported model.
        summary: One line for the list of recipes.
        net: What is trained.
        augmentation: How the views are drawn.
        optimisation: How the weights are moved.
        epochs: Passes over the training faces, unless the user gives a number or a time.
        evaluate_every_epochs: How often the validation faces are scored; the last epoch always is.
        published: What its authors claim, in words; None where they claim nothing.
    """

    name: str
    summary: str
    net: NetSpec | ChainSpec
    augmentation: Augmentation
    optimisation: Optimisation
    epochs: int
    evaluate_every_epochs: int = 5
    published: str | None = None
