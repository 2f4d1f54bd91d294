"""Measures a net on degraded faces, on faces detected and cut out again, and on images that are no faces."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.evaluation.calibration import calibration_error, softmax
from ferserve_training.evaluation.haar_recrop import recrop
from ferserve_training.evaluation.intervals import wilson_interval
from ferserve_training.evaluation.perturbations import CHANGES, changed

UNCHANGED = "unchanged"
RECROP = "detected and cut out again"


@dataclass(frozen=True, slots=True)
class DegradedFigures:
    """Figures on one degraded set; shares are 0 to 1.

    Attributes:
        name: What was done to the faces.
        face_count: Faces scored; fewer than all where a detector had to find them.
        accuracy: Share of hits.
        low_95: Lower end of its Wilson interval.
        high_95: Upper end.
        accuracy_unchanged: Share of hits on the same faces, unchanged.
        ece: Expected calibration error at the version's temperature, 15 bins.
    """

    name: str
    face_count: int
    accuracy: float
    low_95: float
    high_95: float
    accuracy_unchanged: float
    ece: float


@dataclass(frozen=True, slots=True)
class NonFaceFigures:
    """Holds how well `not_a_face` tells one kind of non-faces from the scored faces.

    Attributes:
        name: Of the kind.
        image_count: How many there are.
        roc_auc: Area under the ROC curve against the faces, 0.5 (chance) to 1.
        rejected_share: Share that lies above the version's threshold, 0 to 1.
    """

    name: str
    image_count: int
    roc_auc: float
    rejected_share: float


@dataclass(frozen=True, slots=True)
class Robustness:
    """Holds the figures of one model.

    Attributes:
        model: Of an exported version `<model>/<version>`, of a run its recipe.
        split: What was scored.
        degraded: One for each set, the unchanged faces first.
        non_faces: One for each kind and one for all; empty where the net does not tell non-faces.
        not_a_face_threshold: What an image counts as no face above.
        rejected_faces_share: Share of the scored faces above it, 0 to 1.
        weights_sha256: Of a run's weights, so that figures stay with their net; None of a version.
    """

    model: str
    split: str
    degraded: tuple[DegradedFigures, ...]
    non_faces: tuple[NonFaceFigures, ...] = ()
    not_a_face_threshold: float | None = None
    rejected_faces_share: float | None = None
    weights_sha256: str | None = None


LogitsOf = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def measure_degraded(logits_of: LogitsOf, faces: LabelledFaces, temperature: float) -> Iterator[DegradedFigures]:
    """Measure a net on every degraded set, the unchanged faces first.

    Args:
        logits_of: From uint8 [N, 48, 48, 1] to float32 [N, 7].
        faces: What it is scored on.
        temperature: Divides the logits.
    """
    logits = logits_of(faces.images)
    plain_hits = logits.argmax(axis=1) == faces.labels
    yield _figures(UNCHANGED, logits, faces.labels, plain_hits, temperature)
    for name, change in CHANGES.items():
        yield _figures(name, logits_of(changed(faces.images, change)), faces.labels, plain_hits, temperature)
    crops, found = recrop(faces.images)
    if found.any():
        yield _figures(RECROP, logits_of(crops[found]), faces.labels[found], plain_hits[found], temperature)


def measure_non_faces(
    face_scores: npt.NDArray[np.floating], scores_of_kinds: dict[str, npt.NDArray[np.floating]], threshold: float
) -> tuple[NonFaceFigures, ...]:
    """Measure `not_a_face` on kinds of non-faces and on all of them together, each kind weighing the same.

    Args:
        face_scores: Of the scored faces, [N].
        scores_of_kinds: Of each kind, [M] each; at least one.
        threshold: Of the version.
    """
    figures = [_non_faces(name, face_scores, scores, threshold) for name, scores in scores_of_kinds.items()]
    least = min(len(scores) for scores in scores_of_kinds.values())
    together = np.concatenate([scores[:least] for scores in scores_of_kinds.values()])
    return (*figures, _non_faces("all kinds", face_scores, together, threshold))


def _figures(
    name: str,
    logits: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    plain_hits: npt.NDArray[np.bool_],
    temperature: float,
) -> DegradedFigures:
    hits = logits.argmax(axis=1) == labels
    low, high = wilson_interval(int(hits.sum()), len(hits))
    error = calibration_error(softmax(logits, temperature), labels)
    return DegradedFigures(name, len(hits), float(hits.mean()), low, high, float(plain_hits.mean()), error)


def _non_faces(
    name: str, face_scores: npt.NDArray[np.floating], scores: npt.NDArray[np.floating], threshold: float
) -> NonFaceFigures:
    is_non_face = np.concatenate([np.zeros(len(face_scores)), np.ones(len(scores))])
    area = roc_auc_score(is_non_face, np.concatenate([face_scores, scores]))
    return NonFaceFigures(name, len(scores), float(area), float((scores > threshold).mean()))
