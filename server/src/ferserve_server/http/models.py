"""Implements GET /v1/models: lists the models and versions that a caller can name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ferserve_server.http.responses import json_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp import web

    from ferserve_server.domain.servable import ModelStatus
    from ferserve_server.http.responses import Reply


class ModelsRoute:
    """Lists the models. Event loop only.

    Args of the constructor:
        models: Reads every model with its versions.
    """

    def __init__(self, models: Callable[[], Iterable[ModelStatus]]) -> None:
        self._models = models

    async def answer(self, request: web.Request) -> Reply:
        """Returns every model, by name, its versions newest first."""
        del request
        return json_reply({"models": [_format_model(model) for model in self._models()]})


def _format_model(model: ModelStatus) -> dict[str, Any]:
    return {
        "name": model.name,
        "default": model.default,
        "serving_version": model.serving_version,
        "aliases": dict(model.aliases),
        "versions": [
            {
                "version": version.id.version,
                "state": version.state.value,
                "labels": list(version.description.labels) if version.description else [],
                "parameter_count": version.description.parameter_count if version.description else 0,
            }
            for version in model.versions
        ],
    }
