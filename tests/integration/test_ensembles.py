"""Ensembles of real SavedModels, published with the command and served over a real socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2, servable_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.app.models import default_loader
from ferserve_server.config.settings import Settings
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.manifest import read_manifest
from support.compat import PREDICTION, call, oip, tfs
from support.compat import ask as ask_oip
from support.engine_server import ENGINES, tensorflow_server
from support.fake_models import publish_fake
from support.local_server import LocalServer, local_server, refusal_of
from support.model_factory import publish_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.domain.ports import Loader

MEMBERS = ("fer-base/1", "fer-small/2")
CROPS = np.random.default_rng(11).integers(0, 256, (6, 48, 48, 1), dtype=np.uint8)
TOLERANCE = 1e-6
"""Of a probability: scores come as float32, and members' batches are the same here as when asked singly."""


def _loader(repository: Path) -> Loader:
    return default_loader(Settings(model_repo=repository, executor_count=2))


def _publish(repository: Path, *members: str, name: str = "fer-ensemble") -> subprocess.CompletedProcess[str]:
    code = "from ferserve_training.cli.root import main; main()"
    words = ["publish-ensemble", name, *members, "--model-repo", str(repository)]
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with golden faces of their own, and the ensemble of them. Read only."""
    repository = tmp_path_factory.mktemp("models")
    publish_model(repository, "fer-base", 1, seed=1)
    publish_model(repository, "fer-small", 2, seed=2)
    done = _publish(repository, *MEMBERS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"published {repository / 'fer-ensemble' / '1'}"
    return repository


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(published, tmp_path / "models")


async def _scores(server: LocalServer, model: str) -> np.ndarray:
    request = emotion_pb2.ClassifyFacesRequest(
        model=servable_pb2.ModelSpec(name=model),
        packed=face_pb2.PackedFaces(pixels=CROPS.tobytes(), face_count=len(CROPS)),
    )
    response = await server.emotion.ClassifyFaces(request, timeout=60)
    return np.asarray([result.prediction.scores for result in response.results])


async def _oip_scores(server: LocalServer, model: str) -> np.ndarray:
    request = oip("ModelInferRequest", model_name=model, raw_input_contents=[CROPS.tobytes()])
    request.inputs.add(name="faces", datatype="UINT8", shape=CROPS.shape)
    response = await ask_oip(server.channel, "ModelInfer", request)
    raw = dict(zip([output.name for output in response.outputs], response.raw_output_contents, strict=True))
    return np.frombuffer(raw["probabilities"], np.float32).reshape(len(CROPS), -1)


async def _tfs_scores(server: LocalServer, model: str) -> np.ndarray:
    request = tfs("PredictRequest", model_spec={"name": model})
    tensor = request.inputs["faces"]
    tensor.dtype, tensor.tensor_content = 4, CROPS.tobytes()
    for size in CROPS.shape:
        tensor.tensor_shape.dim.add(size=size)
    response = await call(server.channel, PREDICTION, "Predict", request, "tensorflow.serving.PredictResponse")
    return np.asarray(response.outputs["probabilities"].float_val, np.float32).reshape(len(CROPS), -1)


@pytest.mark.timeout(600)  # three engine processes, two of which give way to the first
@pytest.mark.parametrize("engine", ENGINES)
async def test_every_interface_answers_with_the_mean_of_what_the_members_answer_singly(
    published: Path, engine: str
) -> None:
    chosen = {"executor_count": 2, "default_model": "fer-ensemble"}
    async with tensorflow_server(published, engine, ready=False, **chosen) as server:
        await _wait_ready(server, "fer-base", "fer-ensemble", "fer-small")
        for ask in (_scores, _oip_scores, _tfs_scores):
            base, small, ensemble = [await ask(server, name) for name in ("fer-base", "fer-small", "fer-ensemble")]
            assert np.abs(base - small).max() > 0.1  # else a member alone would pass
            assert np.abs(ensemble - (base + small) / 2).max() <= TOLERANCE

        listed = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
        assert [model.name for model in listed] == ["fer-base", "fer-ensemble", "fer-small"]
        metadata = await ask_oip(server.channel, "ModelMetadata", oip("ModelMetadataRequest", name="fer-ensemble"))
        assert list(metadata.versions) == ["1"]


async def test_an_ensemble_answers_for_members_that_are_not_in_force(repository: Path) -> None:
    publish_model(repository, "fer-base", 3, seed=3)
    async with local_server(repository, _loader(repository), default_model="fer-ensemble", ready=False) as server:
        await _wait_ready(server, "fer-base", "fer-ensemble", "fer-small")
        small, ensemble = [await _scores(server, name) for name in ("fer-small", "fer-ensemble")]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.emotion.ClassifyFaces(
                emotion_pb2.ClassifyFacesRequest(
                    model=servable_pb2.ModelSpec(name="fer-base", version=1),
                    packed=face_pb2.PackedFaces(pixels=CROPS.tobytes(), face_count=len(CROPS)),
                )
            )
        assert refusal_of(caught.value).reason == "VERSION_NOT_FOUND"
        alone = _load_alone(repository, "fer-base", 1)
        base = alone.predict(CROPS)
        alone.close()
        assert np.abs(ensemble - (base + small) / 2).max() <= 1e-5  # batches of other sizes than the server's


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: _flip_byte(folder / "saved_model.pb"), "MEMBER_INVALID"),
        (lambda folder: _flip_byte(folder / "assets.extra" / "manifest.json"), "MEMBER_CHANGED"),
        (shutil.rmtree, "MEMBER_MISSING"),
    ],
    ids=["flipped byte", "changed manifest", "removed"],
)
async def test_an_ensemble_of_a_tampered_member_is_refused_and_other_models_are_unharmed(
    repository: Path, damage, reason: str
) -> None:
    damage(repository / "fer-small" / "2")
    async with local_server(repository, _loader(repository), default_model="fer-base", ready=False) as server:
        failure = await _failure(server, "fer-ensemble")
        assert failure.reason == reason
        assert "fer-small/2" in failure.message
        assert (await _scores(server, "fer-base")).shape == (6, 7)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _scores(server, "fer-ensemble")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_batches_that_run_at_once_do_not_disturb_each_other(published: Path) -> None:
    """Two threads on one session of a member die of a segmentation fault here, within seconds."""
    ensemble = _load_alone(published, "fer-ensemble", 1)
    expected = ensemble.predict(CROPS)

    def work(_: int) -> float:
        return max(
            float(np.abs(ensemble.predict(CROPS[:size]) - expected[:size]).max()) for size in [1, 2, 6] * 500
        )

    try:
        assert ensemble.executor_count == 2
        with ThreadPoolExecutor(ensemble.executor_count) as threads:
            differences = list(threads.map(work, range(ensemble.executor_count)))
    finally:
        ensemble.close()
    assert max(differences) <= 1e-5


def test_the_command_refuses_with_one_line_and_publishes_nothing(repository: Path) -> None:
    done = _publish(repository, "fer-base/1", "../fer-small/2", name="other")

    assert done.returncode == 1
    assert done.stderr.strip() == (
        "ferserve-train: ../fer-small/2: not a version; name it as MODEL/VERSION, such as fer-nano/1"
    )
    assert not (repository / "other").exists()


def test_a_member_that_cannot_be_asked_is_named(repository: Path) -> None:
    publish_fake(repository, "no-model", 1)  # its golden faces are not those of fer-base/1

    done = _publish(repository, "fer-base/1", "no-model/1", name="other")

    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ferserve-train: {repository / 'no-model' / '1'}: cannot be asked")
    assert not (repository / "other").exists()


def _load_alone(repository: Path, name: str, version: int):
    folder = repository / name / str(version)
    return _loader(repository).load(ServableId(name, version), folder, read_manifest(folder).description)


def _flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


async def _wait_ready(server: LocalServer, *models: str) -> None:
    for name in models:
        await _wait_for_state(server, name, model_pb2.SERVABLE_STATE_READY)


async def _failure(server: LocalServer, name: str):
    model = await _wait_for_state(server, name, model_pb2.SERVABLE_STATE_FAILED)
    return model.versions[0].failure


async def _wait_for_state(server: LocalServer, name: str, state: int):
    async with asyncio.timeout(120):  # loading takes seconds on a busy machine
        while True:
            models: Sequence = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
            for model in models:
                if model.name == name and model.versions[0].state == state:
                    return model
            await asyncio.sleep(0.02)
