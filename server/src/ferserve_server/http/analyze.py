"""Implements POST /v1/analyze.

Analyses of pictures as JSON. Pure.

POST /v1/analyze: pictures in, the expressions of their faces out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import FerserveError
from ferserve_server.http.calls import answered_within
from ferserve_server.http.query import ANALYZE_OPTIONS, parse_analyze, parse_options, parse_timeout
from ferserve_server.http.responses import format_error, json_reply
from ferserve_server.services.codec import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.prediction import Analyses, ImageAnalysis
    from ferserve_server.domain.servable import ServableId
    from ferserve_server.http.body import BodyReader
    from ferserve_server.http.responses import Reply
    from ferserve_server.pipeline.analyze_images import AnalyzeImages
    from ferserve_server.services.limits import RequestLimits


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
    timing = messages.format_timing(answer, total_s)
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


def _format_faces(analysis: ImageAnalysis, labels: tuple[str, ...]) -> list[dict[str, object]]:
    faces: list[dict[str, object]] = []
    for row, (box, scores) in enumerate(zip(analysis.boxes, analysis.faces.scores.tolist(), strict=True)):
        face: dict[str, object] = {
            "box": {"left": box.left, "top": box.top, "width": box.width, "height": box.height}
        }
        failure = analysis.faces.failures.get(row)
        if failure is None:
            best = max(range(len(labels)), key=scores.__getitem__)
            face["label"] = labels[best]
            face["confidence"] = round(scores[best], _SCORE_DIGITS)
            face["scores"] = {
                label: round(score, _SCORE_DIGITS) for label, score in zip(labels, scores, strict=True)
            }
        else:
            face["failure"] = format_error(failure)
        faces.append(face)
    return faces


class AnalyzeRoute:
    """Answers as `ferserve.v1.EmotionService/AnalyzeImages` does. Event loop only."""

    def __init__(
        self,
        analyze: AnalyzeImages,
        bodies: BodyReader,
        *,
        limits: RequestLimits,
        detection: DetectionOptions,
        clock: Clock,
    ) -> None:
        self._analyze = analyze
        self._bodies = bodies
        self._limits = limits
        self._detection = detection
        self._clock = clock

    async def answer(self, request: web.Request) -> Reply:
        """Analyses the picture that the body is, or the files of a form.

        Raises:
            FerserveError: The request is wrong, the server did not take it, or its only picture, sent as the
                body itself, cannot be read. Pictures of a form fail alone.
        """
        started_at = self._clock.now()
        given = parse_options(request.query.items(), ANALYZE_OPTIONS)
        options = parse_analyze(given, self._detection, self._limits)
        timeout_s = parse_timeout(given)
        async with answered_within(timeout_s):
            upload = await self._bodies.pictures(request)
            answer = await self._analyze(
                upload.images,
                options.spec,
                options.detection,
                deadline=None if timeout_s is None else started_at + timeout_s,
                priority=options.priority,
            )
        if upload.names is None and isinstance(answer.results[0], FerserveError):
            raise answer.results[0]
        return json_reply(format_analyses(answer, upload.names, self._clock.now() - started_at))
