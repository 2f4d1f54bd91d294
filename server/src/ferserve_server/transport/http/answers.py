"""Writes the answer to POST /v1/analyze as JSON. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferserve_server.domain.errors import FerserveError
from ferserve_server.http.faces import format_failure, format_image, format_model
from ferserve_server.transport import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ferserve_server.domain.prediction import Analyses, ImageAnalysis


def format_analyses(answer: Analyses, names: Sequence[str] | None, total_s: float) -> dict[str, object]:
    """Writes the results of one request.

    Args:
        answer: An analysis or a failure per picture.
        names: Names of the pictures' files, or None if they have none.
        total_s: Time from the request's arrival to this answer, in seconds.
    """
    results = [_format_result(result, answer.labels) for result in answer.results]
    if names is not None:
        results = [{"name": name, **result} for name, result in zip(names, results, strict=True)]
    timing = wire.format_timing(answer, total_s)
    return {
        "model": format_model(wire.format_servable(answer.servable)),
        "results": results,
        "timing": {field.name: round(getattr(timing, field.name), 3) for field in timing.DESCRIPTOR.fields},
    }


def _format_result(result: ImageAnalysis | FerserveError, labels: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(result, FerserveError):
        return {"failure": format_failure(wire.format_failure(result))}
    return format_image(wire.format_analysis(result), labels)
