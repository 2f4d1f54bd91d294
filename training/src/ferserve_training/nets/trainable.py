"""The form of a net that is trained: every convolution is followed by batch norm."""

import keras

from ferserve_training.labels import CLASS_COUNT, FACE_SIZE
from ferserve_training.nets.spec import KERNEL_SIZE, NetSpec
from ferserve_training.nets.standardise import standardise


def build_trainable(spec: NetSpec, seed: int) -> keras.Model:
    """Build a net with fresh weights.

    Layers are named `conv_<i>`, `norm_<i>` and `classifier`; folding relies on it. The batch norm of a residual
    convolution starts with scale 0, so that the block starts as the identity (Goyal et al. 2017, section 5.1).

    Args:
        spec: The net.
        seed: Seed of the initial weights.

    Returns:
        A model from float32 [N, 48, 48, 1] grey levels (0 to 255) to float32 [N, 7] logits.
    """
    seeds = keras.random.SeedGenerator(seed)
    inputs = keras.Input((FACE_SIZE, FACE_SIZE, 1))
    x = standardise(inputs)
    for index, conv in enumerate(spec.convolutions):
        y = keras.layers.Conv2D(
            conv.channels,
            KERNEL_SIZE,
            conv.stride,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(seeds),
            name=f"conv_{index}",
        )(x)
        y = keras.layers.BatchNormalization(
            momentum=0.9,
            epsilon=1e-3,
            gamma_initializer="zeros" if conv.residual else "ones",
            name=f"norm_{index}",
        )(y)
        x = keras.layers.ReLU(name=f"relu_{index}")(x + y if conv.residual else y)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(
        CLASS_COUNT, kernel_initializer=keras.initializers.GlorotUniform(seeds), name="classifier"
    )(x)
    return keras.Model(inputs, logits)
