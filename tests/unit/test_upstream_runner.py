"""Tests the outcomes of batches that other servers run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_server.backends.fake import fake_scores
from ferserve_server.domain.errors import DeadlineExpiredError, FerserveError, InferenceFailedError, QueueFullError
from ferserve_server.domain.ports import Priority
from ferserve_server.domain.servable import ModelSpec, ServableId
from ferserve_server.domain.upstream_errors import UpstreamUnavailableError, VersionChangedError
from support.batching import faces
from support.fake_clock import settle
from support.fake_tier import NET, FakeTier
from support.model_factory import LABELS
from support.tier_bench import tier_bench

if TYPE_CHECKING:
    from ferserve_server.domain.upstream import TierAnswer

FULL = QueueFullError(what="faces", queued=8, limit=8, setting="max_queue_faces", retry_after_s=0.25)


async def test_faces_of_different_callers_travel_together_and_come_back_to_each() -> None:
    async with tier_bench(batches=1) as made:
        made.tier.held.clear()
        first = asyncio.ensure_future(made.score(faces(1)))
        await settle()  # it is under way; the others wait for more rows
        others = [asyncio.ensure_future(made.score(faces(2, first=10 * row))) for row in range(2)]
        await settle()
        made.tier.held.set()
        await asyncio.gather(first, *others)
        assert [count for count, *_ in made.tier.calls] == [1, 4]
        for row, task in enumerate(others):
            np.testing.assert_array_equal(task.result()[0].scores, fake_scores(faces(2, first=10 * row), 7))


async def test_as_many_batches_are_under_way_as_the_setting_says() -> None:
    async with tier_bench(batches=2) as made:
        made.tier.held.clear()
        asked = [asyncio.ensure_future(made.score(faces(4))) for _ in range(5)]
        await settle()
        assert len(made.tier.calls) == 2
        made.tier.held.set()
        await asyncio.gather(*asked)
        assert len(made.tier.calls) == 5


async def test_the_most_patient_caller_of_a_batch_sets_its_time() -> None:
    async with tier_bench(hold_until_queued=2) as made:
        await asyncio.gather(made.score(faces(1), seconds=2.0), made.score(faces(1), seconds=5.0))
        assert [timeout_s for *_, timeout_s in made.tier.calls] == [5.0]


async def test_a_caller_without_a_deadline_waits_as_long_as_a_batch_may_take() -> None:
    async with tier_bench(hold_until_queued=2, timeout_s=7.0) as made:
        await asyncio.gather(made.score(faces(1), seconds=2.0), made.score(faces(1)))
        await made.score(faces(1), seconds=60.0)
        assert [timeout_s for *_, timeout_s in made.tier.calls] == [7.0, 7.0]


async def test_what_the_tier_rejects_reaches_the_callers_as_it_was_said_and_is_not_tried_in_halves() -> None:
    async with tier_bench(hold_until_queued=2) as made:
        made.tier.rejections = [FULL]
        answers = await asyncio.gather(made.score(faces(1)), made.score(faces(1)), return_exceptions=True)
        assert answers == [FULL, FULL]
        assert len(made.tier.calls) == 1
        assert made.observer.rejections == ["QUEUE_FULL"]
        assert (await made.score(faces(1)))[1] == 1


async def test_a_tier_that_does_not_answer_in_time_is_distinguished_from_a_deadline_that_passed() -> None:
    async with tier_bench(timeout_s=7.0) as made:
        made.tier.rejections = [DeadlineExpiredError(), DeadlineExpiredError()]
        with pytest.raises(UpstreamUnavailableError, match="no answer within 7 s"):
            await made.score(faces(1))
        with pytest.raises(DeadlineExpiredError):
            await made.score(faces(1), seconds=3.0)


async def test_whatever_else_goes_wrong_is_not_shown_to_callers() -> None:
    async with tier_bench() as made:
        made.tier.rejections = [ArithmeticError("secret")]
        with pytest.raises(FerserveError, match="Its log tells more") as caught:
            await made.score(faces(1))
        assert "secret" not in caught.value.message


async def test_an_answer_with_too_few_faces_is_not_handed_out() -> None:
    async with tier_bench() as made:
        made.tier.cut_rows = 1
        with pytest.raises(FerserveError, match="Its log tells more"):
            await made.score(faces(2))


async def test_a_face_that_failed_there_fails_alone_here() -> None:
    class OneFails(FakeTier):
        async def classify(self, *asked) -> TierAnswer:
            answer = await super().classify(*asked)
            answer.scores[1] = np.nan
            return answer

    async with tier_bench() as made:
        made.tier.__class__ = OneFails
        found, _ = await made.score(faces(3))
        assert {row: type(error) for row, error in found.failures.items()} == {1: InferenceFailedError}
        np.testing.assert_array_equal(found.scores[[0, 2]], fake_scores(faces(3), 7)[[0, 2]])


async def test_nobody_is_sent_for_who_has_left() -> None:
    async with tier_bench(batches=1) as made:
        made.tier.held.clear()
        running = asyncio.ensure_future(made.score(faces(4)))
        await settle()
        waiting = asyncio.ensure_future(made.score(faces(4)))  # cut ahead, as it fills a batch
        await settle()
        waiting.cancel()
        await settle()
        made.tier.held.set()
        await running
        await settle()
        assert len(made.tier.calls) == 1


async def test_a_request_of_several_batches_is_scored_again_when_two_versions_answered_it() -> None:
    async with tier_bench(2, 1) as made:
        found, version = await made.score(faces(8))
        assert version == 2
        np.testing.assert_array_equal(found.scores, fake_scores(faces(8), 7))
        pinned = [spec for _, spec, *_ in made.tier.calls]
        assert pinned == [ModelSpec(NET)] * 2 + [ModelSpec(NET, 2)] * 2
        assert found.servable == ServableId(NET, 2)


async def test_versions_with_other_classes_are_not_mixed_either() -> None:
    async with tier_bench(2, 1) as made:
        made.tier.labels[2] = (*LABELS, "contempt")
        found, version = await made.score(faces(8))
        assert (found.scores.shape, version) == ((8, 8), 2)


async def test_a_version_that_is_gone_before_a_request_is_whole_is_an_error_that_says_so() -> None:
    async with tier_bench(2, 1) as made:
        first = asyncio.ensure_future(made.score(faces(8)))
        while len(made.tier.calls) < 2:
            await settle(1)
        made.tier.not_found = {2}
        with pytest.raises(VersionChangedError, match="Try again"):
            await first


async def test_priorities_and_wishes_are_passed_on_and_kept_apart() -> None:
    async with tier_bench(reported=None) as made:
        await asyncio.gather(
            made.score(faces(1)),
            made.score(faces(1), priority=Priority.BULK),
            made.score(faces(1), ModelSpec(NET)),
            made.score(faces(1), ModelSpec(version=1)),
        )
        asked = {(spec, priority) for _, spec, priority, _ in made.tier.calls}
        assert asked == {
            (ModelSpec(NET), Priority.INTERACTIVE),
            (ModelSpec(NET), Priority.BULK),
            (ModelSpec(NET, 1), Priority.INTERACTIVE),
        }
        assert len(made.made) == 3
