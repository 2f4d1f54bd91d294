"""Runs the command `ferserve-server` on the versions of `support.engine_children`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ferserve_server import cli
from ferserve_server.app import models
from support import engine_children

if TYPE_CHECKING:
    from ferserve_server.config.settings import Settings
    from ferserve_server.engine.process import EngineOptions

_engine_options = models._engine_options


def _fake_options(settings: Settings) -> EngineOptions:
    return replace(_engine_options(settings), loader_module=engine_children.__name__)


if __name__ == "__main__":
    models._engine_options = _fake_options
    cli.main()
