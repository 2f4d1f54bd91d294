"""The command `ferserve-server` on the versions of `support.engine_children`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ferserve_server import cli, loader_assembly
from support import engine_children

if TYPE_CHECKING:
    from ferserve_server.backends.engine.options import EngineOptions
    from ferserve_server.settings import Settings

_engine_options = loader_assembly._engine_options


def _fake_options(settings: Settings) -> EngineOptions:
    return replace(_engine_options(settings), loader_module=engine_children.__name__)


if __name__ == "__main__":
    loader_assembly._engine_options = _fake_options
    cli.main()
