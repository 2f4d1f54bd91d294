"""A recipe: everything that decides how a net is trained, but for the data, the seed and the time."""

from dataclasses import dataclass

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
    """

    scale: tuple[float, float] = (0.8, 1.2)
    rotation_degrees: float = 15.0
    shift_pixels: float = 5.0
    flip_probability: float = 0.5
    contrast: float = 0.3
    brightness: float = 38.0
    erase_probability: float = 0.25
    erase_area: tuple[float, float] = (0.02, 0.2)


@dataclass(frozen=True, slots=True)
class Optimisation:
    """SGD with Nesterov momentum, linear warm-up, cosine to zero, and an average of the weights.

    Attributes:
        batch_size: Faces a step.
        peak_learning_rate: Reached after the warm-up.
        warmup_steps: Steps of the linear warm-up.
        momentum: Of the gradients.
        weight_decay: L2 coefficient added to the gradients of kernels; biases and batch norm are left alone.
        label_smoothing: Share of the target spread evenly over the classes.
        ema_decay: Per step, of the exponential moving average over all weights and batch-norm statistics.
    """

    batch_size: int = 128
    peak_learning_rate: float = 0.1
    warmup_steps: int = 500
    momentum: float = 0.9
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    ema_decay: float = 0.999


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to train a net.

    Attributes:
        name: Also the name of the exported model.
        summary: One line for the list of recipes.
        net: What is trained.
        augmentation: How the views are drawn.
        optimisation: How the weights are moved.
        epochs: Passes over the training faces, unless the user gives a number or a time.
        evaluate_every_epochs: How often PublicTest is scored; the last epoch always is.
    """

    name: str
    summary: str
    net: NetSpec
    augmentation: Augmentation
    optimisation: Optimisation
    epochs: int
    evaluate_every_epochs: int = 5
