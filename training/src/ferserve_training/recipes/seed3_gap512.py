"""Defines seed3-gap512: four convolutions up to 512 channels, averaged, batch norm before ReLU.

    ferserve-train train seed3-gap512 --data fer2013.zip

Adam at 5e-4, from epoch 20 at 2.5e-4, from epoch 30 at 5e-5. The source tells neither its batch, augmentation,
L2 factor nor epochs; here 64, mirroring, 1e-3 and 45. Published: no score. Reached here: 63.1 % on PublicTest
(61.5 to 64.7) with `precision=bfloat16`, in 133 minutes on two cores beside much other work.
"""

from dataclasses import replace
from typing import Final

from ferserve_training.nets.chain import ChainSpec
from ferserve_training.nets.layers import Average, Conv, Dense, Drop, Norm, Pool, Relu
from ferserve_training.recipes.recipe import STILL, Recipe, Steps, adam

SEED3_GAP512: Final = Recipe(
    name="seed3-gap512",
    summary="4 convolutions up to 512 channels, averaged",
    net=ChainSpec(
        (
            *(Conv(64, relu=False), Norm(), Relu(), Pool(), Drop(0.3)),
            *(Conv(128, relu=False), Norm(), Relu(), Pool(), Drop(0.3)),
            *(Conv(256, relu=False), Norm(), Relu(), Pool(), Drop(0.4)),
            *(Conv(512, relu=False), Norm(), Relu(), Pool(), Drop(0.4)),
            Average(),
            *(Dense(512, relu=False, l2=1e-3), Norm(), Relu(), Drop(0.5)),
            Dense(7, relu=False),
        )
    ),
    augmentation=replace(STILL, flip_probability=0.5),
    optimisation=replace(adam(batch_size=64, learning_rate=5e-4), rate=Steps(((20, 2.5e-4), (30, 5e-5)))),
    epochs=45,
    evaluate_every_epochs=1,
)
