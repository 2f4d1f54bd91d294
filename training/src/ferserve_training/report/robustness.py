"""Measures one model on degraded faces and on images that are no faces."""

from typing import Final

import numpy as np
import numpy.typing as npt
from keras import ops

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.evaluation.calibration import fit_temperature, softmax
from ferserve_training.evaluation.decisions import choose_decisions
from ferserve_training.evaluation.robustness import Robustness, measure_degraded, measure_non_faces
from ferserve_training.report.evaluated_model import EvaluatedModel
from ferserve_training.views.non_faces import non_faces

_SEED: Final = (2013, 7)
"""Of the non-faces; no run draws from it."""
MADE: Final = "jigsaws, zooms, noise and blobs"
CUT: Final = "crops of pictures without people"


def measure_robustness(
    model: EvaluatedModel,
    name: str,
    faces: LabelledFaces,
    split: str,
    crops: npt.NDArray[np.uint8] | None = None,
) -> Robustness:
    """Measure a model on every degraded set and, where it tells them, on non-faces.

    Args:
        model: The net.
        name: Of the model, for the record.
        faces: What it is scored on; jigsaws and zooms are made of them too.
        split: What they are.
        crops: Crops of pictures without people that it has not learnt from, uint8 [M, 48, 48, 1], or None.
    """
    plain = model.answers_of(faces.images)
    temperature = model.temperature or fit_temperature(plain.logits, faces.labels)
    degraded = tuple(measure_degraded(model.logits_of, faces, temperature))
    if plain.not_a_face is None:
        return Robustness(name, split, degraded)
    kinds = {MADE: _made_of(faces.images)} | ({} if crops is None else {CUT: crops})
    answers = {kind: model.answers_of(images).not_a_face for kind, images in kinds.items()}
    scores = {kind: each for kind, each in answers.items() if each is not None}
    threshold = model.not_a_face_threshold
    if threshold is None:
        decisions = choose_decisions(softmax(plain.logits, temperature), faces.labels, plain.not_a_face)
        threshold = decisions.not_a_face_threshold
    return Robustness(
        name,
        split,
        degraded,
        measure_non_faces(plain.not_a_face, scores, threshold),
        threshold,
        float((plain.not_a_face > threshold).mean()),
    )


def _made_of(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    views = ops.convert_to_tensor(images.astype(np.float32))
    made = non_faces(views, views, has_crops=False, seed=ops.convert_to_tensor(np.asarray(_SEED, np.int32)))
    return np.asarray(np.rint(np.asarray(made)), np.uint8)
