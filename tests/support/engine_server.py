"""A server within the test's own process whose versions run in engine processes, or in its own."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from ferserve_server.app.models import opened_loader
from ferserve_server.config.settings import Settings
from ferserve_server.engine.loader import EngineLoader
from ferserve_server.engine.process import EngineOptions
from support import engine_children
from support.local_server import local_server
from support.processes import ENGINE, children

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from ferserve_server.domain.ports import Loader
    from ferserve_server.engine.step_limits import StepLimits
    from support.local_server import LocalServer

ENGINES: Final = ("process", "thread")
"""Values of `--engine`."""

_MAX_BATCH = 16


@contextlib.contextmanager
def fake_engines(
    repository: Path,
    engine: str = "process",
    *,
    executor_count: int = 1,
    limits: StepLimits | None = None,
    standby_count: int = 0,
) -> Iterator[Loader]:
    """Loads `support.engine_children` as a server with this `--engine` would; on leaving, no process is left."""
    options = EngineOptions(repository, executor_count=executor_count, loader_module=engine_children.__name__)
    if engine == "thread":
        yield engine_children.make_loader(options)
        return
    made = EngineLoader(options, _MAX_BATCH, limits, standby_count=standby_count)
    with contextlib.closing(made) as loader:
        loader.start()
        yield loader
    assert children(ENGINE) == {}


@contextlib.asynccontextmanager
async def engine_server(
    repository: Path,
    engine: str = "process",
    *,
    executor_count: int = 1,
    limits: StepLimits | None = None,
    standby_count: int = 0,
    **settings: object,
) -> AsyncIterator[LocalServer]:
    """Runs a server on `fake_engines`, without TensorFlow, until the block is left."""
    with fake_engines(
        repository, engine, executor_count=executor_count, limits=limits, standby_count=standby_count
    ) as loader:
        async with local_server(repository, loader, **settings) as server:
            yield server


@contextlib.asynccontextmanager
async def tensorflow_server(
    repository: Path, engine: str, *, ready: bool = True, **settings: Any
) -> AsyncIterator[LocalServer]:
    """Runs a server on real SavedModels until the block is left, with one executor by default."""
    chosen = {"executor_count": 1, "engine": engine} | settings
    with opened_loader(Settings.of(model_repo=repository, **chosen)) as loader:
        async with local_server(repository, loader, ready=ready, **chosen) as server:
            yield server
    assert children(ENGINE) == {}
