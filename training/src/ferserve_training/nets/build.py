"""The trainable Keras model of any net."""

import keras

from ferserve_training.nets.chain import ChainSpec
from ferserve_training.nets.chain_model import build_chain
from ferserve_training.nets.spec import NetSpec
from ferserve_training.nets.trainable import build_trainable

Net = NetSpec | ChainSpec


def build_net(
    net: Net, seed: int, *, pretrained: bool = True, precision: str = "float32", with_votes: bool = False
) -> keras.Model:
    """Build a net with fresh weights.

    Args:
        net: The net.
        seed: Seed of the random weights.
        pretrained: Whether a backbone gets the weights that the net names; not needed where others are put in.
        precision: 'float32', or 'bfloat16' for the maps; a backbone has only the first.
        with_votes: Whether there is a head for the votes of FER+ too; not in a `ChainSpec`.

    Returns:
        A model from float32 [N, 48, 48, 1] grey levels (0 to 255) to float32 [N, 7] logits, with `with_votes` to a
        list of these and float32 [N, 10].

    Raises:
        TrainingError: The file of weights is missing or fits no such backbone.
    """
    if isinstance(net, NetSpec):
        return build_trainable(net, seed, precision=precision, with_votes=with_votes)
    return build_chain(net, seed, pretrained=pretrained, precision=precision)
