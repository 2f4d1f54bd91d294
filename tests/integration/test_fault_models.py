"""Tests the errors that callers and operators get for models that are not served (faults, items 8, 13, 14, 18)."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import grpc
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve.v1 import servable_pb2
from ferserve_server.engine.step_limits import StepLimits
from ferserve_server.workers.process import WorkerProcess
from support.engine_children import SLEEPING
from support.engine_server import engine_server
from support.fake_models import publish_fake
from support.local_server import LocalServer, eventually, local_server, packed, rejection_of
from support.processes import FRONT, children

if TYPE_CHECKING:
    from pathlib import Path


async def _states(server: LocalServer) -> dict[str, str]:
    models = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
    return {
        model.name: model_pb2.ServableState.Name(version.state).removeprefix("SERVABLE_STATE_").lower()
        for model in models
        for version in model.versions
    }


def _http_answer(url: str, body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_a_model_that_waits_for_another_one_to_load_is_not_ready_on_all_ways_in(tmp_path: Path) -> None:
    publish_fake(tmp_path, "fer-nano", SLEEPING)
    publish_fake(tmp_path, "fer-other")
    settings = {"ready": False, "limits": StepLimits(60.0), "http_listen": "127.0.0.1:0"}
    async with engine_server(tmp_path, **settings) as server:

        async def both_known() -> bool:
            return await _states(server) == {"fer-nano": "loading", "fer-other": "waiting"}

        await eventually(both_known, 60)
        model = servable_pb2.ModelSpec(name="fer-other")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.emotion.ClassifyFaces(emotion_pb2.ClassifyFacesRequest(model=model, packed=packed(1)))
        rejection = rejection_of(caught.value)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.UNAVAILABLE, "MODEL_NOT_READY")
        inputs = [{"name": "faces", "shape": [1, 48, 48, 1], "datatype": "UINT8", "data": [0] * 48 * 48}]
        body = json.dumps({"inputs": inputs}).encode()
        url = f"{server.http_url}/v2/models/fer-other/infer"
        status, text = await asyncio.to_thread(_http_answer, url, body)
        assert (status, "MODEL_NOT_READY" in text) == (503, True)
        server.loader.stop_loading()


async def test_folders_that_are_no_version_are_in_list_models(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    (tmp_path / "fer-nano" / "0002").mkdir()
    (tmp_path / "my model" / "1").mkdir(parents=True)
    async with local_server(tmp_path) as server:
        models = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
        reported = {
            (model.name, skipped.folder): (skipped.failure.reason, bool(skipped.failure.message))
            for model in models
            for skipped in model.skipped_folders
        }
        assert reported == {
            ("fer-nano", "0002"): ("VERSION_NAME_INVALID", True),
            ("my model", ""): ("MODEL_NAME_INVALID", True),
        }


async def test_worker_processes_tell_the_same(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    (tmp_path / "fer-nano" / "v2").mkdir()
    async with local_server(tmp_path, processes=2, primary_share=0.0) as server:
        (model,) = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
        assert [each.failure.reason for each in model.skipped_folders] == ["VERSION_NAME_INVALID"]


@pytest.mark.parametrize("call", ["SetAlias", "DeleteAlias", "RollBack"])
async def test_a_decision_that_cannot_be_saved_is_reported(tmp_path: Path, call: str) -> None:
    publish_fake(tmp_path / "models", version=1)
    publish_fake(tmp_path / "models", version=2)
    state = tmp_path / "state" / "state.json"
    state.parent.mkdir()
    settings = {"lifecycle_state_file": state, "control_on_main": True, "versions_per_model": 2}
    async with local_server(tmp_path / "models", **settings) as server:

        async def both() -> bool:
            (model,) = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
            return [each.state for each in model.versions] == [model_pb2.SERVABLE_STATE_READY] * 2

        await eventually(both)
        await server.models.SetAlias(model_pb2.SetAliasRequest(alias="old", version=1))
        shutil.rmtree(state.parent)
        state.parent.write_text("no folder any more")
        requests = {
            "SetAlias": model_pb2.SetAliasRequest(alias="old", version=2),
            "DeleteAlias": model_pb2.DeleteAliasRequest(alias="old"),
            "RollBack": model_pb2.RollBackRequest(version=2),
        }
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await getattr(server.models, call)(requests[call])
        rejection = rejection_of(caught.value)
        assert (rejection.code, rejection.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "STATE_NOT_SAVED")
        (model,) = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
        assert model.aliases["old"] == 1


async def test_a_decision_of_a_second_server_on_the_same_file_is_rejected(tmp_path: Path) -> None:
    publish_fake(tmp_path / "models")
    settings = {"lifecycle_state_file": tmp_path / "state.json", "control_on_main": True}
    async with (
        local_server(tmp_path / "models", **settings) as one,
        local_server(tmp_path / "models", **settings) as other,
    ):
        await one.models.SetAlias(model_pb2.SetAliasRequest(alias="mine", version=1))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await other.models.SetAlias(model_pb2.SetAliasRequest(alias="theirs", version=1))
        assert rejection_of(caught.value).reason == "STATE_NOT_SAVED"
        assert "another server" in caught.value.details()
    assert json.loads((tmp_path / "state.json").read_text())["aliases"] == {"fer-nano": {"mine": 1}}


async def test_a_worker_that_cannot_be_started_for_a_reason_nobody_foresaw_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, processes=2) as server:
        (killed,) = children(FRONT)
        start, starts = WorkerProcess.start, []

        async def fail_once(process: WorkerProcess, state: object) -> None:
            starts.append(process)
            if len(starts) == 1:
                raise ValueError("nobody foresaw this")
            await start(process, state)

        monkeypatch.setattr(WorkerProcess, "start", fail_once)
        os.kill(killed, signal.SIGKILL)

        async def another() -> bool:
            assert server.running.workers is not None
            return len(starts) == 2 and server.running.workers.running_count == 1

        await eventually(another, 60)
