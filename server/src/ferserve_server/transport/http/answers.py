"""Analyses of pictures as JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import FerserveError
from ferserve_server.transport import wire
from ferserve_server.transport.http.status import format_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.face import FaceLocation
    from ferserve_server.domain.prediction import Analyses, ImageAnalysis
    from ferserve_server.domain.servable import ServableId

_SCORE_DIGITS = 6
"""A float32 holds about seven; more would be noise."""


def format_analyses(answer: Analyses, names: Sequence[str] | None, total_s: float) -> dict[str, object]:
    """Writes what was found in the pictures of one request.

    Args:
        answer: An analysis or a failure per picture.
        names: Names of the pictures' files, or None if they have none.
        total_s: How long it all took, in seconds.
    """
    results = [_format_result(result, answer.labels) for result in answer.results]
    if names is not None:
        results = [{"name": name, **result} for name, result in zip(names, results, strict=True)]
    timing = wire.format_timing(answer, total_s)
    return {
        "model": format_servable(answer.servable),
        "results": results,
        "timing": {field.name: round(getattr(timing, field.name), 3) for field in timing.DESCRIPTOR.fields},
    }


def format_servable(servable: ServableId) -> dict[str, object]:
    """Writes which version answered."""
    return {"name": servable.name, "version": servable.version}


def _format_result(result: ImageAnalysis | FerserveError, labels: tuple[str, ...]) -> dict[str, object]:
    if isinstance(result, FerserveError):
        return {"failure": format_error(result)}
    return {
        "width": result.width,
        "height": result.height,
        "faces": _format_faces(result, labels),
        "omitted_face_count": result.omitted_face_count,
    }


def _format_location(location: FaceLocation) -> dict[str, object]:
    """Writes box and score, and the landmarks where there are any."""
    box = location.box
    face: dict[str, object] = {
        "box": {"left": box.left, "top": box.top, "width": box.width, "height": box.height},
        "score": round(location.score, _SCORE_DIGITS),
    }
    if location.landmarks is not None:
        face["landmarks"] = {
            name: [round(x, 1), round(y, 1)] for name, (x, y) in location.landmarks._asdict().items()
        }
    return face


def _format_faces(analysis: ImageAnalysis, labels: tuple[str, ...]) -> list[dict[str, object]]:
    faces: list[dict[str, object]] = []
    uncertain = analysis.faces.uncertain.tolist()
    for row, (location, scores) in enumerate(zip(analysis.locations, analysis.faces.scores.tolist(), strict=True)):
        face = _format_location(location)
        failure = analysis.faces.failures.get(row)
        if failure is None:
            best = max(range(len(labels)), key=scores.__getitem__)
            face["emotion"] = labels[best]
            face["confidence"] = round(scores[best], _SCORE_DIGITS)
            face["scores"] = {
                label: round(score, _SCORE_DIGITS) for label, score in zip(labels, scores, strict=True)
            }
            face["uncertain"] = uncertain[row]
            if analysis.faces.not_a_face is not None and analysis.faces.not_a_face[row]:
                face["not_a_face"] = True
        else:
            face["failure"] = format_error(failure)
        faces.append(face)
    return faces
