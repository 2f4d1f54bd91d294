"""Tests the client's control calls and the commands behind `ferserve models`, on a real server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ferserve_client import AccessDeniedError, InvalidRequestError, ModelControl, ModelNotFoundError
from support.fake_models import publish_fake
from support.local_server import local_server

if TYPE_CHECKING:
    from pathlib import Path

    from support.local_server import LocalServer


def _run(*arguments: str, server: LocalServer, **environment: str) -> tuple[int, str]:
    command = [sys.executable, "-c", "from ferserve_client.cli import main; main()", *arguments]
    chosen = os.environ | {"COLUMNS": "300"} | environment
    ran = subprocess.run(
        [*command, "--server", server.address],
        env=chosen,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in (1, 2):
        publish_fake(tmp_path / "models", version=version)
    return tmp_path / "models"


async def test_versions_are_moved_by_the_client_and_errors_have_their_types(tmp_path: Path, models: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    chosen = {"control_on_main": True, "control_token_file": token, "repository_poll_s": 0}

    def work(address: str) -> None:
        for wrong in (None, "other"):
            with ModelControl(address, token=wrong) as control, pytest.raises(AccessDeniedError):
                control.promote()
        with ModelControl(address, token=token.read_text()) as control:
            assert control.load(1).serving_version == 2
            assert control.set_alias("canary", 2).aliases == {"canary": 2}
            assert control.set_alias("stable", 1).serving_version == 1
            assert control.promote(2, model="fer-nano").aliases == {"stable": 2}
            assert control.roll_back(2).aliases == {"stable": 1}
            assert control.delete_alias("stable").aliases == {}
            control.load(2)
            assert control.unload(1).serving_version == 2
            with pytest.raises(InvalidRequestError) as caught:
                control.promote()
            assert caught.value.reason == "NO_CANARY"
            with pytest.raises(ModelNotFoundError):
                control.load(9)

    async with local_server(models, **chosen) as server:
        await asyncio.to_thread(work, server.address)


async def test_the_commands_move_versions_and_the_listing_is_as_it_was(tmp_path: Path, models: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")

    def work(server: LocalServer) -> None:
        by_flag, by_environment = ("--token-file", str(token)), {"FERSERVE_CONTROL_TOKEN_FILE": str(token)}
        assert _run("models", "load", "1", *by_flag, server=server)[0] == 0
        assert _run("models", "set-alias", "stable", "1", server=server, **by_environment)[0] == 0
        assert _run("models", "set-alias", "canary", "2", *by_flag, server=server)[0] == 0
        code, text = _run("models", "promote", *by_flag, server=server)
        assert (code, text.strip()) == (0, "fer-nano: version 2 answers; aliases: stable=2")
        code, text = _run("models", "rollback", "2", "--json", *by_flag, server=server)
        assert (code, json.loads(text)["aliases"]) == (0, {"stable": 1})
        assert _run("models", "set-alias", "stable", "0", *by_flag, server=server)[0] == 0
        assert _run("models", "unload", "1", *by_flag, server=server)[0] == 1
        code, text = _run("models", "promote", server=server)
        assert code == 1
        assert "control_token_file" in text
        for listing in (("models",), ("models", "list")):
            code, text = _run(*listing, server=server)
            assert code == 0
            assert "fer-nano (default)" in text
            code, text = _run(*listing, "--json", server=server)
            assert (code, json.loads(text)["canary"]) == (0, None)

    chosen = {"control_on_main": True, "control_token_file": token, "repository_poll_s": 0}
    async with local_server(models, **chosen) as server:
        await asyncio.to_thread(work, server)


async def test_the_listing_tells_of_a_canary(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, canary_share=0.5, control_on_main=True) as server:

        def work() -> None:
            publish_fake(tmp_path, version=2)
            with ModelControl(server.address) as control:
                model = control.load(2)
            assert model.canary is not None
            assert (model.canary.version, model.canary.stable_version, model.canary.mode) == (2, 1, "split")
            assert (model.canary.verdict, model.canary.reason) == ("wait", "WINDOW_OPEN")
            assert "canary: wait" in _run("models", server=server)[1]

        await asyncio.to_thread(work)
