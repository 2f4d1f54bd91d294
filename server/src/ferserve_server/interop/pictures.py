"""Lays out the faces of whole pictures as rows of tensors, which cannot hold nested lists. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ferserve_server.domain.errors import FerserveError
from ferserve_server.domain.prediction import Classification, ScoredFaces

if TYPE_CHECKING:
    import numpy.typing as npt

    from ferserve_server.domain.prediction import Analyses, ImageAnalysis


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFaces(Classification):
    """Holds the faces of pictures, one row each: first picture first, largest face first.

    Attributes:
        face_counts: int32 [N], how many of the F rows are each picture's; 0 for a picture without a face.
        boxes: int32 [F, 4]: left, top, width and height in pixels of the picture as shown.
    """

    face_counts: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.int32]


def in_rows(analyses: Analyses) -> PictureFaces:
    """Concatenates the faces of pictures.

    Raises:
        FerserveError: That of the first picture, or face, that failed: a row has no place for an error.
    """
    pictures: list[ImageAnalysis] = []
    for result in analyses.results:
        if isinstance(result, FerserveError):
            raise result
        for failure in result.faces.failures.values():
            raise failure
        pictures.append(result)
    boxes = [(box.left, box.top, box.width, box.height) for each in pictures for box in each.boxes]
    return PictureFaces(
        faces=ScoredFaces(
            np.concatenate([each.faces.scores for each in pictures]),
            queue_s=max(each.faces.queue_s for each in pictures),
            inference_s=max(each.faces.inference_s for each in pictures),
        ),
        labels=analyses.labels,
        servable=analyses.servable,
        decode_s=max(each.decode_s for each in pictures),
        face_counts=np.array([len(each.boxes) for each in pictures], np.int32),
        boxes=np.array(boxes, np.int32).reshape(-1, 4),
    )
