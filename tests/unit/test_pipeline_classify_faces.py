"""Tests scoring face crops, raw and encoded."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ferserve_server.domain.errors import (
    ImageFormatError,
    ImageUnreadableError,
    InferenceFailedError,
    ModelNotFoundError,
    QueueFullError,
)
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.classify_faces import ClassifyFaces
from support.model_factory import LABELS
from support.pipeline_fakes import SERVABLE, FakeModels, FakeScorer, FakeVision, class_of

if TYPE_CHECKING:
    from ferserve_server.domain.prediction import ScoredFaces

SPEC = ModelSpec("fer-nano", 3)


class Bench:
    def __init__(self) -> None:
        self.scorer = FakeScorer()
        self.models = FakeModels(self.scorer)
        self.vision = FakeVision()
        self.classify = ClassifyFaces(self.models.acquire, self.vision)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def _crops(*levels: int, side: int = 48) -> np.ndarray:
    crops = np.zeros((len(levels), side, side, 1), np.uint8)
    crops[:, 0, 0, 0] = levels
    return crops


def _classes(scores: np.ndarray) -> list[int]:
    return scores.argmax(axis=1).tolist()


async def test_raw_crops_are_scored_in_their_order(bench: Bench) -> None:
    answer = await bench.classify.packed(_crops(5, 0, 6, 1), SPEC, deadline=None)
    assert _classes(answer.faces.scores) == [5, 0, 6, 1]
    assert (answer.labels, answer.servable) == (LABELS, SERVABLE)
    assert bench.models.asked == [SPEC]


async def test_deadline_and_priority_reach_the_scorer(bench: Bench) -> None:
    await bench.classify.packed(_crops(1), SPEC, deadline=12.5, priority=Priority.BULK)
    await bench.classify.encoded([b"\1"], SPEC, deadline=13.5, priority=Priority.BULK)
    assert bench.scorer.deadlines == [12.5, 13.5]
    assert bench.scorer.priorities == [Priority.BULK, Priority.BULK]


async def test_raw_crops_of_another_size_are_resized(bench: Bench) -> None:
    crops = np.full((2, 60, 30, 1), 3, np.uint8)
    answer = await bench.classify.packed(crops, SPEC, deadline=None)
    assert _classes(answer.faces.scores) == [48 * 48 * 3 % 7] * 2


async def test_encoded_crops_are_scored_in_their_order(bench: Bench) -> None:
    answer = await bench.classify.encoded([b"\5", b"\0", b"\6"], SPEC, deadline=None)
    assert _classes(answer.faces.scores) == [5, 0, 6]
    assert answer.faces.failures == {}


async def test_a_broken_picture_fails_alone_and_its_neighbours_keep_their_places(bench: Bench) -> None:
    broken, strange = ImageUnreadableError("cut"), ImageFormatError("text")
    bench.vision.errors = {b"broken": broken, b"strange": strange}
    images = [b"broken", b"\4", b"strange", b"\2", b"\1"]
    answer = await bench.classify.encoded(images, SPEC, deadline=None)
    assert answer.faces.failures == {0: broken, 2: strange}
    assert answer.faces.scores.shape == (5, 7)
    classes = _classes(answer.faces.scores)
    assert [classes[row] for row in (1, 3, 4)] == [class_of(images[row]) for row in (1, 3, 4)]
    assert bench.scorer.taken == [3]


async def test_labels_are_those_of_the_version_that_scored_though_another_was_active_at_the_start(
    bench: Bench,
) -> None:
    lease = bench.models.version.lease()
    bench.classify = ClassifyFaces(lambda *_, **__: lease, bench.vision)
    lease.description = replace(lease.description, labels=("one", "two"))

    class Swapping(FakeScorer):
        async def score(self, *args: Any, **kwargs: Any) -> ScoredFaces:
            lease.description = replace(lease.description, labels=LABELS)
            return await super().score(*args, **kwargs)

    lease.scorer = Swapping()
    answer = await bench.classify.encoded([b"\5", b"\0"], SPEC, deadline=None)
    assert answer.labels == LABELS
    assert _classes(answer.faces.scores) == [5, 0]


async def test_when_all_pictures_are_broken_nothing_is_scored(bench: Bench) -> None:
    bench.vision.errors = {b"broken": ImageUnreadableError("cut")}
    answer = await bench.classify.encoded([b"broken", b"broken"], SPEC, deadline=None)
    assert set(answer.faces.failures) == {0, 1}
    assert answer.faces.scores.shape == (2, 7)
    assert answer.servable == SERVABLE
    assert bench.scorer.taken == []


async def test_a_row_that_the_model_fails_on_is_reported_by_its_place_in_the_request(bench: Bench) -> None:
    bench.vision.errors = {b"broken": ImageUnreadableError("cut")}
    failed = InferenceFailedError()
    bench.scorer.row_failures = {1: failed}
    answer = await bench.classify.encoded([b"\1", b"broken", b"\2"], SPEC, deadline=None)
    assert answer.faces.failures[2] is failed
    assert set(answer.faces.failures) == {1, 2}


async def test_an_unforeseen_error_on_a_picture_is_hidden_and_fails_it_alone(bench: Bench) -> None:
    bench.vision.errors = {b"broken": RuntimeError("/secret/path")}
    answer = await bench.classify.encoded([b"broken", b"\2"], SPEC, deadline=None)
    assert set(answer.faces.failures) == {0}
    assert "/secret/path" not in answer.faces.failures[0].message
    assert _classes(answer.faces.scores)[1] == 2


async def test_the_servers_state_fails_the_whole_call(bench: Bench) -> None:
    full = QueueFullError(what="faces", queued=9, limit=9, setting="max_queue_faces", retry_after_s=0.1)
    bench.scorer.reject_with = full
    for call in (
        bench.classify.packed(_crops(1), SPEC, deadline=None),
        bench.classify.encoded([b"\1"], SPEC, deadline=None),
    ):
        with pytest.raises(QueueFullError):
            await call
    assert not bench.models.is_leased


async def test_without_the_model_no_picture_is_read(bench: Bench) -> None:
    bench.models.reject_with = ModelNotFoundError("x")
    with pytest.raises(ModelNotFoundError):
        await bench.classify.encoded([b"\1"], SPEC, deadline=None)
    assert bench.vision.began == []


async def test_the_lease_is_returned_with_the_answer(bench: Bench) -> None:
    await bench.classify.packed(_crops(1), SPEC, deadline=None)
    await bench.classify.encoded([b"\1"], SPEC, deadline=None)
    assert not bench.models.is_leased
