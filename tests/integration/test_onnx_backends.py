"""Tests that ONNX Runtime and OpenVINO run the file beside the SavedModel, and score as it was published."""

import asyncio
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from ferserve.v1 import emotion_service_pb2 as emotion_pb2
from ferserve.v1 import emotion_service_pb2_grpc, face_pb2
from ferserve.v1 import model_service_pb2 as model_pb2
from ferserve_server.backends.processor import multiplies_bfloat16, read_cpuinfo
from ferserve_server.backends.selection import EngineSettings, engine_loader
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import InputSpec, ModelDescription, Precision, ServableId
from ferserve_server.models.golden import read_golden
from ferserve_server.models.manifest import read_manifest, verify_files
from ferserve_server.models.precision import settle_precision
from ferserve_server.models.validation import ValidationLimits, check_golden, score_all, warm
from support.bundled import bundled_version
from support.local_server import local_server
from support.model_factory import LABELS, publish_model, tiny_onnx
from support.server_process import run_server

BUNDLED = bundled_version("fer-small")
WITHOUT_TENSORFLOW = str(Path(__file__).parents[1] / "support" / "without_tensorflow")
BACKENDS = ("onnxruntime", "openvino")
WEIGHTS = np.random.default_rng(0).normal(0, 2, (36, 7)).astype(np.float32)
PATIENCE_S = 120.0

pytestmark = pytest.mark.timeout(300)


def load(backend, directory, description=None):
    manifest = read_manifest(directory)
    loader = engine_loader(backend, EngineSettings(executor_count=2))
    return loader.load(ServableId(manifest.name, manifest.version), directory, description or manifest.description)


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture(scope="module")
def servable(backend):
    loaded = load(backend, BUNDLED)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def strangers():
    return np.random.default_rng(5).integers(0, 256, (32, 48, 48, 1), dtype=np.uint8)


def test_the_bundled_model_scores_as_tensorflow_did(servable):
    verify_files(BUNDLED, read_manifest(BUNDLED))
    warm(servable, (1, 8))
    golden = read_golden(BUNDLED, servable.description.input)

    assert check_golden(score_all(servable, golden.faces, (8,)), golden, tolerance=1e-3) < 1e-4


def test_batches_that_run_at_once_do_not_disturb_each_other(servable, strangers):
    servable.warm_executors((1, 32), 2)
    servable.reserve_session((1, 32))
    alone = np.concatenate([servable.predict(strangers[at : at + 1]) for at in range(len(strangers))])

    def work(seed):
        rng = np.random.default_rng(seed)
        worst = 0.0
        for _ in range(60):
            size = int(rng.choice([1, 2, 4, 8, 16, 32]))
            at = int(rng.integers(0, 33 - size))
            worst = max(
                worst, float(np.abs(servable.predict(strangers[at : at + size]) - alone[at : at + size]).max())
            )
        return worst

    with ThreadPoolExecutor(3) as threads:
        assert max(threads.map(work, range(3))) <= 1e-5
    assert len(servable._sessions) == servable.executor_count + 1


def test_scores_stay_the_callers_own_and_faces_may_be_bytes_that_nobody_may_write(servable, strangers):
    read_only = np.frombuffer(strangers[:2].tobytes(), np.uint8).reshape(2, 48, 48, 1)
    first = servable.predict(read_only)
    kept = first.copy()

    servable.predict(strangers[2:4])

    assert np.array_equal(first, kept)
    assert (first.dtype, first.shape) == (np.float32, (2, 8))


def test_bfloat16_is_run_by_openvino_where_the_processor_has_it():
    loaded = load("openvino", BUNDLED)
    golden = read_golden(BUNDLED, loaded.description.input)
    limits = ValidationLimits((1, 32), golden_tolerance=1e-3, precision=Precision.BFLOAT16)
    if not multiplies_bfloat16(read_cpuinfo()):
        with pytest.raises(ModelRejectedError, match="neither avx512_bf16 nor amx_bf16"):
            settle_precision(loaded, golden, limits)
        return

    candidate = settle_precision(loaded, golden, limits)

    assert candidate.servable.precision is Precision.BFLOAT16
    # Otherwise the hint was not heeded, and float32 ran under another name.
    assert 1e-4 < candidate.difference <= limits.bfloat16_tolerance
    candidate.servable.close()


def test_float32_is_what_onnx_runtime_computes_in_and_what_auto_leaves_it_at():
    loaded = load("onnxruntime", BUNDLED)
    golden = read_golden(BUNDLED, loaded.description.input)

    candidate = settle_precision(loaded, golden, ValidationLimits((1, 8), golden_tolerance=1e-3, precision=None))

    assert (candidate.servable.precision, candidate.bfloat16_speedup) == (Precision.FLOAT32, None)
    with pytest.raises(ModelRejectedError, match="ONNX Runtime computes no bfloat16") as rejected:
        settle_precision(
            loaded, golden, ValidationLimits((1,), golden_tolerance=1e-3, precision=Precision.BFLOAT16)
        )
    assert rejected.value.reason == "PRECISION_UNSUPPORTED"


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (ModelDescription(("a", "b"), InputSpec("faces", 48, 48)), "not one score per label"),
        (ModelDescription(tuple("abcdefg"), InputSpec("pictures", 48, 48)), "inputs are"),
        (ModelDescription(tuple("abcdefg"), InputSpec("faces", 64, 64)), "The input is uint8"),
        (ModelDescription(tuple("abcdefg"), InputSpec("faces", 48, 48), output="votes"), "no output"),
    ],
)
def test_a_file_that_is_not_what_its_manifest_says_is_rejected(backend, description, words):
    with pytest.raises(ModelRejectedError, match=words) as rejected:
        load(backend, BUNDLED, description)

    assert rejected.value.reason == "SIGNATURE_MISMATCH"


def test_a_version_without_the_file_is_rejected_with_what_to_do(backend, tmp_path):
    with pytest.raises(ModelRejectedError, match="ferserve-train export") as rejected:
        load(backend, publish_model(tmp_path))

    assert rejected.value.reason == "ONNX_MISSING"
    assert f"--backend {backend}" in rejected.value.message


@pytest.fixture(scope="module")
def tiny_repo(tmp_path_factory):
    """Version 1 as it should be, and later ones that are each broken in their own way."""
    repository = tmp_path_factory.mktemp("models")
    publish_model(repository, version=1, onnx=True)
    publish_model(repository, version=2)
    publish_model(repository, version=3, onnx=b"no protobuf at all")
    publish_model(repository, version=4, onnx=tiny_onnx(WEIGHTS)[:-600])
    publish_model(repository, version=5, onnx=tiny_onnx(WEIGHTS[:, ::-1].copy()))
    publish_model(repository, version=6, onnx=tiny_onnx(WEIGHTS, sides=(56, 48)))
    changed = publish_model(repository, version=7, onnx=True) / "assets.extra" / "model.onnx"
    changed.write_bytes(changed.read_bytes().replace(b"tiny", b"tinY"))
    return repository


async def test_broken_files_are_rejected_each_for_its_reason_and_nothing_else_changes(backend, tiny_repo):
    reasons = {
        2: {"ONNX_MISSING"},
        3: {"LOAD_FAILED"},
        4: {"LOAD_FAILED"},
        5: {"GOLDEN_MISMATCH"},
        6: {"SIGNATURE_MISMATCH", "LOAD_FAILED"},  # 56 x 48 is not what the net's own layers take either
        7: {"FILE_CHANGED"},
    }
    loader = engine_loader(backend, EngineSettings(executor_count=1))
    chosen = {"bucket_sizes": (1, 4), "version_policy": ("fer-nano=all",)}
    async with asyncio.timeout(PATIENCE_S), local_server(tiny_repo, loader, **chosen) as server:
        while True:
            (model,) = (await server.models.ListModels(model_pb2.ListModelsRequest())).models
            states = {each.version: each.state for each in model.versions}
            if len(states) == 7 and set(states.values()) <= {
                model_pb2.SERVABLE_STATE_READY,
                model_pb2.SERVABLE_STATE_FAILED,
            }:
                break
            await asyncio.sleep(0.05)

        assert {version for version, state in states.items() if state == model_pb2.SERVABLE_STATE_READY} == {1}
        for each in model.versions:
            assert each.version == 1 or each.failure.reason in reasons[each.version], each
        response = await server.emotion.ClassifyFaces(_request(_golden(tiny_repo)[0]))
        assert response.servable.version == 1


def _golden(repository):
    with np.load(repository / "fer-nano/1/assets.extra/golden.npz") as golden:
        return golden["faces"], golden["probabilities"]


def _request(faces):
    packed = face_pb2.PackedFaces(pixels=faces.tobytes(), face_count=len(faces))
    return emotion_pb2.ClassifyFacesRequest(packed=packed)


def test_a_server_without_tensorflow_serves_the_file(backend, tiny_repo, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([WITHOUT_TENSORFLOW, os.environ.get("PYTHONPATH", "")]))
    faces, expected = _golden(tiny_repo)

    with (
        run_server(tiny_repo, "--backend", backend, "--version-policy", "fer-nano=specific:1") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        response = emotion_service_pb2_grpc.EmotionServiceStub(channel).ClassifyFaces(_request(faces), timeout=30)

    scores = np.array([result.prediction.scores for result in response.results], np.float32)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert tuple(response.labels) == LABELS


def test_a_server_whose_engine_is_not_installed_says_so_and_does_not_start(tiny_repo):
    env = os.environ | {"PYTHONPATH": os.pathsep.join([WITHOUT_TENSORFLOW, os.environ.get("PYTHONPATH", "")])}

    done = subprocess.run(
        [sys.executable, "-m", "ferserve_server", "--model-repo", str(tiny_repo), "--backend", "tensorflow"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 2
    assert "--backend tensorflow: the package tensorflow is not installed" in done.stderr
    assert "Install ferserve-server[cpu]" in done.stderr
