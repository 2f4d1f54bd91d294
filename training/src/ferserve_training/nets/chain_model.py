"""Builds the Keras model of a chain of layers."""

import keras

from ferserve_training.labels import FACE_SIZE
from ferserve_training.nets.backbone import build_backbone
from ferserve_training.nets.chain import ChainSpec
from ferserve_training.nets.layers import Average, Backbone, Conv, Dense, Drop, Flatten, Layer, Norm, Pool, Relu
from ferserve_training.nets.norm import FusedBatchNorm
from ferserve_training.nets.trainable import POLICIES


def build_chain(spec: ChainSpec, seed: int, *, pretrained: bool, precision: str) -> keras.Model:
    """Build a chain with fresh weights; see `build_net`. A backbone is float32 whatever the precision."""
    seeds = keras.random.SeedGenerator(seed)
    inputs = keras.Input((FACE_SIZE, FACE_SIZE, 1))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    if spec.input_size != FACE_SIZE:
        x = keras.layers.Resizing(spec.input_size, spec.input_size, interpolation="bilinear")(x)
    if spec.channels != 1:
        x = keras.layers.Concatenate()([x] * spec.channels)
    for index, layer in enumerate(spec.layers):
        if isinstance(layer, Backbone):
            # Its initialisers take no seeds of ours.
            keras.utils.set_random_seed(seed)
            backbone = build_backbone(layer, spec.weights if pretrained else None, spec.weights, spec.input_size)
            # Called without `training`, each of its layers learns what the step says; frozen ones never train.
            x = backbone(x)
        else:
            # Scores are the softmax of these: bfloat16's 8 bits would tie near answers.
            policy = "float32" if index == len(spec.layers) - 1 else POLICIES[precision]
            x = _keras_layer(layer, seeds, seed + index, policy)(x)
    return keras.Model(inputs, x)


def _keras_layer(  # noqa: PLR0911  # a table
    layer: Layer, seeds: keras.random.SeedGenerator, drop_seed: int, policy: str
) -> keras.layers.Layer:
    match layer:
        case Conv():
            return keras.layers.Conv2D(
                layer.channels,
                3,
                padding=layer.padding,
                activation="relu" if layer.relu else None,
                kernel_initializer=keras.initializers.GlorotUniform(seeds),
                kernel_regularizer=_penalty(layer.l2),
                dtype=policy,
            )
        case Dense():
            start = keras.initializers.HeNormal if layer.he else keras.initializers.GlorotUniform
            return keras.layers.Dense(
                layer.units,
                activation="relu" if layer.relu else None,
                kernel_initializer=start(seeds),
                kernel_regularizer=_penalty(layer.l2),
                dtype=policy,
            )
        case Norm():
            return FusedBatchNorm(dtype=policy)
        case Relu():
            return keras.layers.ReLU(dtype=policy)
        case Pool():
            return keras.layers.MaxPooling2D(2, padding=layer.padding, dtype=policy)
        case Drop():
            return keras.layers.Dropout(layer.rate, seed=drop_seed, dtype=policy)
        case Flatten():
            return keras.layers.Flatten(dtype=policy)
        case Average():
            return keras.layers.GlobalAveragePooling2D(dtype=policy)
        case _:
            raise TypeError(f"{layer} is no layer of a chain")


def _penalty(l2: float) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(l2) if l2 else None
