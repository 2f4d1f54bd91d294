"""Defines fer-base: a net for a GPU, or a patient CPU.

    ferserve-train train fer-base --data fer2013.zip

Ten convolutions of 75.3 M multiply-accumulates, one at full resolution. 80 epochs by this recipe took an hour
of a busy machine and ended at 67.8 % on PublicTest; 55 more without mixing and smoothing, from there, at 69.8 %
(docs/models.md has the command).
"""

from typing import Final

from ferserve_training.nets.spec import ConvSpec, NetSpec
from ferserve_training.recipes.recipe import Augmentation, Optimisation, Recipe

FER_BASE: Final = Recipe(
    name="fer-base",
    summary="75.3 M MACs a face: for a GPU, or accuracy before speed",
    net=NetSpec(
        (
            ConvSpec(32),
            ConvSpec(48, stride=2),
            ConvSpec(48, residual=True),
            ConvSpec(96, stride=2),
            ConvSpec(96, residual=True),
            ConvSpec(96, residual=True),
            ConvSpec(160, stride=2),
            ConvSpec(160, residual=True),
            ConvSpec(160, residual=True),
            ConvSpec(256, stride=2),
        )
    ),
    augmentation=Augmentation(scale=(0.8, 1.35), erase_probability=0.5, degrade_probability=0.5),
    optimisation=Optimisation(
        weight_decay=5e-4,
        label_smoothing=0.1,
        mixup=0.2,
        precision="auto",
        grows=True,
        vote_share=0.3,
        not_a_face_share=0.2,
    ),
    epochs=120,
)
