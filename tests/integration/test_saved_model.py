"""The TensorFlow engine with the model that ships."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ferserve_server.backends.saved_model import SavedModelLoader
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import InputSpec, ModelDescription, ServableId
from ferserve_server.repository.gate import check_golden, read_golden, score_all, warm
from ferserve_server.repository.manifest import read_manifest, verify_files

BUNDLED = Path(__file__).parents[2] / "model_repo" / "fer-nano" / "1"
TOLERANCE = 1e-5
"""What a score may differ by when the neighbours differ; measured on the CPU: 3e-7."""


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
    assert alone.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (ModelDescription(("a", "b"), InputSpec("faces", 48, 48)), "not one score per label"),
        (ModelDescription(tuple("abcdefg"), InputSpec("pictures", 48, 48)), "inputs are"),
        (ModelDescription(tuple("abcdefg"), InputSpec("faces", 64, 64)), "The input is"),
        (ModelDescription(tuple("abcdefg"), InputSpec("faces", 48, 48), output="votes"), "no output"),
    ],
)
def test_a_model_that_is_not_what_its_manifest_says_is_refused(description, words):
    with pytest.raises(ModelRejectedError, match=words) as refused:
        load(BUNDLED, description)

    assert refused.value.reason == "SIGNATURE_MISMATCH"


def test_batches_that_run_at_once_do_not_disturb_each_other(servable, strangers):
    """Two threads on one session die of a segmentation fault here, within seconds."""
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

    assert max(differences) <= TOLERANCE
