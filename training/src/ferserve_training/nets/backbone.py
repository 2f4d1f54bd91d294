"""Builds nets of `keras.applications` as feature extractors; never fetches weights from the network."""

import os
from pathlib import Path
from types import MappingProxyType
from typing import Final

import keras

from ferserve_training.errors import TrainingError
from ferserve_training.nets.chain import BACKBONES, CACHED_IMAGENET, RANDOM_WEIGHTS
from ferserve_training.nets.layers import Backbone

_BUILDERS: Final = MappingProxyType(
    {"vgg16": keras.applications.VGG16, "resnet50v2": keras.applications.ResNet50V2}
)


def build_backbone(backbone: Backbone, load_from: str | None, weights: str, input_size: int) -> keras.Model:
    """Build a backbone and freeze all but its last layers.

    Args:
        backbone: Which, and how many layers are trained.
        load_from: What to load now ('none', 'imagenet-if-cached' or a path), or None to load nothing.
        weights: What the net is trained from; 'none' leaves all layers trainable.
        input_size: Side of the input in pixels.

    Raises:
        TrainingError: The file is missing, or fits no such backbone.
    """
    model = _BUILDERS[backbone.architecture](
        include_top=False, weights=None, input_shape=(input_size, input_size, 3)
    )
    if load_from is not None and load_from != RANDOM_WEIGHTS:
        path = weights_path(backbone, load_from)
        try:
            model.load_weights(path)
        except (OSError, ValueError) as error:
            raise TrainingError(f"{path}: holds no weights of {backbone.architecture} ({error})") from error
    if weights != RANDOM_WEIGHTS:
        for layer in model.layers[: -backbone.trained_layers]:
            layer.trainable = False
    return model


def weights_path(backbone: Backbone, weights: str) -> Path:
    """Find the file of weights.

    Args:
        backbone: Which net.
        weights: 'imagenet-if-cached' for Keras's own cache, else a path.

    Raises:
        TrainingError: There is no such file; nothing is fetched and nothing else is taken in its place.
    """
    file_name = BACKBONES[backbone.architecture].weights_file
    is_cached = weights == CACHED_IMAGENET
    # Where keras.utils.get_file keeps what it fetched.
    cache = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    path = cache / "models" / file_name if is_cached else Path(weights)
    if not path.is_file():
        raise TrainingError(
            f"{path}: no such file; it should hold the ImageNet weights of {backbone.architecture} ({file_name}). "
            "Put it there, name another with --set weights=PATH, or train from random weights with "
            "--set weights=none"
        )
    return path
