"""The REST form of the Open Inference Protocol's calls that load and unload."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aiohttp import web

from ferserve_server.domain.errors import InvalidRequestError
from ferserve_server.transport.http.infer_request import LONGEST_JSON_BYTES
from ferserve_server.transport.http.reply import json_reply
from ferserve_server.transport.oip.control import read_version

if TYPE_CHECKING:
    from ferserve_server.http.origins import OriginPolicy
    from ferserve_server.transport.http.body import BodyReader
    from ferserve_server.transport.http.calls import HttpCalls
    from ferserve_server.transport.http.reply import Reply
    from ferserve_server.transport.oip.control import RepositoryControl


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
        """The paths, in the form that the server takes."""
        model = "/v2/repository/models/{model}"
        return [
            web.post(f"{model}/load", self._calls.handler("repository_load", self._load)),
            web.post(f"{model}/unload", self._calls.handler("repository_unload", self._unload)),
        ]

    async def _load(self, request: web.Request) -> Reply:
        self._check(request)
        version = parse_version_body(await self._bodies.whole(request))
        await self._repository.load(request.headers.items(), request.match_info["model"], version)
        return json_reply({})

    async def _unload(self, request: web.Request) -> Reply:
        self._check(request)
        version = parse_version_body(await self._bodies.whole(request))
        await self._repository.unload(request.headers.items(), request.match_info["model"], version)
        return json_reply({})

    def _check(self, request: web.Request) -> None:
        """Refuses requests that a page of another origin could have a browser send.

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
        document = json.loads(body) if len(body) <= LONGEST_JSON_BYTES else None
    except (ValueError, RecursionError):
        document = None
    parameters = document.get("parameters", {}) if isinstance(document, dict) else None
    if not isinstance(parameters, dict):
        raise InvalidRequestError(
            "JSON_INVALID", 'The body is no JSON such as {"parameters": {"version": 3}}.', field="parameters"
        )
    return read_version(parameters["version"]) if "version" in parameters else None
