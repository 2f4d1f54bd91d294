"""Lays faces out as rows: one per face, and one for a picture or frame without any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ferserve_client.errors import FerserveError
from ferserve_client.faces import DetectedFace, Emotion, ImageAnalysis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ferserve_client.answers import FrameAnswer

_FACE_COLUMNS: Final[Mapping[str, type]] = {
    "outcome": str,
    "face": int,
    "track_id": int,
    "left": int,
    "top": int,
    "width": int,
    "height": int,
    "score": float,
    "emotion": str,
    "confidence": float,
    "uncertain": bool,
    "not_a_face": bool,
    **{f"score_{emotion}": float for emotion in Emotion},
    "model": str,
    "version": int,
}
FRAME_COLUMNS: Final[Mapping[str, type]] = {"source": str, "sequence_id": int, "time_s": float, **_FACE_COLUMNS}
"""Columns of the table of `watch`, with their types."""
PICTURE_COLUMNS: Final[Mapping[str, type]] = {
    "source": str,
    "picture_width": int,
    "picture_height": int,
    **{name: kind for name, kind in _FACE_COLUMNS.items() if name != "track_id"},
    "message": str,
}
"""Columns of the tables of `analyze` and `folder`, with their types."""

DECIMALS: Final = 6
"""Decimals of a score: float32 has no more."""


def frame_rows(source: str, answer: FrameAnswer) -> Iterator[dict[str, Any]]:
    """Yield the rows of one frame. Labels outside `Emotion` have no score column."""
    outcome = "analyzed"
    if answer.dropped:
        outcome = "dropped"
    elif answer.error is not None:
        outcome = answer.error.reason or answer.error.code.name
    row: dict[str, Any] = {
        "source": source,
        "sequence_id": answer.sequence_id,
        "time_s": round(answer.time_s, DECIMALS),
        "outcome": outcome,
    }
    yield from _rows_of(row, answer.analysis)


def picture_rows(source: str, answer: ImageAnalysis | FerserveError | OSError) -> Iterator[dict[str, Any]]:
    """Yield the rows of one picture. Labels outside `Emotion` have no score column."""
    error = answer.error if isinstance(answer, ImageAnalysis) else answer
    if error is not None:
        if isinstance(error, FerserveError):
            yield {"source": source, "outcome": error.reason or error.code.name, "message": error.message}
        else:
            yield {"source": source, "outcome": "FILE_UNREADABLE", "message": error.strerror or str(error)}
    elif isinstance(answer, ImageAnalysis):
        size = {"picture_width": answer.width, "picture_height": answer.height}
        yield from _rows_of({"source": source, **size, "outcome": "analyzed"}, answer)


def _rows_of(row: dict[str, Any], analysis: ImageAnalysis | None) -> Iterator[dict[str, Any]]:
    if analysis is not None and analysis.servable is not None:
        row |= {"model": analysis.servable.name, "version": analysis.servable.version}
    faces = () if analysis is None else analysis.faces
    if not faces:
        yield row
    for number, face in enumerate(faces, start=1):
        yield {**row, "face": number, **_face_fields(face)}


def _face_fields(face: DetectedFace) -> dict[str, Any]:
    box = face.box
    fields: dict[str, Any] = {"left": box.left, "top": box.top, "width": box.width, "height": box.height}
    fields["score"] = round(face.score, DECIMALS)
    if face.track_id:
        fields["track_id"] = face.track_id
    if face.prediction is None:
        return fields | {"outcome": "failed" if face.error is None else face.error.reason or face.error.code.name}
    prediction = face.prediction
    scores = {
        f"score_{emotion}": round(prediction.scores[emotion], DECIMALS)
        for emotion in Emotion
        if emotion in prediction.scores
    }
    return fields | {
        "emotion": prediction.emotion,
        "confidence": round(prediction.confidence, DECIMALS),
        "uncertain": prediction.uncertain,
        "not_a_face": face.not_a_face,
        **scores,
    }
