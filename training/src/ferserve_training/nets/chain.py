"""Describes a net as a list of layers; MACs and parameters follow without TensorFlow."""

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ferserve_training.labels import CLASS_COUNT, FACE_SIZE
from ferserve_training.nets.layers import Average, Backbone, Conv, Dense, Flatten, Layer, Norm, Pool
from ferserve_training.nets.spec import KERNEL_SIZE

RANDOM_WEIGHTS: Final = "none"
CACHED_IMAGENET: Final = "imagenet-if-cached"


@dataclass(frozen=True, slots=True)
class BackboneFacts:
    """Counts of an architecture at 48x48x3, without its top.

    Attributes:
        parameter_count: Weights, biases and batch-norm statistics.
        mac_count: Multiply-accumulates of its convolutions.
        channels: Of its last map.
        map_size: Side of the last map in pixels.
        weights_file: What Keras calls its ImageNet weights.
    """

    parameter_count: int
    mac_count: int
    channels: int
    map_size: int
    weights_file: str


BACKBONES: Final = MappingProxyType(
    {
        "vgg16": BackboneFacts(
            14_714_688, 704_692_224, 512, 1, "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
        ),
        "resnet50v2": BackboneFacts(
            23_564_800, 187_445_248, 2048, 2, "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
        ),
    }
)


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """Scale to 0..1, resize, repeat the channel, then one layer after the other.

    Counts are those of the net as Keras counts them, batch norm with its four values a channel.

    Attributes:
        layers: The last is `Dense(7, relu=False)`.
        input_size: The 48x48 face is resized to so many pixels first, bilinearly.
        channels: 1, or 3 for nets that want colour; the grey channel is repeated.
        weights: Where a backbone's weights come from: 'none' (random), 'imagenet-if-cached', or a file's path.
    """

    layers: tuple[Layer, ...]
    input_size: int = FACE_SIZE
    channels: int = 1
    weights: str = RANDOM_WEIGHTS

    def __post_init__(self) -> None:
        """Reject a chain that does not end in seven logits."""
        last = self.layers[-1]
        if not isinstance(last, Dense) or last.relu or last.units != CLASS_COUNT:
            raise ValueError("the last layer must be Dense(7, relu=False)")

    @property
    def parameter_count(self) -> int:
        """Weights, biases and batch-norm values."""
        return self._count()[0]

    @property
    def mac_count(self) -> int:
        """Multiply-accumulates of one face."""
        return self._count()[1]

    @property
    def preprocessing(self) -> str:
        """Preprocessing inside the graph, as a sentence."""
        resized = "" if self.input_size == FACE_SIZE else f", resized to {self.input_size}x{self.input_size}"
        repeated = "" if self.channels == 1 else f", repeated to {self.channels} channels"
        return f"each image is divided by 255{resized}{repeated} inside the graph"

    @property
    def backbone(self) -> Backbone | None:
        """Returns the pre-trained part, if there is one."""
        first = self.layers[0]
        return first if isinstance(first, Backbone) else None

    def _count(self) -> tuple[int, int]:
        """Walk the layers and add up parameters and MACs."""
        size, channels, parameters, macs = self.input_size, self.channels, 0, 0
        for layer in self.layers:
            match layer:
                case Conv(padding=padding):
                    size -= 0 if padding == "same" else KERNEL_SIZE - 1
                    weights = KERNEL_SIZE**2 * channels * layer.channels
                    parameters, macs = parameters + weights + layer.channels, macs + size * size * weights
                    channels = layer.channels
                case Pool(padding=padding):
                    size = math.ceil(size / 2) if padding == "same" else size // 2
                case Norm():
                    parameters += 4 * channels
                case Flatten():
                    size, channels = 1, size * size * channels
                case Average():
                    size = 1
                case Dense(units=units):
                    parameters, macs = parameters + (channels + 1) * units, macs + channels * units
                    channels = units
                case Backbone(architecture=architecture):
                    facts = BACKBONES[architecture]
                    parameters, macs = parameters + facts.parameter_count, macs + facts.mac_count
                    size, channels = facts.map_size, facts.channels
                case _:
                    pass
        return parameters, macs
