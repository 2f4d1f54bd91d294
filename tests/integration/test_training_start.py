"""Tests training that starts from an existing net, a run's or an exported one."""

import shutil

import numpy as np
import pytest

from ferserve_training.data.faces import LabelledFaces
from ferserve_training.errors import RunError, TrainingError
from ferserve_training.export.drawn_faces import draw_faces
from ferserve_training.export.saved_model import run_saved_model
from ferserve_training.loop.learner import new_learner
from ferserve_training.loop.lesson import Lesson
from ferserve_training.loop.scoring import score
from ferserve_training.loop.start import starting_weights
from ferserve_training.recipes.catalog import RECIPES
from ferserve_training.recipes.smoke import smoke_version
from support.bundled import bundled_version

_BUNDLED = bundled_version("fer-nano")
_RECIPE = smoke_version(RECIPES["fer-nano"])


@pytest.fixture(scope="module")
def faces():
    return LabelledFaces(draw_faces(64), np.arange(64, dtype=np.int32) % 7, tuple(map(str, range(64))))


def test_a_net_that_goes_on_from_an_exported_one_starts_with_its_logits(faces):
    weights = starting_weights(_BUNDLED, _RECIPE, faces, with_votes=False)

    learner = new_learner(Lesson(_RECIPE, faces, 0, start=weights))

    _, logits = run_saved_model(_BUNDLED, faces.images)
    assert score(learner.averaged, faces.images) == pytest.approx(logits, abs=1e-3)


def test_its_norms_hold_what_they_see(faces):
    """Else the first batches in training would compute another net than the one that was exported."""
    weights = starting_weights(_BUNDLED, _RECIPE, faces, with_votes=True)
    learner = new_learner(Lesson(_RECIPE, faces, 0, start=weights, votes=np.full((64, 10), 0.1, np.float32)))
    model = learner._model

    trained_as = np.asarray(model(faces.images.astype(np.float32), training=True)[0])

    assert trained_as == pytest.approx(score(learner.averaged, faces.images), abs=1e-2)


def test_what_is_no_such_net_is_no_start(tmp_path, faces):
    with pytest.raises(RunError, match="holds neither a run nor an exported version to start from"):
        starting_weights(tmp_path, _RECIPE, faces, with_votes=False)
    with pytest.raises(RunError, match="holds another net"):
        starting_weights(_BUNDLED, RECIPES["fer-small"], faces, with_votes=False)
    with pytest.raises(TrainingError, match="can go on from a run only"):
        starting_weights(_BUNDLED, RECIPES["seed1-vgglite"], faces, with_votes=False)
    broken = shutil.copytree(_BUNDLED, tmp_path / "broken")
    (broken / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(RunError, match="cannot be read as an exported version"):
        starting_weights(broken, _RECIPE, faces, with_votes=False)
