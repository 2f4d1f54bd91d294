"""Scores face crops: raw ones as they are, encoded ones after decoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.caller import UNKNOWN_CALLER, CallerId
from ferserve_server.domain.errors import FerserveError, InferenceFailedError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.prediction import Classification, ScoredFaces
from ferserve_server.pipeline.decisions import decide

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ferserve_server.domain.face import CropBatch, FaceCrop
    from ferserve_server.domain.models import Acquire
    from ferserve_server.domain.ports import Vision
    from ferserve_server.domain.servable import ModelSpec


class ClassifyFaces:
    """Implements ClassifyFaces and ClassifyStream. Event loop only."""

    def __init__(self, acquire: Acquire, vision: Vision) -> None:
        self._acquire = acquire
        self._vision = vision

    async def packed(
        self,
        crops: CropBatch,
        spec: ModelSpec,
        *,
        deadline: float | None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> Classification:
        """Scores raw crops.

        Args:
            crops: uint8 [N, H, W, 1], N >= 1. Sizes other than the model's are resized.
            spec: The model.
            deadline: When the answer must be there, on the server's clock, in seconds, or None.
            priority: How urgent it is beside others.
            caller: Whose request it is.

        Raises:
            FerserveError: The model is not there, or the faces were not taken; see `domain.ports.FaceScorer`.
        """
        with self._acquire(spec, once=True) as lease:
            wanted = lease.description.input
            if crops.shape[1:3] != (wanted.height, wanted.width):
                crops = await self._vision.resize(crops)
            faces = await lease.scorer.score(crops, deadline=deadline, priority=priority, caller=caller)
            return Classification(decide(faces, lease.description), lease.description.labels, lease.id)

    async def encoded(
        self,
        images: Sequence[bytes],
        spec: ModelSpec,
        *,
        deadline: float | None,
        priority: Priority = Priority.INTERACTIVE,
        caller: CallerId = UNKNOWN_CALLER,
    ) -> Classification:
        """Scores crops that are encoded pictures; one that cannot be read fails alone.

        Args:
            images: JPEG, PNG or WebP, one face each; 1 or more.
            spec: The model.
            deadline: When the answer must be there, on the server's clock, in seconds, or None.
            priority: How urgent it is beside others.
            caller: Whose request it is.

        Raises:
            FerserveError: The model is not there, or the faces were not taken.
        """
        with self._acquire(spec, once=True) as lease:
            crops = await self._vision.read_crops(images, deadline=deadline, priority=priority, caller=caller)
            readable: dict[int, FaceCrop] = {}
            failures: dict[int, FerserveError] = {}
            for row, crop in enumerate(crops):
                if isinstance(crop, Exception):
                    failures[row] = crop if isinstance(crop, FerserveError) else InferenceFailedError()
                else:
                    readable[row] = crop
            rows = list(readable)
            if not readable:
                labels = lease.description.labels
                none = np.zeros((len(crops), len(labels)), np.float32)
                return Classification(ScoredFaces(none, failures), labels, lease.id)
            batch = np.stack(list(readable.values()))[..., np.newaxis]
            scored = await lease.scorer.score(batch, deadline=deadline, priority=priority, caller=caller)
            faces = decide(scored, lease.description)
            faces = _with_failures(faces, rows, len(crops), failures)
            return Classification(faces, lease.description.labels, lease.id)


def _with_failures(
    faces: ScoredFaces, rows: Sequence[int], face_count: int, failures: Mapping[int, FerserveError]
) -> ScoredFaces:
    """Adds the faces that could not be read to those that were scored.

    Args:
        faces: The scored faces.
        rows: Places of the scored faces in the request.
        face_count: Faces in the request.
        failures: Why the others have no scores, by their places.
    """
    scores = np.zeros((face_count, faces.scores.shape[1]), np.float32)
    scores[rows] = faces.scores
    not_a_face_scores = None
    if faces.not_a_face_scores is not None:
        not_a_face_scores = np.zeros(face_count, np.float32)
        not_a_face_scores[rows] = faces.not_a_face_scores
    return faces._replace(
        scores=scores,
        failures={**failures, **{rows[row]: failure for row, failure in faces.failures.items()}},
        not_a_face=None,
        not_a_face_scores=not_a_face_scores,
    )
