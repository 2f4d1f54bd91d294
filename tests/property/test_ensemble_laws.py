"""What holds of an ensemble's scores whatever its members say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ferserve_server.backends.ensemble import EnsembleServable
from ferserve_server.backends.fake import FakeServable
from ferserve_server.domain.servable import ServableId
from support.fake_models import DESCRIPTION

ENSEMBLE = ServableId("fer-ensemble", 1)


class ScriptedServable(FakeServable):
    """Answers with what it is told."""

    def __init__(self, scores: np.ndarray) -> None:
        super().__init__(ServableId("fer-base", 1), DESCRIPTION)
        self.scores = scores

    def predict(self, crops: np.ndarray) -> np.ndarray:
        return self.scores[: len(crops)]


@st.composite
def members_scores(draw: st.DrawFn) -> list[np.ndarray]:
    """Probabilities of 1 to 6 members for 4 faces, from flat ones to sure ones."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sharpness = draw(st.sampled_from([0.1, 1.0, 30.0]))
    logits = rng.normal(0, sharpness, (draw(st.integers(1, 6)), 4, 7))
    odds = np.exp(logits - logits.max(axis=2, keepdims=True))
    return list((odds / odds.sum(axis=2, keepdims=True)).astype(np.float32))


def _ensemble(scores: list[np.ndarray], face_count: int = 4) -> np.ndarray:
    members = [ScriptedServable(each) for each in scores]
    crops = np.zeros((face_count, 48, 48, 1), np.uint8)
    return EnsembleServable(ENSEMBLE, DESCRIPTION, members).predict(crops)


@given(members_scores())
def test_the_scores_are_probabilities_that_no_member_exceeds(scores):
    mean = _ensemble(scores)
    assert mean.dtype == np.float32
    assert np.abs(mean.sum(axis=1) - 1).max() <= 1e-6
    assert (mean >= np.min(scores, axis=0)).all()
    assert (mean <= np.max(scores, axis=0)).all()


@given(members_scores(), st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_show(scores, random):
    shuffled = random.sample(scores, len(scores))
    # 1e-7 and not 0: sums of float64 in another order may round to the other float32 neighbour.
    assert np.abs(_ensemble(scores) - _ensemble(shuffled)).max() <= 1e-7


@given(members_scores())
def test_a_single_member_is_answered_for_as_it_is(scores):
    assert np.array_equal(_ensemble(scores[:1]), scores[0])


@given(members_scores(), st.integers(1, 4))
def test_a_face_scores_the_same_in_a_smaller_batch(scores, face_count):
    assert np.array_equal(_ensemble(scores, face_count), _ensemble(scores)[:face_count])
