"""Tests both clients against a scripted server on a real socket: streams."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_client import AsyncEmotionClient, EmotionClient, Frame, ImageUnreadableError, ServerDrainingError
from support.scripted_server import BROKEN, ScriptedServer, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

    from ferserve_client import FrameAnswer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serve() as scripted:
        yield scripted


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[EmotionClient]:
    with EmotionClient(server.address) as opened:
        yield opened


class Camera:
    """Frames without end, which counts how many were taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.moved = threading.Condition()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self.moved:
                self.taken += 1
                self.moved.notify_all()
            yield b"\x03"

    def wait_for(self, count: int) -> bool:
        with self.moved:
            return self.moved.wait_for(lambda: self.taken >= count, timeout=10.0)


def collect(answers: Iterable[FrameAnswer], ids: list[int]) -> None:
    for answer in answers:
        ids.append(answer.sequence_id)  # noqa: PERF401 - what was answered before an error counts


async def collect_async(answers: AsyncIterable[FrameAnswer], ids: list[int]) -> None:
    async for answer in answers:
        ids.append(answer.sequence_id)  # noqa: PERF401 - as above


def test_every_frame_is_answered_in_order(client: EmotionClient, server: ScriptedServer) -> None:
    server.drop = {2}

    answers = list(
        client.stream_frames([b"\x00", BROKEN, b"\x02", b"\x03"], policy="every_frame", model="fer-nano")
    )

    assert [answer.sequence_id for answer in answers] == [0, 1, 2, 3]
    assert isinstance(answers[1].error, ImageUnreadableError)
    assert (answers[2].dropped, answers[2].newer_sequence_id) == (True, 3)
    assert answers[3].analysis is not None
    assert answers[3].analysis.faces[0].prediction is not None
    assert answers[3].analysis.faces[0].prediction.emotion == "happy"
    config = server.requests["StreamFrames"][0].config
    assert (config.model.name, config.overload_policy) == ("fer-nano", 2)


def test_many_more_frames_than_credit_all_get_through(client: EmotionClient) -> None:
    frames = (b"\x01" for _ in range(500))

    assert len(list(client.stream_frames(frames, max_unanswered_frames=3))) == 500


def test_no_more_frames_are_taken_than_may_be_unanswered(client: EmotionClient, server: ScriptedServer) -> None:
    server.unblocked.clear()
    camera = Camera()
    answers = client.stream_frames(camera, max_unanswered_frames=4)
    first: list[int] = []
    reader = threading.Thread(target=lambda: first.append(next(answers).sequence_id))
    reader.start()

    assert camera.wait_for(4)
    assert camera.taken == 4
    server.unblocked.set()
    reader.join(10.0)
    answers.close()

    assert first == [0]


def test_a_reader_that_stops_early_ends_the_call_and_the_sender(
    client: EmotionClient, server: ScriptedServer
) -> None:
    camera = Camera()

    for answer in client.stream_frames(camera, max_unanswered_frames=2):
        if answer.sequence_id == 5:
            break

    assert server.stream_ended.wait(10.0)
    assert camera.taken <= 8  # six answered, two unanswered


def test_closing_the_client_frees_a_sender_that_waits_for_credit(server: ScriptedServer) -> None:
    server.unblocked.clear()
    camera = Camera()
    client = EmotionClient(server.address)
    answers = client.stream_frames(camera, max_unanswered_frames=2)
    ended: list[BaseException] = []

    def read() -> None:
        try:
            next(answers)
        except Exception as error:  # noqa: BLE001 - looked at below
            ended.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert camera.wait_for(2)
    client.close()
    reader.join(10.0)

    assert not reader.is_alive()
    assert [type(error).__name__ for error in ended] == ["CallCancelledError"]


def test_what_the_source_raises_comes_after_the_answers_before_it(client: EmotionClient) -> None:
    def frames() -> Iterator[bytes]:
        yield b"\x01"
        yield b"\x02"
        raise ZeroDivisionError("the camera fell")

    answers = client.stream_frames(frames())
    assert [next(answers).sequence_id, next(answers).sequence_id] == [0, 1]
    with pytest.raises(ZeroDivisionError, match="the camera fell"):
        next(answers)


def test_a_draining_server_tells_where_to_resume(client: EmotionClient, server: ScriptedServer) -> None:
    frames = [bytes([number]) for number in range(20)]
    server.end_stream_after = 12
    answered: list[int] = []

    with pytest.raises(ServerDrainingError) as raised:
        collect(client.stream_frames(frames), answered)

    resume_at = answered[-1] + 1
    assert raised.value.last_sequence_id == answered[-1]
    server.end_stream_after = None
    rest = [Frame(number, frames[number]) for number in range(resume_at, 20)]
    answered += [answer.sequence_id for answer in client.stream_frames(rest)]
    assert answered == list(range(20))


def test_a_stream_that_was_never_begun_costs_nothing(client: EmotionClient, server: ScriptedServer) -> None:
    client.stream_frames(Camera()).close()

    assert not server.requests["StreamFrames"]


def test_batches_are_answered_in_order(client: EmotionClient) -> None:
    batches = [np.full((count, 4, 4), count, np.uint8) for count in (1, 2, 0, 3)]

    answers = list(client.classify_stream(batches, max_unanswered_batches=2))

    assert [answer.sequence_id for answer in answers] == [0, 1, 2, 3]
    assert [len(answer.predictions) for answer in answers] == [1, 2, 0, 3]
    assert isinstance(answers[2].error, ImageUnreadableError)
    assert answers[3].predictions[0].emotion == "happy"


async def test_the_asyncio_twin_streams_alike(server: ScriptedServer) -> None:
    server.drop = {2}

    async def frames() -> AsyncIterator[bytes]:
        for image in (b"\x00", BROKEN, b"\x02", b"\x03"):
            await asyncio.sleep(0)
            yield image

    async with AsyncEmotionClient(server.address) as client:
        answers = [answer async for answer in client.stream_frames(frames(), max_unanswered_frames=2)]
        many = [answer async for answer in client.stream_frames([b"\x01"] * 300, max_unanswered_frames=3)]
        batches = [np.zeros((2, 4, 4), np.uint8)] * 3
        classified = [answer async for answer in client.classify_stream(batches)]

    assert [answer.sequence_id for answer in answers] == [0, 1, 2, 3]
    assert isinstance(answers[1].error, ImageUnreadableError)
    assert answers[2].dropped
    assert [answer.sequence_id for answer in many] == list(range(300))
    assert [len(answer.predictions) for answer in classified] == [2, 2, 2]


async def test_the_asyncio_twin_resumes_alike(server: ScriptedServer) -> None:
    """Many times over: a write that meets the end of the call must not hide why it ended."""
    server.end_stream_after = 12
    async with AsyncEmotionClient(server.address) as client:
        for _ in range(20):
            answered: list[int] = []
            with pytest.raises(ServerDrainingError) as raised:
                await collect_async(client.stream_frames([b"\x01"] * 40), answered)
            assert raised.value.last_sequence_id == answered[-1]


async def test_an_asyncio_reader_that_stops_early_ends_the_call(server: ScriptedServer) -> None:
    camera = Camera()
    async with AsyncEmotionClient(server.address) as client:
        async with contextlib.aclosing(client.stream_frames(camera, max_unanswered_frames=2)) as answers:
            assert (await anext(answers)).sequence_id == 0

        assert await asyncio.to_thread(server.stream_ended.wait, 10.0)
    assert camera.taken <= 4


async def test_what_an_asyncio_source_raises_comes_after_the_answers_before_it(server: ScriptedServer) -> None:
    async def frames() -> AsyncIterator[bytes]:
        yield b"\x01"
        raise ZeroDivisionError("the camera fell")

    async with AsyncEmotionClient(server.address) as client:
        answers = client.stream_frames(frames())
        assert (await anext(answers)).sequence_id == 0
        with pytest.raises(ZeroDivisionError):
            await anext(answers)
