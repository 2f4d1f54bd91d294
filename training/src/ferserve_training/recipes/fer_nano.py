"""Defines fer-nano: the smallest of the bundled nets.

    ferserve-train train fer-nano --data fer2013.zip --max-minutes 53

Six convolutions of 4.6 M multiply-accumulates. The figures of version 1 and the time it took are in its model
card.
"""

from typing import Final

from ferserve_training.nets.spec import ConvSpec, NetSpec
from ferserve_training.recipes.recipe import Augmentation, Optimisation, Recipe

FER_NANO: Final = Recipe(
    name="fer-nano",
    summary="4.6 M MACs a face: for a CPU, or many faces a frame",
    # Stride 2 at once: full-resolution maps cost most of the MACs of a net on 48 pixels and bring little.
    net=NetSpec(
        (
            ConvSpec(16, stride=2),
            ConvSpec(32, stride=2),
            ConvSpec(32, residual=True),
            ConvSpec(64, stride=2),
            ConvSpec(64, residual=True),
            ConvSpec(96, stride=2),
        )
    ),
    # Geometry and hardly any other noise. Version 1, of 224 epochs, ended at 76 % on plain training faces and 65 %
    # on PublicTest, where it hardly moved after epoch 120: more regularisation, or a teacher, is worth a try.
    augmentation=Augmentation(scale=(0.8, 1.35), degrade_probability=0.5),
    optimisation=Optimisation(precision="auto", vote_share=0.3, not_a_face_share=0.2),
    epochs=200,
)
