"""Defines fer-large: a net for a GPU, and a teacher for the smaller ones.

    ferserve-train train fer-large --data fer2013.zip

Fourteen convolutions of 232 M multiply-accumulates, only the first at full resolution. Time and score are not
measured yet.
"""

from typing import Final

from ferserve_training.nets.spec import ConvSpec, NetSpec
from ferserve_training.recipes.recipe import Augmentation, Optimisation, Recipe

FER_LARGE: Final = Recipe(
    name="fer-large",
    summary="232 M MACs a face: for a GPU",
    net=NetSpec(
        (
            ConvSpec(32),
            ConvSpec(64, stride=2),
            ConvSpec(64, residual=True),
            ConvSpec(64, residual=True),
            ConvSpec(128, stride=2),
            *[ConvSpec(128, residual=True)] * 4,
            ConvSpec(256, stride=2),
            *[ConvSpec(256, residual=True)] * 3,
            ConvSpec(384, stride=2),
        )
    ),
    augmentation=Augmentation(scale=(0.8, 1.35), erase_probability=0.5, degrade_probability=0.5),
    optimisation=Optimisation(
        batch_size=512,
        peak_learning_rate=0.4,
        weight_decay=5e-4,
        ema_decay=0.998,
        label_smoothing=0.1,
        mixup=0.4,
        precision="auto",
        vote_share=0.3,
        not_a_face_share=0.2,
    ),
    epochs=200,
)
