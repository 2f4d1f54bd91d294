"""Describes a chain of 3x3 convolutions as a value; MACs and parameters follow from it."""

import math
from dataclasses import dataclass

from ferserve_training.labels import CLASS_COUNT, FACE_SIZE

KERNEL_SIZE = 3


@dataclass(frozen=True, slots=True)
class ConvSpec:
    """Describes a 3x3 convolution with bias (batch norm while training) and ReLU, 'same' padding.

    Attributes:
        channels: Output channels.
        stride: 1 or 2.
        residual: Add the input before the ReLU; needs stride 1 and as many channels as the input.
    """

    channels: int
    stride: int = 1
    residual: bool = False


@dataclass(frozen=True, slots=True)
class NetSpec:
    """Standardise the image, convolve, average over the map, classify.

    Counts are those of the served form: batch norm folded, one bias a channel. A MAC is one multiply-accumulate;
    bias, ReLU, additions and pooling are not counted, as is the custom.
    """

    convolutions: tuple[ConvSpec, ...]

    def __post_init__(self) -> None:
        """Reject residual additions of unequal shapes."""
        channels = 1
        for index, conv in enumerate(self.convolutions):
            if conv.residual and (conv.stride != 1 or conv.channels != channels):
                raise ValueError(f"convolution {index} cannot be residual: its input has another shape")
            channels = conv.channels

    @property
    def preprocessing(self) -> str:
        """Preprocessing inside the graph, as a sentence."""
        return "each image is standardised inside the graph"

    @property
    def mac_count(self) -> int:
        """Multiply-accumulates of one face of 48x48."""
        size, channels, total = FACE_SIZE, 1, 0
        for conv in self.convolutions:
            size = math.ceil(size / conv.stride)
            total += size * size * KERNEL_SIZE**2 * channels * conv.channels
            channels = conv.channels
        return total + channels * CLASS_COUNT

    @property
    def parameter_count(self) -> int:
        """Weights and biases of the served form."""
        channels, total = 1, 0
        for conv in self.convolutions:
            total += (KERNEL_SIZE**2 * channels + 1) * conv.channels
            channels = conv.channels
        return total + (channels + 1) * CLASS_COUNT
