"""Defines fer-small: nine convolutions of 34.0 M multiply-accumulates.

    ferserve-train train fer-small --data fer2013.zip

Seven times the multiply-accumulates of fer-nano, spent at 24x24 and 12x12 pixels. 72 epochs with fer-base as
teacher took 46 minutes and ended at 67.2 % on PublicTest; 40 more with a better teacher, from there, at 69.4 %
(docs/models.md has the command).
"""

from typing import Final

from ferserve_training.nets.spec import ConvSpec, NetSpec
from ferserve_training.recipes.recipe import Augmentation, Optimisation, Recipe

FER_SMALL: Final = Recipe(
    name="fer-small",
    summary="34 M MACs a face: for a CPU, few faces a frame",
    net=NetSpec(
        (
            ConvSpec(32, stride=2),
            ConvSpec(32, residual=True),
            ConvSpec(64, stride=2),
            ConvSpec(64, residual=True),
            ConvSpec(64, residual=True),
            ConvSpec(128, stride=2),
            ConvSpec(128, residual=True),
            ConvSpec(128, residual=True),
            ConvSpec(192, stride=2),
        )
    ),
    augmentation=Augmentation(scale=(0.8, 1.35), degrade_probability=0.5),
    # More parameters than fer-nano memorise more; a little mixing and a stronger decay hold against it.
    optimisation=Optimisation(
        weight_decay=5e-4, mixup=0.2, precision="auto", grows=True, vote_share=0.3, not_a_face_share=0.2
    ),
    epochs=200,
)
