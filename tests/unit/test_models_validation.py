"""Tests the validation of a version before it becomes active."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_server.backends.fake import FakeServable, fake_scores
from ferserve_server.domain.errors import ModelRejectedError
from ferserve_server.domain.servable import ServableId
from ferserve_server.models.golden import read_golden
from ferserve_server.models.manifest import GOLDEN_PATH
from ferserve_server.models.validation import check_golden, check_labels, score_all, warm
from support.fake_models import DESCRIPTION, GOLDEN_FACES, publish_fake
from support.model_factory import LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ferserve_server.domain.face import CropBatch, Scores


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return publish_fake(tmp_path)


@pytest.fixture
def servable() -> FakeServable:
    return FakeServable(ServableId("fer-nano", 1), DESCRIPTION)


class ScriptedServable(FakeServable):
    """Answers with what it is reported."""

    def __init__(self, scores: Scores) -> None:
        super().__init__(ServableId("fer-nano", 1), DESCRIPTION)
        self.scores = scores

    def predict(self, crops: CropBatch) -> Scores:
        return self.scores


def _difference(servable: FakeServable, version: Path, sizes: Sequence[int], tolerance: float) -> float:
    golden = read_golden(version, servable.description.input)
    return check_golden(score_all(servable, golden.faces, sizes), golden, tolerance)


def _golden(version: Path, faces: np.ndarray, probabilities: np.ndarray) -> None:
    np.savez(version / GOLDEN_PATH, faces=faces, probabilities=probabilities)


def _rejection(servable: FakeServable, version: Path, tolerance: float = 1e-3) -> ModelRejectedError:
    with pytest.raises(ModelRejectedError) as caught:
        _difference(servable, version, (1, 2, 4), tolerance)
    return caught.value


def test_every_batch_size_is_run_once(servable: FakeServable) -> None:
    warm(servable, (1, 4, 16))
    assert servable.batch_sizes == [1, 4, 16]


def test_scores_that_are_not_one_column_per_label_are_rejected() -> None:
    with pytest.raises(ModelRejectedError) as caught:
        warm(ScriptedServable(np.zeros((1, 6), np.float32)), (1,))
    assert caught.value.reason == "OUTPUT_MISMATCH"


@pytest.mark.parametrize("sizes", [(1,), (1, 2), (2,), (1, 2, 4, 8), (16,)])
def test_scores_as_published_pass_at_any_batch_size(
    servable: FakeServable, version: Path, sizes: Sequence[int]
) -> None:
    assert _difference(servable, version, sizes, 1e-3) == pytest.approx(0, abs=1e-6)
    assert set(servable.batch_sizes) <= set(sizes)


def test_scores_within_the_tolerance_pass(servable: FakeServable, tmp_path: Path) -> None:
    folder = publish_fake(tmp_path, version=2, golden_off_by=0.01)
    assert _difference(servable, folder, (1,), 0.02) == pytest.approx(0.01, abs=1e-6)


def test_scores_beyond_the_tolerance_are_rejected_with_figures(servable: FakeServable, tmp_path: Path) -> None:
    rejection = _rejection(servable, publish_fake(tmp_path, version=2, golden_off_by=0.01))
    assert rejection.reason == "GOLDEN_MISMATCH"
    assert float(rejection.metadata["difference"]) == pytest.approx(0.01, abs=1e-6)
    assert float(rejection.metadata["tolerance"]) == 1e-3


def test_scores_that_are_no_numbers_are_rejected(version: Path) -> None:
    nothing = ScriptedServable(np.full((1, 7), np.nan, np.float32))
    _golden(version, GOLDEN_FACES[:1], fake_scores(GOLDEN_FACES[:1], 7))
    assert _rejection(nothing, version, tolerance=0.999).reason == "SCORES_NOT_FINITE"


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_are_rejected_before_the_golden_set_is_looked_at(broken: float) -> None:
    with pytest.raises(ModelRejectedError) as caught:
        warm(ScriptedServable(np.full((1, 7), broken, np.float32)), (1,))
    assert caught.value.reason == "SCORES_NOT_FINITE"


def test_golden_scores_that_are_no_numbers_are_no_match(servable: FakeServable, version: Path) -> None:
    _golden(version, GOLDEN_FACES, np.full((len(GOLDEN_FACES), 7), np.nan, np.float32))
    assert _rejection(servable, version).reason == "GOLDEN_MISMATCH"


@pytest.mark.parametrize(
    ("labels", "active"),
    [
        pytest.param(LABELS[::-1], None, id="the known classes in another order"),
        pytest.param(LABELS[::-1], LABELS[::-1], id="even if the active version has it so"),
        pytest.param(("b", "a"), ("a", "b"), id="own classes in another order than the active version"),
    ],
)
def test_labels_in_another_order_are_rejected(labels: Sequence[str], active: Sequence[str] | None) -> None:
    with pytest.raises(ModelRejectedError) as caught:
        check_labels(labels, active)
    assert caught.value.reason == "LABELS_MISMATCH"
    assert caught.value.metadata["labels"] == ",".join(labels)


@pytest.mark.parametrize(
    ("labels", "active"),
    [
        pytest.param(LABELS, None, id="canonical, the first version"),
        pytest.param(LABELS, LABELS, id="canonical, as the active version"),
        pytest.param(("a", "b"), None, id="own classes"),
        pytest.param(LABELS, ("a", "b"), id="other classes than the active version"),
        pytest.param((*LABELS, "contempt"), LABELS, id="one class more"),
    ],
)
def test_labels_that_name_each_column_rightly_pass(labels: Sequence[str], active: Sequence[str] | None) -> None:
    check_labels(labels, active)


def test_a_version_without_golden_set_is_rejected(servable: FakeServable, version: Path) -> None:
    (version / GOLDEN_PATH).unlink()
    assert _rejection(servable, version).reason == "GOLDEN_MISSING"


def _npy(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


def _pickle(path: Path) -> None:
    np.savez(path, faces=np.array([object()]), probabilities=np.array([object()]))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"text"), id="text"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[:500]), id="cut"),
        pytest.param(_npy, id="one array"),
        pytest.param(_pickle, id="a pickle"),
        pytest.param(lambda path: np.savez(path, faces=GOLDEN_FACES), id="without probabilities"),
    ],
)
def test_a_golden_set_that_cannot_be_read_is_rejected(servable: FakeServable, version: Path, spoil) -> None:
    spoil(version / GOLDEN_PATH)
    assert _rejection(servable, version).reason == "GOLDEN_INVALID"


@pytest.mark.parametrize(
    ("faces", "probabilities"),
    [
        pytest.param(GOLDEN_FACES.astype(np.float32), fake_scores(GOLDEN_FACES, 7), id="float faces"),
        pytest.param(GOLDEN_FACES[:, :32], fake_scores(GOLDEN_FACES, 7), id="another size"),
        pytest.param(GOLDEN_FACES[..., 0], fake_scores(GOLDEN_FACES, 7), id="no channel"),
        pytest.param(GOLDEN_FACES[:0], np.zeros((0, 7), np.float32), id="no faces"),
        pytest.param(GOLDEN_FACES, fake_scores(GOLDEN_FACES, 7)[:2], id="fewer scores than faces"),
        pytest.param(GOLDEN_FACES, fake_scores(GOLDEN_FACES, 6), id="another number of classes"),
    ],
)
def test_a_golden_set_that_does_not_fit_the_model_is_rejected(
    servable: FakeServable, version: Path, faces: np.ndarray, probabilities: np.ndarray
) -> None:
    _golden(version, faces, probabilities)
    assert _rejection(servable, version).reason == "GOLDEN_INVALID"
