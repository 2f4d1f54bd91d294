"""Tests broken versions, as real SavedModels: each is rejected for its own reason, and nothing else changes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import face_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from support.engine_server import tensorflow_server
from support.local_server import eventually
from support.model_factory import LABELS, publish_model
from support.processes import ENGINE, children

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from support.local_server import LocalServer

PATIENCE_S = 120.0
"""Two SavedModels are loaded, on a machine that may have other work."""

LONG_PATIENCE_S = 400.0
"""Five of them, in processes that import TensorFlow and give way to others."""

FACES = np.random.default_rng(3).integers(0, 256, (3, 48, 48), np.uint8)
REQUEST = emotion_pb2.ClassifyFacesRequest(packed=face_pb2.PackedFaces(pixels=FACES.tobytes(), face_count=3))


@contextlib.asynccontextmanager
async def _serving(
    repository: Path, engine: str = "thread", *, longest_remaining_s: float = PATIENCE_S, **settings: object
) -> AsyncIterator[LocalServer]:
    chosen: dict[str, Any] = {"bucket_sizes": (1, 4), "repository_poll_s": 0.2, "engine": engine}
    async with (
        asyncio.timeout(longest_remaining_s),
        tensorflow_server(repository, **(chosen | settings)) as server,
    ):
        yield server


async def _model(server: LocalServer) -> model_pb2.Model:
    models = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
    assert [model.name for model in models] == ["fer-nano"]
    return models[0]


async def _answer(server: LocalServer) -> tuple[int, list[list[float]]]:
    response = await server.emotion.ClassifyFaces(REQUEST)
    return response.servable.version, [list(result.prediction.scores) for result in response.results]


async def _outcome_of(server: LocalServer, version: int) -> model_pb2.ModelVersion:
    """The version, when it is ready or has failed."""
    while True:
        for each in (await _model(server)).versions:
            if each.version == version and each.state in {
                model_pb2.SERVABLE_STATE_READY,
                model_pb2.SERVABLE_STATE_FAILED,
            }:
                return each
        await asyncio.sleep(0.05)


def _put_in(staging: Path, repository: Path, version: int) -> None:
    """Renames a version that was made elsewhere into the repository."""
    (staging / "fer-nano" / str(version)).rename(repository / "fer-nano" / str(version))


def _leave(folder: Path) -> None:
    """What is wrong was made so."""


def _flip_a_byte_of_the_variables(folder: Path) -> None:
    path = folder / "variables" / "variables.data-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _edit(folder: Path, change: Callable[[dict], None]) -> None:
    path = folder / "assets.extra" / "manifest.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _point_outside(document: dict) -> None:
    document["files"]["../x"] = "0" * 64


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with version 1, which is never changed."""
    root = tmp_path_factory.mktemp("good")
    publish_model(root, with_variable=True)
    return root


@pytest.fixture
def repository(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "models")


@pytest.mark.parametrize(
    ("made", "spoil", "reason"),
    [
        pytest.param({"with_variable": True}, _flip_a_byte_of_the_variables, "FILE_CHANGED", id="a flipped byte"),
        pytest.param(
            {"with_variable": True},
            lambda folder: (folder / "variables" / "variables.index").unlink(),
            "FILE_MISSING",
            id="a missing file",
        ),
        pytest.param({"labels": LABELS[::-1]}, _leave, "LABELS_MISMATCH", id="labels in another order"),
        pytest.param({"with_nan": True}, _leave, "SCORES_NOT_FINITE", id="weights that are no numbers"),
        pytest.param({"break_golden": True}, _leave, "GOLDEN_MISMATCH", id="other scores"),
        pytest.param({"extra_work": 20}, _leave, "TOO_SLOW", id="a slow graph"),
        pytest.param({}, lambda folder: _edit(folder, _point_outside), "FILE_OUTSIDE", id="a path outside"),
        pytest.param(
            {},
            lambda folder: _edit(folder, lambda document: document.update(name="../x")),
            "MANIFEST_MISMATCH",
            id="a name outside",
        ),
        pytest.param(
            {},
            lambda folder: _edit(folder, lambda document: document.update(version="../1")),
            "MANIFEST_INVALID",
            id="a version outside",
        ),
    ],
)
async def test_a_broken_version_is_rejected_with_its_reason_and_nothing_else_changes(
    repository: Path, tmp_path: Path, made: dict, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(publish_model(tmp_path / "staging", version=2, **made))
    async with _serving(repository) as server:
        before = await _answer(server)
        assert before[0] == 1
        (good_before,) = (await _model(server)).versions
        _put_in(tmp_path / "staging", repository, 2)
        rejected = await _outcome_of(server, 2)
        assert (rejected.state, rejected.failure.reason) == (model_pb2.SERVABLE_STATE_FAILED, reason)
        assert await _answer(server) == before
        model = await _model(server)
        assert list(model.versions) == [rejected, good_before]
        assert model.serving_version == 1
    assert (repository / "fer-nano" / "2").is_dir()


@pytest.mark.timeout(LONG_PATIENCE_S + 100)
async def test_in_engine_processes_they_are_rejected_for_the_same_reasons_and_a_good_one_is_let_in(
    repository: Path, tmp_path: Path
) -> None:
    broken: dict[int, tuple[dict[str, Any], str]] = {
        2: ({"with_nan": True}, "SCORES_NOT_FINITE"),
        3: ({"break_golden": True}, "GOLDEN_MISMATCH"),
        4: ({"extra_work": 20}, "TOO_SLOW"),
    }
    for version, (made, _) in broken.items():
        publish_model(tmp_path / "staging", version=version, **made)
    publish_model(tmp_path / "staging", version=5, seed=1)
    async with _serving(repository, "process", longest_remaining_s=LONG_PATIENCE_S) as server:
        before = await _answer(server)
        (engine,) = children(ENGINE)
        for version, (_, reason) in broken.items():
            _put_in(tmp_path / "staging", repository, version)
            rejected = await _outcome_of(server, version)
            assert (rejected.state, rejected.failure.reason) == (model_pb2.SERVABLE_STATE_FAILED, reason)
            assert await _answer(server) == before
            await eventually(lambda: _engines_are({engine}))  # what failed has ended
        _put_in(tmp_path / "staging", repository, 5)
        ready = await _outcome_of(server, 5)
        assert ready.state == model_pb2.SERVABLE_STATE_READY
        assert ready.validation.comparison.version == 1
        assert (await _answer(server))[0] == 5


async def _engines_are(pids: set[int]) -> bool:
    return set(children(ENGINE)) == pids


async def test_a_version_ten_times_as_slow_is_reported_with_the_figures_and_may_be_let_in(
    repository: Path, tmp_path: Path
) -> None:
    publish_model(tmp_path / "staging", version=2, extra_work=20)
    async with _serving(repository, validation_latency_factor=0) as server:
        _put_in(tmp_path / "staging", repository, 2)
        assert (await _outcome_of(server, 2)).state == model_pb2.SERVABLE_STATE_READY


async def test_a_good_version_is_reported_beside_the_one_it_replaced(repository: Path, tmp_path: Path) -> None:
    # A factor that no other work on the machine can reach: what is tried here are the figures.
    publish_model(tmp_path / "staging", version=2, seed=1)
    async with _serving(repository, validation_latency_factor=1000) as server:
        _put_in(tmp_path / "staging", repository, 2)
        ready = await _outcome_of(server, 2)
        assert ready.state == model_pb2.SERVABLE_STATE_READY
        comparison = ready.validation.comparison
        assert comparison.version == 1
        assert 0 <= comparison.agreement <= 1
        assert comparison.largest_difference > 0
        assert [each.bucket_size for each in comparison.latencies] == [1, 4]
        assert all(each.latency_ms > 0 and each.active_latency_ms > 0 for each in comparison.latencies)
        assert (await _answer(server))[0] == 2


async def test_a_version_that_is_half_written_is_never_touched(repository: Path, tmp_path: Path) -> None:
    half = publish_model(tmp_path / "staging", version=2)
    (half / "assets.extra" / "manifest.json").unlink()
    async with _serving(repository, version_policy=("fer-nano=all",)) as server:
        _put_in(tmp_path / "staging", repository, 2)
        publish_model(tmp_path / "staging", version=3)
        _put_in(tmp_path / "staging", repository, 3)
        assert (
            await _outcome_of(server, 3)
        ).state == model_pb2.SERVABLE_STATE_READY  # so the folder was looked at
        assert [each.version for each in (await _model(server)).versions] == [3, 1]
