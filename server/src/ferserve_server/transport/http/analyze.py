"""POST /v1/analyze: pictures in, the expressions of their faces out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferserve_server.domain.errors import FerserveError
from ferserve_server.transport.http.answers import format_analyses
from ferserve_server.transport.http.calls import answered_within, caller_of_request
from ferserve_server.transport.http.query import ANALYZE_OPTIONS, parse_analyze, parse_options, parse_timeout
from ferserve_server.transport.http.reply import json_reply

if TYPE_CHECKING:
    from aiohttp import web

    from ferserve_server.domain.detection import DetectionOptions
    from ferserve_server.domain.ports import Clock
    from ferserve_server.pipeline.analyze_images import AnalyzeImages
    from ferserve_server.transport.http.body import BodyReader
    from ferserve_server.transport.http.reply import Reply
    from ferserve_server.transport.limits import RequestLimits


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
                caller=caller_of_request(request),
            )
        if upload.names is None and isinstance(answer.results[0], FerserveError):
            raise answer.results[0]
        return json_reply(format_analyses(answer, upload.names, self._clock.now() - started_at))
