"""Builds the trainable Keras model of any net."""

import keras

from ferserve_training.nets.chain import ChainSpec
from ferserve_training.nets.chain_model import build_chain
from ferserve_training.nets.spec import NetSpec
from ferserve_training.nets.trainable import build_trainable

Net = NetSpec | ChainSpec


def build_net(
    net: Net,
    seed: int,
    *,
    pretrained: bool = True,
    precision: str = "float32",
    with_votes: bool = False,
    with_not_a_face: bool = False,
) -> keras.Model:
    """Build a net with fresh weights.

    Args:
        net: The net.
        seed: Seed of the random weights.
        pretrained: Whether a backbone gets the weights that the net names; not needed where others are put in.
        precision: 'float32', or 'bfloat16' for the maps; a backbone has only the first.
        with_votes: Whether there is a head for the votes of FER+ too; not in a `ChainSpec`.
        with_not_a_face: Whether there is a head for images that are no faces; likewise.

    Returns:
        A model from float32 [N, 48, 48, 1] grey levels (0 to 255) to float32 [N, 7] logits, with more heads to a
        list that begins with these; see `build_trainable`.

    Raises:
        TrainingError: The file of weights is missing or fits no such backbone.
    """
    if isinstance(net, NetSpec):
        return build_trainable(
            net, seed, precision=precision, with_votes=with_votes, with_not_a_face=with_not_a_face
        )
    return build_chain(net, seed, pretrained=pretrained, precision=precision)
