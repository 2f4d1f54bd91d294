"""Tests the order of frames, feeds, names and damage, without a server."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ferserve_client import FrameAnswer
from ferserve_client.video.sources import (
    Damage,
    VideoFrame,
    VideoUnreadableError,
    display_name,
    kind_of,
    printable,
)
from ferserve_client.watch import reopening
from ferserve_client.watch.feeds import EveryFrameFeed, NewestFrameFeed
from ferserve_client.watch.in_flight import MAX_DROPPED_WITH_PIXELS, InFlightFrames
from ferserve_client.watch.reopening import ReopenedSource

if TYPE_CHECKING:
    from collections.abc import Iterator


def frame(index: int) -> VideoFrame:
    return VideoFrame(index, index / 10, (4, 2), time.monotonic(), lambda: np.zeros((2, 4, 3), np.uint8))


class ListedSource:
    """A source of so many frames, which then ends or breaks."""

    live = True
    duration_s = None
    frame_count = None

    def __init__(self, count: int, error: str | None = None) -> None:
        self.damage = Damage()
        self.closed = False
        self._count = count
        self._error = error

    def frames(self) -> Iterator[VideoFrame]:
        yield from (frame(index) for index in range(self._count))
        if self._error is not None:
            raise VideoUnreadableError(self._error)

    def close(self) -> None:
        self.closed = True


def test_frames_are_handed_on_in_order_whatever_the_order_of_their_ends() -> None:
    in_flight = InFlightFrames()
    in_flight.add(frame(0))
    in_flight.add_dropped(frame(1), 2)
    in_flight.add(frame(2))

    in_flight.answered(FrameAnswer(2))
    assert in_flight.pop_complete() == []
    in_flight.answered(FrameAnswer(0))

    assert [entry.frame.index for entry in in_flight.pop_complete()] == [0, 1, 2]
    assert len(in_flight) == 0


def test_an_answer_to_no_frame_is_passed_over() -> None:
    in_flight = InFlightFrames()
    in_flight.add(frame(0))
    in_flight.answered(FrameAnswer(7))

    assert [entry.frame.index for entry in in_flight.unanswered()] == [0]


def test_frames_that_a_lost_server_leaves_are_sent_again_or_dropped() -> None:
    in_flight = InFlightFrames()
    for index in range(3):
        in_flight.add(frame(index))
    in_flight.answered(FrameAnswer(0))

    assert [entry.frame.index for entry in in_flight.unanswered()] == [1, 2]
    in_flight.drop_unanswered()
    answers = [entry.answer for entry in in_flight.pop_complete()]
    assert [answer is not None and answer.dropped for answer in answers] == [False, True, True]


def test_waiting_dropped_frames_do_not_fill_the_memory() -> None:
    in_flight = InFlightFrames()
    in_flight.add(frame(0))
    dropped = [frame(index) for index in range(1, MAX_DROPPED_WITH_PIXELS + 11)]
    for each in dropped:
        in_flight.add_dropped(each, each.index + 1)

    assert [each.pixels() is None for each in dropped] == [True] * 10 + [False] * MAX_DROPPED_WITH_PIXELS


def test_a_frame_that_a_closed_connection_took_goes_to_the_next_one() -> None:
    in_flight = InFlightFrames()
    feed = EveryFrameFeed(ListedSource(2), threading.RLock())

    assert feed.take(lambda _: None) is None
    taken = [feed.take(in_flight.add) for _ in range(2)]

    assert [entry.frame.index for entry in taken if entry is not None] == [0, 1]
    assert feed.take(in_flight.add) is None


def test_a_closed_feed_gives_nothing() -> None:
    feed = EveryFrameFeed(ListedSource(2), threading.RLock())
    feed.close()

    assert feed.take(InFlightFrames().add) is None


def test_the_newest_frame_wins_and_the_others_are_dropped_unconverted() -> None:
    in_flight = InFlightFrames()
    source = ListedSource(5)
    lock = threading.RLock()
    with lock:
        feed = NewestFrameFeed(source, in_flight.add_dropped, lock=lock, in_real_time=False)
    feed._reader.join(5.0)

    taken = feed.take(in_flight.add)

    assert taken is not None
    assert taken.frame.index == 4
    assert [entry.frame.index for entry in in_flight.pop_complete()] == [0, 1, 2, 3]
    assert feed.take(in_flight.add) is None
    assert source.closed


def test_a_waiting_connection_is_woken_when_it_is_over() -> None:
    release = threading.Event()

    class Silent(ListedSource):
        def frames(self) -> Iterator[VideoFrame]:
            release.wait(5.0)
            yield frame(0)

    lock = threading.RLock()
    feed = NewestFrameFeed(Silent(0), lambda *_: None, lock=lock, in_real_time=False)
    taken: list[object] = []
    waiting = threading.Thread(target=lambda: taken.append(feed.take(lambda _: None)))
    waiting.start()
    while waiting.is_alive():
        feed.wake()
        waiting.join(0.01)
    release.set()

    assert taken == [None]
    entry = feed.take(InFlightFrames().add)
    assert entry is not None
    assert entry.frame.index == 0


def test_a_source_that_breaks_is_opened_again_with_rising_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reopening, "FIRST_WAIT_S", 0.001)
    sources = [ListedSource(0, "gone"), ListedSource(3, "cut")]
    breaks: list[str] = []

    def reopen() -> ListedSource:
        if not sources:
            raise VideoUnreadableError("no camera")
        return sources.pop(0)

    frames = ReopenedSource(ListedSource(2), reopen, 0.05, breaks.append).frames()
    numbers = [next(frames).index for _ in range(5)]
    with pytest.raises(VideoUnreadableError, match=r"no camera; given up after 0\.05 s"):
        next(frames)

    assert numbers == [0, 1, 2, 3, 4]
    assert breaks == ["the stream ended", "cut"]


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("rtsp://me:sesame@host/x", "rtsp://me:***@host/x"),
        ("rtsp://me@host/x", "rtsp://me@host/x"),
        ("http://host/x?user=a&Password=b&n=1", "http://host/x?user=a&Password=***&n=1"),
        ("http://host:80/x", "http://host:80/x"),
        ("v\udcff.mp4", "v\\xff.mp4"),
        ("two\nlines.mp4", "two\\nlines.mp4"),
    ],
)
def test_names_are_printable_and_without_secrets(typed: str, shown: str) -> None:
    assert display_name(typed) == shown
    assert printable("ä") == "ä"


def test_a_file_wins_over_a_url_of_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert kind_of("http:x.mp4") == "file"
    assert kind_of("²") == "file"
    assert kind_of("http://x.mp4") == "url"


def test_damage_is_reported_in_one_sentence() -> None:
    assert not Damage()
    assert str(Damage(lost_packets=1, first_time_s=2.5)) == (
        "the video is damaged: 1 frame could not be read from 2.50 s on"
    )
    assert str(Damage(lost_packets=2, damaged_frames=3, missing_end_s=1.25)) == (
        "the video is damaged: 2 frames could not be read, 3 frames read with errors, the last 1.2 s are missing"
    )
