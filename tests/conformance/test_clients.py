"""Tests that independent clients get the same scores as the project's own client."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_client import EmotionClient
from support.conformance import environment, run_client

if TYPE_CHECKING:
    from support.server_process import ServerProcess


@pytest.fixture
def address(running_server: ServerProcess) -> str:
    return running_server.address


def own_scores(address: str, faces: np.ndarray) -> np.ndarray:
    with EmotionClient(address) as client:
        return np.array([list(each.scores.values()) for each in client.classify(faces)])


def own_scores_of_random_faces(address: str) -> np.ndarray:
    """The scores of the faces that the scripts in `clients/` make."""
    return own_scores(address, np.random.default_rng(0).integers(0, 256, (3, 48, 48), np.uint8))


def test_tritonclient_gets_our_scores(address):
    scores = run_client(environment("triton-new"), "triton.py", address)
    assert np.allclose(scores, own_scores_of_random_faces(address), atol=1e-5)


def test_tritonclient_and_our_messages_live_in_one_process(address):
    run_client(environment("triton-new"), "triton.py", address, "together", with_server=True)


@pytest.mark.conformance
def test_tritonclient_gets_our_scores_over_http(running_server):
    address = running_server.http_url.removeprefix("http://")
    scores = run_client(environment("triton-new"), "triton_http.py", address)
    assert np.allclose(scores, own_scores_of_random_faces(running_server.address), atol=1e-5)


@pytest.mark.conformance
def test_an_old_tritonclient_gets_our_scores(address):
    scores = run_client(environment("triton-old"), "triton.py", address)
    assert np.allclose(scores, own_scores_of_random_faces(address), atol=1e-5)


@pytest.mark.conformance
@pytest.mark.parametrize("kind", ["kserve", "mlserver"])
def test_stubs_of_other_dialects_get_our_scores(address, kind):
    scores = run_client(environment("stubs"), "stubs.py", address, kind)
    assert np.allclose([scores], own_scores(address, np.full((1, 48, 48), 7, np.uint8)), atol=1e-5)


@pytest.mark.conformance
def test_tensorflow_serving_api_gets_our_scores(address):
    folder = environment("tensorflow-serving", beside_ours=True)
    scores = run_client(folder, "tensorflow_serving.py", address)
    assert np.allclose(scores, own_scores_of_random_faces(address), atol=1e-5)


@pytest.mark.conformance
def test_tensorflow_serving_reads_the_warm_up_requests_of_an_exported_version(tiny_model_repo, tmp_path):
    from ferserve_training.export.warmup import WARMUP_PATH, write_warmup_requests  # noqa: PLC0415 - TensorFlow

    version = shutil.copytree(tiny_model_repo / "fer-nano" / "1", tmp_path / "1")
    write_warmup_requests("fer-nano", version / WARMUP_PATH)

    found = run_client(
        environment("tensorflow-serving", beside_ours=True), "tensorflow_serving_warmup.py", str(version)
    )

    assert found == [["fer-nano", [count, 48, 48, 1]] for count in (1, 8, 32)]
