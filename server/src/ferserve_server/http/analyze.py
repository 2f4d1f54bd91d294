"""Implements POST /v1/analyze: returns the expressions of the faces of pictures as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferserve_server.domain.errors import FerserveError
from ferserve_server.http.calls import answered_within, caller_of_request
from ferserve_server.http.faces import format_failure, format_image, format_model
from ferserve_server.http.query import ANALYZE_OPTIONS, parse_analyze, parse_options, parse_timeout
from ferserve_server.http.responses import json_reply
from ferserve_server.services.codec import messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from ferserve_server.domain.face import DetectionOptions
    from ferserve_server.domain.ports import Clock
    from ferserve_server.domain.prediction import Analyses, ImageAnalysis
    from ferserve_server.http.body import BodyReader
    from ferserve_server.http.responses import Reply
    from ferserve_server.pipeline.analyze_images import AnalyzeImages
    from ferserve_server.services.limits import RequestLimits


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
    timing = messages.format_timing(answer, total_s)
    return {
        "model": format_model(messages.format_servable(answer.servable)),
        "results": results,
        "timing": {field.name: round(getattr(timing, field.name), 3) for field in timing.DESCRIPTOR.fields},
    }


def _format_result(result: ImageAnalysis | FerserveError, labels: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(result, FerserveError):
        return {"failure": format_failure(messages.format_failure(result))}
    return format_image(messages.format_analysis(result), labels)


class AnalyzeRoute:
    """Implements the route like `ferserve.v1.EmotionService/AnalyzeImages`. Event loop only."""

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
        """Analyses the picture in the body, or the files of a form.

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
                caller=caller_of_request(request),
            )
        if upload.names is None and isinstance(answer.results[0], FerserveError):
            raise answer.results[0]
        return json_reply(format_analyses(answer, upload.names, self._clock.now() - started_at))
