"""Interprets scores: marks uncertain faces, and crops that show no face. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.face import NotAFacePolicy

if TYPE_CHECKING:
    from ferserve_server.domain.prediction import ScoredFaces
    from ferserve_server.domain.servable import ModelDescription


def decide(faces: ScoredFaces, description: ModelDescription) -> ScoredFaces:
    """Splits the non-face column from the scores, and applies the version's thresholds.

    Args:
        faces: Scores as an engine gives them, float32 [N, `description.score_column_count`].
        description: The version that scored.

    Returns:
        The faces with scores float32 [N, K], one column per label.
    """
    label_count = len(description.labels)
    scores = faces.scores
    if scores.shape[1] == label_count:
        if description.uncertain_threshold == faces.uncertain_threshold:
            return faces
        return faces._replace(uncertain_threshold=description.uncertain_threshold)
    return faces._replace(
        scores=scores[:, :label_count],
        uncertain_threshold=description.uncertain_threshold,
        not_a_face=scores[:, label_count] >= description.not_a_face_threshold,
        not_a_face_scores=scores[:, label_count],
    )


def kept_rows(faces: ScoredFaces, policy: NotAFacePolicy) -> list[int]:
    """Lists the answered rows: all but those that show no face, under the policy DROP.

    Rows that failed are answered: nothing is known of them.
    """
    rows = range(len(faces.scores))
    if policy is not NotAFacePolicy.DROP or faces.not_a_face is None:
        return list(rows)
    return [row for row in rows if row in faces.failures or not faces.not_a_face[row]]


def with_rows(faces: ScoredFaces, rows: list[int]) -> ScoredFaces:
    """Keeps some rows, in order."""
    if len(rows) == len(faces.scores):
        return faces
    places = {row: place for place, row in enumerate(rows)}
    return faces._replace(
        scores=faces.scores[rows],
        failures={places[row]: error for row, error in faces.failures.items() if row in places},
        not_a_face=None if faces.not_a_face is None else faces.not_a_face[rows],
        not_a_face_scores=None if faces.not_a_face_scores is None else faces.not_a_face_scores[rows],
    )


def without_marks(faces: ScoredFaces, policy: NotAFacePolicy) -> ScoredFaces:
    """Removes the non-face marks of rows, under the policy IGNORE."""
    if policy is NotAFacePolicy.IGNORE and faces.not_a_face is not None:
        return faces._replace(not_a_face=np.zeros(len(faces.scores), np.bool_))
    return faces
