"""Tests gRPC's polling of sockets."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ferserve_server.runtime.grpc_polling import choose_polling

CHOSEN = {"GRPC_EXPERIMENTS": "-event_engine_poller_for_python"}


@pytest.mark.parametrize(
    ("version", "chosen"), [("1.75.1", {}), ("1.76.0", CHOSEN), ("1.81.1", CHOSEN), ("1.82.0rc1", {})]
)
def test_sockets_are_read_without_a_detour_by_versions_that_can(version: str, chosen: dict[str, str]) -> None:
    environment: dict[str, str] = {}
    choose_polling(environment, version)
    assert environment == chosen


def test_what_the_environment_says_holds() -> None:
    environment = {"GRPC_EXPERIMENTS": ""}
    choose_polling(environment, "1.81.1")
    assert environment == {"GRPC_EXPERIMENTS": ""}


def test_it_is_chosen_before_grpc_is_there() -> None:
    code = (
        "import sys; import ferserve_server; assert 'grpc' not in sys.modules; "
        "import ferserve_server.app.primary_main; assert 'grpc' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
