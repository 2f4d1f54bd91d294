"""Computes on JAX, without TensorFlow, results that the tests compare with TensorFlow's.

Arguments: the folder of a run, and the npz file to write.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from keras import ops

from ferserve_training.errors import TrainingError
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.loop.learner import new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.loop.run_directory import RunDirectory
from ferserve_training.loop.scoring import score
from ferserve_training.loop.teacher import load_teacher
from ferserve_training.loop.trained import load_trained
from ferserve_training.nets.chain import ChainSpec
from ferserve_training.nets.layers import Conv, Dense, Drop, Flatten, Norm, Pool
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.recipes.recipe import STILL, Augmentation
from ferserve_training.recipes.smoke import smoke_version
from ferserve_training.views.augmentation import views_of
from ferserve_training.views.degradation import degraded_views
from support.training_devices import drawn_faces, plain_recipe, steps

WILD = Augmentation(
    scale=(0.5, 1.5), rotation_degrees=40.0, shift_pixels=20.0, vertical_flip_probability=0.5, shear_degrees=20.0
)
_SMOKE = smoke_version(RECIPES["fer-nano"])
# Without non-faces, because the frameworks draw other numbers.
NANO = replace(_SMOKE, augmentation=STILL, optimisation=replace(_SMOKE.optimisation, not_a_face_share=0.0))
DROPPING = replace(
    plain_recipe(),
    net=ChainSpec((Conv(4, l2=0.01), Norm(), Pool(), Flatten(), Drop(0.5), Dense(7, relu=False))),
)


def draws() -> np.ndarray:
    """Thirteen numbers a face, float32 [13, 64]."""
    return np.random.default_rng(0).random((13, 64), np.float32)


def made_views(fill: str) -> np.ndarray:
    """The views that the draws ask for."""
    pictures = np.random.default_rng(1).integers(0, 256, (64, 48, 48, 1), np.uint8)
    return np.asarray(
        views_of(
            ops.convert_to_tensor(pictures), list(map(ops.convert_to_tensor, draws())), replace(WILD, fill=fill)
        )
    )


def degraded() -> np.ndarray:
    """The degraded views that the draws ask for, float32 [64, 48, 48]."""
    pictures = draw_faces(64).astype(np.float32)[..., 0]
    noise = np.random.default_rng(2).normal(size=(64, 48, 48)).astype(np.float32)
    tensors = map(ops.convert_to_tensor, (pictures, noise))
    views, noise_tensor = tensors
    return np.asarray(degraded_views(views, list(map(ops.convert_to_tensor, draws())), noise_tensor))


def _main(run: Path, output: Path) -> None:
    found = {f"views_{fill}": made_views(fill) for fill in ("REFLECT", "NEAREST")}
    found["degraded"] = degraded()
    found["logits"] = score(load_trained(RunDirectory(run)).classifier, draw_faces(64))

    learner = new_learner(Lesson(NANO, drawn_faces(), 0))
    found["losses_before"] = np.asarray(steps(learner, 2))
    found |= {f"state/{name}": values for name, values in learner.state().items()}
    found["losses_after"] = np.asarray(steps(learner, 2, first=2))

    whole, halted, resumed = (new_learner(Lesson(DROPPING, drawn_faces(), 3)) for _ in range(3))
    steps(whole, 2), steps(halted, 2)
    whole.keep_as_best(), halted.keep_as_best()
    resumed.restore(halted.state())
    found["whole"], found["resumed"] = (np.asarray(steps(each, 2, first=2)) for each in (whole, resumed))
    found["same_state"] = np.asarray(
        [np.allclose(values, resumed.state()[name], atol=1e-6) for name, values in whole.state().items()]
    )

    halves = replace(NANO, optimisation=replace(NANO.optimisation, precision="bfloat16"))
    in_halves = new_learner(Lesson(halves, drawn_faces(), 0))
    found["losses_in_bfloat16"] = np.asarray(steps(in_halves, 2))
    found["is_float32"] = np.asarray(
        [
            variable.dtype == np.float32
            for name, variable in in_halves.state().items()
            if name.startswith(("weights", "averaged"))
        ]
    )

    alone = replace(NANO, optimisation=replace(NANO.optimisation, teacher_share=1.0))
    pupil = new_learner(Lesson(alone, drawn_faces(), 1, teachers=[load_teacher(run)]))
    found["losses_with_a_teacher"] = np.asarray(steps(pupil, 8))
    (output.parent / "version").mkdir()
    (output.parent / "version" / "saved_model.pb").touch()
    try:
        load_teacher(output.parent / "version")
    except TrainingError as error:
        found["rejection"] = np.asarray(str(error))
    np.savez(output, **found)


if __name__ == "__main__":
    _main(*map(Path, sys.argv[1:]))
