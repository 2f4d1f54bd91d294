"""Defines the fixtures that all tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import settings

from support.model_factory import publish_model
from support.server_process import ServerProcess, run_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

settings.register_profile("ferserve", deadline=None)  # machines that run tests are busy
settings.load_profile("ferserve")


@pytest.fixture(scope="session", autouse=True)
def _logs_go_to_pytest() -> None:
    """Lets pytest capture the server's log lines and show those of failed tests."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


@pytest.fixture(scope="session")
def tiny_model_repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one real SavedModel, fer-nano/1. Read only."""
    repository = tmp_path_factory.mktemp("models")
    publish_model(repository)
    return repository


@pytest.fixture(scope="session")
def running_server(tiny_model_repo: Path) -> Iterator[ServerProcess]:
    """A real server process on the tiny model, shared by the whole session. Nobody may stop or load it."""
    with run_server(tiny_model_repo) as server:
        yield server


@pytest.fixture(scope="session")
def thread_server(tiny_model_repo: Path) -> Iterator[ServerProcess]:
    """The same with `--engine thread`."""
    with run_server(tiny_model_repo, "--engine", "thread") as server:
        yield server
