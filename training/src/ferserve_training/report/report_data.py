"""Collects the data of a report: everything that it says, before it is drawn or written."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ferserve_training.data.faces import FaceData, LabelledFaces
from ferserve_training.data.votes import NO_MAJORITY
from ferserve_training.evaluation.calibration import calibration_error, fit_temperature, softmax
from ferserve_training.evaluation.figures import class_figures, reliability, risk_coverage
from ferserve_training.evaluation.intervals import wilson_interval
from ferserve_training.evaluation.robustness import measure_degraded
from ferserve_training.evaluation.scores import Evaluation, evaluate
from ferserve_training.evaluation.twins import find_twin_free
from ferserve_training.report.evaluated_model import EvaluatedModel, milliseconds_a_face
from ferserve_training.report.verdict import ParentFigures, compare_with_parent, parent_summary

_MISTAKE_COUNT: Final = 40


@dataclass(frozen=True, slots=True)
class ReportData:
    """Holds the results of a net on a set of faces.

    Attributes:
        summary: All numbers, ready for JSON.
        evaluation: The figures in which models are compared.
        logits: float32 [N, 7].
        probabilities: At the temperature, float64 [N, 7].
        mistakes: Indices of the surest wrong answers, surest first.
    """

    summary: dict[str, Any]
    evaluation: Evaluation
    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]
    mistakes: tuple[int, ...]


def collect_report_data(
    model: EvaluatedModel,
    data: FaceData,
    majority: npt.NDArray[np.int32] | None,
    parent: EvaluatedModel | None = None,
) -> ReportData:
    """Ask a net about the scored faces, as they are and changed.

    Args:
        model: The net.
        data: What it is scored on; the training faces tell the twins.
        majority: What `majority_labels` gave for the scored faces, if votes are known.
        parent: A model before this one, to compare it with.
    """
    faces = data.public_test
    answers = model.answers_of(faces.images)
    logits = answers.logits
    is_twin_free = find_twin_free(faces.images, data.training.images)
    evaluation = evaluate(
        logits, faces.labels, is_twin_free, "", data.split, model.temperature, answers.not_a_face
    )
    temperature = evaluation.temperature
    probabilities = softmax(logits, temperature)
    called = logits.argmax(axis=1)
    degraded = tuple(measure_degraded(model.logits_of, faces, temperature))
    figures = {name.removeprefix(evaluation.prefix): value for name, value in evaluation.metrics.items()}
    figures["ece"] = calibration_error(probabilities, faces.labels)
    summary = {
        "model": model.name,
        "split": data.split,
        "face_count": len(faces),
        "data_sha256": data.sha256,
        "trained_on_this_data": data.sha256 == model.data_sha256,
        "mac_count": model.mac_count,
        "parameter_count": model.parameter_count,
        "milliseconds_a_face": milliseconds_a_face(model, faces.images),
        "temperature": temperature,
        "temperature_is_fitted_on_these_faces": model.temperature is None,
        "figures": {name: value for name, value in figures.items() if not name.startswith("recall_")},
        "twin_free_count": evaluation.twin_free_count,
        "classes": [
            {name: getattr(each, name) for name in each.__slots__} for each in class_figures(logits, faces.labels)
        ],
        "confusion": evaluation.confusion,
        "reliability": [
            {name: getattr(each, name) for name in each.__slots__}
            for each in reliability(probabilities, faces.labels)
        ],
        "risk_coverage": risk_coverage(probabilities, faces.labels),
        "decisions": asdict(evaluation.decisions),
        "robustness": {each.name: asdict(each) for each in degraded[1:]},
        "parent": parent_summary(None if parent is None else _parent_figures(parent, faces, called)),
        "ferplus_majority": None if majority is None else _agreement(called, majority),
        "history": [{name: getattr(each, name) for name in each.__slots__} for each in model.history],
    }
    wrong = np.flatnonzero(called != faces.labels)
    surest = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:_MISTAKE_COUNT]
    return ReportData(summary, evaluation, logits, probabilities, tuple(int(index) for index in surest))


def _parent_figures(
    parent: EvaluatedModel, faces: LabelledFaces, called: npt.NDArray[np.integer]
) -> ParentFigures:
    """Score the parent on the same faces."""
    logits = parent.logits_of(faces.images)
    degraded = measure_degraded(
        parent.logits_of, faces, parent.temperature or fit_temperature(logits, faces.labels)
    )
    return compare_with_parent(
        parent.name,
        called == faces.labels,
        logits.argmax(axis=1) == faces.labels,
        {each.name: each.accuracy for each in degraded},
    )


def _share(hits: npt.NDArray[np.bool_]) -> dict[str, float]:
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return {"accuracy": float(hits.mean()), "low_95": low, "high_95": high}


def _agreement(called: npt.NDArray[np.integer], majority: npt.NDArray[np.int32]) -> dict[str, float] | None:
    """Score the answers against FER+, where it has a majority for one of the seven classes."""
    is_known = majority != NO_MAJORITY
    if not is_known.any():
        return None
    return {"face_count": float(is_known.sum()), **_share(called[is_known] == majority[is_known])}
