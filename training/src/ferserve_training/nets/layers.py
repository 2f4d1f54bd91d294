"""Defines the layers of a chain, each a value."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Conv:
    """Describes a 3x3 convolution with bias, stride 1.

    Attributes:
        channels: Output channels.
        padding: 'same' keeps the size, 'valid' takes two pixels off it.
        relu: Whether a ReLU follows at once.
        l2: Coefficient of the squared kernel in the loss.
    """

    channels: int
    padding: Literal["same", "valid"] = "same"
    relu: bool = True
    l2: float = 0.0


@dataclass(frozen=True, slots=True)
class Norm:
    """Batch norm over the last axis."""


@dataclass(frozen=True, slots=True)
class Relu:
    """Describes a separate ReLU, for chains that normalise before it."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Maximum over 2x2 with stride 2; 'same' rounds an odd size up."""

    padding: Literal["same", "valid"] = "valid"


@dataclass(frozen=True, slots=True)
class Drop:
    """Dropout of a share of the values while training."""

    rate: float


@dataclass(frozen=True, slots=True)
class Flatten:
    """From a map to a vector."""


@dataclass(frozen=True, slots=True)
class Average:
    """From a map to the mean of each channel."""


@dataclass(frozen=True, slots=True)
class Dense:
    """Describes a fully connected layer with bias.

    Attributes:
        units: Outputs.
        relu: Whether a ReLU follows; not after the logits.
        l2: Coefficient of the squared kernel in the loss.
        he: Whether the kernel starts as He et al. 2015 have it, rather than Glorot and Bengio 2010.
    """

    units: int
    relu: bool = True
    l2: float = 0.0
    he: bool = False


@dataclass(frozen=True, slots=True)
class Backbone:
    """Describes a net of `keras.applications` without its top, as first layer; takes three channels.

    Attributes:
        architecture: Which.
        trained_layers: How many of its last layers are trained; the others keep their ImageNet weights. Without
            ImageNet weights all are trained, since frozen noise is of no use.
    """

    architecture: Literal["vgg16", "resnet50v2"]
    trained_layers: int


Layer = Conv | Norm | Relu | Pool | Drop | Flatten | Average | Dense | Backbone
