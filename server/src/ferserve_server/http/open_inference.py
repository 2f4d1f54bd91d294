"""Implements the REST form of the Open Inference Protocol, as Triton does, including its load and unload calls.

`interop.open_inference` defines the meaning of the messages.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from aiohttp import web

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.http.calls import answered_within, caller_of_request, requester_of_request
from ferserve_server.http.infer_codec import (
    HEADER_LENGTH,
    MAX_JSON_BYTES,
    SHORT_JSON_BYTES,
    as_document,
    infer_reply,
    parse_infer,
)
from ferserve_server.http.query import TIMEOUT, parse_options, parse_timeout
from ferserve_server.http.responses import json_reply
from ferserve_server.interop.open_inference.service import read_version

if TYPE_CHECKING:
    from ferserve_server.domain.ports import Clock
    from ferserve_server.http.body import BodyReader
    from ferserve_server.http.calls import HttpCalls
    from ferserve_server.http.health import HealthRoutes
    from ferserve_server.http.origins import OriginPolicy
    from ferserve_server.http.responses import Reply
    from ferserve_server.interop.open_inference.handlers import OpenInference
    from ferserve_server.interop.open_inference.service import RepositoryControl


class OpenInferenceRoutes:
    """Answers below /v2. Event loop only."""

    def __init__(
        self, calls: HttpCalls, answers: OpenInference, health: HealthRoutes, bodies: BodyReader, clock: Clock
    ) -> None:
        self._calls = calls
        self._answers = answers
        self._health = health
        self._bodies = bodies
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """Returns the routes for the server."""
        handler = self._calls.handler
        found = [
            web.get("/v2", handler("server_metadata", self._server)),
            web.get("/v2/health/live", self._health.live),
            web.get("/v2/health/ready", self._health.ready),
            web.get("/v2/models/stats", handler("model_statistics", self._statistics)),
            web.post("/v2/repository/index", handler("repository_index", self._index)),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            found += [
                web.get(model, handler("model_metadata", self._metadata)),
                web.get(f"{model}/ready", handler("model_ready", self._model_ready)),
                web.get(f"{model}/config", handler("model_config", self._config)),
                web.get(f"{model}/stats", handler("model_statistics", self._statistics)),
                web.post(f"{model}/infer", handler("infer", self._infer)),
            ]
        return found

    async def _infer(self, request: web.Request) -> Reply:
        started_at = self._clock.now()
        timeout_s = parse_timeout(parse_options(request.query.items(), (TIMEOUT,)))
        async with answered_within(timeout_s):
            body = await self._bodies.whole(request)
            header_length = request.headers.get(HEADER_LENGTH)
            if len(body) <= SHORT_JSON_BYTES:
                message = parse_infer(body, header_length, *_model(request))
            else:
                message = await asyncio.to_thread(parse_infer, body, header_length, *_model(request))
            deadline = None if timeout_s is None else started_at + timeout_s
            return infer_reply(message, await self._answers.infer(message, deadline, caller_of_request(request)))

    async def _server(self, request: web.Request) -> Reply:
        del request
        return json_reply(as_document(self._answers.server()))

    async def _model_ready(self, request: web.Request) -> Reply:
        # Unlike gRPC's, which says False, this says why: MODEL_NOT_FOUND or MODEL_NOT_READY, by status and reason.
        metadata = self._answers.model_metadata(*_model(request))
        return json_reply({"name": metadata.name, "ready": True})

    async def _metadata(self, request: web.Request) -> Reply:
        return json_reply(as_document(self._answers.model_metadata(*_model(request))))

    async def _config(self, request: web.Request) -> Reply:
        return json_reply(as_document(self._answers.model_config(*_model(request)).config))

    async def _statistics(self, request: web.Request) -> Reply:
        return json_reply(as_document(await self._answers.model_statistics(*_model(request))))

    async def _index(self, request: web.Request) -> Reply:
        del request  # its body may ask for ready versions only; clients read the states as well
        return json_reply(as_document(self._answers.index("", ready_only=False))["models"])


def _model(request: web.Request) -> tuple[str, str]:
    """Returns the name and the version in the path; "" where there is none."""
    return request.match_info.get("model", ""), request.match_info.get("version", "")


class RepositoryRoutes:
    """Answers below /v2/repository/models. Event loop only."""

    def __init__(
        self, calls: HttpCalls, repository: RepositoryControl, bodies: BodyReader, origins: OriginPolicy
    ) -> None:
        self._calls = calls
        self._repository = repository
        self._bodies = bodies
        self._origins = origins

    def routes(self) -> list[web.RouteDef]:
        """Returns the routes for the server."""
        model = "/v2/repository/models/{model}"
        return [
            web.post(f"{model}/load", self._calls.handler("repository_load", self._load)),
            web.post(f"{model}/unload", self._calls.handler("repository_unload", self._unload)),
        ]

    async def _load(self, request: web.Request) -> Reply:
        self._check(request)
        version = parse_version_body(await self._bodies.whole(request))
        await self._repository.load(requester_of_request(request), request.match_info["model"], version)
        return json_reply({})

    async def _unload(self, request: web.Request) -> Reply:
        self._check(request)
        version = parse_version_body(await self._bodies.whole(request))
        await self._repository.unload(requester_of_request(request), request.match_info["model"], version)
        return json_reply({})

    def _check(self, request: web.Request) -> None:
        """Rejects requests that a page of another origin could make a browser send.

        Raises:
            OriginNotAllowedError: See `OriginPolicy`.
            InvalidRequestError: CONTENT_TYPE_UNSUPPORTED. Clients that are no browsers may leave the type out, as
                Triton's do.
        """
        self._origins.check_host(request.headers)
        self._origins.check_origin(request.headers)
        is_page = "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
        if request.content_type != "application/json" and ("Content-Type" in request.headers or is_page):
            raise InvalidRequestError(
                "CONTENT_TYPE_UNSUPPORTED",
                "Control calls are sent with Content-Type: application/json.",
                field="",
            )


def parse_version_body(body: bytes) -> int | None:
    """Reads `{"parameters": {"version": 3}}`; None for no body or no version.

    Raises:
        InvalidRequestError: JSON_INVALID, or OPTION_OUT_OF_RANGE for what is no version.
    """
    if not body.strip():
        return None
    try:
        document = json.loads(body) if len(body) <= MAX_JSON_BYTES else None
    except (ValueError, RecursionError):
        document = None
    parameters = document.get("parameters", {}) if isinstance(document, dict) else None
    if not isinstance(parameters, dict):
        raise InvalidRequestError(
            "JSON_INVALID", 'The body is no JSON such as {"parameters": {"version": 3}}.', field="parameters"
        )
    return read_version(parameters["version"]) if "version" in parameters else None
