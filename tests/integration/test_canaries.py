"""Tests canaries over real sockets: a worse version is rolled back automatically, a good one is promoted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.backends.fake import FakeLoader, FakeServable
from ferserve_server.backends.tensorflow import SavedModelLoader
from support.engine_server import ENGINES, tensorflow_server
from support.fake_models import publish_fake
from support.local_server import LocalServer, eventually, local_server, packed
from support.model_factory import publish_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CANARY = {
    "canary_share": 0.5,
    "canary_window_s": 1.0,
    "canary_min_requests": 20,
    "validation_latency_factor": 0.0,
    "canary_max_latency_factor": 1000.0,  # a busy machine must not decide what is not about latency
}


class SlowLoader(FakeLoader):
    """Batches of the versions in `batch_s` take so long."""

    def __init__(self, batch_s: Mapping[int, float]) -> None:
        super().__init__()
        self._times = batch_s

    def load(self, servable_id, directory, description) -> FakeServable:
        return FakeServable(servable_id, description, batch_s=self._times.get(servable_id.version, 0.0))


async def _version(server: LocalServer, faces: face_pb2.PackedFaces, **spec: object) -> int:
    request = emotion_pb2.ClassifyFacesRequest(packed=faces, model=servable_pb2.ModelSpec(**spec))
    response = await server.emotion.ClassifyFaces(request)
    assert all(result.WhichOneof("outcome") == "prediction" for result in response.results)
    return int(response.servable.version)


async def _model(server: LocalServer) -> model_pb2.Model:
    return (await server.models.GetModel(model_pb2.GetModelRequest())).model


async def _has_canary(server: LocalServer) -> bool:
    return (await _model(server)).HasField("canary")


async def _send_until_decided(server: LocalServer, faces: face_pb2.PackedFaces) -> model_pb2.Model:
    """Sends requests that name no version, and some that do, until there is no canary any more."""
    answered: set[int] = set()

    async def decided() -> bool:
        answered.add(await _version(server, faces))
        assert await _version(server, faces, version_label="stable") in {1, 2}
        return not await _has_canary(server)

    await eventually(decided)
    assert answered >= {1, 2}
    return await _model(server)


async def _listed(server: LocalServer, count: int) -> bool:
    return len((await _model(server)).versions) == count


async def _rejection(server: LocalServer) -> str:
    """Why version 2 was rolled back, reported once it has answered what it had taken and is unloaded."""

    async def summary() -> bool:
        return (await _model(server)).versions[0].state == model_pb2.SERVABLE_STATE_FAILED

    await eventually(summary)
    model = await _model(server)
    assert (dict(model.aliases), model.serving_version) == ({"stable": 1}, 1)
    assert model.versions[0].version == 2
    return f"{model.versions[0].failure.reason}: {model.versions[0].failure.message}"


async def test_a_canary_as_good_as_the_stable_version_is_promoted_and_answers_everybody(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(tmp_path, **CANARY) as server:
        publish_fake(tmp_path, version=2)
        await eventually(lambda: _has_canary(server))
        canary = (await _model(server)).canary
        assert (canary.version, canary.stable_version, canary.share) == (2, 1, 0.5)
        assert canary.mode == model_pb2.CANARY_MODE_SPLIT
        assert canary.verdict.result == model_pb2.CANARY_RESULT_WAIT
        assert [await _version(server, packed(1), version_label="canary") for _ in range(3)] == [2] * 3
        model = await _send_until_decided(server, packed(1, 2))
        assert (dict(model.aliases), model.serving_version) == ({"stable": 2}, 2)


async def test_a_canary_with_added_latency_is_rolled_back_and_stays_so_after_a_restart(tmp_path: Path) -> None:
    chosen = CANARY | {
        "canary_window_s": 600.0,
        "canary_max_latency_factor": 1.5,
        "lifecycle_state_file": tmp_path / "state.json",
    }
    models = tmp_path / "models"
    publish_fake(models)
    async with local_server(models, SlowLoader({2: 0.05}), **chosen) as server:
        publish_fake(models, version=2)
        await eventually(lambda: _has_canary(server))
        await _send_until_decided(server, packed(1))
        rejection = await _rejection(server)
        assert all(word in rejection for word in ("CANARY_ROLLED_BACK", "LATENCY", "ms"))
    assert json.loads((tmp_path / "state.json").read_text())["rejected"][0]["version"] == 2
    async with local_server(models, SlowLoader({2: 0.05}), **chosen) as server:
        await eventually(lambda: _listed(server, 2))
        assert "LATENCY" in await _rejection(server)
        assert [await _version(server, packed(1)) for _ in range(8)] == [1] * 8


async def test_a_shadow_never_answers(tmp_path: Path) -> None:
    publish_fake(tmp_path)
    async with local_server(
        tmp_path, SlowLoader({2: 0.005}), **(CANARY | {"canary_mode": "shadow", "canary_share": 1.0})
    ) as server:
        publish_fake(tmp_path, version=2)
        await eventually(lambda: _has_canary(server))

        async def compared() -> bool:
            assert await _version(server, packed(3)) == 1
            return (await _model(server)).canary.shadow.face_count >= 5

        await eventually(compared)
        shadow = (await _model(server)).canary.shadow
        assert shadow.agreed_count == shadow.face_count
        assert await _has_canary(server)


def _engine() -> SavedModelLoader:
    return SavedModelLoader(executor_count=1, intra_op_thread_count=1, gpu_memory_limit_mib=0)


def _noise() -> face_pb2.PackedFaces:
    faces = np.random.default_rng(3).integers(0, 256, (8, 48, 48), np.uint8)
    return face_pb2.PackedFaces(pixels=faces.tobytes(), face_count=len(faces))


async def test_a_real_canary_that_learned_noise_is_rolled_back_for_its_confidence(tmp_path: Path) -> None:
    publish_model(tmp_path)
    async with local_server(tmp_path, _engine(), **(CANARY | {"canary_window_s": 600.0})) as (server):
        publish_model(tmp_path, version=2, weight_scale=0.01)
        await eventually(lambda: _has_canary(server))
        await _send_until_decided(server, _noise())
        rejection = await _rejection(server)
    assert "CONFIDENCE" in rejection


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_real_shadow_that_finds_other_classes_is_rolled_back_for_its_answers(
    tmp_path: Path, engine: str
) -> None:
    publish_model(tmp_path)
    chosen = {"canary_mode": "shadow", "canary_share": 1.0, "canary_min_agreement": 0.9, "canary_window_s": 600.0}
    chosen["canary_max_confidence_drop"] = 1.0
    async with tensorflow_server(tmp_path, engine, **(CANARY | chosen)) as server:
        publish_model(tmp_path, version=2, seed=5)
        await eventually(lambda: _has_canary(server))

        async def decided() -> bool:
            assert await _version(server, _noise()) == 1
            return not await _has_canary(server)

        await eventually(decided)
        assert "AGREEMENT" in await _rejection(server)
