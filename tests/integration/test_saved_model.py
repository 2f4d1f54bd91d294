"""Tests the TensorFlow engine with the model that ships."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferserve_server.backends.processor import multiplies_bfloat16, read_cpuinfo
from ferserve_server.backends.tensorflow import SavedModelLoader, TensorFlowCore
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import InputSpec, ModelDescription, Precision, ServableId
from ferserve_server.models.golden import read_golden
from ferserve_server.models.manifest import read_manifest, verify_files
from ferserve_server.models.precision import settle_precision
from ferserve_server.models.validation import ValidationLimits, check_golden, score_all, warm
from support.bundled import bundled_version
from support.model_factory import publish_model

BUNDLED = bundled_version("fer-nano")
TOLERANCE = 1e-5
"""What a score may differ by when the neighbours differ; measured on the CPU: 3e-7."""

BFLOAT16_TOLERANCE = 0.03
"""The same in bfloat16, whose products are summed in an order that depends on the batch; measured: 0.00."""


def load(directory: Path, description: ModelDescription | None = None):
    manifest = read_manifest(directory)
    loader = SavedModelLoader(executor_count=2, intra_op_thread_count=1, gpu_memory_limit_mib=0)
    return loader.load(ServableId(manifest.name, manifest.version), directory, description or manifest.description)


@pytest.fixture(scope="module")
def servable():
    loaded = load(BUNDLED)
    yield loaded
    loaded.close()


def test_the_bundled_model_is_what_its_manifest_says(servable):
    manifest = read_manifest(BUNDLED)
    verify_files(BUNDLED, manifest)
    warm(servable, (1, 8))

    golden = read_golden(BUNDLED, manifest.description.input)
    assert check_golden(score_all(servable, golden.faces, (8,)), golden, tolerance=1e-3) < 1e-4


@pytest.fixture(scope="module")
def strangers() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (64, 48, 48, 1), dtype=np.uint8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bucket=st.sampled_from([1, 2, 4, 8, 16, 32, 64]),
    position=st.integers(0, 63),
    face_seed=st.integers(0, 2**32 - 1),
)
def test_the_same_face_gets_the_same_scores_whatever_its_neighbours(
    servable, strangers, bucket, position, face_seed
):
    rng = np.random.default_rng(face_seed)
    face = rng.integers(0, 256, (1, 48, 48, 1), dtype=np.uint8)
    batch = strangers[:bucket].copy()
    batch[position % bucket] = face

    alone = servable.predict(face)[0]
    among_others = servable.predict(batch)[position % bucket]

    assert np.abs(alone - among_others).max() <= TOLERANCE
    assert alone[:7].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (ModelDescription(("a", "b"), InputSpec("faces", 48, 48)), "not one score per label"),
        (ModelDescription(tuple("abcdefg"), InputSpec("pictures", 48, 48)), "inputs are"),
        (ModelDescription(tuple("abcdefg"), InputSpec("faces", 64, 64)), "The input is"),
        (ModelDescription(tuple("abcdefg"), InputSpec("faces", 48, 48), output="votes"), "no output"),
    ],
)
def test_a_model_that_is_not_what_its_manifest_says_is_rejected(description, words):
    with pytest.raises(ModelRejectedError, match=words) as rejected:
        load(BUNDLED, description)

    assert rejected.value.reason == "SIGNATURE_MISMATCH"


@pytest.fixture(params=list(Precision), ids=lambda precision: precision.value)
def in_precision(request, servable):
    """The bundled model in each precision that this machine has, and what its scores may differ by."""
    if request.param is Precision.FLOAT32:
        yield servable, TOLERANCE
        return
    if not multiplies_bfloat16(read_cpuinfo()):
        pytest.skip("this processor has no instructions for bfloat16")
    with_precision = servable.with_precision(Precision.BFLOAT16)
    yield with_precision, BFLOAT16_TOLERANCE
    with_precision.close()


def test_batches_that_run_at_once_do_not_disturb_each_other(in_precision, strangers):
    """Two threads on one session die of a segmentation fault here, within seconds."""
    servable, tolerance = in_precision
    servable.warm_executors((1, 64), 2)
    alone = np.concatenate([servable.predict(strangers[at : at + 1]) for at in range(64)])

    def work(seed: int) -> float:
        rng = np.random.default_rng(seed)
        worst = 0.0
        for _ in range(1500):
            size = int(rng.choice([1, 2, 4, 8, 16, 32, 64]))
            at = int(rng.integers(0, 65 - size))
            scores = servable.predict(strangers[at : at + size])
            worst = max(worst, float(np.abs(scores - alone[at : at + size]).max()))
        return worst

    with ThreadPoolExecutor(servable.executor_count) as threads:
        differences = list(threads.map(work, range(servable.executor_count)))

    assert max(differences) <= tolerance


def test_bfloat16_is_run_where_the_processor_has_it_and_rejected_elsewhere():
    """Forced; the servable in float32 is closed either way."""
    loaded = load(BUNDLED)
    golden = read_golden(BUNDLED, loaded.description.input)
    limits = ValidationLimits((1, 32), golden_tolerance=1e-3, precision=Precision.BFLOAT16)
    if multiplies_bfloat16(read_cpuinfo()):
        candidate = settle_precision(loaded, golden, limits)
        assert candidate.servable.precision is Precision.BFLOAT16
        # Otherwise the rewriting did not happen, and float32 ran under another name.
        assert 1e-4 < candidate.difference <= limits.bfloat16_tolerance
        assert (candidate.scores.argmax(axis=1) == golden.scores.argmax(axis=1)).mean() > 0.9
        candidate.servable.close()
    else:
        with pytest.raises(ModelRejectedError, match="neither avx512_bf16 nor amx_bf16") as rejected:
            settle_precision(loaded, golden, limits)
        assert rejected.value.reason == "PRECISION_UNSUPPORTED"


def test_a_precision_chosen_by_measurement_scores_as_published_whichever_it_is():
    loaded = load(BUNDLED)
    golden = read_golden(BUNDLED, loaded.description.input)
    candidate = settle_precision(loaded, golden, ValidationLimits((1, 32), golden_tolerance=1e-3, precision=None))
    limit = 0.03 if candidate.servable.precision is Precision.BFLOAT16 else 1e-3
    assert candidate.difference <= limit
    assert (candidate.bfloat16_speedup is not None) == multiplies_bfloat16(read_cpuinfo())
    candidate.servable.close()


@pytest.mark.parametrize("with_variable", [True, False])
def test_weights_are_restored_whether_they_are_variables_or_constants(tmp_path, with_variable):
    directory = publish_model(tmp_path, with_variable=with_variable)
    loaded = load(directory)
    golden = read_golden(directory, loaded.description.input)
    assert check_golden(score_all(loaded, golden.faces, (8,)), golden, tolerance=1e-3) < 1e-5
    loaded.close()


def test_every_executor_has_a_session_of_its_own_once_warm():
    loaded = load(BUNDLED)
    loaded.warm_executors((1, 4), 2)
    assert len(loaded._sessions) == loaded.executor_count
    loaded.warm_executors((1, 4), 2)
    assert len(loaded._sessions) == loaded.executor_count
    loaded.close()


def test_a_model_is_loaded_without_keras_and_all_of_tensorflow_can_be_imported_later():
    """In a process of its own, since this one has imported it."""
    code = f"""
import sys
from pathlib import Path
from ferserve_server.backends.tensorflow import SavedModelLoader
from ferserve_server.backends.tensorflow import TensorFlowCore
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.manifest import read_manifest
directory = Path({str(BUNDLED)!r})
loader = SavedModelLoader(executor_count=1, intra_op_thread_count=1, gpu_memory_limit_mib=0)
loader.load(ServableId("fer-nano", 1), directory, read_manifest(directory).description).close()
assert not {{"keras", "tensorflow", "jax"}} & set(sys.modules), sorted(sys.modules)
import tensorflow as tf
assert tf.reduce_sum(tf.constant([1.0, 2.0])).numpy() == 3
assert tf.saved_model.load(str(directory)).signatures["serving_default"] is not None
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_a_validation_beside_live_batches_has_a_session_that_no_request_made(servable, strangers):
    tried = load(BUNDLED)
    tried.warm_executors((1,), 1)
    for _ in range(2):
        tried.reserve_session((1,))
    made = len(tried._sessions)

    # As many batches at once as there are sessions: each takes one, and none is made.
    (idle,) = tried._idle.values()
    taken = [idle.pop() for _ in range(tried.executor_count)]
    score = tried.predict(strangers[:1])
    idle.extend(taken)

    assert made == tried.executor_count + 1
    assert len(tried._sessions) == made
    assert score == pytest.approx(servable.predict(strangers[:1]), abs=TOLERANCE)
    tried.close()


@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.BFLOAT16])
def test_the_cap_of_gpu_memory_is_handed_to_tensorflow(precision):
    def gpu_options(limit_mib: int):
        loader = SavedModelLoader(executor_count=1, intra_op_thread_count=1, gpu_memory_limit_mib=limit_mib)
        return loader._session_config(TensorFlowCore(), precision).gpu_options

    capped, free = gpu_options(1500), gpu_options(0)

    assert [list(each.memory_limit_mb) for each in capped.experimental.virtual_devices] == [[1500.0]]
    assert free.allow_growth
    assert not free.experimental.virtual_devices


def test_xla_compiles_a_model_whose_scores_stay(servable, strangers, tmp_path):
    """On the CPU, where TensorFlow compiles only if a flag of its own says so too; in a process for that flag."""
    np.save(tmp_path / "faces.npy", strangers)
    code = f"""
import sys
from pathlib import Path
import numpy as np
from ferserve_server.backends.tensorflow import SavedModelLoader
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.manifest import read_manifest
directory, work = Path({str(BUNDLED)!r}), Path({str(tmp_path)!r})
loader = SavedModelLoader(executor_count=1, intra_op_thread_count=1, gpu_xla=sys.argv[1] == "on")
loaded = loader.load(ServableId("fer-nano", 1), directory, read_manifest(directory).description)
np.save(work / f"{{sys.argv[1]}}.npy", loaded.predict(np.load(work / "faces.npy")))
"""
    log = {}
    for state in ("on", "off"):
        environment = os.environ | {"TF_XLA_FLAGS": "--tf_xla_cpu_global_jit", "TF_CPP_MIN_LOG_LEVEL": "0"}
        command = [sys.executable, "-c", code, state]
        done = subprocess.run(command, check=True, timeout=300, env=environment, capture_output=True, text=True)
        log[state] = done.stdout + done.stderr

    assert "Compiled cluster using XLA" in log["on"]
    assert "Compiled cluster using XLA" not in log["off"]
    assert "no GPU that --gpu-xla could compile for" in log["on"]
    assert np.load(tmp_path / "on.npy") == pytest.approx(servable.predict(strangers), abs=TOLERANCE)
