"""Tests analysing pictures side by side: each fails alone, the server's state affects all."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ferserve_server.domain.errors import (
    DrainingError,
    FerserveError,
    ImageFormatError,
    ImageUnreadableError,
    LimitExceededError,
    ModelNotReadyError,
    QueueFullError,
)
from ferserve_server.domain.face import DetectionOptions, NotAFacePolicy
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.prediction import ImageAnalysis
from ferserve_server.domain.servable import ModelSpec
from ferserve_server.pipeline.analyze_images import AnalyzeImages
from support.fake_clock import settle
from support.fake_models import DESCRIPTION
from support.model_factory import LABELS
from support.pipeline_fakes import SERVABLE, FakeModels, FakeScorer, FakeVision, class_of

OPTIONS = DetectionOptions()
BLANK = b"\7"
"""A picture whose face is a crop of one grey level."""
SPEC = ModelSpec()
TOO_LARGE = LimitExceededError(
    "IMAGE_TOO_LARGE", what="pixels", value=9, limit=1, setting="max_image_pixels", field="images"
)
FULL = QueueFullError(what="images", queued=9, limit=9, setting="max_queue_images", retry_after_s=0.1)


class Bench:
    def __init__(self) -> None:
        self.scorer = FakeScorer()
        self.models = FakeModels(self.scorer)
        self.vision = FakeVision()
        self.analyze = AnalyzeImages(self.models.acquire, self.vision)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def _class(result: ImageAnalysis | FerserveError) -> int:
    assert isinstance(result, ImageAnalysis)
    return int(result.faces.scores.argmax())


async def test_pictures_are_answered_in_their_order_whatever_order_they_are_read_in(bench: Bench) -> None:
    bench.vision.hold(b"\1", b"\2")
    work = asyncio.create_task(bench.analyze([b"\1", b"\2", b"\3"], SPEC, OPTIONS))
    await settle()
    bench.vision.unblocked[b"\2"].set()
    await settle()
    assert not work.done()
    bench.vision.unblocked[b"\1"].set()
    answer = await work
    assert [_class(result) for result in answer.results] == [1, 2, 3]
    assert (answer.labels, answer.servable) == (LABELS, SERVABLE)


async def test_faces_go_to_the_scorer_as_soon_as_their_own_picture_is_read(bench: Bench) -> None:
    bench.vision.hold(b"\1")
    work = asyncio.create_task(bench.analyze([b"\1", b"\2"], SPEC, OPTIONS))
    await settle()
    assert bench.scorer.taken == [1]
    bench.vision.unblocked[b"\1"].set()
    await work


async def test_what_was_measured_and_found_is_reported(bench: Bench) -> None:
    (result,) = (await bench.analyze([b"\1"], SPEC, OPTIONS)).results
    assert isinstance(result, ImageAnalysis)
    assert (result.width, result.height, len(result.boxes)) == (640, 480, 1)
    assert (result.decode_s, result.detect_s) == (0.001, 0.002)
    assert (result.faces.queue_s, result.faces.inference_s) == (0.001, 0.002)


async def test_a_picture_without_faces_is_an_empty_analysis_and_asks_nothing_of_the_scorer(bench: Bench) -> None:
    bench.vision.without_face = {b"\1"}
    (result,) = (await bench.analyze([b"\1"], SPEC, OPTIONS)).results
    assert isinstance(result, ImageAnalysis)
    assert result.boxes == ()
    assert result.faces.scores.shape == (0, 7)
    assert bench.scorer.taken == []


@pytest.mark.parametrize("error", [ImageUnreadableError("cut"), ImageFormatError("text"), TOO_LARGE])
async def test_a_broken_picture_fails_alone(bench: Bench, error: FerserveError) -> None:
    bench.vision.errors = {b"broken": error}
    answer = await bench.analyze([b"\1", b"broken", b"\2"], SPEC, OPTIONS)
    assert answer.results[1] is error
    assert [_class(answer.results[place]) for place in (0, 2)] == [1, 2]


async def test_a_single_broken_picture_is_a_result_too(bench: Bench) -> None:
    bench.vision.errors = {b"broken": TOO_LARGE}
    assert (await bench.analyze([b"broken"], SPEC, OPTIONS)).results == (TOO_LARGE,)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("error", [FULL, DrainingError()])
async def test_the_servers_state_fails_the_whole_call_as_itself(
    bench: Bench, error: FerserveError, count: int
) -> None:
    bench.vision.errors = {b"\1": error}
    with pytest.raises(type(error)) as caught:
        await bench.analyze([b"\1"] * count, SPEC, OPTIONS)
    assert caught.value is error


async def test_a_full_face_queue_fails_the_whole_call_as_itself(bench: Bench) -> None:
    bench.scorer.reject_with = FULL
    with pytest.raises(QueueFullError):
        await bench.analyze([b"\1", b"\2"], SPEC, OPTIONS)


async def test_an_error_of_the_server_cancels_the_other_pictures(bench: Bench) -> None:
    bench.vision.hold(b"\1", b"\3")
    bench.vision.errors = {b"\2": FULL}
    with pytest.raises(QueueFullError):
        await bench.analyze([b"\1", b"\2", b"\3"], SPEC, OPTIONS)
    assert sorted(bench.vision.cancelled) == [b"\1", b"\3"]
    assert not bench.models.is_leased


@pytest.mark.parametrize("images", [[b"\1"], [b"\1", b"\2"]])
async def test_a_caller_who_leaves_cancels_the_pictures_and_returns_the_lease(
    bench: Bench, images: list[bytes]
) -> None:
    bench.vision.hold(*images)
    work = asyncio.create_task(bench.analyze(images, SPEC, OPTIONS))
    await settle()
    assert bench.models.is_leased
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert sorted(bench.vision.cancelled) == images
    assert not bench.models.is_leased


async def test_without_the_model_no_picture_is_read(bench: Bench) -> None:
    bench.models.reject_with = ModelNotReadyError("x")
    with pytest.raises(ModelNotReadyError):
        await bench.analyze([b"\1", b"\2"], SPEC, OPTIONS)
    assert bench.vision.began == []


async def test_deadline_and_priority_reach_the_scorer(bench: Bench) -> None:
    await bench.analyze([b"\1", b"\2"], SPEC, OPTIONS, deadline=12.5, priority=Priority.BULK)
    assert bench.scorer.deadlines == [12.5, 12.5]
    assert bench.scorer.priorities == [Priority.BULK, Priority.BULK]


async def test_pictures_show_the_class_of_their_own_face(bench: Bench) -> None:
    images = [bytes([value, value + 1]) for value in range(20)]
    answer = await bench.analyze(images, SPEC, OPTIONS)
    assert [_class(result) for result in answer.results] == [class_of(image) for image in images]


async def test_an_unforeseen_error_on_a_picture_fails_it_alone_and_is_hidden(bench: Bench) -> None:
    bench.vision.errors = {b"\1": RuntimeError("/secret/path")}
    first, second = (await bench.analyze([b"\1", b"\2"], SPEC, OPTIONS)).results
    assert isinstance(first, FerserveError)
    assert first.reason == "INTERNAL"
    assert "/secret/path" not in first.message
    assert _class(second) == class_of(b"\2")


@pytest.fixture
def judging() -> Bench:
    """A bench whose version takes crops of one grey level, as that of BLANK, for no face."""
    bench = Bench()
    bench.scorer.description = replace(DESCRIPTION, not_a_face_output="not_a_face", not_a_face_threshold=0.5)
    bench.models = FakeModels(bench.scorer)
    bench.analyze = AnalyzeImages(bench.models.acquire, bench.vision)
    return bench


@pytest.mark.parametrize(
    ("policy", "marks"),
    [(NotAFacePolicy.DROP, []), (NotAFacePolicy.MARK, [True]), (NotAFacePolicy.IGNORE, [False])],
)
async def test_a_box_that_holds_no_face_is_treated_as_the_policy_says(
    judging: Bench, policy: NotAFacePolicy, marks: list[bool]
) -> None:
    (result,) = (await judging.analyze([BLANK], SPEC, DetectionOptions(not_a_face_policy=policy))).results
    assert isinstance(result, ImageAnalysis)
    assert result.faces.not_a_face.tolist() == marks
    assert len(result.locations) == len(result.faces.scores) == len(marks)
    assert result.faces.scores.shape[1] == len(LABELS)


async def test_a_picture_that_was_sent_as_one_face_is_marked_not_dropped(judging: Bench) -> None:
    (result,) = (await judging.analyze([BLANK], SPEC, DetectionOptions(whole_image=True))).results
    assert isinstance(result, ImageAnalysis)
    assert result.faces.not_a_face.tolist() == [True]
