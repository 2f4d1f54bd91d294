"""Builds the form of a net that is trained: every convolution is followed by batch norm."""

from types import MappingProxyType
from typing import Final

import keras

from ferserve_training.labels import CLASS_COUNT, VOTE_COUNT
from ferserve_training.nets.norm import FusedBatchNorm
from ferserve_training.nets.spec import KERNEL_SIZE, NetSpec
from ferserve_training.nets.standardise import standardise

POLICIES: Final = MappingProxyType({"float32": "float32", "bfloat16": "mixed_bfloat16"})
"""Keras's names of the precisions that maps are computed in; weights are float32 in both."""


def build_trainable(
    spec: NetSpec,
    seed: int,
    *,
    precision: str = "float32",
    with_votes: bool = False,
    with_not_a_face: bool = False,
) -> keras.Model:
    """Build a net with fresh weights.

    Layers are named `conv_<i>`, `norm_<i>`, `classifier`, `votes` and `not_a_face`; folding relies on it. The
    batch norm of a residual convolution starts with scale 0, so that the block starts as the identity (Goyal et
    al. 2017, section 5.1).

    Args:
        spec: The net.
        seed: Seed of the initial weights.
        precision: 'float32', or 'bfloat16' for the maps; weights, statistics and logits stay float32.
        with_votes: Whether a second head, on the same averaged map, answers with the ten options of FER+.
        with_not_a_face: Whether another head answers with the logit of the image being no face.

    Returns:
        A model from float32 [N, H, W, 1] grey levels (0 to 255; 48x48 when served) to float32 [N, 7] logits, or
        to a list of these, the votes' logits, float32 [N, 10], and that of no face, float32 [N, 1], in this order.
    """
    seeds = keras.random.SeedGenerator(seed)
    policy = POLICIES[precision]
    inputs = keras.Input((None, None, 1))
    x = keras.layers.Activation("linear", dtype=policy)(standardise(inputs))
    for index, conv in enumerate(spec.convolutions):
        y = keras.layers.Conv2D(
            conv.channels,
            KERNEL_SIZE,
            conv.stride,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(seeds),
            name=f"conv_{index}",
            dtype=policy,
        )(x)
        y = FusedBatchNorm(
            momentum=0.9,
            epsilon=1e-3,
            gamma_initializer="zeros" if conv.residual else "ones",
            name=f"norm_{index}",
            dtype=policy,
        )(y)
        x = keras.layers.ReLU(name=f"relu_{index}", dtype=policy)(x + y if conv.residual else y)
    x = keras.layers.GlobalAveragePooling2D(dtype=policy)(x)
    outputs = [_head(CLASS_COUNT, seeds, "classifier")(x)]
    if with_votes:
        outputs.append(_head(VOTE_COUNT, seeds, "votes")(x))
    if with_not_a_face:
        outputs.append(_head(1, seeds, "not_a_face")(x))
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])


def not_a_face_output(model: keras.Model) -> keras.Model | None:
    """Give the part of a net that answers with the logit of no face, float32 [N, 1]; None where it has none."""
    names = [layer.name for layer in model.layers]
    return keras.Model(model.inputs[0], model.outputs[-1]) if "not_a_face" in names else None


def logits_only(model: keras.Model) -> keras.Model:
    """Give the part of a net that answers with the seven logits; it shares the net's weights."""
    return keras.Model(model.inputs[0], model.outputs[0]) if len(model.outputs) > 1 else model


def _head(width: int, seeds: keras.random.SeedGenerator, name: str) -> keras.layers.Dense:
    return keras.layers.Dense(
        width, kernel_initializer=keras.initializers.GlorotUniform(seeds), name=name, dtype="float32"
    )
