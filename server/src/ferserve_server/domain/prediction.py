"""Defines the results for faces and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.face import BoundingBox, FaceLocation, Scores
from ferserve_server.domain.servable import ServableId

_NO_FAILURES: Final[Mapping[int, FerserveError]] = MappingProxyType({})


class ScoredFaces(NamedTuple):
    """Holds the scores of the faces of one request.

    Attributes:
        scores: float32 [N, K]; rows named in `failures` hold nothing of use.
        failures: Why a row has no scores, by its index. Usually empty.
        queue_s: Longest wait of a row for its batch, in seconds.
        inference_s: Longest run of a batch that held a row, in seconds.
        servable: The version that scored, where the scorer leaves the choice to another server; else None.
        uncertain_threshold: A face whose highest score lies below it is uncertain.
        not_a_face: Whether a crop shows no face, bool [N]; None where the version does not tell.
        not_a_face_scores: Probability of that, float32 [N]; None as above.
    """

    scores: Scores
    failures: Mapping[int, FerserveError] = _NO_FAILURES
    queue_s: float = 0.0
    inference_s: float = 0.0
    servable: ServableId | None = None
    uncertain_threshold: float = 0.5
    not_a_face: npt.NDArray[np.bool_] | None = None
    not_a_face_scores: Scores | None = None

    @property
    def uncertain(self) -> npt.NDArray[np.bool_]:
        """Returns whether each face's label is uncertain, bool [N]."""
        uncertain: npt.NDArray[np.bool_] = self.scores.max(axis=1, initial=0.0) < self.uncertain_threshold
        return uncertain


@dataclass(frozen=True, slots=True)
class Classification:
    """Answers a batch of face crops: one row of scores or one failure per face, in order."""

    faces: ScoredFaces
    labels: tuple[str, ...]
    servable: ServableId
    decode_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageAnalysis:
    """Holds the faces of one picture, largest first.

    Attributes:
        width: Width of the picture as shown, in pixels.
        height: Height of the picture as shown, in pixels.
        locations: Places of the faces, with the detector's scores and landmarks.
        faces: Scores of the faces, row i for `locations[i]`.
        omitted_face_count: Faces found beyond the limit and not classified.
        decode_s: Time to decode the picture, in seconds.
        detect_s: Time to find its faces, in seconds.
    """

    width: int
    height: int
    locations: tuple[FaceLocation, ...]
    faces: ScoredFaces
    omitted_face_count: int
    decode_s: float
    detect_s: float

    @property
    def boxes(self) -> tuple[BoundingBox, ...]:
        """Returns the boxes of `locations`."""
        return tuple(location.box for location in self.locations)


@dataclass(frozen=True, slots=True)
class Analyses:
    """Answers a batch of pictures: an analysis or a failure for each, in order."""

    results: tuple[ImageAnalysis | FerserveError, ...]
    labels: tuple[str, ...]
    servable: ServableId
