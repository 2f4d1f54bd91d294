"""Tests that whole tensors reach the one batcher with their priority and deadline, and are counted once."""

from __future__ import annotations

import pytest

from ferserve_server.domain.errors import (
    ImageUnreadableError,
    InferenceFailedError,
    InvalidRequestError,
    ModelNotFoundError,
    QueueFullError,
)
from ferserve_server.domain.face import DetectionOptions
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.interop.classification import Question, WholeTensors
from ferserve_server.interop.statistics import Statistics
from ferserve_server.pipeline.analyze_images import AnalyzeImages
from ferserve_server.pipeline.classify_faces import ClassifyFaces
from support.compat import crops
from support.fake_clock import FakeClock
from support.pipeline_fakes import SERVABLE, FakeModels, FakeScorer, FakeVision, class_of

FULL = QueueFullError(what="faces", queued=8, limit=8, setting="max_queue_faces", retry_after_s=0.25)


class Bench:
    """The class under test, and all that it talks to."""

    def __init__(self):
        self.scorer = FakeScorer()
        self.models = FakeModels(self.scorer)
        self.vision = FakeVision()
        self.statistics = Statistics()
        classify = ClassifyFaces(self.models.acquire, self.vision)
        self.tensors = WholeTensors(
            self.models.acquire,
            classify,
            AnalyzeImages(self.models.acquire, self.vision),
            detection=DetectionOptions(),
            statistics=self.statistics,
            clock=FakeClock(),
        )

    async def answer(self, faces, write=lambda found: found, **asked):
        return await self.tensors.answer(ModelSpec(), lambda _: Question(faces, **asked), write)

    @property
    def counted(self):
        counts = self.statistics.of(SERVABLE)
        return counts.success.count, counts.fail.count


@pytest.fixture
def bench():
    return Bench()


async def test_priority_and_deadline_reach_the_batcher(bench):
    await bench.answer(crops(1, 2), priority=Priority.BULK, deadline=7.0)
    await bench.answer([b"a", b"b", b"c"])
    assert bench.scorer.taken == [2, 3]
    assert bench.scorer.priorities == [Priority.BULK, Priority.INTERACTIVE]
    assert bench.scorer.deadlines == [7.0, None]
    assert bench.counted == (2, 0)
    assert bench.statistics.of(SERVABLE).queue.ns == 2_000_000


async def test_the_faces_of_pictures_stand_below_each_other_with_their_counts_and_boxes(bench):
    bench.vision.without_face.add(b"empty")

    found = await bench.answer([b"one", b"empty", b"two"], detect=True)

    assert found.face_counts.tolist() == [1, 0, 1]
    assert found.boxes.tolist() == [[1, 2, 48, 48], [1, 2, 48, 48]]
    assert found.faces.scores.argmax(axis=1).tolist() == [class_of(b"one"), class_of(b"two")]
    assert bench.counted == (1, 0)


async def test_pictures_without_any_face_give_no_rows(bench):
    bench.vision.without_face.add(b"empty")

    found = await bench.answer([b"empty"], detect=True)

    assert found.face_counts.tolist() == [0]
    assert found.boxes.shape == (0, 4)
    assert found.faces.scores.shape[0] == 0


async def test_a_picture_that_cannot_be_read_fails_the_request(bench):
    bench.vision.errors[b"bad"] = ImageUnreadableError("it is cut off")

    with pytest.raises(ImageUnreadableError):
        await bench.answer([b"one", b"bad"], detect=True)

    assert bench.counted == (0, 1)


async def test_a_face_that_failed_fails_the_request_of_its_picture(bench):
    bench.scorer.row_failures[0] = InferenceFailedError()

    with pytest.raises(InferenceFailedError):
        await bench.answer([b"one"], detect=True)


async def test_a_row_that_failed_fails_the_request(bench):
    bench.scorer.row_failures[1] = InferenceFailedError()
    with pytest.raises(InferenceFailedError):
        await bench.answer(crops(1, 2))
    assert bench.counted == (0, 1)


async def test_a_rejection_is_counted_and_leaves_no_lease(bench):
    bench.scorer.reject_with = FULL
    with pytest.raises(QueueFullError):
        await bench.answer(crops(1))
    assert bench.counted == (0, 1)
    assert not bench.models.is_leased


async def test_a_request_that_cannot_be_read_never_reaches_the_batcher(bench):
    def reject(description):
        raise InvalidRequestError("INPUT_INVALID", "no", field="inputs")

    with pytest.raises(InvalidRequestError):
        await bench.tensors.answer(ModelSpec(), reject, lambda found: found)
    assert bench.scorer.taken == []
    assert bench.counted == (0, 1)


async def test_a_model_that_is_not_there_is_counted_nowhere(bench):
    bench.models.reject_with = ModelNotFoundError("other")
    with pytest.raises(ModelNotFoundError):
        await bench.answer(crops(1))
    assert bench.counted == (0, 0)
